//! The producing end of one consumer's ring, and the count of the items that the ring refused.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use triple_buffer::TripleBuffer;

use crate::ring_reader::{GapReason, ReadEnd, RingReader};
use crate::{EndReason, Item, Loss, LossCounts, Overflow, Start, Tally};

/// Gap reasons that wait to be read, each with the item after its gap. The queue fills up only if a consumer has more
/// gaps queued than this; it then still learns of every gap, but the reason of the surplus ones falls back to
/// [`Loss::Overflow`].
const MAX_GAP_REASONS: usize = 16;

/// The writing end of the storage that the overflow policy needs. It holds handles of 8 bytes, so that little data
/// crosses from core to core.
#[derive(Debug)]
enum WriteEnd<T: Send + Sync> {
    Queue(rtrb::Producer<Arc<Item<T>>>),
    Latest(triple_buffer::Input<Option<Arc<Item<T>>>>),
}

/// Puts items into one consumer's ring and counts the refused ones by reason.
#[derive(Debug)]
pub(crate) struct ConsumerRing<T: Send + Sync> {
    items: WriteEnd<T>,
    reasons: rtrb::Producer<GapReason>,
    overflow: Overflow,
    start: Start,
    /// The sequence number that comes next if nothing is lost.
    expected: u64,
    /// Losses since the last item that the ring accepted.
    missing: LossCounts,
    has_ended: bool,
    tally: Arc<Tally>,
}

impl<T: Send + Sync> ConsumerRing<T> {
    /// Creates the ring of a consumer that may be `buffer` items behind, with room for `past` items of history.
    pub(crate) fn new(
        overflow: Overflow,
        buffer: usize,
        past: usize,
        start: Start,
        tally: Arc<Tally>,
    ) -> (Self, RingReader<T>) {
        let (items, read_items) = match overflow {
            Overflow::Latest => {
                let (input, output) = TripleBuffer::default().split();
                (WriteEnd::Latest(input), ReadEnd::Latest(output))
            }
            // Twice the limit: a consumer that is only a little too late finds the newest item in its ring and skips
            // to that, because the ring has not refused it.
            Overflow::SkipToLive => queue(2 * buffer + past),
            Overflow::DropNewest | Overflow::Disconnect | Overflow::Block => queue(buffer + past),
        };
        let (reasons, read_reasons) = rtrb::RingBuffer::new(MAX_GAP_REASONS);
        let ring = Self {
            items,
            reasons,
            overflow,
            start,
            expected: 0,
            missing: LossCounts::default(),
            has_ended: false,
            tally,
        };
        (ring, RingReader::new(read_items, read_reasons))
    }

    /// Finds the consumer's first item and offers it the history from there on. `live` is the next sequence number to
    /// come.
    pub(crate) fn start(&mut self, live: u64, history: &VecDeque<Arc<Item<T>>>) {
        let oldest = history.front().map_or(live, |item| item.stamp.sequence);
        let first = match self.start {
            Start::Live => live,
            Start::Back(items) => live.saturating_sub(items).max(oldest),
            Start::From(sequence) => sequence.min(live),
        };
        self.expected = first.max(oldest);
        self.tally.attached(first, live - self.expected);
        self.refuse(Loss::History, self.expected - first);
        history.iter().filter(|item| item.stamp.sequence >= first).for_each(|item| self.offer(item));
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
        let (count, next) = (items.len() as u64, last.stamp.sequence + 1);
        let WriteEnd::Queue(ring) = &mut self.items else { return false };
        if self.missing.total() > 0 || next != self.expected + count {
            return false;
        }
        let Ok(chunk) = ring.write_chunk_uninit(items.len()) else { return false };
        self.expected = next;
        // Before they can be seen: see `offer`.
        self.tally.accepted(count);
        chunk.fill_from_iter(items.iter().cloned());
        true
    }

    /// Puts the item into the ring, or counts it as refused.
    fn offer(&mut self, item: &Arc<Item<T>>) {
        if self.has_ended {
            return;
        }
        let sequence = item.stamp.sequence;
        self.refuse(Loss::Source, sequence - self.expected);
        self.expected = sequence + 1;
        if let WriteEnd::Queue(ring) = &self.items
            && ring.is_full()
        {
            self.missing.add(Loss::Overflow, 1);
            self.tally.overflowed(sequence);
            if self.overflow == Overflow::Disconnect {
                self.end(EndReason::TooSlow, self.expected);
            }
            return;
        }
        if self.missing.total() > 0 {
            let reason = std::mem::take(&mut self.missing).main_reason();
            // If the queue is full, the consumer sees the gap without its reason: see `MAX_GAP_REASONS`.
            let _ = self.reasons.push(GapReason { before: sequence, reason });
        }
        // Before the item can be seen, because the consumer may count it as delivered right after.
        self.tally.accepted(1);
        match &mut self.items {
            WriteEnd::Queue(ring) => {
                // There is room: only this thread fills the ring.
                let _ = ring.push(Arc::clone(item));
            }
            WriteEnd::Latest(input) => {
                *input.input_buffer_mut() = Some(Arc::clone(item));
                if input.publish() {
                    self.tally.conflated();
                    // The replaced item came back. Dropped here, it frees its block now and not with the next item.
                    input.input_buffer_mut().take();
                }
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
        self.tally.ended(reason, self.expected, self.missing.main_reason());
        self.tally.wake();
    }

    /// Returns whether the ring has `items` free slots. Mostly the cached index of the consumer answers that, without
    /// fetching the cache line that the consumer keeps writing.
    pub(crate) fn has_room(&self, items: usize) -> bool {
        match &self.items {
            WriteEnd::Queue(ring) => ring.cached_slots() >= items || ring.slots() >= items,
            WriteEnd::Latest(_) => true,
        }
    }

    /// Returns whether the source must wait for this consumer.
    pub(crate) fn blocks(&self) -> bool {
        self.overflow == Overflow::Block && !self.is_over()
    }

    /// Returns whether the consumer has ended, was closed or was dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.has_ended || self.tally.is_dismissed()
    }

    pub(crate) fn wake_if_armed(&self) {
        self.tally.wake_if_armed();
    }

    fn refuse(&mut self, reason: Loss, count: u64) {
        if count > 0 {
            self.missing.add(reason, count);
            self.tally.refused(reason, count);
        }
    }
}

impl<T: Send + Sync> Drop for ConsumerRing<T> {
    fn drop(&mut self) {
        let reason = if self.tally.is_closing() { EndReason::Closed } else { EndReason::Abandoned };
        self.end(reason, self.expected);
    }
}

fn queue<T: Send + Sync>(slots: usize) -> (WriteEnd<T>, ReadEnd<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(slots);
    (WriteEnd::Queue(producer), ReadEnd::Queue(consumer))
}
