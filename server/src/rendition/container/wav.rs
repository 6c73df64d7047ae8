//! The header of an endless WAV.

use aircheck_engine::Format;
use aircheck_engine::source::PcmEncoding;
use bytes::Bytes;

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
    let extensible = format.channels() > 2 || encoding != PcmEncoding::S16Le;

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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_header_has_the_size_that_its_fields_say() {
        for (channels, encoding, length) in [
            (2, PcmEncoding::S16Le, 44),
            (1, PcmEncoding::F32Le, 68),
            (2, PcmEncoding::S24Le, 68),
            (6, PcmEncoding::S16Le, 68),
        ] {
            let header = wav_header(Format::new(48_000, channels, Duration::from_millis(10)).unwrap(), encoding);
            assert_eq!(header.len(), length);
            assert_eq!(&header[header.len() - 8..header.len() - 4], b"data");
        }
    }
}
