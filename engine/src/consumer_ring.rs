//! The producing end of one consumer's ring, and the count of the items that the ring refused.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::newest::{NewestWriter, newest};
use crate::ring_reader::{ReadEnd, RingReader};
use crate::sync::{Ordering, fence};
use crate::{EndReason, Item, Loss, LossCounts, OverflowPolicy, Start, Stats, SubscribeOptions};

/// Slots of a ring, beyond those for full items, where items may stand for several blocks. An encoder emits an item with
/// fewer blocks before each gap, so a ring holds a few of them. If more come, the ring is full before its limit in
/// blocks is reached.
const SHORT_ITEMS: usize = 8;

/// The writing end of the storage that the overflow policy needs. It holds handles of 8 bytes, so that little data
/// crosses from core to core.
#[derive(Debug)]
enum WriteEnd<T: Send + Sync> {
    Queue(rtrb::Producer<Arc<Item<T>>>),
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
    missing: LossCounts,
    has_ended: bool,
    stats: Arc<Stats>,
}

impl<T: Send + Sync> ConsumerRing<T> {
    /// Creates the ring of a consumer with these options and with room for `past` blocks of history. An item stands for
    /// `group` blocks at most.
    pub(crate) fn new(
        options: SubscribeOptions,
        past: usize,
        group: usize,
        stats: Arc<Stats>,
    ) -> (Self, RingReader<T>) {
        let SubscribeOptions { overflow, buffer, start, .. } = options;
        let limit = ring_blocks(options, past, group);
        let slots = match overflow {
            // A slot for each block of the history, in case that its items stand for one each: a refused item would be
            // an end at the start, or a loss of a consumer that the source waits for.
            OverflowPolicy::Disconnect | OverflowPolicy::Block => slots(buffer, group) + limit - buffer,
            _ => slots(limit, group),
        };
        let (items, read_items) = if overflow.keeps_newest()
            && let Some((writer, reader)) = newest()
        {
            (WriteEnd::Latest(writer), ReadEnd::Latest(reader))
        } else {
            let (producer, consumer) = rtrb::RingBuffer::new(slots);
            (WriteEnd::Queue(producer), ReadEnd::Queue(consumer))
        };
        let ring = Self {
            items,
            overflow,
            start,
            group: group as u64,
            limit: limit as u64,
            expected: 0,
            missing: LossCounts::default(),
            has_ended: false,
            stats,
        };
        (ring, RingReader::new(read_items))
    }

    /// Finds the consumer's first item and offers it the history from there on. `live` is the next sequence number to
    /// come. A start inside an item is moved to the first block of that item. The distance to `head` is requested lag.
    pub(crate) fn start(&mut self, live: u64, head: u64, history: &VecDeque<Arc<Item<T>>>) {
        let oldest = history.front().map_or(live, |item| item.stamp.first());
        let requested = match self.start {
            Start::Live => live,
            Start::Back(blocks) => live.saturating_sub(blocks).max(oldest),
            Start::From(sequence) => sequence.min(live),
        };
        let from = history.partition_point(|item| item.stamp.next() <= requested);
        let first = history.get(from).map_or(requested, |item| item.stamp.first().min(requested));
        self.expected = first.max(oldest);
        self.stats.attached(first, head.max(live) - self.expected);
        self.refuse(Loss::History, self.expected - first);
        history.range(from..).for_each(|item| self.offer(item));
        fence(Ordering::SeqCst);
        self.wake_if_armed();
    }

    /// Puts the items into the ring, or counts each refused one with its reason.
    pub(crate) fn offer_all(&mut self, items: &[Arc<Item<T>>]) {
        if !self.offer_batch(items) {
            items.iter().for_each(|item| self.offer(item));
        }
    }

    /// Puts several items into the ring in one step, if no item is missing before or between them and there is room
    /// for all. Returns whether it did.
    fn offer_batch(&mut self, items: &[Arc<Item<T>>]) -> bool {
        let [_, .., last] = items else { return false };
        let (count, next) = (items.len() as u64, last.stamp.next());
        if self.missing.total() > 0 {
            return false;
        }
        let blocks = next.saturating_sub(self.expected);
        // Sequence numbers only rise: as many blocks as items means one block each, and none missing.
        if blocks != count
            && (blocks != items.iter().map(|item| item.stamp.blocks()).sum::<u64>() || !self.has_room(items.len()))
        {
            return false;
        }
        let WriteEnd::Queue(ring) = &mut self.items else { return false };
        let Ok(chunk) = ring.write_chunk_uninit(items.len()) else { return false };
        self.expected = next;
        // Before they can be seen: see `offer`.
        self.stats.accepted(blocks);
        chunk.fill_from_iter(items.iter().cloned());
        true
    }

    /// Puts the item into the ring, or counts it as refused.
    fn offer(&mut self, item: &Arc<Item<T>>) {
        if self.has_ended {
            return;
        }
        let stamp = item.stamp;
        self.refuse(Loss::Source, stamp.first() - self.expected);
        self.expected = stamp.next();
        if !self.has_room(1) {
            self.missing.add(Loss::Overflow, stamp.blocks());
            self.stats.overflowed(stamp.next(), stamp.blocks());
            if self.overflow == OverflowPolicy::Disconnect {
                self.end(EndReason::TooSlow, self.expected);
            }
            return;
        }
        if self.missing.total() > 0 {
            let reason = std::mem::take(&mut self.missing).main_reason();
            self.stats.gap_reasons().push(stamp.first(), reason);
        }
        match &mut self.items {
            WriteEnd::Queue(ring) => {
                // Before the item can be seen, because the consumer may count it as delivered right after.
                self.stats.accepted(stamp.blocks());
                // There is room: only this thread fills the ring.
                let _ = ring.push(Arc::clone(item));
            }
            WriteEnd::Latest(newest) => {
                if let Some(replaced) = newest.put(Arc::clone(item)) {
                    self.stats.conflated(replaced.stamp.blocks());
                }
                self.stats.accepted(stamp.blocks());
            }
        }
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
        self.stats.wake();
    }

    /// Returns whether the ring accepts a batch and then `items` more items, whatever they stand for; of more items than it
    /// ever holds, whether it is empty and there is no batch.
    pub(crate) fn can_take(&self, batch: usize, items: usize) -> bool {
        let WriteEnd::Queue(ring) = &self.items else { return true };
        let most = self.limit.div_ceil(self.group).min(ring.buffer().capacity() as u64);
        self.has_room(items.min(most as usize).saturating_add(batch))
    }

    /// Returns whether the ring accepts `items` more items, whatever they stand for. Mostly the cached index of the
    /// consumer answers that, without fetching the cache line that the consumer keeps writing.
    fn has_room(&self, items: usize) -> bool {
        let WriteEnd::Queue(ring) = &self.items else { return true };
        let free = ring.cached_slots() >= items || ring.slots() >= items;
        // Where an item is one block, the slots are the limit.
        free && (self.group == 1 || self.is_below_limit(ring, items))
    }

    /// Returns whether the last of `items` more items would find fewer queued blocks than the limit. The slots in use
    /// answer that for a consumer that keeps up; the exact count is on a cache line that the consumer keeps writing.
    fn is_below_limit(&self, ring: &rtrb::Producer<Arc<Item<T>>>, items: usize) -> bool {
        let before = (items as u64).saturating_sub(1) * self.group;
        let used = |free: usize| (ring.buffer().capacity() - free) as u64 * self.group;
        used(ring.cached_slots()) + before < self.limit
            || used(ring.slots()) + before < self.limit
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
