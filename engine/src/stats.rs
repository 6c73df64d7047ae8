//! The account of one consumer: counts that its producing and its consuming thread write, and any thread reads.

use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock, OnceLock};

use crate::cache_lines::CacheLines;
use crate::final_state::FinalState;
use crate::gap_reasons::GapReasons;
use crate::notices::Notices;
use crate::prefetch::prefetch;
use crate::snapshot::{Consumed, Produced};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::waiter::Waiter;
use crate::{EndReason, Gap, Head, Histogram, Loss, Precision, Snapshot};

/// Longest lag or gap that the histograms distinguish, in blocks: over two hours of 10 ms each.
const MAX_ITEMS: u64 = 1 << 20;
/// Longest latency that the histogram distinguishes: 67 s.
const MAX_MICROS: u64 = 1 << 26;

/// Counts that only the producing thread writes, and two rarely used parts that fill up the same cache lines.
///
/// Each event is one store, here and in [`ConsumerCounts`]: whatever a reader finds between two stores is a state in which
/// the consumer really was.
#[derive(Debug)]
struct ProducerCounts {
    accepted: AtomicU64,
    overflow: AtomicU64,
    conflated: AtomicU64,
    source: AtomicU64,
    history: AtomicU64,
    /// One past the last sequence number that did not fit into the ring; 0 if all did.
    refused_to: AtomicU64,
    first: AtomicU64,
    burst: AtomicU64,
    attached: AtomicBool,
    /// Whether the consumer was closed or dropped. Written once, so that it takes these cache lines from the producer once.
    /// The producer then offers it no more items; it looks when [`Notices::take_leavers`] says so.
    dismissed: AtomicBool,
    gap_reasons: GapReasons,
    head: Head,
}

/// Counts that only the consuming thread writes, and the flag that it reads for each item. They are close together, so
/// that a delivery touches one cache line without histograms.
#[derive(Debug)]
#[repr(C)]
struct ConsumerCounts {
    delivered: AtomicU64,
    skipped: AtomicU64,
    late: AtomicU64,
    /// Blocks before the consumer's position that were never in its ring, or were replaced there by a newer item. The
    /// position is the first sequence number and these four counts.
    missed: AtomicU64,
    /// Written once, by any thread, and read whenever nothing is queued.
    end: FinalState,
    /// Whether the consumer was closed. A copy of `ProducerCounts::dismissed` on a cache line that the consumer uses anyway.
    close: AtomicBool,
    /// `None` if the subscriber wants none. Apart, because a server has thousands of such consumers.
    histograms: Option<Box<Histograms>>,
}

/// The histograms that each delivery is recorded in.
#[derive(Debug)]
struct Histograms {
    lag_items: Histogram,
    queue_micros: Histogram,
}

/// The flag and the waker of a consumer that waits. Apart from the counts, so that the producer's look at them does not
/// fetch a cache line that the consumer keeps writing. The producer reads none of them while no consumer waits.
#[derive(Debug)]
struct Signals {
    consumer: Waiter,
    notices: Arc<Notices>,
    /// The lengths of gaps, from the first one on.
    gap_items: OnceLock<Box<Histogram>>,
    /// Blocks that another server has captured and that did not come from there. A count of the producing thread. It is rarely
    /// written, and would take another cache line beside the others.
    hop: AtomicU64,
}

/// A histogram without values, in place of one that a consumer does not have.
static NO_VALUES: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(MAX_ITEMS, Precision::OneDigit));

/// The account of one consumer: blocks offered, received and lost, and its lag. Reading it delays no thread.
///
/// All counts are in blocks: an item made from several blocks counts as each of them. At every moment
/// `offered = delivered + lost + queued`, counted from the consumer's first item: see [`Stats::snapshot`].
#[derive(Debug)]
pub struct Stats {
    producer: CacheLines<ProducerCounts>,
    consumer: CacheLines<ConsumerCounts>,
    signals: CacheLines<Signals>,
}

/// Returns counts that were all so at one moment: counts only grow, so two equal readings enclose one.
#[inline]
fn read_twice<R: Copy + PartialEq>(read: impl Fn() -> R) -> R {
    let mut reading = read();
    loop {
        let again = read();
        if again == reading {
            return reading;
        }
        reading = again;
    }
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            lag_items: Histogram::new(MAX_ITEMS, Precision::TwoDigits),
            queue_micros: Histogram::new(MAX_MICROS, Precision::OneDigit),
        }
    }
}

