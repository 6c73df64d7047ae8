//! A simulated input device: numbered frames, true times, and the timestamps that it reports.

use crate::{Format, Timestamp};

/// When the device starts.
const START: u64 = 1_790_000_000_000_000_000;
/// Frames that samples can tell apart, more than a schedule has. A sample has 23 bits: the lower 5 say its channel, and the
/// others how many frames were handed over before it.
const COUNTS: u64 = 1 << 18;
const CHANNELS: u64 = 32;

/// A device whose samples say which frame and channel they are. A frame has two numbers: how many frames were handed over
/// before it, and its place in time, for which lost frames count, too. The device remembers both.
#[derive(Debug)]
pub(super) struct Device {
    format: Format,
    /// Parts in a million by which the device is slower than its rate.
    drift_ppm: i64,
    /// Place in time of the next frame.
    pub(super) next: u64,
    /// Frames handed over, so far.
    pub(super) handed_over: u64,
    /// Where frames follow each other: how many were handed over before, and the place in time of the first.
    runs: Vec<(u64, u64)>,
    last_stamp: u64,
}

/// The timestamp of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamping {
    /// Late by this many ns; 0 is right.
    Late(u64),
    /// Early by this many ns.
    Early(u64),
    /// The one before, again.
    Frozen,
    /// Zero, the largest number, or anything.
    Any(u64),
}

impl Device {
    pub(super) fn new(format: Format, drift_ppm: i64) -> Self {
        Self { format, drift_ppm, next: 0, handed_over: 0, runs: vec![(0, 0)], last_stamp: START }
    }

    /// Returns the true time of a frame.
    pub(super) fn time_of(&self, frame: u64) -> u64 {
        let nominal = u128::from(frame) * 1_000_000_000 / u128::from(self.format.rate_hz());
        START + (nominal as i128 * i128::from(1_000_000 + self.drift_ppm) / 1_000_000) as u64
    }

    /// Loses frames.
    pub(super) fn lose(&mut self, frames: u64) {
        self.next += frames;
        self.runs.push((self.handed_over, self.next));
    }

    /// Hands over the next frames: their samples, and the reported time of the first.
    pub(super) fn period(&mut self, frames: u64, stamping: Stamping) -> (Vec<u32>, Timestamp) {
        let samples = self.samples(self.handed_over..self.handed_over + frames);
        let right = self.time_of(self.next);
        self.last_stamp = match stamping {
            Stamping::Late(nanos) => right + nanos,
            Stamping::Early(nanos) => right - nanos,
            Stamping::Frozen => self.last_stamp,
            Stamping::Any(nanos) => nanos,
        };
        self.next += frames;
        self.handed_over += frames;
        (samples, Timestamp::from_nanos(self.last_stamp))
    }

    /// Returns the place in time of the frame that was handed over after `before` others.
    fn frame(&self, before: u64) -> u64 {
        let run = self.runs.partition_point(|run| run.0 <= before) - 1;
        let (start, first) = self.runs[run];
        first + before - start
    }

    /// Finds a block's samples among the frames handed over after the first `from`. Returns how many frames were handed over
    /// before the block, and its first frame's place in time.
    pub(super) fn find(&self, samples: &[f32], from: u64) -> Result<(u64, u64), String> {
        let bits: Vec<u32> = samples.iter().map(|value| (value * (COUNTS * CHANNELS) as f32) as u32).collect();
        let before = u64::from(*bits.first().ok_or("an empty block")?) / CHANNELS;
        let after = before + (bits.len() / usize::from(self.format.channels())) as u64;
        super::ensure!(before >= from, "frame {before} came, and {from} or a later one is next");
        super::ensure!(after <= self.handed_over, "frames up to {after} came, and {} exist", self.handed_over);
        super::ensure!(bits == self.samples(before..after), "the frames {before}..{after} are not in order: {bits:?}");
        Ok((before, self.frame(before)))
    }

    /// Returns the bits of the samples of some frames.
    fn samples(&self, frames: std::ops::Range<u64>) -> Vec<u32> {
        let channels = u64::from(self.format.channels());
        frames
            .flat_map(|count| (0..channels).map(move |channel| (count % COUNTS * CHANNELS + channel) as u32))
            .collect()
    }
}

/// Returns samples as floats, nominally 0 to 1.
pub(super) fn floats(samples: &[u32]) -> Vec<f32> {
    samples.iter().map(|bits| *bits as f32 / (COUNTS * CHANNELS) as f32).collect()
}

/// Returns samples as 32-bit integers.
pub(super) fn integers(samples: &[u32]) -> Vec<i32> {
    samples.iter().map(|bits| (*bits as i32) << 8).collect()
}
