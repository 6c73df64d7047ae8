//! The producing end of one consumer's ring, and the count of the items that the ring refused.

use std::sync::Arc;

use crate::lending::{self, Lender, Log, Offer};
use crate::loss::GapLosses;
use crate::newest::{NewestWriter, newest};
use crate::notices::Notices;
use crate::ring_reader::RingReader;
use crate::sync::{Ordering, fence};
use crate::{EndReason, Loss, OverflowPolicy, Start, Stats, SubscribeOptions};

/// Slots of a ring, beyond those for full items, where items may stand for several blocks. An encoder emits an item with
/// fewer blocks before each gap, so a ring holds a few of them. If more come, the ring is full before its limit in
/// blocks is reached.
const SHORT_ITEMS: usize = 8;

/// The writing end of the storage that the overflow policy needs.
#[derive(Debug)]
enum WriteEnd<T: Send + Sync> {
    /// A ring with 8 bytes for each item, so that little data crosses from core to core.
    Queue(Lender<T>),
    Latest(NewestWriter<T>),
}

/// Puts items into one consumer's ring and counts the refused ones by reason.
#[derive(Debug)]
pub(crate) struct ConsumerRing<T: Send + Sync> {
    items: WriteEnd<T>,
    overflow: OverflowPolicy,
    start: Start,
    /// Blocks that an item stands for, at most.
    group: u64,
    /// Queued blocks from which on the ring refuses items.
    limit: u64,
    /// The sequence number that comes next if nothing is lost.
    expected: u64,
    /// Losses since the last item that the ring accepted.
    missing: GapLosses,
    has_ended: bool,
    stats: Arc<Stats>,
}

impl<T: Send + Sync> ConsumerRing<T> {
    /// Creates the ring of a consumer with these options and with room for `past` blocks of history. An item stands for
    /// `group` blocks at most. A producer that waits for the consumer hears of free slots by `notices`.
    pub(crate) fn new(
        options: SubscribeOptions,
        past: usize,
        group: usize,
        stats: Arc<Stats>,
        notices: &Arc<Notices>,
    ) -> (Self, RingReader<T>) {
        let SubscribeOptions { overflow, buffer, start, .. } = options;
        let limit = ring_blocks(options, past, group);
        let slots = match overflow {
            // A slot for each block of the history, in case that its items stand for one each: a refused item would be
            // an end at the start, or a loss of a consumer that the source waits for.
            OverflowPolicy::Disconnect | OverflowPolicy::Block => slots(buffer, group) + limit - buffer,
            _ => slots(limit, group),
        };
        let (items, reader) = if overflow.keeps_newest()
            && let Some((writer, reader)) = newest()
        {
            (WriteEnd::Latest(writer), RingReader::Latest(reader))
        } else {
            let room = (overflow == OverflowPolicy::Block).then(|| Arc::clone(notices));
            let (lender, borrower) = lending::ring(slots, room);
            (WriteEnd::Queue(lender), RingReader::Queue(borrower))
        };
        let ring = Self {
            items,
            overflow,
            start,
            group: group as u64,
            limit: limit as u64,
            expected: 0,
            missing: GapLosses::default(),
            has_ended: false,
            stats,
        };
        (ring, reader)
    }

    /// Admits the consumer: finds its first item, and offers it the history from there on. The history is the items of
    /// the log from the position `history` on, and `live` is the next sequence number to come. A start inside an item
    /// is moved to the first block of that item. The distance to `head` is requested lag.
    pub(crate) fn start(&mut self, live: u64, head: u64, log: &mut Log<T>, history: u64) {
        let oldest = log.get(history).map_or(live, |item| item.stamp.first());
        let requested = match self.start {
            Start::Live => live,
            Start::Back(blocks) => live.saturating_sub(blocks).max(oldest),
            Start::From(sequence) => sequence.min(live),
        };
        let from = log.position(|item| item.stamp.next() <= requested).max(history);
        let first = log.get(from).map_or(requested, |item| item.stamp.first().min(requested));
        self.expected = first.max(oldest);
        self.stats.attached(first, head.max(live) - self.expected);
        if let WriteEnd::Queue(lender) = &mut self.items {
            log.admit(lender);
        }
        self.refuse(Loss::History, self.expected - first);
        self.offer_all(log, &log.offer(from));
        fence(Ordering::SeqCst);
        self.wake_if_armed();
    }

