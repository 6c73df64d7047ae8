//! What is on its way into the files, in order, and kept until the disk has it.

use std::collections::VecDeque;
use std::sync::Arc;

use aircheck_engine::{Block, Item};

use super::sidecar::GapNote;

/// Something that goes into the files.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Sound(Arc<Item<Block>>),
    Missing {
        note: GapNote,
        /// Nothing follows.
        is_last: bool,
    },
}

impl Piece {
    /// One past its last sequence number.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Sound(item) => item.stamp.sequence + 1,
            Self::Missing { note, .. } => note.gap.from + note.gap.blocks,
        }
    }

    fn is_sound(&self) -> bool {
        matches!(self, Self::Sound(_))
    }
}

/// Pieces that are written but may be lost again, and behind them pieces that wait.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    queue: VecDeque<Piece>,
    written: usize,
}

impl Pieces {
    pub(crate) fn push(&mut self, piece: Piece) {
        self.queue.push_back(piece);
    }

    /// The first that waits.
    pub(crate) fn waiting(&self) -> Option<&Piece> {
        self.queue.get(self.written)
    }

    /// The first that waited was written.
    pub(crate) fn wrote(&mut self) {
        self.written += 1;
    }

    /// Lets go of what was written and ends before the sequence number `next`: the disk has it.
    pub(crate) fn forget(&mut self, next: u64) {
        while self.written > 0 && self.queue.front().is_some_and(|piece| piece.end() <= next) {
            self.queue.pop_front();
            self.written -= 1;
        }
    }

    /// Likewise; but everything after that waits again. Says how many blocks of sound that are which were written.
    pub(crate) fn rewind(&mut self, next: u64) -> u64 {
        self.forget(next);
        let written = std::mem::take(&mut self.written);
        self.queue.iter().take(written).filter(|piece| piece.is_sound()).count() as u64
    }
}
