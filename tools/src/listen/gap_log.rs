//! Notices as lines of the log, and a limit on how many of them are shown.

use std::time::{Duration, Instant};

use super::reception::Reception;
use crate::check::Notice;
use crate::units;

/// Most lines in a second. A listener that loses every other block would else flood its own terminal.
const MAX_LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Returns a notice as a line: a gap as `gap: …`, a contradiction of the stream as `fault: …`.
pub(crate) fn line(notice: &Notice, reception: &Reception) -> String {
    let blocks = |number: &u64| units::count(*number, "block");
    match notice {
        Notice::Gap { from, blocks: lost, reason } => {
            format!("gap: {} from {from} ({reason}), {}", blocks(lost), units::span(reception.span_of(*lost)))
        }
        Notice::Unannounced { from, blocks: lost } => {
            format!("fault: {} from {from} missing without a notice", blocks(lost))
        }
        Notice::Mismatch { blocks: 0, at } => format!("fault: a notice of a gap at {at} that names no block"),
        Notice::Mismatch { blocks: number, at } => {
            format!("fault: a notice of a gap at {at} names {} that came", blocks(number))
        }
        Notice::Repeated { sequence, expected } => {
            format!("fault: block {sequence} came where {expected} was due; left out")
        }
    }
}

/// The reasons of gaps before the server, which it announces block by block, at the pace of the missing sound: at the source, and
/// on the hop from another server.
const BEFORE_SERVER: [&str; 2] = ["source", "hop"];

/// Joins notices of one gap before the server that come after each other.
#[derive(Debug, Default)]
pub(crate) struct OpenGap(Option<Notice>);

impl OpenGap {
    /// Takes notices, and returns those to be shown now.
    pub(crate) fn merge(&mut self, notices: Vec<Notice>) -> Vec<Notice> {
        let mut shown = Vec::new();
        for notice in notices {
            match (&mut self.0, &notice) {
                (
                    Some(Notice::Gap { from: start, blocks, reason: open }),
                    Notice::Gap { from, blocks: more, reason },
                ) if reason == open && *from == *start + *blocks => {
                    *blocks += more;
                }
                (_, Notice::Gap { reason, .. }) if BEFORE_SERVER.contains(&&**reason) => {
                    shown.extend(self.0.replace(notice))
                }
                _ => {
                    shown.extend(self.0.take());
                    shown.push(notice);
                }
            }
        }
        shown
    }

    /// Returns the gap that is over.
    pub(crate) fn take(&mut self) -> Option<Notice> {
        self.0.take()
    }
}

/// Lets [`MAX_LINES`] lines a second through, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    window_start: Option<Instant>,
    shown: u32,
    gaps_held_back: u64,
    faults_held_back: u64,
}

impl Limiter {
    /// Returns whether the line of `notice` may be shown at `now`. If not, it is counted.
    pub(crate) fn admit(&mut self, notice: &Notice, now: Instant) -> bool {
        if self.window_start.is_none_or(|start| now.duration_since(start) >= WINDOW) {
            self.window_start = Some(now);
            self.shown = 0;
        }
        if self.shown < MAX_LINES {
            self.shown += 1;
            return true;
        }
        match notice {
            Notice::Gap { .. } => self.gaps_held_back += 1,
            _ => self.faults_held_back += 1,
        }
        false
    }

    /// Returns a line about those that were held back, once their second is over, or `at_once`.
    pub(crate) fn rest(&mut self, now: Instant, at_once: bool) -> Option<String> {
        let over = self.window_start.is_some_and(|start| now.duration_since(start) >= WINDOW);
        if !(over || at_once) {
            return None;
        }
        let gaps = std::mem::take(&mut self.gaps_held_back);
        let faults = std::mem::take(&mut self.faults_held_back);
        match (gaps, faults) {
            (0, 0) => None,
            (_, 0) => Some(format!("… {}", units::count(gaps, "more gap"))),
            (0, _) => Some(format!("… {}", units::count(faults, "more fault"))),
            _ => Some(format!("… {} and {}", units::count(gaps, "more gap"), units::count(faults, "fault"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use aircheck_api::StreamFormat;

    use super::*;

    #[test]
    fn lines_name_the_event_and_its_length() {
        let format = StreamFormat { rate_hz: 48_000, channels: 1, block_frames: 480, block_seconds: 0.01 };
        let reception = Reception::new(format, None);
        let gap = Notice::Gap { from: 8, blocks: 3, reason: "overflow".to_owned() };
        assert_eq!(line(&gap, &reception), "gap: 3 blocks from 8 (overflow), 30 ms");
        let hole = Notice::Unannounced { from: 4, blocks: 1 };
        assert_eq!(line(&hole, &reception), "fault: 1 block from 4 missing without a notice");
    }

    #[test]
    fn a_hole_at_the_source_is_one_line() {
        let gap = |from, blocks, reason: &str| Notice::Gap { from, blocks, reason: reason.to_owned() };
        let mut open = OpenGap::default();
        assert_eq!(open.merge(vec![gap(8, 80, "source")]), []);
        assert_eq!(open.merge(vec![gap(88, 1, "source")]), []);
        assert_eq!(open.merge(vec![gap(89, 1, "overflow")]), [gap(8, 81, "source"), gap(89, 1, "overflow")]);
        assert_eq!(open.take(), None);
        open.merge(vec![gap(95, 1, "source")]);
        assert_eq!(open.take(), Some(gap(95, 1, "source")));
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
    fn at_the_end_held_back_lines_are_counted() {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        while limiter.admit(&GAP, start) {}
        assert!(!limiter.admit(&HOLE, start));
        assert_eq!(limiter.rest(start, true).unwrap(), "… 1 more gap and 1 fault");
    }
}
