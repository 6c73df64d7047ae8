//! A source that has been started, and its signs of life.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::capture_ring::RING_SPAN;
use crate::lease::{Lease, Slot};
use crate::source::interface::{Running, Source, SourceError};
use crate::{Capture, CaptureStats, Format, Timestamp};

/// Time between two checks of a source that delivers.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Time without a write after which a source is lost: far beyond the period of any device.
pub(super) const QUIET_SPAN: Duration = Duration::from_millis(800);
/// The same before its first write: 5 s. An idle source of a sound server hands over its first sound after up to 2 s.
const MAX_START_CHECKS: u32 = 100;
/// Checks in a row without a write after which the capture ring may have no room for what comes next, all at once. One fewer than the
/// ring's length, because a pause begins up to a check before it is seen.
const PAUSE_CHECKS: u32 = (RING_SPAN.as_millis() / CHECK_INTERVAL.as_millis()) as u32 - 1;
/// How long an opened source may take for its first write.
pub(super) const START_TIMEOUT: Duration = CHECK_INTERVAL.saturating_mul(MAX_START_CHECKS);

/// A source that has been started, and the signs of life that were seen.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) running: Box<dyn Running>,
    pub(super) slot: Arc<Slot>,
    attempts: u64,
    quiet_checks: u32,
    pub(super) started_at: Timestamp,
}

impl Live {
    pub(super) fn new(running: Box<dyn Running>, slot: Arc<Slot>) -> Self {
        Self { running, slot, attempts: 0, quiet_checks: 0, started_at: Timestamp::now() }
    }

    /// Returns whether the source has written since the last look.
    pub(super) fn is_alive(&mut self) -> bool {
        let attempts = self.slot.attempts();
        std::mem::replace(&mut self.attempts, attempts) != attempts
    }

    /// Notes that the source has the writer again.
    pub(super) fn resume(&mut self, now: Timestamp) {
        (self.quiet_checks, self.started_at) = (0, now);
    }

    /// Checks once, and returns the reason if the source is lost, for example because nothing has come for `quiet_span`. Checks are counted,
    /// not time, so that a pause of this process is no loss of the source. Tells `stats` of a pause.
    pub(super) fn check(&mut self, quiet_span: Duration, stats: &CaptureStats) -> Option<Loss> {
        let is_alive = self.is_alive();
        self.quiet_checks = if is_alive { 0 } else { self.quiet_checks + 1 };
        if self.quiet_checks == PAUSE_CHECKS {
            stats.pause_seen();
        }
        let quiet_checks = (quiet_span.as_millis() / CHECK_INTERVAL.as_millis()) as u32;
        let max_checks = if self.attempts > 0 { quiet_checks } else { MAX_START_CHECKS };
        self.end().or_else(|| (self.quiet_checks >= max_checks).then_some(Loss::Quiet))
    }

    /// Returns the loss if the source has failed or ended, by its own account.
    pub(super) fn end(&self) -> Option<Loss> {
        match self.slot.failure() {
            Some(failure) => Some(Loss::Failed(failure.to_owned())),
            None => self.slot.has_ended().then_some(Loss::Ended),
        }
    }
}

/// The way in which a source was lost.
#[derive(Debug)]
pub(super) enum Loss {
    Failed(String),
    Ended,
    Quiet,
}

impl Loss {
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Failed(reason) => reason.clone(),
            Self::Ended => "the source has ended".to_owned(),
            Self::Quiet => "nothing comes from the source".to_owned(),
        }
    }
}

/// Starts a source that writes through `slot` to a stream of `stream_format`.
pub(super) fn open_with(
    source: Box<dyn Source>,
    slot: &Arc<Slot>,
    stream_format: Format,
    stats: &Arc<CaptureStats>,
) -> Result<Box<dyn Running>, SourceError> {
    let format = Format::new(source.rate_hz(), source.channels(), stream_format.block_span())
        .map_err(|error| SourceError::Format(error.to_string()))?;
    let lease = Lease::new(Arc::clone(slot), format, stream_format, Arc::clone(stats)).map_err(SourceError::Format)?;
    source.start(Capture::lent(lease))
}

/// Stops a source on a thread of its own, because that may take for ever.
pub(super) fn dispose(running: Box<dyn Running>) {
    // Without a thread, the source is left as it is: it writes nothing any more.
    let _ = thread::Builder::new().name("source-closing".into()).spawn(move || running.stop());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nothing;

    impl Running for Nothing {
        fn stop(self: Box<Self>) {}
    }

    #[test]
    fn a_pause_is_told_once_while_it_lasts() {
        let (stats, slot) = (CaptureStats::default(), Arc::new(Slot::default()));
        let format = Format::new(48_000, 1, Duration::from_millis(10)).unwrap();
        let mut lease =
            Lease::new(Arc::clone(&slot), format, format, Arc::new(CaptureStats::default())).expect("one format");
        let mut live = Live::new(Box::new(Nothing), slot);
        for pauses in 0..3 {
            lease.write(&[0.0_f32; 480], Timestamp::default());
            // The first look finds the write; then nothing comes for a quarter of a second, and for three more checks.
            let told: Vec<u64> = (0..9)
                .map(|_| {
                    assert!(live.check(QUIET_SPAN, &stats).is_none());
                    stats.pauses() - pauses
                })
                .collect();
            assert_eq!(told, [0, 0, 0, 0, 0, 1, 1, 1, 1]);
        }
    }
}
