//! A source of any rate to Opus's 48 kHz, block by block.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction};

use crate::rendition::codec::CodecError;
use crate::rendition::codec::opus::RATE_HZ;

/// Taps of the filter at sources of up to 48 kHz. At 44.1 kHz that passes everything up to 20 kHz, which is where
/// Opus ends, and delays by 1.5 ms; twice as many would delay by twice as much for nothing that is heard.
const TAPS: usize = 128;
/// Points between two samples at which the filter is there; between them, it is a straight line. They are all that
/// 44.1 and 22.05 kHz need; at other rates the line errs by -100 dB.
const POINTS: usize = 320;

/// Resamples at a fixed ratio. The filter is windowed sinc in the time domain, because it takes blocks of any length
/// at any rate; rubato's FFT resampler works in chunks of whole periods of the two rates, which may be a second long.
pub(super) struct Resampler {
    sinc: Async<f32>,
    channels: usize,
    block_frames: usize,
    head: usize,
}

impl Resampler {
    /// For blocks of `block_frames` frames of `channels` channels at `rate_hz`.
    pub(super) fn new(rate_hz: u32, channels: usize, block_frames: usize) -> Result<Self, CodecError> {
        let parameters = SincInterpolationParameters::new(taps(rate_hz), WindowFunction::BlackmanHarris)
            .interpolation(SincInterpolationType::Linear)
            .oversampling_factor(POINTS);
        let sinc = Async::new_sinc(ratio(rate_hz), 1.0, &parameters, block_frames, channels, FixedAsync::Input)
            .map_err(refused)?;
        Ok(Self { sinc, channels, block_frames, head: head(rate_hz) })
    }

    /// How much later the sound of a source of this rate comes out than it goes in, in frames at 48 kHz.
    pub(super) fn delay(rate_hz: u32) -> usize {
        // Half the filter; but rubato takes a step before its first frame, and so is one frame early.
        (taps(rate_hz) as f64 / 2.0 * ratio(rate_hz)).round() as usize - 1 + head(rate_hz)
    }

    /// Forgets what it was fed, and appends the silence that goes ahead of what comes.
    pub(super) fn restart(&mut self, resampled: &mut Vec<f32>) {
        self.sinc.reset();
        resampled.resize(resampled.len() + self.head * self.channels, 0.0);
    }

    /// Appends what a whole block becomes, interleaved like the block.
    pub(super) fn process(&mut self, block: &[f32], resampled: &mut Vec<f32>) -> Result<(), CodecError> {
        let (start, frames) = (resampled.len(), self.sinc.output_frames_next());
        resampled.resize(start + frames * self.channels, 0.0);
        let input = InterleavedSlice::new(block, self.channels, self.block_frames).map_err(refused)?;
        let mut output = InterleavedSlice::new_mut(&mut resampled[start..], self.channels, frames).map_err(refused)?;
        self.sinc.process_into_buffer(&input, &mut output, None).map_err(refused)?;
        Ok(())
    }
}

/// Frames that come out for each that goes in.
fn ratio(rate_hz: u32) -> f64 {
    f64::from(RATE_HZ) / f64::from(rate_hz)
}

/// Length of the filter, in the source's frames. Going down, the same steepness below 24 kHz takes as many more as
/// there are more samples.
fn taps(rate_hz: u32) -> usize {
    TAPS * rate_hz.div_ceil(RATE_HZ) as usize
}

/// Frames of silence that go ahead. rubato keeps the last two frames of a block for the next one; this makes up for
/// them, so that every block brings what it is long. Else every packet would wait for one more block.
fn head(rate_hz: u32) -> usize {
    (3.0 * ratio(rate_hz)).ceil() as usize + 1
}

fn refused(error: impl std::fmt::Display) -> CodecError {
    CodecError::Resample(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that comes out for `blocks` blocks, of which `sample` tells the frames.
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
    fn every_block_brings_what_it_is_long() {
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
                assert!(ahead <= 2 * resampler.head, "{rate_hz} Hz, {blocks} blocks: {ahead} frames ahead");
            }
        }
    }

    #[test]
    fn a_tone_keeps_its_level_and_comes_when_the_delay_says() {
        for (rate_hz, block_frames) in [(44_100, 441), (16_000, 160), (96_000, 960), (22_050, 221), (192_000, 1920)] {
            let (out, delay) = resample(rate_hz, block_frames, 100, |t| (t * 1000.0 * std::f64::consts::TAU).sin());
            let worst = (delay + 4800..delay + 9600)
                .map(|n| {
                    let t = (n - delay) as f64 / 48_000.0;
                    (f64::from(out[n]) - (t * 1000.0 * std::f64::consts::TAU).sin()).abs()
                })
                .fold(0.0, f64::max);
            // A frame at 48 kHz is 0.13 of this tone's height at most; the delay is rounded to the nearest.
            assert!(worst < 0.07, "{rate_hz} Hz: {worst} off");
        }
    }

    #[test]
    fn what_48_khz_cannot_carry_is_filtered_out() {
        let (out, _) = resample(96_000, 960, 100, |t| (t * 30_000.0 * std::f64::consts::TAU).sin());
        let peak = out[4800..].iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak < 1e-4, "30 kHz came back at {peak}");
    }
}
