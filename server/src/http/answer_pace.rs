//! Whether the far end of a connection takes its answer fast enough. Who asks for a long document and never reads it must not
//! keep a connection's place and memory for as long as it likes.
//!
//! Streams have other rules, because a listener may pause: see [`silence`](crate::delivery::socket::silence).

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::delivery::socket::tcp_info::queued_memory;
use crate::http::counted_stream::Written;

/// How long an answer may wait for its reader. A telephone in a tunnel is back before.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Each so many bytes that the reader takes earn it back a second: a modem of 1995 is faster.
const MIN_BYTES_PER_SECOND: u64 = 1024;
/// Between two looks at a connection.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The account of one connection's answers: for how much longer they may wait.
#[derive(Debug)]
struct AnswerPace {
    left: Duration,
    looked_at: Instant,
    taken_bytes: u64,
}

impl AnswerPace {
    fn new(now: Instant, taken_bytes: u64) -> Self {
        Self { left: MAX_WAIT, looked_at: now, taken_bytes }
    }

    /// Takes a look at the connection: how many bytes its far end has taken, and whether more of them wait for the socket. Returns
    /// whether the answer may go on.
    fn look(&mut self, now: Instant, taken_bytes: u64, is_waiting: bool) -> bool {
        let waited = now - std::mem::replace(&mut self.looked_at, now);
        let taken = taken_bytes.saturating_sub(self.taken_bytes);
        self.taken_bytes += taken;
        let earned = Duration::from_millis(taken.saturating_mul(1000) / MIN_BYTES_PER_SECOND);
        self.left = if is_waiting { (self.left + earned).saturating_sub(waited).min(MAX_WAIT) } else { MAX_WAIT };
        !self.left.is_zero()
    }
}

/// Waits until answers have waited for their reader for too long. `answers` is what HTTP has written, and `written` what `socket` was given
/// of it, with TLS in other bytes. What the socket still holds is not taken: it takes megabytes, and no more before a third of them is gone.
pub(super) async fn is_stalled(answers: &Written, written: &Written, socket: RawFd) {
    let taken = || written.bytes().saturating_sub(queued_memory(socket).unwrap_or_default());
    let mut pace = AnswerPace::new(Instant::now(), taken());
    loop {
        sleep(LOOK_INTERVAL).await;
        if !pace.look(Instant::now(), taken(), answers.flushed_bytes().is_none()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns after how many seconds an answer is given up whose reader takes `bytes_per_look`; `None` if it may go on for an hour.
    fn given_up_after(bytes_per_look: u64) -> Option<u64> {
        let start = Instant::now();
        let mut pace = AnswerPace::new(start, 7);
        let looks = 3600 / LOOK_INTERVAL.as_secs();
        let is_given_up =
            |look: &u64| !pace.look(start + LOOK_INTERVAL * *look as u32, 7 + look * bytes_per_look, true);
        (1..=looks).find(is_given_up).map(|look| look * LOOK_INTERVAL.as_secs())
    }

    #[test]
    fn an_answer_that_is_not_read_is_given_up_and_a_trickle_of_reads_delays_that_by_little() {
        assert_eq!(given_up_after(0), Some(30));
        assert_eq!(given_up_after(100), Some(35), "20 bytes a second");
        assert_eq!(given_up_after(4 * 1024), Some(150), "four fifths of the least pace");
    }

    #[test]
    fn a_reader_on_a_slow_link_gets_all_of_a_long_answer() {
        assert_eq!(given_up_after(5 * 1024), None);
        assert_eq!(given_up_after(1 << 30), None);
    }

    #[test]
    fn a_reader_may_pause_and_is_given_the_same_time_once_all_is_read() {
        let start = Instant::now();
        let mut pace = AnswerPace::new(start, 0);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pace.look(at(25), 0, true));
        assert!(pace.look(at(26), 100, false));
        assert!(pace.look(at(51), 100, true));
        assert!(!pace.look(at(56), 100, true));
        // What is read fast earns no more than one pause.
        let mut pace = AnswerPace::new(start, 0);
        assert!(pace.look(at(5), 1 << 30, true));
        assert!(pace.look(at(34), 1 << 30, true));
        assert!(!pace.look(at(35), 1 << 30, true));
    }
}
