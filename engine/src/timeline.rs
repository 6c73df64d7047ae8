//! The capture time of each frame: a straight line through the device's jittery timestamps.
//!
//! A timestamp can be late, because the period was handed over late, and some are early or plainly wrong. So no single
//! one moves the line. One that is early beside both of its neighbours is ignored. The offsets of the others from the
//! line are gathered in slots of half a second, and each slot is represented by its smallest offset, that of its most
//! punctual period. Four slots decide:
//!
//! - all late by more than [`MAX_JITTER`]: the device lost sound without reporting it. The caller advances its
//!   position by as much, and the line stays where it is, so that position and time stay one;
//! - all early: the line was late, and moves to them;
//! - some early: the line moves by [`MAX_EARLY_STEP_NANOS`] at most, because these may be the wrong ones;
//! - a little late: that is clock drift, and the line follows slowly.
//!
//! A loss that is neither reported nor longer than [`MAX_JITTER`] cannot be told from drift, and is followed as such.

use std::time::Duration;

use crate::{Format, Timestamp};

/// Length of a slot, in sound and by the timestamps. By the sound, because a wrong timestamp must not end a slot. By the
/// timestamps, because a sound server that was frozen delivers everything in one burst, which is late except for its end:
/// it must not fill a slot alone.
const SLOT: Duration = Duration::from_millis(500);
/// Slots that decide: two seconds.
const SLOTS: u32 = 4;
/// A larger offset of these slots is a loss, and a timestamp that is early by more is wrong. Well above the jitter of a
/// sound server's periods (some milliseconds), and above the 2 ms that drift of 1000 ppm adds within four slots.
pub(crate) const MAX_JITTER: Duration = Duration::from_millis(60);
const MAX_JITTER_NANOS: i64 = MAX_JITTER.as_nanos() as i64;
/// Farthest move of the line towards timestamps that are early in some slots only: drift of 1000 ppm.
const MAX_EARLY_STEP_NANOS: i64 = 2_000_000;
/// A larger offset is a loss at once: no sound server holds so much sound back. The machine was suspended, or this
/// process was stopped.
pub(crate) const MAX_BURST: Duration = Duration::from_secs(60);
const MAX_BURST_NANOS: i64 = MAX_BURST.as_nanos() as i64;
/// A larger offset, a year, is no loss. No machine sleeps so long: its clock was set, and the line follows it.
const MAX_LOSS_NANOS: i64 = 365 * 86_400 * 1_000_000_000;

/// A later timestamp, in the year 2262 on the wall clock, counts as this one, so that the difference of two of them fits
/// into 64 bits with a sign.
const MAX_TIMESTAMP: Timestamp = Timestamp::from_nanos(i64::MAX as u64);

/// The line from frame positions to capture times.
#[derive(Debug)]
pub(crate) struct Timeline {
    format: Format,
    line: Option<Line>,
    /// Whether a timestamp after the first one was near the line. If none is, the first one was wrong.
    is_confirmed: bool,
    neighbours: Neighbours,
    slots: Slots,
    /// Whether a loss was declared since the line last moved.
    has_lost: bool,
    /// How far positions are ahead of time, in ns. The timestamp that shows a loss may be late itself; then too much is
    /// declared lost, which the later ones show. The next loss is that much shorter.
    surplus: i64,
}

/// A frame whose capture time is known.
#[derive(Clone, Copy, Debug)]
struct Line {
    position: u64,
    captured_at: Timestamp,
}

