//! loom models of the hand-overs between threads: each tries every interleaving of a few steps, and every value that the
//! processor's memory model lets a load return. They run the real code with loom's atomics (see [`crate::sync`]):
//! `make test-models`.
//!
//! A ring is not modelled inside, because rtrb's own atomics take effect at once. Indices with its orderings stand beside
//! them (in [`crate::growing_ring`]), and where a hand-over has no ring, a model has a [`Slots`] in its place.
//! `docs/RELIABILITY.md` lists the changes that each model finds.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Wake, Waker};

use loom::future::block_on;
use loom::thread;

use crate::final_state::FinalState;
use crate::growing_ring;
use crate::notices::Notices;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::{
    Consumer, EndReason, Head, Hub, Item, Loss, OverflowPolicy, Publisher, PublisherOptions, Snapshot, Stamp, Start,
    Stats, SubscribeError, SubscribeOptions, Timestamp,
};

/// Checks all interleavings with at most this many preemptions, which find all faults that were planted.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn publisher(history: usize) -> (Publisher<u64>, Hub<u64>) {
    Publisher::new(PublisherOptions { history, ..PublisherOptions::default() })
}

/// Adds a consumer without histograms, which are no part of a hand-over.
fn subscribe(hub: &Hub<u64>, start: Start) -> Result<Consumer<u64>, SubscribeError> {
    hub.subscribe(SubscribeOptions { overflow: OverflowPolicy::DropNewest, buffer: 4, start, histograms: false })
}

/// Makes a publisher and a consumer that it has admitted.
fn admitted() -> (Publisher<u64>, Consumer<u64>) {
    let (mut publisher, hub) = publisher(0);
    let consumer = subscribe(&hub, Start::Live).unwrap();
    publisher.consumers();
    (publisher, consumer)
}

fn send(publisher: &mut Publisher<u64>) {
    publisher.send(publisher.next_sequence(), Timestamp::default());
}

/// Waits for an item as a task does.
fn receive(consumer: &mut Consumer<u64>) -> Result<u64, EndReason> {
    let received = block_on(poll_fn(|context| consumer.poll_recv(context, Timestamp::default())));
    received.map(|delivery| delivery.item.value).map_err(|end| end.reason)
}

fn new_stats(notices: &Arc<Notices>) -> Stats {
    Stats::new(Head::default(), Arc::clone(notices), false)
}

/// The two indices of a ring, as rtrb orders them.
struct Slots {
    head: AtomicU64,
    tail: AtomicU64,
}

impl Slots {
    fn new() -> Self {
        Self { head: AtomicU64::new(0), tail: AtomicU64::new(0) }
    }
}

/// A waker that counts its calls.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A lost wake-up leaves the consumer waiting for ever: loom reports a deadlock.
#[test]
fn an_item_wakes_a_waiting_consumer() {
    check(3, || {
        let (mut publisher, mut consumer) = admitted();
        let producer = thread::spawn(move || {
            send(&mut publisher);
            send(&mut publisher);
            // Not dropped: that would wake the consumer, too.
            publisher
        });
        assert_eq!((receive(&mut consumer), receive(&mut consumer)), (Ok(0), Ok(1)));
        drop(producer.join().unwrap());
    });
}

/// The same with the indices of a ring that are as weakly ordered as rtrb's.
#[test]
fn an_item_in_a_weak_ring_wakes_a_waiting_consumer() {
    check(3, || {
        let notices = Arc::new(Notices::new());
        let (slots, stats) = (Arc::new(Slots::new()), Arc::new(new_stats(&notices)));
        let producer = {
            let (slots, stats) = (Arc::clone(&slots), Arc::clone(&stats));
            thread::spawn(move || {
                slots.tail.store(1, Ordering::Release);
                // As `Publisher::flush` does.
                fence(Ordering::SeqCst);
                if notices.has_waiters() {
                    stats.wake_if_armed();
                }
            })
        };
        block_on(poll_fn(|context| {
            stats.arm(context.waker());
            if slots.tail.load(Ordering::Acquire) == 1 { Poll::Ready(()) } else { Poll::Pending }
        }));
        producer.join().unwrap();
    });
}

