#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Waker};

use crossbeam_utils::atomic::AtomicCell;
use futures_executor::block_on;

use super::*;
use crate::{
    Consumer, EndReason, Hub, Loss, OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp,
    TryRecvError,
};

/// Slots of a ring that grows.
const SLOTS: usize = 40;
/// Items with which each of its two rings has some.
const IN_BOTH: u64 = FIRST_SLOTS as u64 + 4;

/// Both ends of a ring.
struct Ends<T> {
    producer: ProducingEnd<T>,
    consumer: ReadingEnd<T>,
    growth: Growth<T>,
}

impl<T> Ends<T> {
    fn new(slots: usize) -> Self {
        let (producer, consumer, growth) = ring(slots);
        Self { producer, consumer, growth }
    }

    fn push(&mut self, items: impl IntoIterator<Item = T>) {
        let items: Vec<T> = items.into_iter().collect();
        assert!(self.producer.push_all(items.into_iter(), &self.growth), "no room");
    }

    fn len(&self) -> usize {
        self.consumer.len(Some(&self.growth))
    }
}

impl<T: Copy> Ends<T> {
    fn all(&mut self) -> Vec<T> {
        let mut all = Vec::new();
        self.consumer.for_each(Some(&self.growth), |item| all.push(*item));
        all
    }

    fn pop(&mut self) -> Option<T> {
        let item = *self.consumer.front(Some(&self.growth))?;
        self.consumer.pop();
        Some(item)
    }

    /// Takes items from one ring, as many as there are of at most `items`.
    fn take(&mut self, items: usize) -> Vec<T> {
        if self.consumer.is_empty(Some(&self.growth)) {
            return Vec::new();
        }
        let items = items.min(self.consumer.cached_len());
        let chunk = self.consumer.chunk(items).unwrap();
        let taken = chunk.slices().iter().copied().collect();
        chunk.take_out();
        taken
    }
}

/// Does the same, chosen at random, to a ring and to a queue of as many items.
#[test]
fn a_ring_that_grows_is_as_one_long_ring() {
    let mut random = 1_u64;
    let mut below = |end: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % end
    };
    let mut grown = 0;
    for round in 0..3000 {
        let slots = [1, 2, FIRST_SLOTS, 2 * FIRST_SLOTS, 2 * FIRST_SLOTS + 1, SLOTS, 200][round % 7];
        let (mut ends, mut queue, mut next) = (Ends::new(slots), VecDeque::new(), 0);
        for _ in 0..below(100) {
            match below(8) {
                0..=3 => {
                    let most = [2, 4, 30, slots + 1][below(4)];
                    let items = below(most).min(slots - queue.len());
                    ends.push(next..next + items);
                    queue.extend(next..next + items);
                    next += items;
                }
                4..=5 => assert_eq!(ends.pop(), queue.pop_front()),
                6 => {
                    let taken = ends.take(below(30) + 1);
                    assert!(queue.is_empty() || !taken.is_empty());
                    assert_eq!(taken, queue.drain(..taken.len()).collect::<Vec<_>>());
                }
                _ => assert_eq!(ends.all(), Vec::from(queue.clone())),
            }
            // Now and then nobody asks, so that the next step is the first to hear of the second ring.
            if below(3) == 0 {
                assert!(ends.producer.cached_queued() >= queue.len());
                assert_eq!((ends.len(), ends.producer.queued()), (queue.len(), queue.len()));
            }
        }
        grown += usize::from(ends.growth.has_grown());
        assert_eq!(ends.producer.capacity(), slots);
        assert_eq!(std::iter::from_fn(|| ends.pop()).collect::<Vec<_>>(), Vec::from(queue));
    }
    assert!((500..2500).contains(&grown), "{grown} rings have grown");
}

#[test]
fn a_ring_has_its_full_length_only_when_that_is_in_use() {
    let mut ends = Ends::new(SLOTS);
    for round in 0..100 {
        while ends.len() < FIRST_SLOTS {
            ends.push([0]);
        }
        let taken = 1 + round % FIRST_SLOTS;
        assert_eq!(ends.take(taken).len(), taken);
        assert!(!ends.growth.has_grown(), "it had room");
        assert_eq!(ends.producer.ring.capacity(), FIRST_SLOTS + 1, "memory before it is needed");
    }
    ends.push([0; FIRST_SLOTS]);
    assert!(ends.growth.has_grown() && ends.producer.first.is_some());
    while ends.pop().is_some() {}
    assert_eq!((ends.consumer.ring.ring.buffer().capacity(), ends.consumer.may_grow), (SLOTS, false));
    ends.push([1]);
    assert!(ends.producer.first.is_none(), "the first ring is kept");
    assert_eq!(ends.pop(), Some(1));
}