impl Stats {
    pub(crate) fn new(head: Head, notices: Arc<Notices>, has_histograms: bool) -> Self {
        Self {
            producer: CacheLines(ProducerCounts {
                accepted: AtomicU64::new(0),
                overflow: AtomicU64::new(0),
                conflated: AtomicU64::new(0),
                source: AtomicU64::new(0),
                history: AtomicU64::new(0),
                refused_to: AtomicU64::new(0),
                first: AtomicU64::new(0),
                burst: AtomicU64::new(0),
                attached: AtomicBool::new(false),
                dismissed: AtomicBool::new(false),
                gap_reasons: GapReasons::default(),
                head,
            }),
            consumer: CacheLines(ConsumerCounts {
                delivered: AtomicU64::new(0),
                skipped: AtomicU64::new(0),
                late: AtomicU64::new(0),
                missed: AtomicU64::new(0),
                end: FinalState::new(),
                close: AtomicBool::new(false),
                histograms: has_histograms.then(Box::default),
            }),
            signals: CacheLines(Signals {
                consumer: Waiter::new(),
                notices,
                gap_items: OnceLock::new(),
                hop: AtomicU64::new(0),
            }),
        }
    }

    /// Asks the processor to fetch the counts of the consuming end.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(&self.consumer.delivered);
    }

    /// Asks the processor to fetch the counts of the producing end.
    #[inline]
    pub(crate) fn prefetch_produced(&self) {
        prefetch(&self.producer.accepted);
    }

    /// Returns all counts at one moment, with `offered = delivered + lost + queued`. All counts only grow, except `queued`
    /// and `lag_items`.
    ///
    /// Reads again while both ends of the ring write, each within the tenth of a microsecond in which their counts are
    /// read. Neither of them waits for that.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// (0..3).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// consumer.recv()?;
    /// let account = consumer.stats().snapshot();
    /// assert_eq!((account.offered, account.delivered, account.lost.total(), account.queued), (3, 1, 0, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut produced = read_twice(|| self.produced());
        loop {
            let consumed = read_twice(|| self.consumed());
            let before = std::mem::replace(&mut produced, read_twice(|| self.produced()));
            // One end has not moved while the other was read, so both were so at that moment.
            if produced == before || self.consumed() == consumed {
                return Snapshot::new(produced, consumed);
            }
        }
    }

    /// Reads the counts of the producing end.
    fn produced(&self) -> Produced {
        let ProducerCounts { accepted, overflow, conflated, source, history, first, burst, attached, .. } =
            &*self.producer;
        Produced {
            attached: attached.load(Ordering::Acquire),
            first: first.load(Ordering::Acquire),
            burst: burst.load(Ordering::Acquire),
            live: self.live_next(),
            overflow: overflow.load(Ordering::Acquire),
            source: source.load(Ordering::Acquire),
            history: history.load(Ordering::Acquire),
            hop: self.signals.hop.load(Ordering::Acquire),
            conflated: conflated.load(Ordering::Acquire),
            accepted: accepted.load(Ordering::Acquire),
        }
    }

    /// Reads the counts of the consuming end.
    fn consumed(&self) -> Consumed {
        let ConsumerCounts { delivered, skipped, late, missed, .. } = &*self.consumer;
        Consumed {
            delivered: delivered.load(Ordering::Acquire),
            skipped: skipped.load(Ordering::Acquire),
            late: late.load(Ordering::Acquire),
            missed: missed.load(Ordering::Acquire),
        }
    }

    /// Returns the histogram of the lag in blocks: one value for each block since the consumer's first. A delivered block
    /// counts with the lag at which it was taken: ten blocks in one item at the head count with 9 to 0. A lost one counts
    /// with the lag at the moment when it was due, so that a stall shows in full although no item was taken meanwhile.
    /// Lost blocks are counted with the next item, or with the end. Blocks that the history no longer had were never due.
    ///
    /// It stays empty without [`SubscribeOptions::histograms`](crate::SubscribeOptions::histograms).
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// (0..3).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// consumer.recv()?;
    /// assert_eq!(consumer.stats().lag_items().max(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lag_items(&self) -> &Histogram {
        self.consumer.histograms.as_ref().map_or(&NO_VALUES, |histograms| &histograms.lag_items)
    }

    /// Returns the histogram of the lengths of gaps, in blocks, for each gap that the consumer has seen; with one digit.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// (0..3).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// consumer.skip_to_newest();
    /// consumer.recv()?;
    /// assert_eq!(consumer.stats().gap_items().max(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn gap_items(&self) -> &Histogram {
        self.signals.gap_items.get().map_or(&NO_VALUES, |histogram| histogram)
    }

    /// Returns the histogram of stage `queue`: from the dispatcher to the consumer, in microseconds, one value for each
    /// delivered item. It has one digit, to be small: each value is right to a sixteenth.
    ///
    /// An item made from several blocks counts once, with the wait of its first block, the longest. Its other blocks were
    /// dispatched later and waited less, and the item does not say how long.
    ///
    /// It stays empty without [`SubscribeOptions::histograms`](crate::SubscribeOptions::histograms).
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
    /// consumer.try_recv_at(sent + Duration::from_millis(2))?;
    /// assert_eq!(consumer.stats().queue_micros().max(), 2000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn queue_micros(&self) -> &Histogram {
        self.consumer.histograms.as_ref().map_or(&NO_VALUES, |histograms| &histograms.queue_micros)
    }

    /// Returns why the consumer receives no more items, once it has ended.
    ///
    /// ```
    /// use aircheck_engine::{EndReason, Publisher, PublisherOptions, SubscribeOptions};
    ///
    /// let (ticks, hub) = Publisher::<u64>::new(PublisherOptions::default());
    /// let consumer = hub.subscribe(SubscribeOptions::default())?;
    /// assert_eq!(consumer.stats().end_reason(), None);
    /// ticks.finish(EndReason::Finished);
    /// assert_eq!(consumer.stats().end_reason(), Some(EndReason::Finished));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        self.consumer.end.reason()
    }

    /// Ends the consumer from any thread: it receives [`EndReason::Closed`] next, even if items are queued.
    ///
    /// ```
    /// use aircheck_engine::{EndReason, Publisher, PublisherOptions, SubscribeOptions};
    ///
    /// let (_ticks, hub) = Publisher::<u64>::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// let stats = consumer.stats().clone();
    /// let other = std::thread::spawn(move || stats.close());
    /// assert_eq!(consumer.recv().unwrap_err().reason, EndReason::Closed);
    /// # other.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.consumer.close.store(true, Ordering::Release);
        self.producer.dismissed.store(true, Ordering::Release);
        self.signals.notices.consumer_leaves();
        self.signals.consumer.wake();
    }

    /// Returns whether the fan-out has admitted the consumer. Before that it is offered no items.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let consumer = hub.subscribe(SubscribeOptions::default())?;
    /// assert!(!consumer.stats().is_attached());
    /// ticks.send("tick", Timestamp::now());
    /// assert!(consumer.stats().is_attached());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.producer.attached.load(Ordering::Acquire)
    }

    /// Returns whether [`close`](Self::close) was called.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions};
    ///
    /// let (_ticks, hub) = Publisher::<u64>::new(PublisherOptions::default());
    /// let consumer = hub.subscribe(SubscribeOptions::default())?;
    /// consumer.stats().close();
    /// assert!(consumer.stats().is_closing());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.consumer.close.load(Ordering::Acquire)
    }

    /// Returns the head that the lag is measured against: its position at the end, once the consumer has ended.
    fn live_next(&self) -> u64 {
        // In this order: an end that comes in between is below the head.
        let live = self.producer.head.next();
        self.consumer.end.get().map_or(live, |(_, next, _)| next)
    }
}

