//! The deletion of old segments.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::Timestamp;

use super::index::{Entry, Index};
use crate::config::RecordKeep;

/// Time between two looks at what is to be deleted.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Nothing is deleted for its age for so long after the wall clock was set: it may have been set wrong, and may be set back.
const SETTLE_TIME: Duration = Duration::from_secs(3600);
/// Difference that counts as a step of the wall clock, as [`MIN_STEP_NANOS`](super::segment_writer) does.
const MIN_STEP_NANOS: u64 = 1_000_000_000;

/// Deletes segments beyond the bounds of a recording, the oldest first; never the one that is being written, which does not count
/// either.
#[derive(Debug)]
pub(crate) struct Retention {
    index: Arc<Index>,
    keep: Vec<RecordKeep>,
    looked_at: Option<Timestamp>,
    /// Whether the recording had stopped at the last look.
    was_stopped: bool,
    /// The step of the wall clock at the last look, and since when it has been that; `None` if since the start.
    step: i64,
    stepped_at: Option<Timestamp>,
}

impl Retention {
    /// Makes the retention of the recording in `index`. Without bounds in `keep`, nothing is deleted.
    pub(crate) fn new(index: Arc<Index>, keep: Vec<RecordKeep>) -> Self {
        Self { index, keep, looked_at: None, was_stopped: false, step: 0, stepped_at: None }
    }

    /// Deletes what is beyond the bounds, once a minute, or at once if a file has been added or ended. While the recording
    /// `is_stopped`, because the disk is nearly full, no file is being written, so the last one counts: it may be what is in the way.
    pub(crate) fn look(&mut self, has_new_file: bool, is_stopped: bool, now: Timestamp) {
        let is_due = self.looked_at.is_none_or(|looked_at| now.since(looked_at) >= LOOK_INTERVAL);
        if self.keep.is_empty() || !(is_due || has_new_file || is_stopped != self.was_stopped) {
            return;
        }
        self.was_stopped = is_stopped;
        self.looked_at = Some(now);
        let step = now.unix_nanos() as i64 - now.as_nanos() as i64;
        if step.abs_diff(self.step) >= MIN_STEP_NANOS {
            (self.step, self.stepped_at) = (step, Some(now));
        }
        let is_settled = self.stepped_at.is_none_or(|stepped_at| now.since(stepped_at) >= SETTLE_TIME);
        let mut entries = self.index.entries();
        // The last one is being written.
        if !is_stopped && entries.last().is_some_and(|entry| entry.run == self.index.current_run()) {
            entries.pop();
        }
        let kept: Vec<_> = self.keep.iter().filter(|keep| is_settled || matches!(keep, RecordKeep::Bytes(_))).collect();
        let sizes: Vec<u64> = entries.iter().map(|entry| self.bytes(entry)).collect();
        let count = expired(&entries, &sizes, kept.into_iter().copied(), now.unix_nanos());
        for entry in &entries[..count] {
            self.delete(entry);
        }
    }

    fn files(&self, entry: &Entry) -> [PathBuf; 2] {
        let file = |extension| self.index.directory().join(format!("{}.{extension}", entry.stem));
        // The sidecar last: a file without it could not be told from another program's.
        [file(entry.format.name()), file("jsonl")]
    }

    fn bytes(&self, entry: &Entry) -> u64 {
        self.files(entry).iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
    }

    fn delete(&self, entry: &Entry) {
        for path in self.files(entry) {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!("cannot delete {}, which is older than --record-keep: {error}", path.display());
                return;
            }
        }
        tracing::info!("deleted {}, as --record-keep says", entry.stem);
        self.index.remove(&entry.stem);
    }
}

/// Returns how many of `entries`, from the first one on, are beyond a bound of `keep` at `now`, in nanoseconds of Unix time.
fn expired(entries: &[Entry], sizes: &[u64], keep: impl Iterator<Item = RecordKeep>, now: u64) -> usize {
    let most = keep.map(|keep| match keep {
        RecordKeep::Age(age) => {
            let oldest = now.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
            entries.iter().take_while(|entry| entry.ended_at() < oldest).count()
        }
        RecordKeep::Bytes(bytes) => {
            let mut kept = 0_u64;
            let fits = sizes.iter().rev().take_while(|size| {
                kept = kept.saturating_add(**size);
                kept <= bytes
            });
            entries.len() - fits.count()
        }
    });
    most.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RecordFormat;

    const HOUR: u64 = 3600 * 1_000_000_000;

    fn hours(count: u64) -> Vec<Entry> {
        let entry = |hour| Entry {
            stem: format!("aircheck-{hour}"),
            run: 0,
            format: RecordFormat::Wav,
            rate_hz: 8000,
            channels: 1,
            position: hour * 3600 * 8000,
            captured_at: hour * HOUR,
            frames: 3600 * 8000,
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn the_last_file_counts_once_the_recording_has_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let index = Arc::new(Index::scan(folder.path()));
        for entry in hours(2) {
            fs::write(folder.path().join(format!("{}.wav", entry.stem)), vec![0; 600_000]).unwrap();
            fs::write(folder.path().join(format!("{}.jsonl", entry.stem)), "").unwrap();
            index.begin(entry);
        }
        let mut retention = Retention::new(Arc::clone(&index), vec!["1MB".parse().unwrap()]);
        let now = Timestamp::now();
        let mut look = |has_new_file, is_stopped| {
            retention.look(has_new_file, is_stopped, now);
            index.entries().len()
        };
        assert_eq!(look(true, false), 2, "the file that is being written does not count");
        assert_eq!(look(false, true), 1, "together they are beyond the bound, and the older one goes at once");
        assert_eq!(look(false, false), 1);
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
    }

    #[test]
    fn the_tightest_bound_decides() {
        let (entries, sizes) = (hours(10), [100; 10]);
        let expired =
            |keep: &[&str]| expired(&entries, &sizes, keep.iter().map(|keep| keep.parse().unwrap()), 10 * HOUR);
        assert_eq!(expired(&[]), 0);
        assert_eq!(expired(&["3h"]), 6, "the one that ended three hours ago is just young enough");
        assert_eq!(expired(&["30d"]), 0);
        assert_eq!(expired(&["1MB"]), 0);
        let bytes = |bytes| super::expired(&entries, &sizes, [RecordKeep::Bytes(bytes)].into_iter(), 10 * HOUR);
        assert_eq!((bytes(1000), bytes(999), bytes(250), bytes(50)), (0, 1, 8, 10));
        let both = [RecordKeep::Age(Duration::from_secs(3 * 3600)), RecordKeep::Bytes(250)];
        assert_eq!(super::expired(&entries, &sizes, both.into_iter(), 10 * HOUR), 8);
    }
}
