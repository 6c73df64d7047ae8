//! An input device that is opened but not started.

use cpal::SupportedStreamConfig;
use cpal::traits::DeviceTrait;

use super::choice::{self, DeviceConfig};
use super::error::DeviceError;
use super::listing;
use super::shared::SharedDevice;
use super::timeout::with_timeout;

/// An input device, opened: a microphone, or another input of the system.
///
/// Its samples, of any format but DSD, become `f32`. The capture time of each period comes from the device's
/// timestamps.
///
/// **Several streams** of one device in one format share it: it is opened once, and each of them gets all of its sound.
///
/// **When the device is lost** (unplugged, its sound server ended, or no period for 10 s), the stream stays:
/// [`CaptureStats::failure`](crate::CaptureStats::failure) gives the cause, no more blocks come, and consumers wait
/// until the stream is stopped. A [`Supervised`](crate::source::Supervised) device is opened again instead. The device's
/// own stream is closed, because a dead one may keep a core busy with error reports; if closing hangs, its thread is left
/// behind.
///
/// ```no_run
/// use aircheck_engine::source::{Device, DeviceConfig};
/// use aircheck_engine::{Stream, StreamOptions};
///
/// let microphone = Device::open(None, DeviceConfig::default())?;
/// let stream = Stream::start(Box::new(microphone), StreamOptions::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Device {
    /// The words in which it was asked for.
    pub(super) asked: Asked,
    pub(super) device: cpal::Device,
    pub(super) name: String,
    pub(super) config: SupportedStreamConfig,
}

/// The name and the options by which a device is asked for.
pub(super) type Asked = (Option<String>, DeviceConfig);

impl Device {
    /// Opens the input device called `name`, or the default one. `name` is the exact name or id of a device, or any
    /// part of them that no other device has, in capital or small letters. Options that are `None` are left to the
    /// device's default.
    ///
    /// ```no_run
    /// use aircheck_engine::source::{Device, DeviceConfig, Source};
    ///
    /// let microphone = Device::open(Some("USB Audio"), DeviceConfig { channels: Some(1), ..DeviceConfig::default() })?;
    /// println!("{} Hz", microphone.rate_hz());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DeviceError::NoDevice`] if there is no input at all; otherwise, if the name fits none or several, the device
    /// does not support the options, or the device or the sound server refuses or does not answer within 5 s.
    pub fn open(name: Option<&str>, options: DeviceConfig) -> Result<Self, DeviceError> {
        let asked = (name.map(str::to_owned), options);
        if let Some(device) = SharedDevice::find(&asked) {
            return Ok(device);
        }
        with_timeout("the sound server", move || {
            let (device, name, default) = listing::find(asked.0.as_deref())?;
            let config = choice::choose(&device, &name, default, options)?;
            Ok(Self { asked, device, name, config })
        })
    }

    /// Returns whether `other` is the same device in the same configuration, so that one of them can record for both.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let id = |it: &Self| it.device.id().ok();
        let config = |it: &Self| (it.config.channels(), it.config.sample_rate(), it.config.sample_format(), id(it));
        id(self).is_some() && config(self) == config(other)
    }

    /// Returns the name of the device, as the system shows it to people.
    ///
    /// ```no_run
    /// use aircheck_engine::source::{Device, DeviceConfig};
    ///
    /// println!("{}", Device::open(None, DeviceConfig::default())?.name());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the device belongs to a sound server.
    pub(super) fn is_served(&self) -> bool {
        self.device.id().is_ok_and(|id| id.host().name() == "PulseAudio")
    }

    /// Returns the format in which the device hands samples over, before they become `f32`: `f32`, `i16`, …
    ///
    /// ```no_run
    /// use aircheck_engine::source::{Device, DeviceConfig};
    ///
    /// println!("{}", Device::open(None, DeviceConfig::default())?.sample_format());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sample_format(&self) -> String {
        self.config.sample_format().to_string()
    }
}
