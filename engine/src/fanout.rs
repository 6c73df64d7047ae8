//! One producer, many consumers, each with a ring of its own, so that none can slow another.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, mpsc};

use crate::consumer_ring::ConsumerRing;
use crate::{Consumer, EndReason, Head, Item, Overflow, Stamp, Tally, Timestamp};

/// How a [`FanOut`] is set up.
#[derive(Clone, Debug)]
pub struct FanOutOptions {
    /// Items kept for consumers that start in the past.
    pub history: usize,
    /// Whether the items come at their own pace. A live fan-out refuses [`Overflow::Block`].
    pub live: bool,
    /// The head that consumers' lag is measured against; its own if `None`. An encoder passes the dispatcher's
    /// head, so that its own delay counts as lag too.
    pub head: Option<Head>,
}

impl Default for FanOutOptions {
    /// Live, with no history and its own head.
    fn default() -> Self {
        Self { history: 0, live: true, head: None }
    }
}

/// Where a consumer starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next item.
    #[default]
    Live,
    /// This many items back, or as far back as the history goes. The lag is deliberate and costs nothing.
    Back(u64),
    /// At this sequence number. What the history no longer has is lost and counted; a number that is yet to come
    /// means the next item.
    From(u64),
}

/// How a consumer subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// What happens when it does not keep up.
    pub overflow: Overflow,
    /// Items it may be behind before that happens; at least 1.
    pub buffer: usize,
    /// Where it starts.
    pub start: Start,
}

impl Default for SubscribeOptions {
    /// Live, skip-to-live, 100 items: a second of 10 ms blocks.
    fn default() -> Self {
        Self { overflow: Overflow::default(), buffer: 100, start: Start::Live }
    }
}

/// Why somebody could not subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The fan-out has ended.
    #[error("the stream has ended")]
    Ended,
    /// [`Overflow::Block`] on a live fan-out.
    #[error("overflow policy `block` is refused: the source is live and can't wait; use it from file to file")]
    BlockOnLive,
}

/// Hands every item to every consumer: the producing end, owned by one thread.
///
/// Items are [`push`](Self::push)ed and become visible with [`flush`](Self::flush), which also wakes those who wait;
/// so a producer that has several at hand wakes each consumer once. Nothing here waits for a consumer.
///
/// ```
/// use aircheck_engine::{FanOut, FanOutOptions, SubscribeOptions, Timestamp};
///
/// let (mut ticks, hub) = FanOut::new(FanOutOptions::default());
/// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
/// let now = Timestamp::now();
/// ticks.send("tick", now);
/// ticks.finish(EndReason::Finished);
///
/// assert_eq!(consumer.try_recv(now)?.item.value, "tick");
/// assert!(consumer.try_recv(now).is_err());
/// # use aircheck_engine::EndReason;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FanOut<T: Send + Sync> {
    rings: Vec<ConsumerRing<T>>,
    joining: mpsc::Receiver<ConsumerRing<T>>,
    batch: Vec<Arc<Item<T>>>,
    history: VecDeque<Arc<Item<T>>>,
    history_items: usize,
    fallen: Vec<Arc<Item<T>>>,
    /// One past the last sequence number pushed.
    next: u64,
    head: Head,
    owns_head: bool,
    ended: Arc<AtomicBool>,
}

impl<T: Send + Sync> Drop for FanOut<T> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// The way to subscribe to a [`FanOut`], from any thread and at any time. Cheap to clone.
#[derive(Debug)]
pub struct Hub<T: Send + Sync> {
    joining: mpsc::Sender<ConsumerRing<T>>,
    head: Head,
    history_items: usize,
    live: bool,
    ended: Arc<AtomicBool>,
}

impl<T: Send + Sync> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Self {
            joining: self.joining.clone(),
            head: self.head.clone(),
            history_items: self.history_items,
            live: self.live,
            ended: Arc::clone(&self.ended),
        }
    }
}

impl<T: Send + Sync> FanOut<T> {
    /// A fan-out without consumers, and the hub through which they come.
    #[must_use]
    pub fn new(options: FanOutOptions) -> (Self, Hub<T>) {
        let (sender, joining) = mpsc::channel();
        let owns_head = options.head.is_none();
        let head = options.head.unwrap_or_default();
        let fan_out = Self {
            rings: Vec::new(),
            joining,
            batch: Vec::new(),
            history: VecDeque::with_capacity(options.history + 1),
            history_items: options.history,
            fallen: Vec::new(),
            next: 0,
            head: head.clone(),
            owns_head,
            ended: Arc::default(),
        };
        let ended = Arc::clone(&fan_out.ended);
        let hub = Hub { joining: sender, head, history_items: options.history, live: options.live, ended };
        (fan_out, hub)
    }

    /// Puts a value after those that were pushed before; it is not visible until [`flush`](Self::flush). Sequence
    /// numbers that are left out are counted as lost at the source.
    ///
    /// # Panics
    ///
    /// If `stamp.sequence` is not above the last one.
    pub fn push(&mut self, stamp: Stamp, value: T) {
        self.push_item(Arc::new(Item { stamp, value }));
    }

