//! What went through a fan-out, as an independent observer notes it.

/// Everything that was pushed into a fan-out.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    /// One past the last sequence number, of an item or of a loss.
    pub(super) next: u64,
    /// Blocks that an item stands for, at most.
    pub(super) group: u64,
    /// Blocks that the fan-out keeps for consumers that start in the past.
    pub(super) history: u64,
}

/// An item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) first: u64,
    pub(super) next: u64,
    /// Whether it was offered to consumers, and not only remembered.
    pub(super) is_live: bool,
    /// What the item must contain: see [`Payload`](super::listener::Payload).
    pub(super) content: u64,
}

impl Entry {
    pub(super) fn blocks(&self) -> u64 {
        self.next - self.first
    }
}

impl Log {
    pub(super) fn new(group: u64, history: u64) -> Self {
        Self { entries: Vec::new(), next: 0, group, history }
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.next = entry.next;
        self.entries.push(entry);
    }

    /// Returns the index of the oldest of the first `count` entries that a consumer can start with: the newest ones that are
    /// as many blocks as the history keeps, or all.
    pub(super) fn oldest(&self, count: usize) -> usize {
        let mut blocks = 0;
        let mut oldest = count;
        while oldest > 0 && blocks < self.history {
            oldest -= 1;
            blocks += self.entries[oldest].blocks();
        }
        oldest
    }
}
