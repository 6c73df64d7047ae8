//! The capture time of each frame: a straight line through the device's jittery timestamps.
//!
//! The line is `epoch + position / rate`. A timestamp can be late (the period was handed over late) but hardly ever
//! early, so the smallest offset from the line within a window tells how good the line is. A small offset is clock
//! drift, and the line follows it. A large one for a whole window means that the device lost sound without reporting it.

use std::time::Duration;

use crate::{Format, Timestamp};

/// Least length of a window. A sound server that was frozen for a second and a half delivers everything in one burst
/// afterwards; in a shorter window that would look like a loss.
const WINDOW: Duration = Duration::from_secs(2);
/// An offset beyond this, for a whole window, is a loss. Well above the jitter of a sound server's periods (some
/// milliseconds), and above the 2 ms that drift of 1000 ppm adds within a window.
const MIN_LOSS_NANOS: i64 = 60_000_000;
/// An offset beyond this is a loss at once: no sound server holds so much sound back. The machine was suspended, or this
/// process was stopped.
const MAX_BURST_NANOS: i64 = 60_000_000_000;

/// The line from frame positions to capture times.
#[derive(Debug)]
pub(crate) struct Timeline {
    format: Format,
    epoch: Option<Timestamp>,
    window_start: Timestamp,
    window_min: i64,
}

impl Timeline {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, epoch: None, window_start: Timestamp::default(), window_min: i64::MAX }
    }

    /// Returns when the frame at `position` was captured, by the line. Before the first observation, the Unix epoch.
    pub(crate) fn time_of(&self, position: u64) -> Timestamp {
        self.format.time_of(self.epoch.unwrap_or_default(), position)
    }

    /// Returns how far `measured` is after the line at `position`, in nanoseconds.
    pub(crate) fn offset(&self, position: u64, measured: Timestamp) -> i64 {
        if self.epoch.is_some() { measured.offset_from(self.time_of(position)) } else { 0 }
    }

    /// Takes the device's timestamp `measured` of the frame at `position` into account. Returns how many frames the
    /// device has lost, once that is certain; the caller then advances its position by them.
    pub(crate) fn observe(&mut self, position: u64, measured: Timestamp) -> u64 {
        let Some(epoch) = self.epoch else {
            self.rebase(position, measured);
            return 0;
        };
        let offset = self.offset(position, measured);
        if offset > MAX_BURST_NANOS {
            return self.frames_in(offset);
        }
        self.window_min = self.window_min.min(offset);
        if measured.since(self.window_start) < WINDOW {
            return 0;
        }
        let offset = self.window_min;
        self.window_start = measured;
        self.window_min = i64::MAX;
        if offset > MIN_LOSS_NANOS {
            return self.frames_in(offset);
        }
        // An early frame proves that the line was late, so it moves at once. A late one may be jitter: it moves slowly.
        self.epoch = Some(epoch.offset_by(if offset < 0 { offset } else { offset / 4 }));
        0
    }

    /// Moves the line so that the frame at `position` was captured at `measured`.
    pub(crate) fn rebase(&mut self, position: u64, measured: Timestamp) {
        self.epoch = Some(measured - self.format.span(position));
        self.window_start = measured;
        self.window_min = i64::MAX;
    }

    /// Returns the whole frames in a positive number of nanoseconds.
    fn frames_in(&self, nanos: i64) -> u64 {
        (nanos as u128 * u128::from(self.format.rate_hz()) / 1_000_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn timeline() -> Timeline {
        Timeline::new(Format::new(48_000, 1, Duration::from_millis(10)).unwrap())
    }

    /// Feeds periods of 480 frames, each late by `late` of its number, in ns. Returns the lost frames.
    fn feed(timeline: &mut Timeline, periods: std::ops::Range<u64>, late: impl Fn(u64) -> i64) -> u64 {
        periods.map(|n| timeline.observe(n * 480, (START + Duration::from_millis(10 * n)).offset_by(late(n)))).sum()
    }

    #[test]
    fn jitter_does_not_move_the_line() {
        let mut timeline = timeline();
        assert_eq!(feed(&mut timeline, 0..1000, |n| [0, 2_000_000, 900_000][n as usize % 3]), 0);
        assert_eq!(timeline.time_of(480_000), START + Duration::from_secs(10));
    }

    #[test]
    fn drift_is_followed_and_not_a_loss() {
        let mut timeline = timeline();
        // 100 ppm slow for an hour: 360 ms in all.
        assert_eq!(feed(&mut timeline, 0..360_000, |n| n as i64 * 1000), 0);
        let error = timeline.time_of(360_000 * 480).offset_from(START + Duration::from_millis(3_600_360));
        assert!(error.abs() < 2_000_000, "off by {error} ns");
    }

    #[test]
    fn a_silent_loss_is_found_in_full() {
        let mut timeline = timeline();
        // From period 500 on, half a second is missing.
        let lost = feed(&mut timeline, 0..1000, |n| if n < 500 { 0 } else { 500_000_000 });
        // The line is not moved by `observe`: the caller moves its position. So each later window finds it again.
        assert!(lost > 0 && lost % 24_000 == 0, "{lost} frames");
    }

    #[test]
    fn a_burst_after_a_freeze_is_not_a_loss() {
        let mut timeline = timeline();
        // Periods 500 to 649 all arrive at period 650's time.
        let frozen = |n| if (500..650).contains(&n) { (650 - n as i64) * 10_000_000 } else { 0 };
        assert_eq!(feed(&mut timeline, 0..1500, frozen), 0);
    }

    /// Guards against two seconds of sound with times from before the suspend.
    #[test]
    fn a_suspend_is_a_loss_at_once() {
        let mut timeline = timeline();
        assert_eq!(feed(&mut timeline, 0..100, |_| 0), 0);
        let resumed = START + Duration::from_secs(3601);
        assert_eq!(timeline.observe(48_000, resumed), 3600 * 48_000);
    }
}
