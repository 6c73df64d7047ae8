//! The stream so far: its account, level and pace. The time is an argument.

use std::time::{Duration, Instant};

use aircheck_api::StreamFormat;

use super::level::LevelMeter;
use crate::check::{Ledger, Notice};
use crate::client::Block;

/// Shortest time over which a rate is measured. A 10 ms block more or less is 1 % of it.
const MIN_RATE_SPAN: Duration = Duration::from_secs(1);

/// Everything that the progress line and the summary show of a stream.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) format: StreamFormat,
    /// Which blocks came and which are missing.
    pub(crate) ledger: Ledger,
    /// Blocks that came.
    pub(crate) blocks: u64,
    pub(crate) frames: u64,
    pub(crate) level: LevelMeter,
    /// Level of the blocks since [`take_recent_level`](Self::take_recent_level).
    recent: LevelMeter,
    arrival: Option<Arrival>,
}

/// When the first and the last block came, and where they end in the stream, in frames.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    first_at: Instant,
    first_end: u64,
    last_at: Instant,
    last_end: u64,
}

impl Reception {
    /// Begins a stream that was requested from a sequence number on, or from the live head.
    pub(crate) fn new(format: StreamFormat, requested: Option<u64>) -> Self {
        Self {
            format,
            ledger: Ledger::new(requested),
            blocks: 0,
            frames: 0,
            level: LevelMeter::default(),
            recent: LevelMeter::default(),
            arrival: None,
        }
    }

    /// Enters a block that came at `now`, and returns whether its samples are to be used.
    pub(crate) fn block(&mut self, block: &Block, now: Instant) -> (bool, Vec<Notice>) {
        let notices = self.ledger.block(block.sequence);
        if notices.iter().any(|notice| matches!(notice, Notice::Repeated { .. })) {
            return (false, notices);
        }
        self.blocks += 1;
        self.frames += block.frames;
        self.level.add(&block.samples);
        self.recent.add(&block.samples);
        // Blocks lie on a fixed grid; only a stream's last may be shorter than the others.
        let position = block.sequence.saturating_mul(self.format.block_frames.into());
        let end = position.saturating_add(block.frames);
        let arrival =
            self.arrival.get_or_insert(Arrival { first_at: now, first_end: end, last_at: now, last_end: end });
        arrival.last_at = now;
        arrival.last_end = end;
        (true, notices)
    }

    /// Returns when the first block came.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.arrival.map(|arrival| arrival.first_at)
    }

    /// Returns the time from the first block to the last.
    pub(crate) fn took(&self) -> Duration {
        self.arrival.map_or(Duration::ZERO, |arrival| arrival.last_at - arrival.first_at)
    }

    /// Returns the level since the last call.
    pub(crate) fn take_recent_level(&mut self) -> LevelMeter {
        std::mem::take(&mut self.recent)
    }

    /// Returns how long so many blocks sound.
    pub(crate) fn span_of(&self, blocks: u64) -> Duration {
        self.format.span(blocks.saturating_mul(self.format.block_frames.into()))
    }

    /// Returns how many frames the stream went on for each second that passed here, lost ones included. Sound that the
    /// server kept from earlier (`from`, `burst`) comes faster than it plays, and makes the rate higher.
    pub(crate) fn measured_rate_hz(&self) -> Option<f64> {
        let arrival = self.arrival?;
        let took = self.took();
        let frames = arrival.last_end.checked_sub(arrival.first_end)?;
        (took >= MIN_RATE_SPAN).then(|| frames as f64 / took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: StreamFormat = StreamFormat { rate_hz: 48_000, channels: 1, block_frames: 480, block_seconds: 0.01 };

    fn block(sequence: u64) -> Block {
        Block { sequence, captured_at: 0.0, frames: 480, samples: vec![0.5; 480] }
    }

    #[test]
    fn the_measured_rate_includes_lost_blocks() {
        let start = Instant::now();
        let mut reception = Reception::new(FORMAT, None);
        for sequence in (0..=200).filter(|sequence| !(50..60).contains(sequence)) {
            reception.block(&block(sequence), start + Duration::from_millis(sequence * 10));
        }
        assert_eq!(reception.measured_rate_hz(), Some(48_000.0));
        assert_eq!((reception.blocks, reception.frames, reception.ledger.lost()), (191, 191 * 480, 10));
        assert_eq!(reception.span_of(10), Duration::from_millis(100));
        assert_eq!(reception.took(), Duration::from_secs(2));
    }

    #[test]
    fn a_repeated_block_is_not_used() {
        let mut reception = Reception::new(FORMAT, None);
        let now = Instant::now();
        assert!(reception.block(&block(5), now).0);
        assert!(!reception.block(&block(5), now).0);
        assert_eq!(reception.blocks, 1);
    }

    #[test]
    fn the_recent_level_starts_anew_each_time() {
        let mut reception = Reception::new(FORMAT, None);
        reception.block(&block(0), Instant::now());
        assert!((reception.take_recent_level().peak_dbfs() + 6.02).abs() < 0.01);
        assert_eq!(reception.take_recent_level(), LevelMeter::default());
        assert!((reception.level.peak_dbfs() + 6.02).abs() < 0.01);
    }
}
