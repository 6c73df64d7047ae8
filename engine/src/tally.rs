//! The account of one consumer: written by the two threads it lies between, read by anyone.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use atomic_waker::AtomicWaker;
use crossbeam_utils::CachePadded;

use crate::{EndReason, Gap, Head, Loss, LossCounts, Precision, Recorder};

/// Lags and gaps are told apart up to this many items: over two hours of 10 ms blocks.
const MAX_ITEMS: u64 = 1 << 20;
/// Latencies are told apart up to this many microseconds: 67 s.
const MAX_MICROS: u64 = 1 << 26;

/// Counts that only the producing thread writes.
#[derive(Debug, Default)]
struct Offering {
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
}

/// What the consuming thread writes, it alone, and what it looks at for each item: close together, so that a delivery
/// touches few cache lines.
#[derive(Debug)]
struct Taking {
    delivered: AtomicU64,
    skipped: AtomicU64,
    late: AtomicU64,
    /// One past the last sequence number that was delivered or skipped; 0 before the first.
    passed: AtomicU64,
    lag_items: Recorder,
    queue_micros: Recorder,
    /// Somebody wants it to end: the consumer's own copy of what the doorbell says, on a line that it has anyway.
    close: AtomicBool,
    gap_items: Recorder,
}

/// How the consumer is woken, and how it learns of its end. Apart from the counts, so that the producer's look at
/// `armed` does not fetch a line that the consumer keeps writing.
#[derive(Debug, Default)]
struct Doorbell {
    armed: AtomicBool,
    waker: AtomicWaker,
    /// Somebody wants it to end, or the consumer has been dropped: nothing need be offered any more.
    dismissed: AtomicBool,
    end: AtomicU8,
    final_next: AtomicU64,
    tail: AtomicU8,
}

/// What one consumer was offered, got and lost, and how far behind it is. Reading disturbs nobody.
///
/// At every moment `offered = delivered + lost + queued`, counted from the consumer's first item. See
/// [`Tally::snapshot`].
#[derive(Debug)]
pub struct Tally {
    offering: CachePadded<Offering>,
    taking: CachePadded<Taking>,
    doorbell: CachePadded<Doorbell>,
    head: Head,
}

/// A [`Tally`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Sequence numbers that the consumer should have got so far, from its first one.
    pub offered: u64,
    /// Items that it took.
    pub delivered: u64,
    /// Items that it never gets, by reason.
    pub lost: LossCounts,
    /// Items that wait in its ring.
    pub queued: u64,
    /// The sequence number that it starts with; 0 before it is taken in.
    pub first_sequence: u64,
    /// One past the last sequence number that it took or skipped; its first one before that.
    pub next_sequence: u64,
    /// How far that is behind the live head, in items. A position, not a time.
    pub lag_items: u64,
    /// How many items of the lag were asked for (burst or replay) rather than fallen behind, at the start.
    pub burst_items: u64,
}

impl Tally {
    pub(crate) fn new(head: Head) -> Self {
        Self {
            offering: CachePadded::default(),
            taking: CachePadded::new(Taking {
                delivered: AtomicU64::new(0),
                skipped: AtomicU64::new(0),
                late: AtomicU64::new(0),
                passed: AtomicU64::new(0),
                lag_items: Recorder::new(MAX_ITEMS, Precision::TwoDigits),
                queue_micros: Recorder::new(MAX_MICROS, Precision::TwoDigits),
                close: AtomicBool::new(false),
                gap_items: Recorder::new(MAX_ITEMS, Precision::OneDigit),
            }),
            doorbell: CachePadded::default(),
            head,
        }
    }

