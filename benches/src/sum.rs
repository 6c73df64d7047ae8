//! The work of a consumer that reads every sample and does nothing else.

/// Partial sums; they fill four vector registers of the smallest x86-64. A single sum would wait for its own last
/// addition.
const LANES: usize = 16;

/// Returns the sum of all samples.
#[must_use]
pub fn sum(samples: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = samples.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, sample) in lanes.iter_mut().zip(chunk) {
            *lane += sample;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_counts() {
        let samples: Vec<f32> = (0..37).map(|n| n as f32).collect();
        assert_eq!(sum(&samples), 666.0);
    }
}
