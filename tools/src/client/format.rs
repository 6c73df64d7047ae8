//! Sample rate and channels of a stream.

use std::time::Duration;

/// Highest rate in Hz and most channels that aircheck streams; more is taken for a mistake.
pub(crate) const MAX_RATE_HZ: u32 = 768_000;
pub(crate) const MAX_CHANNELS: u16 = 32;

/// Sample rate and channels of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Frames per second.
    pub(crate) rate_hz: u32,
    /// Samples per frame.
    pub(crate) channels: u16,
}

impl Format {
    /// A format as a server states it.
    ///
    /// # Errors
    ///
    /// Says which number is no rate or no number of channels.
    pub(crate) fn new(rate_hz: u32, channels: u32) -> Result<Self, String> {
        if !(1..=MAX_RATE_HZ).contains(&rate_hz) {
            return Err(format!("it says {rate_hz} Hz, not 1 to {MAX_RATE_HZ}"));
        }
        match u16::try_from(channels) {
            Ok(channels @ 1..=MAX_CHANNELS) => Ok(Self { rate_hz, channels }),
            _ => Err(format!("it says {channels} channels, not 1 to {MAX_CHANNELS}")),
        }
    }

    /// How long `frames` frames sound.
    pub(crate) fn span(&self, frames: u64) -> Duration {
        Duration::try_from_secs_f64(frames as f64 / f64::from(self.rate_hz)).unwrap_or(Duration::MAX)
    }
}
