//! What arrived so far: the account, the level and the pace. Time is given to it.

use std::time::{Duration, Instant};

use crate::check::ledger::{Ledger, Notice};
use crate::client::block::{Block, Gap};
use crate::client::format::Format;
use crate::listen::level::Level;

/// Shortest time over which a rate is measured. A 10 ms block more or less is 1 % of it.
const RATE_SPAN: Duration = Duration::from_secs(1);

/// Everything that the progress line and the summary show.
#[derive(Debug)]
pub(crate) struct Received {
    /// Rate and channels.
    pub(crate) format: Format,
    /// What came and what didn't.
    pub(crate) ledger: Ledger,
    /// Blocks that came.
    pub(crate) blocks: u64,
    /// Their frames.
    pub(crate) frames: u64,
    /// Their level from the beginning.
    pub(crate) level: Level,
    /// Their level since [`take_recent_level`](Self::take_recent_level).
    recent: Level,
    block_frames: Option<u64>,
    arrival: Option<Arrival>,
}

/// When blocks came, and how far in the stream that was.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    first_at: Instant,
    first_end: u64,
    last_at: Instant,
    last_end: u64,
    /// When the last block's end was captured: Unix seconds by the server's clock.
    captured_end: f64,
}

impl Received {
    /// Nothing yet, of a stream that was asked to start at `asked_from`, or just now.
    pub(crate) fn new(format: Format, asked_from: Option<u64>) -> Self {
        Self {
            format,
            ledger: Ledger::new(asked_from),
            blocks: 0,
            frames: 0,
            level: Level::default(),
            recent: Level::default(),
            block_frames: None,
            arrival: None,
        }
    }

    /// Enters a gap line.
    pub(crate) fn gap(&mut self, gap: &Gap) -> Vec<Notice> {
        self.ledger.gap(gap)
    }

    /// Enters a block that came at `now`; tells whether its samples are to be used.
    pub(crate) fn block(&mut self, block: &Block, now: Instant) -> (bool, Vec<Notice>) {
        let notices = self.ledger.block(block);
        if notices.iter().any(|notice| matches!(notice, Notice::Repeated { .. })) {
            return (false, notices);
        }
        self.blocks += 1;
        self.frames += block.frames;
        self.level.add(&block.samples);
        self.recent.add(&block.samples);
        // Only a stream's last block may be shorter than the others.
        self.block_frames = self.block_frames.max(Some(block.frames));
        let end = block.position.saturating_add(block.frames);
        let arrival = self.arrival.get_or_insert(Arrival {
            first_at: now,
            first_end: end,
            last_at: now,
            last_end: end,
            captured_end: 0.0,
        });
        arrival.last_at = now;
        arrival.last_end = end;
        arrival.captured_end = block.captured_at + block.frames as f64 / f64::from(self.format.rate_hz);
        (true, notices)
    }

    /// Since when blocks have been coming.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.arrival.map(|arrival| arrival.first_at)
    }

    /// How long it took from the first block to the last.
    pub(crate) fn took(&self) -> Duration {
        self.arrival.map_or(Duration::ZERO, |arrival| arrival.last_at - arrival.first_at)
    }

    /// The level since the last time this was asked.
    pub(crate) fn take_recent_level(&mut self) -> Level {
        std::mem::take(&mut self.recent)
    }

    /// How long `blocks` blocks sound; `None` before there was one to tell.
    pub(crate) fn span_of(&self, blocks: u64) -> Option<Duration> {
        self.block_frames.map(|frames| self.format.span(frames.saturating_mul(blocks)))
    }

    /// How far the end of the last block lies behind `unix_now`, in seconds; negative where the clocks disagree.
    pub(crate) fn behind(&self, unix_now: f64) -> Option<f64> {
        self.arrival.map(|arrival| unix_now - arrival.captured_end)
    }

    /// How many frames the stream went on for each second that passed here, lost ones included. What the server
    /// kept from earlier (`from`, `burst`) comes faster than its sound, and shows.
    pub(crate) fn measured_rate_hz(&self) -> Option<f64> {
        let arrival = self.arrival?;
        let took = self.took();
        let frames = arrival.last_end.checked_sub(arrival.first_end)?;
        (took >= RATE_SPAN).then(|| frames as f64 / took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(sequence: u64) -> Block {
        let captured_at = 1000.0 + sequence as f64 / 100.0;
        Block { sequence, position: sequence * 480, captured_at, frames: 480, samples: vec![0.5; 480] }
    }

    #[test]
    fn the_rate_is_the_stream_s_pace_with_what_was_lost() {
        let start = Instant::now();
        let mut received = Received::new(Format { rate_hz: 48_000, channels: 1 }, None);
        for sequence in (0..=200).filter(|sequence| !(50..60).contains(sequence)) {
            received.block(&block(sequence), start + Duration::from_millis(sequence * 10));
        }
        assert_eq!(received.measured_rate_hz(), Some(48_000.0));
        assert_eq!((received.blocks, received.frames, received.ledger.lost()), (191, 191 * 480, 10));
        assert_eq!(received.span_of(10), Some(Duration::from_millis(100)));
        assert_eq!(received.took(), Duration::from_secs(2));
    }

    #[test]
    fn behind_counts_from_the_end_of_the_newest_block() {
        let mut received = Received::new(Format { rate_hz: 48_000, channels: 1 }, None);
        assert_eq!(received.behind(1000.0), None);
        received.block(&block(5), Instant::now());
        assert!((received.behind(1000.072).unwrap() - 0.012).abs() < 1e-6);
    }

    #[test]
    fn a_repeated_block_is_not_to_be_used() {
        let mut received = Received::new(Format { rate_hz: 48_000, channels: 1 }, None);
        let now = Instant::now();
        assert!(received.block(&block(5), now).0);
        assert!(!received.block(&block(5), now).0);
        assert_eq!(received.blocks, 1);
    }

    #[test]
    fn the_recent_level_starts_anew_each_time() {
        let mut received = Received::new(Format { rate_hz: 48_000, channels: 1 }, None);
        received.block(&block(0), Instant::now());
        assert!((received.take_recent_level().peak_dbfs() + 6.02).abs() < 0.01);
        assert_eq!(received.take_recent_level(), Level::default());
        assert!((received.level.peak_dbfs() + 6.02).abs() < 0.01);
    }
}
