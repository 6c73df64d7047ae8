//! The totals of all listeners of one kind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aircheck_api::ListenerRow;

use super::listener::{Ending, Listener};

/// A listener gets nothing if its stream has been empty for so long. An encoder on a busy machine takes a second to
/// start, and a listener that came just before the end had no time.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(5);

/// The totals so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct KindTotals {
    /// Listeners that had a stream.
    pub(crate) listeners: u64,
    /// Blocks that came, if they can be counted.
    pub(crate) blocks: u64,
    /// Bytes of the streams.
    pub(crate) bytes: u64,
    /// Blocks that did not come, by the stream or by the server's row, whichever is more.
    pub(crate) lost: u64,
    /// Number of gaps, by the same rule.
    pub(crate) gaps: u64,
    /// Listeners whose stream contradicted itself.
    pub(crate) faulty: u64,
    /// Listeners with a stream that stayed empty.
    pub(crate) empty: u64,
    /// Listeners whose stream ended properly before they left.
    pub(crate) finished: u64,
    /// Listeners whose connection broke, or was ended by the server.
    pub(crate) broken: Troubles,
    /// Listeners whose stream could not be read.
    pub(crate) malformed: Troubles,
    /// Listeners that had no stream for another reason than a refusal.
    pub(crate) failed: Troubles,
    /// Listeners that were refused, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// The first refusal in words.
    pub(crate) first_refusal: Option<String>,
}

/// Number of listeners with the same kind of trouble, and the words of the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles {
    pub(crate) count: u64,
    pub(crate) first: String,
}

impl KindTotals {
    /// Adds a listener that has ended, or what it has so far.
    pub(crate) fn add(
        &mut self,
        listener: &Listener,
        ending: Option<&Ending>,
        row: Option<&ListenerRow>,
        now: Instant,
    ) {
        match ending {
            Some(Ending::Refused { status, why }) => {
                *self.refused.entry(*status).or_default() += 1;
                self.first_refusal.get_or_insert_with(|| format!("{why} (HTTP {status})"));
            }
            Some(Ending::Failed(why)) => self.failed.add(why),
            Some(Ending::Closed) => self.broken.add("the server closed the connection"),
            Some(Ending::Broken(why)) => self.broken.add(why),
            Some(Ending::Malformed(why)) => self.malformed.add(why),
            Some(Ending::Finished) => self.finished += 1,
            Some(Ending::Left | Ending::Torn) | None => {}
        }
        if !listener.has_stream() {
            return;
        }
        let (counts, _) = listener.counts();
        self.listeners += 1;
        self.blocks += counts.blocks;
        self.bytes += listener.bytes;
        self.lost += counts.lost.max(row.map_or(0, |row| row.lost));
        self.gaps += counts.gaps.max(row.map_or(0, |row| row.gaps));
        self.faulty += u64::from(counts.is_faulty);
        self.empty += u64::from(listener.bytes == 0 && now - listener.began_at > EMPTY_TIMEOUT);
    }

    /// Returns the number of refusals.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

impl Troubles {
    fn add(&mut self, why: &str) {
        if self.count == 0 {
            why.clone_into(&mut self.first);
        }
        self.count += 1;
    }
}
