//! The pipe in front of a source: its drift is measured, and what stands in it is worked off.

use std::time::Duration;

use crate::drift::DriftMeter;
use crate::source::backlog::Backlog;
use crate::source::pull::{Pull, Waiting};
use crate::source::schedule::{Behind, Schedule};
use crate::{CaptureStats, Format, Timestamp};

/// The most by which sound is made faster or slower: 9 cents, which is inaudible and more than two sound cards ever differ.
const MAX_FASTER: f64 = 0.005;
/// An excess is worn down in about this time.
const PULL_SECONDS: f64 = 10.0;
/// What a source whose speed can be changed keeps in the pipe, so that a writer that is a little late leaves no hole: ten
/// portions of reading.
const TARGET_SECONDS: f64 = 0.02;
/// The most that is worked off at once. More would not find room behind the capture, whose ring holds a third of a second and whose
/// consumers often hold a second, and it would look like lag; the rest follows after the next look.
const MAX_AT_ONCE: Duration = Duration::from_millis(200);
/// From a change of the wait that is larger than this, times start anew. They follow smaller ones by themselves.
const MAX_STEP: Duration = Duration::from_millis(20);

/// What is known of the pipe. Without one it does nothing.
#[derive(Debug)]
pub(super) struct Pipe {
    format: Format,
    /// Whether the speed of the sound can be changed, or else all is read at once.
    has_speed: bool,
    backlog: Backlog,
    drift: DriftMeter,
    drift_share: f64,
    taken: u64,
}

impl Pipe {
    pub(super) fn new(format: Format, pull: &mut impl Pull) -> Self {
        Self {
            format,
            has_speed: pull.set_faster(0.0),
            backlog: Backlog::new(format),
            drift: DriftMeter::new(format.rate_hz()),
            drift_share: 0.0,
            taken: 0,
        }
    }

    /// Returns what is known of the sound behind the portion that was just read.
    pub(super) fn behind(&self, waiting: Option<Waiting>) -> Behind {
        let span = waiting.map_or(Duration::ZERO, |waiting| self.format.span(waiting.frames));
        Behind { span, may_grow: self.backlog.is_live() }
    }

    /// Notes that the sound had stopped.
    pub(super) fn pause(&mut self) {
        self.backlog.restart();
    }

    /// Takes a look at the pipe into account: `waiting` was there at `now` or a little earlier, never later, because a frame
    /// that came later would seem to have come early. Returns whether times start anew, because sound that stands in the
    /// pipe was found or is gone.
    pub(super) fn look(
        &mut self,
        waiting: Waiting,
        now: Timestamp,
        pull: &mut impl Pull,
        schedule: &mut Schedule,
        stats: &CaptureStats,
    ) -> bool {
        let read = waiting.taken.saturating_sub(self.taken);
        self.taken = waiting.taken;
        if waiting.frames > waiting.capacity / 4 * 3 {
            // The writer waits for this side, and says nothing of its own clock.
            self.drift.restart();
        } else if self.backlog.is_live()
            && let Some(drift) = self.drift.observe(waiting.taken + waiting.frames, now)
        {
            self.drift_share = drift.ppm * 1e-6;
            stats.set_drift(drift);
        }
        let Some(standing) = self.backlog.observe(read, waiting, now) else { return false };
        let span = self.format.span(standing);
        stats.set_waiting(span);
        if self.has_speed {
            let excess = span.as_secs_f64() - TARGET_SECONDS;
            let wanted = if self.backlog.is_live() { self.drift_share + excess / PULL_SECONDS } else { 0.0 };
            pull.set_faster(wanted.clamp(-MAX_FASTER, MAX_FASTER));
            let before = std::mem::replace(&mut schedule.waited, span);
            return before.abs_diff(span) > MAX_STEP;
        }
        let at_once = standing.min(self.format.position(self.format.blocks_in(MAX_AT_ONCE)));
        if !self.backlog.work_off(at_once) {
            return false;
        }
        schedule.advance(self.format.span(at_once));
        self.backlog.restart();
        true
    }
}
