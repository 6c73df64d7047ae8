//! The clock of this process: steady inside, and corrected by the steps of the wall clock where times are shown.
//!
//! It takes two clocks. A steady clock never jumps, so lags and latencies are measured with it, but it knows no date.
//! The wall clock knows the date, but it jumps when it is set: in both directions, and by any amount. So all moments of
//! a process lie on the steady clock, anchored to the wall clock at the first reading. The later steps of the wall clock
//! are added only when a moment leaves the process as Unix time.
//!
//! On Linux the steady clock counts the time that the machine was suspended. Elsewhere a suspend looks like a step.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Least difference between the two clocks that counts as a step. Both are disciplined at the same rate, so that they
/// part only when the wall clock is set; but they cannot be read at the same moment.
#[cfg(any(test, feature = "sound"))]
const MIN_STEP_NANOS: i64 = 10_000_000;
/// Longest time that reading both clocks may take. A slower reading was interrupted and is not used.
#[cfg(feature = "sound")]
const MAX_READING_NANOS: u64 = 1_000_000;

static CLOCK: OnceLock<Clock> = OnceLock::new();

/// Returns the current moment on the process's clock, in nanoseconds. Takes no lock after the first call.
#[inline]
pub(crate) fn now_nanos() -> u64 {
    CLOCK.get_or_init(|| Clock::new(Reading::take())).at(steady_nanos())
}

/// Converts a moment on the process's clock to Unix time in nanoseconds, as the wall clock stands now.
pub(crate) fn unix_nanos(nanos: u64) -> u64 {
    CLOCK.get().map_or(nanos, |clock| clock.unix_nanos(nanos))
}

/// Compares the two clocks, and takes over a step of the wall clock. The dispatcher calls this once a second.
#[cfg(feature = "sound")]
pub(crate) fn follow_wall_clock() {
    let reading = Reading::take();
    if let Some(clock) = CLOCK.get()
        && reading.took <= MAX_READING_NANOS
    {
        clock.follow(reading);
    }
}

/// Makes the clock believe that the wall clock has stepped ahead.
#[cfg(all(test, feature = "sound"))]
pub(crate) fn pretend_step(nanos: i64) {
    CLOCK.get_or_init(|| Clock::new(Reading::take())).step.store(nanos, Ordering::Relaxed);
}

/// Both clocks at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Reading {
    steady: u64,
    wall: u64,
    /// How long the reading took, and so by how much the two may be apart.
    #[cfg_attr(not(feature = "sound"), expect(dead_code, reason = "only the dispatcher follows the wall clock"))]
    took: u64,
}

impl Reading {
    fn take() -> Self {
        let before = steady_nanos();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let took = steady_nanos().saturating_sub(before);
        Self { steady: before + took / 2, wall: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX), took }
    }
}

/// The steady clock with its anchor, and the steps of the wall clock since then.
#[derive(Debug)]
struct Clock {
    /// Unix time of the steady clock's zero, by the first reading.
    anchor: u64,
    /// How far the wall clock has stepped ahead since the first reading.
    step: AtomicI64,
}

impl Clock {
    fn new(first: Reading) -> Self {
        Self { anchor: first.wall.wrapping_sub(first.steady), step: AtomicI64::new(0) }
    }

    #[inline]
    fn at(&self, steady: u64) -> u64 {
        self.anchor.wrapping_add(steady)
    }

    #[cfg(any(test, feature = "sound"))]
    fn follow(&self, reading: Reading) {
        let step = reading.wall.wrapping_sub(self.at(reading.steady)) as i64;
        if step.abs_diff(self.step.load(Ordering::Relaxed)) >= MIN_STEP_NANOS as u64 {
            self.step.store(step, Ordering::Relaxed);
        }
    }

    fn unix_nanos(&self, nanos: u64) -> u64 {
        nanos.saturating_add_signed(self.step.load(Ordering::Relaxed))
    }
}

/// Reads the steady clock. `CLOCK_BOOTTIME` is `CLOCK_MONOTONIC` plus the time that the machine was suspended; the
/// kernel answers both without a system call.
#[cfg(target_os = "linux")]
#[inline]
fn steady_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Reads the steady clock, from the first reading on.
#[cfg(not(target_os = "linux"))]
fn steady_nanos() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;
    /// Both clocks at the start: an hour after boot, in 2026.
    const STEADY: u64 = HOUR;
    const WALL: u64 = 1_790_000_000 * SECOND;

    fn clock() -> Clock {
        Clock::new(reading(STEADY, WALL))
    }

    fn reading(steady: u64, wall: u64) -> Reading {
        Reading { steady, wall, took: 0 }
    }

    #[test]
    fn times_are_right_after_a_suspend() {
        let clock = clock();
        let before = clock.at(STEADY);
        // Eight hours asleep.
        let (steady, wall) = (STEADY + 8 * HOUR, WALL + 8 * HOUR);
        clock.follow(reading(steady, wall));
        assert_eq!(clock.unix_nanos(clock.at(steady)), wall);
        assert_eq!(clock.unix_nanos(before), WALL, "earlier moments stay where they were");
    }

    #[test]
    fn times_follow_a_step_of_the_wall_clock_and_spans_do_not() {
        for step in [HOUR as i64, -(HOUR as i64), 5 * SECOND as i64 / 100] {
            let clock = clock();
            let before = clock.at(STEADY);
            let (steady, wall) = (STEADY + SECOND, (WALL + SECOND).saturating_add_signed(step));
            let after = clock.at(steady);
            assert_eq!(clock.unix_nanos(after), WALL + SECOND, "the step is not known yet");
            clock.follow(reading(steady, wall));
            assert_eq!(clock.unix_nanos(after), wall);
            assert_eq!((clock.at(steady), after - before), (after, SECOND), "the process's clock does not jump");
            // And back: steps do not add up.
            clock.follow(reading(steady, WALL + SECOND));
            assert_eq!(clock.unix_nanos(after), WALL + SECOND);
        }
    }

    #[test]
    fn an_uneven_reading_is_no_step() {
        let clock = clock();
        clock.follow(reading(STEADY + SECOND, WALL + SECOND + SECOND / 1000));
        assert_eq!(clock.unix_nanos(clock.at(STEADY + SECOND)), WALL + SECOND);
    }

    /// Has teeth on a machine that was suspended since it booted, or under `unshare --time --boottime 3600`.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_steady_clock_counts_a_suspend() {
        let uptime = || std::fs::read_to_string("/proc/uptime").unwrap();
        let hundredths = |uptime: String| -> u64 {
            let (seconds, hundredths) = uptime.split(' ').next().unwrap().split_once('.').unwrap();
            seconds.parse::<u64>().unwrap() * 100 + hundredths.parse::<u64>().unwrap()
        };
        let before = hundredths(uptime());
        let now = steady_nanos() / (SECOND / 100);
        let after = hundredths(uptime());
        assert!((before..=after + 1).contains(&now), "{before} to {after}, but the clock says {now}");
    }
}
