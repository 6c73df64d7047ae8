//! A ring for one producer and one consumer that begins short, and gets its full length when that is in use.
//!
//! A server has thousands of rings, of which nearly all have one or two items at any time; the slots that nobody needs would
//! be the largest part of a listener's memory. rtrb's rings cannot grow. So the producing end makes a second ring when the
//! first one is full, and hands over its reading end by the [`Growth`] that both ends share. The items in the first ring stay
//! there and are read first, and behind them lies a mark; the producing end writes to the second only. The ring grows once, and
//! never back.
//!
//! The mark is in the ring so that a reader that finds one item or none, as nearly all do, need not ask elsewhere for a second
//! ring: that would be one cache line more for each of thousands.
//!
//! Both rings together never hold more items than the full length, so that nobody can tell them from one long ring.

use std::cell::OnceCell;
#[cfg(loom)]
use std::sync::Arc;

use crossbeam_utils::atomic::AtomicCell;
use rtrb::chunks::ReadChunk;

use crate::prefetch::prefetch;
use crate::sync::{AtomicBool, Ordering};

/// Slots of a ring that may grow. A consumer that keeps up has an item or two in its ring, and a batch now and then: of packets
/// of 10 ms, this is as many as come in a pause of 160 ms. With the mark's they take 136 bytes, where a second of such packets
/// takes 800 and a ring of twice that 1,600.
#[cfg(not(loom))]
const FIRST_SLOTS: usize = 16;
/// In a model, the second item that is queued makes the ring grow.
#[cfg(loom)]
const FIRST_SLOTS: usize = 1;

/// Creates a ring with this many slots, of which all are there from the beginning unless they are more than twice
/// `FIRST_SLOTS`: a second ring takes about 400 bytes beside its slots while there are two.
pub(crate) fn ring<T>(slots: usize) -> (ProducingEnd<T>, ReadingEnd<T>, Growth<T>) {
    ring_from(if slots > 2 * FIRST_SLOTS { FIRST_SLOTS } else { slots }, slots)
}

/// The same with `first` slots from the beginning.
pub(crate) fn ring_from<T>(first: usize, slots: usize) -> (ProducingEnd<T>, ReadingEnd<T>, Growth<T>) {
    let may_grow = first < slots;
    let (producer, consumer) = fixed_ring(first + usize::from(may_grow));
    let producer = ProducingEnd { ring: producer, capacity: slots, first: None };
    let consumer = ReadingEnd { ring: consumer, second: OnceCell::new(), may_grow };
    (producer, consumer, Growth { has_grown: AtomicBool::new(false), second: AtomicCell::new(None) })
}

/// The way of the second ring's reading end to the consumer. Both ends are given the same one with each call.
pub(crate) struct Growth<T> {
    /// Whether there is a second ring. Stored after the mark was written to the first ring.
    has_grown: AtomicBool,
    /// Its reading end, until the consumer takes it.
    second: AtomicCell<Option<Box<FixedConsumer<T>>>>,
}

impl<T> Growth<T> {
    /// Hands the reading end over. The store releases what is in the first ring, the mark too, to a consumer that sees it.
    fn hand_over(&self, second: FixedConsumer<T>) {
        self.second.store(Some(Box::new(second)));
        self.has_grown.store(true, Ordering::Release);
    }

    /// Returns whether there is a second ring. If so, the index of the first one will not change any more, and what a look at it
    /// shows from now on is final: this load acquires what was written before the hand-over.
    #[inline]
    fn has_grown(&self) -> bool {
        self.has_grown.load(Ordering::Acquire)
    }
}

/// The end that writes.
pub(crate) struct ProducingEnd<T> {
    /// The ring that is written to.
    ring: FixedProducer<T>,
    /// Slots of the full length.
    capacity: usize,
    /// The first ring once there is a second, until all of its items are read. Boxed, because few consumers have one.
    first: Option<Box<FixedProducer<T>>>,
}

impl<T> ProducingEnd<T> {
    /// Returns the number of items that the ring takes, at most.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the items that were queued at the last look at the reading end.
    #[inline]
    pub(crate) fn cached_queued(&self) -> usize {
        let in_first = self.first.as_ref().map_or(0, |first| before_mark(first.cached_queued()));
        self.ring.cached_queued() + in_first
    }

