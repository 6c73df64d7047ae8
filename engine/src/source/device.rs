//! Microphones and other inputs, through cpal.
//!
//! On Linux the sound server is preferred where one answers, and ALSA is used otherwise: cpal's own client of the
//! server reports the server's end once, while ALSA's plug-in for a dead server reports errors half a million times a
//! second or hangs for ever.
//!
//! [`Device::open`] finds a device by its name (`listing`) and chooses its configuration (`choice`). Started, it lives
//! on a thread of its own (`supervisor`), which watches its `health`; its callback writes to the captures of all streams
//! that it records for (`shared`).

pub(super) mod error;
mod host;
mod timeout;

mod choice;
mod listing;
mod open;
mod reopen;

mod callback;
mod health;
mod shared;
mod supervisor;
#[cfg(test)]
mod tests;

pub use choice::DeviceConfig;
pub use error::DeviceError;
pub use host::host_name;
pub use listing::{DeviceInfo, devices};
pub use open::Device;
pub use reopen::DeviceReopener;
