//! Where sound comes from: one trait, and one file for each source.

mod device;
mod paced;
mod pcm;
mod synth;
mod wav;

use std::fmt;

pub use device::{Device, DeviceError, DeviceInfo, Wanted, devices, host};
pub use paced::{Arrival, Paced, Pull};
pub use pcm::{Pcm, PcmEncoding};
pub use synth::{Demo, Tone};
pub use wav::{Wav, WavError};

use crate::Capture;

/// Something that makes sound, opened but not started. Its format does not change any more.
pub trait Source: Send {
    /// Frames per second.
    fn rate_hz(&self) -> u32;

    /// Samples per frame.
    fn channels(&self) -> u16;

    /// Bits of a sample, if it is a source of integers of a known width; `None` by default.
    fn sample_bits(&self) -> Option<u16> {
        None
    }

    /// What it is, in a few words for people: "microphone `USB Audio`".
    fn description(&self) -> String;

    /// Starts it. It writes to `capture` from a thread of its own until it ends or is stopped, and then drops it.
    ///
    /// # Errors
    ///
    /// When the device or the system does not let it start.
    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError>;
}

/// A source that was started.
pub trait Running: Send + fmt::Debug {
    /// Stops it. Returns within a second even if the device hangs; its thread is left behind then.
    fn stop(self: Box<Self>);
}

/// Why a source did not start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The system gives no more threads.
    #[error("no thread for the source: {0}")]
    Thread(#[source] std::io::Error),
}
