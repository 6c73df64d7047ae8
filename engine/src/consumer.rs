//! The receiving end of a fan-out: items in order, each with the gap before it, for threads and for async code.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_utils::sync::Parker;

use crate::batch::Batch;
use crate::parking::parking;
use crate::ring_reader::{Backlog, RingReader};
use crate::skip::{LagLimit, LateItem, NewestItem};
use crate::{Delivery, End, EndReason, Gap, Head, Item, Loss, OverflowPolicy, Stamp, Stats, Timestamp, TryRecvError};

/// Longest wait: a century. The system's clock may not represent an `Instant` further away.
const MAX_WAIT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Receives the items of a [`Publisher`](crate::Publisher). Created by [`Hub::subscribe`](crate::Hub::subscribe).
///
/// A thread uses [`recv`](Self::recv) or [`recv_timeout`](Self::recv_timeout), async code
/// [`poll_recv`](Self::poll_recv), and a caller with its own clock [`try_recv_at`](Self::try_recv_at). Dropping the
/// consumer unsubscribes it.
// In this order, so that a visit touches two of its cache lines: a visitor of many consumers waits for each line.
#[derive(Debug)]
#[repr(C)]
pub struct Consumer<T: Send + Sync> {
    reader: RingReader<T>,
    stats: Arc<Stats>,
    head: Head,
    /// The sequence number that comes next if nothing is lost; `None` before the first item.
    expected: Option<u64>,
    limit: LagLimit,
    end: Option<Box<End>>,
    overflow: OverflowPolicy,
    /// Whether the next item must be the newest: see `skip_to_newest`.
    newest_next: bool,
    /// Whether the next item must not be skipped: see `poll_ready`.
    is_promised: bool,
    /// Blocks skipped since the last delivery.
    skipped: u64,
    /// The reason for the last of them.
    skipped_for: Loss,
    /// Made at its first wait. A server has thousands of consumers that never wait.
    parking: Option<Box<(Parker, Waker)>>,
}

