//! The room that is left on the disk of a recording.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aircheck_engine::Timestamp;
use tokio::task::JoinHandle;

use crate::sink::recorder::free_bytes;

/// Time between two questions to the file system.
const INTERVAL: Duration = Duration::from_secs(10);
/// Free space below which the disk is nearly full: three hours of 48 kHz stereo, or an hour and a half to make room before
/// the last gigabyte.
pub(super) const MIN_FREE_BYTES: u64 = 2_000_000_000;

/// Asks a file system how much is free, without ever waiting for it: one on a network can hang.
#[derive(Debug)]
pub(super) struct DiskWatch {
    path: PathBuf,
    asked_at: Option<Timestamp>,
    answer: Option<JoinHandle<Option<u64>>>,
}

impl DiskWatch {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), asked_at: None, answer: None }
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
        let (mut watch, now) = (DiskWatch::new(folder.path()), Timestamp::now());
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
}
