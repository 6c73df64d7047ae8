//! Contenders measured in turn, so that a disturbance of the machine disturbs all of them.

/// Readings of several contenders over a number of rounds.
///
/// ```
/// use aircheck_benches::Rounds;
///
/// let rounds = Rounds::run(5, 2, |contender| if contender == 0 { 30.0 } else { 10.0 });
/// assert_eq!(rounds.median(1), 10.0);
/// assert_eq!(rounds.ratio(0, 1), 3.0);
/// ```
#[derive(Clone, Debug)]
pub struct Rounds {
    /// A row for each round, with a reading for each contender.
    readings: Vec<Vec<f64>>,
}

impl Rounds {
    /// Calls `measure` in each round with the number of each contender, from 0 on. Every round begins with another
    /// contender, so that none is always the first after a pause.
    pub fn run(rounds: usize, contenders: usize, mut measure: impl FnMut(usize) -> f64) -> Self {
        let round = |number: usize| {
            let mut readings = vec![0.0; contenders];
            for turn in 0..contenders {
                let contender = (number + turn) % contenders;
                readings[contender] = measure(contender);
            }
            readings
        };
        Self { readings: (0..rounds).map(round).collect() }
    }

    /// Returns the median reading of a contender.
    #[must_use]
    pub fn median(&self, contender: usize) -> f64 {
        self.quantile(contender, 0.5)
    }

    /// Returns the reading at a quantile (0 to 1) of a contender's readings.
    #[must_use]
    pub fn quantile(&self, contender: usize, quantile: f64) -> f64 {
        at(quantile, self.readings.iter().map(|round| round[contender]))
    }

    /// Returns the median of the ratios of `contender` to `base`, each of two readings of the same round.
    #[must_use]
    pub fn ratio(&self, contender: usize, base: usize) -> f64 {
        at(0.5, self.readings.iter().map(|round| round[contender] / round[base]))
    }
}

/// Returns the value at a quantile, the upper one of two; not a number if there are no values.
fn at(quantile: f64, values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let index = (values.len() as f64 * quantile) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_round_does_not_move_the_ratio() {
        let mut calls = 0.0;
        // The machine slows down tenfold after the second round.
        let rounds = Rounds::run(5, 2, |contender| {
            calls += 1.0;
            (if calls > 4.0 { 10.0 } else { 1.0 }) * (1.0 + contender as f64)
        });
        assert_eq!(rounds.ratio(1, 0), 2.0);
    }
}
