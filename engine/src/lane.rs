//! The producing end of one consumer: its ring, and the count of what the ring did not take.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use triple_buffer::TripleBuffer;

use crate::{EndReason, Loss, LossCounts, Overflow, Stamp, Start, Tally};

/// One item on its way to one consumer.
#[derive(Clone, Debug)]
pub(crate) struct Slot<T> {
    pub(crate) stamp: Stamp,
    /// Why items are missing directly before this one, where the producing side refused some.
    pub(crate) missing: Option<Loss>,
    pub(crate) item: T,
}

/// Where a [`Lane`] puts its slots, and the other end of it, where the consumer takes them.
#[derive(Debug)]
enum Ring<T: Send> {
    Queue(rtrb::Producer<Slot<T>>),
    Latest(triple_buffer::Input<Option<Slot<T>>>),
}

/// The consuming end of a lane's ring.
#[derive(Debug)]
pub(crate) enum Taker<T: Send> {
    Queue(rtrb::Consumer<Slot<T>>),
    Latest(triple_buffer::Output<Option<Slot<T>>>),
}

impl<T: Send> Taker<T> {
    /// The next slot, or the newest where only that is kept.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Slot<T>> {
        match self {
            Self::Queue(ring) => ring.pop().ok(),
            Self::Latest(output) => output.update().then(|| output.output_buffer_mut().take()).flatten(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Lane<T: Send> {
    ring: Ring<T>,
    overflow: Overflow,
    start: Start,
    /// The sequence number that comes next if nothing is lost.
    expected: u64,
    /// What was refused since the last item that the ring took.
    missing: LossCounts,
    over: bool,
    tally: Arc<Tally>,
}

impl<T: Send> Lane<T> {
    /// A lane for a consumer that may be `buffer` items behind, plus `past` items that it asked for at the start.
    pub(crate) fn new(
        overflow: Overflow,
        buffer: usize,
        past: usize,
        start: Start,
        tally: Arc<Tally>,
    ) -> (Self, Taker<T>) {
        let (ring, taker) = match overflow {
            Overflow::Latest => {
                let (input, output) = TripleBuffer::default().split();
                (Ring::Latest(input), Taker::Latest(output))
            }
            // Twice the limit: one that is only just too late is trimmed where it reads, to the newest item, rather
            // than refused where it writes.
            Overflow::SkipToLive => queue(2 * buffer + past),
            Overflow::DropNewest | Overflow::Disconnect | Overflow::Block => queue(buffer + past),
        };
        let lane = Self { ring, overflow, start, expected: 0, missing: LossCounts::default(), over: false, tally };
        (lane, taker)
    }

    /// Finds the first item, with `live` as the next one to come, and offers what the history has from there on.
    pub(crate) fn start(&mut self, live: u64, history: &VecDeque<(Stamp, T)>)
    where
        T: Clone,
    {
        let oldest = history.front().map_or(live, |(stamp, _)| stamp.sequence);
        let first = match self.start {
            Start::Live => live,
            Start::Back(items) => live.saturating_sub(items).max(oldest),
            Start::From(sequence) => sequence.min(live),
        };
        self.expected = first.max(oldest);
        self.tally.attached(first, live - self.expected);
        self.refuse(Loss::History, self.expected - first);
        for (stamp, item) in history.iter().filter(|(stamp, _)| stamp.sequence >= first) {
            self.offer(*stamp, item);
        }
        fence(Ordering::SeqCst);
        self.wake_if_armed();
    }

    /// Puts the item into the ring, or counts why not.
    pub(crate) fn offer(&mut self, stamp: Stamp, item: &T)
    where
        T: Clone,
    {
        if self.over {
            return;
        }
        self.refuse(Loss::Source, stamp.sequence - self.expected);
        self.expected = stamp.sequence + 1;
        let missing = (self.missing.total() > 0).then(|| self.missing.main_reason());
        let slot = |item: &T| Slot { stamp, missing, item: item.clone() };
        match &mut self.ring {
            Ring::Queue(ring) if ring.is_full() => {
                self.missing.add(Loss::Overflow, 1);
                self.tally.overflowed(stamp.sequence);
                if self.overflow == Overflow::Disconnect {
                    self.end(EndReason::TooSlow, self.expected);
                }
                return;
            }
            Ring::Queue(ring) => {
                // Before the push, because the consumer may count it as delivered right after.
                self.tally.accepted();
                // There is room: only this thread fills the ring.
                let _ = ring.push(slot(item));
            }
            Ring::Latest(input) => {
                self.tally.accepted();
                *input.input_buffer_mut() = Some(slot(item));
                if input.publish() {
                    self.tally.conflated();
                    // The replaced item came back; what it holds is let go now, not with the next one.
                    input.input_buffer_mut().take();
                }
            }
        }
        if missing.is_some() {
            self.missing = LossCounts::default();
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
        self.over || self.tally.is_gone() || self.tally.is_closing()
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

impl<T: Send> Drop for Lane<T> {
    fn drop(&mut self) {
        let reason = if self.tally.is_closing() { EndReason::Closed } else { EndReason::Abandoned };
        self.end(reason, self.expected);
    }
}

fn queue<T: Send>(slots: usize) -> (Ring<T>, Taker<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(slots);
    (Ring::Queue(producer), Taker::Queue(consumer))
}
