//! The format of the sound, fixed when a stream is built.

use std::time::Duration;

use crate::Timestamp;

/// Highest sample rate, in Hz: PulseAudio carries up to 16 times 48 kHz.
const MAX_RATE_HZ: u32 = 768_000;
/// Most channels: the limit of a PulseAudio sample specification.
const MAX_CHANNELS: u16 = 32;
/// Shortest and longest block. Below 1 ms nearly all of the cost is the hand-over; above 100 ms the block itself is an
/// audible lag.
const BLOCK_SPAN: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(100);

/// Sample rate, channels and block length of a stream. Samples are interleaved `f32`, nominally -1 to 1.
///
/// ```
/// use aircheck_engine::Format;
/// use std::time::Duration;
///
/// let format = Format::new(48_000, 2, Duration::from_millis(10))?;
/// assert_eq!(format.block_frames(), 480);
/// assert_eq!(format.block_samples(), 960);
/// assert_eq!(format.position(3), 1440);
/// # Ok::<(), aircheck_engine::FormatError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    rate_hz: u32,
    channels: u16,
    block_frames: u32,
}

/// A sample rate, channel count or block length out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Outside 1 to 768,000 Hz.
    #[error("a sample rate of {0} Hz is not possible (choose 1 to {MAX_RATE_HZ})")]
    Rate(u32),
    /// Outside 1 to 32.
    #[error("{0} channels are not possible (choose 1 to {MAX_CHANNELS})")]
    Channels(u16),
    /// Outside 1 ms to 100 ms.
    #[error("a block of {0:?} is not possible (choose 1ms to 100ms)")]
    Block(Duration),
}

impl Format {
    /// Creates a format with blocks of length `block`, rounded to the nearest frame and at least one frame.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Format, FormatError};
    ///
    /// assert!(Format::new(48_000, 2, Duration::from_millis(10)).is_ok());
    /// assert_eq!(Format::new(0, 2, Duration::from_millis(10)), Err(FormatError::Rate(0)));
    /// ```
    ///
    /// # Errors
    ///
    /// `rate_hz` must be 1 to 768,000, `channels` 1 to 32 and `block` 1 ms to 100 ms.
    pub fn new(rate_hz: u32, channels: u16, block: Duration) -> Result<Self, FormatError> {
        if !(1..=MAX_RATE_HZ).contains(&rate_hz) {
            return Err(FormatError::Rate(rate_hz));
        }
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(FormatError::Channels(channels));
        }
        if !BLOCK_SPAN.contains(&block) {
            return Err(FormatError::Block(block));
        }
        let block_frames = (block.as_secs_f64() * f64::from(rate_hz)).round().max(1.0) as u32;
        Ok(Self { rate_hz, channels, block_frames })
    }

    /// Returns the frames per second.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Format;
    ///
    /// assert_eq!(Format::new(44_100, 2, Duration::from_millis(10))?.rate_hz(), 44_100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Returns the samples per frame.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Format;
    ///
    /// assert_eq!(Format::new(44_100, 2, Duration::from_millis(10))?.channels(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn channels(&self) -> u16 {
        self.channels
    }

    /// Returns the frames per block.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Format;
    ///
    /// assert_eq!(Format::new(44_100, 2, Duration::from_millis(10))?.block_frames(), 441);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn block_frames(&self) -> u32 {
        self.block_frames
    }

    /// Returns the samples per block: frames times channels.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Format;
    ///
    /// assert_eq!(Format::new(44_100, 2, Duration::from_millis(10))?.block_samples(), 882);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn block_samples(&self) -> usize {
        self.block_frames as usize * self.channels as usize
    }

    /// Returns the length of a block.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Format;
    ///
    /// assert_eq!(Format::new(48_000, 2, Duration::from_millis(10))?.block_span(), Duration::from_millis(10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn block_span(&self) -> Duration {
        self.span(self.block_frames as u64)
    }

    /// Returns the length of `frames` frames.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Format;
    ///
    /// assert_eq!(Format::new(48_000, 2, Duration::from_millis(10))?.span(96_000), Duration::from_secs(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn span(&self, frames: u64) -> Duration {
        // Whole seconds are separate, so that no product needs more than 64 bits: the callback computes this.
        let rate = self.rate_hz as u64;
        Duration::new(frames / rate, (frames % rate * 1_000_000_000 / rate) as u32)
    }

    /// Returns how many blocks cover `span`, rounded up, so that a second means at least a second. More than there are
    /// numbers become the highest number.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Format;
    ///
    /// assert_eq!(Format::new(48_000, 2, Duration::from_millis(10))?.blocks_in(Duration::from_secs(1)), 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn blocks_in(&self, span: Duration) -> u64 {
        let frames = (span.as_nanos() * self.rate_hz as u128).div_ceil(1_000_000_000);
        let blocks = frames.div_ceil(self.block_frames as u128);
        if blocks > u64::MAX as u128 { u64::MAX } else { blocks as u64 }
    }

    /// Returns how many blocks `span` is, rounded to the nearest.
    pub(crate) const fn nearest_block(&self, span: Duration) -> u64 {
        let frames = span.as_nanos() * self.rate_hz as u128 / 1_000_000_000;
        let block = self.block_frames as u128;
        ((frames + block / 2) / block) as u64
    }

    /// Returns the position of a block's first frame, in frames; the largest number where it is beyond. Blocks lie on a fixed
    /// grid: block 0 starts at frame 0, and a loss is a whole number of blocks.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Format;
    ///
    /// assert_eq!(Format::new(48_000, 2, Duration::from_millis(10))?.position(100), 48_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn position(&self, sequence: u64) -> u64 {
        sequence.saturating_mul(self.block_frames as u64)
    }

    /// Returns when the frame at `position` was due, if frame 0 was captured at `epoch`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Format, Timestamp};
    ///
    /// let format = Format::new(48_000, 2, Duration::from_millis(10))?;
    /// let start = Timestamp::from_nanos(0);
    /// assert_eq!(format.time_of(start, 48_000), start + Duration::from_secs(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn time_of(&self, epoch: Timestamp, position: u64) -> Timestamp {
        epoch + self.span(position)
    }
}
