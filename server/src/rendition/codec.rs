//! Codecs: from the samples of blocks to bytes.
//!
//! An encoder takes blocks with their sequence numbers, so its packets know their positions: a missing number is a hole
//! in the sound and never shifts the sound after it. One encoder serves all listeners of its encoding.

mod bitrate;
mod error;
pub mod flac;
pub(super) mod json;
#[cfg_attr(not(feature = "mp3"), path = "codec/no_mp3.rs")]
mod mp3;
mod opus;
mod resample;

pub use bitrate::{Mp3Bitrate, OpusBitrate};
pub use error::CodecError;
pub use flac::FlacEncoder;
pub use mp3::Mp3Encoder;
pub use opus::{MAX_PACKET_BYTES, OpusEncoder, OpusPacket};
