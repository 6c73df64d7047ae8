//! Resampling of blocks of any rate to the 48 kHz of Opus.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction};

use super::error::CodecError;

/// The rate of what comes out.
pub(super) const OUTPUT_RATE_HZ: u32 = 48_000;
/// Taps of the filter for sources of up to 48 kHz. At 44.1 kHz it passes everything up to 20 kHz, which is the bandwidth
/// of Opus, and delays by 1.5 ms; twice as many would double the delay without being heard.
const TAPS: usize = 128;
/// Points of the filter that are computed for the time between two samples; it is interpolated linearly between them.
/// 44.1 and 22.05 kHz need these points only; at other rates interpolation errs by -100 dB.
const POINTS: usize = 320;

/// A resampler with a fixed ratio. Its filter is a windowed sinc in the time domain, which takes blocks of any length at
/// any rate; rubato's FFT resampler takes chunks of whole periods of both rates, which may be a second long.
pub(super) struct Resampler {
    sinc: Async<f32>,
    channels: usize,
    block_frames: usize,
    /// Frames of silence ahead of the sound, see [`lead_frames`].
    lead_frames: usize,
}

impl Resampler {
    /// Makes a resampler for blocks of `block_frames` frames of `channels` channels at `rate_hz`.
    pub(super) fn new(rate_hz: u32, channels: usize, block_frames: usize) -> Result<Self, CodecError> {
        let parameters = SincInterpolationParameters::new(taps(rate_hz), WindowFunction::BlackmanHarris)
            .interpolation(SincInterpolationType::Linear)
            .oversampling_factor(POINTS);
        let sinc = Async::new_sinc(ratio(rate_hz), 1.0, &parameters, block_frames, channels, FixedAsync::Input)
            .map_err(refused)?;
        Ok(Self { sinc, channels, block_frames, lead_frames: lead_frames(rate_hz) })
    }

    /// Returns the delay of a resampler for sources of this rate, in frames at 48 kHz.
    pub(super) fn delay(rate_hz: u32) -> usize {
        // Half the filter, less one frame: rubato makes a step before its first frame.
        (taps(rate_hz) as f64 / 2.0 * ratio(rate_hz)).round() as usize - 1 + lead_frames(rate_hz)
    }

    /// Forgets all blocks so far, and appends the silence that leads the next ones.
    pub(super) fn restart(&mut self, resampled: &mut Vec<f32>) {
        self.sinc.reset();
        resampled.resize(resampled.len() + self.lead_frames * self.channels, 0.0);
    }

    /// Resamples a whole block and appends the result, interleaved like the block.
    pub(super) fn process(&mut self, block: &[f32], resampled: &mut Vec<f32>) -> Result<(), CodecError> {
        let (start, frames) = (resampled.len(), self.sinc.output_frames_next());
        resampled.resize(start + frames * self.channels, 0.0);
        let input = InterleavedSlice::new(block, self.channels, self.block_frames).map_err(refused)?;
        let mut output = InterleavedSlice::new_mut(&mut resampled[start..], self.channels, frames).map_err(refused)?;
        self.sinc.process_into_buffer(&input, &mut output, None).map_err(refused)?;
        Ok(())
    }
}

/// Returns the frames at 48 kHz for each frame of the source.
fn ratio(rate_hz: u32) -> f64 {
    f64::from(OUTPUT_RATE_HZ) / f64::from(rate_hz)
}

/// Returns the length of the filter in the source's frames. Above 48 kHz, the same steepness below 24 kHz takes more of
/// them, in proportion to the rate.
fn taps(rate_hz: u32) -> usize {
    TAPS * rate_hz.div_ceil(OUTPUT_RATE_HZ) as usize
}

/// Returns the frames of silence that lead the sound. rubato keeps the last two frames of a block for the next one; the
/// silence makes up for them, so that each block yields its whole length and no packet waits for one more block.
fn lead_frames(rate_hz: u32) -> usize {
    (3.0 * ratio(rate_hz)).ceil() as usize + 1
}

fn refused(error: impl std::fmt::Display) -> CodecError {
    CodecError::Resample(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resamples `blocks` blocks whose frames are `sample` of their time in seconds, and returns the result and its delay.
    fn resample(rate_hz: u32, block_frames: usize, blocks: usize, sample: impl Fn(f64) -> f64) -> (Vec<f32>, usize) {
        let mut resampler = Resampler::new(rate_hz, 1, block_frames).unwrap();
        let mut out = Vec::new();
        resampler.restart(&mut out);
        for block in 0..blocks {
            let block: Vec<f32> = (0..block_frames)
                .map(|frame| sample((block * block_frames + frame) as f64 / f64::from(rate_hz)) as f32)
                .collect();
            resampler.process(&block, &mut out).unwrap();
        }
        (out, Resampler::delay(rate_hz))
    }

    #[test]
    fn every_block_yields_its_own_length() {
        for (rate_hz, block_frames) in [
            (44_100, 441),
            (44_100, 110),
            (8_000, 80),
            (11_025, 110),
            (32_000, 32),
            (96_000, 960),
            (44_101, 441),
            (100, 1),
        ] {
            let mut resampler = Resampler::new(rate_hz, 2, block_frames).unwrap();
            let (mut out, block) = (Vec::new(), vec![0.0; 2 * block_frames]);
            resampler.restart(&mut out);
            for blocks in 1..=1000 {
                resampler.process(&block, &mut out).unwrap();
                let due = blocks * block_frames * 48_000 / rate_hz as usize;
                let ahead = out.len() / 2 - due;
                assert!(ahead <= 2 * resampler.lead_frames, "{rate_hz} Hz, {blocks} blocks: {ahead} frames ahead");
            }
        }
    }

    #[test]
    fn a_tone_keeps_its_level_and_is_late_by_the_delay() {
        for (rate_hz, block_frames) in [(44_100, 441), (16_000, 160), (96_000, 960), (22_050, 221), (192_000, 1920)] {
            let (out, delay) = resample(rate_hz, block_frames, 100, |t| (t * 1000.0 * std::f64::consts::TAU).sin());
            let worst = (delay + 4800..delay + 9600)
                .map(|n| {
                    let t = (n - delay) as f64 / 48_000.0;
                    (f64::from(out[n]) - (t * 1000.0 * std::f64::consts::TAU).sin()).abs()
                })
                .fold(0.0, f64::max);
            // The delay is rounded to whole frames, and this tone changes by up to 0.13 in a frame at 48 kHz.
            assert!(worst < 0.07, "{rate_hz} Hz: {worst} off");
        }
    }

    #[test]
    fn frequencies_above_24_khz_are_filtered_out() {
        let (out, _) = resample(96_000, 960, 100, |t| (t * 30_000.0 * std::f64::consts::TAU).sin());
        let peak = out[4800..].iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak < 1e-4, "30 kHz came back at {peak}");
    }
}
