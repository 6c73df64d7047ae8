//! How much faster or slower to play, so that as much sound waits as should: the jitter of what comes is evened out,
//! and that the source's clock and the device's differ is made up for.

use std::time::Instant;

use super::FASTER_MOST;

/// An excess is worn down in about this time.
const PULL_SECONDS: f64 = 10.0;
/// The difference of the clocks is learned in this: critically damped.
const LEARN_SECONDS: f64 = 4.0 * PULL_SECONDS;
/// Over which time the level is averaged.
const SMOOTH_SECONDS: f64 = 1.0;

/// Holds the level. Time is given to it.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// Seconds that wait, smoothed, and when that was.
    level: Option<(f64, Instant)>,
    learned: f64,
}

impl Drift {
    /// Sound has stopped; what was learned of the clocks stays true.
    pub(super) fn pause(&mut self) {
        self.level = None;
    }

    /// By which share to play faster, where `waiting` seconds wait and `target` seconds should.
    pub(super) fn faster(&mut self, waiting: f64, target: f64, now: Instant) -> f64 {
        let (mut level, before) = self.level.unwrap_or((waiting, now));
        let passed = now.saturating_duration_since(before).as_secs_f64();
        level += (waiting - level) * (passed / SMOOTH_SECONDS).min(1.0);
        self.level = Some((level, now));
        let excess = level - target;
        let wanted = excess / PULL_SECONDS + self.learned;
        let faster = wanted.clamp(-FASTER_MOST, FASTER_MOST);
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

    /// The seconds that wait after ten minutes with a source that is faster than the device by `ahead`.
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
    fn the_level_comes_to_its_target_whatever_the_clocks_differ_by() {
        for ahead in [0.0, 0.0002, -0.0002, 0.003] {
            for start in [0.02, 0.06, 0.12] {
                let (waiting, faster) = settle(ahead, start);
                assert!((waiting - 0.06).abs() < 0.001, "{ahead} from {start}: {waiting} s wait");
                assert!((faster - ahead).abs() < 0.0001, "{ahead} from {start}: {faster}");
            }
        }
    }

    #[test]
    fn it_is_never_so_fast_that_it_is_heard() {
        let now = Instant::now();
        assert_eq!(Drift::default().faster(2.0, 0.06, now), FASTER_MOST);
        assert_eq!(Drift::default().faster(0.0, 2.0, now), -FASTER_MOST);
    }
}