/// Methods for both ends.
impl Stats {
    /// Ends the counts; the first reason stays. `final_next` is one past the last sequence number offered, and `tail` the
    /// reason for missing items before that.
    pub(crate) fn ended(&self, reason: EndReason, final_next: u64, tail: Loss) {
        self.consumer.end.set(reason, final_next, tail);
    }
}

/// Methods for the producing end. Each of its counts has one writer, so an addition is a load and a store.
impl Stats {
    pub(crate) fn attached(&self, first: u64, burst: u64) {
        self.producer.first.store(first, Ordering::Release);
        self.producer.burst.store(burst, Ordering::Release);
        self.producer.attached.store(true, Ordering::Release);
    }

    pub(crate) fn accepted(&self, blocks: u64) {
        grow(&self.producer.accepted, blocks);
    }

    /// Returns how many blocks are in the ring, or more if the consumer takes some right now.
    pub(crate) fn queued_at_most(&self) -> u64 {
        let Self { producer, consumer, .. } = self;
        let left = [&consumer.delivered, &consumer.skipped, &consumer.late, &producer.conflated];
        producer.accepted.load(Ordering::Relaxed) - left.map(|count| count.load(Ordering::Relaxed)).iter().sum::<u64>()
    }

    /// Counts blocks that were replaced. Must come before [`accepted`](Self::accepted) of the item in their place, and both
    /// after that has been put there: at no moment are both in the ring.
    pub(crate) fn conflated(&self, blocks: u64) {
        grow(&self.producer.conflated, blocks);
    }

