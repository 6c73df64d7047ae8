//! One producer and many consumers, each with a ring of its own, so that no consumer can slow another.

use std::sync::Arc;

use crate::consumer_ring::ConsumerRing;
use crate::final_state::MAX_SEQUENCE;
use crate::joining::Joining;
use crate::lending::Log;
use crate::notices::Notices;
use crate::sync::{Ordering, fence};
use crate::waiter::Waiter;
use crate::{EndReason, Head, Hub, Item, Loss, PublisherOptions, Stamp};

/// Most items for which the history allocates its handles in advance.
const MAX_RESERVED: usize = 1 << 16;
/// Items that fall off the history between two looks at how far the consumers are. A look fetches a cache line from each
/// consumer that was not known to have passed them, so one for each item would cost as much as its delivery.
pub(crate) const RECLAIM_ITEMS: u64 = if cfg!(loom) { 1 } else { 64 };
/// Consumers from the fetch of one's account to its turn: those of a thousand do not fit into the nearest cache.
const AHEAD: usize = 4;

/// Hands every item to every consumer. This is the producing end, owned by one thread.
///
/// [`push`](Self::push) adds items, and [`flush`](Self::flush) makes them visible and wakes the waiting consumers, so
/// that a producer of several items wakes each consumer once. Only [`send`](Self::send) and
/// [`send_async`](Self::send_async) may wait for a consumer, and only where the publisher is not live.
///
/// ```
/// use aircheck_engine::{EndReason, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
///
/// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
/// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
/// let now = Timestamp::now();
/// ticks.send("tick", now);
/// ticks.finish(EndReason::Finished);
///
/// assert_eq!(consumer.try_recv_at(now)?.item.value, "tick");
/// assert!(consumer.try_recv_at(now).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Publisher<T: Send + Sync> {
    rings: Vec<ConsumerRing<T>>,
    /// Rings of consumers that have subscribed and not been admitted yet.
    joining: Arc<Joining<T>>,
    /// The batch, before it the history, and before that the items that consumers may still be reading.
    log: Log<T>,
    /// The position in the log where the batch begins: one past the last item that was flushed.
    flushed: u64,
    /// The position in the log where the history begins.
    history: u64,
    /// Where the history begins when the consumers are looked at again for items that all have passed.
    next_reclaim: u64,
    /// Blocks of the items in the history.
    remembered: u64,
    /// Blocks that the history keeps, at least.
    history_limit: u64,
    group: u64,
    /// How many items more than the batch fit into the ring of every consumer that the source waits for. Each may have made
    /// more room since.
    room: usize,
    /// Items that the last flush removed from the log.
    expired: Vec<Arc<Item<T>>>,
    /// One past the last sequence number pushed.
    next: u64,
    head: Head,
    owns_head: bool,
    is_delayed: bool,
    notices: Arc<Notices>,
}

impl<T: Send + Sync> Drop for Publisher<T> {
    fn drop(&mut self) {
        // Consumers that were not admitted yet end as the admitted ones do.
        self.rings.append(&mut self.joining.close());
        for ring in &mut self.rings {
            ring.settle(&mut self.log);
        }
    }
}

