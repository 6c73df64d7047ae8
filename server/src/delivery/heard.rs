//! The reports of players about heard blocks, and the checks that they must pass.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use aircheck_api::Heard;
use aircheck_engine::{Stamp, Timestamp};

/// Blocks that can be reported: 20 s of 10 ms. A player with more in its own buffer is not live.
const MAX_BLOCKS: u64 = 2048;
/// Runs of blocks, with gaps between them, that are remembered.
const MAX_RUNS: usize = 64;
/// How far a report may be ahead of the server's clock, because the player knows that clock only so well.
const MAX_AHEAD: f64 = 0.1;
/// Reports that count in any second. Our own players send two.
const MAX_REPORTS_PER_SECOND: usize = 5;

/// Checks the reports of one player.
#[derive(Debug, Default)]
pub struct HeardReports {
    /// Sequence numbers of the blocks that were sent, without the gaps between them.
    sent: VecDeque<Range<u64>>,
    /// The newest block that was reported.
    last: Option<u64>,
    /// When the reports of the last second came.
    counted_at: VecDeque<Timestamp>,
}

impl HeardReports {
    /// Notes that a block was sent to the player.
    pub fn sent(&mut self, stamp: Stamp) {
        let Stamp { sequence, .. } = stamp;
        match self.sent.back_mut() {
            Some(run) if run.end == stamp.first() => run.end = sequence + 1,
            _ => self.sent.push_back(stamp.first()..sequence + 1),
        }
        if self.sent.len() > MAX_RUNS || self.sent[0].end + MAX_BLOCKS <= sequence {
            self.sent.pop_front();
        }
    }

    /// Returns how long after its capture the reported block was heard. `captured_at` knows when that was.
    ///
    /// # Errors
    ///
    /// A sentence that says why the report does not count: the block was not sent, it is not newer than the last one,
    /// the time cannot be, or reports come too often. So a player can put at most five values a second into histograms.
    pub fn latency(
        &mut self,
        heard: Heard,
        now: Timestamp,
        captured_at: impl Fn(u64) -> Option<Timestamp>,
    ) -> Result<Duration, String> {
        let Heard { sequence, at } = heard;
        let was_sent = self.sent.iter().any(|run| run.contains(&sequence))
            && self.sent.back().is_some_and(|run| sequence + MAX_BLOCKS >= run.end);
        let captured_at = was_sent
            .then(|| captured_at(sequence))
            .flatten()
            .ok_or_else(|| format!("heard: block {sequence} was not sent to you, or too long ago"))?;
        if let Some(last) = self.last.filter(|last| sequence <= *last) {
            return Err(format!("heard: block {sequence} is not newer than {last}, which was reported before"));
        }
        if at > now.unix_seconds() + MAX_AHEAD {
            return Err("heard: `at` is in the future by the server's clock (ask for that with `clock`)".to_owned());
        }
        let seconds = at - captured_at.unix_seconds();
        if seconds < 0.0 {
            return Err(
                "heard: `at` is before the capture of the block (ask for the server's clock with `clock`)".to_owned()
            );
        }
        self.counted_at.retain(|at| now.since(*at) < Duration::from_secs(1));
        if self.counted_at.len() >= MAX_REPORTS_PER_SECOND {
            return Err(format!("heard: reports come too often (send at most {MAX_REPORTS_PER_SECOND} a second)"));
        }
        self.counted_at.push_back(now);
        self.last = Some(sequence);
        // Bounded by the checks above: the block is in the past, and `at` is not ahead of the clock.
        Ok(Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000);

    fn reports(sequences: impl IntoIterator<Item = u64>) -> HeardReports {
        let mut reports = HeardReports::default();
        for sequence in sequences {
            reports.sent(Stamp { sequence, ..Stamp::default() });
        }
        reports
    }

    fn captured_at(sequence: u64) -> Option<Timestamp> {
        Some(Timestamp::from_nanos(sequence * 10_000_000))
    }

    #[test]
    fn impossible_reports_are_refused() {
        for (sequence, at) in [(7, 0.5), (4, 0.5), (6, 0.01), (6, 1.2), (6, -1.0)] {
            assert!(reports([5, 6, 9]).latency(Heard { sequence, at }, NOW, captured_at).is_err(), "{sequence} {at}");
        }
        let latency = reports([5, 6, 9]).latency(Heard { sequence: 6, at: 0.5 }, NOW, captured_at).unwrap();
        assert_eq!(latency.as_millis(), 440);
    }

    #[test]
    fn each_block_counts_once_and_in_order() {
        let mut reports = reports(0..50);
        let mut accepted = |sequence, millis| {
            reports.latency(Heard { sequence, at: 0.9 }, NOW + Duration::from_millis(millis), captured_at).is_ok()
        };
        assert!(accepted(10, 0));
        assert!(!accepted(10, 1000), "a block that was reported");
        assert!(!accepted(9, 2000), "an older block");
        assert!(accepted(11, 3000));
    }

    #[test]
    fn a_player_can_add_five_values_a_second() {
        let mut reports = reports(0..2000);
        let report = |sequence| Heard { sequence, at: 20.0 };
        let start = Timestamp::from_nanos(20_000_000_000);
        let accepted = (0..2000)
            .filter(|sequence| {
                reports.latency(report(*sequence), start + Duration::from_millis(*sequence), captured_at).is_ok()
            })
            .count() as u64;
        assert_eq!(accepted, 2 * MAX_REPORTS_PER_SECOND as u64);
    }
}
