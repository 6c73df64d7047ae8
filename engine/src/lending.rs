//! Items that the producer lends to its consumers, and keeps until they have read them. The unsafe code for that is all here.
//!
//! A counted handle in each ring would cost a locked addition when it is made and another one when it is dropped, on a cache
//! line for which all consumers of an item fight. So rings carry [`Loan`]s: copies of a handle that count nothing. A counted
//! handle of each lent item is in one of three places:
//!
//! 1. The [`Log`] has the last items in order. It drops an item when every consumer has passed it, which each [`Lender`] sees
//!    from its ring.
//! 2. A lender has handles of its own from the first item that its ring refused until the ring is empty
//!    ([`Lender::keep_own`]). Otherwise the log would keep every item that comes while a consumer stands still.
//! 3. The [`Borrower`] gets the handles of the items in its ring ([`Log::settle`]) when the producer ends before it has read
//!    them, or when the consumer is closed while it reads.
//!
//! So a consumer holds back as many items as its ring has slots, at most, be it slow, stopped or forgotten (`mem::forget`).
//! A lender that was not settled makes the log leak its items, rather than drop one too early.

#![allow(unsafe_code, reason = "loans are not counted; each line says why it is sound")]

use std::collections::VecDeque;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::{Arc, OnceLock};

use crate::Item;
use crate::growing_ring::{self, Chunk, Growth, ProducingEnd, ReadingEnd};
use crate::notices::Notices;

/// A copy of a handle that counts nothing. Only a ring of this module has loans, and only while the handle is kept.
#[repr(transparent)]
pub(crate) struct Loan<T>(ManuallyDrop<Arc<Item<T>>>);

impl<T> Loan<T> {
    /// # Safety
    ///
    /// The caller must keep `item`, or another handle of the same item, until the loan is not used any more.
    #[inline]
    unsafe fn new(item: &Arc<Item<T>>) -> Self {
        // SAFETY: the pointer is that of a live handle. The copy adds no count and, because it is never dropped, takes none
        // off. By the contract of this function, the item outlives it.
        Self(ManuallyDrop::new(unsafe { Arc::from_raw(Arc::as_ptr(item)) }))
    }

    /// Returns the handle, to be read or cloned.
    #[inline]
    pub(crate) fn handle(&self) -> &Arc<Item<T>> {
        &self.0
    }
}

/// What a lender hands over to the reading end.
struct Shared<T> {
    /// The second ring, when it is made.
    growth: Growth<Loan<T>>,
    /// Handles of the items in the rings, when it is settled.
    handles: OnceLock<Box<[Arc<Item<T>>]>>,
}

/// The last items in order. The position of an item is its number from the first one ever.
pub(crate) struct Log<T> {
    items: VecDeque<Arc<Item<T>>>,
    /// The position of the first item that is kept.
    first: u64,
    /// Lenders that may have items of this log in their rings.
    lenders: usize,
}

/// Items of a log that are offered together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Positions: of the first item, and one past the last.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The first sequence number, and one past the last; 0 where there is no item.
    pub(crate) first: u64,
    pub(crate) next: u64,
    /// Whether no sequence number is missing between the items.
    pub(crate) is_unbroken: bool,
}

impl<T> Log<T> {
    pub(crate) fn with_capacity(items: usize) -> Self {
        Self { items: VecDeque::with_capacity(items), first: 0, lenders: 0 }
    }

    /// Returns one past the position of the last item.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    #[inline]
    pub(crate) fn push(&mut self, item: Arc<Item<T>>) {
        self.items.push_back(item);
    }

    /// Returns an item that is kept.
    #[inline]
    pub(crate) fn get(&self, position: u64) -> Option<&Arc<Item<T>>> {
        self.items.get(position.checked_sub(self.first)? as usize)
    }