    /// Returns the items that are queued now. The ones before them were read: this acquires what the reading end released when
    /// it passed them.
    pub(crate) fn queued(&self) -> usize {
        // The second ring first: if some of it was read, the look at the first one after that shows that it is empty. In the
        // other order, items that are read between the two looks would count as queued in the first and not in the second.
        let in_last = self.ring.queued();
        // Here the consumer may read on.
        #[cfg(loom)]
        if let Some(first) = &self.first {
            first.indices.may_be_after_pop();
        }
        in_last + self.first.as_ref().map_or(0, |first| before_mark(first.queued()))
    }

    /// Gives loom a place to change threads. Must be called before items are taken back.
    #[cfg(loom)]
    pub(crate) fn may_be_after_pop(&self) {
        self.ring.indices.may_be_after_pop();
        if let Some(first) = &self.first {
            first.indices.may_be_after_pop();
        }
    }

    /// Adds items, for which there must be room. Returns whether it did.
    #[inline]
    pub(crate) fn push_all(&mut self, items: impl ExactSizeIterator<Item = T>, growth: &Growth<T>) -> bool {
        if self.first.is_some() || self.ring.cached_free() < items.len() + usize::from(self.may_grow()) {
            self.make_room(items.len(), growth);
        }
        self.ring.push_all(items.map(Some))
    }

    /// Returns whether the first ring is written to and may be followed by a second one. Its last slot is kept for the mark.
    #[inline]
    fn may_grow(&self) -> bool {
        self.ring.capacity() < self.capacity
    }

    /// Makes the second ring if the first has no room, and drops the first once its items are read.
    #[cold]
    fn make_room(&mut self, items: usize, growth: &Growth<T>) {
        if self.first.as_ref().is_some_and(|first| before_mark(first.queued()) == 0) {
            self.first = None;
        }
        if self.may_grow() && self.ring.capacity() - self.ring.queued() < items + 1 {
            let (producer, consumer) = fixed_ring(self.capacity);
            let mut first = std::mem::replace(&mut self.ring, producer);
            // There is a slot for it. A consumer that finds it before the second ring was handed over is right to see nothing behind
            // it: nothing is there yet.
            first.push_all(std::iter::once(None));
            growth.hand_over(consumer);
            self.first = Some(Box::new(first));
        }
    }
}

/// Returns how many items lie before the mark of a first ring, of so many slots in use. The mark is never taken out.
fn before_mark(queued: usize) -> usize {
    queued.saturating_sub(1)
}

/// The end that reads. Once its consumer has been told that no more comes, there may be no [`Growth`] for it any more.
pub(crate) struct ReadingEnd<T> {
    /// The ring that is read.
    ring: FixedConsumer<T>,
    /// The second ring, from when this end has heard of it until the first one is empty.
    second: OnceCell<Box<FixedConsumer<T>>>,
    /// Whether `ring` is the first ring of one that may grow, so that there may be a mark in it.
    may_grow: bool,
}

/// Items in order, which lie in one ring.
#[derive(Debug)]
pub(crate) struct Slices<'r, T> {
    /// These, and then, from where the ring wraps around, those.
    front: &'r [Option<T>],
    back: &'r [Option<T>],
}

impl<'r, T> Slices<'r, T> {
    /// Those of no items.
    pub(crate) const NONE: Self = Self { front: &[], back: &[] };

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.front.len() + self.back.len()
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'r T> + use<'r, T> {
        self.front.iter().chain(self.back).flatten()
    }

    #[inline]
    pub(crate) fn first(&self) -> Option<&'r T> {
        self.front.first()?.as_ref()
    }

    #[inline]
    pub(crate) fn last(&self) -> Option<&'r T> {
        self.back.last().or(self.front.last())?.as_ref()
    }
}

impl<T> ReadingEnd<T> {
    /// Returns the number of items that are queued now.
    #[inline]
    pub(crate) fn len(&self, growth: Option<&Growth<T>>) -> usize {
        let queued = self.ring.len();
        let is_sure = !self.may_grow || queued == 0 || (queued == 1 && !self.is_at_mark());
        if is_sure { queued } else { self.len_of_both(growth) }
    }

