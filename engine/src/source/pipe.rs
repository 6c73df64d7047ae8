//! The pipe in front of a source: its drift is measured, and what stands in it is worked off.

use std::time::Duration;

use crate::drift::DriftMeter;
use crate::source::backlog::Backlog;
use crate::source::pull::Pull;
use crate::source::schedule::Schedule;
use crate::{CaptureTally, Format, Timestamp};

/// The most by which sound is made faster or slower: 9 cents, which is inaudible and more than two sound cards ever differ.
const MAX_FASTER: f64 = 0.005;
/// An excess is worn down in about this time.
const PULL_SECONDS: f64 = 10.0;
/// What a source whose speed can be changed keeps in the pipe, so that a writer that is a little late leaves no hole: ten
/// portions of reading.
const TARGET_SECONDS: f64 = 0.02;
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

    /// Returns the length of the sound that waits, if its writer is known to go at the pace of its sound.
    pub(super) fn behind(&self, pull: &impl Pull) -> Option<Duration> {
        let waiting = pull.waiting().filter(|_| self.backlog.is_live())?;
        Some(self.format.span(waiting.frames))
    }

    /// Notes that the sound had stopped.
    pub(super) fn pause(&mut self) {
        self.backlog.restart();
    }

    /// Looks at the pipe at `now`, after a portion was read. Returns whether times start anew, because sound that stands in
    /// the pipe was found or is gone.
    pub(super) fn look(
        &mut self,
        pull: &mut impl Pull,
        schedule: &mut Schedule,
        tally: &CaptureTally,
        now: Timestamp,
    ) -> bool {
        let Some(waiting) = pull.waiting() else { return false };
        let read = waiting.taken.saturating_sub(self.taken);
        self.taken = waiting.taken;
        if self.backlog.is_live()
            && let Some(drift) = self.drift.observe(waiting.taken + waiting.frames, now)
        {
            self.drift_share = drift.ppm * 1e-6;
            tally.set_drift(drift);
        }
        let Some(standing) = self.backlog.observe(read, waiting, now) else { return false };
        let span = self.format.span(standing);
        tally.set_waiting(span);
        if self.has_speed {
            let excess = span.as_secs_f64() - TARGET_SECONDS;
            let wanted = if self.backlog.is_live() { self.drift_share + excess / PULL_SECONDS } else { 0.0 };
            pull.set_faster(wanted.clamp(-MAX_FASTER, MAX_FASTER));
            let before = std::mem::replace(&mut schedule.waited, span);
            return before.abs_diff(span) > MAX_STEP;
        }
        if !self.backlog.work_off(standing) {
            return false;
        }
        schedule.advance(span);
        self.backlog.restart();
        true
    }
}
