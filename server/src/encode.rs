//! Blocks to bytes: what goes over the wire for each format.

use std::fmt::Write as _;

use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Block, Format, Item, Stamp, Timestamp};
use bytes::Bytes;

use crate::codec::{FlacEncoder, OpusEncoder, OpusPacket};
use crate::message::{self, HEADER_BYTES, Packets, Payload};
use crate::throttle::Throttle;

/// What one encoder makes of blocks. `/stream.wav` and `/stream.pcm` with the same samples share one; so do
/// `/stream.opus` and the WebSocket at the same bitrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Interleaved samples, one after the other.
    Pcm(PcmEncoding),
    /// The same as messages of the WebSocket.
    Message(Payload),
    /// One JSON object a line.
    Json,
    /// Server-sent events whose data are these objects.
    Events,
    /// Packets of Opus at so many bits per second.
    Opus {
        /// Bits per second.
        bitrate: u32,
    },
    /// Frames of FLAC with samples of so many bits.
    Flac {
        /// 16 or 24.
        bits: u32,
    },
}

/// What an encoder made of one block.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// All of it.
    Whole(Bytes),
    /// Packets of Opus: as many as became whole with this block.
    Opus(Vec<OpusPacket>),
}

impl Encoded {
    /// The binary messages that this is on the WebSocket.
    pub fn messages(&self, stamp: Stamp) -> Vec<Bytes> {
        match self {
            Self::Whole(message) => vec![message.clone()],
            Self::Opus(packets) => {
                packets.iter().map(|packet| message::binary(Payload::Opus, stamp, &packet.bytes)).collect()
            }
        }
    }
}

/// One encoder at work.
#[derive(Debug)]
pub struct Encoder {
    work: Work,
    complaints: Throttle,
}

#[derive(Debug)]
enum Work {
    /// Each block by itself.
    Stateless(Encoding),
    Opus(Box<OpusEncoder>),
    Flac(Box<FlacEncoder>),
}

impl Encoder {
    /// An encoder for blocks of `format`.
    ///
    /// # Errors
    ///
    /// A sentence, where there is no such encoding of this format.
    pub fn new(encoding: Encoding, format: Format) -> Result<Self, String> {
        let work = match encoding {
            Encoding::Opus { bitrate } => {
                Work::Opus(Box::new(OpusEncoder::new(format, bitrate).map_err(|error| error.to_string())?))
            }
            Encoding::Flac { bits } => {
                Work::Flac(Box::new(FlacEncoder::new(format, bits).map_err(|error| error.to_string())?))
            }
            stateless => Work::Stateless(stateless),
        };
        Ok(Self { work, complaints: Throttle::default() })
    }

    /// What becomes of one block.
    pub fn encode(&mut self, block: &Item<Block>) -> Encoded {
        let sequence = block.stamp.sequence;
        let encoded = match &mut self.work {
            Work::Stateless(encoding) => Ok(Encoded::Whole(encode(*encoding, block))),
            Work::Opus(encoder) => {
                let mut packets = Vec::new();
                encoder.encode(sequence, block.samples(), &mut packets).map(|()| Encoded::Opus(packets))
            }
            Work::Flac(encoder) => encoder.encode(sequence, block.samples()).map(Encoded::Whole),
        };
        encoded.unwrap_or_else(|error| {
            // Not expected of any of them. The block is heard as a hole.
            if self.complaints.pass(Timestamp::now()).is_some() {
                tracing::error!(sequence, "a block could not be encoded: {error}");
            }
            Encoded::Whole(Bytes::new())
        })
    }

    /// What is left when there are no more blocks.
    pub fn finish(&mut self) -> Vec<OpusPacket> {
        let mut packets = Vec::new();
        if let Work::Opus(encoder) = &mut self.work
            && let Err(error) = encoder.finish(&mut packets)
        {
            tracing::error!("the end of the stream could not be encoded: {error}");
        }
        packets
    }
}

/// The bytes of one block, where they depend on nothing else.
fn encode(encoding: Encoding, block: &Item<Block>) -> Bytes {
    match encoding {
        Encoding::Pcm(encoding) => {
            let mut bytes = Vec::new();
            encoding.encode(block.samples(), &mut bytes);
            bytes.into()
        }
        Encoding::Message(payload) => {
            let mut bytes = Vec::new();
            payload.samples().unwrap_or_default().encode(block.samples(), &mut bytes);
            message::binary(payload, block.stamp, &bytes)
        }
        Encoding::Events => format!("id: {}\ndata: {}\n\n", block.stamp.sequence, block_json(block)).into(),
        Encoding::Json | Encoding::Opus { .. } | Encoding::Flac { .. } => {
            let mut line = block_json(block);
            line.push('\n');
            line.into()
        }
    }
}

impl Encoding {
    /// What it is on the WebSocket.
    #[must_use]
    pub const fn payload(self) -> Payload {
        match self {
            Self::Message(payload) => payload,
            _ => Payload::Opus,
        }
    }

    /// How its packets lie, where there are packets.
    #[must_use]
    pub fn packets(self, format: Format) -> Option<Packets> {
        let Self::Opus { bitrate } = self else { return None };
        // Fails only where an encoder does, and then there is nobody to tell.
        let pre_skip_frames = OpusEncoder::pre_skip_for(format, bitrate).ok()?;
        Some(Packets { packet_frames: OpusEncoder::packet_frames_for(format), pre_skip_frames })
    }

