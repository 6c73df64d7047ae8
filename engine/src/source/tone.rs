//! A test tone.

use std::f64::consts::TAU;

use crate::Capture;
use crate::source::interface::{Running, Source, SourceError};
use crate::source::paced::Paced;
use crate::source::pull::Pull;

/// Rate of the tone, in Hz: the usual rate of sound cards.
const RATE_HZ: u32 = 48_000;
/// Peak of the tone: -12 dBFS, loud enough to measure and mild enough to hear.
const PEAK: f64 = 0.251_188_643_150_958;

/// A sine at -12 dBFS peak, mono, 48 kHz.
#[derive(Clone, Copy, Debug)]
pub struct Tone {
    hz: f64,
}

impl Tone {
    /// Creates a tone of `hz` Hz, from above 0 to below 24,000. Others are an alias or, like a number that is not finite,
    /// silence.
    ///
    /// ```
    /// use aircheck_engine::source::{Source, Tone};
    ///
    /// assert_eq!(Tone::new(440.0).rate_hz(), 48_000);
    /// ```
    #[must_use]
    pub const fn new(hz: f64) -> Self {
        Self { hz: if hz.is_finite() { hz } else { 0.0 } }
    }

    /// Returns the tone as samples on request.
    ///
    /// ```
    /// use aircheck_engine::source::{Pull, Tone};
    ///
    /// let mut samples = [0.0; 480];
    /// assert_eq!(Tone::new(1000.0).into_pull().pull(&mut samples), Ok(480));
    /// assert!(samples.iter().any(|sample| *sample > 0.25) && samples.iter().all(|sample| *sample < 0.252));
    /// ```
    #[must_use]
    pub fn into_pull(self) -> impl Pull {
        Samples { tone: self, position: 0 }
    }
}

/// The samples of a tone from a position on, in frames.
struct Samples {
    tone: Tone,
    position: u64,
}

impl Pull for Samples {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        1
    }

    fn description(&self) -> String {
        self.tone.description()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        for sample in &mut *samples {
            let seconds = self.position as f64 / f64::from(RATE_HZ);
            // Only the fraction of a cycle goes into the sine, so that the tone stays pure for days.
            *sample = (PEAK * (TAU * (self.tone.hz * seconds).fract()).sin()) as f32;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_frequency_makes_a_sample_that_is_none() {
        for hz in [f64::NAN, f64::INFINITY, f64::MAX, -440.0, 0.0, 1e-300, 24_000.0] {
            let mut samples = [9.0; 1000];
            assert_eq!(Tone::new(hz).into_pull().pull(&mut samples), Ok(1000));
            assert!(samples.iter().all(|sample| sample.abs() < 0.252), "{hz} Hz: {samples:?}");
        }
    }
}
