//! The variant streams of HLS: what each is made of, and how much of it a player needs in a second.

use aircheck_engine::Format;

use crate::rendition::codec::{CodecError, FlacEncoder, OpusBitrate, OpusEncoder};
use crate::rendition::container::mp4::{Coding, Track};
use crate::rendition::encoding::{DEFAULT_GATHER, Encoding};
use crate::sink::hls::epoch::Epoch;

/// The rate at which Opus is encoded and its positions are counted.
const OPUS_RATE_HZ: u32 = 48_000;
/// Bytes that MP4 adds to each sample, and to each segment in a second, at most.
const SAMPLE_OVERHEAD_BYTES: u64 = 4;
const SECOND_OVERHEAD_BYTES: u64 = 128;
/// Bytes that FLAC adds to the samples of a block, at most: its header with the largest number, its checksums, and for each channel the
/// header of a subframe.
const FLAC_FRAME_BYTES: u64 = 18;
const FLAC_CHANNEL_BYTES: u64 = 2;

/// A variant stream: the same sound in one coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// Opus at the default bitrate of listeners.
    Opus,
    /// FLAC.
    Flac,
}

impl Variant {
    /// All of them. Players begin with the first one that they can play.
    pub const ALL: [Self; 2] = [Self::Opus, Self::Flac];

    /// Returns its name in URLs and metrics, which is that of the rendition.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Flac => "flac",
        }
    }

    /// Returns the variant of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    /// Returns its codec as playlists name it, which is the sample entry's name in MP4 (RFC 6381).
    #[must_use]
    pub const fn codec(self) -> &'static str {
        match self {
            Self::Opus => "Opus",
            Self::Flac => "fLaC",
        }
    }
}

/// What a variant is made of: an encoder that listeners use too, and the track in which its packets lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    pub(super) format: Format,
    pub(super) encoding: Encoding,
    /// Blocks in a packet. It is that of listeners who do not choose, so that they and the segments share an encoder.
    pub(super) group: u64,
    pub(super) track: Track,
    /// Length of a sample of the track, in its frames.
    pub(super) sample_frames: u32,
    /// Where the stream begins on the track's timeline, in its frames.
    pub(super) origin: u64,
}

impl Recipe {
    /// Returns how `variant` is made from blocks of `format` in this epoch; FLAC with samples of `flac_bits` bits.
    pub(super) fn new(variant: Variant, format: Format, flac_bits: u32, epoch: Epoch) -> Result<Self, CodecError> {
        let channels = format.channels() as u8;
        match variant {
            Variant::Opus => {
                let (bitrate, group) = (OpusBitrate::default(), format.blocks_in(DEFAULT_GATHER).max(1));
                let sample_frames = OpusEncoder::packet_frames_for(format, group);
                let pre_skip = OpusEncoder::new(format, bitrate, sample_frames)?.pre_skip();
                let coding = Coding::Opus { pre_skip, input_rate_hz: format.rate_hz() };
                let track = Track { rate_hz: OPUS_RATE_HZ, channels, coding };
                let origin = epoch.frames(track.rate_hz);
                Ok(Self { format, encoding: Encoding::Opus { bitrate }, group, track, sample_frames, origin })
            }
            Variant::Flac => {
                FlacEncoder::new(format, flac_bits)?;
                let sample_frames = format.block_frames();
                let coding = Coding::Flac { bits: flac_bits as u8, block_frames: sample_frames as u16 };
                let track = Track { rate_hz: format.rate_hz(), channels, coding };
                let (encoding, origin) = (Encoding::Flac { bits: flac_bits }, epoch.frames(track.rate_hz));
                Ok(Self { format, encoding, group: 1, track, sample_frames, origin })
            }
        }
    }

    /// Returns the most bits that a second of it takes in segments.
    pub(super) fn bandwidth(&self) -> u64 {
        let samples = u64::from(self.track.rate_hz).div_ceil(self.sample_frames.into());
        let sound = match self.track.coding {
            // Constrained VBR took 1.2 % more than its bitrate for white noise.
            Coding::Opus { .. } => u64::from(self.encoding.bitrate().unwrap_or_default()) / 8 * 21 / 20,
            Coding::Flac { bits, .. } => {
                let channels = u64::from(self.track.channels);
                let frames = u64::from(self.track.rate_hz) * channels * u64::from(bits) / 8;
                frames + samples * (FLAC_FRAME_BYTES + channels * FLAC_CHANNEL_BYTES)
            }
        };
        8 * (sound + samples * SAMPLE_OVERHEAD_BYTES + SECOND_OVERHEAD_BYTES)
    }
}
