//! The consuming end of a [`ConsumerRing`](crate::consumer_ring::ConsumerRing): takes the queued items out.

use std::sync::Arc;

use crate::lending::{Borrowed, Borrower, Loan, Slices};
use crate::newest::NewestReader;
use crate::{Item, Stamp};

/// Takes a consumer's items out of the storage that its overflow policy needs.
#[derive(Debug)]
pub(crate) enum RingReader<T: Send + Sync> {
    /// Items in order.
    Queue(Borrower<T>),
    /// The newest item.
    Latest(NewestReader<T>),
}

/// The items in a ring before the newest one.
pub(crate) struct Backlog {
    pub(crate) items: usize,
    /// Blocks that these stand for.
    pub(crate) blocks: u64,
    pub(crate) newest: Stamp,
}

/// Items without a gap between them, at least one, which are taken at once.
pub(crate) enum Taken<'r, T> {
    /// Read where they lie in the ring.
    Queued(Borrowed<'r, T>),
    /// The newest one.
    Newest(Arc<Item<T>>),
}

impl<T> Taken<'_, T> {
    /// Iterates over the items.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Item<T>>> {
        let (newest, queued): (Option<&Arc<Item<T>>>, _) = match self {
            Self::Queued(borrowed) => (None, borrowed.slices()),
            Self::Newest(item) => (Some(item), Slices::NONE),
        };
        newest.into_iter().chain(queued.iter().map(Loan::handle))
    }

    /// Returns the number of items.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Queued(borrowed) => borrowed.len(),
            Self::Newest(_) => 1,
        }
    }

    /// Returns the first item and the last one.
    #[inline]
    pub(crate) fn ends(&self) -> Option<(&Item<T>, &Item<T>)> {
        match self {
            Self::Queued(borrowed) => {
                let queued = borrowed.slices();
                Some((queued.first()?.handle(), queued.last()?.handle()))
            }
            Self::Newest(item) => Some((item, item)),
        }
    }
}

impl<T: Send + Sync> RingReader<T> {
    /// Returns the number of items that are queued now.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Queue(ring) => ring.len(),
            Self::Latest(newest) => usize::from(newest.has_new()),
        }
    }

    /// Asks the processor to fetch the indices of the ring.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if let Self::Queue(ring) = self {
            ring.prefetch();
        }
    }

    /// Asks the processor to fetch the slot of the next item, if there is one.
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        if let Self::Queue(ring) = self {
            ring.prefetch_next();
        }
    }

    /// Returns the next item without taking it. Where only the newest one is kept, that, which must be taken then.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<&Item<T>> {
        match self {
            Self::Queue(ring) => ring.front().map(|item| &**item),
            Self::Latest(newest) => newest.peek().map(|item| &**item),
        }
    }

    /// Takes the next item, or the newest one where only that is kept.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Arc<Item<T>>> {
        match self {
            Self::Queue(ring) => ring.pop(),
            Self::Latest(newest) => newest.take(),
        }
    }

    /// Takes the next item and up to `max_items - 1` queued ones that follow it without a gap, or the newest one where only
    /// that is kept. [`front`](Self::front) must have found an item; later ones are not looked for.
    #[inline]
    pub(crate) fn take(&mut self, max_items: usize) -> Option<Taken<'_, T>> {
        match self {
            Self::Queue(ring) => ring.borrow(max_items, count_unbroken).map(Taken::Queued),
            Self::Latest(newest) => newest.take().map(Taken::Newest),
        }
    }

    /// Returns the queued items before the newest one of this moment; `None` if there is none, or only the newest is kept.
    pub(crate) fn backlog(&mut self) -> Option<Backlog> {
        let Self::Queue(ring) = self else { return None };
        let (mut items, mut blocks, mut newest) = (0, 0, None);
        ring.for_each(|item| {
            items += 1;
            blocks += item.stamp.blocks();
            newest = Some(item.stamp);
        });
        let newest = newest?;
        Some(Backlog { items: items - 1, blocks: blocks - newest.blocks(), newest })
    }

    /// Drops the first `items` queued items. Where only the newest item is kept, there is none before it to drop.
    pub(crate) fn discard(&mut self, items: usize) {
        if let Self::Queue(ring) = self {
            ring.discard(items);
        }
    }

    /// Takes the items out that a forgotten batch had.
    #[inline]
    pub(crate) fn take_back(&mut self) {
        if let Self::Queue(ring) = self {
            ring.take_back();
        }
    }

    /// Frees what was kept for queued items. Called at the end, when there are none.
    pub(crate) fn release(&mut self) {
        if let Self::Queue(ring) = self {
            ring.release();
        }
    }
}

/// Returns the number of items before the first gap.
#[inline]
fn count_unbroken<T>(queued: Slices<'_, T>) -> usize {
    let items = queued.len();
    let (Some(first), Some(last)) = (queued.first(), queued.last()) else { return 0 };
    let next = first.handle().stamp.first();
    // Numbers only rise, and mostly an item has one: as many numbers as items means that none is missing.
    if last.handle().stamp.next() - next == items as u64 { items } else { count_following(next, queued.iter()) }
}

/// Counts the items from the sequence number `next` on up to the first gap, one by one.
#[inline(never)]
fn count_following<'i, T: 'i>(mut next: u64, items: impl Iterator<Item = &'i Loan<T>>) -> usize {
    let follows = |item: &&Loan<T>| {
        let stamp = item.handle().stamp;
        let before = std::mem::replace(&mut next, stamp.next());
        stamp.first() == before
    };
    items.take_while(follows).count()
}