/// A lost wake-up leaves the producer waiting for ever: loom reports a deadlock.
#[test]
fn room_in_a_ring_wakes_a_waiting_producer() {
    let takes: [fn(&mut Consumer<u64>); 3] = [
        |consumer| drop(consumer.try_recv_at(Timestamp::default()).unwrap()),
        |consumer| drop(consumer.try_recv_batch(Timestamp::default(), 1).unwrap()),
        |consumer| {
            std::mem::forget(consumer.try_recv_batch(Timestamp::default(), 1).unwrap());
            // Its slot is free from this look on.
            assert!(consumer.try_recv_at(Timestamp::default()).is_err());
        },
    ];
    for take in takes {
        check(3, move || {
            let (mut publisher, hub) = Publisher::new(PublisherOptions { live: false, ..PublisherOptions::default() });
            let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 1, ..Default::default() };
            let mut consumer = hub.subscribe(SubscribeOptions { histograms: false, ..options }).unwrap();
            send(&mut publisher);
            let reader = thread::spawn(move || {
                take(&mut consumer);
                // Not dropped: that would wake the producer, too.
                consumer
            });
            block_on(poll_fn(|context| publisher.poll_ready(context)));
            drop(reader.join().unwrap());
        });
    }
}

#[test]
fn the_history_wakes_a_waiting_consumer() {
    check(2, || {
        let (mut publisher, hub) = publisher(1);
        send(&mut publisher);
        let mut consumer = subscribe(&hub, Start::Back(1)).unwrap();
        let producer = thread::spawn(move || {
            publisher.consumers();
            publisher
        });
        assert_eq!(receive(&mut consumer), Ok(0));
        drop(producer.join().unwrap());
    });
}

/// A consumer that found an item at its second look does not wait, and its task is not woken by later items.
#[test]
fn a_consumer_that_did_not_wait_is_not_woken_later() {
    for polls_only in [false, true] {
        check(3, move || {
            let (mut publisher, mut consumer) = admitted();
            let producer = thread::spawn(move || {
                send(&mut publisher);
                publisher
            });
            let count = Arc::new(Count::default());
            let waker = Waker::from(Arc::clone(&count));
            let mut context = Context::from_waker(&waker);
            let is_ready = if polls_only {
                consumer.poll_ready(&mut context).is_ready()
            } else {
                consumer.poll_recv(&mut context, Timestamp::default()).is_ready()
            };
            let mut publisher = producer.join().unwrap();
            let before = count.0.load(Ordering::Relaxed);
            assert!(is_ready || before == 1, "it waits, and was not woken");
            send(&mut publisher);
            assert_eq!(count.0.load(Ordering::Relaxed), before, "it does not wait any more");
        });
    }
}

#[test]
fn an_end_wakes_a_waiting_consumer_after_its_items() {
    for is_finished in [true, false] {
        check(3, move || {
            let (mut publisher, mut consumer) = admitted();
            let producer = thread::spawn(move || {
                send(&mut publisher);
                if is_finished {
                    publisher.finish(EndReason::Finished);
                }
            });
            let reason = if is_finished { EndReason::Finished } else { EndReason::Abandoned };
            assert_eq!((receive(&mut consumer), receive(&mut consumer)), (Ok(0), Err(reason)));
            producer.join().unwrap();
        });
    }
}

/// A consumer that sees the end sees the items before it.
#[test]
fn items_are_visible_with_the_end() {
    check(3, || {
        let (slots, end) = (Arc::new(Slots::new()), Arc::new(FinalState::new()));
        let producer = {
            let (slots, end) = (Arc::clone(&slots), Arc::clone(&end));
            thread::spawn(move || {
                slots.tail.store(1, Ordering::Relaxed);
                end.set(EndReason::Finished, 1, Loss::Source);
            })
        };
        if end.get().is_some() {
            assert_eq!(slots.tail.load(Ordering::Relaxed), 1, "the end came before the item");
        }
        producer.join().unwrap();
    });
}

