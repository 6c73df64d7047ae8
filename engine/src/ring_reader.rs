//! The consuming end of a [`ConsumerRing`](crate::consumer_ring::ConsumerRing): takes the queued items out.

use std::sync::Arc;

use rtrb::chunks::ReadChunk;

use crate::newest::NewestReader;
use crate::prefetch::prefetch;
use crate::{Item, Stamp};

/// Takes a consumer's items out of its ring.
#[derive(Debug)]
pub(crate) struct RingReader<T: Send + Sync> {
    items: ReadEnd<T>,
    /// Items at the front that a [`Lent`] has. They leave the ring when it is dropped; if it was forgotten, at the next
    /// [`front`](Self::front) or [`take_back`](Self::take_back).
    lent: usize,
}

/// The reading end of the storage that the overflow policy needs.
#[derive(Debug)]
pub(crate) enum ReadEnd<T: Send + Sync> {
    /// Handles in order.
    Queue(rtrb::Consumer<Arc<Item<T>>>),
    /// The newest handle.
    Latest(NewestReader<T>),
}

/// The items of a ring in order: these, and then, from where the ring wraps around, those.
pub(crate) type Slices<'r, T> = (&'r [Arc<Item<T>>], &'r [Arc<Item<T>>]);

/// The items in a ring before the newest one.
pub(crate) struct Backlog {
    pub(crate) items: usize,
    /// Blocks that these stand for.
    pub(crate) blocks: u64,
    pub(crate) newest: Stamp,
}

/// Items that are read where they lie in the ring. They leave it when this is dropped.
pub(crate) struct Lent<'r, T> {
    chunk: Option<ReadChunk<'r, Arc<Item<T>>>>,
    lent: &'r mut usize,
}

impl<T> Lent<'_, T> {
    #[inline]
    pub(crate) fn as_slices(&self) -> Slices<'_, T> {
        self.chunk.as_ref().map_or((&[], &[]), ReadChunk::as_slices)
    }

    /// Returns the number of items.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        *self.lent
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            *self.lent = 0;
            chunk.commit_all();
        }
    }
}

impl<T: Send + Sync> RingReader<T> {
    pub(crate) fn new(items: ReadEnd<T>) -> Self {
        Self { items, lent: 0 }
    }

    /// Returns the number of items that are queued now.
    pub(crate) fn len(&self) -> usize {
        match &self.items {
            ReadEnd::Queue(ring) => ring.slots() - self.lent,
            ReadEnd::Latest(newest) => usize::from(newest.has_new()),
        }
    }

    /// Asks the processor to fetch the indices of the ring.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if let ReadEnd::Queue(ring) = &self.items {
            prefetch(ring.buffer());
        }
    }

    /// Returns the next item without taking it. Where only the newest one is kept, that, which must be taken then.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<&Item<T>> {
        self.take_back();
        match &mut self.items {
            ReadEnd::Queue(ring) => ring.peek().ok().map(|item| &**item),
            ReadEnd::Latest(newest) => newest.peek().map(|item| &**item),
        }
    }

    /// Takes the next item, or the newest one where only that is kept.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Arc<Item<T>>> {
        match &mut self.items {
            ReadEnd::Queue(ring) => ring.pop().ok(),
            ReadEnd::Latest(newest) => newest.take(),
        }
    }

    /// Returns the queued items before the newest one of this moment; `None` if there is none, or only the newest is kept.
    pub(crate) fn backlog(&mut self) -> Option<Backlog> {
        let ReadEnd::Queue(ring) = &mut self.items else { return None };
        let chunk = ring.read_chunk(ring.slots()).ok()?;
        let (front, back) = chunk.as_slices();
        let newest = back.last().or(front.last())?.stamp;
        let all: u64 = front.iter().chain(back).map(|item| item.stamp.blocks()).sum();
        Some(Backlog { items: chunk.len() - 1, blocks: all - newest.blocks(), newest })
    }

    /// Drops the first `items` queued items. Where only the newest item is kept, there is none before it to drop.
    pub(crate) fn discard(&mut self, items: usize) {
        let ReadEnd::Queue(ring) = &mut self.items else { return };
        if let Ok(chunk) = ring.read_chunk(items) {
            chunk.commit_all();
        }
    }

    /// Lends up to `max_items` queued items that go on with the sequence number `next` without a gap; none where only
    /// the newest item is kept.
    ///
    /// Sees only the items that the last look at the producer's index showed. Another look for each item would fetch
    /// that cache line from the producer's core again and again where items come one by one.
    pub(crate) fn lend_following(&mut self, next: u64, max_items: usize) -> Lent<'_, T> {
        let Self { items, lent } = self;
        let chunk = if let ReadEnd::Queue(ring) = items { following(ring, next, max_items) } else { None };
        *lent = chunk.as_ref().map_or(0, ReadChunk::len);
        Lent { chunk, lent }
    }

    /// Takes the items out that a forgotten [`Lent`] had.
    #[inline]
    pub(crate) fn take_back(&mut self) {
        if self.lent > 0 {
            self.discard_lent();
        }
    }

    #[cold]
    fn discard_lent(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        self.discard(lent);
    }
}

/// Reads the known items at the front, `max_items` at most, up to the first gap. `next` is the sequence number that comes
/// next if none is missing. Returns none if there is no such item.
#[inline]
fn following<T>(
    ring: &mut rtrb::Consumer<Arc<Item<T>>>,
    next: u64,
    max_items: usize,
) -> Option<ReadChunk<'_, Arc<Item<T>>>> {
    let known = ring.cached_slots().min(max_items);
    let unbroken = unbroken_from(next, ring.read_chunk(known).ok()?.as_slices());
    ring.read_chunk(unbroken).ok().filter(|chunk| !chunk.is_empty())
}

/// Counts the items from the sequence number `next` on, up to the first gap.
#[inline]
fn unbroken_from<T>(next: u64, (front, back): Slices<'_, T>) -> usize {
    let items = front.len() + back.len();
    let end = back.last().or(front.last()).map_or(next, |last| last.stamp.next());
    // Numbers only rise, and mostly an item has one: as many numbers as items means that none is missing.
    if end - next == items as u64 { items } else { count_unbroken(next, front.iter().chain(back)) }
}

/// Counts the items up to the first gap, one by one.
#[inline(never)]
fn count_unbroken<'i, T: 'i>(mut next: u64, items: impl Iterator<Item = &'i Arc<Item<T>>>) -> usize {
    let follows = |item: &&Arc<Item<T>>| {
        let before = std::mem::replace(&mut next, item.stamp.next());
        item.stamp.first() == before
    };
    items.take_while(follows).count()
}
