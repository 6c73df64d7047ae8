//! Conversion from the stream's rate to the device's, at a ratio that follows the difference of the two clocks.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable as _, Async, FixedAsync, Resampler as _, Resizable as _, SincInterpolationParameters,
    SincInterpolationType, WindowFunction,
};

use super::drift::MAX_FASTER;

/// Taps of the filter: at 48 kHz it delays by 1.3 ms.
const TAPS: usize = 128;
/// Points between two samples at which the filter is tabulated; between them it is a straight line, good to 90 dB.
const POINTS: usize = 256;

/// A windowed sinc in the time domain: it takes portions of any length, and its ratio may change at any time. Errors are
/// rubato's own words.
pub(super) struct Resampler {
    sinc: Async<f32>,
    channels: usize,
    max_frames: usize,
    ratio: f64,
    out: Vec<f32>,
}

impl Resampler {
    /// Makes a resampler for portions of up to `max_frames` frames of `channels` channels. It fails for impossible
    /// rates or lengths.
    pub(super) fn new(from_hz: u32, to_hz: u32, channels: usize, max_frames: usize) -> Result<Self, String> {
        let ratio = f64::from(to_hz) / f64::from(from_hz);
        // Going down, the same steepness takes as many more taps as there are more samples.
        let taps = TAPS * from_hz.div_ceil(to_hz) as usize;
        let parameters = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris)
            .interpolation(SincInterpolationType::Linear)
            .oversampling_factor(POINTS);
        let slack = 1.0 + 2.0 * MAX_FASTER;
        let sinc = Async::new_sinc(ratio, slack, &parameters, max_frames, channels, FixedAsync::Input)
            .map_err(|error| error.to_string())?;
        let out = vec![0.0; sinc.output_frames_max() * channels];
        Ok(Self { sinc, channels, max_frames, ratio, out })
    }

    /// Makes the sound faster by this share from here on.
    pub(super) fn set_faster(&mut self, faster: f64) -> Result<(), String> {
        self.sinc.set_resample_ratio(self.ratio / (1.0 + faster), true).map_err(|error| error.to_string())
    }

    /// Returns the delay of a frame, in frames of the device.
    pub(super) fn delay_frames(&self) -> usize {
        self.sinc.output_delay()
    }

    /// Returns the most frames that go in at a time.
    pub(super) fn max_frames(&self) -> usize {
        self.max_frames
    }

    /// Resamples whole interleaved frames.
    pub(super) fn process(&mut self, samples: &[f32]) -> Result<&[f32], String> {
        let frames = samples.len() / self.channels;
        if frames == 0 {
            return Ok(&[]);
        }
        let told = |error: &dyn std::fmt::Display| error.to_string();
        self.sinc.set_chunk_size(frames).map_err(|error| told(&error))?;
        let room = self.out.len() / self.channels;
        let input = InterleavedSlice::new(samples, self.channels, frames).map_err(|error| told(&error))?;
        let mut output = InterleavedSlice::new_mut(&mut self.out, self.channels, room).map_err(|error| told(&error))?;
        let (_, made) = self.sinc.process_into_buffer(&input, &mut output, None).map_err(|error| told(&error))?;
        Ok(&self.out[..made * self.channels])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_stays_one_in_portions_of_any_length_at_a_ratio_that_changes() {
        let mut resampler = Resampler::new(44_100, 48_000, 1, 441).unwrap();
        let mut out = Vec::new();
        let mut at = 0;
        for (turn, frames) in [441, 100, 1, 441, 37].into_iter().cycle().take(500).enumerate() {
            let tone: Vec<f32> = (at..at + frames).map(|n| (n as f32 / 44.1 * std::f32::consts::TAU).sin()).collect();
            resampler.set_faster(if turn % 100 < 50 { MAX_FASTER } else { -MAX_FASTER }).unwrap();
            out.extend_from_slice(resampler.process(&tone).unwrap());
            at += frames;
        }
        let expected = at as f64 / 44_100.0 * 48_000.0;
        assert!((out.len() as f64 - expected).abs() < 0.006 * expected, "{} for {expected}", out.len());
        // A sine of 1 kHz changes by 0.13 from frame to frame at most, and its change by 0.017.
        let sound = &out[500..];
        let bend = sound.windows(3).map(|w| (w[2] - 2.0 * w[1] + w[0]).abs()).fold(0.0, f32::max);
        let peak = sound.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!(bend < 0.0185 && (0.98..1.02).contains(&peak), "bend {bend}, peak {peak}");
    }

    #[test]
    fn a_frame_comes_out_when_the_delay_says() {
        for (from_hz, to_hz) in [(48_000, 48_000), (44_100, 48_000), (48_000, 44_100), (96_000, 48_000)] {
            let mut resampler = Resampler::new(from_hz, to_hz, 1, 480).unwrap();
            let mut samples = vec![0.0; 960];
            samples[300] = 1.0;
            let mut out = Vec::new();
            for portion in samples.chunks(480) {
                out.extend_from_slice(resampler.process(portion).unwrap());
            }
            let peak = (0..out.len()).max_by(|&a, &b| out[a].total_cmp(&out[b])).unwrap();
            let expected = 300.0 * f64::from(to_hz) / f64::from(from_hz) + resampler.delay_frames() as f64;
            assert!((peak as f64 - expected).abs() <= 3.0, "{from_hz} to {to_hz}: {peak}, not {expected}");
        }
    }
}