    /// The same where there may be a second ring. Just before that is handed over, the mark counts as an item.
    #[cold]
    fn len_of_both(&self, growth: Option<&Growth<T>>) -> usize {
        // Asked first, so that a look at the first ring that comes after it shows all of its items, and the mark.
        match self.second(growth) {
            Some(second) => before_mark(self.ring.len()) + second.len(),
            None if self.is_at_mark() => 0,
            None => self.ring.len(),
        }
    }

    /// Returns whether the mark is what comes next.
    #[inline]
    fn is_at_mark(&self) -> bool {
        matches!(self.ring.ring.peek(), Ok(None))
    }

    /// Asks the processor to fetch what the next look reads.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(self.ring.ring.buffer());
    }

    /// Asks the processor to fetch the slot of the next item, if the ring that is read has one. Reads the index of the producer.
    #[inline]
    pub(crate) fn prefetch_next(&self) {
        if let Ok(item) = self.ring.ring.peek() {
            prefetch(item);
        }
    }

    /// Returns the next item without taking it.
    #[inline]
    pub(crate) fn front(&mut self, growth: Option<&Growth<T>>) -> Option<&T> {
        if self.is_empty(growth) { None } else { self.ring.ring.peek().ok()?.as_ref() }
    }

    /// Returns whether no item is queued. If one is, the ring that is read has it.
    #[inline]
    pub(crate) fn is_empty(&mut self, growth: Option<&Growth<T>>) -> bool {
        self.ring.is_empty() || (self.may_grow && self.is_at_mark() && !self.go_over(growth))
    }

    /// Goes over to the second ring. Returns whether it has an item.
    #[cold]
    fn go_over(&mut self, growth: Option<&Growth<T>>) -> bool {
        self.second(growth);
        // If it has not been handed over yet, there is nothing in it.
        let Some(second) = self.second.take() else { return false };
        (self.ring, self.may_grow) = (*second, false);
        !self.ring.is_empty()
    }

    /// Returns the second ring, if there is one and it is not the one that is read.
    fn second(&self, growth: Option<&Growth<T>>) -> Option<&FixedConsumer<T>> {
        if self.may_grow
            && self.second.get().is_none()
            && let Some(growth) = growth.filter(|growth| growth.has_grown())
            && let Some(second) = growth.second.take()
        {
            // It was empty.
            let _ = self.second.set(second);
        }
        self.second.get().map(|second| &**second)
    }

    /// Drops the item that [`front`](Self::front) has found.
    #[inline]
    pub(crate) fn pop(&mut self) {
        self.ring.pop();
    }

    /// Returns how many items the last look has shown in the ring that is read.
    #[inline]
    pub(crate) fn cached_len(&self) -> usize {
        self.ring.cached_len()
    }

    /// Returns the next items where they lie in the ring that is read, if it has as many. A mark is none of them.
    #[inline]
    pub(crate) fn chunk(&mut self, items: usize) -> Option<Chunk<'_, T>> {
        let ends_with_mark = self.may_grow && items > 0 && self.ring.chunk(items)?.slices().last().is_none();
        self.ring.chunk(items - usize::from(ends_with_mark))
    }

    /// Shows the items that are queued now, in order.
    pub(crate) fn for_each(&mut self, growth: Option<&Growth<T>>, mut look: impl FnMut(&T)) {
        // Asked first: the look at the first ring then shows all that came to it before the second was made. In the other order,
        // items would be left out between those of the two.
        self.second(growth);
        self.ring.for_each(&mut look);
        if let Some(second) = self.second.get_mut() {
            second.for_each(&mut look);
        }
    }
}

/// The producing end of one of rtrb's rings. `None` is the mark, and takes no room where an item is a pointer.
struct FixedProducer<T> {
    ring: rtrb::Producer<Option<T>>,
    #[cfg(loom)]
    indices: Arc<loom_indices::Indices>,
}

