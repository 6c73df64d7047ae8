//! Why a device can't be used, in one line each that says what to do next.

use cpal::ErrorKind;

/// Why an input device can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is nothing to record from: no sound server answers and there is no sound card, or neither has an input.
    #[error("there is no microphone: {0}; connect one or start the sound server, or choose another source")]
    NoDevice(String),
    /// No device has this name. `there` lists the ones there are.
    #[error("no input device is called `{name}`; there are {there}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The devices there are, by id and name.
        there: String,
    },
    /// Several devices have this in their names.
    #[error("`{name}` may mean {candidates}; say more of the name, or the whole id")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The devices that it may mean, by id and name.
        candidates: String,
    },
    /// The device can't record at this rate or with so many channels.
    #[error("`{device}` can't record {wanted}; it can do {can}")]
    Unsupported {
        /// Name of the device.
        device: String,
        /// What was asked for.
        wanted: String,
        /// What may be asked for.
        can: String,
    },
    /// The device hands out nothing but one-bit samples.
    #[error("`{0}` records only DSD, which can't be streamed here; switch it to PCM, or choose another device")]
    Dsd(String),
    /// The device or the sound server said no.
    #[error("`{device}` can't be opened: {reason}")]
    Refused {
        /// Name of the device.
        device: String,
        /// What it said.
        reason: String,
    },
    /// A call into the sound system did not come back.
    #[error("{what} does not answer; start the sound server again, or connect the device again")]
    Unresponsive {
        /// Who was asked.
        what: String,
    },
}

impl DeviceError {
    /// What cpal says of a device.
    pub(super) fn refused(device: &str, error: &cpal::Error) -> Self {
        let reason = match error.kind() {
            ErrorKind::DeviceBusy => "another program holds it; end that first".to_owned(),
            ErrorKind::PermissionDenied => {
                "the system does not permit it; allow microphones (on Linux, join the group `audio`)".to_owned()
            }
            _ => one_line(error),
        };
        Self::Refused { device: device.to_owned(), reason }
    }
}

/// A message that goes into another one: without line ends and without a full stop.
pub(super) fn one_line(error: &cpal::Error) -> String {
    let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    words.trim_end_matches('.').to_owned()
}