    pub(crate) fn refused(&self, reason: Loss, count: u64) {
        let counter = match reason {
            Loss::Source => &self.producer.source,
            Loss::History => &self.producer.history,
            Loss::Hop => &self.signals.hop,
            Loss::Overflow | Loss::SkippedToLive | Loss::SkippedToNewest | Loss::Conflated => &self.producer.overflow,
        };
        grow(counter, count);
    }

    /// Counts an item of `blocks` blocks that did not fit into the ring. `next` is one past the last of them.
    pub(crate) fn overflowed(&self, next: u64, blocks: u64) {
        self.producer.refused_to.store(next, Ordering::Release);
        self.refused(Loss::Overflow, blocks);
    }

    /// Wakes the consumer after its end, whether it waits or not.
    pub(crate) fn wake_at_end(&self) {
        self.signals.consumer.wake();
    }

    /// Announces that the fan-out is to remove the consumer.
    pub(crate) fn announce_end(&self) {
        self.signals.notices.consumer_leaves();
    }

    /// Returns whether the consumer was closed or dropped.
    pub(crate) fn is_dismissed(&self) -> bool {
        // Pairs with `close` and `leave`: what they wrote before is seen, and so is the reason of the end.
        self.producer.dismissed.load(Ordering::Acquire)
    }

    /// Wakes the consumer if it waits. The caller must have issued a sequentially consistent fence since its last push.
    pub(crate) fn wake_if_armed(&self) {
        self.signals.consumer.wake_if_armed();
    }
}

/// Methods for the consuming end. Each of its counts has one writer, so an addition is a load and a store.
impl Stats {
    /// Counts `blocks` delivered blocks. Must come before their slots are free.
    #[inline]
    pub(crate) fn delivered(&self, blocks: u64) {
        grow(&self.consumer.delivered, blocks);
    }

    /// Moves the consumer to `next`. The blocks before `next` that are not counted yet count as missed: they were not in its
    /// ring.
    pub(crate) fn pass_to(&self, next: u64) {
        let Consumed { delivered, skipped, late, missed } = self.consumed();
        let passed = self.producer.first.load(Ordering::Acquire) + delivered + skipped + late + missed;
        grow(&self.consumer.missed, next.saturating_sub(passed));
    }

    /// Records how long `count` items were queued.
    #[inline]
    pub(crate) fn waited(&self, micros: u64, count: u64) {
        if let Some(histograms) = &self.consumer.histograms {
            histograms.queue_micros.record_n(micros, count);
        }
    }

    /// Counts `blocks` skipped blocks. `next` is one past the last of them. The reason is [`Loss::SkippedToNewest`] or
    /// [`Loss::SkippedToLive`]. Must come before their slots are free.
    pub(crate) fn skipped(&self, next: u64, blocks: u64, reason: Loss) {
        self.pass_to(next - blocks);
        let counter = if reason == Loss::SkippedToNewest { &self.consumer.late } else { &self.consumer.skipped };
        grow(counter, blocks);
    }