/// The reading end of one of rtrb's rings.
struct FixedConsumer<T> {
    ring: rtrb::Consumer<Option<T>>,
    #[cfg(loom)]
    indices: Arc<loom_indices::Indices>,
}

fn fixed_ring<T>(slots: usize) -> (FixedProducer<T>, FixedConsumer<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(slots);
    #[cfg(loom)]
    let indices = Arc::new(loom_indices::Indices::new());
    let producer = FixedProducer {
        ring: producer,
        #[cfg(loom)]
        indices: Arc::clone(&indices),
    };
    let consumer = FixedConsumer {
        ring: consumer,
        #[cfg(loom)]
        indices,
    };
    (producer, consumer)
}

impl<T> FixedProducer<T> {
    #[inline]
    fn capacity(&self) -> usize {
        self.ring.buffer().capacity()
    }

    #[inline]
    fn cached_free(&self) -> usize {
        self.capacity() - self.cached_queued()
    }

    #[cfg(not(loom))]
    #[inline]
    fn cached_queued(&self) -> usize {
        self.capacity() - self.ring.cached_slots()
    }

    #[cfg(loom)]
    fn cached_queued(&self) -> usize {
        self.queued()
    }

    #[cfg(not(loom))]
    fn queued(&self) -> usize {
        self.capacity() - self.ring.slots()
    }

    #[cfg(loom)]
    fn queued(&self) -> usize {
        self.indices.unread()
    }

    #[inline]
    fn push_all(&mut self, items: impl ExactSizeIterator<Item = Option<T>>) -> bool {
        #[cfg(loom)]
        let count = items.len();
        let Ok(chunk) = self.ring.write_chunk_uninit(items.len()) else { return false };
        chunk.fill_from_iter(items);
        #[cfg(loom)]
        self.indices.pushed(count);
        true
    }
}

impl<T> FixedConsumer<T> {
    #[cfg(not(loom))]
    fn len(&self) -> usize {
        self.ring.slots()
    }

    #[cfg(loom)]
    fn len(&self) -> usize {
        self.indices.readable()
    }

    #[inline]
    fn is_empty(&self) -> bool {
        #[cfg(loom)]
        if self.indices.readable() == 0 {
            return true;
        }
        self.ring.is_empty()
    }

    #[inline]
    fn pop(&mut self) {
        let _ = self.ring.pop();
        #[cfg(loom)]
        self.indices.popped(1);
    }

    #[cfg(not(loom))]
    #[inline]
    fn cached_len(&self) -> usize {
        self.ring.cached_slots()
    }

    #[cfg(loom)]
    fn cached_len(&self) -> usize {
        self.ring.cached_slots().min(self.indices.readable())
    }

    #[inline]
    fn chunk(&mut self, items: usize) -> Option<Chunk<'_, T>> {
        let chunk = self.ring.read_chunk(items).ok()?;
        Some(Chunk {
            chunk,
            #[cfg(loom)]
            indices: &self.indices,
        })
    }

    fn for_each(&mut self, look: impl FnMut(&T)) {
        if let Some(chunk) = self.chunk(self.len()) {
            chunk.slices().iter().for_each(look);
        }
    }
}

/// Items where they lie in a ring. They stay there unless they are taken out.
pub(crate) struct Chunk<'r, T> {
    chunk: ReadChunk<'r, Option<T>>,
    #[cfg(loom)]
    indices: &'r loom_indices::Indices,
}

impl<T> Chunk<'_, T> {
    #[inline]
    pub(crate) fn slices(&self) -> Slices<'_, T> {
        let (front, back) = self.chunk.as_slices();
        Slices { front, back }
    }

    /// Drops all of them, and frees their slots.
    #[inline]
    pub(crate) fn take_out(self) {
        #[cfg(loom)]
        let items = self.chunk.len();
        self.chunk.commit_all();
        #[cfg(loom)]
        self.indices.popped(items);
    }
}

/// rtrb's own indices are none of loom's atomics. These are, with the same orderings, so that a model shows either end an
/// old index of the other, and finds an item that is dropped or changed before its reader has passed it. Each of the two rings
/// has its own.
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

#[cfg(all(test, not(loom)))]
mod tests;
