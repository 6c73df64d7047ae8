//! Contenders measured in turn, so that whatever disturbs the machine disturbs all of them.

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
    /// One row a round, one reading for each contender.
    readings: Vec<Vec<f64>>,
}

impl Rounds {
    /// Calls `measure` with each contender's number, 0 to `contenders`, in each round. Every round begins with
    /// another one, so that none is always first after a pause.
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

    /// The median reading of a contender.
    #[must_use]
    pub fn median(&self, contender: usize) -> f64 {
        self.quantile(contender, 0.5)
    }

    /// The reading of a contender that `quantile` (0 to 1) of its readings do not exceed.
    #[must_use]
    pub fn quantile(&self, contender: usize, quantile: f64) -> f64 {
        at(quantile, self.readings.iter().map(|round| round[contender]))
    }

    /// The median of what `contender` reads divided by what `base` reads in the same round.
    #[must_use]
    pub fn ratio(&self, contender: usize, base: usize) -> f64 {
        at(0.5, self.readings.iter().map(|round| round[contender] / round[base]))
    }
}

/// The value at a quantile, the upper one of two; not a number if there is none.
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