    /// Puts the items of an offer into the ring, or counts each refused one with its reason.
    #[inline]
    pub(crate) fn offer_all(&mut self, log: &Log<T>, offer: &Offer) {
        if !self.offer_at_once(log, offer) {
            (offer.from..offer.to).for_each(|position| self.offer(log, position));
        }
    }

    /// Puts all items of an offer into the ring in one step, if no item is missing before or between them and there is room
    /// for all. Returns whether it did.
    #[inline]
    fn offer_at_once(&mut self, log: &Log<T>, offer: &Offer) -> bool {
        let follows = offer.is_unbroken && offer.first == self.expected && self.missing.is_empty();
        if !follows || !self.has_room((offer.to - offer.from) as usize) {
            return false;
        }
        let WriteEnd::Queue(lender) = &mut self.items else { return false };
        self.expected = offer.next;
        // Before they can be seen, because the consumer may count them as delivered right after.
        self.stats.accepted(offer.next - offer.first);
        lender.lend(log, offer.from, offer.to)
    }

    /// Puts the item at this position of the log into the ring, or counts it as refused.
    fn offer(&mut self, log: &Log<T>, position: u64) {
        let Some(item) = log.get(position).filter(|_| !self.has_ended) else { return };
        let stamp = item.stamp;
        self.refuse(Loss::Source, stamp.first() - self.expected);
        self.expected = stamp.next();
        if !self.has_room(1) {
            self.keep_own(log);
            self.missing.add(Loss::Overflow, stamp.blocks());
            self.stats.overflowed(stamp.next(), stamp.blocks());
            if self.overflow == OverflowPolicy::Disconnect {
                self.end(EndReason::TooSlow, self.expected);
                self.stats.announce_end();
            }
            return;
        }
        if !self.missing.is_empty() {
            let reason = std::mem::take(&mut self.missing).main_reason();
            self.stats.gap_reasons().push(stamp.first(), reason);
        }
        match &mut self.items {
            WriteEnd::Queue(lender) => {
                // Before the item can be seen, because the consumer may count it as delivered right after.
                self.stats.accepted(stamp.blocks());
                // There is room: only this thread fills the ring.
                lender.lend(log, position, position + 1);
            }
            WriteEnd::Latest(newest) => {
                if let Some(replaced) = newest.put(Arc::clone(item)) {
                    self.stats.conflated(replaced.stamp.blocks());
                }
                self.stats.accepted(stamp.blocks());
            }
        }
    }