    /// Iterates over the items between two positions, of which the first is kept.
    #[inline]
    fn range(&self, from: u64, to: u64) -> std::collections::vec_deque::Iter<'_, Arc<Item<T>>> {
        self.items.range((from - self.first) as usize..(to - self.first) as usize)
    }

    /// Returns the position of the first item for which `is_before` is not true. It must be true for the ones before.
    pub(crate) fn position(&self, is_before: impl Fn(&Item<T>) -> bool) -> u64 {
        self.first + self.items.partition_point(|item| is_before(item)) as u64
    }

    /// Returns the items from a position on.
    pub(crate) fn offer(&self, from: u64) -> Offer {
        let (to, mut is_unbroken) = (self.end(), true);
        let first = self.get(from).map_or(0, |item| item.stamp.first());
        let mut next = first;
        for item in self.range(from.min(to), to) {
            is_unbroken &= item.stamp.first() == next;
            next = item.stamp.next();
        }
        Offer { from, to, first, next, is_unbroken }
    }

    /// Lets a lender lend items of this log, and of no other one.
    pub(crate) fn admit(&mut self, lender: &mut Lender<T>) {
        self.lenders += usize::from(!lender.is_admitted);
        lender.is_admitted = true;
        lender.end = self.end();
    }

    /// Ends a lender: the handles of the items in its ring go to the reading end, which may read on after that.
    pub(crate) fn settle(&mut self, lender: &mut Lender<T>) {
        if lender.is_admitted {
            lender.keep_own(self);
            // Nothing was handed over yet: a lender is settled once.
            let _ = lender.shared.handles.set(std::mem::take(&mut lender.own).into_iter().collect());
            lender.is_admitted = false;
            self.lenders -= 1;
        }
    }

    /// Moves the items before `keep_from` that no consumer can be reading any more to `into`. `lenders` must be all that
    /// were admitted, or none is moved.
    pub(crate) fn reclaim<'l>(
        &mut self,
        keep_from: u64,
        lenders: impl Iterator<Item = &'l Lender<T>>,
        into: &mut Vec<Arc<Item<T>>>,
    ) where
        T: 'l,
    {
        let (mut count, mut free_to) = (0, keep_from);
        for lender in lenders.filter(|lender| lender.is_admitted) {
            count += 1;
            free_to = free_to.min(lender.oldest(free_to));
        }
        if count == self.lenders {
            let free = free_to.saturating_sub(self.first).min(self.items.len() as u64);
            self.first += free;
            into.extend(self.items.drain(..free as usize));
        }
    }
}

impl<T> Drop for Log<T> {
    fn drop(&mut self) {
        if self.lenders > 0 {
            // A lender was forgotten, and its reader may still read. That is a leak, and not a fault of memory.
            std::mem::forget(std::mem::take(&mut self.items));
        }
    }
}

impl<T> fmt::Debug for Log<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.items.len();
        formatter.debug_struct("Log").field("items", &items).field("first", &self.first).finish_non_exhaustive()
    }
}

/// The producing end of one consumer's ring.
pub(crate) struct Lender<T> {
    ring: ProducingEnd<Loan<T>>,
    /// One past the position of the last item that was lent. While `own` is empty, the items in the ring are those directly
    /// before it.
    end: u64,
    /// Handles of all items in the ring, and maybe of some that were read; empty while the log keeps them.
    own: VecDeque<Arc<Item<T>>>,
    is_admitted: bool,
    shared: Arc<Shared<T>>,
}

/// Creates a ring with this many slots. The producer hears of free slots by `notices` if it may wait for them.
pub(crate) fn ring<T>(slots: usize, notices: Option<Arc<Notices>>) -> (Lender<T>, Borrower<T>) {
    let (producer, consumer, growth) = growing_ring::ring(slots);
    let shared = Arc::new(Shared { growth, handles: OnceLock::new() });
    let lender =
        Lender { ring: producer, end: 0, own: VecDeque::new(), is_admitted: false, shared: Arc::clone(&shared) };
    (lender, Borrower { ring: consumer, borrowed: 0, notices, shared: Some(shared) })
}