    /// All counts at one moment, with `offered = delivered + lost + queued`.
    ///
    /// What the consumer did is read before what the producer did, so an item that moves meanwhile counts as queued.
    /// Each count only ever grows, `queued` and `lag_items` apart.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let delivered = self.taking.delivered.load(Ordering::Acquire);
        let skipped = self.taking.skipped.load(Ordering::Acquire);
        let late = self.taking.late.load(Ordering::Acquire);
        let passed = self.taking.passed.load(Ordering::Acquire);
        let conflated = self.offering.conflated.load(Ordering::Acquire);
        let accepted = self.offering.accepted.load(Ordering::Acquire);
        let mut lost = LossCounts::default();
        lost.add(Loss::Overflow, self.offering.overflow.load(Ordering::Acquire));
        lost.add(Loss::Conflated, conflated);
        lost.add(Loss::Source, self.offering.source.load(Ordering::Acquire));
        lost.add(Loss::History, self.offering.history.load(Ordering::Acquire));
        let refused = lost.total() - conflated;
        lost.add(Loss::Skipped, skipped);
        lost.add(Loss::Late, late);
        let attached = self.offering.attached.load(Ordering::Acquire);
        let first = self.offering.first.load(Ordering::Acquire);
        let reached = passed.max(first);
        Snapshot {
            offered: accepted + refused,
            delivered,
            lost,
            queued: accepted - conflated - skipped - late - delivered,
            first_sequence: first,
            next_sequence: reached,
            lag_items: if attached { self.live_next().saturating_sub(reached) } else { 0 },
            burst_items: self.offering.burst.load(Ordering::Acquire),
        }
    }

    /// How far the consumer was behind the live head, in items: one value for each item since its first. Of one that
    /// was delivered, it is the lag at which it was taken; of one that was lost, how far the consumer was behind when
    /// it was due, so that a stall shows in full although nothing was taken meanwhile. What was lost is known with the
    /// next item, or with the end; what the history did not have was never due.
    #[must_use]
    pub fn lag_items(&self) -> &Recorder {
        &self.taking.lag_items
    }

    /// How many items in a row were missing, for each gap that the consumer has seen.
    #[must_use]
    pub fn gap_items(&self) -> &Recorder {
        &self.taking.gap_items
    }

    /// Stage `queue`: from the dispatcher to the consumer, in microseconds, for each delivered item.
    #[must_use]
    pub fn queue_micros(&self) -> &Recorder {
        &self.taking.queue_micros
    }

    /// Why the consumer gets nothing more, once that is so.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        EndReason::from_code(self.doorbell.end.load(Ordering::Acquire))
    }

    /// Ends the consumer from outside: it gets [`EndReason::Closed`] next, whatever is still queued.
    pub fn close(&self) {
        self.taking.close.store(true, Ordering::Release);
        self.doorbell.dismissed.store(true, Ordering::Release);
        self.doorbell.waker.wake();
    }

    /// Whether the fan-out has taken the consumer in; until then it is offered nothing.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.offering.attached.load(Ordering::Acquire)
    }

    /// Whether somebody called [`close`](Self::close).
    #[must_use]
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.taking.close.load(Ordering::Acquire)
    }

    /// The head that the lag is measured against: where it stood at the end, once the stream has ended.
    fn live_next(&self) -> u64 {
        match self.end_reason() {
            Some(_) => self.doorbell.final_next.load(Ordering::Acquire),
            None => self.head.next(),
        }
    }
}