    /// Records the lag of each block of a delivered item: `lag` of the last one, and one more for each before it.
    #[inline]
    pub(crate) fn lagged(&self, lag: u64, preceding: u32) {
        if preceding > 0 {
            self.lagged_each(lag..=lag + u64::from(preceding));
        } else if let Some(histograms) = &self.consumer.histograms {
            histograms.lag_items.record(lag);
        }
    }

    /// Records one delivered block at each of these lags.
    #[inline]
    pub(crate) fn lagged_each(&self, lags: RangeInclusive<u64>) {
        if let Some(histograms) = &self.consumer.histograms {
            histograms.lag_items.record_each(lags);
        }
    }

    /// Records a gap, and the lag of each block in it. The cost does not grow with the gap.
    pub(crate) fn missed(&self, gap: Gap) {
        let new = || Box::new(Histogram::new(MAX_ITEMS, Precision::OneDigit));
        self.signals.gap_items.get_or_init(new).record(gap.items);
        // Blocks that the history no longer had are at the start.
        let at_start = gap.from == self.producer.first.load(Ordering::Acquire);
        let never_due = if at_start { self.producer.history.load(Ordering::Acquire) } else { 0 };
        // The first missing block was due when the consumer was one behind, the second when it was two behind, and so on.
        self.lagged_each(1..=gap.items.saturating_sub(never_due));
    }

    /// Returns the queue of gap reasons, which both ends use.
    pub(crate) fn gap_reasons(&self) -> &GapReasons {
        &self.producer.gap_reasons
    }

    /// Returns one past the last block that did not fit into the ring.
    pub(crate) fn refused_to(&self) -> u64 {
        self.producer.refused_to.load(Ordering::Acquire)
    }

    /// Returns one past the last sequence number that the fan-out has offered this consumer.
    pub(crate) fn offered_next(&self) -> u64 {
        let ProducerCounts { first, overflow, source, history, accepted, .. } = &*self.producer;
        let Signals { hop, .. } = &*self.signals;
        [first, overflow, source, history, hop, accepted].map(|count| count.load(Ordering::Acquire)).iter().sum()
    }

    /// Returns the first sequence number and the burst in blocks, once the fan-out has admitted the consumer.
    pub(crate) fn start(&self) -> Option<(u64, u64)> {
        self.producer
            .attached
            .load(Ordering::Acquire)
            .then(|| (self.producer.first.load(Ordering::Acquire), self.producer.burst.load(Ordering::Acquire)))
    }

    /// Returns the reason of the end, one past the final sequence number, and the reason for missing items before that,
    /// once the consumer has ended. Items that were pushed before the end are visible then.
    pub(crate) fn end(&self) -> Option<(EndReason, u64, Loss)> {
        self.consumer.end.get()
    }

    /// Returns whether the consumer has ended.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.consumer.end.is_set()
    }

    /// Ends the counts because the consumer was dropped.
    pub(crate) fn leave(&self) {
        self.ended(EndReason::Left, self.producer.head.next(), Loss::Overflow);
        self.producer.dismissed.store(true, Ordering::Release);
        self.signals.notices.consumer_leaves();
    }

    /// Announces that the consumer is about to wait. The consumer must look at its ring once more before it does.
    pub(crate) fn arm(&self, waker: &std::task::Waker) {
        self.signals.notices.consumer_waits();
        // Its fence orders both writes before the consumer's second look.
        self.signals.consumer.arm(waker);
    }

    pub(crate) fn disarm(&self) {
        self.signals.consumer.disarm();
    }
}

#[cfg(not(loom))]
fn grow(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Release);
}

/// In one access, which is the same for a counter with one writer: loom changes threads before the last access of an atomic
/// alone, and a load before each store would hide the accesses of a reader from it.
#[cfg(loom)]
fn grow(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_fits_into_its_cache_lines() {
        let line = align_of::<CacheLines<u8>>();
        assert!(size_of::<ProducerCounts>() <= 128, "{}", size_of::<ProducerCounts>());
        assert!(size_of::<ConsumerCounts>() <= 128, "{}", size_of::<ConsumerCounts>());
        assert!(size_of::<Signals>() <= 128, "{}", size_of::<Signals>());
        assert!(size_of::<Stats>() <= 3 * line.max(128), "{}", size_of::<Stats>());
    }
}
