//! The demo sound, for machines without a microphone.

use std::f64::consts::{PI, TAU};

use aircheck_engine::source::Pull;

/// Rate of the demo in Hz: the usual rate of sound cards.
const RATE_HZ: u32 = 48_000;
/// Chords in Hz, each held for [`CHORD_SECONDS`]: Am9, Fmaj7, C, G in a middle register (equal temperament, A = 440 Hz).
const CHORDS: [[f64; 4]; 4] = [
    [220.00, 261.63, 329.63, 493.88],
    [174.61, 220.00, 261.63, 329.63],
    [196.00, 261.63, 329.63, 392.00],
    [196.00, 246.94, 293.66, 392.00],
];
const CHORD_SECONDS: f64 = 4.0;
/// Peak of one voice of a chord: four voices stay below -9 dBFS together.
const VOICE_PEAK: f64 = 0.08;

/// Four soft chords that swell and fade, stereo. Its description says that it is not a microphone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demo {
    /// Frames so far.
    position: u64,
}

impl Pull for Demo {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        2
    }

    fn description(&self) -> String {
        "built-in demo sound (not a microphone)".to_owned()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        for frame in samples.chunks_exact_mut(2) {
            let seconds = self.position as f64 / f64::from(RATE_HZ);
            for (channel, sample) in frame.iter_mut().enumerate() {
                *sample = sample_at(channel, seconds) as f32;
            }
            self.position += 1;
        }
        Ok(samples.len())
    }
}

/// Computes a sample. Each chord swells and fades within its time; the upper voices are to the right, the lower ones to
/// the left.
fn sample_at(channel: usize, seconds: f64) -> f64 {
    let chord = CHORDS[(seconds / CHORD_SECONDS) as usize % CHORDS.len()];
    let part = (seconds / CHORD_SECONDS).fract();
    let swell = (part * PI).sin().powi(2);
    let voices = chord.iter().enumerate().map(|(index, hz)| {
        let right = 0.3 + 0.4 * index as f64 / 3.0;
        let pan = if channel == 0 { 1.0 - right } else { right };
        let tremble = 1.0 + 0.1 * (TAU * (0.3 + 0.1 * index as f64) * seconds).sin();
        2.0 * pan * tremble * (TAU * (hz * seconds).fract()).sin()
    });
    VOICE_PEAK * swell * voices.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_soft_but_not_silent() {
        let mut samples = vec![0.0; 2 * 16 * RATE_HZ as usize];
        assert_eq!(Demo::default().pull(&mut samples), Ok(samples.len()));
        let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!((0.1..0.7).contains(&peak), "peak {peak}");
    }
}
