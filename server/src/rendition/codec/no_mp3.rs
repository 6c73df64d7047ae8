//! The encoder of MP3 in a program that was built without it: there is none.

use std::convert::Infallible;

use aircheck_engine::Format;

use super::bitrate::Mp3Bitrate;
use super::error::CodecError;

/// An encoder that cannot be made.
#[derive(Debug)]
pub struct Mp3Encoder(Infallible);

impl Mp3Encoder {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn new(_format: Format, _bitrate: Mp3Bitrate) -> Result<Self, CodecError> {
        Err(CodecError::NoMp3)
    }

    /// Returns the rate of the source.
    #[must_use]
    pub fn rate_hz(format: Format) -> u32 {
        format.rate_hz()
    }

    /// Returns 1.
    #[must_use]
    pub fn blocks_of_frame(_format: Format) -> u64 {
        1
    }

    /// Is never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn encode(&mut self, _samples: &[f32], _bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        match self.0 {}
    }

    /// Is never called.
    ///
    /// # Errors
    ///
    /// None.
    pub fn finish(&mut self, _bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        match self.0 {}
    }
}
