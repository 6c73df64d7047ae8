//! The parts of a stream on their way into the files, in order, kept until the disk has confirmed them.

use std::collections::VecDeque;
use std::sync::Arc;

use aircheck_engine::{Block, Item};

use super::sidecar::GapNote;

/// A part of a stream: a block of sound, or a gap.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Sound(Arc<Item<Block>>),
    Gap {
        note: GapNote,
        /// Whether the stream ends with it.
        is_last: bool,
    },
}

impl Part {
    /// Returns the sequence number after its last one.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Sound(item) => item.stamp.sequence + 1,
            Self::Gap { note, .. } => note.gap.from + note.gap.items,
        }
    }

    /// Returns whether it is a block whose sound the source delivered, or is missing; `None` for a gap.
    fn has_sound(&self) -> Option<bool> {
        match self {
            Self::Sound(item) => Some(item.origin().loss().is_none()),
            Self::Gap { .. } => None,
        }
    }
}

/// A queue of parts: first those that are written but not confirmed, then those that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    queue: VecDeque<Part>,
    written: usize,
}

impl Parts {
    /// Appends a part that waits to be written.
    pub(crate) fn push(&mut self, part: Part) {
        self.queue.push_back(part);
    }

    /// Returns the first part that waits to be written.
    pub(crate) fn first_waiting(&self) -> Option<&Part> {
        self.queue.get(self.written)
    }

    /// Marks the first waiting part as written.
    pub(crate) fn mark_written(&mut self) {
        self.written += 1;
    }

    /// Removes written parts that end at or before the sequence number `next`: the disk has confirmed them.
    pub(crate) fn confirm(&mut self, next: u64) {
        while self.written > 0 && self.queue.front().is_some_and(|part| part.end() <= next) {
            self.queue.pop_front();
            self.written -= 1;
        }
    }

    /// Removes parts as [`confirm`](Self::confirm) does, and lets all other written parts wait again. Returns how many
    /// blocks of sound these are, and how many whose sound is missing.
    pub(crate) fn rewind(&mut self, next: u64) -> (u64, u64) {
        self.confirm(next);
        let written = std::mem::take(&mut self.written);
        let count = |has_sound| {
            self.queue.iter().take(written).filter(|part| part.has_sound() == Some(has_sound)).count() as u64
        };
        (count(true), count(false))
    }
}
