//! The consuming end of a [`ConsumerRing`](crate::consumer_ring::ConsumerRing): takes the queued items out.

use std::sync::Arc;

use rtrb::chunks::ReadChunk;

use crate::Item;

/// Takes a consumer's items out of its ring.
#[derive(Debug)]
pub(crate) struct RingReader<T: Send + Sync> {
    items: ReadEnd<T>,
}

/// The reading end of the storage that the overflow policy needs.
#[derive(Debug)]
pub(crate) enum ReadEnd<T: Send + Sync> {
    /// Handles in order.
    Queue(rtrb::Consumer<Arc<Item<T>>>),
    /// A triple buffer with the newest handle.
    Latest(triple_buffer::Output<Option<Arc<Item<T>>>>),
}

impl<T: Send + Sync> RingReader<T> {
    pub(crate) fn new(items: ReadEnd<T>) -> Self {
        Self { items }
    }

    /// Returns the number of items that are queued now.
    pub(crate) fn len(&self) -> usize {
        match &self.items {
            ReadEnd::Queue(ring) => ring.slots(),
            ReadEnd::Latest(output) => usize::from(output.updated()),
        }
    }

    /// Takes the next item, or the newest one where only that is kept.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Arc<Item<T>>> {
        match &mut self.items {
            ReadEnd::Queue(ring) => ring.pop().ok(),
            ReadEnd::Latest(output) => output.update().then(|| output.output_buffer_mut().take()).flatten(),
        }
    }

    /// Returns up to `max_items` queued items that go on with the sequence number `next` without a gap. `None` where only
    /// the newest item is kept.
    ///
    /// Sees only the items that the last look at the producer's index showed. Another look for each item would fetch
    /// that cache line from the producer's core again and again where items come one by one.
    pub(crate) fn following(&mut self, next: u64, max_items: usize) -> Option<ReadChunk<'_, Arc<Item<T>>>> {
        let ReadEnd::Queue(ring) = &mut self.items else { return None };
        let queued = ring.cached_slots().min(max_items);
        let chunk = ring.read_chunk(queued).ok()?;
        let (front, back) = chunk.as_slices();
        let last = back.last().or(front.last())?;
        // Sequence numbers only rise: if the last one is as far away as there are items, none is missing between.
        let unbroken = if last.stamp.next() == next + queued as u64 {
            queued
        } else {
            count_unbroken(next, front.iter().chain(back))
        };
        ring.read_chunk(unbroken).ok().filter(|chunk| !chunk.is_empty())
    }
}

/// Counts the items up to the first gap. Out of line, because runs of single blocks have none mostly.
#[inline(never)]
fn count_unbroken<'i, T: 'i>(mut next: u64, items: impl Iterator<Item = &'i Arc<Item<T>>>) -> usize {
    let follows = |item: &&Arc<Item<T>>| {
        let before = std::mem::replace(&mut next, item.stamp.next());
        item.stamp.first() == before
    };
    items.take_while(follows).count()
}