impl Timeline {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            line: None,
            is_confirmed: false,
            neighbours: Neighbours::default(),
            slots: Slots::new(format),
            has_lost: false,
            surplus: 0,
        }
    }

    /// Returns whether the time of any frame is known.
    pub(crate) fn has_begun(&self) -> bool {
        self.line.is_some()
    }

    /// Returns when the frame at `position` was captured, by the line. Before the first observation, the Unix epoch.
    pub(crate) fn time_of(&self, position: u64) -> Timestamp {
        match self.line {
            None => Timestamp::default(),
            // Positions are known on both sides of the line's own: a block may have begun before it.
            Some(line) if position < line.position => line.captured_at - self.format.span(line.position - position),
            Some(line) => line.captured_at + self.format.span(position - line.position),
        }
    }

    /// Returns how far `measured` is after the line at `position`, in nanoseconds.
    fn offset(&self, position: u64, measured: Timestamp) -> i64 {
        if self.line.is_some() { measured.offset_from(self.time_of(position)) } else { 0 }
    }

    /// Takes the device's timestamp `measured` of the frame at `position` into account. Returns how many frames the
    /// device has lost, once that is certain; the caller then advances its position by them.
    pub(crate) fn observe(&mut self, position: u64, measured: Timestamp) -> u64 {
        let measured = measured.min(MAX_TIMESTAMP);
        if self.line.is_none() {
            self.rebase(position, measured);
            return 0;
        }
        let offset = self.offset(position, measured);
        self.is_confirmed |= offset.saturating_abs() <= MAX_JITTER_NANOS;
        if self.is_confirmed && offset > MAX_BURST_NANOS && offset <= MAX_LOSS_NANOS {
            return self.declare_all(offset);
        }
        let Some(observed) = self.neighbours.next(Observed { position, measured, offset }) else { return 0 };
        let Some((least, greatest)) = self.slots.add(observed) else { return 0 };
        let was_confirmed = std::mem::replace(&mut self.is_confirmed, true);
        if least > MAX_JITTER_NANOS && least <= MAX_LOSS_NANOS && was_confirmed {
            let frames = self.declare(least);
            // The caller advances its position by them, so what was observed here is that much less late. Without this, the
            // same loss would count once more in the next slots, in place of another one.
            self.lower_offsets(self.format.span(frames).as_nanos() as i64);
            return frames;
        }
        self.shift(self.correction(least, greatest));
        0
    }

    /// Returns by how many nanoseconds the line moves, where four slots are after it by `least` to `greatest` and show no
    /// loss.
    fn correction(&self, least: i64, greatest: i64) -> i64 {
        if least > MAX_JITTER_NANOS {
            // The first timestamp was wrong, or the clock was set.
            least
        } else if least >= 0 {
            // Drift is followed slowly. What the last loss has explained is not drift.
            let explained = least.min(self.surplus);
            explained + (least - explained) / 4
        } else {
            // By as much as all slots are early, and a small step further: the earliest may be wrong.
            let all_early = greatest.min(0);
            all_early.saturating_add(least.saturating_sub(all_early).max(-MAX_EARLY_STEP_NANOS))
        }
    }

    /// Returns how many frames are missing before the frame at `position`, captured at `measured`, where the device has
    /// reported a loss; the caller then advances its position by them.
    pub(crate) fn missing(&mut self, position: u64, measured: Timestamp) -> u64 {
        let offset = self.offset(position, measured.min(MAX_TIMESTAMP));
        // A longer pause is a matter for `observe`.
        if !(1..=MAX_BURST_NANOS).contains(&offset) {
            return 0;
        }
        self.declare_all(offset)
    }

    /// Moves the line so that the frame at `position` was captured at `measured`.
    pub(crate) fn rebase(&mut self, position: u64, measured: Timestamp) {
        let captured_at = measured.min(MAX_TIMESTAMP);
        *self = Self { line: Some(Line { position, captured_at }), ..Self::new(self.format) };
    }

    /// Declares the loss that a single timestamp shows. It includes silent losses before it, which the slots must not
    /// declare once more.
    fn declare_all(&mut self, offset: i64) -> u64 {
        self.neighbours.forgive();
        self.slots.forgive();
        self.declare(offset)
    }

    /// Returns the frames, to the nearest, of a loss that an offset shows. The surplus is not spent on it, because the
    /// offset may be that of a late timestamp; if it was a loss, the later timestamps are late, and the line moves.
    fn declare(&mut self, offset: i64) -> u64 {
        self.has_lost = true;
        let nanos = offset.saturating_sub(self.surplus).max(0) as u128;
        ((nanos * u128::from(self.format.rate_hz()) + 500_000_000) / 1_000_000_000) as u64
    }

    /// Moves the line by `nanos`. After a loss, an early move shows that too much was declared lost, and a late one that
    /// a loss has used that up.
    fn shift(&mut self, nanos: i64) {
        if let Some(line) = &mut self.line {
            line.captured_at = line.captured_at.offset_by(nanos);
        }
        self.lower_offsets(nanos);
        if std::mem::take(&mut self.has_lost) || nanos > 0 {
            self.surplus = self.surplus.saturating_sub(nanos).max(0);
        }
    }

    /// Corrects the offsets since the last decision after the line, or the position, has moved on by `nanos`.
    fn lower_offsets(&mut self, nanos: i64) {
        self.neighbours.lower_offsets(nanos);
        self.slots.current = self.slots.current.saturating_sub(nanos);
    }
}

/// A timestamp, and how far it is after the line.
#[derive(Clone, Copy, Debug)]
struct Observed {
    position: u64,
    measured: Timestamp,
    offset: i64,
}

/// The last timestamps, of which each waits for the next one.
#[derive(Debug, Default)]
struct Neighbours {
    /// The offset before `waiting`.
    before: Option<i64>,
    waiting: Option<Observed>,
}

impl Neighbours {
    /// Takes the next timestamp, and returns the one before it, unless that is early beside both of its neighbours.
    fn next(&mut self, next: Observed) -> Option<Observed> {
        let observed = self.waiting.replace(next)?;
        let before = self.before.replace(observed.offset).unwrap_or(next.offset);
        let is_wrong = before.min(next.offset).saturating_sub(observed.offset) > MAX_JITTER_NANOS;
        (!is_wrong).then_some(observed)
    }