impl<T> Lender<T> {
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Returns the slots that were free at the last look at the reading end.
    #[inline]
    pub(crate) fn cached_free(&self) -> usize {
        self.capacity() - self.ring.cached_queued()
    }

    /// Returns the slots that are free now. Fetches a cache line that the consumer keeps writing.
    pub(crate) fn free(&self) -> usize {
        self.capacity() - self.ring.queued()
    }

    /// Lends the items of the log between two positions, if there is room for all. Returns whether it did.
    #[inline]
    pub(crate) fn lend(&mut self, log: &Log<T>, from: u64, to: u64) -> bool {
        let items = (to - from) as usize;
        if !self.is_admitted || (self.cached_free() < items && self.free() < items) {
            return false;
        }
        if !self.own.is_empty() || self.end != from {
            self.lend_apart(log, from, to);
        }
        // SAFETY: the log has these items, and drops none from `oldest` on, which is the first one in the ring; or `own` has
        // a handle of each. Either stays so until `settle`, which hands those handles to the reading end, whose loans end
        // before it does.
        let loans = log.range(from, to).map(|item| unsafe { Loan::new(item) });
        if !self.ring.push_all(loans, &self.shared.growth) {
            return false;
        }
        self.end = to;
        true
    }

    /// Keeps a handle of each item in the ring, and of each one that is lent from now on until the ring is empty. Must be
    /// called when an item is not lent, so that the log does not grow until the items before it are read.
    #[cold]
    pub(crate) fn keep_own(&mut self, log: &Log<T>) {
        let queued = self.ring.queued() as u64;
        // The log may have gone on without an empty ring.
        if self.own.is_empty() && queued > 0 {
            self.own.extend(log.range(self.end - queued, self.end).cloned());
        }
    }

    /// Keeps handles of the items that are about to be lent, unless they are the first ones in the ring.
    #[cold]
    fn lend_apart(&mut self, log: &Log<T>, from: u64, to: u64) {
        // Items that were not lent lie between, so that the log cannot know where the ring begins.
        self.keep_own(log);
        let queued = self.ring.queued();
        let read = self.own.len().saturating_sub(queued);
        self.own.drain(..read);
        if queued > 0 {
            self.own.extend(log.range(from, to).cloned());
        }
    }

    /// Returns the position of the first item that the log must keep for this ring. Looks at the consumer only if it had not
    /// passed `wanted` at the last look.
    fn oldest(&self, wanted: u64) -> u64 {
        #[cfg(loom)]
        self.ring.may_be_after_pop();
        if !self.own.is_empty() {
            return u64::MAX;
        }
        let known = self.end - self.ring.cached_queued() as u64;
        if known >= wanted {
            return known;
        }
        // An empty ring needs nothing, also where later items were not lent.
        match self.ring.queued() as u64 {
            0 => u64::MAX,
            queued => self.end - queued,
        }
    }
}

impl<T> fmt::Debug for Lender<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lender").field("end", &self.end).finish_non_exhaustive()
    }
}

/// The reading end of one consumer's ring.
pub(crate) struct Borrower<T> {
    ring: ReadingEnd<Loan<T>>,
    /// Items at the front that a [`Borrowed`] has. They leave the ring when it is dropped; if it was forgotten, at the next
    /// look.
    borrowed: usize,
    /// Told of free slots; `None` unless the producer may wait for them.
    notices: Option<Arc<Notices>>,
    /// Kept while a loan may be read.
    shared: Option<Arc<Shared<T>>>,
}

/// Returns where the reading end hears of a second ring, until nothing more comes.
#[inline]
fn growth<T>(shared: &Option<Arc<Shared<T>>>) -> Option<&Growth<Loan<T>>> {
    shared.as_ref().map(|shared| &shared.growth)
}

impl<T> Borrower<T> {
    /// Returns the number of items that are queued now.
    pub(crate) fn len(&self) -> usize {
        self.ring.len(growth(&self.shared)) - self.borrowed
    }

