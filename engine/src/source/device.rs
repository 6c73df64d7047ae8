//! Microphones and other inputs, through cpal.
//!
//! On Linux through the sound server where one answers, else through ALSA: cpal's own client of the server reports
//! its end once, while ALSA's way to a dead server complains half a million times a second or hangs for ever.

mod callback;
mod choice;
mod error;
mod host;
mod listing;
mod supervisor;
#[cfg(test)]
mod tests;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cpal::SupportedStreamConfig;

pub use choice::Wanted;
pub use error::DeviceError;
pub use host::host;
pub use listing::{DeviceInfo, devices};

use crate::Capture;
use crate::source::{Running, Source, SourceError};

/// How long a sound server or a device may take to answer. Ready ones take milliseconds; a source that idles hands
/// its first sound over after as much as 2 s (measured with PulseAudio's null sink).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// An input device, opened: a microphone, or whatever else the system records from.
///
/// Its samples, of any format but DSD, become `f32`. Each period's capture time comes from the device's timestamps.
///
/// **When the device is lost** (unplugged, its sound server ended, or silent for 10 s without so much as zeros), the
/// stream stays: [`CaptureTally::failure`](crate::CaptureTally::failure) says what happened, no more blocks come, and
/// consumers wait until the stream is stopped. The device's own stream is closed, because a dead one may burn a whole
/// core with complaints; where closing hangs, its thread is left behind.
///
/// ```no_run
/// use aircheck_engine::source::{Device, Wanted};
/// use aircheck_engine::{Stream, StreamOptions};
///
/// let microphone = Device::open(None, Wanted::default())?;
/// let stream = Stream::start(Box::new(microphone), StreamOptions::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Device {
    device: cpal::Device,
    name: String,
    config: SupportedStreamConfig,
}

impl Device {
    /// Opens the input device called `name`, or the default one. A device is called by its exact name or id, or by
    /// any part of them that no other device has, in capital or small letters. What `wanted` leaves open is the
    /// device's default.
    ///
    /// # Errors
    ///
    /// [`DeviceError::NoDevice`] where there is nothing to record from; otherwise, when the name fits none or several,
    /// the device can't do what is wanted, or it or the sound server refuses or does not answer within 5 s.
    pub fn open(name: Option<&str>, wanted: Wanted) -> Result<Self, DeviceError> {
        let name = name.map(str::to_owned);
        patiently("the sound server", move || {
            let (device, name, default) = listing::find(name.as_deref())?;
            let config = choice::choose(&device, &name, default, wanted)?;
            Ok(Self { device, name, config })
        })
    }

    /// Name of the device, as the system shows it to people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Label of the format in which the device hands samples over, before they become `f32`: `f32`, `i16`, …
    #[must_use]
    pub fn sample_format(&self) -> String {
        self.config.sample_format().to_string()
    }
}

impl Source for Device {
    fn rate_hz(&self) -> u32 {
        self.config.sample_rate()
    }

    fn channels(&self) -> u16 {
        self.config.channels()
    }

    fn description(&self) -> String {
        format!("microphone “{}”", self.name)
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        supervisor::start(*self, capture)
    }
}

/// Does `work` on a thread of its own, which is left behind if `what` does not answer: the sound system's calls have
/// no time limit.
fn patiently<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, DeviceError> {
    let (done, result) = mpsc::channel();
    thread::Builder::new()
        .name("sound-system".into())
        .spawn(move || {
            // Nobody may be waiting any more.
            let _ = done.send(work());
        })
        .map_err(|error| DeviceError::Refused { device: what.to_owned(), reason: error.to_string() })?;
    let unresponsive = |_| DeviceError::Unresponsive { what: what.to_owned() };
    result.recv_timeout(ANSWER_TIMEOUT).map_err(unresponsive)?
}
