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

use rtrb::chunks::ReadChunk;

use crate::Item;
use crate::notices::Notices;
use crate::prefetch::prefetch;

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

/// Handles that a lender hands over to the reading end when it is settled.
type HandedOver<T> = OnceLock<Box<[Arc<Item<T>>]>>;

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
            let _ = lender.handed_over.set(std::mem::take(&mut lender.own).into_iter().collect());
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
    ring: rtrb::Producer<Loan<T>>,
    /// One past the position of the last item that was lent. While `own` is empty, the items in the ring are those directly
    /// before it.
    end: u64,
    /// Handles of all items in the ring, and maybe of some that were read; empty while the log keeps them.
    own: VecDeque<Arc<Item<T>>>,
    is_admitted: bool,
    handed_over: Arc<HandedOver<T>>,
    #[cfg(loom)]
    indices: Arc<loom_indices::Indices>,
}

/// Creates a ring with this many slots. The producer hears of free slots by `notices` if it may wait for them.
pub(crate) fn ring<T>(slots: usize, notices: Option<Arc<Notices>>) -> (Lender<T>, Borrower<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(slots);
    let handed_over = Arc::new(OnceLock::new());
    #[cfg(loom)]
    let indices = Arc::new(loom_indices::Indices::new());
    let lender = Lender {
        ring: producer,
        end: 0,
        own: VecDeque::new(),
        is_admitted: false,
        handed_over: Arc::clone(&handed_over),
        #[cfg(loom)]
        indices: Arc::clone(&indices),
    };
    let borrower = Borrower {
        ring: consumer,
        borrowed: 0,
        notices,
        handed_over: Some(handed_over),
        #[cfg(loom)]
        indices,
    };
    (lender, borrower)
}

impl<T> Lender<T> {
    pub(crate) fn capacity(&self) -> usize {
        self.ring.buffer().capacity()
    }