    /// Makes late offsets on time, after the loss that they show was declared.
    fn forgive(&mut self) {
        self.before = self.before.map(|offset| offset.min(0));
        if let Some(waiting) = &mut self.waiting {
            waiting.offset = waiting.offset.min(0);
        }
    }

    /// Makes all offsets less late by `nanos`.
    fn lower_offsets(&mut self, nanos: i64) {
        self.before = self.before.map(|offset| offset.saturating_sub(nanos));
        if let Some(waiting) = &mut self.waiting {
            waiting.offset = waiting.offset.saturating_sub(nanos);
        }
    }
}

/// The smallest offsets of the slots so far.
#[derive(Debug)]
struct Slots {
    /// Frames of a slot.
    frames: u64,
    /// Number of slots, with the one that is not complete.
    count: u32,
    /// Where and when the incomplete slot began.
    start: (u64, Timestamp),
    /// Smallest offset of the incomplete slot.
    current: i64,
    /// Least and greatest of the complete slots.
    range: (i64, i64),
}

impl Slots {
    /// The range of no slot.
    const NONE: (i64, i64) = (i64::MAX, i64::MIN);

    fn new(format: Format) -> Self {
        let frames = SLOT.as_nanos() as u64 * u64::from(format.rate_hz()) / 1_000_000_000;
        Self { frames, count: 0, start: (0, Timestamp::default()), current: 0, range: Self::NONE }
    }

    /// Adds an offset. Returns the least and the greatest of the slots' smallest offsets once there are [`SLOTS`]; they
    /// are counted anew then.
    fn add(&mut self, Observed { position, measured, offset }: Observed) -> Option<(i64, i64)> {
        let (start, started_at) = self.start;
        let has_advanced = measured.since(started_at).max(started_at.since(measured)) >= SLOT;
        if self.count > 0 && (position.saturating_sub(start) < self.frames || !has_advanced) {
            self.current = self.current.min(offset);
            return None;
        }
        let decided = if self.count == 0 { None } else { self.complete() };
        self.count += 1;
        (self.start, self.current) = ((position, measured), offset);
        decided
    }

    /// Makes late offsets on time, after the loss that they show was declared.
    fn forgive(&mut self) {
        self.current = self.current.min(0);
        if self.range != Self::NONE {
            self.range = (self.range.0.min(0), self.range.1.min(0));
        }
    }