    /// Asks the processor to fetch the counts that an offer writes.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.stats.prefetch_produced();
    }

    /// Counts the numbers below `next` that were not offered as lost for `reason`.
    pub(crate) fn lose_to(&mut self, next: u64, reason: Loss) {
        if !self.has_ended {
            self.refuse(reason, next.saturating_sub(self.expected));
            self.expected = self.expected.max(next);
        }
    }

    /// Keeps the items in the ring apart from the log. Must be called when items of the log are not offered.
    pub(crate) fn keep_own(&mut self, log: &Log<T>) {
        if let WriteEnd::Queue(lender) = &mut self.items {
            lender.keep_own(log);
        }
    }

    /// Hands the items in the ring over to the consumer, which may read them after this end and the log are gone. Must be
    /// called before this is dropped: else the log keeps its items for ever.
    pub(crate) fn settle(&mut self, log: &mut Log<T>) {
        if let WriteEnd::Queue(lender) = &mut self.items {
            log.settle(lender);
        }
    }

    /// Returns the lender of items, where the policy has a ring.
    pub(crate) fn lender(&self) -> Option<&Lender<T>> {
        if let WriteEnd::Queue(lender) = &self.items { Some(lender) } else { None }
    }

    /// Ends the consumer after the items that it has queued. `next` is one past the last sequence number.
    pub(crate) fn end(&mut self, reason: EndReason, next: u64) {
        if self.has_ended {
            return;
        }
        self.refuse(Loss::Source, next.saturating_sub(self.expected));
        self.expected = self.expected.max(next);
        self.has_ended = true;
        self.stats.ended(reason, self.expected, self.missing.main_reason());
        self.stats.wake_at_end();
    }

    /// Returns whether the ring accepts a batch and then `items` more items, however many blocks they stand for. For
    /// more items than the ring ever holds, returns whether it is empty and there is no batch.
    pub(crate) fn can_take(&self, batch: usize, items: usize) -> bool {
        let WriteEnd::Queue(lender) = &self.items else { return true };
        let most = self.limit.div_ceil(self.group).min(lender.capacity() as u64);
        self.has_room(items.min(most as usize).saturating_add(batch))
    }

    /// Returns how many items fitted into the ring after a batch when it last looked at its consumer, however many
    /// blocks they stand for.
    pub(crate) fn room_after(&self, batch: usize) -> usize {
        let WriteEnd::Queue(lender) = &self.items else { return usize::MAX };
        let free = lender.cached_free();
        let used = (lender.capacity() - free) as u64 * self.group;
        // Where an item is one block, the slots are the limit.
        let below_limit =
            if self.group == 1 { free } else { self.limit.saturating_sub(used).div_ceil(self.group) as usize };
        free.min(below_limit).saturating_sub(batch)
    }

    /// Returns whether the ring accepts `items` more items, however many blocks they stand for. Mostly the cached index
    /// of the consumer answers that, without fetching the cache line that the consumer keeps writing.
    #[inline]
    fn has_room(&self, items: usize) -> bool {
        let WriteEnd::Queue(lender) = &self.items else { return true };
        let free = lender.cached_free() >= items || lender.free() >= items;
        // Where an item is one block, the slots are the limit.
        free && (self.group == 1 || self.is_below_limit(lender, items))
    }

    /// Returns whether the last of `items` more items would find fewer queued blocks than the limit. The slots in use
    /// answer that for a consumer that keeps up; the exact count is on a cache line that the consumer keeps writing.
    fn is_below_limit(&self, lender: &Lender<T>, items: usize) -> bool {
        let before = (items as u64).saturating_sub(1) * self.group;
        let used = |free: usize| (lender.capacity() - free) as u64 * self.group;
        used(lender.cached_free()) + before < self.limit
            || used(lender.free()) + before < self.limit
            || self.stats.queued_at_most() + before < self.limit
    }

    /// Returns whether the source must wait for this consumer.
    pub(crate) fn blocks(&self) -> bool {
        self.overflow == OverflowPolicy::Block && !self.is_over()
    }

    /// Returns whether the consumer has ended, was closed or was dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.has_ended || self.stats.is_dismissed()
    }

    pub(crate) fn wake_if_armed(&self) {
        self.stats.wake_if_armed();
    }

    fn refuse(&mut self, reason: Loss, count: u64) {
        if count > 0 {
            self.missing.add(reason, count);
            self.stats.refused(reason, count);
        }
    }
}

impl<T: Send + Sync> Drop for ConsumerRing<T> {
    fn drop(&mut self) {
        let reason = if self.stats.is_closing() { EndReason::Closed } else { EndReason::Abandoned };
        self.end(reason, self.expected);
    }
}

/// Returns the blocks from which on a ring refuses items, with room for `past` blocks of history. An item stands for
/// `group` blocks at most.
pub(crate) fn ring_blocks(options: SubscribeOptions, past: usize, group: usize) -> usize {
    // A start inside an item is offered that whole item.
    let past = if past > 0 { past.saturating_add(group - 1) } else { 0 };
    let buffer = match options.overflow {
        // Twice the limit: a consumer that is only a little too late finds the newest item in its ring and skips to that,
        // because the ring has not refused it.
        OverflowPolicy::SkipToLive => options.buffer.saturating_mul(2),
        _ => options.buffer,
    };
    buffer.saturating_add(past)
}

/// Returns the slots of a ring for items of `blocks` blocks in all.
fn slots(blocks: usize, group: usize) -> usize {
    // A slot for each block is always enough.
    blocks.min(blocks.div_ceil(group) + SHORT_ITEMS)
}
