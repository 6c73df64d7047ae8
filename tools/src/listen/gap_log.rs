//! Notices as lines, and a bound on how many of them are shown.

use std::time::{Duration, Instant};

use crate::check::ledger::Notice;
use crate::listen::received::Received;
use crate::units as words;

/// Most lines in a second. A listener that loses every other block would else flood its own terminal.
const LINES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// What a notice says: a gap as `gap: …`, what the stream must not do as `fault: …`.
pub(crate) fn line(notice: &Notice, received: &Received) -> String {
    let blocks = |number: &u64| words::count(*number, "block");
    match notice {
        Notice::Gap { from, blocks: lost, reason } => {
            let span = received.span_of(*lost).map(|span| format!(", {}", words::span(span))).unwrap_or_default();
            format!("gap: {} from {from} ({reason}){span}", blocks(lost))
        }
        Notice::Unannounced { from, blocks: lost } => {
            format!("fault: {} from {from} missing, and no gap line says so", blocks(lost))
        }
        Notice::Mismatch { blocks: 0, at } => format!("fault: a gap line at {at} that names no block"),
        Notice::Mismatch { blocks: number, at } => {
            format!("fault: a gap line claims {} at {at} that the sequence says came", blocks(number))
        }
        Notice::Repeated { sequence, expected } => {
            format!("fault: block {sequence} came where {expected} was due; left out")
        }
        Notice::Misplaced { sequence, position, expected } => {
            format!("fault: block {sequence} is at frame {position}, not at {expected} where the last one ended")
        }
    }
}

/// Lets so many lines a second through, and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    window_start: Option<Instant>,
    shown: u32,
    gaps_held_back: u64,
    faults_held_back: u64,
}

impl Limiter {
    /// Whether the line for `notice` may be shown at `now`. If not, it is counted.
    pub(crate) fn admit(&mut self, notice: &Notice, now: Instant) -> bool {
        if self.window_start.is_none_or(|start| now.duration_since(start) >= WINDOW) {
            self.window_start = Some(now);
            self.shown = 0;
        }
        if self.shown < LINES_PER_WINDOW {
            self.shown += 1;
            return true;
        }
        match notice {
            Notice::Gap { .. } => self.gaps_held_back += 1,
            _ => self.faults_held_back += 1,
        }
        false
    }

    /// What to say about lines that were held back: once their second is over, or `at_once`.
    pub(crate) fn rest(&mut self, now: Instant, at_once: bool) -> Option<String> {
        let over = self.window_start.is_some_and(|start| now.duration_since(start) >= WINDOW);
        if !(over || at_once) {
            return None;
        }
        let gaps = std::mem::take(&mut self.gaps_held_back);
        let faults = std::mem::take(&mut self.faults_held_back);
        match (gaps, faults) {
            (0, 0) => None,
            (_, 0) => Some(format!("… {}", words::count(gaps, "more gap"))),
            (0, _) => Some(format!("… {}", words::count(faults, "more fault"))),
            _ => Some(format!("… {} and {}", words::count(gaps, "more gap"), words::count(faults, "fault"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::block::Block;
    use crate::client::format::Format;

    #[test]
    fn lines_say_what_happened_and_how_long_it_is() {
        let mut received = Received::new(Format { rate_hz: 48_000, channels: 1 }, None);
        let gap = Notice::Gap { from: 8, blocks: 3, reason: "overflow".to_owned() };
        assert_eq!(line(&gap, &received), "gap: 3 blocks from 8 (overflow)");
        let block = Block { sequence: 0, position: 0, captured_at: 0.0, frames: 480, samples: vec![0.0; 480] };
        received.block(&block, Instant::now());
        assert_eq!(line(&gap, &received), "gap: 3 blocks from 8 (overflow), 30 ms");
        let hole = Notice::Unannounced { from: 4, blocks: 1 };
        assert_eq!(line(&hole, &received), "fault: 1 block from 4 missing, and no gap line says so");
    }

    const GAP: Notice = Notice::Gap { from: 0, blocks: 1, reason: String::new() };
    const HOLE: Notice = Notice::Unannounced { from: 0, blocks: 1 };

    #[test]
    fn ten_lines_a_second_pass_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        let passed = (0..25).filter(|n| limiter.admit(&GAP, start + Duration::from_millis(n * 10))).count();
        assert_eq!(passed, 10);
        assert_eq!(limiter.rest(start + Duration::from_millis(300), false), None);
        assert_eq!(limiter.rest(start + WINDOW, false).unwrap(), "… 15 more gaps");
        assert_eq!(limiter.rest(start + WINDOW, true), None);
        assert!(limiter.admit(&GAP, start + WINDOW));
    }

    #[test]
    fn at_the_end_nothing_stays_untold() {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        while limiter.admit(&GAP, start) {}
        assert!(!limiter.admit(&HOLE, start));
        assert_eq!(limiter.rest(start, true).unwrap(), "… 1 more gap and 1 fault");
    }
}