    /// Likewise, for a value that is shared already: one that [`flush`](Self::flush) gave back, and that was filled
    /// again.
    ///
    /// # Panics
    ///
    /// If its sequence number is not above the last one.
    pub fn push_item(&mut self, item: Arc<Item<T>>) {
        self.admit();
        self.advance_past(item.stamp.sequence);
        self.batch.push(item);
    }

    /// Puts a value into the history alone, for consumers that start in the past: nobody is offered it live.
    ///
    /// # Panics
    ///
    /// If `stamp.sequence` is not above the last one.
    pub fn remember(&mut self, stamp: Stamp, value: T) {
        self.advance_past(stamp.sequence);
        self.history.push_back(Arc::new(Item { stamp, value }));
        if self.history.len() > self.history_items {
            self.history.pop_front();
        }
    }

    fn advance_past(&mut self, sequence: u64) {
        assert!(sequence >= self.next, "sequence {sequence} comes after {}", self.next);
        self.next = sequence + 1;
    }

    /// Says that the sequence stands at `next`: what lies between the last item and it is lost at the source.
    /// Consumers learn of it with the next item, or with the end.
    pub fn advance_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Hands the pushed items to every consumer, wakes those who wait, lets in who subscribed and lets go who left.
    /// Returns what fell off the history meanwhile, to be used again or dropped.
    pub fn flush(&mut self) -> std::vec::Drain<'_, Arc<Item<T>>> {
        if self.owns_head {
            self.head.advance(self.next);
        }
        for ring in &mut self.rings {
            ring.offer_all(&self.batch);
        }
        // Pairs with the fence in `Tally::arm`: either the consumer sees the items, or this sees it armed.
        fence(Ordering::SeqCst);
        self.rings.retain(|ring| {
            ring.wake_if_armed();
            !ring.is_over()
        });
        self.history.extend(self.batch.drain(..));
        let surplus = self.history.len().saturating_sub(self.history_items);
        self.fallen.extend(self.history.drain(..surplus));
        self.admit();
        self.fallen.drain(..)
    }

    /// Pushes one value with the next sequence number, stamped `now`, and flushes.
    pub fn send(&mut self, value: T, now: Timestamp) {
        self.push(Stamp { sequence: self.next, captured_at: now, dispatched_at: now }, value);
        self.flush();
    }

    /// How many consumers there are. Lets in who subscribed and lets go who left, also while nothing is pushed.
    pub fn consumers(&mut self) -> usize {
        self.admit();
        self.rings.retain(|ring| !ring.is_over());
        self.rings.len()
    }

    /// One past the last sequence number pushed.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Whether every consumer with [`Overflow::Block`] has room for `items` more. Whoever feeds a fan-out that is
    /// not live asks this first, and waits.
    pub fn has_room(&mut self, items: usize) -> bool {
        self.admit();
        let waiting = self.batch.len();
        self.rings.iter().filter(|ring| ring.blocks()).all(|ring| ring.has_room(items + waiting))
    }

    /// Flushes, and ends every consumer after what it still has queued.
    pub fn finish(mut self, reason: EndReason) {
        self.flush();
        for ring in &mut self.rings {
            ring.end(reason, self.next);
        }
    }

    /// Lets in who subscribed, but only between batches: a new ring has room for the history and for what its
    /// consumer may be behind, not for a batch that was begun, and checked for room, before it was there.
    fn admit(&mut self) {
        while self.batch.is_empty()
            && let Ok(mut ring) = self.joining.try_recv()
        {
            ring.start(self.next, &self.history);
            self.rings.push(ring);
        }
    }
}

impl<T: Send + Sync> Hub<T> {
    /// Adds a consumer. It starts when the producer next flushes or looks, and disturbs nobody; its memory is
    /// allocated here and now, on the caller's thread.
    ///
    /// # Errors
    ///
    /// When the fan-out has ended, or refuses to wait for a consumer.
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Consumer<T>, SubscribeError> {
        if options.overflow == Overflow::Block && self.live {
            return Err(SubscribeError::BlockOnLive);
        }
        let buffer = options.buffer.max(1);
        let past = match options.start {
            Start::Live => 0,
            Start::Back(items) => usize::try_from(items).unwrap_or(usize::MAX).min(self.history_items),
            Start::From(_) => self.history_items,
        };
        let tally = Arc::new(Tally::new(self.head.clone()));
        let (ring, reader) = ConsumerRing::new(options.overflow, buffer, past, options.start, Arc::clone(&tally));
        self.joining.send(ring).map_err(|_| SubscribeError::Ended)?;
        Ok(Consumer::new(reader, options.overflow, buffer as u64, self.head.clone(), tally))
    }

    /// Whether the fan-out has ended: nobody can subscribe any more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The head that lag is measured against.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }
}
