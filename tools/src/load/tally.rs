//! What the listeners of one kind come to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::load::head::NoStream;
use crate::load::listener::{End, Listener};
use crate::load::rows::Row;

/// Whoever has a stream in which nothing has come for so long gets nothing. An encoder on a busy machine takes a second to
/// start, and who came just before the end has had no time.
const SILENCE: Duration = Duration::from_secs(5);

/// All listeners of a kind that are counted so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// That had a stream.
    pub(crate) listeners: u64,
    /// Blocks that came, where they can be counted.
    pub(crate) blocks: u64,
    /// Bytes of the streams.
    pub(crate) bytes: u64,
    /// Blocks that did not come, by the stream or by the server's row, whichever knows of more.
    pub(crate) lost: u64,
    /// In how many rows.
    pub(crate) gaps: u64,
    /// Listeners whose stream contradicted itself.
    pub(crate) faulty: u64,
    /// That had a stream in which nothing came.
    pub(crate) silent: u64,
    /// Whose stream ended as it should, before they left.
    pub(crate) finished: u64,
    /// Whose connection broke, or was ended by the server.
    pub(crate) broken: Troubles,
    /// Whose stream made no sense.
    pub(crate) malformed: Troubles,
    /// Who never had a stream for another reason than a refusal.
    pub(crate) failed: Troubles,
    /// Who were refused, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// The first refusal in words.
    pub(crate) refused_first: Option<String>,
}

/// How many had the same kind of trouble, and what the first one said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles {
    pub(crate) count: u64,
    pub(crate) first: String,
}

impl Tally {
    /// Enters a listener that has ended, or at least what it has so far.
    pub(crate) fn enter(&mut self, listener: &Listener, end: Option<&End>, row: Option<&Row>, now: Instant) {
        match end {
            Some(End::NoStream(NoStream::Refused { status, why })) => {
                *self.refused.entry(*status).or_default() += 1;
                self.refused_first.get_or_insert_with(|| format!("{why} (HTTP {status})"));
            }
            Some(End::NoStream(NoStream::Other(why))) => self.failed.add(why),
            Some(End::Broken(why)) => self.broken.add(why),
            Some(End::Malformed(why)) => self.malformed.add(why),
            Some(End::Finished) => self.finished += 1,
            Some(End::Left | End::Torn) | None => {}
        }
        if !listener.streams() {
            return;
        }
        let (standing, _) = listener.standing();
        self.listeners += 1;
        self.blocks += standing.blocks;
        self.bytes += listener.bytes;
        self.lost += standing.lost.max(row.map_or(0, |row| row.lost));
        self.gaps += standing.gaps.max(row.map_or(0, |row| row.gaps));
        self.faulty += u64::from(standing.faulty);
        self.silent += u64::from(listener.bytes == 0 && now - listener.began_at > SILENCE);
    }

    /// All refusals.
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