/// Reason and number of an end are of one thread, and stay.
#[test]
fn an_end_is_of_one_thread_and_stays() {
    check(3, || {
        let end = Arc::new(FinalState::new());
        let other = Arc::clone(&end);
        let leaves = thread::spawn(move || other.set(EndReason::Left, 10, Loss::Overflow));
        end.set(EndReason::Finished, 7, Loss::Source);
        let first = end.get().unwrap();
        let allowed = [(EndReason::Finished, 7, Loss::Source), (EndReason::Left, 10, Loss::Overflow)];
        assert!(allowed.contains(&first), "{first:?}");
        leaves.join().unwrap();
        assert_eq!(end.get(), Some(first), "the end changed");
    });
}

/// The producer removes a consumer that was closed, while it is closed.
#[test]
fn a_closed_consumer_is_not_abandoned() {
    check(3, || {
        let (mut publisher, hub) = publisher(0);
        let consumer = subscribe(&hub, Start::Live).unwrap();
        let other = subscribe(&hub, Start::Live).unwrap();
        publisher.consumers();
        // So the producer looks at all consumers, whether the first one has announced its close or not.
        drop(other);
        let stats = Arc::clone(consumer.stats());
        let closes = thread::spawn(move || stats.close());
        publisher.consumers();
        closes.join().unwrap();
        assert_eq!(publisher.consumers(), 0);
        assert_eq!(consumer.stats().end_reason(), Some(EndReason::Closed));
    });
}

/// The same for one that is dropped.
#[test]
fn a_dropped_consumer_has_left() {
    check(3, || {
        let (mut publisher, hub) = publisher(0);
        let consumer = subscribe(&hub, Start::Live).unwrap();
        publisher.consumers();
        let stats = Arc::clone(consumer.stats());
        let leaves = thread::spawn(move || drop(consumer));
        publisher.consumers();
        leaves.join().unwrap();
        assert_eq!(publisher.consumers(), 0);
        assert_eq!(stats.end_reason(), Some(EndReason::Left));
    });
}

#[test]
fn close_wakes_a_waiting_consumer() {
    check(3, || {
        let (_publisher, mut consumer) = admitted();
        let stats = Arc::clone(consumer.stats());
        let closes = thread::spawn(move || stats.close());
        assert_eq!(receive(&mut consumer), Err(EndReason::Closed));
        closes.join().unwrap();
    });
}

/// A subscription beside the end is refused, or receives its history and the end.
#[test]
fn a_subscription_beside_the_end_is_refused_or_complete() {
    check(3, || {
        let (mut publisher, hub) = publisher(1);
        send(&mut publisher);
        let subscribes = thread::spawn(move || subscribe(&hub, Start::Back(1)));
        publisher.finish(EndReason::Finished);
        match subscribes.join().unwrap() {
            Ok(mut consumer) => {
                assert_eq!(consumer.try_recv_at(Timestamp::default()).unwrap().item.value, 0);
                assert_eq!(receive(&mut consumer), Err(EndReason::Finished));
            }
            Err(error) => assert_eq!(error, SubscribeError::Ended),
        }
    });
}

/// The producer finds every new consumer, also one that subscribes while it takes another.
#[test]
fn no_new_consumer_is_overlooked() {
    check(3, || {
        let (mut publisher, hub) = publisher(0);
        let subscribes = [hub.clone(), hub].map(|hub| thread::spawn(move || subscribe(&hub, Start::Live)));
        publisher.consumers();
        let consumers = subscribes.map(|thread| thread.join().unwrap().unwrap());
        assert_eq!(publisher.consumers(), 2);
        drop(consumers);
    });
}

