//! When each portion of a paced source is due, and when it counts as captured.

use std::time::Duration;

use crate::source::pull::Arrival;
use crate::{Format, Timestamp};

/// A source with [`Arrival::External`] that is later than this has paused: its time starts anew.
const MAX_EXTERNAL_LATENESS: Duration = Duration::from_millis(20);
/// A live writer that is later than this has paused, however much it writes afterwards. Less than the second without sound
/// after which a source counts as silent.
const MAX_HELD_UP: Duration = Duration::from_millis(800);
/// A live writer that was held up is on time again after this, or has paused.
const CATCH_UP_TIME: Duration = Duration::from_secs(1);
/// Time between two checks whether sound that comes late comes faster than its pace. A program's period is shorter.
const FASTER_CHECK_INTERVAL: Duration = Duration::from_millis(150);
/// Sound that is computed or on disk catches up after a stall, so that its times stay exact. After a longer one, such as
/// a suspended machine, its time starts anew: hours of sound in one burst would overflow the ring of every consumer.
const MAX_COMPUTED_LATENESS: Duration = Duration::from_secs(10);

/// Intended times of a source's frames: `epoch + position / rate`. Time is an argument.
#[derive(Debug)]
pub(super) struct Schedule {
    format: Format,
    max_lateness: Duration,
    epoch: Timestamp,
    position: u64,
    /// How long before these times the frames came, and waited in front of the source.
    pub(super) waited: Duration,
    /// Since when every portion of a live writer has been late.
    late_since: Option<Timestamp>,
    /// While late sound is left out: when that was checked last, and how late it was.
    left_out: Option<(Timestamp, Duration)>,
}

/// The sound that waits behind a portion.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// Its length.
    pub(super) span: Duration,
    /// Whether more may come than the writer's pace gives: the writer is live, and may have been held up.
    pub(super) may_grow: bool,
}

/// Times of one portion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// When its first frame counts as captured.
    pub(super) captured_at: Timestamp,
    /// When its last frame has sounded, and it may be written.
    pub(super) due: Timestamp,
    /// Whether time has started anew with it.
    pub(super) restarts: bool,
}

impl Schedule {
    pub(super) fn new(format: Format, is_live: bool, arrival: Arrival, now: Timestamp) -> Self {
        let max_lateness = match arrival {
            Arrival::External => MAX_EXTERNAL_LATENESS,
            Arrival::Computed if is_live => MAX_COMPUTED_LATENESS,
            // The source goes as slowly as its consumers.
            Arrival::Computed => Duration::MAX,
        };
        Self { format, max_lateness, epoch: now, position: 0, waited: Duration::ZERO, late_since: None, left_out: None }
    }

    /// Places the next portion, of `frames` frames, which is there at `now`, with the sound of `behind` behind it.
    ///
    /// A portion that is late by no more than what waits was held up, and so were those that wait: they catch up. Where
    /// less waits, a live writer may have been held up itself, and then the rest comes soon. If it does not, the sound had
    /// paused.
    pub(super) fn portion(&mut self, frames: u64, behind: Behind, now: Timestamp) -> Portion {
        let mut begins_at = self.format.time_of(self.epoch, self.position);
        let late = now.since(begins_at);
        let is_late = late > self.max_lateness.saturating_add(behind.span);
        let late_since = if is_late { Some(self.late_since.unwrap_or(now)) } else { None };
        let may_come = behind.may_grow && late <= MAX_HELD_UP;
        let restarts = late_since.is_some_and(|since| !may_come || now.since(since) >= CATCH_UP_TIME);
        self.late_since = if restarts { None } else { late_since };
        self.left_out = None;
        if restarts {
            (self.epoch, self.position, begins_at) = (now, 0, now);
        }
        self.position += frames;
        let captured_at = begins_at - self.waited;
        Portion { captured_at, due: self.format.time_of(self.epoch, self.position), restarts }
    }

    /// Returns whether the next portion, of `frames` frames, is to be left out because something else was heard in its place.
    ///
    /// A live writer that was held up writes afterwards, as fast as it can, what was captured meanwhile. To play that too
    /// would make everything after it late. So it is left out until the writer is on time again, or is no faster than its
    /// pace: then its sound is new. That cannot be known before some of it has come.
    pub(super) fn leave_out(&mut self, frames: u64, behind: Behind, now: Timestamp) -> bool {
        let late = now.since(self.format.time_of(self.epoch, self.position));
        let checked = self.left_out.take().or_else(|| (behind.may_grow && late > MAX_HELD_UP).then_some((now, late)));
        let Some((checked_at, late_before)) = checked.filter(|_| late > self.max_lateness.saturating_add(behind.span))
        else {
            return false;
        };
        let is_check = now.since(checked_at) >= FASTER_CHECK_INTERVAL;
        if is_check && late_before.saturating_sub(late) < FASTER_CHECK_INTERVAL / 2 {
            return false;
        }
        self.left_out = Some(if is_check { (now, late) } else { (checked_at, late_before) });
        self.position += frames;
        true
    }

