//! The level of sound.

/// Peak and RMS of samples, over all channels together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LevelMeter {
    peak: f32,
    squares: f64,
    samples: u64,
}

impl LevelMeter {
    /// Adds samples. Those that are not a number are left out.
    pub(crate) fn add(&mut self, samples: &[f32]) {
        for &sample in samples.iter().filter(|sample| sample.is_finite()) {
            self.peak = self.peak.max(sample.abs());
            self.squares += f64::from(sample) * f64::from(sample);
            self.samples += 1;
        }
    }

    /// Returns the largest sample in dBFS, where 0 is a sample of 1.0; minus infinity for silence.
    pub(crate) fn peak_dbfs(&self) -> f64 {
        20.0 * f64::from(self.peak).log10()
    }

    /// Returns the RMS in dBFS, where 0 is a constant 1.0: a full-scale sine has -3.0.
    pub(crate) fn rms_dbfs(&self) -> f64 {
        if self.samples == 0 { f64::NEG_INFINITY } else { 10.0 * (self.squares / self.samples as f64).log10() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_scale_sine_peaks_at_0_with_an_rms_of_minus_3() {
        let sine: Vec<f32> = (0..4800).map(|n| (n as f32 * std::f32::consts::TAU / 48.0).sin()).collect();
        let mut level = LevelMeter::default();
        level.add(&sine);
        assert!(level.peak_dbfs().abs() < 0.01, "{}", level.peak_dbfs());
        assert!((level.rms_dbfs() + 3.01).abs() < 0.01, "{}", level.rms_dbfs());
    }

    #[test]
    fn silence_is_minus_infinity() {
        let mut level = LevelMeter::default();
        assert_eq!(level.rms_dbfs(), f64::NEG_INFINITY);
        level.add(&[0.0, -0.0, f32::NAN]);
        assert_eq!(level.peak_dbfs(), f64::NEG_INFINITY);
        assert_eq!(level.rms_dbfs(), f64::NEG_INFINITY);
    }
}
