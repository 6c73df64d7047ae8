//! The room that is left on the disk of a recording.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aircheck_engine::Timestamp;
use tokio::task::JoinHandle;

use crate::sink::recorder::{Recording, free_bytes};

/// Time between two questions to the file system.
const INTERVAL: Duration = Duration::from_secs(10);
/// Time that is left to make room before the recording stops, when the disk is told to be nearly full.
const TIME_LEFT: Duration = Duration::from_secs(3600);

/// Asks a file system how much is free, without ever waiting for it: one on a network can hang.
#[derive(Debug)]
pub(super) struct DiskWatch {
    path: PathBuf,
    /// Free bytes at which the recording stops.
    reserve_bytes: u64,
    /// Free bytes below which the disk is nearly full.
    min_free_bytes: u64,
    is_low: bool,
    asked_at: Option<Timestamp>,
    answer: Option<JoinHandle<Option<u64>>>,
}

impl DiskWatch {
    /// Watches the disk of a recording.
    pub(super) fn of(recording: &Recording) -> Self {
        Self::new(recording.path(), recording.reserve_bytes(), recording.bytes_of(TIME_LEFT))
    }

    fn new(path: &Path, reserve_bytes: u64, time_left_bytes: u64) -> Self {
        let (path, min_free_bytes) = (path.to_path_buf(), reserve_bytes.saturating_add(time_left_bytes));
        Self { path, reserve_bytes, min_free_bytes, is_low: false, asked_at: None, answer: None }
    }

    /// Returns the free bytes at which the recording stops; 0 if it does not.
    pub(super) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Returns whether so little is free that the recording stops soon. A tenth more must be free before there is room again,
    /// so that a disk at the edge is not told again and again.
    pub(super) fn is_low(&mut self, free_bytes: u64) -> bool {
        let enough = self.min_free_bytes.saturating_add(self.min_free_bytes / 10);
        self.is_low = free_bytes < if self.is_low { enough } else { self.min_free_bytes };
        self.is_low
    }

    /// Returns the free bytes if there is a new answer, and asks again when it is time.
    pub(super) async fn look(&mut self, now: Timestamp) -> Option<u64> {
        if let Some(answer) = self.answer.take_if(|answer| answer.is_finished()) {
            return answer.await.ok().flatten();
        }
        if self.answer.is_none() && self.asked_at.is_none_or(|at| now.since(at) >= INTERVAL) {
            self.asked_at = Some(now);
            let path = self.path.clone();
            self.answer = Some(tokio::task::spawn_blocking(move || free_bytes(&path)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_answer_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        let (mut watch, now) = (DiskWatch::new(folder.path(), 0, 0), Timestamp::now());
        assert_eq!(watch.look(now).await, None);
        let free = loop {
            if let Some(free) = watch.look(now).await {
                break free;
            }
            tokio::task::yield_now().await;
        };
        assert!(free > 0);
        assert!(
            watch.answer.is_none() && watch.look(now).await.is_none() && watch.answer.is_none(),
            "it asks too often"
        );
        watch.look(now + INTERVAL).await;
        assert!(watch.answer.is_some());
        assert_eq!(free_bytes(&folder.path().join("missing")), None);
    }

    #[test]
    fn the_disk_is_nearly_full_an_hour_before_the_reserve() {
        let mut watch = DiskWatch::new(Path::new("takes"), 50_000, 1_400);
        let low = [60_000, 51_400, 51_399, 51_500, 56_539, 56_540, 51_400].map(|free| watch.is_low(free));
        assert_eq!(low, [false, false, true, true, true, false, false]);
    }
}
