//! Signs of life from cpal's threads, and the verdict on them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use cpal::ErrorKind;

use crate::realtime::{ThreadId, current_thread};

/// Errors within one check, with no period handed over, that make a device dead. ALSA was seen to report 50,000 in that
/// time; a signal that interrupts a system call is one error.
const MAX_CHECK_ERRORS: u64 = 20;
/// Checks in a row without a period that make a device dead: 10 s at 10 a second. An idle sound server hands over sound
/// every 2 s, and one that was frozen for a few seconds comes back.
const MAX_SILENT_CHECKS: u32 = 100;

/// Counts of a device's periods and errors, written by cpal's threads.
#[derive(Debug, Default)]
pub(super) struct DeviceHealth {
    /// Periods that came.
    periods: AtomicU64,
    /// Errors of any kind.
    errors: AtomicU64,
    /// Errors that said that sound is missing.
    xruns: AtomicU64,
    /// Whether an error said that the device is gone.
    is_gone: AtomicBool,
    /// The thread that hands over periods; 0 before the first one.
    thread: AtomicUsize,
}

impl DeviceHealth {
    /// Returns the thread that hands over periods, once it has done so. It lives for as long as the device's stream.
    pub(super) fn thread(&self) -> Option<ThreadId> {
        Some(self.thread.load(Ordering::Acquire)).filter(|thread| *thread != 0).map(|thread| thread as ThreadId)
    }

    /// Counts a period. Fit for a callback.
    pub(super) fn period(&self) {
        if self.thread.load(Ordering::Relaxed) == 0 {
            self.thread.store(current_thread() as usize, Ordering::Release);
        }
        self.periods.fetch_add(1, Ordering::Release);
    }

    /// Returns the xruns that were reported.
    pub(super) fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Acquire)
    }

    /// Counts an error, of which cpal may report half a million a second. Fit for a callback.
    pub(super) fn error(&self, kind: ErrorKind) {
        match kind {
            ErrorKind::Xrun => _ = self.xruns.fetch_add(1, Ordering::Release),
            ErrorKind::DeviceNotAvailable
            | ErrorKind::StreamInvalidated
            | ErrorKind::HostUnavailable
            | ErrorKind::PermissionDenied => self.is_gone.store(true, Ordering::Release),
            // The sound goes on: at ordinary priority, or from the device that the system chose instead.
            ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => return,
            // One is harmless, such as an interrupted system call. A broken device reports them without end.
            _ => {}
        }
        self.errors.fetch_add(1, Ordering::Release);
    }
}

/// Finds out whether a device is dead. It counts checks instead of reading a clock, so that a pause of
/// this process does not count as silence of the device.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    periods: u64,
    errors: u64,
    silent_checks: u32,
}

impl Watchdog {
    /// Checks once, and returns the cause if the device is dead.
    pub(super) fn check(&mut self, health: &DeviceHealth) -> Option<&'static str> {
        let periods = health.periods.load(Ordering::Acquire);
        let errors = health.errors.load(Ordering::Acquire);
        let is_silent = periods == self.periods;
        let new_errors = errors - self.errors;
        (self.periods, self.errors) = (periods, errors);
        self.silent_checks = if is_silent { self.silent_checks + 1 } else { 0 };
        if health.is_gone.load(Ordering::Acquire) {
            Some("the device or its sound server is gone")
        } else if is_silent && new_errors > MAX_CHECK_ERRORS {
            Some("the device reports nothing but errors")
        } else if self.silent_checks >= MAX_SILENT_CHECKS {
            Some("nothing has come from the device for 10 s (see whether the sound server hangs)")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_reports_its_loss_is_dead() {
        let health = DeviceHealth::default();
        let mut watchdog = Watchdog::default();
        for kind in [ErrorKind::RealtimeDenied, ErrorKind::DeviceChanged, ErrorKind::Xrun, ErrorKind::BackendError] {
            health.error(kind);
            assert_eq!(watchdog.check(&health), None, "{kind:?}");
        }
        health.error(ErrorKind::StreamInvalidated);
        assert!(watchdog.check(&health).is_some_and(|cause| cause.contains("is gone")));
    }

    #[test]
    fn a_device_with_errors_only_is_dead_at_the_next_check() {
        let health = DeviceHealth::default();
        let mut watchdog = Watchdog::default();
        for _ in 0..50_000 {
            health.error(ErrorKind::BackendError);
        }
        health.period();
        assert_eq!(watchdog.check(&health), None, "errors are harmless while sound comes");
        for _ in 0..50_000 {
            health.error(ErrorKind::BackendError);
        }
        assert!(watchdog.check(&health).is_some_and(|cause| cause.contains("nothing but errors")));
    }

    #[test]
    fn a_silent_device_is_dead_after_ten_seconds() {
        let health = DeviceHealth::default();
        let mut watchdog = Watchdog::default();
        let mut silence = |checks: u32| (0..checks).find_map(|_| watchdog.check(&health));
        assert_eq!(silence(MAX_SILENT_CHECKS - 1), None);
        health.period();
        assert_eq!(silence(MAX_SILENT_CHECKS), None, "the first of these saw a period");
        assert!(silence(1).is_some_and(|cause| cause.contains("10 s")));
    }
}
