//! The inputs of the system, and the search for one by its name.

use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{ErrorKind, SupportedStreamConfig};

use super::error::{DeviceError, one_line};
use super::host::host;
use super::timeout::with_timeout;

/// The monitor of the dummy sink that PulseAudio makes if it has no output at all. It is then the default input, and
/// not a microphone.
const DUMMY_SOURCE_ID: &str = "auto_null.monitor";

/// Description of an input device, found without recording from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Name for people; not always unique.
    pub name: String,
    /// Name for programs: unique and stable.
    pub id: String,
    /// Sound system that offers it: `PulseAudio`, `ALSA`, `CoreAudio`, `WASAPI`, …
    pub host: &'static str,
    /// Whether it is opened if no name is given.
    pub is_default: bool,
    /// Default sample rate, in Hz. This and the two fields below are `None` while another program uses the device.
    pub rate_hz: Option<u32>,
    /// Default number of channels.
    pub channels: Option<u16>,
    /// Default sample format: `f32`, `i16`, …
    pub sample_format: Option<String>,
}

/// Lists the input devices; never an empty list.
///
/// ```no_run
/// use aircheck_engine::source::devices;
///
/// for device in devices()? {
///     println!("{}: {}", device.id, device.name);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`DeviceError::NoDevice`] if there is none; another one if the sound server refuses or does not answer.
pub fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
    with_timeout("the sound server", || {
        let host = host()?;
        let inputs = Inputs::of(&host)?;
        Ok(inputs.0.iter().map(|input| input.info(host.id().name())).collect())
    })
}

/// Finds the device that `name` fits, or the default one. Returns it with its name for people and its default
/// configuration.
pub(super) fn find(name: Option<&str>) -> Result<(cpal::Device, String, SupportedStreamConfig), DeviceError> {
    let host = host()?;
    let Some(name) = name else {
        let device =
            host.default_input_device().map(|device| Input::new(device, None)).filter(|d| d.id != DUMMY_SOURCE_ID);
        let input = device.ok_or_else(|| DeviceError::NoDevice("the sound system has no input".to_owned()))?;
        return match input.device.default_input_config() {
            Ok(config) => Ok((input.device, input.name, config)),
            // ALSA always has a default device; only opening it shows whether it is a real one.
            Err(error) if is_absence(error.kind()) => Err(DeviceError::NoDevice(one_line(&error))),
            Err(error) => Err(DeviceError::refused(&input.name, &error)),
        };
    };
    let input = Inputs::of(&host)?.take(name)?;
    match input.device.default_input_config() {
        Ok(config) => Ok((input.device, input.name, config)),
        Err(error) => Err(DeviceError::refused(&input.name, &error)),
    }
}

fn is_absence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable | ErrorKind::UnsupportedOperation)
}

struct Input {
    device: cpal::Device,
    name: String,
    id: String,
    is_default: bool,
}

impl Input {
    fn new(device: cpal::Device, default_id: Option<&str>) -> Self {
        let id = device.id().map(|id| id.id().to_owned()).unwrap_or_default();
        let name = device.description().map_or_else(|_| id.clone(), |described| described.name().to_owned());
        let is_default = default_id == Some(id.as_str());
        Self { device, name, id, is_default }
    }

    fn info(&self, host: &'static str) -> DeviceInfo {
        let config = self.device.default_input_config().ok();
        DeviceInfo {
            name: self.name.clone(),
            id: self.id.clone(),
            host,
            is_default: self.is_default,
            rate_hz: config.map(|config| config.sample_rate()),
            channels: config.map(|config| config.channels()),
            sample_format: config.map(|config| config.sample_format().to_string()),
        }
    }
}

/// The inputs of a host; at least one.
struct Inputs(Vec<Input>);

impl Inputs {
    fn of(host: &cpal::Host) -> Result<Self, DeviceError> {
        let default = host.default_input_device().and_then(|device| device.id().ok());
        let default = default.as_ref().map(|id| id.id());
        // ALSA also lists its plug-ins (`null`, rate converters, …). A microphone is the default or on a card.
        let is_plug_in = |id: &str| host.id().name() == "ALSA" && id != "default" && !id.contains("CARD=");
        let devices = host.input_devices().map_err(|error| DeviceError::refused("the sound server", &error))?;
        let inputs: Vec<_> = devices
            .map(|device| Input::new(device, default))
            .filter(|input| input.id != DUMMY_SOURCE_ID && !is_plug_in(&input.id))
            .collect();
        if inputs.is_empty() {
            return Err(DeviceError::NoDevice("the sound system has no input".to_owned()));
        }
        Ok(Self(inputs))
    }

    /// Takes the input that `name` fits out of the list.
    fn take(mut self, name: &str) -> Result<Input, DeviceError> {
        let labels: Vec<_> = self.0.iter().map(|input| (input.id.as_str(), input.name.as_str())).collect();
        let index = match_name(name, &labels)?;
        Ok(self.0.swap_remove(index))
    }
}

/// Returns the index of the device that `name` fits, among devices with an id and a name. An exact id or name goes
/// before a part of one.
fn match_name(name: &str, devices: &[(&str, &str)]) -> Result<usize, DeviceError> {
    let matching = |fits: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..devices.len()).filter(|&index| fits(devices[index].0) || fits(devices[index].1)).collect()
    };
    if let Some(index) = devices.iter().position(|(id, _)| *id == name) {
        return Ok(index);
    }
    let mut matches = matching(&|text| text == name);
    if matches.is_empty() {
        let part = name.to_lowercase();
        matches = matching(&|text| text.to_lowercase().contains(&part));
    }
    let list = |indices: &[usize]| -> String {
        let labels = indices.iter().map(|&index| {
            let (id, name) = devices[index];
            if id == name { format!("`{id}`") } else { format!("`{id}` ({name})") }
        });
        labels.collect::<Vec<_>>().join(", ")
    };
    match matches[..] {
        [index] => Ok(index),
        [] => {
            let all: Vec<_> = (0..devices.len()).collect();
            Err(DeviceError::Unknown { name: name.to_owned(), there: list(&all) })
        }
        ref several => Err(DeviceError::Ambiguous { name: name.to_owned(), candidates: list(several) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: [(&str, &str); 4] =
        [("usb1", "USB Audio"), ("usb2", "USB Audio"), ("usb", "Webcam"), ("line", "Line In, USB Audio")];

    fn matched(name: &str) -> Result<&str, String> {
        match_name(name, &DEVICES).map(|index| DEVICES[index].0).map_err(|error| error.to_string())
    }

    #[test]
    fn an_exact_name_goes_before_a_part() {
        assert_eq!(matched("usb"), Ok("usb"));
        assert_eq!(matched("Webcam"), Ok("usb"));
        assert_eq!(matched("web"), Ok("usb"));
        assert_eq!(matched("LINE in"), Ok("line"));
        assert_eq!(matched("usb2"), Ok("usb2"));
    }

    #[test]
    fn a_name_that_fits_none_or_several_lists_them_in_one_line() {
        assert_eq!(
            matched("guitar").unwrap_err(),
            "no input device is called `guitar`; there are `usb1` (USB Audio), `usb2` (USB Audio), `usb` (Webcam), \
             `line` (Line In, USB Audio)"
        );
        assert_eq!(
            matched("USB Audio").unwrap_err(),
            "`USB Audio` fits several input devices: `usb1` (USB Audio), `usb2` (USB Audio) (use more of the name, or the \
             whole id)"
        );
        assert!(matched("audio").unwrap_err().contains("`line` (Line In, USB Audio)"));
    }
}