impl<T: Send + Sync> Publisher<T> {
    /// Creates a fan-out without consumers, and the hub where they subscribe.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    /// let consumer = hub.subscribe(SubscribeOptions::default())?;
    /// publisher.send("tick", Timestamp::now());
    /// assert_eq!(consumer.queued_items(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(options: PublisherOptions) -> (Self, Hub<T>) {
        let joining = Arc::new(Joining::new());
        let owns_head = options.head.is_none();
        let head = options.head.unwrap_or_default();
        let notices = Arc::new(Notices::new());
        let PublisherOptions { history, live, .. } = options;
        let group = options.group.max(1);
        let hub = Hub::new(Arc::clone(&joining), head.clone(), history, group, live, Arc::clone(&notices));
        let publisher = Self {
            rings: Vec::new(),
            joining,
            log: Log::with_capacity(history.div_ceil(group).min(MAX_RESERVED) + 1),
            flushed: 0,
            history: 0,
            next_reclaim: RECLAIM_ITEMS,
            remembered: 0,
            history_limit: history as u64,
            group: group as u64,
            room: 0,
            expired: Vec::new(),
            next: 0,
            head,
            owns_head,
            is_delayed: options.delayed,
            notices,
        };
        (publisher, hub)
    }

    /// Adds a value after the ones that were pushed before. It is not visible until [`flush`](Self::flush). Sequence
    /// numbers that are left out count as lost at the source.
    ///
    /// ```
    /// use aircheck_engine::{Loss, Publisher, PublisherOptions, Stamp, SubscribeOptions};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// ticks.push(Stamp { sequence: 7, ..Stamp::default() }, "tick");
    /// assert!(consumer.try_recv().is_err());
    /// ticks.flush();
    /// let delivery = consumer.try_recv()?;
    /// assert_eq!((delivery.item.stamp.sequence, delivery.gap.map(|gap| gap.reason)), (7, Some(Loss::Source)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If a number of `stamp` is not above the last one or is 2^58 or more, or if it stands for more blocks than `group`.
    pub fn push(&mut self, stamp: Stamp, value: T) {
        self.push_item(Arc::new(Item { stamp, value }));
    }

    /// Adds a value like [`push`](Self::push), for one that is shared already: one that [`flush`](Self::flush) returned
    /// and that was filled again.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use aircheck_engine::{Item, Publisher, PublisherOptions, Stamp, SubscribeOptions};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// let item = Arc::new(Item { stamp: Stamp::default(), value: "tick" });
    /// ticks.push_item(Arc::clone(&item));
    /// ticks.flush();
    /// assert!(Arc::ptr_eq(&consumer.try_recv()?.item, &item));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If a number of its stamp is not above the last one or is 2^58 or more, or if it stands for more blocks than `group`.
    pub fn push_item(&mut self, item: Arc<Item<T>>) {
        self.admit();
        self.advance_past(item.stamp);
        self.log.push(item);
        self.room = self.room.saturating_sub(1);
    }

    /// Adds a value to the history alone, for consumers that start in the past. It is offered to no consumer live. A batch
    /// that has begun is flushed first, so that the history stays in order.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, Stamp, Start, SubscribeOptions};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions { history: 10, ..PublisherOptions::default() });
    /// ticks.remember(Stamp::default(), "yesterday");
    /// let mut consumer = hub.subscribe(SubscribeOptions { start: Start::From(0), ..SubscribeOptions::default() })?;
    /// ticks.flush();
    /// assert_eq!(consumer.try_recv()?.item.value, "yesterday");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If a number of `stamp` is not above the last one or is 2^58 or more, or if it stands for more blocks than `group`.
    pub fn remember(&mut self, stamp: Stamp, value: T) {
        if self.has_batch() {
            self.flush();
        }
        self.advance_past(stamp);
        let Self { rings, log, .. } = self;
        rings.iter_mut().for_each(|ring| ring.keep_own(log));
        log.push(Arc::new(Item { stamp, value }));
        self.keep_history();
        self.reclaim();
        self.expired.clear();
    }

    /// Returns whether items were pushed since the last flush.
    #[inline]
    fn has_batch(&self) -> bool {
        self.flushed < self.log.end()
    }

    fn advance_past(&mut self, stamp: Stamp) {
        let Stamp { sequence, preceding, .. } = stamp;
        assert!(sequence < MAX_SEQUENCE, "sequence number {sequence} is above {MAX_SEQUENCE}, the highest one");
        // Not by `first()`, which underflows for a stamp with more preceding blocks than its number.
        let follows = sequence >= self.next + u64::from(preceding);
        assert!(follows, "sequence number {sequence} less {preceding} is below {}, the next one", self.next);
        assert!(stamp.blocks() <= self.group, "an item of {} blocks is longer than {}", stamp.blocks(), self.group);
        self.next = stamp.next();
    }

    /// Adds the batch to the history, and drops the oldest items from it as long as the others are enough blocks.
    fn keep_history(&mut self) {
        let Self { log, flushed, history, remembered, history_limit, .. } = self;
        while let Some(item) = log.get(*flushed) {
            *remembered += item.stamp.blocks();
            *flushed += 1;
        }
        while let Some(oldest) = log.get(*history)
            && *remembered - oldest.stamp.blocks() >= *history_limit
        {
            *remembered -= oldest.stamp.blocks();
            *history += 1;
        }
    }

    /// Removes the items before the history that every consumer has passed.
    fn reclaim(&mut self) {
        let Self { log, rings, history, expired, .. } = self;
        log.reclaim(*history, rings.iter().filter_map(ConsumerRing::lender), expired);
        self.next_reclaim = self.history + RECLAIM_ITEMS;
    }

    /// Removes the consumers that have left, if there are any.
    #[inline]
    fn remove_leavers(&mut self) {
        if self.notices.take_leavers() {
            self.remove_each_leaver();
        }
    }

    #[cold]
    fn remove_each_leaver(&mut self) {
        let Self { rings, log, .. } = self;
        rings.retain_mut(|ring| {
            let stays = !ring.is_over();
            if !stays {
                ring.settle(log);
            }
            stays
        });
        self.reclaim();
    }

    /// Advances the sequence to `next`: the numbers between the last item and `next` are lost at the source. Consumers
    /// see that gap with the next item, or with the end. A number above 2^58 counts as 2^58.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// ticks.send("tick", Timestamp::now());
    /// ticks.advance_to(10);
    /// ticks.send("tick", Timestamp::now());
    /// let gaps: Vec<_> = consumer.try_iter().map(|delivery| delivery.gap.map_or(0, |gap| gap.items)).collect();
    /// assert_eq!(gaps, [0, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn advance_to(&mut self, next: u64) {
        self.next = self.next.max(next.min(MAX_SEQUENCE));
    }

    /// Advances the sequence to `next` as [`advance_to`](Self::advance_to) does, where the numbers are lost for another reason.
    /// A batch that has begun is flushed first.
    ///
    /// ```
    /// use aircheck_engine::{Loss, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// ticks.send("tick", Timestamp::now());
    /// ticks.lose_to(10, Loss::Hop);
    /// ticks.send("tick", Timestamp::now());
    /// let gap = consumer.try_iter().find_map(|delivery| delivery.gap);
    /// assert_eq!(gap.map(|gap| (gap.from, gap.items, gap.reason)), Some((1, 9, Loss::Hop)));
    /// assert_eq!(consumer.stats().snapshot().lost.of(Loss::Hop), 9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lose_to(&mut self, next: u64, reason: Loss) {
        if self.has_batch() {
            self.flush();
        }
        self.admit();
        self.advance_to(next);
        let next = self.next;
        self.rings.iter_mut().for_each(|ring| ring.lose_to(next, reason));
    }

    /// Hands the pushed items to every consumer, wakes the waiting ones, admits new ones and removes those that left.
    ///
    /// Returns items that fell off the history and that every consumer has passed, to be reused or dropped. The publisher
    /// looks for those after every 64 items, so some 64 come at a time, and more after a late consumer has caught up. At once
    /// where there is no consumer.
    ///
    /// So it keeps the history, 64 items more, and for each consumer at most as many items as its ring has slots, however
    /// slow it is. Those that several consumers have not read yet are kept once.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, Stamp};
    ///
    /// let (mut ticks, _hub) = Publisher::new(PublisherOptions { history: 2, ..PublisherOptions::default() });
    /// for sequence in 0..5 {
    ///     ticks.push(Stamp { sequence, ..Stamp::default() }, sequence);
    /// }
    /// // Three of them fall off the history.
    /// assert_eq!(ticks.flush().count(), 3);
    /// ```
    pub fn flush(&mut self) -> std::vec::Drain<'_, Arc<Item<T>>> {
        if self.owns_head {
            self.head.advance(self.next);
        }
        let Self { rings, log, .. } = self;
        if self.flushed < log.end() {
            let offer = log.offer(self.flushed);
            for place in 0..rings.len() {
                if let Some(later) = rings.get(place + AHEAD) {
                    later.prefetch();
                }
                rings[place].offer_all(log, &offer);
            }
        }
        // Pairs with the fence in `Waiter::arm`: either the consumer sees the items, or this sees it armed.
        fence(Ordering::SeqCst);
        // Consumers that only poll, as a server's listeners do, need not be looked at again.
        if self.notices.has_waiters() {
            self.rings.iter().for_each(ConsumerRing::wake_if_armed);
        }
        self.keep_history();
        self.remove_leavers();
        if self.history >= self.next_reclaim || self.rings.is_empty() {
            self.reclaim();
        }
        self.admit();
        self.expired.drain(..)
    }

    /// Returns the number of consumers. Admits new ones and removes those that left, also while nothing is pushed.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions};
    ///
    /// let (mut ticks, hub) = Publisher::<u64>::new(PublisherOptions::default());
    /// let consumer = hub.subscribe(SubscribeOptions::default())?;
    /// assert_eq!(ticks.consumers(), 1);
    /// drop(consumer);
    /// assert_eq!(ticks.consumers(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn consumers(&mut self) -> usize {
        self.admit();
        self.remove_leavers();
        self.expired.clear();
        self.rings.len()
    }

    /// Returns the place where this publisher waits for room.
    pub(crate) fn room(&self) -> &Waiter {
        self.notices.room()
    }

    /// Returns one past the last sequence number pushed.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, Timestamp};
    ///
    /// let (mut ticks, _hub) = Publisher::new(PublisherOptions::default());
    /// ticks.send("tick", Timestamp::now());
    /// assert_eq!(ticks.next_sequence(), 1);
    /// ```
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Returns whether every consumer with [`OverflowPolicy::Block`](crate::OverflowPolicy::Block) has room for `items`
    /// more. The producer of a fan-out that is not live asks this before it pushes, and waits.
    ///
    /// For more items than a consumer's ring ever holds, returns whether that ring is empty: the surplus of such a batch
    /// is lost and counted, however long the producer waits. Push fewer at a time.
    ///
    /// ```
    /// use aircheck_engine::{OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut lines, hub) = Publisher::<u64>::new(PublisherOptions { live: false, ..PublisherOptions::default() });
    /// let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 4, ..SubscribeOptions::default() };
    /// let _consumer = hub.subscribe(options)?;
    /// assert!(lines.has_room(4));
    /// lines.send(0, Timestamp::now());
    /// assert!(!lines.has_room(4) && lines.has_room(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn has_room(&mut self, items: usize) -> bool {
        self.admit();
        items <= self.room || self.look_for_room(items)
    }

    /// Looks at the ring of every consumer that the source waits for. Notes for how many items all have room, so that
    /// the next ones need no look.
    fn look_for_room(&mut self, items: usize) -> bool {
        let batch = (self.log.end() - self.flushed) as usize;
        let (mut has_room, mut room) = (true, usize::MAX);
        for ring in self.rings.iter().filter(|ring| ring.blocks()) {
            has_room &= ring.can_take(batch, items);
            room = room.min(ring.room_after(batch));
        }
        self.room = room;
        has_room
    }

    /// Flushes, and ends every consumer after the items that it has queued. Later subscriptions are refused; every earlier
    /// one receives its start in the history before the end.
    ///
    /// ```
    /// use aircheck_engine::{EndReason, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// ticks.send("tick", Timestamp::now());
    /// ticks.finish(EndReason::Finished);
    /// assert_eq!(consumer.recv()?.item.value, "tick");
    /// assert_eq!(consumer.recv().unwrap_err().reason, EndReason::Finished);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish(mut self, reason: EndReason) {
        self.flush();
        let last = self.joining.close();
        self.start_all(last);
        for ring in &mut self.rings {
            ring.end(reason, self.next);
        }
    }

    /// Admits new consumers, but only between batches. A new ring has room for the history and its consumer's buffer,
    /// but not for the rest of a batch that was checked for room before the ring was there.
    #[inline]
    fn admit(&mut self) {
        if !self.has_batch() {
            let new = self.joining.take();
            if !new.is_empty() {
                self.start_all(new);
            }
        }
    }

    #[cold]
    fn start_all(&mut self, new: Vec<ConsumerRing<T>>) {
        self.room = 0;
        let head = if self.is_delayed { self.head.next() } else { self.next };
        for mut ring in new {
            ring.start(self.next, head, &mut self.log, self.history);
            // A consumer that left before it was admitted announced that when there was no ring to remove.
            if ring.is_over() {
                self.notices.consumer_leaves();
            }
            self.rings.push(ring);
        }
    }
}
