//! How much faster or slower to play, so that the right amount of sound waits: this evens out the jitter of arrival and
//! the difference between the source's clock and the device's.

use std::time::Instant;

/// The most by which sound is played faster or slower: 9 cents, which is inaudible and more than two clocks ever
/// differ.
pub(super) const MAX_FASTER: f64 = 0.005;
/// An excess is worn down in about this time.
const PULL_SECONDS: f64 = 10.0;
/// The difference of the clocks is learned in this time, which makes the loop critically damped.
const LEARN_SECONDS: f64 = 4.0 * PULL_SECONDS;
/// The level is averaged over this time.
const SMOOTH_SECONDS: f64 = 1.0;

/// The control loop. The time is an argument.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// Smoothed seconds that wait, and when they did.
    level: Option<(f64, Instant)>,
    learned: f64,
}

impl Drift {
    /// Forgets the level, as sound has stopped. The difference of the clocks stays true.
    pub(super) fn pause(&mut self) {
        self.level = None;
    }

    /// Returns by which share to play faster, where `waiting` seconds wait and `target` seconds should.
    pub(super) fn faster(&mut self, waiting: f64, target: f64, now: Instant) -> f64 {
        let (mut level, before) = self.level.unwrap_or((waiting, now));
        let passed = now.saturating_duration_since(before).as_secs_f64();
        level += (waiting - level) * (passed / SMOOTH_SECONDS).min(1.0);
        self.level = Some((level, now));
        let excess = level - target;
        let wanted = excess / PULL_SECONDS + self.learned;
        let faster = wanted.clamp(-MAX_FASTER, MAX_FASTER);
        if faster == wanted {
            self.learned += excess * passed.min(SMOOTH_SECONDS) / (PULL_SECONDS * LEARN_SECONDS);
        }
        faster
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns the seconds that wait after ten minutes with a source that is faster than the device by `ahead`.
    fn settle(ahead: f64, start: f64) -> (f64, f64) {
        let begin = Instant::now();
        let (mut drift, mut waiting, mut faster) = (Drift::default(), start, 0.0);
        for block in 0..60_000 {
            faster = drift.faster(waiting, 0.06, begin + Duration::from_millis(10 * block));
            waiting += 0.01 * (ahead - faster);
        }
        (waiting, faster)
    }

    #[test]
    fn the_level_reaches_its_target_with_any_difference_of_the_clocks() {
        for ahead in [0.0, 0.0002, -0.0002, 0.003] {
            for start in [0.02, 0.06, 0.12] {
                let (waiting, faster) = settle(ahead, start);
                assert!((waiting - 0.06).abs() < 0.001, "{ahead} from {start}: {waiting} s wait");
                assert!((faster - ahead).abs() < 0.0001, "{ahead} from {start}: {faster}");
            }
        }
    }

    #[test]
    fn the_change_of_speed_stays_inaudible() {
        let now = Instant::now();
        assert_eq!(Drift::default().faster(2.0, 0.06, now), MAX_FASTER);
        assert_eq!(Drift::default().faster(0.0, 2.0, now), -MAX_FASTER);
    }
}
