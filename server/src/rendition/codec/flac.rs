//! FLAC: one frame for each block, lossless for sources of up to 24 bits (RFC 9639).

pub mod frame;

use std::num::NonZero;
use std::ops::RangeInclusive;

use aircheck_engine::Format;
use bytes::Bytes;
use flac_codec::encode::{FlacStreamWriter, Options};
use flac_codec::metadata::{Streaminfo, write_blocks};
use flac_codec::stream::SampleRate;

use self::frame::Frame;
use super::error::CodecError;

/// Channels that FLAC has codes for (RFC 9639, section 9.1.3).
const MAX_CHANNELS: u16 = 8;
/// A number takes up to so many bytes.
const MAX_NUMBER_BYTES: usize = 6;

/// The encoder from blocks to frames. Each frame can be decoded by itself and carries its block's sequence number, so a
/// listener can start at any frame and sees a missing one.
pub struct FlacEncoder {
    format: Format,
    bits: u32,
    options: Options,
    integers: Vec<i32>,
    frame: Vec<u8>,
}

impl FlacEncoder {
    /// Lengths of a block that FLAC carries with a fixed block size (RFC 9639, section 8.2).
    pub const BLOCK_FRAMES: RangeInclusive<u32> = 16..=65_535;

    /// Makes an encoder for `format` with samples of 16 or 24 bits.
    ///
    /// # Errors
    ///
    /// For other bits, more than 8 channels, blocks that are not in [`BLOCK_FRAMES`](Self::BLOCK_FRAMES), or a rate that
    /// has no code in a frame: above 65,535 Hz it must be a multiple of ten, and none is above 655,350 Hz.
    pub fn new(format: Format, bits: u32) -> Result<Self, CodecError> {
        if ![16, 24].contains(&bits) {
            return Err(CodecError::FlacBits(bits));
        }
        if format.channels() > MAX_CHANNELS {
            return Err(CodecError::FlacChannels(format.channels()));
        }
        if !Self::BLOCK_FRAMES.contains(&format.block_frames()) {
            return Err(CodecError::FlacBlock { block_frames: format.block_frames(), possible: Self::BLOCK_FRAMES });
        }
        if matches!(SampleRate::try_from(format.rate_hz()), Ok(SampleRate::Streaminfo(_)) | Err(_)) {
            return Err(CodecError::FlacRate(format.rate_hz()));
        }
        // A frame is encoded once for all listeners, so it may take a little longer. Blocks are too short for more
        // partitions, and trying all couplings of two channels takes twice as long and saves half a percent.
        let options = Options::default().max_partition_order(3).map_err(|_| CodecError::FlacBits(bits))?;
        let options = options.fast_channel_correlation(true);
        Ok(Self { format, bits, options, integers: Vec::new(), frame: Vec::new() })
    }

    /// Returns the header of a stream: FLAC's marker, and a description with unknown length and checksum.
    ///
    /// # Errors
    ///
    /// Only when the library fails: [`new`](Self::new) has checked the format.
    pub fn header(&self) -> Result<Bytes, CodecError> {
        let mut bytes = Vec::new();
        let block_frames = self.format.block_frames() as u16;
        let streaminfo = Streaminfo {
            minimum_block_size: block_frames,
            maximum_block_size: block_frames,
            minimum_frame_size: None,
            maximum_frame_size: None,
            sample_rate: self.format.rate_hz(),
            channels: NonZero::new(self.format.channels() as u8).unwrap_or(NonZero::<u8>::MIN),
            bits_per_sample: self.bits.try_into().map_err(|_| CodecError::FlacBits(self.bits))?,
            total_samples: None,
            md5: None,
        };
        write_blocks(&mut bytes, [flac_codec::metadata::Block::from(streaminfo)])?;
        Ok(bytes.into())
    }

    /// Encodes the block with this sequence number to a frame; a block without samples to no bytes. Only the stream's
    /// last block may be shorter than the others.
    ///
    /// Samples are rounded to the nearest integer and clipped, and a sample that is not a number becomes silence, as in
    /// [`PcmEncoding::encode`](aircheck_engine::source::PcmEncoding::encode). So samples that came from integers of at
    /// most this width are the same integers again.
    ///
    /// # Errors
    ///
    /// Only when the encoder fails, which is not expected of it.
    pub fn encode(&mut self, sequence: u64, samples: &[f32]) -> Result<Bytes, CodecError> {
        if samples.is_empty() {
            return Ok(Bytes::new());
        }
        let full = 1_i32 << (self.bits - 1);
        self.integers.clear();
        // A cast from float saturates, and makes 0 of NaN.
        self.integers
            .extend(samples.iter().map(|sample| ((sample * full as f32).round() as i32).clamp(-full, full - 1)));
        self.frame.clear();
        // The library's writer always counts from 0, so each frame has a new writer and is renumbered.
        FlacStreamWriter::new(&mut self.frame, self.options.clone()).write(
            self.format.rate_hz(),
            self.format.channels() as u8,
            self.bits,
            &self.integers,
        )?;
        let mut bytes = Vec::with_capacity(self.frame.len() + MAX_NUMBER_BYTES);
        match Frame::at(&self.frame, 0) {
            Some(frame) => frame.append_with(frame::number_of(sequence), &self.frame, &mut bytes),
            None => bytes.extend_from_slice(&self.frame),
        }
        Ok(bytes.into())
    }
}

impl std::fmt::Debug for FlacEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlacEncoder").field("format", &self.format).field("bits", &self.bits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn error(rate_hz: u32, channels: u16, block: Duration, bits: u32) -> String {
        FlacEncoder::new(Format::new(rate_hz, channels, block).unwrap(), bits).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_says_what_would_work() {
        let block = Duration::from_millis(10);
        assert!(error(48_000, 9, block, 16).contains("up to 8 channels, and the source has 9"));
        assert!(error(48_000, 2, block, 20).contains("16 or 24 bits, not with 20"));
        assert!(error(65_537, 2, block, 16).contains("65537 Hz"));
        assert!(error(768_000, 2, block, 16).contains("768000 Hz"));
        assert!(error(8_000, 1, Duration::from_millis(1), 16).contains("have 8 (choose another --block)"));
    }

    #[test]
    fn a_block_without_samples_makes_no_frame() {
        let format = Format::new(48_000, 2, Duration::from_millis(10)).unwrap();
        assert!(FlacEncoder::new(format, 16).unwrap().encode(3, &[]).unwrap().is_empty());
    }
}