    /// Returns the slots that were free at the last look at the reading end.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn cached_free(&self) -> usize {
        self.ring.cached_slots()
    }

    #[cfg(loom)]
    pub(crate) fn cached_free(&self) -> usize {
        self.free()
    }

    /// Returns the slots that are free now. Fetches a cache line that the consumer keeps writing.
    pub(crate) fn free(&self) -> usize {
        self.capacity() - self.queued()
    }

    /// Returns the number of items in the ring. Those before them are not read any more: this acquires what the consumer
    /// released when it passed them.
    #[cfg(not(loom))]
    fn queued(&self) -> usize {
        self.capacity() - self.ring.slots()
    }

    #[cfg(loom)]
    fn queued(&self) -> usize {
        self.indices.unread()
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
        let Ok(chunk) = self.ring.write_chunk_uninit(items) else { return false };
        self.end = to;
        // SAFETY: the log has these items, and drops none from `oldest` on, which is the first one in the ring; or `own` has
        // a handle of each. Either stays so until `settle`, which hands those handles to the reading end, whose loans end
        // before it does.
        let loans = log.range(from, to).map(|item| unsafe { Loan::new(item) });
        chunk.fill_from_iter(loans);
        #[cfg(loom)]
        self.indices.pushed(items);
        true
    }

    /// Keeps a handle of each item in the ring, and of each one that is lent from now on until the ring is empty. Must be
    /// called when an item is not lent, so that the log does not grow until the items before it are read.
    #[cold]
    pub(crate) fn keep_own(&mut self, log: &Log<T>) {
        let queued = self.queued() as u64;
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
        let queued = self.queued();
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
        self.indices.may_be_after_pop();
        if !self.own.is_empty() {
            return u64::MAX;
        }
        let known = self.end - (self.capacity() - self.cached_free()) as u64;
        if known >= wanted {
            return known;
        }
        // An empty ring needs nothing, also where later items were not lent.
        match self.queued() as u64 {
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
    ring: rtrb::Consumer<Loan<T>>,
    /// Items at the front that a [`Borrowed`] has. They leave the ring when it is dropped; if it was forgotten, at the next
    /// look.
    borrowed: usize,
    /// Told of free slots; `None` unless the producer may wait for them.
    notices: Option<Arc<Notices>>,
    /// Kept while a loan may be read.
    handed_over: Option<Arc<HandedOver<T>>>,
    #[cfg(loom)]
    indices: Arc<loom_indices::Indices>,
}

impl<T> Borrower<T> {
    /// Returns the number of items that are queued now.
    pub(crate) fn len(&self) -> usize {
        self.ring.slots() - self.borrowed
    }

    /// Asks the processor to fetch the indices of the ring.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(self.ring.buffer());
    }

    /// Asks the processor to fetch the slot of the next item, if there is one. Reads the index of the producer.
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        if let Ok(loan) = self.ring.peek() {
            prefetch(loan);
        }
    }

    /// Returns the next item without taking it.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<&Arc<Item<T>>> {
        self.take_back();
        #[cfg(loom)]
        if self.indices.readable() == 0 {
            return None;
        }
        self.ring.peek().ok().map(Loan::handle)
    }

    /// Takes the next item, with a handle of its own.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Arc<Item<T>>> {
        // Cloned first: the item may be gone once the producer sees that its slot is free.
        let item = self.front().cloned()?;
        let _ = self.ring.pop();
        #[cfg(loom)]
        self.indices.popped(1);
        tell_of_room(self.notices.as_deref());
        Some(item)
    }

    /// Borrows the first ones of the queued items, as many as `count` says of at most `max_items` that are there. They leave
    /// the ring when that is dropped.
    ///
    /// Sees only the items that the last look at the producer's index showed. Another look for each item would fetch that
    /// cache line from the producer's core again and again where items come one by one.
    #[inline]
    pub(crate) fn borrow(
        &mut self,
        max_items: usize,
        count: impl FnOnce(Slices<'_, T>) -> usize,
    ) -> Option<Borrowed<'_, T>> {
        let items = self.ring.cached_slots().min(max_items);
        #[cfg(loom)]
        let items = items.min(self.indices.readable());
        let count = count(self.ring.read_chunk(items).ok()?.as_slices());
        let chunk = self.ring.read_chunk(count).ok()?;
        self.borrowed = count;
        Some(Borrowed {
            chunk: Some(chunk),
            borrowed: &mut self.borrowed,
            notices: self.notices.as_deref(),
            #[cfg(loom)]
            indices: &self.indices,
        })
    }

    /// Returns what `look` finds in the items that are queued now.
    pub(crate) fn peek_all<R>(&mut self, look: impl FnOnce(Slices<'_, T>) -> R) -> Option<R> {
        Some(look(self.ring.read_chunk(self.ring.slots()).ok()?.as_slices()))
    }

    /// Drops the first `items` queued items.
    pub(crate) fn discard(&mut self, items: usize) {
        drop(self.borrow(items, |_| items));
    }

    /// Drops the handles that were kept for the items in the ring, once it is empty for ever.
    pub(crate) fn release(&mut self) {
        if self.ring.is_empty() {
            self.handed_over = None;
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

/// Items in order: these, and then, from where the ring wraps around, those.
pub(crate) type Slices<'r, T> = (&'r [Loan<T>], &'r [Loan<T>]);

/// Items that are read where they lie in the ring. They leave it when this is dropped.
pub(crate) struct Borrowed<'r, T> {
    chunk: Option<ReadChunk<'r, Loan<T>>>,
    borrowed: &'r mut usize,
    notices: Option<&'r Notices>,
    #[cfg(loom)]
    indices: &'r loom_indices::Indices,
}

impl<T> Borrowed<'_, T> {
    #[inline]
    pub(crate) fn as_slices(&self) -> Slices<'_, T> {
        self.chunk.as_ref().map_or((&[], &[]), ReadChunk::as_slices)
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
            #[cfg(loom)]
            let items = *self.borrowed;
            *self.borrowed = 0;
            chunk.commit_all();
            #[cfg(loom)]
            self.indices.popped(items);
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

/// rtrb's own indices are none of loom's atomics. These are, with the same orderings, so that a model shows either end an
/// old index of the other, and finds an item that is dropped or changed before its reader has passed it.
#[cfg(loom)]
mod loom_indices {
    use crate::sync::{AtomicU64, Ordering};

    pub(super) struct Indices {
        head: AtomicU64,
        tail: AtomicU64,
        /// Nothing but a place for loom to change threads: it does so before an access only if another thread's next access
        /// depends on that, and it remembers no access but the last one of each atomic.
        after_pop: AtomicU64,
    }

    impl Indices {
        pub(super) fn new() -> Self {
            Self { head: AtomicU64::new(0), tail: AtomicU64::new(0), after_pop: AtomicU64::new(0) }
        }

        pub(super) fn pushed(&self, items: usize) {
            self.tail.store(self.tail.load(Ordering::Relaxed) + items as u64, Ordering::Release);
        }

        pub(super) fn popped(&self, items: usize) {
            self.head.store(self.head.load(Ordering::Relaxed) + items as u64, Ordering::Release);
            // Here the producer may take the items back, and what follows must not use them any more.
            self.after_pop.store(0, Ordering::Relaxed);
        }

        /// Must be called before items are taken back.
        pub(super) fn may_be_after_pop(&self) {
            self.after_pop.load(Ordering::Relaxed);
        }

        /// For the producing end.
        pub(super) fn unread(&self) -> usize {
            (self.tail.load(Ordering::Relaxed) - self.head.load(Ordering::Acquire)) as usize
        }

        /// For the reading end.
        pub(super) fn readable(&self) -> usize {
            (self.tail.load(Ordering::Acquire) - self.head.load(Ordering::Relaxed)) as usize
        }
    }
}
