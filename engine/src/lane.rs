//! The producing end of one consumer: its ring, and the count of what the ring did not take.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rtrb::chunks::ReadChunk;
use triple_buffer::TripleBuffer;

use crate::{EndReason, Item, Loss, LossCounts, Overflow, Start, Tally};

/// Reasons for holes that wait to be read with the item after each. More than these wait only for a consumer that is
/// further behind than it has ever been seen to be; it then learns of the holes all the same, but not why.
const REASONS: usize = 16;

/// Where a [`Lane`] puts its items: handles of 8 bytes, so that what crosses from core to core is little.
#[derive(Debug)]
enum Ring<T: Send + Sync> {
    Queue(rtrb::Producer<Arc<Item<T>>>),
    Latest(triple_buffer::Input<Option<Arc<Item<T>>>>),
}

/// The consuming end of a lane.
#[derive(Debug)]
pub(crate) struct Taker<T: Send + Sync> {
    ring: TakerRing<T>,
    holes: rtrb::Consumer<Hole>,
}

#[derive(Debug)]
enum TakerRing<T: Send + Sync> {
    Queue(rtrb::Consumer<Arc<Item<T>>>),
    Latest(triple_buffer::Output<Option<Arc<Item<T>>>>),
}

/// Items that the producing side refused, up to the one with the number `before`.
#[derive(Clone, Copy, Debug)]
struct Hole {
    before: u64,
    reason: Loss,
}

impl<T: Send + Sync> Taker<T> {
    /// Whether there is nothing to take now.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.ring {
            TakerRing::Queue(ring) => ring.is_empty(),
            TakerRing::Latest(output) => !output.updated(),
        }
    }

    /// The next item, or the newest where only that is kept.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Arc<Item<T>>> {
        match &mut self.ring {
            TakerRing::Queue(ring) => ring.pop().ok(),
            TakerRing::Latest(output) => output.update().then(|| output.output_buffer_mut().take()).flatten(),
        }
    }

    /// What is queued behind the item with the number `sequence` and follows it without a hole, up to `most` items: as
    /// far as is known from the last look at the producer's end, because to look again would take that line from the
    /// producer once more for each item, where items come one by one. Nothing where only the newest is kept.
    pub(crate) fn following(&mut self, sequence: u64, most: usize) -> Option<ReadChunk<'_, Arc<Item<T>>>> {
        let TakerRing::Queue(ring) = &mut self.ring else { return None };
        let queued = ring.cached_slots().min(most);
        let chunk = ring.read_chunk(queued).ok()?;
        let (front, back) = chunk.as_slices();
        let last = back.last().or(front.last())?;
        // Numbers only grow: where the last one is as far away as there are items, none is missing between.
        let unbroken = if last.stamp.sequence == sequence + queued as u64 {
            queued
        } else {
            let numbered = (sequence + 1..).zip(front.iter().chain(back));
            numbered.take_while(|(number, item)| item.stamp.sequence == *number).count()
        };
        ring.read_chunk(unbroken).ok().filter(|chunk| !chunk.is_empty())
    }

    /// Why items are missing directly before the one with the number `sequence`, where the producing side refused
    /// them.
    pub(crate) fn reason(&mut self, sequence: u64) -> Option<Loss> {
        let mut reason = None;
        while self.holes.peek().is_ok_and(|hole| hole.before <= sequence) {
            reason = self.holes.pop().ok().filter(|hole| hole.before == sequence).map(|hole| hole.reason);
        }
        reason
    }
}

#[derive(Debug)]
pub(crate) struct Lane<T: Send + Sync> {
    ring: Ring<T>,
    holes: rtrb::Producer<Hole>,
    overflow: Overflow,
    start: Start,
    /// The sequence number that comes next if nothing is lost.
    expected: u64,
    /// What was refused since the last item that the ring took.
    missing: LossCounts,
    over: bool,
    tally: Arc<Tally>,
}

