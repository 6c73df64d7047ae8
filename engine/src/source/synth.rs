//! Synthesised sound: a test tone, and the demo for machines without a microphone.

use std::f64::consts::TAU;

use crate::Capture;
use crate::source::interface::{Running, Source, SourceError};
use crate::source::paced::Paced;
use crate::source::pull::Pull;

/// Rate of synthesised sound, in Hz: the usual rate of sound cards.
const RATE_HZ: u32 = 48_000;
/// Peak of the test tone: -12 dBFS, loud enough to measure and mild enough to hear.
const TONE_PEAK: f64 = 0.251_188_643_150_958;

/// A sine at -12 dBFS peak, mono, 48 kHz.
#[derive(Clone, Copy, Debug)]
pub struct Tone {
    hz: f64,
}

impl Tone {
    /// Creates a tone of `hz` Hz. Outside of 0 to half the sample rate it is silence or an alias.
    #[must_use]
    pub const fn new(hz: f64) -> Self {
        Self { hz }
    }

    /// Returns the tone as samples on request.
    #[must_use]
    pub fn into_pull(self) -> impl Pull {
        let hz = self.hz;
        // Only the fraction of a cycle goes into the sine, so that the tone stays pure for days.
        let voice = move |_, seconds: f64| TONE_PEAK * (TAU * (hz * seconds).fract()).sin();
        Synth { channels: 1, description: self.description(), position: 0, voice }
    }
}

/// The demo sound: four soft chords that swell and fade, stereo, 48 kHz. Its description says that it is not a
/// microphone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demo;

impl Demo {
    /// Returns the demo sound as samples on request.
    #[must_use]
    pub fn into_pull(self) -> impl Pull {
        Synth { channels: 2, description: self.description(), position: 0, voice: demo_sample }
    }
}

/// Chords of the demo in Hz, each held for [`CHORD_SECONDS`]: Am9, Fmaj7, C, G in a middle register (equal
/// temperament, A = 440 Hz).
const CHORDS: [[f64; 4]; 4] = [
    [220.00, 261.63, 329.63, 493.88],
    [174.61, 220.00, 261.63, 329.63],
    [196.00, 261.63, 329.63, 392.00],
    [196.00, 246.94, 293.66, 392.00],
];
const CHORD_SECONDS: f64 = 4.0;
/// Peak of one voice of a chord: four voices stay below -9 dBFS together.
const VOICE_PEAK: f64 = 0.08;

/// Computes samples from their position.
struct Synth<F> {
    channels: u16,
    description: String,
    position: u64,
    /// Returns the sample of a channel at a time in seconds.
    voice: F,
}

impl<F: Fn(u16, f64) -> f64 + Send + 'static> Pull for Synth<F> {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        self.channels
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        for frame in samples.chunks_exact_mut(usize::from(self.channels)) {
            let seconds = self.position as f64 / f64::from(RATE_HZ);
            for (channel, sample) in (0..).zip(frame) {
                *sample = (self.voice)(channel, seconds) as f32;
            }
            self.position += 1;
        }
        Ok(samples.len())
    }
}

impl Source for Tone {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        1
    }

    fn description(&self) -> String {
        format!("test tone of {} Hz", self.hz)
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        Box::new(Paced::new(self.into_pull())).start(capture)
    }
}

impl Source for Demo {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        2
    }

    fn description(&self) -> String {
        "built-in demo sound (not a microphone)".to_owned()
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        Box::new(Paced::new(self.into_pull())).start(capture)
    }
}

/// Computes a sample of the demo. Each chord swells and fades within its time; the upper voices are to the right, the
/// lower ones to the left.
fn demo_sample(channel: u16, seconds: f64) -> f64 {
    let chord = CHORDS[(seconds / CHORD_SECONDS) as usize % CHORDS.len()];
    let part = (seconds / CHORD_SECONDS).fract();
    let swell = (part * std::f64::consts::PI).sin().powi(2);
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
        let peak = (0..16 * 4800).map(|n| demo_sample(n as u16 % 2, f64::from(n) / 4800.0).abs()).fold(0.0, f64::max);
        assert!((0.1..0.7).contains(&peak), "peak {peak}");
    }
}