#[test]
fn a_ring_that_is_hardly_longer_never_grows() {
    for slots in [1, FIRST_SLOTS, 2 * FIRST_SLOTS] {
        let mut ends = Ends::new(slots);
        ends.push(0..slots);
        assert!(ends.producer.ring.capacity() == slots && !ends.growth.has_grown() && !ends.consumer.may_grow);
    }
    assert_eq!(Ends::<u64>::new(2 * FIRST_SLOTS + 1).producer.ring.capacity(), FIRST_SLOTS + 1);
}

#[test]
fn a_batch_that_the_first_ring_has_no_room_for_goes_to_the_second() {
    for queued in 0..FIRST_SLOTS {
        let mut ends = Ends::new(SLOTS);
        ends.push(0..queued);
        ends.push(queued..SLOTS);
        assert!(ends.growth.has_grown() && ends.producer.queued() == SLOTS);
        assert_eq!(ends.all(), Vec::from_iter(0..SLOTS));
        assert_eq!(ends.take(SLOTS).len(), if queued == 0 { SLOTS } else { queued });
    }
}

/// Whichever end goes first, whether the reading end has heard of the second ring, and however far it has read.
#[test]
fn each_item_is_freed_once() {
    for case in 0..16 {
        let read = [0, 1, FIRST_SLOTS, FIRST_SLOTS + 2][case / 4];
        let (has_heard, producer_is_first) = (case & 1 > 0, case & 2 > 0);
        let item = Arc::new(());
        let mut ends = Ends::new(SLOTS);
        ends.push(std::iter::repeat_n(&item, FIRST_SLOTS).cloned());
        ends.push(std::iter::repeat_n(&item, 4).cloned());
        if has_heard {
            assert_eq!(ends.len(), FIRST_SLOTS + 4);
        }
        for _ in 0..read {
            assert!(ends.consumer.front(Some(&ends.growth)).is_some());
            ends.consumer.pop();
        }
        let left = FIRST_SLOTS + 4 - read;
        assert_eq!(Arc::strong_count(&item), 1 + left);
        let Ends { producer, consumer, growth } = ends;
        if producer_is_first {
            drop(producer);
            drop((consumer, growth));
        } else {
            drop((consumer, growth));
            drop(producer);
        }
        assert_eq!(Arc::strong_count(&item), 1);
    }
}

#[test]
fn the_hand_over_has_no_lock() {
    assert!(AtomicCell::<Option<Box<FixedConsumer<u64>>>>::is_lock_free());
}

/// An item that tells by its handles whether it is kept.
type Value = Arc<u64>;

fn subscribed(overflow: OverflowPolicy) -> (Publisher<Value>, Hub<Value>, Consumer<Value>) {
    let is_live = overflow != OverflowPolicy::Block;
    let (mut publisher, hub) = Publisher::new(PublisherOptions { live: is_live, ..PublisherOptions::default() });
    let consumer = subscribe(&hub, overflow);
    assert_eq!(publisher.consumers(), 1);
    (publisher, hub, consumer)
}

fn subscribe(hub: &Hub<Value>, overflow: OverflowPolicy) -> Consumer<Value> {
    let buffer = if overflow == OverflowPolicy::SkipToLive { SLOTS / 2 } else { SLOTS };
    hub.subscribe(SubscribeOptions { overflow, buffer, ..SubscribeOptions::default() }).unwrap()
}

/// Sends items one by one, and returns a handle of each value.
fn send(publisher: &mut Publisher<Value>, items: u64) -> Vec<Value> {
    let first = publisher.next_sequence();
    let values: Vec<Value> = (first..first + items).map(Arc::new).collect();
    values.iter().for_each(|value| publisher.send(Arc::clone(value), Timestamp::default()));
    values
}

/// Returns how many of these values something else has a handle of.
fn kept(values: &[Value]) -> usize {
    values.iter().filter(|value| Arc::strong_count(value) > 1).count()
}

fn receive(consumer: &mut Consumer<Value>) -> Option<u64> {
    consumer.try_recv_at(Timestamp::default()).ok().map(|delivery| *delivery.item.value)
}

fn receive_all(consumer: &mut Consumer<Value>) -> Vec<u64> {
    std::iter::from_fn(|| receive(consumer)).collect()
}