    /// The sample rate of what comes out.
    #[must_use]
    pub fn rate_hz(self, format: Format) -> u32 {
        match self {
            Self::Opus { .. } => 48_000,
            _ => format.rate_hz(),
        }
    }

    /// Bits per second, if it is Opus.
    #[must_use]
    pub const fn bitrate(self) -> Option<u32> {
        match self {
            Self::Opus { bitrate } => Some(bitrate),
            _ => None,
        }
    }

    /// Bytes of a block, at most or nearly so: what buffers are bounded by.
    #[must_use]
    pub fn block_bytes(self, format: Format) -> u64 {
        let samples = format.block_samples() as u64;
        match self {
            Self::Pcm(encoding) => samples * encoding.sample_bytes() as u64,
            Self::Message(payload) => {
                HEADER_BYTES as u64 + samples * payload.samples().unwrap_or_default().sample_bytes() as u64
            }
            // A float that came from 16 bits takes 10 to 13 characters with its comma, and the rest 150.
            Self::Json | Self::Events => samples * 12 + 150,
            // And a page's or a message's header.
            Self::Opus { bitrate } => (f64::from(bitrate) / 8.0 * format.block_span().as_secs_f64()) as u64 + 28,
            Self::Flac { bits } => samples * u64::from(bits) / 8 + 20,
        }
    }
}

/// The block as `/stream.json` shows it. Floats are written as short as they can be and still be read back exactly;
/// one that is not a number is `null`.
fn block_json(block: &Item<Block>) -> String {
    let stamp = block.stamp;
    let nanos = stamp.captured_at.unix_nanos();
    // A sample takes up to 14 characters with its comma.
    let mut json = String::with_capacity(100 + 14 * block.samples().len());
    // Writing to a string can't fail.
    let _ = write!(
        json,
        r#"{{"sequence":{},"position":{},"captured_at":{}.{:06},"samples":"#,
        stamp.sequence,
        block.position(),
        nanos / 1_000_000_000,
        nanos / 1000 % 1_000_000
    );
    json.push_str(&serde_json::to_string(block.samples()).unwrap_or_else(|_| "[]".to_owned()));
    json.push('}');
    json
}

/// The header of an endless WAV: its sizes say "unknown" by the largest number, as ffmpeg and sox write it to a pipe.
///
/// Up to two channels of 16 bits have the plain header of Microsoft's RIFF specification; anything else has
/// WAVE_FORMAT_EXTENSIBLE, which it asks for then.
#[must_use]
pub fn wav_header(format: Format, encoding: PcmEncoding) -> Bytes {
    const PCM: u16 = 1;
    const IEEE_FLOAT: u16 = 3;
    const EXTENSIBLE: u16 = 0xFFFE;
    /// The rest of the sub-format's GUID, `xxxx0000-0000-0010-8000-00AA00389B71`.
    const GUID_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];
    const UNKNOWN: [u8; 4] = [0xFF; 4];

    let kind = if encoding == PcmEncoding::F32Le { IEEE_FLOAT } else { PCM };
    let sample_bytes = encoding.sample_bytes() as u16;
    let frame_bytes = format.channels() * sample_bytes;
    let extensible = format.channels() > 2 || encoding == PcmEncoding::S24Le;

    let mut fmt = Vec::with_capacity(40);
    fmt.extend(if extensible { EXTENSIBLE } else { kind }.to_le_bytes());
    fmt.extend(format.channels().to_le_bytes());
    fmt.extend(format.rate_hz().to_le_bytes());
    fmt.extend((format.rate_hz() * u32::from(frame_bytes)).to_le_bytes());
    fmt.extend(frame_bytes.to_le_bytes());
    fmt.extend((8 * sample_bytes).to_le_bytes());
    if extensible {
        fmt.extend(22_u16.to_le_bytes());
        fmt.extend((8 * sample_bytes).to_le_bytes());
        fmt.extend(speakers(format.channels()).to_le_bytes());
        fmt.extend(kind.to_le_bytes());
        fmt.extend(GUID_TAIL);
    }
    let fmt_bytes = fmt.len() as u32;
    [&b"RIFF"[..], &UNKNOWN, b"WAVEfmt ", &fmt_bytes.to_le_bytes(), &fmt, b"data", &UNKNOWN].concat().into()
}

/// Speaker positions for a channel count: the usual ones up to 7.1, none said beyond.
const fn speakers(channels: u16) -> u32 {
    match channels {
        1 => 0x4,
        2 => 0x3,
        3 => 0x7,
        4 => 0x33,
        5 => 0x37,
        6 => 0x3F,
        7 => 0x13F,
        8 => 0x63F,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_header_has_the_size_that_its_fields_say() {
        for (channels, encoding, length) in [
            (2, PcmEncoding::S16Le, 44),
            (1, PcmEncoding::F32Le, 44),
            (2, PcmEncoding::S24Le, 68),
            (6, PcmEncoding::S16Le, 68),
        ] {
            let header = wav_header(Format::new(48_000, channels, Duration::from_millis(10)).unwrap(), encoding);
            assert_eq!(header.len(), length);
            assert_eq!(&header[header.len() - 8..header.len() - 4], b"data");
        }
    }
}