/// The first sequence number is there as soon as the consumer counts as admitted.
#[test]
fn an_admitted_consumer_has_its_start() {
    check(3, || {
        let (mut publisher, hub) = publisher(1);
        send(&mut publisher);
        let consumer = subscribe(&hub, Start::Live).unwrap();
        let producer = thread::spawn(move || {
            publisher.consumers();
            publisher
        });
        if consumer.stats().is_attached() {
            assert_eq!(consumer.stats().start(), Some((1, 0)));
            assert_eq!(consumer.stats().snapshot().first_sequence, 1);
        }
        drop(producer.join().unwrap());
    });
}

/// A snapshot is never made of two moments: this consumer leaves an item in its ring of two at every moment.
#[test]
fn a_snapshot_is_one_moment() {
    check(2, || {
        let notices = Arc::new(Notices::new());
        let (slots, stats) = (Arc::new(Slots::new()), Arc::new(new_stats(&notices)));
        stats.attached(0, 0);
        stats.accepted(2);
        slots.tail.store(2, Ordering::Relaxed);
        let producer = {
            let (slots, stats) = (Arc::clone(&slots), Arc::clone(&stats));
            thread::spawn(move || {
                for item in 2..4 {
                    if slots.head.load(Ordering::Acquire) + 2 > item {
                        stats.accepted(1);
                        slots.tail.store(item + 1, Ordering::Release);
                    } else {
                        stats.overflowed(item + 1, 1);
                        return;
                    }
                }
            })
        };
        let consumer = {
            let (slots, stats) = (Arc::clone(&slots), Arc::clone(&stats));
            thread::spawn(move || {
                for item in 0..2 {
                    if slots.tail.load(Ordering::Acquire) < item + 2 {
                        return;
                    }
                    stats.delivered(1);
                    slots.head.store(item + 1, Ordering::Release);
                }
            })
        };
        let seen = stats.snapshot();
        assert!((1..=2).contains(&seen.queued), "not at one moment: {seen:?}");
        assert_eq!(seen.offered, seen.delivered + seen.queued + seen.lost.total());
        assert_eq!(seen.next_sequence, seen.delivered);
        producer.join().unwrap();
        consumer.join().unwrap();
        let last = stats.snapshot();
        assert!(last.offered >= seen.offered && last.delivered >= seen.delivered, "{seen:?}, then {last:?}");
    });
}

/// A snapshot is one of the states in which the account was, whatever changes while it is made.
#[test]
fn a_snapshot_is_one_of_the_states() {
    /// Offered, delivered, lost at the source, skipped and queued, after each change.
    const STATES: [[u64; 5]; 6] =
        [[2, 0, 0, 0, 2], [3, 0, 1, 0, 2], [4, 0, 1, 0, 3], [4, 1, 1, 0, 2], [4, 1, 1, 1, 1], [5, 1, 1, 1, 2]];
    check(2, || {
        let stats = Arc::new(new_stats(&Arc::new(Notices::new())));
        stats.attached(0, 0);
        stats.accepted(2);
        // One thread for both ends, so that the states have an order.
        let ends = {
            let stats = Arc::clone(&stats);
            thread::spawn(move || {
                stats.refused(Loss::Source, 1);
                stats.accepted(1);
                stats.delivered(1);
                stats.skipped(2, 1, Loss::SkippedToLive);
                stats.accepted(1);
            })
        };
        let Snapshot { offered, delivered, lost, queued, .. } = stats.snapshot();
        let seen = [offered, delivered, lost.of(Loss::Source), lost.of(Loss::SkippedToLive), queued];
        assert!(STATES.contains(&seen), "not at one moment: {seen:?}");
        ends.join().unwrap();
    });
}

/// The slots of items that were taken or skipped are free after these are counted, so that more than a ring holds is never
/// queued.
#[test]
fn items_count_before_their_slots_are_free() {
    for skips in [false, true] {
        check(3, move || {
            let (mut publisher, hub) = publisher(0);
            let options = SubscribeOptions { overflow: OverflowPolicy::DropNewest, buffer: 2, ..Default::default() };
            let mut consumer = hub.subscribe(SubscribeOptions { histograms: false, ..options }).unwrap();
            let stats = Arc::clone(consumer.stats());
            send(&mut publisher);
            send(&mut publisher);
            let producer = thread::spawn(move || {
                send(&mut publisher);
                assert!(stats.queued_at_most() <= 2, "more than the ring holds");
                publisher
            });
            if skips {
                consumer.skip_to_newest();
            }
            consumer.try_recv_at(Timestamp::default()).unwrap();
            drop(producer.join().unwrap());
        });
    }
}

