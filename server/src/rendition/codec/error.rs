//! The reasons why a codec can't carry a source, each with a format that works.

use std::ops::RangeInclusive;

/// A format that a codec can't carry, or an encoder that failed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More than two channels: their meaning would have to be guessed to mix them down.
    #[error("Opus carries 1 or 2 channels, and the source has {0} (choose FLAC or WAV, which carry all of them)")]
    OpusChannels(u16),
    /// A sample rate at which the resampler's delay would be longer than a header can say.
    #[error("Opus takes sources of at least {lowest_hz} Hz, and this one has {rate_hz} Hz (choose WAV)")]
    OpusRate {
        /// The source's rate.
        rate_hz: u32,
        /// The lowest rate that is possible.
        lowest_hz: u32,
    },
    /// libopus refused or failed.
    #[error("Opus: {0}")]
    Opus(#[from] ::opus::Error),
    /// The resampler failed, or there is none for the source's rate.
    #[error("resampling to 48 kHz: {0}")]
    Resample(String),
    /// More than two channels: MP3 has no others.
    #[error("MP3 carries 1 or 2 channels, and the source has {0} (choose FLAC or WAV, which carry all of them)")]
    Mp3Channels(u16),
    /// The program was built without the feature `mp3`.
    #[error("this aircheck was built without MP3 (choose Opus, or build it with the feature `mp3`)")]
    NoMp3,
    /// LAME refused or failed.
    #[error("MP3: {0}")]
    Mp3(String),
    /// More than eight channels.
    #[error("FLAC carries up to 8 channels, and the source has {0} (choose WAV)")]
    FlacChannels(u16),
    /// A sample rate that has no code in a frame's header.
    #[error(
        "FLAC carries sample rates up to 65,535 Hz and tens of Hz up to 655,350, and the source has {0} Hz (choose WAV)"
    )]
    FlacRate(u32),
    /// Blocks that are too short or too long for a frame.
    #[error("FLAC carries blocks of {} to {} frames, and the source's have {block_frames} (choose another --block)",
        .possible.start(), .possible.end())]
    FlacBlock {
        /// Length of the source's blocks.
        block_frames: u32,
        /// Lengths that are possible.
        possible: RangeInclusive<u32>,
    },
    /// Neither 16 nor 24 bits.
    #[error("FLAC is served with 16 or 24 bits, not with {0}")]
    FlacBits(u32),
    /// The FLAC encoder failed.
    #[error("FLAC: {0}")]
    Flac(#[from] flac_codec::Error),
}
