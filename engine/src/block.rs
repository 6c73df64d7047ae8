//! The unit of sound that goes through the rings: a fixed number of frames.

use crate::{Format, Item, Origin};

/// A block of sound: a number of frames of interleaved `f32` samples, nominally -1 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    format: Format,
    frames: u32,
    origin: Origin,
    epoch: u32,
    samples: Box<[f32]>,
}

impl Block {
    /// Creates a silent block of full length, to be filled.
    pub(crate) fn silent(format: Format) -> Self {
        let samples = vec![0.0; format.block_samples()].into();
        Self { format, frames: format.block_frames(), origin: Origin::Source, epoch: 0, samples }
    }

    /// Creates a block of these interleaved samples. Those beyond a full block are left out, and so is half a frame.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Block, Format};
    ///
    /// let format = Format::new(48_000, 2, Duration::from_millis(10))?;
    /// let block = Block::of(format, &[0.5; 20]);
    /// assert_eq!((block.frames(), block.samples().len()), (10, 20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn of(format: Format, samples: &[f32]) -> Self {
        let mut block = Self::silent(format);
        let frames = (samples.len() / usize::from(format.channels())).min(format.block_frames() as usize);
        let count = frames * usize::from(format.channels());
        block.samples[..count].copy_from_slice(&samples[..count]);
        block.frames = frames as u32;
        block
    }

    /// Sets length and origin to those of a [marked](Origin::mark) number of frames, and the epoch, and returns the samples of a
    /// full block to be filled.
    pub(crate) fn refill(&mut self, length: u32, epoch: u32) -> &mut [f32] {
        let (origin, frames) = Origin::parse(length);
        (self.origin, self.epoch) = (origin, epoch);
        self.frames = frames.min(self.format.block_frames());
        &mut self.samples
    }

    /// Returns the stream's format.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Block, Format};
    ///
    /// let format = Format::new(48_000, 2, Duration::from_millis(10))?;
    /// assert_eq!(Block::of(format, &[]).format(), format);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns where the sound comes from.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Block, Format, Origin};
    ///
    /// let format = Format::new(48_000, 2, Duration::from_millis(10))?;
    /// assert_eq!(Block::of(format, &[0.5; 960]).origin(), Origin::Source);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns how often another server, of whose stream the block is, was started anew while it was heard: its own numbers began
    /// anew with the first block of each run. Always 0 for other sources.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Block, Format};
    ///
    /// let format = Format::new(48_000, 2, Duration::from_millis(10))?;
    /// assert_eq!(Block::of(format, &[0.5; 960]).epoch(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns the frames in this block: the format's number, except in the last block of a stream, which may be
    /// shorter.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Block, Format};
    ///
    /// let format = Format::new(48_000, 2, Duration::from_millis(10))?;
    /// assert_eq!(Block::of(format, &[0.5; 2000]).frames(), 480);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Returns the interleaved samples: `frames` times channels of them.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Block, Format};
    ///
    /// let format = Format::new(48_000, 1, Duration::from_millis(10))?;
    /// let block = Block::of(format, &[0.25, -0.5]);
    /// let peak = block.samples().iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
    /// assert_eq!(peak, 0.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn samples(&self) -> &[f32] {
        &self.samples[..self.frames as usize * self.format.channels() as usize]
    }
}

impl Item<Block> {
    /// Returns the position of the first frame since the start of the stream, in frames.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Block, Format, Item, Stamp};
    ///
    /// let format = Format::new(48_000, 1, Duration::from_millis(10))?;
    /// let stamp = Stamp { sequence: 3, ..Stamp::default() };
    /// assert_eq!(Item { stamp, value: Block::of(format, &[]) }.position(), 1440);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn position(&self) -> u64 {
        self.format.position(self.stamp.sequence)
    }
}