/// A value whose readings and changes loom watches. The producer changes it when no handle of it is left but its own, as
/// the dispatcher does with its blocks.
struct Watched(loom::cell::UnsafeCell<u64>);

// SAFETY: loom's cell reports two accesses that are not ordered.
#[allow(unsafe_code, reason = "the cell is there to find what must not happen")]
unsafe impl Sync for Watched {}

impl Watched {
    fn read(&self) {
        self.0.with(|_| ());
    }
}

/// Items of which a producer has kept a handle.
#[derive(Default)]
struct Blocks(Vec<Arc<Item<Watched>>>);

impl Blocks {
    fn send(&mut self, publisher: &mut Publisher<Watched>) {
        let stamp = Stamp { sequence: publisher.next_sequence(), ..Stamp::default() };
        let item = Arc::new(Item { stamp, value: Watched(loom::cell::UnsafeCell::new(stamp.sequence)) });
        self.0.push(Arc::clone(&item));
        publisher.push_item(item);
        publisher.flush();
        self.reuse();
    }

    /// Changes each value that no consumer holds.
    fn reuse(&mut self) {
        for item in &mut self.0 {
            if let Some(item) = Arc::get_mut(item) {
                item.value.0.with_mut(|_| ());
            }
        }
    }
}

fn subscribe_watched(hub: &Hub<Watched>, buffer: usize) -> Consumer<Watched> {
    let options =
        SubscribeOptions { overflow: OverflowPolicy::DropNewest, buffer, histograms: false, ..Default::default() };
    hub.subscribe(options).unwrap()
}

/// Reads a batch where it lies in the ring.
fn read_batch(consumer: &mut Consumer<Watched>) {
    if let Ok(batch) = consumer.try_recv_batch(Timestamp::default(), 2) {
        batch.iter().for_each(|item| item.value.read());
    }
}

/// A block is filled again after its readers have passed it: also in a ring that refuses some, and by a consumer that takes
/// handles of its own.
#[test]
fn an_item_is_not_reclaimed_before_it_was_read() {
    // The ring of three grows.
    for (buffer, has_handles) in [(2, false), (1, false), (2, true), (3, false)] {
        check(2, move || {
            let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
            let mut consumer = subscribe_watched(&hub, buffer);
            let mut blocks = Blocks::default();
            blocks.send(&mut publisher);
            let producer = thread::spawn(move || {
                (0..3).for_each(|_| blocks.send(&mut publisher));
                (publisher, blocks)
            });
            let mut kept = Vec::new();
            for _ in 0..2 {
                if !has_handles {
                    read_batch(&mut consumer);
                } else if let Ok(delivery) = consumer.try_recv_at(Timestamp::default()) {
                    delivery.item.value.read();
                    kept.push(delivery);
                }
            }
            drop(producer.join().unwrap());
        });
    }
}

/// In a ring that has refused an item, the items that come later are kept as those before it.
#[test]
fn an_item_after_a_refused_one_is_not_reclaimed_before_it_was_read() {
    check(2, || {
        let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
        let mut consumer = subscribe_watched(&hub, 2);
        let mut blocks = Blocks::default();
        (0..3).for_each(|_| blocks.send(&mut publisher));
        drop(consumer.try_recv_at(Timestamp::default()));
        let producer = thread::spawn(move || {
            (0..2).for_each(|_| blocks.send(&mut publisher));
            (publisher, blocks)
        });
        (0..2).for_each(|_| read_batch(&mut consumer));
        drop(producer.join().unwrap());
    });
}

