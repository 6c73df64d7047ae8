//! A source whose speed can be changed, by resampling.

use aircheck_engine::source::{Arrival, Pull, Waiting};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable as _, Async, FixedAsync, Resampler as _, Resizable as _, SincInterpolationParameters,
    SincInterpolationType, WindowFunction,
};

/// Taps of the filter: at 48 kHz it delays by 1.3 ms, and passes 20 kHz.
const TAPS: usize = 128;
/// Points between two samples at which the filter is tabulated; between them it is a straight line, good to 90 dB.
const POINTS: usize = 256;
/// The ratio may be off 1 by this factor: twice what the engine asks for.
const MAX_RATIO: f64 = 1.01;
/// Frames that are resampled at a time, at most: more than the engine reads at a time, at its highest rate.
const MAX_FRAMES: usize = 4096;

/// Resamples a source to the pace that the engine sets.
pub(super) struct Steady<P> {
    source: P,
    sinc: Async<f32>,
    input: Vec<f32>,
    has_ended: bool,
}

impl<P: Pull> Steady<P> {
    /// Makes a source that is as fast as `source` at first.
    pub(super) fn new(source: P) -> Result<Self, String> {
        let parameters = SincInterpolationParameters::new(TAPS, WindowFunction::BlackmanHarris)
            .interpolation(SincInterpolationType::Linear)
            .oversampling_factor(POINTS);
        let channels = usize::from(source.channels());
        let sinc = Async::new_sinc(1.0, MAX_RATIO, &parameters, MAX_FRAMES, channels, FixedAsync::Output)
            .map_err(|error| error.to_string())?;
        Ok(Self { source, sinc, input: Vec::new(), has_ended: false })
    }

    /// Reads until the input is full, or the source has ended. Returns the whole frames that it has.
    fn fill(&mut self, channels: usize) -> Result<usize, String> {
        let mut filled = 0;
        while filled < self.input.len() && !self.has_ended {
            let read = self.source.pull(&mut self.input[filled..])?;
            self.has_ended = read == 0;
            filled += read;
        }
        self.input[filled..].fill(0.0);
        Ok(filled / channels)
    }
}

impl<P: Pull> Pull for Steady<P> {
    fn rate_hz(&self) -> u32 {
        self.source.rate_hz()
    }

    fn channels(&self) -> u16 {
        self.source.channels()
    }

    fn sample_bits(&self) -> Option<u16> {
        self.source.sample_bits()
    }

    fn description(&self) -> String {
        format!("{}, resampled to this machine's clock", self.source.description())
    }

    fn arrival(&self) -> Arrival {
        self.source.arrival()
    }

    fn waiting(&self) -> Option<Waiting> {
        self.source.waiting()
    }

    fn set_faster(&mut self, share: f64) -> bool {
        self.sinc.set_resample_ratio(1.0 / (1.0 + share), true).is_ok()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        let channels = usize::from(self.channels());
        let frames = (samples.len() / channels).min(MAX_FRAMES);
        let told = |error: &dyn std::fmt::Display| format!("the sound on stdin cannot be resampled: {error}");
        self.sinc.set_chunk_size(frames).map_err(|error| told(&error))?;
        let needed = self.sinc.input_frames_next();
        self.input.resize(needed * channels, 0.0);
        if self.fill(channels)? == 0 && needed > 0 {
            return Ok(0);
        }
        let input = InterleavedSlice::new(&self.input, channels, needed).map_err(|error| told(&error))?;
        let mut output = InterleavedSlice::new_mut(samples, channels, frames).map_err(|error| told(&error))?;
        let (_, made) = self.sinc.process_into_buffer(&input, &mut output, None).map_err(|error| told(&error))?;
        Ok(made * channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sine of 1 kHz at 48 kHz, of so many frames, in two channels.
    struct Sine {
        frames: usize,
        at: usize,
    }

    impl Pull for Sine {
        fn rate_hz(&self) -> u32 {
            48_000
        }

        fn channels(&self) -> u16 {
            2
        }

        fn description(&self) -> String {
            "sine".to_owned()
        }

        fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
            // In odd portions, as a pipe has them.
            let frames = (samples.len() / 2).min(self.frames - self.at).min(37);
            for frame in samples.chunks_exact_mut(2).take(frames) {
                let sample = (self.at as f64 / 48.0 * std::f64::consts::TAU).sin() as f32;
                frame.copy_from_slice(&[sample, -sample]);
                self.at += 1;
            }
            Ok(2 * frames)
        }
    }

    /// Reads ten seconds of sine at a speed, 2 ms at a time.
    fn read(faster: f64) -> Vec<f32> {
        let mut steady = Steady::new(Sine { frames: 480_000, at: 0 }).unwrap();
        assert!(steady.set_faster(faster));
        let mut out = Vec::new();
        let mut portion = [0.0; 192];
        loop {
            let filled = steady.pull(&mut portion).unwrap();
            if filled == 0 {
                return out;
            }
            assert_eq!(filled % 2, 0);
            out.extend_from_slice(&portion[..filled]);
        }
    }

    #[test]
    fn the_sound_is_as_much_shorter_as_it_is_faster_and_stays_a_sine() {
        for faster in [-0.005, -0.0001, 0.0, 0.003, 0.005] {
            let out = read(faster);
            let expected = 480_000.0 / (1.0 + faster);
            assert!((out.len() as f64 / 2.0 - expected).abs() < 300.0, "{faster}: {} for {expected}", out.len() / 2);
            let left: Vec<f64> =
                out[1_000..out.len() - 1_000].iter().step_by(2).map(|sample| f64::from(*sample)).collect();
            // For a sine, each sample follows from the two before it.
            let factor = 2.0 * (std::f64::consts::TAU * (1.0 + faster) / 48.0).cos();
            let error = left.windows(3).map(|w| (w[2] - factor * w[1] + w[0]).powi(2)).sum::<f64>() / left.len() as f64;
            assert!(error.sqrt() < 3e-4, "{faster}: {}", error.sqrt());
            assert!(out.chunks_exact(2).all(|frame| (frame[0] + frame[1]).abs() < 1e-6));
        }
    }

    #[test]
    fn the_speed_changes_without_a_click() {
        let mut steady = Steady::new(Sine { frames: 96_000, at: 0 }).unwrap();
        let mut out = Vec::new();
        let mut portion = [0.0; 192];
        for turn in 0..900 {
            steady.set_faster(if turn % 2 == 0 { 0.005 } else { -0.005 });
            let filled = steady.pull(&mut portion).unwrap();
            out.extend(portion[..filled].iter().step_by(2));
        }
        // A sine of 1 kHz bends by 0.0171 from frame to frame at most.
        let bend = out[500..].windows(3).map(|w: &[f32]| (w[2] - 2.0 * w[1] + w[0]).abs()).fold(0.0, f32::max);
        assert!(bend < 0.0185, "{bend}");
    }
}