fn batch(consumer: &mut Consumer<Value>) -> Vec<u64> {
    let batch = consumer.try_recv_batch(Timestamp::default(), usize::MAX).unwrap();
    batch.iter().map(|item| *item.value).collect()
}

#[test]
fn a_consumer_counts_what_is_queued_in_both_rings() {
    let (mut publisher, hub, mut consumer) = subscribed(OverflowPolicy::DropNewest);
    for items in 0..SLOTS {
        assert_eq!(consumer.queued_items(), items);
        send(&mut publisher, 1);
    }
    assert_eq!(batch(&mut consumer).len(), FIRST_SLOTS);
    // It has heard of the second ring, and not gone over to it.
    assert_eq!(consumer.queued_items(), SLOTS - FIRST_SLOTS);
    // This one has not heard of it when it has read the first ring.
    for polls in [false, true] {
        let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest);
        publisher.consumers();
        send(&mut publisher, IN_BOTH);
        assert_eq!(batch(&mut consumer).len(), FIRST_SLOTS);
        if polls {
            assert!(consumer.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        assert_eq!((consumer.queued_items(), batch(&mut consumer).len(), consumer.queued_items()), (4, 4, 0));
        assert!(consumer.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

#[test]
fn the_full_length_is_reached_and_never_more() {
    // Items that are read before, between the two rings, and in the second one.
    for read in [0, 1, FIRST_SLOTS as u64, IN_BOTH, SLOTS as u64] {
        let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::DropNewest);
        send(&mut publisher, SLOTS as u64 + 5);
        (0..read).for_each(|_| assert!(receive(&mut consumer).is_some()));
        assert_eq!(consumer.stats().snapshot().lost.of(Loss::Overflow), 5);
        send(&mut publisher, read + 7);
        assert_eq!(consumer.queued_items(), SLOTS);
        assert_eq!(consumer.stats().snapshot().lost.of(Loss::Overflow), 5 + 7);
        let queued: Vec<u64> = (read..SLOTS as u64).chain(SLOTS as u64 + 5..SLOTS as u64 + 5 + read).collect();
        assert_eq!(receive_all(&mut consumer), queued);
    }
}

#[test]
fn a_skip_finds_the_newest_item_in_the_second_ring() {
    let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::DropNewest);
    send(&mut publisher, IN_BOTH);
    consumer.skip_to_newest();
    assert_eq!(receive(&mut consumer), Some(IN_BOTH - 1));
    assert_eq!(consumer.stats().snapshot().lost.of(Loss::SkippedToNewest), IN_BOTH - 1);
    // As a batch too, which takes what the last look has shown.
    send(&mut publisher, 1);
    consumer.skip_to_newest();
    assert_eq!(batch(&mut consumer), [IN_BOTH]);
    // Also where that is the first item of the second ring.
    for items in FIRST_SLOTS as u64..=IN_BOTH {
        let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::DropNewest);
        send(&mut publisher, items);
        consumer.skip_to_newest();
        assert_eq!(batch(&mut consumer), [items - 1]);
    }
    // And where all but the first ring's last item was read.
    let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::DropNewest);
    send(&mut publisher, IN_BOTH);
    (1..FIRST_SLOTS).for_each(|_| assert!(receive(&mut consumer).is_some()));
    consumer.skip_to_newest();
    assert_eq!(receive(&mut consumer), Some(IN_BOTH - 1));
    assert_eq!((receive(&mut consumer), consumer.queued_items()), (None, 0));
}

#[test]
fn a_late_consumer_skips_to_live_over_both_rings() {
    let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::SkipToLive);
    let items = SLOTS as u64 - 3;
    let values = send(&mut publisher, items);
    assert_eq!(receive(&mut consumer), Some(items - 1));
    assert_eq!(consumer.stats().snapshot().lost.of(Loss::SkippedToLive), items - 1);
    assert_eq!(consumer.queued_items(), 0);
    // No more than the limit of lag, which stays where it is.
    send(&mut publisher, SLOTS as u64 / 2);
    assert_eq!(receive_all(&mut consumer).len(), SLOTS / 2);
    drop((publisher, consumer));
    assert_eq!(kept(&values), 0);
}

#[test]
fn a_consumer_is_disconnected_at_the_full_length() {
    let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::Disconnect);
    send(&mut publisher, SLOTS as u64);
    assert_eq!(consumer.stats().end_reason(), None);
    send(&mut publisher, 1);
    assert_eq!(consumer.stats().end_reason(), Some(EndReason::TooSlow));
    assert_eq!(publisher.consumers(), 0);
    assert_eq!(receive_all(&mut consumer), Vec::from_iter(0..SLOTS as u64));
    assert_eq!(consumer.end().map(|end| end.reason), Some(EndReason::TooSlow));
}

