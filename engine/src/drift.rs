//! The drift of a source's clock against the system's, from frames counted over time.
//!
//! Sound is handed over late, by a jitter that differs each time, but never before it was captured. So of each window only
//! the frame that was the least late counts, and the drift is the slope of a straight line through these. Times are
//! arguments.

use crate::Timestamp;

/// Windows in a line. With fewer than [`MIN_WINDOWS`] nothing is told.
const MAX_WINDOWS: usize = 64;
/// Fewest windows of a line.
const MIN_WINDOWS: usize = 8;
/// Length of the first windows, in seconds: well above the period of any device, which is the jitter.
const FIRST_WINDOW_SECONDS: f64 = 1.0;
/// Length of windows from which on the oldest is forgotten, so that the line covers half an hour at most: crystals follow
/// the temperature.
const LAST_WINDOW_SECONDS: f64 = 32.0;
/// The sound has paused, or some was lost, if it comes later or earlier by more than this than the last window says. Ten
/// times what the worst of clocks does in the first windows.
const MAX_JUMP_SECONDS: f64 = 0.05;
/// The worst clock of which a drift is told. It is the least good that people build: software that sleeps between blocks.
const MAX_DRIFT: f64 = 0.01;

/// How much faster than the system's clock a source is, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Drift {
    /// Above zero, the source is faster.
    pub ppm: f64,
    /// Two standard errors: the true drift is within this of `ppm` in 19 of 20 cases.
    pub error_ppm: f64,
}

/// The best frame of a window: when it came, and by how much the frames were ahead of the clock, in seconds since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    at: f64,
    ahead: f64,
}

/// Measures the drift. It has a fixed size and allocates nothing, so that a callback can use it.
#[derive(Debug)]
pub(crate) struct DriftMeter {
    rate_hz: f64,
    /// Frames and time of the first observation.
    start: Option<(u64, Timestamp)>,
    points: [Point; MAX_WINDOWS],
    filled: usize,
    window_seconds: f64,
    window_start: f64,
    best: Option<Point>,
    /// The drift so far, as a share, so that the best of two points is the nearer to the line and not the later one.
    slope: f64,
}