    /// Asks the processor to fetch the indices of the ring.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.ring.prefetch();
    }

    /// Asks the processor to fetch the slot of the next item, if there is one. Reads the index of the producer.
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        self.ring.prefetch_next();
    }

    /// Returns the next item without taking it.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<&Arc<Item<T>>> {
        self.take_back();
        self.ring.front(growth(&self.shared)).map(Loan::handle)
    }

    /// Takes the next item, with a handle of its own.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Arc<Item<T>>> {
        // Cloned first: the item may be gone once the producer sees that its slot is free.
        let item = self.front().cloned()?;
        self.ring.pop();
        tell_of_room(self.notices.as_deref());
        Some(item)
    }

    /// Borrows the first ones of the queued items, as many as `count` says of at most `max_items` that are there. They leave
    /// the ring when that is dropped.
    ///
    /// Sees only the items that the last look at the producer's index showed. Another look for each item would fetch that
    /// cache line from the producer's core again and again where items come one by one. So it ends where a second ring begins.
    #[inline]
    pub(crate) fn borrow(
        &mut self,
        max_items: usize,
        count: impl FnOnce(Slices<'_, T>) -> usize,
    ) -> Option<Borrowed<'_, T>> {
        let items = self.ring.cached_len().min(max_items);
        let count = count(self.ring.chunk(items)?.slices());
        let chunk = self.ring.chunk(count)?;
        self.borrowed = count;
        Some(Borrowed { chunk: Some(chunk), borrowed: &mut self.borrowed, notices: self.notices.as_deref() })
    }

    /// Shows the items that are queued now, in order.
    pub(crate) fn for_each(&mut self, mut look: impl FnMut(&Item<T>)) {
        self.ring.for_each(growth(&self.shared), |loan| look(loan.handle()));
    }

    /// Drops the first `items` queued items.
    pub(crate) fn discard(&mut self, items: usize) {
        let mut left = items;
        // Once for each of two rings. The last look goes over to the second one where the first is empty by now, so that a
        // borrow finds what follows.
        while !self.ring.is_empty(growth(&self.shared)) && left > 0 {
            left -= self.borrow(left, |queued| queued.len()).map_or(left, |borrowed| borrowed.len());
        }
    }

    /// Drops what was kept for the items in the ring, once it is empty for ever.
    pub(crate) fn release(&mut self) {
        if self.ring.is_empty(growth(&self.shared)) {
            self.shared = None;
        }
    }

    /// Takes the items out that a forgotten [`Borrowed`] had.
    #[inline]
    pub(crate) fn take_back(&mut self) {
        if self.borrowed > 0 {
            self.discard_borrowed();
        }
    }

    #[cold]
    fn discard_borrowed(&mut self) {
        let borrowed = std::mem::take(&mut self.borrowed);
        self.discard(borrowed);
    }
}

impl<T> fmt::Debug for Borrower<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Borrower").field("borrowed", &self.borrowed).finish_non_exhaustive()
    }
}

/// Items in order, from one ring.
pub(crate) type Slices<'r, T> = growing_ring::Slices<'r, Loan<T>>;

/// Items that are read where they lie in the ring. They leave it when this is dropped.
pub(crate) struct Borrowed<'r, T> {
    chunk: Option<Chunk<'r, Loan<T>>>,
    borrowed: &'r mut usize,
    notices: Option<&'r Notices>,
}

impl<T> Borrowed<'_, T> {
    #[inline]
    pub(crate) fn slices(&self) -> Slices<'_, T> {
        self.chunk.as_ref().map_or(Slices::NONE, Chunk::slices)
    }

    /// Returns the number of items.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        *self.borrowed
    }
}

impl<T> Drop for Borrowed<'_, T> {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            *self.borrowed = 0;
            chunk.take_out();
            tell_of_room(self.notices);
        }
    }
}

/// Wakes a producer that waits for free slots. Must be called after they are free.
#[inline]
fn tell_of_room(notices: Option<&Notices>) {
    if let Some(notices) = notices {
        notices.room().made();
    }
}