/// What either side may do.
impl Tally {
    /// Ends the account; the first reason stays. `final_next` is one past the last sequence number offered, `tail`
    /// why items before it are missing, if they are.
    pub(crate) fn ended(&self, reason: EndReason, final_next: u64, tail: Loss) {
        if self.end_reason().is_none() {
            self.doorbell.final_next.store(final_next, Ordering::Release);
            self.doorbell.tail.store(tail as u8, Ordering::Release);
            // Lost only if the other side ended it in this very moment; then its reason stands.
            let _ = self.doorbell.end.compare_exchange(0, reason.code(), Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// What the producing side writes. Each count has this one writer, so it is a load and a store, not a locked add.
impl Tally {
    pub(crate) fn attached(&self, first: u64, burst: u64) {
        self.offering.first.store(first, Ordering::Release);
        self.offering.burst.store(burst, Ordering::Release);
        self.offering.attached.store(true, Ordering::Release);
    }

    pub(crate) fn accepted(&self, items: u64) {
        grow(&self.offering.accepted, items);
    }

    /// Must come after [`accepted`](Self::accepted) of the item that replaced it: see [`snapshot`](Self::snapshot).
    pub(crate) fn conflated(&self) {
        grow(&self.offering.conflated, 1);
    }

    pub(crate) fn refused(&self, reason: Loss, count: u64) {
        let counter = match reason {
            Loss::Source => &self.offering.source,
            Loss::History => &self.offering.history,
            Loss::Overflow | Loss::Skipped | Loss::Late | Loss::Conflated => &self.offering.overflow,
        };
        grow(counter, count);
    }

    /// The item with this number did not fit into the ring.
    pub(crate) fn overflowed(&self, sequence: u64) {
        self.offering.refused_to.store(sequence + 1, Ordering::Release);
        self.refused(Loss::Overflow, 1);
    }

    /// Wakes the consumer whether it waits or not.
    pub(crate) fn wake(&self) {
        self.doorbell.waker.wake();
    }

    /// Whether nothing need be offered any more. Not asked of what the consumer writes: the producer looks at this for
    /// every consumer at every flush, and would fetch that line from the other core each time.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.doorbell.dismissed.load(Ordering::Relaxed)
    }

    /// Wakes the consumer if it waits. The caller has issued a sequentially consistent fence since it pushed.
    pub(crate) fn wake_if_armed(&self) {
        if self.doorbell.armed.load(Ordering::Relaxed) {
            self.doorbell.armed.store(false, Ordering::Relaxed);
            self.doorbell.waker.wake();
        }
    }
}

/// What the consuming side writes, likewise alone, and reads.
impl Tally {
    /// So many were taken, the last of them `last`.
    #[inline]
    pub(crate) fn delivered(&self, last: u64, count: u64) {
        grow(&self.taking.delivered, count);
        self.taking.passed.store(last + 1, Ordering::Release);
    }

    /// So many had waited for so long.
    #[inline]
    pub(crate) fn waited(&self, micros: u64, count: u64) {
        self.taking.queue_micros.record_n(micros, count);
    }

    /// So many were passed over, the last of them `last`: because of [`Loss::Late`] or [`Loss::Skipped`].
    pub(crate) fn skipped(&self, last: u64, count: u64, reason: Loss) {
        let counter = if reason == Loss::Late { &self.taking.late } else { &self.taking.skipped };
        grow(counter, count);
        self.taking.passed.store(last + 1, Ordering::Release);
    }

    /// One was taken at this lag.
    #[inline]
    pub(crate) fn lagged(&self, items: u64) {
        self.taking.lag_items.record(items);
    }

    /// One was taken at each of these.
    #[inline]
    pub(crate) fn lagged_each(&self, items: RangeInclusive<u64>) {
        self.taking.lag_items.record_each(items);
    }

    pub(crate) fn missed(&self, gap: Gap) {
        self.taking.gap_items.record(gap.blocks);
        // What the history did not have lies before everything else.
        let at_start = gap.from == self.offering.first.load(Ordering::Acquire);
        let never_due = if at_start { self.offering.history.load(Ordering::Acquire) } else { 0 };
        // The first was due when the consumer was one behind, and so on.
        self.taking.lag_items.record_each(1..=gap.blocks.saturating_sub(never_due));
    }

    /// One past the last item that did not fit into the ring.
    pub(crate) fn refused_to(&self) -> u64 {
        self.offering.refused_to.load(Ordering::Acquire)
    }

    /// One past the last sequence number that the fan-out has offered this consumer.
    pub(crate) fn offered_next(&self) -> u64 {
        self.offering.first.load(Ordering::Acquire) + self.snapshot().offered
    }

    /// First sequence number and burst in items, once the fan-out has taken the consumer in.
    pub(crate) fn start(&self) -> Option<(u64, u64)> {
        self.offering
            .attached
            .load(Ordering::Acquire)
            .then(|| (self.offering.first.load(Ordering::Acquire), self.offering.burst.load(Ordering::Acquire)))
    }

    /// Reason, final sequence number and the reason for what is missing before it, once the producing side has
    /// ended. What it pushed before is visible then.
    pub(crate) fn end(&self) -> Option<(EndReason, u64, Loss)> {
        self.end_reason().map(|reason| {
            let tail = usize::from(self.doorbell.tail.load(Ordering::Acquire));
            (reason, self.doorbell.final_next.load(Ordering::Acquire), Loss::ALL[tail])
        })
    }

    /// Says that the consumer takes nothing more.
    pub(crate) fn leave(&self) {
        self.ended(EndReason::Left, self.head.next(), Loss::Overflow);
        self.doorbell.dismissed.store(true, Ordering::Release);
    }

    /// Announces that the consumer is about to wait. It must look at its ring once more before it does.
    pub(crate) fn arm(&self, waker: &std::task::Waker) {
        self.doorbell.waker.register(waker);
        self.doorbell.armed.store(true, Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    pub(crate) fn disarm(&self) {
        self.doorbell.armed.store(false, Ordering::Relaxed);
    }
}

fn grow(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Release);
}
