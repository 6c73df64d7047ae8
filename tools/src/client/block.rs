//! A block of sound as it arrived.

use aircheck_api::{MessageHeader, Payload, StreamFormat};

/// The answer to a stream of Opus packets.
const NO_OPUS: &str = "it sends Opus, which aircheckctl does not decode (leave out payload=opus, or write payload=s16)";

/// A block with its samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) sequence: u64,
    /// When its first frame was captured, in Unix seconds by the server's clock.
    pub(crate) captured_at: f64,
    /// Number of frames, at least one.
    pub(crate) frames: u64,
    /// Interleaved samples.
    pub(crate) samples: Vec<f32>,
}

impl Block {
    /// Checks that a stream's messages can be decoded; an error says what to request instead.
    pub(crate) fn check_payload(payload: Payload) -> Result<(), String> {
        match payload {
            Payload::F32 | Payload::S16 => Ok(()),
            Payload::Opus => Err(NO_OPUS.to_owned()),
        }
    }

    /// Decodes a message of the WebSocket; an error says why it is no block of a stream of this format.
    pub(crate) fn decode(header: &MessageHeader, payload: &[u8], format: &StreamFormat) -> Result<Self, String> {
        let (sample_bytes, samples): (usize, Vec<f32>) = match header.payload {
            Payload::F32 => {
                (4, payload.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            Payload::S16 => {
                let value = |b: &[u8]| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0;
                (2, payload.chunks_exact(2).map(value).collect())
            }
            Payload::Opus => return Err(NO_OPUS.to_owned()),
        };
        let channels = usize::from(format.channels);
        let frame_bytes = channels * sample_bytes;
        if payload.is_empty() || !payload.len().is_multiple_of(frame_bytes) {
            return Err(format!("{} bytes are not whole frames of {frame_bytes}", payload.len()));
        }
        let frames = (samples.len() / channels) as u64;
        if frames > u64::from(format.block_frames) {
            return Err(format!("{frames} frames are more than a block's {}", format.block_frames));
        }
        Ok(Self { sequence: header.sequence, captured_at: header.captured_at_nanos as f64 / 1e9, frames, samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: StreamFormat = StreamFormat { rate_hz: 48_000, channels: 2, block_frames: 480, block_seconds: 0.01 };

    fn decode(payload: Payload, bytes: &[u8]) -> Result<Block, String> {
        let captured_at_nanos = 1_790_000_000_250_000_000;
        let header = MessageHeader { payload, payload_bytes: bytes.len() as u32, sequence: 7, captured_at_nanos };
        Block::decode(&header, bytes, &FORMAT)
    }

    #[test]
    fn samples_are_decoded_exactly() {
        let samples = [0.5_f32, -1.0, 0.1, -0.0];
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let block = decode(Payload::F32, &bytes).unwrap();
        assert_eq!((block.sequence, block.frames), (7, 2));
        assert!((block.captured_at - 1_790_000_000.25).abs() < 1e-6);
        assert_eq!(block.samples.iter().map(|s| s.to_bits()).collect::<Vec<_>>(), samples.map(f32::to_bits));
        let block = decode(Payload::S16, &[0, 0x80, 0, 0x40]).unwrap();
        assert_eq!((block.frames, block.samples), (1, vec![-1.0, 0.5]));
    }

    #[test]
    fn a_payload_of_another_format_is_refused_with_the_reason() {
        let cases = [
            (Payload::Opus, vec![0; 8], "Opus"),
            (Payload::F32, vec![0; 4], "4 bytes are not whole frames of 8"),
            (Payload::S16, vec![0; 5], "5 bytes are not whole frames of 4"),
            (Payload::F32, vec![], "0 bytes are not whole frames"),
            (Payload::F32, vec![0; 481 * 8], "481 frames are more than a block's 480"),
        ];
        for (payload, bytes, reason) in cases {
            let why = decode(payload, &bytes).unwrap_err();
            assert!(why.contains(reason) && !why.contains('\n'), "{why:?} should say {reason:?}");
        }
    }
}