#[test]
fn a_source_waits_for_room_in_the_full_length() {
    let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::Block);
    for sent in 0..SLOTS {
        assert!(publisher.has_room(SLOTS - sent) && !publisher.has_room(SLOTS - sent + 1) || sent == 0);
        send(&mut publisher, 1);
    }
    assert!(!publisher.has_room(1));
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        while let Ok(delivery) = consumer.recv() {
            received.push(*delivery.item.value);
        }
        received
    });
    for _ in 0..1000 {
        block_on(poll_fn(|context| publisher.poll_ready(context)));
        send(&mut publisher, 1);
    }
    publisher.finish(EndReason::Finished);
    assert_eq!(reader.join().unwrap(), Vec::from_iter(0..SLOTS as u64 + 1000));
}

#[test]
fn a_forgotten_batch_of_the_first_ring_is_taken_out() {
    for asks in [false, true] {
        let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::DropNewest);
        send(&mut publisher, IN_BOTH);
        std::mem::forget(consumer.try_recv_batch(Timestamp::default(), usize::MAX).unwrap());
        assert_eq!(consumer.queued_items(), 4);
        if asks {
            assert!(consumer.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
            assert_eq!(consumer.queued_items(), 4);
        }
        assert_eq!(batch(&mut consumer), Vec::from_iter(FIRST_SLOTS as u64..IN_BOTH));
        // And one of the second.
        send(&mut publisher, 3);
        std::mem::forget(consumer.try_recv_batch(Timestamp::default(), 2).unwrap());
        assert_eq!((consumer.queued_items(), receive(&mut consumer)), (1, Some(IN_BOTH + 2)));
        assert!(matches!(consumer.try_recv_at(Timestamp::default()), Err(TryRecvError::Empty)));
    }
}

#[test]
fn items_in_both_rings_outlive_the_producer_and_end_with_the_consumer() {
    for read in [0, 3, FIRST_SLOTS, FIRST_SLOTS + 2] {
        for is_finished in [true, false] {
            let (mut publisher, _hub, mut consumer) = subscribed(OverflowPolicy::DropNewest);
            let values = send(&mut publisher, IN_BOTH);
            (0..read).for_each(|_| assert!(receive(&mut consumer).is_some()));
            if is_finished {
                publisher.finish(EndReason::Finished)
            } else {
                drop(publisher)
            }
            assert_eq!(kept(&values[read..]), IN_BOTH as usize - read, "freed too early");
            assert_eq!(receive_all(&mut consumer), Vec::from_iter(read as u64..IN_BOTH));
            assert!(matches!(consumer.try_recv_at(Timestamp::default()), Err(TryRecvError::Ended(_))));
            assert_eq!(kept(&values), 0, "kept after the end");
        }
    }
}

#[test]
fn a_consumer_that_is_closed_or_dropped_keeps_nothing() {
    for read in [0, 3, FIRST_SLOTS, FIRST_SLOTS + 2] {
        let (mut publisher, hub, mut consumer) = subscribed(OverflowPolicy::DropNewest);
        let values = send(&mut publisher, IN_BOTH);
        (0..read).for_each(|_| assert!(receive(&mut consumer).is_some()));
        let stats = Arc::clone(consumer.stats());
        let batch = consumer.try_recv_batch(Timestamp::default(), usize::MAX).unwrap();
        stats.close();
        assert_eq!(publisher.consumers(), 0);
        assert!(batch.iter().all(|item| *item.value < IN_BOTH), "read after it was freed");
        drop(batch);
        drop(consumer);
        assert_eq!(kept(&values), 0);
        let consumer = subscribe(&hub, OverflowPolicy::DropNewest);
        publisher.consumers();
        let values = send(&mut publisher, IN_BOTH);
        drop(consumer);
        assert_eq!(publisher.consumers(), 0);
        assert_eq!(kept(&values), 0);
    }
}

/// Each consumer has one of these, also where its ring never grows.
#[test]
fn what_a_ring_needs_to_grow_takes_few_bytes() {
    let beyond = |end: usize| end - size_of::<rtrb::Consumer<u64>>();
    let sizes =
        [beyond(size_of::<ProducingEnd<u64>>()), beyond(size_of::<ReadingEnd<u64>>()), size_of::<Growth<u64>>()];
    assert!(sizes.iter().all(|size| *size <= 16), "{sizes:?}");
}
