//! The opening of a device that was lost.

use super::choice::DeviceConfig;
use super::error::DeviceError;
use super::open::Device;
use crate::source::interface::Source;
use crate::source::supervised::{Reopen, ReopenError};

/// Opens an input device again: by the same name, or whichever device is the default one by then.
#[derive(Clone, Debug)]
pub struct DeviceReopener {
    name: Option<String>,
    options: DeviceConfig,
    /// Rate and channels of the stream.
    stream: DeviceConfig,
}

impl DeviceReopener {
    /// Opens the device called `name`, or the default one, with these options. Where they leave the choice, a device that
    /// can record at the `rate_hz` and with the `channels` of the stream does so.
    ///
    /// ```no_run
    /// use aircheck_engine::source::{Device, DeviceConfig, DeviceReopener, Source, Supervised};
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let device = Device::open(None, DeviceConfig::default())?;
    /// let reopener = DeviceReopener::new(None, DeviceConfig::default(), device.rate_hz(), device.channels());
    /// let supervised = Supervised::new(Box::new(device)).reopen(std::sync::Arc::new(reopener));
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(name: Option<String>, options: DeviceConfig, rate_hz: u32, channels: u16) -> Self {
        let stream =
            DeviceConfig { rate_hz: options.rate_hz.or(Some(rate_hz)), channels: options.channels.or(Some(channels)) };
        Self { name, options, stream }
    }

    fn open(&self) -> Result<Device, DeviceError> {
        let device = Device::open(self.name.as_deref(), self.options)?;
        let has_format =
            self.stream.rate_hz == Some(device.rate_hz()) && self.stream.channels == Some(device.channels());
        // A sound server takes every format and converts it itself, with a shorter filter than ours.
        if has_format || device.is_served() {
            return Ok(device);
        }
        // Another rate costs a conversion, and is better than no sound.
        Ok(Device::open(self.name.as_deref(), self.stream).unwrap_or(device))
    }
}

impl Reopen for DeviceReopener {
    fn reopen(&self) -> Result<Box<dyn Source>, ReopenError> {
        match self.open() {
            Ok(device) => Ok(Box::new(device)),
            Err(
                error @ (DeviceError::NoDevice(_) | DeviceError::Unknown { .. } | DeviceError::Unresponsive { .. }),
            ) => Err(ReopenError::Absent(error.to_string())),
            Err(error) => Err(ReopenError::Failed(error.to_string())),
        }
    }
}
