//! Stands in for the output device where aircheckctl is built without the feature `play`.

use std::time::Duration;

use super::ring::RingWriter;
use crate::failure::Failure;

/// An output device. There is none.
pub(crate) struct OutputDevice {
    pub(super) name: String,
}

impl OutputDevice {
    /// Refuses to open a device.
    pub(crate) async fn open(_: Duration) -> Result<(Self, RingWriter), Failure> {
        Err(Failure::CannotPlay)
    }
}
