//! Codecs: from the samples of blocks to bytes.
//!
//! An encoder takes blocks with their sequence numbers, so its packets know their positions: a missing number is a hole
//! in the sound and never shifts the sound after it. One encoder serves all listeners of its encoding.

mod bitrate;
mod error;
pub mod flac;
pub(super) mod json;
mod opus;
mod resample;

pub use bitrate::OpusBitrate;
pub use error::CodecError;
pub use flac::FlacEncoder;
pub use opus::{OpusEncoder, OpusPacket};
