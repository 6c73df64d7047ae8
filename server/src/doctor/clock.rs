//! The clocks: whether the wall clock is right, and how fine the monotonic clock is.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_getres};

use super::finding::{Area, Finding};

/// The kernel's choice of the hardware behind its clocks.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Readings of the clock whose cost is measured together: some 40 us of them, which mostly fit between two turns of other
/// threads.
const READINGS: u32 = 1000;
/// Measurements, of which the quickest counts: a busy machine makes the others longer.
const MEASUREMENTS: u32 = 20;
/// Cost of a reading above which it is worth a note. With hardware that is read without a system call it is 20 to 50 ns; each
/// block and each packet take some readings.
const MAX_READING: Duration = Duration::from_micros(1);
/// Resolution above which latencies are too coarse, and the dispatcher sleeps too long: that of a clock that ticks.
const MAX_RESOLUTION: Duration = Duration::from_micros(1);

/// The kernel's opinion of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WallClock {
    /// Synchronised, with at most this error.
    Right(Duration),
    /// Not synchronised.
    Unknown,
    /// The kernel does not tell.
    Untold,
}

/// Checks both clocks.
pub(super) fn check() -> Vec<Finding> {
    let resolution = clock_getres(ClockId::Monotonic);
    let resolution =
        Duration::new(resolution.tv_sec.try_into().unwrap_or(0), resolution.tv_nsec.try_into().unwrap_or(0));
    let reading = (0..MEASUREMENTS).map(|_| reading()).min().unwrap_or_default();
    vec![wall(wall_clock()), monotonic(resolution, reading)]
}

/// Returns the time that a reading of the monotonic clock takes.
fn reading() -> Duration {
    let begin = Instant::now();
    let last = (0..READINGS).fold(begin, |_, _| Instant::now());
    (last - begin) / READINGS
}

fn wall(clock: WallClock) -> Finding {
    match clock {
        WallClock::Right(error) => {
            let error =
                if error < Duration::from_millis(1) { "1 ms".to_owned() } else { format!("{} ms", error.as_millis()) };
            Finding::ok(Area::Clock, format!("the wall clock is synchronised, to within {error}"))
        }
        WallClock::Unknown => Finding::note(
            Area::Clock,
            "the wall clock is not synchronised: times in recordings and logs may be wrong, and so may latencies that \
             other machines measure",
            "start a time service, such as chrony, or:",
        )
        .with_command("sudo timedatectl set-ntp true"),
        WallClock::Untold => {
            Finding::ok(Area::Clock, "the system does not tell whether the wall clock is synchronised")
        }
    }
}

fn monotonic(resolution: Duration, reading: Duration) -> Finding {
    let hardware = fs::read_to_string(CLOCK_SOURCE).map(|name| format!(" ({})", name.trim())).unwrap_or_default();
    let text = format!(
        "the monotonic clock has steps of {} ns; {} ns to read{hardware}",
        resolution.as_nanos(),
        reading.as_nanos()
    );
    if resolution > MAX_RESOLUTION || reading > MAX_READING {
        return Finding::note(
            Area::Clock,
            text,
            "latencies are coarse, or cost more than they should: let the kernel use tsc, or a virtual machine its host's \
             clock (kvm-clock)",
        );
    }
    Finding::ok(Area::Clock, text)
}

/// Asks the kernel for its opinion of the wall clock, and changes nothing.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "no crate of this workspace has a safe adjtimex")]
fn wall_clock() -> WallClock {
    use std::mem::MaybeUninit;

    // SAFETY: every field is an integer, for which zeros are a value. `modes` of 0 asks and sets nothing.
    let mut timex = unsafe { MaybeUninit::<libc::timex>::zeroed().assume_init() };
    // SAFETY: the pointer is that of a value of ours, which the kernel fills in.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        // Not permitted where the unit has ProtectClock=, and in some containers.
        return WallClock::Untold;
    }
    if state == libc::TIME_ERROR || timex.status & libc::STA_UNSYNC != 0 {
        return WallClock::Unknown;
    }
    WallClock::Right(Duration::from_micros(timex.maxerror.try_into().unwrap_or(0)))
}

#[cfg(not(target_os = "linux"))]
fn wall_clock() -> WallClock {
    WallClock::Untold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_wrong_clock_and_a_coarse_one_are_noted() {
        assert_eq!(wall(WallClock::Unknown).level(), Level::Note);
        assert_eq!(wall(WallClock::Right(Duration::from_millis(12))).level(), Level::Ok);
        assert_eq!(wall(WallClock::Untold).level(), Level::Ok);
        let (fine, coarse) = (Duration::from_nanos(40), Duration::from_millis(4));
        assert_eq!(monotonic(fine, fine).level(), Level::Ok);
        assert_eq!(monotonic(coarse, fine).level(), Level::Note);
        assert_eq!(monotonic(fine, coarse).level(), Level::Note);
        assert_eq!(check().len(), 2);
    }
}
