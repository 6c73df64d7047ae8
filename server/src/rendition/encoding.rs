//! The encodings of blocks that listeners can share.

use std::time::Duration;

use aircheck_api::{HEADER_BYTES, Payload};
use aircheck_engine::Format;
use aircheck_engine::source::PcmEncoding;

use crate::rendition::codec::{Mp3Bitrate, Mp3Encoder, OpusBitrate, OpusEncoder};
use crate::rendition::container::message::{self, PacketLayout};

/// The sound in a page of Opus, and in a packet of MP3, where a listener does not choose. Players buffer a second anyway, and ten blocks
/// cost one page header and one system call.
pub const DEFAULT_GATHER: Duration = Duration::from_millis(100);

/// The output of an encoder, framed for the connections that carry it. `/stream.wav` and `/stream.pcm` with the same
/// samples share an encoder. `/stream.opus` and the WebSocket don't: pages and messages are framed differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Interleaved samples.
    Pcm(PcmEncoding),
    /// Interleaved samples in messages of the WebSocket.
    Message(Payload),
    /// One JSON object a line.
    Json,
    /// Server-sent events with one JSON object each.
    Events,
    /// Packets of Opus in pages of Ogg.
    Opus {
        /// The bitrate.
        bitrate: OpusBitrate,
    },
    /// Packets of Opus in messages of the WebSocket.
    OpusMessages {
        /// The bitrate.
        bitrate: OpusBitrate,
    },
    /// Frames of FLAC.
    Flac {
        /// Bits of a sample: 16 or 24.
        bits: u32,
    },
    /// Frames of MP3.
    Mp3 {
        /// The bitrate.
        bitrate: Mp3Bitrate,
    },
}

impl Encoding {
    /// Returns the payload that it is on the WebSocket.
    #[must_use]
    pub const fn payload(self) -> Payload {
        match self {
            Self::Message(payload) => payload,
            _ => Payload::Opus,
        }
    }

    /// Returns how packets of Opus lie in the stream of a listener that gets each block at once; `None` for other
    /// encodings.
    #[must_use]
    pub fn packets(self, format: Format) -> Option<PacketLayout> {
        let (Self::Opus { bitrate } | Self::OpusMessages { bitrate }) = self else { return None };
        // Fails only where the encoder fails too, and then there is no stream.
        let pre_skip_frames = OpusEncoder::pre_skip_for(format, bitrate).ok()?;
        Some(PacketLayout { packet_frames: OpusEncoder::packet_frames_for(format, 1), pre_skip_frames, bitrate })
    }

    /// Returns the sample rate of the decoded stream.
    #[must_use]
    pub fn rate_hz(self, format: Format) -> u32 {
        match self {
            Self::Opus { .. } | Self::OpusMessages { .. } => 48_000,
            Self::Mp3 { .. } => Mp3Encoder::rate_hz(format),
            _ => format.rate_hz(),
        }
    }

    /// Returns the bitrate of Opus and MP3 in bits per second; `None` for other encodings.
    #[must_use]
    pub const fn bitrate(self) -> Option<u32> {
        match self {
            Self::Opus { bitrate } | Self::OpusMessages { bitrate } => Some(bitrate.bits_per_second()),
            Self::Mp3 { bitrate } => Some(bitrate.bits_per_second()),
            _ => None,
        }
    }

    /// Returns the bytes of a block, at most or nearly so. Buffers are bounded by it.
    #[must_use]
    pub fn block_bytes(self, format: Format) -> u64 {
        let samples = format.block_samples() as u64;
        match self {
            Self::Pcm(encoding) => samples * encoding.sample_bytes() as u64,
            Self::Message(payload) => {
                HEADER_BYTES as u64 + samples * message::samples(payload).unwrap_or_default().sample_bytes() as u64
            }
            // A float that came from 16 bits takes 10 to 13 characters with its comma, and the other members 150.
            Self::Json | Self::Events => samples * 12 + 150,
            // With the header of a page or a message.
            Self::Opus { bitrate } | Self::OpusMessages { bitrate } => {
                coded_bytes(bitrate.bits_per_second(), format) + 28
            }
            Self::Mp3 { bitrate } => coded_bytes(bitrate.bits_per_second(), format),
            Self::Flac { bits } => samples * u64::from(bits) / 8 + 20,
        }
    }
}

/// Returns the bytes of a block at this bitrate.
fn coded_bytes(bits_per_second: u32, format: Format) -> u64 {
    (f64::from(bits_per_second) / 8.0 * format.block_span().as_secs_f64()) as u64
}
