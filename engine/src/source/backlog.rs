//! The sound that waits in a pipe in front of a source: how much of it stands there for good, and is to be worked off.
//!
//! Sound goes through a pipe in the portions of its writer, so some waits at most moments. Only what waits all the time is
//! late: after a hiccup of either side, as much sound as the hiccup was long stays in the pipe, because both sides go on at
//! the same pace. Times are arguments.

use std::time::Duration;

use crate::source::pull::Waiting;
use crate::{Format, Timestamp};

/// What waits for this long without a break is standing: longer than the periods in which programs write.
const WINDOW: Duration = Duration::from_secs(1);
/// A window with less sound than this share of its length does not count: the writer stood still.
const MIN_WINDOW_SHARE: f64 = 0.9;
/// Less than this is not worth a jump in time: it is five portions of reading.
const MIN_STANDING: Duration = Duration::from_millis(10);
/// Most that is worked off without a window in which the writer let the pipe run low: what network buffers hold. Beyond it
/// the writer is taken for one that does not go at the pace of its sound.
const MAX_WORKED_OFF: Duration = Duration::from_secs(10);

/// Finds out whether a writer goes at the pace of its sound, and what is standing in the pipe.
///
/// A program that decodes a file keeps its pipe full from the start. That is not late: it would come as well an hour later.
/// So a writer counts as live only once it has left half of the pipe empty for a whole window of sound.
#[derive(Debug)]
pub(super) struct Backlog {
    format: Format,
    is_live: bool,
    window_start: Option<Timestamp>,
    window_frames: u64,
    least: u64,
    most: u64,
    capacity: u64,
    worked_off: u64,
}

impl Backlog {
    pub(super) fn new(format: Format) -> Self {
        let (window_start, capacity) = (None, 0);
        Self {
            format,
            is_live: false,
            window_start,
            window_frames: 0,
            least: u64::MAX,
            most: 0,
            capacity,
            worked_off: 0,
        }
    }

    /// Returns whether the writer goes at the pace of its sound, as far as is known.
    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Notes that `frames` frames were read at `now`, and what waits then. At the end of a window, returns the frames that
    /// stood in the pipe all the time; 0 for a writer that is not live.
    pub(super) fn observe(&mut self, frames: u64, waiting: Waiting, now: Timestamp) -> Option<u64> {
        let start = *self.window_start.get_or_insert(now);
        self.window_frames += frames;
        self.least = self.least.min(waiting.frames);
        self.most = self.most.max(waiting.frames);
        self.capacity = waiting.capacity;
        if now.since(start) < WINDOW {
            return None;
        }
        let (least, most, read) = (self.least, self.most, self.format.span(self.window_frames));
        self.restart();
        if read < now.since(start).mul_f64(MIN_WINDOW_SHARE) {
            return None;
        }
        if most <= self.capacity / 2 {
            (self.is_live, self.worked_off) = (true, 0);
        }
        Some(if self.is_live { least } else { 0 })
    }

    /// Begins a new window: the sound had stopped, or was worked off.
    pub(super) fn restart(&mut self) {
        (self.window_start, self.window_frames, self.least, self.most) = (None, 0, u64::MAX, 0);
    }

    /// Decides whether `standing` frames are to be read at once, and counts them.
    pub(super) fn work_off(&mut self, standing: u64) -> bool {
        if self.format.span(standing) < MIN_STANDING {
            return false;
        }
        self.worked_off += standing;
        if self.format.span(self.worked_off) > MAX_WORKED_OFF {
            (self.is_live, self.worked_off) = (false, 0);
        }
        self.is_live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
    const CAPACITY: u64 = 16_384;

    fn backlog() -> Backlog {
        Backlog::new(Format::new(48_000, 2, Duration::from_millis(10)).unwrap())
    }

    /// Reads for `seconds` from `start` on, 10 ms at a time, with `waiting` frames by number. Returns what each window says.
    fn read(backlog: &mut Backlog, seconds: std::ops::Range<u64>, waiting: impl Fn(u64) -> u64) -> Vec<u64> {
        let numbers = seconds.start * 100..seconds.end * 100;
        let portion = |n: u64| {
            let waiting = Waiting { taken: 0, frames: waiting(n), capacity: CAPACITY };
            backlog.observe(480, waiting, START + Duration::from_millis(10 * n))
        };
        numbers.filter_map(portion).collect()
    }

    #[test]
    fn only_what_waits_all_the_time_is_standing() {
        let mut backlog = backlog();
        // A writer of periods of 100 ms, and then with 200 ms of backlog.
        let period = |n: u64| (n % 10) * 480;
        assert!(read(&mut backlog, 0..5, period).iter().all(|standing| *standing == 0));
        assert!(backlog.is_live());
        let late = read(&mut backlog, 5..9, |n| 9_600 + period(n));
        assert!(late.iter().skip(1).all(|standing| *standing == 9_600), "{late:?}");
    }

    #[test]
    fn a_full_pipe_from_the_start_is_no_backlog() {
        let mut backlog = backlog();
        assert!(read(&mut backlog, 0..60, |_| CAPACITY - 480).iter().all(|standing| *standing == 0));
        assert!(!backlog.is_live());
    }

    #[test]
    fn a_writer_that_stops_to_be_live_is_let_alone_after_ten_seconds_of_sound() {
        let mut backlog = backlog();
        read(&mut backlog, 0..3, |_| 0);
        let standing = read(&mut backlog, 3..4, |_| 16_000)[0];
        let turns = (0..100).take_while(|_| backlog.work_off(standing.max(16_000))).count();
        assert_eq!(turns, 30);
        assert!(!backlog.is_live());
    }

    #[test]
    fn a_window_in_which_the_sound_stood_still_says_nothing() {
        let mut backlog = backlog();
        let waiting = Waiting { taken: 0, frames: 0, capacity: CAPACITY };
        assert_eq!(backlog.observe(480, waiting, START), None);
        assert_eq!(backlog.observe(480, waiting, START + Duration::from_secs(2)), None);
        assert!(!backlog.is_live());
    }
}
