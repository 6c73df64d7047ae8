//! How a disk that fails is told of in the log: when it begins to, now and then while it does, and when it is over.

use std::path::Path;
use std::time::Duration;

use aircheck_engine::Timestamp;

/// A disk that keeps failing, or fails again and again, is told of so often.
const REMIND: Duration = Duration::from_secs(60);

/// What the log was told.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    told_at: Option<Timestamp>,
    /// The log's last word is that it fails.
    stands: bool,
}

impl Complaint {
    /// Something failed at `now`.
    pub(crate) fn failed(&mut self, error: &str, now: Timestamp) {
        if self.told_at.is_none_or(|told_at| now.since(told_at) >= REMIND) {
            tracing::error!("can't record, trying again: {error}");
            self.told_at = Some(now);
            self.stands = true;
        }
    }

    /// Sound goes to `file` again.
    pub(crate) fn over(&mut self, file: &Path) {
        if std::mem::take(&mut self.stands) {
            tracing::info!("recording again to {}", file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_flaps_is_told_of_once_a_minute() {
        let start = Timestamp::from_nanos(1_000_000_000_000);
        let (mut complaint, mut told) = (Complaint::default(), 0);
        for second in 0..180 {
            complaint.failed("full", start + Duration::from_secs(second));
            told += u32::from(complaint.stands);
            complaint.over(Path::new("a.wav"));
            assert!(!complaint.stands);
        }
        assert_eq!(told, 3);
    }
}
