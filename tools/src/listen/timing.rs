//! Latencies of a stream's blocks by the server's clock: until they arrive, and until they are heard.

use std::time::Instant;

use aircheck_api::Clock;

use crate::check::{Latencies, ServerClock};

/// The server's clock, and how late blocks are by it.
#[derive(Debug)]
pub(crate) struct Timing {
    /// Our time counts from here: unlike the system's it never jumps.
    started: Instant,
    clock: ServerClock,
    ask_at: Instant,
    /// From the capture of a block's first sample until all of the block has come.
    pub(crate) arrival: Latencies,
    /// From the same until that sample is heard.
    pub(crate) ear: Latencies,
}

impl Timing {
    /// Begins without knowledge; the first question is due at once.
    pub(crate) fn new(now: Instant) -> Self {
        let clock = ServerClock::default();
        Self { started: now, clock, ask_at: now, arrival: Latencies::new(), ear: Latencies::new() }
    }

    /// Returns when the next question is due.
    pub(crate) fn ask_at(&self) -> Instant {
        self.ask_at
    }

    /// Returns the number of a question that is sent at `now`.
    pub(crate) fn ask(&mut self, now: Instant) -> f64 {
        self.ask_at = now + self.clock.ask();
        self.seconds(now)
    }

    /// Takes the answer to a question, which came at `now`.
    pub(crate) fn answered(&mut self, answer: Clock, now: Instant) {
        self.clock.learn(answer.asked, answer.now, self.seconds(now));
    }

    /// Enters a block that came at `now`. Before the first answer it is not counted.
    pub(crate) fn arrived(&mut self, captured_at: f64, now: Instant) {
        let at = self.seconds(now);
        if let Some(offset) = self.clock.offset(at) {
            self.arrival.enter(captured_at, at, offset);
        }
    }

    /// Enters a block that was heard, and returns when that was in Unix seconds by the server's clock, if that is
    /// known.
    pub(crate) fn heard(&mut self, captured_at: f64, heard_at: Instant) -> Option<f64> {
        let at = self.seconds(heard_at);
        let offset = self.clock.offset(at)?;
        self.ear.enter(captured_at, at, offset);
        Some(at + offset.seconds)
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.started).as_secs_f64()
    }
}
