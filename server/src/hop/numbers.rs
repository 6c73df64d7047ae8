//! Where the numbers of a published stream stand, as those tell who take it: a publisher that is started anew goes on from there.
//!
//! A server that takes a subject answers requests on it with `.numbers` after it. What the request has is not read. The answer, in
//! little-endian numbers:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 3 | `AIRC` |
//! | 4 | version: 1 |
//! | 5 to 7 | 0 |
//! | 8 to 15 | number of the newest block that came |
//! | 16 to 23 | time since its first frame was captured, in ns |
//!
//! Ages and not times, so that no two clocks need to agree.

use std::time::Duration;

use aircheck_engine::Timestamp;

use super::message::{MAGIC, VERSION};
use crate::config::NatsUrl;

/// Bytes of an answer.
const BYTES: usize = 24;
/// No stream has as many blocks: those of 10 ms would take 348 years. What is larger would use up numbers that later blocks need.
const MAX_SEQUENCE: u64 = 1 << 40;
/// How long a start waits for NATS and an answer. It takes a few round trips; where none has the subject, NATS says so at once.
#[cfg(feature = "nats")]
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// The newest block of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestBlock {
    /// Its number.
    pub sequence: u64,
    /// When its first frame was captured, on the clock of this process.
    pub captured_at: Timestamp,
}

impl NewestBlock {
    /// Returns the number of the block that is captured at `now` in the same stream, whose blocks have the length `block`.
    #[must_use]
    pub fn due(&self, now: Timestamp, block: Duration) -> u64 {
        let blocks = (now.since(self.captured_at) + block / 2).as_nanos().checked_div(block.as_nanos());
        self.sequence.saturating_add(blocks.and_then(|blocks| blocks.try_into().ok()).unwrap_or(0)).min(MAX_SEQUENCE)
    }

    /// Returns the bytes of an answer that is sent at `now`.
    #[must_use]
    pub fn to_bytes(&self, now: Timestamp) -> Vec<u8> {
        let age_nanos = u64::try_from(now.since(self.captured_at).as_nanos()).unwrap_or(u64::MAX);
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend(MAGIC);
        bytes.extend([VERSION, 0, 0, 0]);
        bytes.extend([self.sequence, age_nanos].iter().flat_map(|it| it.to_le_bytes()));
        bytes
    }

    /// Reads an answer that came at `now`; `None` for anything else.
    #[must_use]
    pub fn read(bytes: &[u8], now: Timestamp) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let (sequence, age) = (number(8)?, Duration::from_nanos(number(16)?));
        let is_answer = *magic == MAGIC && rest[0] == VERSION && sequence <= MAX_SEQUENCE;
        is_answer.then_some(Self { sequence, captured_at: now - age })
    }
}

/// Asks those who take a subject for the newest block that they have. Returns nothing if there are none, or NATS is not there.
#[cfg(feature = "nats")]
pub(crate) fn ask(url: &NatsUrl) -> Option<NewestBlock> {
    use std::thread;

    use tokio::runtime;
    use tokio::time::timeout;

    let ask = async {
        let connection = super::connection::Connection::open(url, 1).await.ok()?;
        let request = connection.client.request(numbers_subject(url.subject()), "".into());
        let answer = tokio::select! {
            answer = request => answer.ok()?,
            // It is not permitted, and would not be answered.
            _ = connection.news() => return None,
        };
        NewestBlock::read(&answer.payload, Timestamp::now())
    };
    // The caller may be in a runtime itself, whose thread must not run another one.
    let answer = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async { timeout(ASK_TIMEOUT, ask).await.ok().flatten() })
        });
        asking.join().ok().flatten()
    });
    if let Some(newest) = &answer {
        tracing::info!("numbers go on after block {}, which those have who take {url}", newest.sequence);
    }
    answer
}

#[cfg(not(feature = "nats"))]
pub(crate) fn ask(_: &NatsUrl) -> Option<NewestBlock> {
    None
}

/// Returns the subject on which those who take `subject` are asked.
#[must_use]
pub fn numbers_subject(subject: &str) -> String {
    format!("{subject}.numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(1_790_000_000_000_000_000 + millis * 1_000_000)
    }

    #[test]
    fn numbers_go_on_by_the_time_that_has_passed_whatever_the_clocks_say() {
        let newest = NewestBlock { sequence: 5000, captured_at: at(0) };
        let bytes = newest.to_bytes(at(30));
        assert_eq!(bytes, [&b"AIRC\x01\0\0\0"[..], &5000_u64.to_le_bytes(), &30_000_000_u64.to_le_bytes()].concat());
        // The clock of the other process is an hour ahead.
        let there = NewestBlock::read(&bytes, at(3_600_030)).unwrap();
        assert_eq!(there, NewestBlock { sequence: 5000, captured_at: at(3_600_000) });
        let due = |millis: u64| there.due(at(3_600_000 + millis), BLOCK);
        assert_eq!([due(0), due(4), due(5), due(2000), due(2006)], [5000, 5000, 5001, 5200, 5201]);
    }

    #[test]
    fn what_is_no_answer_is_left_out() {
        let good = NewestBlock { sequence: 7, captured_at: at(0) }.to_bytes(at(0));
        assert!(NewestBlock::read(&good, at(0)).is_some());
        for (at_byte, to) in [(0, b'a'), (4, 2), (13, 2)] {
            let mut bytes = good.clone();
            bytes[at_byte] = to;
            assert_eq!(NewestBlock::read(&bytes, at(0)), None, "{at_byte}");
        }
        assert_eq!(NewestBlock::read(&good[1..], at(0)), None);
        // The oldest age that can be written stays within the clock, and no number is beyond what there is.
        let old = [&good[..16], &[0xff; 8]].concat();
        let newest = NewestBlock::read(&old, at(0)).unwrap();
        assert_eq!(newest.captured_at, Timestamp::default());
        assert!(newest.due(at(0), Duration::from_nanos(1)) <= MAX_SEQUENCE);
        assert_eq!(newest.due(at(0), Duration::ZERO), 7);
    }
}