impl<T: Send + Sync> Lane<T> {
    /// A lane for a consumer that may be `buffer` items behind, plus `past` items that it asked for at the start.
    pub(crate) fn new(
        overflow: Overflow,
        buffer: usize,
        past: usize,
        start: Start,
        tally: Arc<Tally>,
    ) -> (Self, Taker<T>) {
        let (ring, taken) = match overflow {
            Overflow::Latest => {
                let (input, output) = TripleBuffer::default().split();
                (Ring::Latest(input), TakerRing::Latest(output))
            }
            // Twice the limit: one that is only just too late is trimmed where it reads, to the newest item, rather
            // than refused where it writes.
            Overflow::SkipToLive => queue(2 * buffer + past),
            Overflow::DropNewest | Overflow::Disconnect | Overflow::Block => queue(buffer + past),
        };
        let (holes, read_holes) = rtrb::RingBuffer::new(REASONS);
        let lane =
            Self { ring, holes, overflow, start, expected: 0, missing: LossCounts::default(), over: false, tally };
        (lane, Taker { ring: taken, holes: read_holes })
    }

    /// Finds the first item, with `live` as the next one to come, and offers what the history has from there on.
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

    /// Puts the items into the ring, or counts why not.
    pub(crate) fn offer_all(&mut self, items: &[Arc<Item<T>>]) {
        if self.take_in(items).is_none() {
            items.iter().for_each(|item| self.offer(item));
        }
    }

    /// Puts several items into the ring at one go where nothing is to be said about them: none is missing before or
    /// between them, and there is room for all.
    fn take_in(&mut self, items: &[Arc<Item<T>>]) -> Option<()> {
        let [_, .., last] = items else { return None };
        let (count, next) = (items.len() as u64, last.stamp.sequence + 1);
        let Ring::Queue(ring) = &mut self.ring else { return None };
        if self.missing.total() > 0 || next != self.expected + count {
            return None;
        }
        let chunk = ring.write_chunk_uninit(items.len()).ok()?;
        self.expected = next;
        // Before they can be seen: see `offer`.
        self.tally.accepted(count);
        chunk.fill_from_iter(items.iter().cloned());
        Some(())
    }

    /// Puts the item into the ring, or counts why not.
    fn offer(&mut self, item: &Arc<Item<T>>) {
        if self.over {
            return;
        }
        let sequence = item.stamp.sequence;
        self.refuse(Loss::Source, sequence - self.expected);
        self.expected = sequence + 1;
        if let Ring::Queue(ring) = &self.ring
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
            // A consumer with so many holes before it learns of this one all the same: see `REASONS`.
            let _ = self.holes.push(Hole { before: sequence, reason });
        }
        // Before the item can be seen, because the consumer may count it as delivered right after.
        self.tally.accepted(1);
        match &mut self.ring {
            Ring::Queue(ring) => {
                // There is room: only this thread fills the ring.
                let _ = ring.push(Arc::clone(item));
            }
            Ring::Latest(input) => {
                *input.input_buffer_mut() = Some(Arc::clone(item));
                if input.publish() {
                    self.tally.conflated();
                    // The replaced item came back; what it holds is let go now, not with the next one.
                    input.input_buffer_mut().take();
                }
            }
        }
    }

    /// Ends the consumer after what it has queued; `next` is one past the last sequence number.
    pub(crate) fn end(&mut self, reason: EndReason, next: u64) {
        if self.over {
            return;
        }
        self.refuse(Loss::Source, next.saturating_sub(self.expected));
        self.expected = self.expected.max(next);
        self.over = true;
        self.tally.ended(reason, self.expected, self.missing.main_reason());
        self.tally.wake();
    }

    /// Whether there are so many free places, for a consumer that the source waits for. What was last known of the
    /// consumer mostly answers that, without fetching a cache line that it keeps writing.
    pub(crate) fn has_room(&self, items: usize) -> bool {
        match &self.ring {
            Ring::Queue(ring) => ring.cached_slots() >= items || ring.slots() >= items,
            Ring::Latest(_) => true,
        }
    }

    /// Whether the source waits for this consumer.
    pub(crate) fn blocks(&self) -> bool {
        self.overflow == Overflow::Block && !self.is_over()
    }

    /// Whether it has ended, its consumer is gone, or somebody closed it.
    pub(crate) fn is_over(&self) -> bool {
        self.over || self.tally.is_dismissed()
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

impl<T: Send + Sync> Drop for Lane<T> {
    fn drop(&mut self) {
        let reason = if self.tally.is_closing() { EndReason::Closed } else { EndReason::Abandoned };
        self.end(reason, self.expected);
    }
}

fn queue<T: Send + Sync>(slots: usize) -> (Ring<T>, TakerRing<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(slots);
    (Ring::Queue(producer), TakerRing::Queue(consumer))
}
