//! Microphones and other inputs, through cpal.

use std::fmt;

/// An input device, opened.
#[derive(Debug)]
pub struct Device;

/// What is known of an input device.
#[derive(Clone, Debug)]
pub struct DeviceInfo;

/// Why a device can't be used.
#[derive(Debug)]
pub struct DeviceError;

impl fmt::Display for DeviceError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
impl std::error::Error for DeviceError {}

/// The input devices there are.
pub fn devices() {}
