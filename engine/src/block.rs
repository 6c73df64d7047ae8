//! The unit that goes through the rings: a fixed number of frames, with the number and times that it goes by.

use std::ops::Deref;

use crate::{Format, Timestamp};

/// Sequence number and times of a block, or of whatever was made from it. They are given where the sound is
/// captured and go with it everywhere; nothing downstream counts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Counts blocks from 0; a number that never arrives is a block that was lost.
    pub sequence: u64,
    /// When the first frame was captured.
    pub captured_at: Timestamp,
    /// When the dispatcher made it available to consumers.
    pub dispatched_at: Timestamp,
}

/// What a fan-out carries: a value and its stamp, made once, shared and immutable from then on. It can be used like
/// the value itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item<T> {
    /// Sequence number and times.
    pub stamp: Stamp,
    /// The value.
    pub value: T,
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A block of sound: `frames` frames of interleaved `f32` samples, nominally -1 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    format: Format,
    frames: u32,
    samples: Box<[f32]>,
}

impl Block {
    /// A silent block of full length, to be filled.
    pub(crate) fn silent(format: Format) -> Self {
        Self { format, frames: format.block_frames(), samples: vec![0.0; format.block_samples()].into() }
    }

    /// Makes this a block of `frames` frames and hands out all samples of a full one to be filled.
    pub(crate) fn refill(&mut self, frames: u32) -> &mut [f32] {
        self.frames = frames.min(self.format.block_frames());
        &mut self.samples
    }

    /// The stream's format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Frames in this block: the format's number, but for the last one of a stream, which may be shorter.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// The samples, interleaved: `frames` times channels of them.
    #[must_use]
    pub fn samples(&self) -> &[f32] {
        &self.samples[..self.frames as usize * self.format.channels() as usize]
    }
}

impl Item<Block> {
    /// Position of the first frame since the start of the stream, in frames.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.format.position(self.stamp.sequence)
    }
}
