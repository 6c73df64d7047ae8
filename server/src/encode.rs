//! Blocks to bytes: what goes over the wire for each format.

use std::fmt::Write as _;

use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Block, Format, Gap, Item};
use bytes::Bytes;

/// What one encoder makes of blocks. `/stream.wav` and `/stream.pcm` with the same samples share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Interleaved samples, one after the other.
    Pcm(PcmEncoding),
    /// One JSON object a line.
    Json,
    /// Server-sent events whose data are these objects.
    Events,
}

impl Encoding {
    /// The bytes of one block.
    #[must_use]
    pub fn encode(self, block: &Item<Block>) -> Bytes {
        match self {
            Self::Pcm(encoding) => {
                let mut bytes = Vec::new();
                encoding.encode(block.samples(), &mut bytes);
                bytes.into()
            }
            Self::Json => {
                let mut line = block_json(block);
                line.push('\n');
                line.into()
            }
            Self::Events => format!("id: {}\ndata: {}\n\n", block.stamp.sequence, block_json(block)).into(),
        }
    }

    /// The bytes of a block of silence, for formats in which it can take the place of one that is lost.
    #[must_use]
    pub fn encode_silence(self, format: Format) -> Option<Bytes> {
        match self {
            // Zeros, in all of them.
            Self::Pcm(encoding) => Some(vec![0; format.block_samples() * encoding.sample_bytes()].into()),
            Self::Json | Self::Events => None,
        }
    }

    /// Bytes of a block, at most or nearly so: what buffers are bounded by.
    #[must_use]
    pub fn block_bytes(self, format: Format) -> u64 {
        let samples = format.block_samples() as u64;
        match self {
            Self::Pcm(encoding) => samples * encoding.sample_bytes() as u64,
            // A float that came from 16 bits takes 10 to 13 characters with its comma, and the rest 150.
            Self::Json | Self::Events => samples * 12 + 150,
        }
    }

    /// What tells a listener of a loss, where the format can.
    #[must_use]
    pub fn encode_gap(self, gap: Gap) -> Option<Bytes> {
        let json =
            format!(r#"{{"gap":{{"from":{},"blocks":{},"reason":"{}"}}}}"#, gap.from, gap.blocks, gap.reason.label());
        match self {
            Self::Pcm(_) => None,
            Self::Json => Some(format!("{json}\n").into()),
            // With the last missing number as its id, a listener that reconnects is not told of the loss again.
            Self::Events => Some(format!("id: {}\nevent: gap\ndata: {json}\n\n", gap.from + gap.blocks - 1).into()),
        }
    }
}

/// The block as `/stream.json` shows it. Floats are written as short as they can be and still be read back exactly;
/// one that is not a number is `null`.
fn block_json(block: &Item<Block>) -> String {
    let stamp = block.stamp;
    let nanos = stamp.captured_at.as_nanos();
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
