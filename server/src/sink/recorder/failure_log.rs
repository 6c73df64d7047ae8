//! Log messages about a failing disk: when it begins to fail, once a minute while it does, and when it works again.

use std::path::Path;
use std::time::Duration;

use aircheck_engine::Timestamp;

/// Shortest time between two messages that the disk fails. A disk can fail and recover many times a minute.
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);

/// The state of the log.
#[derive(Debug, Default)]
pub(crate) struct FailureLog {
    logged_at: Option<Timestamp>,
    /// Whether the last message was that the disk fails.
    is_failing: bool,
}

impl FailureLog {
    /// Logs a failure at `now`, unless one was logged within the last minute.
    pub(crate) fn failed(&mut self, error: &str, now: Timestamp) {
        if self.logged_at.is_none_or(|logged_at| now.since(logged_at) >= REMINDER_INTERVAL) {
            tracing::error!("cannot record, trying again: {error}");
            self.logged_at = Some(now);
            self.is_failing = true;
        }
    }

    /// Logs that sound is recorded to `file` again, if a failure was logged before.
    pub(crate) fn recovered(&mut self, file: &Path) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("recording again to {}", file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_every_second_is_logged_once_a_minute() {
        let start = Timestamp::from_nanos(1_000_000_000_000);
        let (mut log, mut logged) = (FailureLog::default(), 0);
        for second in 0..180 {
            log.failed("full", start + Duration::from_secs(second));
            logged += u32::from(log.is_failing);
            log.recovered(Path::new("a.wav"));
            assert!(!log.is_failing);
        }
        assert_eq!(logged, 3);
    }
}
