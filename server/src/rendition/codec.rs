//! Codecs: blocks to packets that take less of the line than samples do.
//!
//! An encoder is fed block by block, with the blocks' sequence numbers, so that what comes out knows its position: a
//! missing number is a hole in the sound, and never shifts what follows. It runs once for all listeners.
//! [`OggOpus`] puts Opus packets into pages for one listener.

mod flac;
pub(super) mod json;

mod opus;
mod resample;

pub use flac::FlacEncoder;

pub use opus::{OpusEncoder, OpusPacket};

/// A format that a codec can't carry, or an encoder that failed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More than two channels: what they mean would have to be guessed to mix them down.
    #[error("Opus carries 1 or 2 channels, and the source has {0}; FLAC and WAV carry all of them")]
    OpusChannels(u16),
    /// A sample rate at which the resampler's delay would be longer than a header can say.
    #[error("Opus takes sources of at least {least} Hz, and this one has {0}; choose WAV", least = OpusEncoder::MIN_RATE_HZ)]
    OpusRate(u32),
    /// Outside [`OpusEncoder::BITRATES_BPS`].
    #[error("an Opus bitrate of {0} bit/s is not possible; it must be {least} to {most}",
        least = OpusEncoder::BITRATES_BPS.start(), most = OpusEncoder::BITRATES_BPS.end())]
    OpusBitrate(u32),
    /// libopus refused or failed.
    #[error(transparent)]
    Opus(#[from] ::opus::Error),
    /// No resampler for the source's rate, or it failed.
    #[error("resampling to 48 kHz: {0}")]
    Resample(String),
    /// More than eight channels.
    #[error("FLAC carries up to 8 channels, and the source has {0}; choose WAV")]
    FlacChannels(u16),
    /// A sample rate that a frame's header has no place for.
    #[error(
        "FLAC carries sample rates up to 65,535 Hz and tens of Hz up to 655,350, and the source has {0} Hz; choose WAV"
    )]
    FlacRate(u32),
    /// Blocks outside [`FlacEncoder::BLOCK_FRAMES`].
    #[error("FLAC carries blocks of {least} to {most} frames, and the source's have {0}; choose another --block",
        least = FlacEncoder::BLOCK_FRAMES.start(), most = FlacEncoder::BLOCK_FRAMES.end())]
    FlacBlock(u32),
    /// Neither 16 nor 24 bits.
    #[error("FLAC is served with 16 or 24 bits, not with {0}")]
    FlacBits(u32),
    /// The FLAC encoder failed.
    #[error("FLAC: {0}")]
    Flac(#[from] flac_codec::Error),
}
