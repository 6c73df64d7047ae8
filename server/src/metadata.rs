//! What is known of the sound of a mount: titles, each with the block in which its sound begins.
//!
//! Sound waits in rings and sockets, for each listener another time. So a title is no state that changes now: it belongs to a block,
//! and each encoder finds it there.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use aircheck_api::{Metadata, MetadataNotice};

/// Changes that are kept, for listeners that start in the past: at three minutes each, more than the longest history.
const MAX_CHANGES: usize = 64;
/// The longest title or artist in characters. Players show less, and a block of metadata in MP3 takes 4080 bytes.
const MAX_CHARS: usize = 250;

/// The metadata of a mount, by blocks.
#[derive(Debug, Default)]
pub struct MetadataLog(RwLock<VecDeque<Arc<Change>>>);

/// Metadata, and where it begins.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number among the changes of its mount, from 1 on.
    pub number: u64,
    /// The metadata, and the first block that it belongs to.
    pub notice: MetadataNotice,
    /// The notice in JSON.
    pub json: String,
}

impl MetadataLog {
    /// Sets the metadata of the sound from block `sequence` on. Without effect if it is what is known already. Blocks that have
    /// metadata of their own keep it: a change never begins before the last one.
    pub fn set(&self, metadata: Metadata, sequence: u64) {
        let metadata = cleaned(metadata);
        let mut changes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let last = changes.back();
        if last.map_or(metadata == Metadata::default(), |last| last.notice.metadata == metadata) {
            return;
        }
        let (number, sequence) =
            last.map_or((1, sequence), |last| (last.number + 1, sequence.max(last.notice.sequence)));
        let notice = MetadataNotice { metadata, sequence };
        changes.push_back(Arc::new(Change { number, json: notice.to_json(), notice }));
        if changes.len() > MAX_CHANGES {
            changes.pop_front();
        }
    }

    /// Returns the metadata of the block with this number; `None` if nothing has been known of it.
    #[must_use]
    pub fn at(&self, sequence: u64) -> Option<Arc<Change>> {
        let changes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        changes.iter().rev().find(|change| change.notice.sequence <= sequence).cloned()
    }

    /// Returns the metadata that was set last.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<Change>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }
}

/// Returns metadata without what would end a line or command a terminal, at a bounded length.
fn cleaned(metadata: Metadata) -> Metadata {
    let clean = |text: String| {
        let text: String = text.trim().chars().filter(|character| !character.is_control()).take(MAX_CHARS).collect();
        (!text.is_empty()).then_some(text)
    };
    Metadata { title: metadata.title.and_then(clean), artist: metadata.artist.and_then(clean) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(title: &str) -> Metadata {
        Metadata { title: Some(title.to_owned()), artist: None }
    }

    #[test]
    fn a_block_has_the_metadata_of_the_last_change_before_it() {
        let log = MetadataLog::default();
        log.set(Metadata::default(), 5);
        assert!(log.newest().is_none(), "nothing was known, and nothing is");
        log.set(title("a"), 10);
        log.set(title("a"), 15);
        log.set(title("b"), 20);
        log.set(Metadata::default(), 30);
        let known = |sequence| log.at(sequence).map(|change| (change.number, change.json.clone()));
        assert_eq!(known(9), None);
        assert_eq!(known(19), Some((1, r#"{"metadata":{"title":"a"},"sequence":10}"#.to_owned())));
        assert_eq!(known(20), Some((2, r#"{"metadata":{"title":"b"},"sequence":20}"#.to_owned())));
        assert_eq!(known(99), Some((3, r#"{"metadata":{},"sequence":30}"#.to_owned())));
    }

    #[test]
    fn a_change_never_begins_before_the_last_one() {
        let log = MetadataLog::default();
        log.set(title("a"), 10);
        log.set(title("b"), 7);
        assert_eq!(log.at(10).map(|change| change.number), Some(2));
        assert_eq!(log.at(9), None);
    }

    #[test]
    fn what_comes_from_strangers_is_short_and_in_one_line() {
        let log = MetadataLog::default();
        log.set(Metadata { title: Some(format!(" a\n\u{1b}b{}", "c".repeat(999))), artist: Some(" \t".to_owned()) }, 0);
        let Metadata { title, artist } = log.newest().unwrap().notice.metadata.clone();
        assert_eq!((title.unwrap(), artist), (format!("ab{}", "c".repeat(MAX_CHARS - 2)), None));
        (0..1000).for_each(|n| log.set(self::title(&n.to_string()), n));
        assert_eq!(log.0.read().unwrap().len(), MAX_CHANGES);
    }
}