    /// Makes all that is to come due so much earlier, so that it is read at once. It was captured as much earlier.
    pub(super) fn advance(&mut self, by: Duration) {
        self.epoch = self.epoch - by;
    }

    /// Returns when the next frame was captured, by the schedule.
    pub(super) fn next_captured_at(&self) -> Timestamp {
        self.format.time_of(self.epoch, self.position) - self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const NONE: Behind = Behind { span: Duration::ZERO, may_grow: false };

    /// Portions of 10 ms.
    fn schedule(arrival: Arrival) -> Schedule {
        Schedule::new(Format::new(48_000, 1, Duration::from_millis(10)).unwrap(), true, arrival, START)
    }

    /// What waits behind a portion of a live writer.
    fn live(behind: u64) -> Behind {
        Behind { span: millis(behind), may_grow: true }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn computed_sound_keeps_its_times_over_a_stall() {
        let mut schedule = schedule(Arrival::Computed);
        schedule.portion(480, NONE, START);
        let late = schedule.portion(480, NONE, START + millis(9_000));
        assert_eq!(late, Portion { captured_at: START + millis(10), due: START + millis(20), restarts: false });
    }

    #[test]
    fn external_sound_starts_anew_after_a_pause() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, NONE, START);
        let on_time = schedule.portion(480, NONE, START + millis(30));
        assert_eq!((on_time.captured_at, on_time.restarts), (START + millis(10), false));
        let paused = schedule.portion(480, NONE, START + millis(90));
        assert_eq!((paused.captured_at, paused.restarts), (START + millis(90), true));
    }

    #[test]
    fn a_live_writer_that_was_held_up_keeps_its_times() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, NONE, START);
        let late = schedule.portion(480, live(500), START + millis(510));
        assert_eq!(late, Portion { captured_at: START + millis(10), due: START + millis(20), restarts: false });
        // The pipe is empty for the moment.
        let later = schedule.portion(480, live(0), START + millis(510));
        assert_eq!(later, Portion { captured_at: START + millis(20), due: START + millis(30), restarts: false });
    }

    /// The thread was late, not the writer.
    #[test]
    fn a_full_pipe_keeps_its_times() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, NONE, START);
        let behind = Behind { span: millis(300), ..NONE };
        assert!(!schedule.portion(480, behind, START + millis(320)).restarts);
        assert!(schedule.portion(480, behind, START + millis(350)).restarts);
    }

    #[test]
    fn a_live_writer_that_does_not_catch_up_had_paused() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, NONE, START);
        let portion = |n: u64| schedule.portion(480, live(0), START + millis(400 + 10 * n));
        let restarts: Vec<u64> = (1..300).map(portion).zip(1..).filter(|(p, _)| p.restarts).map(|(_, n)| n).collect();
        assert_eq!(restarts, [101]);
    }

    #[test]
    fn a_live_writer_that_stops_for_long_has_paused() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, NONE, START);
        assert!(schedule.portion(480, live(0), START + millis(900)).restarts);
    }

    #[test]
    fn sound_that_stood_in_a_pipe_is_due_and_was_captured_earlier() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, NONE, START);
        schedule.advance(millis(300));
        assert_eq!(schedule.next_captured_at(), START - millis(290));
        let next = schedule.portion(480, live(300), START + millis(10));
        assert_eq!(next, Portion { captured_at: START - millis(290), due: START - millis(280), restarts: false });
    }

    /// Guards against an hour of sound that is computed and written in one burst.
    #[test]
    fn a_suspended_machine_does_not_catch_up() {
        let mut schedule = schedule(Arrival::Computed);
        schedule.portion(480, NONE, START);
        let resumed = START + HOUR;
        let first = schedule.portion(480, NONE, resumed);
        assert_eq!(first, Portion { captured_at: resumed, due: resumed + millis(10), restarts: true });
        let second = schedule.portion(480, NONE, resumed + millis(10));
        assert_eq!(second, Portion { captured_at: resumed + millis(10), due: resumed + millis(20), restarts: false });
    }

    #[test]
    fn sound_that_comes_late_is_left_out_until_the_writer_is_on_time() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, live(0), START);
        // Held up for 2 s, the writer catches up ten times as fast as it plays, and then keeps its pace.
        let (mut now, mut left_out) = (START + millis(2010), 0);
        while schedule.leave_out(480, live(0), now) {
            (now, left_out) = (now + millis(1), left_out + 1);
        }
        assert!((215..=222).contains(&left_out), "{left_out} portions of 10 ms");
        assert!(!schedule.portion(480, live(0), now).restarts, "its times go on");
    }

    #[test]
    fn sound_that_keeps_its_pace_after_a_pause_is_new() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, live(0), START);
        let back = START + millis(2010);
        assert!(!schedule.leave_out(480, NONE, back), "a writer without a pace of its own");
        // A writer that was held up and has dropped its sound itself.
        let left_out = (0..1000).take_while(|n| schedule.leave_out(480, live(0), back + millis(10 * n))).count();
        assert_eq!(left_out, 15);
        assert!(schedule.portion(480, live(0), back + millis(150)).restarts);
    }
}