impl DriftMeter {
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: rate_hz.into(),
            start: None,
            points: [Point::default(); MAX_WINDOWS],
            filled: 0,
            window_seconds: FIRST_WINDOW_SECONDS,
            window_start: 0.0,
            best: None,
            slope: 0.0,
        }
    }

    /// Notes that `frames` frames in all have come at `now`. Returns the drift at the end of a window.
    pub(crate) fn observe(&mut self, frames: u64, now: Timestamp) -> Option<Drift> {
        let (first_frames, start) = *self.start.get_or_insert((frames, now));
        let at = now.offset_from(start) as f64 * 1e-9;
        let point = Point { at, ahead: frames.saturating_sub(first_frames) as f64 / self.rate_hz - at };
        self.best = Some(self.best.map_or(point, |best| self.better(best, point)));
        if at - self.window_start < self.window_seconds {
            return None;
        }
        self.window_start = at;
        let best = self.best.take()?;
        if let Some(last) = self.points[..self.filled].last()
            && (best.ahead - last.ahead).abs() > MAX_JUMP_SECONDS + MAX_DRIFT * (best.at - last.at)
        {
            self.restart();
            return None;
        }
        self.add(best);
        let drift = self.drift()?;
        self.slope = drift.ppm * 1e-6;
        Some(drift)
    }

    /// Forgets all frames so far: the sound was interrupted.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.rate_hz as u32);
    }

    /// Returns the point that was the less late.
    fn better(&self, a: Point, b: Point) -> Point {
        if b.ahead - a.ahead > self.slope * (b.at - a.at) { b } else { a }
    }

    fn add(&mut self, point: Point) {
        if self.filled == MAX_WINDOWS {
            if self.window_seconds < LAST_WINDOW_SECONDS {
                for pair in 0..MAX_WINDOWS / 2 {
                    self.points[pair] = self.better(self.points[2 * pair], self.points[2 * pair + 1]);
                }
                self.filled = MAX_WINDOWS / 2;
                self.window_seconds *= 2.0;
            } else {
                self.points.copy_within(1.., 0);
                self.filled -= 1;
            }
        }
        self.points[self.filled] = point;
        self.filled += 1;
    }

    /// Returns the slope of the line of least squares, and its error from how far the points are off the line.
    fn drift(&self) -> Option<Drift> {
        let points = &self.points[..self.filled];
        if points.len() < MIN_WINDOWS {
            return None;
        }
        let count = points.len() as f64;
        let mean = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_at, mean_ahead) = (mean(|point| point.at), mean(|point| point.ahead));
        let spread: f64 = points.iter().map(|point| (point.at - mean_at).powi(2)).sum();
        let slope = points.iter().map(|point| (point.at - mean_at) * (point.ahead - mean_ahead)).sum::<f64>() / spread;
        let off = |point: &Point| (point.ahead - mean_ahead - slope * (point.at - mean_at)).powi(2);
        let variance = points.iter().map(off).sum::<f64>() / (count - 2.0);
        Some(Drift { ppm: slope * 1e6, error_ppm: 2.0 * (variance / spread).sqrt() * 1e6 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    /// Returns the last drift of a source of 48 kHz that is faster by `ppm` and hands over 10 ms at a time, each late by
    /// `late` of its number, in ms.
    fn measure(
        meter: &mut DriftMeter,
        ppm: f64,
        periods: std::ops::Range<u64>,
        late: impl Fn(u64) -> f64,
    ) -> Option<Drift> {
        let at = |n: u64| START.offset_by((n as f64 * 10e6 / (1.0 + ppm * 1e-6) + late(n) * 1e6) as i64);
        periods.filter_map(|n| meter.observe(n * 480, at(n))).last()
    }

    /// Noise from 0 to 1.
    fn noise(n: u64) -> f64 {
        (n.wrapping_mul(6_364_136_223_846_793_005).rotate_left(29).wrapping_mul(1_442_695_040_888_963_407) >> 40) as f64
            / f64::from(1 << 24)
    }

    #[test]
    fn the_drift_is_right_within_its_error_whatever_the_jitter() {
        for ppm in [0.0, 12.0, -85.0, 3_000.0, -3_000.0] {
            for jitter_ms in [0.0, 0.5, 5.0] {
                for seconds in [10, 60, 600, 7200] {
                    let mut meter = DriftMeter::new(48_000);
                    let drift = measure(&mut meter, ppm, 0..100 * seconds, |n| jitter_ms * noise(n)).unwrap();
                    // A frame is 21 us.
                    let tolerance = 2.0 * drift.error_ppm + 5.0 / seconds as f64;
                    assert!((drift.ppm - ppm).abs() <= tolerance, "{ppm}, {jitter_ms} ms, {seconds} s: {drift:?}");
                    assert!(
                        drift.error_ppm < 1500.0 * jitter_ms / seconds as f64 + 0.01,
                        "{jitter_ms}, {seconds}: {drift:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_is_told_in_the_first_seconds() {
        assert_eq!(measure(&mut DriftMeter::new(48_000), 0.0, 0..700, |_| 0.0), None);
    }

    #[test]
    fn a_pause_is_no_drift() {
        let mut meter = DriftMeter::new(48_000);
        // The source stands still for 400 ms after a minute, and nothing of it comes later.
        let drift = measure(&mut meter, 20.0, 0..12_000, |n| if n < 6_000 { 0.0 } else { 400.0 }).unwrap();
        assert!((drift.ppm - 20.0).abs() < 1.0, "{drift:?}");
    }

    #[test]
    fn half_an_hour_later_an_old_drift_is_forgotten() {
        let mut meter = DriftMeter::new(48_000);
        // 40 ppm slower after the first hour.
        let late = |n: u64| n.saturating_sub(360_000) as f64 * 10.0 * 40e-6;
        let drift = measure(&mut meter, 20.0, 0..620_000, late).unwrap();
        assert!((drift.ppm + 20.0).abs() < 1.0, "{drift:?}");
    }
}
