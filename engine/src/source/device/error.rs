//! The reasons why a device cannot be used: one line each, with the next step.

use cpal::ErrorKind;

/// The reason why an input device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no input: no sound server answers and there is no sound card, or neither has an input.
    #[error("there is no microphone: {0} (connect one, start the sound server, or choose another source)")]
    NoDevice(String),
    /// No device has this name.
    #[error("no input device is called `{name}`; there are {there}")]
    Unknown {
        /// The requested name.
        name: String,
        /// The existing devices, by id and name.
        there: String,
    },
    /// Several devices have this in their names.
    #[error("`{name}` fits several input devices: {candidates} (use more of the name, or the whole id)")]
    Ambiguous {
        /// The requested name.
        name: String,
        /// The devices that it fits, by id and name.
        candidates: String,
    },
    /// The device does not support the requested rate or number of channels.
    #[error("`{device}` cannot record {wanted} (it can do {can})")]
    Unsupported {
        /// Name of the device.
        device: String,
        /// The requested configuration.
        wanted: String,
        /// The supported configurations.
        can: String,
    },
    /// The device records only one-bit samples.
    #[error("`{0}` records only DSD, which cannot be streamed (switch it to PCM, or choose another device)")]
    Dsd(String),
    /// The device or the sound server refused.
    #[error("`{device}` cannot be opened: {reason}")]
    Refused {
        /// Name of the device.
        device: String,
        /// Its reason.
        reason: String,
    },
    /// A call into the sound system did not return in time.
    #[error("{what} does not answer (start the sound server again, or connect the device again)")]
    Unresponsive {
        /// The device or server that was called.
        what: String,
    },
}

impl DeviceError {
    /// Translates an error that cpal reports for `device`.
    pub(super) fn refused(device: &str, error: &cpal::Error) -> Self {
        let reason = match error.kind() {
            ErrorKind::DeviceBusy => "another program uses it (end that first)".to_owned(),
            ErrorKind::PermissionDenied => {
                "the system does not permit it (allow microphones; on Linux, join the group `audio`)".to_owned()
            }
            _ => one_line(error),
        };
        Self::Refused { device: device.to_owned(), reason }
    }
}

/// Formats an error as part of another message: without line ends and without a full stop.
pub(super) fn one_line(error: &cpal::Error) -> String {
    let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    words.trim_end_matches('.').to_owned()
}
