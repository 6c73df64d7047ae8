//! The traits of a source, before and after it was started.

use std::fmt;

#[cfg(feature = "device")]
use super::device::error::DeviceError;
use crate::Capture;

/// Sound that is opened but not started. Its format does not change any more.
pub trait Source: Send {
    /// Returns the frames per second: 1 to 768,000 Hz.
    fn rate_hz(&self) -> u32;

    /// Returns the samples per frame: 1 to 32.
    fn channels(&self) -> u16;

    /// Returns the bits of a sample, for a source of integers of a known width; `None` by default. They say how many bits
    /// are worth keeping, in a recording say.
    fn sample_bits(&self) -> Option<u16> {
        None
    }

    /// Returns a few words for people: "microphone “USB Audio”".
    fn description(&self) -> String;

    /// Starts the source. It writes to `capture` from a thread of its own until it ends or is stopped, and then drops
    /// `capture`; if it fails, it calls [`Capture::fail`]. A panic of that thread is a failure, too.
    ///
    /// # Errors
    ///
    /// When the device or the system refuses.
    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError>;
}

/// A source that was started.
pub trait Running: Send + fmt::Debug {
    /// Stops the source. Returns within a second even if the device hangs; the source's thread is left behind then.
    fn stop(self: Box<Self>);
}

/// The reason why a source did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The device refused.
    #[cfg(feature = "device")]
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The source's format cannot be converted to that of the stream.
    #[error("the source's format cannot be used: {0}")]
    Format(String),
    /// A supervised source was supervised once more.
    #[error("a source has one supervisor (supervise the source itself)")]
    Nested,
    /// The system refused a thread.
    #[error("cannot start a thread for the source: {0} (raise the limit of threads)")]
    Thread(#[source] std::io::Error),
}