impl<T: Send + Sync> Consumer<T> {
    pub(crate) fn new(
        reader: RingReader<T>,
        overflow: OverflowPolicy,
        buffer: u64,
        head: Head,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            reader,
            overflow,
            limit: LagLimit::new(buffer),
            expected: None,
            skipped: 0,
            skipped_for: Loss::SkippedToLive,
            newest_next: false,
            is_promised: false,
            end: None,
            parking: None,
            head,
            stats,
        }
    }

    /// Returns the consumer's account. It can be read from any thread, also after the consumer was dropped.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// ticks.send("tick", Timestamp::now());
    /// consumer.recv()?;
    /// let stats = consumer.stats().clone();
    /// drop(consumer);
    /// assert_eq!(stats.snapshot().delivered, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Returns the end, once this consumer has received it: why no more items come, and the gap before that.
    ///
    /// ```
    /// use aircheck_engine::{EndReason, Publisher, PublisherOptions, SubscribeOptions};
    ///
    /// let (ticks, hub) = Publisher::<u64>::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// assert_eq!(consumer.end(), None);
    /// ticks.finish(EndReason::Finished);
    /// assert_eq!(consumer.iter().count(), 0);
    /// assert_eq!(consumer.end().map(|end| end.reason), Some(EndReason::Finished));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end.as_deref().copied()
    }

    /// Takes the next item if one is queued. Its latency is measured up to `now`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// let sent = Timestamp::from_nanos(0);
    /// ticks.send("tick", sent);
    /// assert_eq!(consumer.try_recv_at(sent + Duration::from_micros(250))?.item.value, "tick");
    /// assert_eq!(consumer.stats().queue_micros().max(), 250);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when nothing is queued, [`TryRecvError::Ended`] when no more items will come.
    // One function, and inlined: passing a delivery between functions costs more than making it.
    #[inline]
    pub fn try_recv_at(&mut self, now: Timestamp) -> Result<Delivery<T>, TryRecvError> {
        let Front { stamp, expected, head } = self.look()?;
        self.is_promised = false;
        let lag_items = head.saturating_sub(stamp.next());
        self.expected = Some(stamp.next());
        self.stats.lagged(lag_items, stamp.preceding);
        self.stats.waited(now.micros_since(stamp.dispatched_at), 1);
        let gap = if stamp.first() == expected { None } else { Some(self.gap(expected, stamp.first())) };
        // Counted before its slot is free, so that never more is queued than the ring holds.
        self.stats.delivered(stamp.blocks());
        let item = self.reader.pop().ok_or(TryRecvError::Empty)?;
        Ok(Delivery { gap, lag_items, item })
    }

    /// Takes several queued items at once, at least one and at most `max_items`. The result is the same as one by one,
    /// but the counts are written once for all of them. Useful where items come in batches, or are taken rarely. More
    /// items may be queued, after a gap or since; repeat until it is [`TryRecvError::Empty`].
    ///
    /// All of them count as delivered, whether they are used or not. Their slots in the ring are free once the
    /// [`Batch`] is dropped; if it is forgotten, once the consumer takes or polls again.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// let now = Timestamp::now();
    /// for tick in 0..3 {
    ///     ticks.send(tick, now);
    /// }
    /// let batch = consumer.try_recv_batch(now, usize::MAX)?;
    /// assert_eq!((batch.gap, batch.lag_items), (None, 2));
    /// assert!(batch.iter().map(|item| item.value).eq([0, 1, 2]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when nothing is queued, [`TryRecvError::Ended`] when no more items will come.
    #[inline]
    pub fn try_recv_batch(&mut self, now: Timestamp, max_items: usize) -> Result<Batch<'_, T>, TryRecvError> {
        let Front { stamp, expected, head } = self.look()?;
        self.is_promised = false;
        let first = stamp.first();
        let gap = if first == expected { None } else { Some(self.gap(expected, first)) };
        let Self { reader, stats, expected, .. } = self;
        let items = reader.take(max_items.max(1)).ok_or(TryRecvError::Empty)?;
        let next = items.ends().map_or(stamp.next(), |(_, last)| last.stamp.next());
        *expected = Some(next);
        // The lag falls by one from block to block. All were in the ring before the head was read.
        let lag = head.saturating_sub(next);
        stats.lagged_each(lag..=lag + (next - first - 1));
        record_waits(stats, items.iter(), now);
        // Counted before their slots are free, so that never more is queued than the ring holds.
        stats.delivered(next - first);
        Ok(Batch::new(gap, head.saturating_sub(stamp.next()), items))
    }

    /// Returns the next item's stamp, after skipping what must be skipped.
    #[inline]
    fn look(&mut self) -> Result<Front, TryRecvError> {
        if self.end.is_some() || self.stats.is_closing() {
            return Err(TryRecvError::Ended(self.end_or_close()));
        }
        let mut stamp = match self.reader.front() {
            Some(item) => item.stamp,
            None if !self.stats.has_ended() => return Err(TryRecvError::Empty),
            None => self.last_look()?,
        };
        let expected = self.begin(stamp.first());
        let head = self.head.next();
        if self.newest_next {
            stamp = self.go_to_newest(stamp);
        } else if self.overflow == OverflowPolicy::SkipToLive && self.is_stale(stamp, head) {
            stamp = self.skip_to_live(stamp).ok_or(TryRecvError::Empty)?;
        }
        Ok(Front { stamp, expected, head })
    }

    /// Skips the queued items: the next item taken is the newest of that moment, and the ones before it are lost
    /// ([`Loss::SkippedToNewest`]). For a limit of lag that is tighter than the consumer's ring.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// (0..10).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// consumer.skip_to_newest();
    /// let delivery = consumer.recv()?;
    /// assert_eq!((delivery.item.value, delivery.gap.map(|gap| gap.items)), (9, Some(9)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_to_newest(&mut self) {
        self.newest_next = true;
    }

    /// Returns the number of items that are queued now: with the policy `Latest`, one at most. Costs less than
    /// trying to take one, because it does not look for the end.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let consumer = hub.subscribe(SubscribeOptions::default())?;
    /// (0..3).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// assert_eq!(consumer.queued_items(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn queued_items(&self) -> usize {
        self.reader.len()
    }

    /// Asks the processor to fetch the consumer's end of the ring and its counts, before the next visit to it. For a loop
    /// over thousands of consumers.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let consumers = (0..1000).map(|_| hub.subscribe(SubscribeOptions::default())).collect::<Result<Vec<_>, _>>();
    /// let mut consumers = consumers?;
    /// ticks.send("tick", Timestamp::now());
    /// let mut taken = 0;
    /// for index in 0..consumers.len() {
    ///     if let Some(soon) = consumers.get(index + 2) {
    ///         soon.prefetch();
    ///     }
    ///     taken += usize::from(consumers[index].try_recv().is_ok());
    /// }
    /// assert_eq!(taken, 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn prefetch(&self) {
        self.reader.prefetch();
        self.stats.prefetch();
    }

    /// Asks the processor to fetch the place of the next item in the ring, if one is queued. For the same loops, a visit or
    /// two after [`prefetch`](Self::prefetch), because it reads what that fetches. Useful where most consumers have an item.
    /// It does harm where the producer fills the rings at the same moment, because it takes memory that the producer still
    /// writes to.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let consumers = (0..1000).map(|_| hub.subscribe(SubscribeOptions::default())).collect::<Result<Vec<_>, _>>();
    /// let mut consumers = consumers?;
    /// ticks.send("tick", Timestamp::now());
    /// let mut taken = 0;
    /// for index in 0..consumers.len() {
    ///     if let Some(later) = consumers.get(index + 4) {
    ///         later.prefetch();
    ///     }
    ///     if let Some(soon) = consumers.get(index + 2) {
    ///         soon.prefetch_next();
    ///     }
    ///     taken += usize::from(consumers[index].try_recv().is_ok());
    /// }
    /// assert_eq!(taken, 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn prefetch_next(&self) {
        self.reader.prefetch_next();
    }

    /// Returns whether an item or the end can be taken now; if not, registers the task to be woken for it. Skips stale
    /// items, as taking one would. The next [`try_recv_at`](Self::try_recv_at) then returns an item or the end, even if
    /// the item has become stale meanwhile.
    ///
    /// ```
    /// use std::task::{Context, Waker};
    ///
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(consumer.poll_ready(&mut context).is_pending());
    /// ticks.send("tick", Timestamp::now());
    /// assert!(consumer.poll_ready(&mut context).is_ready());
    /// assert_eq!(consumer.try_recv()?.item.value, "tick");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        self.stats.arm(context.waker());
        if self.is_ready() {
            self.stats.disarm();
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn is_ready(&mut self) -> bool {
        self.end.is_some() || self.stats.is_closing() || self.has_item() || self.stats.end_reason().is_some()
    }

    /// Returns whether an item is queued that is not to be skipped.
    fn has_item(&mut self) -> bool {
        // A forgotten batch must not keep the ring full for a consumer that only waits.
        self.reader.take_back();
        if self.overflow != OverflowPolicy::SkipToLive {
            return self.reader.len() > 0;
        }
        let Some(stamp) = self.reader.front().map(|item| item.stamp) else { return false };
        self.begin(stamp.first());
        let head = self.head.next();
        let is_late = !self.newest_next && self.is_stale(stamp, head);
        self.is_promised = !is_late || self.skip_to_live(stamp).is_some();
        self.is_promised
    }

    /// Takes the next item, or registers the task to be woken for it. This needs no async runtime. One reading of the
    /// clock is enough for several items in a row.
    ///
    /// ```
    /// use std::task::{Context, Poll, Waker};
    ///
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(consumer.poll_recv(&mut context, Timestamp::now()).is_pending());
    /// ticks.send("tick", Timestamp::now());
    /// let Poll::Ready(received) = consumer.poll_recv(&mut context, Timestamp::now()) else { panic!() };
    /// assert_eq!(received?.item.value, "tick");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The end, once all queued items have been taken.
    #[inline]
    pub fn poll_recv(&mut self, context: &mut Context<'_>, now: Timestamp) -> Poll<Result<Delivery<T>, End>> {
        match self.try_recv_at(now) {
            Ok(delivery) => return Poll::Ready(Ok(delivery)),
            Err(TryRecvError::Ended(end)) => return Poll::Ready(Err(end)),
            Err(TryRecvError::Empty) => self.stats.arm(context.waker()),
        }
        match self.try_recv_at(now) {
            Ok(delivery) => {
                self.stats.disarm();
                Poll::Ready(Ok(delivery))
            }
            Err(TryRecvError::Ended(end)) => Poll::Ready(Err(end)),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }

    /// Blocks the thread until the next item.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// let producer = std::thread::spawn(move || ticks.send("tick", Timestamp::now()));
    /// assert_eq!(consumer.recv()?.item.value, "tick");
    /// producer.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The end, once all queued items have been taken.
    pub fn recv(&mut self) -> Result<Delivery<T>, End> {
        loop {
            match self.recv_timeout(MAX_WAIT) {
                Ok(delivery) => return Ok(delivery),
                Err(TryRecvError::Ended(end)) => return Err(end),
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// Blocks the thread until the next item, for `timeout` at most.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, TryRecvError};
    ///
    /// let (_ticks, hub) = Publisher::<u64>::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// assert_eq!(consumer.recv_timeout(Duration::from_millis(1)), Err(TryRecvError::Empty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when none came in time, [`TryRecvError::Ended`] once all queued items have been taken.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Delivery<T>, TryRecvError> {
        match self.try_recv_at(Timestamp::now()) {
            Err(TryRecvError::Empty) => self.wait(Instant::now() + timeout.min(MAX_WAIT)),
            received => received,
        }
    }

    fn wait(&mut self, deadline: Instant) -> Result<Delivery<T>, TryRecvError> {
        let parking = self.parking.take().unwrap_or_else(|| Box::new(parking()));
        let (parker, waker) = &*parking;
        let received = loop {
            match self.poll_recv(&mut Context::from_waker(waker), Timestamp::now()) {
                Poll::Ready(received) => break received.map_err(TryRecvError::Ended),
                Poll::Pending if Instant::now() >= deadline => break Err(TryRecvError::Empty),
                Poll::Pending => parker.park_deadline(deadline),
            }
        };
        self.parking = Some(parking);
        received
    }

    /// Returns the end that was seen before, or else ends the consumer because it was closed.
    #[cold]
    fn end_or_close(&mut self) -> End {
        let (stats, head) = (&self.stats, &self.head);
        **self.end.get_or_insert_with(|| {
            stats.ended(EndReason::Closed, head.next(), Loss::Overflow);
            Box::new(End { reason: EndReason::Closed, gap: None })
        })
    }

    /// Decides between the end and `Empty` when nothing is queued. If the fan-out has ended, the ring is read once more,
    /// because the items that were pushed before the end are visible by now.
    #[cold]
    fn last_look(&mut self) -> Result<Stamp, TryRecvError> {
        let (reason, next, tail) = self.stats.end().ok_or(TryRecvError::Empty)?;
        let last = self.reader.front().map(|item| item.stamp);
        last.ok_or_else(|| TryRecvError::Ended(self.finish(reason, next, tail)))
    }

    /// Returns the expected sequence number. Takes it over from the publisher the first time, and with it the requested lag.
    /// The publisher set both when it admitted this consumer. `first` is the first number of the first item.
    #[inline]
    fn begin(&mut self, first: u64) -> u64 {
        *self.expected.get_or_insert_with(|| {
            let (start, burst) = self.stats.start().unwrap_or((first, 0));
            self.limit.request(burst);
            start
        })
    }

    /// Returns whether an item is too far behind `head`, and a newer one is there.
    #[inline]
    fn is_stale(&mut self, stamp: Stamp, head: u64) -> bool {
        self.limit.is_exceeded_by(head.saturating_sub(stamp.next())) && self.late_item(stamp, head).is_stale()
    }

    #[cold]
    fn late_item(&self, stamp: Stamp, head: u64) -> LateItem {
        LateItem {
            has_ended: self.stats.end_reason().is_some(),
            limit: self.limit.blocks(),
            offered_after: head.min(self.stats.offered_next()).saturating_sub(stamp.next()),
        }
    }

    /// Skips to the newest item queued, as [`skip_to_newest`](Self::skip_to_newest) requested. Returns its stamp.
    #[cold]
    fn go_to_newest(&mut self, front: Stamp) -> Stamp {
        self.newest_next = false;
        let Backlog { items, blocks, newest } = self.backlog(front);
        self.skip(items, newest.first(), blocks, Loss::SkippedToNewest);
        newest
    }

    /// Returns the queued items before the newest one of this moment: an item that is pushed meanwhile is not seen, so that
    /// skipping ends. `front` is the first item.
    fn backlog(&mut self, front: Stamp) -> Backlog {
        self.reader.backlog().unwrap_or(Backlog { items: 0, blocks: 0, newest: front })
    }

    /// Drops the first `items` queued items, and counts their `blocks` as skipped. `next` is one past the last of them.
    /// The lag that was requested at the start ends here, because the consumer is at the live head.
    fn skip(&mut self, items: usize, next: u64, blocks: u64, reason: Loss) {
        self.limit.request(0);
        if items > 0 {
            self.skipped += blocks;
            self.skipped_for = reason;
            // Before their slots are free, so that never more is queued than the ring holds.
            self.stats.skipped(next, blocks, reason);
            self.reader.discard(items);
        }
    }

    /// Skips from a stale item to the newest one queued, and returns its stamp. Skips that one too if it is stale itself.
    #[cold]
    fn skip_to_live(&mut self, front: Stamp) -> Option<Stamp> {
        let Backlog { mut items, mut blocks, newest } = self.backlog(front);
        let newest_item = NewestItem {
            limit: self.limit.buffer(),
            offered_after: self.stats.offered_next().saturating_sub(newest.next()),
            was_followed: self.stats.refused_to() > newest.sequence,
            has_skipped: self.skipped > 0,
            is_promised: self.is_promised,
        };
        let mut next = newest.first();
        let stale = newest_item.is_stale();
        if stale {
            next = newest.next();
            items += 1;
            blocks += newest.blocks();
        }
        self.skip(items, next, blocks, Loss::SkippedToLive);
        (!stale).then_some(newest)
    }

    /// Counts and returns the gap from `expected` to the item that starts with `first`.
    #[cold]
    fn gap(&mut self, expected: u64, first: u64) -> Gap {
        let blocks = first - expected;
        let usual = if self.overflow.keeps_newest() { Loss::Conflated } else { Loss::Overflow };
        let missing = self.stats.gap_reasons().take(first).unwrap_or(usual);
        let gap = Gap { from: expected, items: blocks, reason: self.main_reason(blocks, missing) };
        self.stats.missed(gap);
        self.stats.pass_to(first);
        gap
    }

    /// Returns the reason for a gap of this many blocks: that of the skipped ones if they are half of it or more, or else
    /// `missing`, which is that of the blocks that the ring did not get.
    fn main_reason(&mut self, blocks: u64, missing: Loss) -> Loss {
        if 2 * std::mem::take(&mut self.skipped) >= blocks { self.skipped_for } else { missing }
    }

    /// Receives the end: counts the gap before it, and drops what was kept for queued items. `next` is one past the last
    /// sequence number, and `tail` the reason for missing items before that.
    fn finish(&mut self, reason: EndReason, next: u64, tail: Loss) -> End {
        let expected = self.expected.or(self.stats.start().map(|(first, _)| first)).unwrap_or(next);
        let blocks = next.saturating_sub(expected);
        let gap = (blocks > 0).then(|| Gap { from: expected, items: blocks, reason: self.main_reason(blocks, tail) });
        if let Some(gap) = gap {
            self.stats.missed(gap);
        }
        self.reader.release();
        **self.end.insert(Box::new(End { reason, gap }))
    }
}

impl<T: Send + Sync> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.stats.leave();
    }
}

/// The item that comes next.
struct Front {
    stamp: Stamp,
    /// The sequence number that would come next if nothing was lost.
    expected: u64,
    /// The live head.
    head: u64,
}

/// Records how long these items were queued, one value for each. Items of one batch were dispatched at the same time.
#[inline]
fn record_waits<'i, T: 'i>(stats: &Stats, items: impl Iterator<Item = &'i Arc<Item<T>>>, now: Timestamp) {
    let mut dispatched = items.map(|item| item.stamp.dispatched_at);
    let Some(mut since) = dispatched.next() else { return };
    let mut count = 1;
    for at in dispatched {
        if at != since {
            stats.waited(now.micros_since(since), count);
            (since, count) = (at, 0);
        }
        count += 1;
    }
    stats.waited(now.micros_since(since), count);
}