/// A consumer that reads on after its producer's end, or after it was closed, has its items to itself.
#[test]
fn an_item_outlives_its_producer() {
    for is_closed in [false, true] {
        check(3, move || {
            let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
            let mut consumer = subscribe_watched(&hub, 2);
            let mut blocks = Blocks::default();
            publisher.consumers();
            let stats = Arc::clone(consumer.stats());
            let producer = thread::spawn(move || {
                (0..2).for_each(|_| blocks.send(&mut publisher));
                if is_closed {
                    stats.close();
                    publisher.consumers();
                    blocks.reuse();
                }
                drop(publisher);
                blocks.reuse();
                blocks
            });
            read_batch(&mut consumer);
            drop(producer.join().unwrap());
        });
    }
}

/// A consumer goes over to the second ring when nothing more can come in the first, and finds all items in order.
#[test]
fn a_ring_that_grows_loses_no_item() {
    for polls_only in [false, true] {
        check(3, move || {
            let (mut publisher, mut consumer) = admitted();
            let producer = thread::spawn(move || {
                (0..3).for_each(|_| send(&mut publisher));
                publisher
            });
            let mut received = Vec::new();
            for _ in 0..2 {
                if !polls_only || consumer.queued_items() > 0 {
                    received.extend(consumer.try_recv_at(Timestamp::default()).map(|delivery| delivery.item.value));
                }
            }
            let publisher = producer.join().unwrap();
            received.extend(consumer.try_iter().map(|delivery| delivery.item.value));
            assert_eq!(received, [0, 1, 2]);
            drop(publisher);
        });
    }
}

/// A look at all queued items leaves out none between two of them, so that a skip drops as many as it has seen.
#[test]
fn a_look_at_both_rings_finds_no_hole() {
    check(3, || {
        let (mut producer, mut consumer, growth) = growing_ring::ring_from(2, 5);
        let growth = Arc::new(growth);
        assert!(producer.push_all([0].into_iter(), &growth));
        let writes = {
            let growth = Arc::clone(&growth);
            thread::spawn(move || {
                for item in 1..4 {
                    assert!(producer.push_all([item].into_iter(), &growth));
                }
                producer
            })
        };
        let mut seen = Vec::new();
        consumer.for_each(Some(&growth), |item| seen.push(*item));
        assert_eq!(seen, Vec::from_iter(0..seen.len()), "a hole");
        assert!(consumer.len(Some(&growth)) >= seen.len(), "fewer than before");
        drop(writes.join().unwrap());
        assert_eq!(consumer.len(Some(&growth)), 4);
    });
}

/// The producer never counts an item in the first ring beside one that is missing in the second.
#[test]
fn what_is_queued_in_both_rings_is_one_moment() {
    check(3, || {
        let (mut producer, mut consumer, growth) = growing_ring::ring_from(2, 5);
        let growth = Arc::new(growth);
        assert!(producer.push_all([0, 1].into_iter(), &growth));
        assert!(producer.push_all([2, 3].into_iter(), &growth));
        let reads = {
            let growth = Arc::clone(&growth);
            thread::spawn(move || {
                for items in [2, 1] {
                    assert!(!consumer.is_empty(Some(&growth)));
                    consumer.chunk(items).unwrap().take_out();
                }
            })
        };
        let queued = producer.queued();
        assert!([4, 2, 1].contains(&queued), "{queued} were never queued");
        reads.join().unwrap();
        assert_eq!(producer.queued(), 1);
    });
}

/// Consumers that leave at the same time are all removed.
#[test]
fn no_leaver_is_overlooked() {
    check(3, || {
        let (mut publisher, hub) = publisher(0);
        let consumers = [subscribe(&hub, Start::Live).unwrap(), subscribe(&hub, Start::Live).unwrap()];
        // Admitted before, because that has a fence that would show the departures.
        publisher.consumers();
        let threads = consumers.map(|consumer| thread::spawn(move || drop(consumer)));
        publisher.consumers();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(publisher.consumers(), 0);
    });
}
