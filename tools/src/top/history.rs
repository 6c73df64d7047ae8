//! The last minute of a listener's lag, as a line of bars.

use std::collections::VecDeque;

/// The length of the history.
pub(crate) const SECONDS: f64 = 60.0;
/// Two points a second; more than a column has cells would only cost memory.
const MAX_POINTS: usize = 128;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A listener's lags, oldest first, each with its time, in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    points: VecDeque<(f64, f64)>,
}

impl History {
    /// Adds the lag at `now`.
    pub(crate) fn add(&mut self, lag: f64, now: f64) {
        self.points.push_back((now, lag));
        while self.points.len() > MAX_POINTS || self.points.front().is_some_and(|(at, _)| *at < now - SECONDS) {
            self.points.pop_front();
        }
    }

    /// Returns the minute before `now` in `cells` characters, newest on the right, each as high as the largest lag in
    /// it. A lag of `full` fills the height, unless there was a larger one. Unknown times are blank.
    pub(crate) fn bars(&self, cells: usize, full: f64, now: f64) -> String {
        if cells == 0 {
            return String::new();
        }
        let step = SECONDS / cells as f64;
        // Cells begin at fixed times: if they slid with the clock, every bar would tremble.
        let newest = (now / step).floor();
        let mut largest: Vec<Option<f64>> = vec![None; cells];
        for (at, lag) in &self.points {
            let age = (newest - (at / step).floor()).max(0.0) as usize;
            if age < cells {
                let cell = &mut largest[cells - 1 - age];
                *cell = Some(cell.unwrap_or(0.0).max(*lag));
            }
        }
        // A late answer leaves a hole that says nothing of the listener.
        for cell in 1..cells {
            if largest[cell].is_none() && largest[cell + 1..].iter().any(Option::is_some) {
                largest[cell] = largest[cell - 1];
            }
        }
        let most = largest.iter().flatten().fold(full, |most, lag| most.max(*lag));
        let bar = |lag: f64| BARS[((lag / most * BARS.len() as f64) as usize).min(BARS.len() - 1)];
        largest.into_iter().map(|lag| lag.map_or(' ', bar)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lag_is_on_the_right_and_the_limit_fills_the_height() {
        let mut history = History::default();
        assert_eq!(history.bars(6, 1.0, 100.0), "      ");
        for (at, lag) in [(71.0, 0.0), (81.0, 0.5), (91.0, 0.2), (92.0, 1.0), (93.0, 0.1)] {
            history.add(lag, at);
        }
        assert_eq!(history.bars(6, 1.0, 95.0), "   ▁▅█");
        assert_eq!(history.bars(6, 2.0, 95.0), "   ▁▃▅");
        assert_eq!(history.bars(0, 2.0, 95.0), "");
    }

    #[test]
    fn bars_rest_until_the_next_cell_begins() {
        let mut history = History::default();
        history.add(1.0, 91.0);
        assert_eq!(history.bars(6, 1.0, 99.9), "     █");
        assert_eq!(history.bars(6, 1.0, 100.0), "    █ ");
    }

    #[test]
    fn a_hole_between_two_answers_is_filled_with_the_lag_before() {
        let mut history = History::default();
        history.add(1.0, 71.0);
        history.add(0.0, 91.0);
        assert_eq!(history.bars(6, 1.0, 95.0), "   ██▁");
    }

    #[test]
    fn a_minute_is_kept_and_no_more() {
        let mut history = History::default();
        for look in 0..10_000 {
            history.add(1.0, f64::from(look) * 0.01);
        }
        assert!(history.points.len() <= MAX_POINTS);
        history.add(0.0, 1_000.0);
        assert_eq!(history.points.len(), 1);
    }
}
