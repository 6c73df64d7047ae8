//! What is known of time at the server, and so of latencies: from a block's capture to a stage on this side.

use std::time::Instant;

use crate::check::clock::Clock;
use crate::check::latency::Latencies;
use crate::client::block::Block;
use crate::play::Heard;

/// The clock of a server that can be asked, and how late its blocks are by it.
#[derive(Debug)]
pub(crate) struct Timing {
    /// Our time counts from here: unlike the system's it never jumps.
    started: Instant,
    clock: Clock,
    ask_at: Instant,
    /// From the capture of a block's first sample to when all of it had come.
    pub(crate) arrival: Latencies,
    /// From the same to when that sample was heard.
    pub(crate) ear: Latencies,
}

impl Timing {
    /// Nothing is known yet, and the time is to be asked at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, clock: Clock::default(), ask_at: now, arrival: Latencies::new(), ear: Latencies::new() }
    }

    /// When to ask the time next.
    pub(crate) fn ask_at(&self) -> Instant {
        self.ask_at
    }

    /// The question that is sent at `now`.
    pub(crate) fn ask(&mut self, now: Instant) -> f64 {
        self.ask_at = now + self.clock.ask();
        self.seconds(now)
    }

    /// The answer to the question `asked`, which came at `now`.
    pub(crate) fn answered(&mut self, asked: f64, server: f64, now: Instant) {
        self.clock.learn(asked, server, self.seconds(now));
    }

    /// A block came at `now`. Before anything is known of the clock, that tells nothing.
    pub(crate) fn arrived(&mut self, block: &Block, now: Instant) {
        let at = self.seconds(now);
        if let Some(offset) = self.clock.offset(at) {
            self.arrival.enter(block.captured_at, at, offset);
        }
    }

    /// A block was heard. Tells when that was by the server's clock, in Unix seconds, if that is known.
    pub(crate) fn heard(&mut self, heard: Heard) -> Option<f64> {
        let at = self.seconds(heard.at);
        let offset = self.clock.offset(at)?;
        self.ear.enter(heard.captured_at, at, offset);
        Some(at + offset.seconds)
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.started).as_secs_f64()
    }
}
