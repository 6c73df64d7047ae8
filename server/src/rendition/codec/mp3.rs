//! MP3: frames of MPEG-1 Layer III at a constant bitrate, for players that know nothing else.
//!
//! MP3 has no positions: sound that is lost is left out, and the sound after it follows at once.

use std::num::NonZeroU32;

use aircheck_engine::Format;
use mp3lame_encoder::{
    Bitrate, Builder, Encoder, FlushGap, InterleavedPcm, Mode, MonoPcm, Quality, max_required_buffer_size,
};

use super::bitrate::Mp3Bitrate;
use super::error::CodecError;
use super::resample::{OUTPUT_RATE_HZ, Resampler};

/// Samples of a channel in a frame of MPEG-1 Layer III (ISO 11172-3, section 2.4.2.1).
const FRAME_SAMPLES: u32 = 1152;
/// The sample rates of MPEG-1 (section 2.4.2.3). Its successors have lower ones, at which a high bitrate is not to be had.
const RATES_HZ: [u32; 3] = [32_000, 44_100, 48_000];
/// Samples that LAME needs at most for its last frames: its buffer and two frames (`lame_encode_flush`).
const FLUSH_BYTES: usize = 7200;

/// The encoder of one stream.
pub struct Mp3Encoder {
    lame: Encoder,
    /// Undoes the factor by which LAME makes all sound quieter.
    gain: f32,
    resampler: Option<Resampler>,
    format: Format,
    block: Vec<f32>,
    resampled: Vec<f32>,
    is_first: bool,
    /// Bytes of a frame without padding.
    frame_bytes: usize,
    /// Bytes that do not make a whole frame yet.
    pending: Vec<u8>,
}

impl Mp3Encoder {
    /// Makes an encoder for `format`. A source at a rate that MPEG-1 has keeps it, and every other one is resampled to 48 kHz.
    ///
    /// # Errors
    ///
    /// For more than two channels, or where LAME or the resampler refuses.
    pub fn new(format: Format, bitrate: Mp3Bitrate) -> Result<Self, CodecError> {
        let mode = match format.channels() {
            1 => Mode::Mono,
            2 => Mode::JointStereo,
            channels => return Err(CodecError::Mp3Channels(channels)),
        };
        let rate_hz = Self::rate_hz(format);
        let mut lame = Builder::new().ok_or_else(|| CodecError::Mp3("out of memory".to_owned()))?;
        lame.set_sample_rate(rate_hz).map_err(refused)?;
        // By itself, LAME takes a lower one at a low bitrate, whose frames are those of MPEG-2.
        lame.set_output_sample_rate(NonZeroU32::new(rate_hz)).map_err(refused)?;
        lame.set_num_channels(format.channels() as u8).map_err(refused)?;
        lame.set_mode(mode).map_err(refused)?;
        lame.set_brate(kilobits(bitrate)).map_err(refused)?;
        // LAME's own choice at a constant bitrate.
        lame.set_quality(Quality::VeryNice).map_err(refused)?;
        // A frame that describes a whole file has no place in a stream.
        lame.set_to_write_vbr_tag(false).map_err(refused)?;
        let resampler = (rate_hz != format.rate_hz())
            .then(|| Resampler::new(format.rate_hz(), format.channels().into(), format.block_frames() as usize))
            .transpose()?;
        Ok(Self {
            lame: lame.build().map_err(refused)?,
            gain: 1.0 / lame_scale(bitrate),
            resampler,
            format,
            block: Vec::with_capacity(format.block_samples()),
            resampled: Vec::new(),
            is_first: true,
            frame_bytes: (FRAME_SAMPLES / 8 * bitrate.bits_per_second() / rate_hz) as usize,
            pending: Vec::new(),
        })
    }

    /// Returns the sample rate of the decoded stream.
    #[must_use]
    pub fn rate_hz(format: Format) -> u32 {
        if RATES_HZ.contains(&format.rate_hz()) { format.rate_hz() } else { OUTPUT_RATE_HZ }
    }