    /// Completes the current slot.
    fn complete(&mut self) -> Option<(i64, i64)> {
        let (least, greatest) = self.range;
        self.range = (least.min(self.current), greatest.max(self.current));
        if self.count < SLOTS {
            return None;
        }
        self.count = 0;
        Some(std::mem::replace(&mut self.range, Self::NONE))
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

    /// Guards against offsets from before a reported loss that declare the same silent one again.
    #[test]
    fn a_silent_loss_that_a_reported_one_shows_is_not_declared_twice() {
        for reported in 201..500 {
            let mut timeline = timeline();
            let (mut declared, at) =
                (0, |n: u64| START + Duration::from_millis(10 * n + if n < 200 { 0 } else { 130 }));
            for n in 0..1000 {
                if n == reported {
                    declared += timeline.missing(n * 480 + declared, at(n));
                }
                declared += timeline.observe(n * 480 + declared, at(n));
            }
            assert_eq!(declared, 6240, "reported at period {reported}");
        }
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

    /// A capture: periods of 480 frames, each stamped early or late by `late` of its number and `lost` frames after the
    /// one before. Returns the frames that were declared lost, and how far the line is off at the end, in ns.
    fn capture(periods: u64, late: impl Fn(u64) -> i64, lost: impl Fn(u64) -> u64) -> (u64, i64) {
        capture_from(START, periods, late, lost)
    }

    fn capture_from(
        start: Timestamp,
        periods: u64,
        late: impl Fn(u64) -> i64,
        lost: impl Fn(u64) -> u64,
    ) -> (u64, i64) {
        let mut timeline = timeline();
        let (mut declared, mut missing) = (0, 0);
        for n in 0..periods {
            missing += lost(n);
            let captured_at = timeline.format.time_of(start, n * 480 + missing);
            let frames = timeline.observe(n * 480 + declared, captured_at.offset_by(late(n)));
            declared += frames;
        }
        let last = periods * 480;
        (declared, timeline.time_of(last + declared).offset_from(timeline.format.time_of(start, last + missing)))
    }

    const MILLI: i64 = 1_000_000;
    const YEAR: i64 = 365 * 86_400_000 * MILLI;

    #[test]
    fn one_early_timestamp_is_no_loss() {
        for early in [-70, -500, -5_000, -50_000, -3_600_000] {
            for at in [0, 1, 24, 150, 199, 200, 300] {
                let (declared, off) = capture(2000, |n| if n == at { early * MILLI } else { 0 }, |_| 0);
                assert_eq!(declared, 0, "frames declared lost: stamp {at} was {early} ms early");
                assert!(off.abs() < MILLI, "stamp {at} was {early} ms early: the line is off by {off} ns");
            }
        }
    }

    #[test]
    fn early_timestamps_in_some_slots_hardly_move_the_line() {
        for early in [-70, -500, -5_000] {
            let (declared, off) =
                capture(2000, |n| if (40..43).contains(&(n % 97)) { early * MILLI } else { 0 }, |_| 0);
            // Ten decisions, half of them with early stamps in more than one slot.
            assert_eq!(declared, 0, "{early} ms early");
            assert!(off.abs() <= 20 * MILLI, "{early} ms early: the line is off by {off} ns");
        }
    }

    #[test]
    fn a_line_that_began_late_moves_to_the_others_at_once() {
        for late in [70, 500, 5_000, 3_600_000] {
            let (declared, off) = capture(450, |n| if n == 0 { late * MILLI } else { 0 }, |_| 0);
            assert_eq!((declared, off), (0, 0), "{late} ms late");
        }
    }

    #[test]
    fn silent_losses_of_every_length_are_counted_exactly() {
        // From just above the limit to an hour.
        for frames in [3_500, 4_800, 24_000, 23_999, 480_001, 48_000 * 3_600] {
            for at in [10, 200, 333, 1000] {
                for early in [0, -70 * MILLI, -5_000 * MILLI] {
                    let jitter = |n: u64| (n * 7_919 % 31) as i64 * 100_000;
                    // One wrong stamp shortly after the loss.
                    let late = |n| if n == at + 60 { early } else { jitter(n) };
                    let (declared, off) = capture(3000, late, |n| if n == at { frames } else { 0 });
                    assert!(declared.abs_diff(frames) <= 480 * 3 / 10, "{declared} of {frames} from {at} on");
                    assert!(off.abs() < 4 * MILLI, "{frames} from {at} on: the line is off by {off} ns");
                }
                let (declared, _) = capture(3000, |_| 0, |n| if n == at { frames } else { 0 });
                assert_eq!(declared, frames, "from {at} on");
            }
        }
    }

    #[test]
    fn two_losses_in_a_row_are_counted_exactly() {
        for (first, second) in [(12_000, 12_000), (7_500, 9_300), (9_300, 7_500)] {
            for between in 1..600 {
                let lost = |n| match n {
                    300 => first,
                    n if n == 300 + between => second,
                    _ => 0,
                };
                let expected = (first + second, 0);
                assert_eq!(capture(2000, |_| 0, lost), expected, "{first} and {second}, {between} periods apart");
            }
        }
    }

    #[test]
    fn timestamps_of_a_broken_clock_declare_nothing_lost() {
        type Late = fn(u64) -> i64;
        let broken: [(&str, Late); 8] = [
            ("one stamp years late", |n| if n == 500 { 30 * YEAR } else { 0 }),
            ("one stamp years early", |n| if n == 500 { -30 * YEAR } else { 0 }),
            ("years late from then on", |n| if n >= 500 { 30 * YEAR } else { 0 }),
            ("years early from then on", |n| if n >= 500 { -30 * YEAR } else { 0 }),
            ("an hour early from then on", |n| if n >= 500 { -3_600_000 * MILLI } else { 0 }),
            ("to and fro", |n| if n % 20 == 7 { -(n as i64) * 1_000 * MILLI } else { 0 }),
            ("standing still for 5 s", |n| if (500..1000).contains(&n) { (500 - n as i64) * 10 * MILLI } else { 0 }),
            ("standing still for good", |n| if n >= 500 { (500 - n as i64) * 10 * MILLI } else { 0 }),
        ];
        for (what, late) in broken {
            // Sums of years need a start that is far enough from both ends.
            assert_eq!(capture_from(START + Duration::from_secs(2_000_000_000), 3000, late, |_| 0).0, 0, "{what}");
        }
    }

    #[test]
    fn no_timestamp_makes_it_panic() {
        let extremes = [0, 1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX, 1_790_000_000_000_000_000];
        let mut timeline = timeline();
        let (mut position, mut state) = (0, 1_u64);
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let measured =
                Timestamp::from_nanos(if state >> 63 == 0 { state << 1 } else { extremes[(state >> 40) as usize % 7] });
            if state >> 56 == 0 {
                timeline.rebase(position, measured);
            }
            position += if state >> 60 == 3 { timeline.missing(position, measured) } else { 480 };
            position += timeline.observe(position, measured);
            let _ = timeline.time_of(position.saturating_sub(479));
        }
    }
}
