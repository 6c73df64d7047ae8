//! What went through a fan-out, as an independent observer notes it.

/// Everything that was pushed into a fan-out.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    /// Losses on the hop from another server: how many entries came before each, and one past its last sequence number.
    hop_losses: Vec<(usize, u64)>,
    /// One past the last sequence number, of an item or of a loss.
    pub(super) next: u64,
    /// Blocks that an item stands for, at most.
    pub(super) group: u64,
    /// Blocks that the fan-out keeps for consumers that start in the past.
    pub(super) history: u64,
}

/// Where a fan-out stood when a turn of its producer admitted new consumers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Entries of the log.
    pub(super) entries: usize,
    pub(super) hop_losses: usize,
    pub(super) next: u64,
}

/// What a turn of the producer has for consumers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Offered {
    Item(Entry),
    /// The numbers from the last item's to this one were lost on the hop.
    LostOnHop(u64),
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

impl Offered {
    pub(super) fn item(&self) -> Option<Entry> {
        if let Self::Item(entry) = self { Some(*entry) } else { None }
    }
}

impl Entry {
    pub(super) fn blocks(&self) -> u64 {
        self.next - self.first
    }
}

impl Log {
    pub(super) fn new(group: u64, history: u64) -> Self {
        Self { entries: Vec::new(), hop_losses: Vec::new(), next: 0, group, history }
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.next = entry.next;
        self.entries.push(entry);
    }

    /// Notes that the numbers below `next` that have not come were lost on the hop.
    pub(super) fn lose_on_hop_to(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.hop_losses.push((self.entries.len(), next));
    }

    pub(super) fn before(&self) -> Before {
        Before { entries: self.entries.len(), hop_losses: self.hop_losses.len(), next: self.next }
    }

    /// Returns what was offered since, in order.
    pub(super) fn offered_since(&self, before: Before) -> Vec<Offered> {
        let mut offered = Vec::new();
        let mut losses = self.hop_losses[before.hop_losses..].iter().peekable();
        for (index, entry) in self.entries.iter().enumerate().skip(before.entries) {
            while let Some((_, next)) = losses.next_if(|(at, _)| *at <= index) {
                offered.push(Offered::LostOnHop(*next));
            }
            if entry.is_live {
                offered.push(Offered::Item(*entry));
            }
        }
        offered.extend(losses.map(|(_, next)| Offered::LostOnHop(*next)));
        offered
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