    /// Returns how many blocks it takes at most until a frame is complete.
    #[must_use]
    pub fn blocks_of_frame(format: Format) -> u64 {
        let frame_span = f64::from(FRAME_SAMPLES) / f64::from(Self::rate_hz(format));
        (frame_span / format.block_span().as_secs_f64()).ceil() as u64
    }

    /// Encodes the samples of a block, and appends the frames that it completes.
    ///
    /// A sample that is not a number becomes silence, and samples beyond full scale are clipped.
    ///
    /// # Errors
    ///
    /// Only when LAME or the resampler fails, which is not expected of them.
    pub fn encode(&mut self, samples: &[f32], bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.block.clear();
        let clipped = |sample: &f32| if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) };
        self.block.extend(samples.iter().map(|sample| self.gain * clipped(sample)));
        let samples = match &mut self.resampler {
            None => &self.block,
            Some(resampler) => {
                // The resampler takes whole blocks; the last one of a file may be shorter.
                self.block.resize(self.format.block_samples(), 0.0);
                self.resampled.clear();
                if std::mem::take(&mut self.is_first) {
                    resampler.restart(&mut self.resampled);
                }
                resampler.process(&self.block, &mut self.resampled)?;
                &self.resampled
            }
        };
        self.pending.reserve(max_required_buffer_size(samples.len() / usize::from(self.format.channels())));
        let encoded = match self.format.channels() {
            1 => self.lame.encode_to_vec(MonoPcm(samples), &mut self.pending),
            _ => self.lame.encode_to_vec(InterleavedPcm(samples), &mut self.pending),
        };
        encoded.map_err(refused)?;
        self.take_frames(bytes);
        Ok(())
    }

    /// Appends the frames that hold the end of the sound.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn finish(&mut self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.pending.reserve(FLUSH_BYTES);
        self.lame.flush_to_vec::<FlushGap>(&mut self.pending).map_err(refused)?;
        bytes.append(&mut self.pending);
        Ok(())
    }

    /// Appends the frames that are whole. LAME hands over its bytes as they come, and a listener that joins should begin with a frame.
    fn take_frames(&mut self, bytes: &mut Vec<u8>) {
        let mut whole = 0;
        while let Some(codes) = self.pending.get(whole + 2) {
            // Where a frame does not last a whole number of bytes, some have one more (ISO 11172-3, section 2.4.2.3).
            let padding = usize::from(codes >> 1 & 1);
            let end = whole + self.frame_bytes + padding;
            if end > self.pending.len() {
                break;
            }
            whole = end;
        }
        bytes.extend(self.pending.drain(..whole));
    }
}

/// Returns the factor by which LAME multiplies the samples at a constant bitrate, so that decoders of integers clip less
/// (`abr_switch_map` in its `presets.c`). It would be a level that the source does not have.
fn lame_scale(bitrate: Mp3Bitrate) -> f32 {
    match bitrate.bits_per_second() / 1000 {
        0..=160 => 0.95,
        161..=192 => 0.97,
        193..=224 => 0.98,
        _ => 1.0,
    }
}

impl std::fmt::Debug for Mp3Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mp3Encoder").field("format", &self.format).finish_non_exhaustive()
    }
}

fn refused(error: impl std::fmt::Display) -> CodecError {
    CodecError::Mp3(error.to_string())
}

fn kilobits(bitrate: Mp3Bitrate) -> Bitrate {
    match bitrate.bits_per_second() / 1000 {
        ..40 => Bitrate::Kbps32,
        40..48 => Bitrate::Kbps40,
        48..64 => Bitrate::Kbps48,
        64..80 => Bitrate::Kbps64,
        80..96 => Bitrate::Kbps80,
        96..112 => Bitrate::Kbps96,
        112..128 => Bitrate::Kbps112,
        128..160 => Bitrate::Kbps128,
        160..192 => Bitrate::Kbps160,
        192..224 => Bitrate::Kbps192,
        224..256 => Bitrate::Kbps224,
        256..320 => Bitrate::Kbps256,
        320.. => Bitrate::Kbps320,
    }
}
