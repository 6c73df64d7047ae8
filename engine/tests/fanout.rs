//! The fan-out: wake-ups, joining and leaving, endings, and the isolation of consumers.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

#[path = "common/ends.rs"]
mod ends;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use aircheck_engine::{
    Consumer, EndReason, Hub, OverflowPolicy, Publisher, PublisherOptions, Stamp, Start, SubscribeError,
    SubscribeOptions, Timestamp, TryRecvError,
};
use ends::ends;

const HAND_OVERS: u64 = 100_000;

fn options(overflow: OverflowPolicy, buffer: usize) -> SubscribeOptions {
    SubscribeOptions { overflow, buffer, ..SubscribeOptions::default() }
}

fn subscribe<T: Send + Sync>(hub: &Hub<T>, overflow: OverflowPolicy, buffer: usize) -> Consumer<T> {
    hub.subscribe(options(overflow, buffer)).unwrap()
}

fn waiting() -> PublisherOptions {
    PublisherOptions { live: false, ..PublisherOptions::default() }
}

fn send(publisher: &mut Publisher<u64>) {
    let sequence = publisher.next_sequence();
    publisher.send(sequence, Timestamp::default());
}

/// Two threads send an item back and forth, so that each waits for every single item. After one lost wake-up, both wait
/// for ever.
#[test]
fn no_wakeup_is_lost_between_threads() {
    let received = ends(|| {
        let (mut there, there_hub) = Publisher::new(waiting());
        let (mut back, back_hub) = Publisher::new(waiting());
        let mut from_there = subscribe(&there_hub, OverflowPolicy::Block, 1);
        let mut from_back = subscribe(&back_hub, OverflowPolicy::Block, 1);
        let other = thread::spawn(move || {
            while from_there.recv().is_ok() {
                send(&mut back);
            }
        });
        for number in 0..HAND_OVERS {
            send(&mut there);
            assert_eq!(from_back.recv().unwrap().item.value, number);
        }
        there.finish(EndReason::Finished);
        other.join().unwrap();
        from_back.stats().snapshot().delivered
    });
    assert_eq!(received, HAND_OVERS);
}

/// A task's waker that only stores that it was woken.
#[derive(Default)]
struct Remember(AtomicBool);

impl Wake for Remember {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Waits until `counter` has reached `value`.
fn reach(counter: &AtomicU64, value: u64) {
    let mut looks = 0_u32;
    while counter.load(Ordering::Acquire) < value {
        looks += 1;
        if looks.is_multiple_of(200) { thread::yield_now() } else { std::hint::spin_loop() }
    }
}

/// In each round one thread sends an item while the other one polls for it. If the poll is pending, its waker must have
/// been called by the time that the send is complete. The test does not depend on time.
#[test]
fn no_wakeup_is_lost_by_a_task() {
    ends(|| {
        let (mut publisher, hub) = Publisher::new(waiting());
        let mut consumer = subscribe(&hub, OverflowPolicy::Block, 1);
        let (begun, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let producer = {
            let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
            thread::spawn(move || {
                for round in 1..=HAND_OVERS {
                    reach(&begun, round);
                    // Varies the delay over the few hundred nanoseconds of the poll.
                    for _ in 0..round % 128 {
                        std::hint::spin_loop();
                    }
                    send(&mut publisher);
                    done.store(round, Ordering::Release);
                }
            })
        };
        let mut waited = 0_u64;
        for round in 1..=HAND_OVERS {
            let remember = Arc::new(Remember::default());
            let waker = Waker::from(Arc::clone(&remember));
            begun.store(round, Ordering::Release);
            let polled = consumer.poll_recv(&mut Context::from_waker(&waker), Timestamp::default());
            reach(&done, round);
            if polled.is_pending() {
                assert!(remember.0.load(Ordering::Acquire), "round {round}: it waits and was not woken");
                waited += 1;
                consumer.try_recv_at(Timestamp::default()).expect("the item that it was woken for");
            }
        }
        producer.join().unwrap();
        assert!(waited > HAND_OVERS / 100, "only {waited} rounds were pending");
    });
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn async_code_needs_no_runtime() {
    let received = ends(|| {
        let (mut publisher, hub) = Publisher::new(waiting());
        let mut consumer = subscribe(&hub, OverflowPolicy::Block, 4);
        let producer = thread::spawn(move || {
            for _ in 0..10_000 {
                while !publisher.has_room(1) {
                    thread::yield_now();
                }
                send(&mut publisher);
            }
            publisher.finish(EndReason::Finished);
        });
        let received = block_on(async {
            let mut received = 0;
            while poll_fn(|context| consumer.poll_recv(context, Timestamp::default())).await.is_ok() {
                received += 1;
            }
            received
        });
        producer.join().unwrap();
        received
    });
    assert_eq!(received, 10_000);
}

/// A waiting consumer sees every kind of end, also where nothing is pushed.
#[test]
fn a_waiting_consumer_sees_every_end() {
    for reason in [EndReason::Finished, EndReason::Closed, EndReason::Abandoned] {
        let end = ends(move || {
            let (publisher, hub) = Publisher::<u64>::new(PublisherOptions::default());
            let mut consumer = subscribe(&hub, OverflowPolicy::SkipToLive, 4);
            let stats = Arc::clone(consumer.stats());
            let mut publisher = publisher;
            assert_eq!(publisher.consumers(), 1);
            let waits = thread::spawn(move || consumer.recv());
            match reason {
                EndReason::Closed => {
                    stats.close();
                    let end = waits.join().unwrap();
                    drop(publisher);
                    return end;
                }
                EndReason::Abandoned => drop(publisher),
                reason => publisher.finish(reason),
            }
            waits.join().unwrap()
        });
        assert_eq!(end.unwrap_err().reason, reason);
    }
}

#[test]
fn an_end_wakes_a_task() {
    for close in [true, false] {
        let (mut publisher, hub) = Publisher::<u64>::new(PublisherOptions::default());
        let mut consumer = subscribe(&hub, OverflowPolicy::Latest, 1);
        assert_eq!(publisher.consumers(), 1);
        let remember = Arc::new(Remember::default());
        let waker = Waker::from(Arc::clone(&remember));
        assert!(consumer.poll_recv(&mut Context::from_waker(&waker), Timestamp::default()).is_pending());
        assert!(!remember.0.load(Ordering::Acquire));
        if close {
            consumer.stats().close();
        } else {
            publisher.finish(EndReason::Finished);
        }
        assert!(remember.0.load(Ordering::Acquire));
        assert!(matches!(consumer.try_recv_at(Timestamp::default()), Err(TryRecvError::Ended(_))));
    }
}

#[test]
fn the_history_wakes_a_new_consumer_of_a_silent_fan_out() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 4, ..PublisherOptions::default() });
    send(&mut publisher);
    let mut consumer =
        hub.subscribe(SubscribeOptions { start: Start::Back(1), ..SubscribeOptions::default() }).unwrap();
    let remember = Arc::new(Remember::default());
    let waker = Waker::from(Arc::clone(&remember));
    assert!(consumer.poll_recv(&mut Context::from_waker(&waker), Timestamp::default()).is_pending());
    assert_eq!(publisher.consumers(), 1);
    assert!(remember.0.load(Ordering::Acquire));
    assert_eq!(consumer.try_recv_at(Timestamp::default()).unwrap().item.value, 0);
}

#[test]
fn a_dropped_consumer_releases_its_items() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let item = Arc::new(());
    let consumers: Vec<_> = OverflowPolicy::ALL[..4].iter().map(|overflow| subscribe(&hub, *overflow, 8)).collect();
    for _ in 0..4 {
        publisher.send(Arc::clone(&item), Timestamp::default());
    }
    assert_eq!(publisher.consumers(), 4);
    assert_eq!(Arc::strong_count(&item), 1 + 4, "the rings share each item");
    drop(consumers);
    // Also while nothing is pushed.
    assert_eq!(publisher.consumers(), 0);
    assert_eq!(Arc::strong_count(&item), 1, "no ring holds it any more");
}

#[test]
fn a_closed_consumer_is_removed_before_it_reads_its_end() {
    let (mut publisher, hub) = Publisher::new(waiting());
    let mut frozen = subscribe(&hub, OverflowPolicy::Block, 1);
    let mut other = subscribe(&hub, OverflowPolicy::Block, 8);
    send(&mut publisher);
    assert!(!publisher.has_room(1));
    frozen.stats().close();
    assert!(publisher.has_room(1), "the source does not wait for a closed consumer");
    send(&mut publisher);
    assert_eq!(publisher.consumers(), 1);
    assert_eq!(
        frozen.try_recv_at(Timestamp::default()).map(|_| ()).unwrap_err().to_string(),
        "the stream has ended: closed"
    );
    assert_eq!(frozen.stats().end_reason(), Some(EndReason::Closed));
    assert_eq!(other.try_recv_at(Timestamp::default()).unwrap().item.value, 0);
    assert_eq!(other.try_recv_at(Timestamp::default()).unwrap().item.value, 1);
}

#[test]
fn an_ended_fan_out_refuses_consumers() {
    let (publisher, hub) = Publisher::<u64>::new(PublisherOptions::default());
    let mut early = subscribe(&hub, OverflowPolicy::SkipToLive, 1);
    publisher.finish(EndReason::Finished);
    assert_eq!(early.recv().unwrap_err().reason, EndReason::Finished);
    assert_eq!(hub.subscribe(SubscribeOptions::default()).unwrap_err(), SubscribeError::Ended);
    let (_publisher, hub) = Publisher::<u64>::new(PublisherOptions::default());
    let refused = hub.subscribe(options(OverflowPolicy::Block, 1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "overflow policy `block` is refused: the source is live and cannot wait (use it from file to file)"
    );
}

/// Queued items are still delivered after the producing end was finished or dropped.
#[test]
fn queued_items_come_before_the_end() {
    for in_order in [true, false] {
        let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
        let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 8);
        (0..5).for_each(|_| send(&mut publisher));
        let reason = if in_order {
            publisher.finish(EndReason::Finished);
            EndReason::Finished
        } else {
            drop(publisher);
            EndReason::Abandoned
        };
        assert_eq!((0..5).map(|_| consumer.recv().unwrap().item.value).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        let end = consumer.recv().unwrap_err();
        assert_eq!((end.reason, end.gap), (reason, None));
        assert_eq!(consumer.recv().unwrap_err(), end, "the end stays the same");
    }
}

/// Frozen consumers beside healthy ones: the healthy ones lose nothing, and the frozen ones hold no more than their rings
/// and count every loss.
#[test]
fn a_frozen_consumer_does_not_disturb_others() {
    const ITEMS: u64 = 10_000;
    const BUFFER: u64 = 16;
    let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 4, ..PublisherOptions::default() });
    let policies =
        [OverflowPolicy::SkipToLive, OverflowPolicy::DropNewest, OverflowPolicy::Latest, OverflowPolicy::Disconnect];
    let frozen: Vec<_> = policies.iter().map(|overflow| subscribe(&hub, *overflow, BUFFER as usize)).collect();
    let mut healthy: Vec<_> = policies.iter().map(|overflow| subscribe(&hub, *overflow, BUFFER as usize)).collect();
    for number in 0..ITEMS {
        send(&mut publisher);
        for consumer in &mut healthy {
            assert_eq!(consumer.try_recv_at(Timestamp::default()).map(|d| (d.item.value, d.gap)), Ok((number, None)));
        }
    }
    for consumer in &healthy {
        assert_eq!(consumer.stats().snapshot().lost.total(), 0);
    }
    for (consumer, bound) in frozen.iter().zip([2 * BUFFER, BUFFER, 1, BUFFER]) {
        let snapshot = consumer.stats().snapshot();
        assert_eq!(snapshot.queued, bound, "a ring is full, and no more than that");
        let offered = if consumer.stats().end_reason().is_some() { BUFFER + 1 } else { ITEMS };
        assert_eq!((snapshot.offered, snapshot.lost.total()), (offered, offered - bound));
    }
}

/// A ring has room for the requested history and the consumer's buffer, and no more.
#[test]
fn a_ring_holds_history_and_buffer() {
    for (start, past) in [(Start::Live, 0), (Start::Back(3), 3), (Start::Back(100), 20), (Start::From(0), 20)] {
        let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 20, ..PublisherOptions::default() });
        (0..50).for_each(|_| send(&mut publisher));
        let consumer = hub
            .subscribe(SubscribeOptions {
                overflow: OverflowPolicy::DropNewest,
                buffer: 5,
                start,
                ..SubscribeOptions::default()
            })
            .unwrap();
        publisher.consumers();
        assert_eq!(consumer.stats().snapshot().queued, past);
        (0..50).for_each(|_| send(&mut publisher));
        assert_eq!(consumer.stats().snapshot().queued, past + 5);
    }
}

/// A batch that began before a consumer subscribed is not offered to it, because its ring was not checked for room.
#[test]
fn a_consumer_that_subscribes_within_a_batch_starts_after_it() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 8, ..waiting() });
    let push = |publisher: &mut Publisher<u64>| {
        let sequence = publisher.next_sequence();
        publisher.push(Stamp { sequence, ..Stamp::default() }, sequence);
    };
    push(&mut publisher);
    push(&mut publisher);
    let mut live = subscribe(&hub, OverflowPolicy::Block, 1);
    let mut back = hub
        .subscribe(SubscribeOptions {
            overflow: OverflowPolicy::Block,
            buffer: 1,
            start: Start::Back(2),
            ..SubscribeOptions::default()
        })
        .unwrap();
    assert!(publisher.has_room(1));
    push(&mut publisher);
    publisher.flush();
    assert!(publisher.has_room(1));
    send(&mut publisher);
    assert_eq!(live.try_recv_at(Timestamp::default()).unwrap().item.value, 3);
    assert_eq!(
        (0..3).map(|_| back.try_recv_at(Timestamp::default()).unwrap().item.value).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!((live.stats().snapshot().lost.total(), back.stats().snapshot().lost.total()), (0, 0));
}

/// Consumers join and leave on other threads while items flow. A steady consumer loses nothing.
#[test]
fn joining_and_leaving_does_not_disturb_the_flow() {
    const ITEMS: u64 = 20_000;
    ends(|| {
        let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 8, ..waiting() });
        let mut steady = subscribe(&hub, OverflowPolicy::Block, 4);
        let producer = thread::spawn(move || {
            while publisher.next_sequence() < ITEMS {
                while !publisher.has_room(1) {
                    thread::yield_now();
                }
                send(&mut publisher);
            }
            publisher.finish(EndReason::Finished);
        });
        let guests: Vec<_> = OverflowPolicy::ALL
            .iter()
            .map(|&overflow| {
                let hub = hub.clone();
                thread::spawn(move || {
                    let mut visits = 0;
                    while let Ok(mut guest) = hub.subscribe(SubscribeOptions {
                        overflow,
                        buffer: 2,
                        start: Start::Back(visits % 8),
                        ..SubscribeOptions::default()
                    }) {
                        for _ in 0..visits % 5 {
                            if guest.recv().is_err() {
                                break;
                            }
                        }
                        let snapshot = guest.stats().snapshot();
                        assert_eq!(snapshot.offered, snapshot.delivered + snapshot.lost.total() + snapshot.queued);
                        assert!(overflow != OverflowPolicy::Block || snapshot.lost.total() == 0, "{snapshot:?}");
                        visits += 1;
                    }
                    visits
                })
            })
            .collect();
        for number in 0..ITEMS {
            let delivery = steady.recv().unwrap();
            assert_eq!((delivery.item.value, delivery.gap), (number, None));
        }
        assert_eq!(steady.recv().unwrap_err().gap, None);
        producer.join().unwrap();
        for guest in guests {
            assert!(guest.join().unwrap() > 0);
        }
    });
}

/// A subscription beside the end is refused, or receives its history and the end of a stream that finished.
#[test]
fn a_subscription_beside_the_end_is_refused_or_complete() {
    const ROUNDS: u32 = 20_000;
    let refused = ends(|| {
        let mut refused = 0;
        for round in 0..ROUNDS {
            let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 4, ..PublisherOptions::default() });
            (0..4).for_each(|_| send(&mut publisher));
            let begin = Arc::new(AtomicBool::new(false));
            let begun = Arc::clone(&begin);
            let joins = thread::spawn(move || {
                while !begun.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                (0..round % 400).for_each(|_| std::hint::spin_loop());
                hub.subscribe(SubscribeOptions { start: Start::Back(4), ..SubscribeOptions::default() })
            });
            begin.store(true, Ordering::Release);
            (0..200).for_each(|_| std::hint::spin_loop());
            publisher.finish(EndReason::Finished);
            match joins.join().unwrap() {
                Ok(mut consumer) => {
                    let received = std::iter::from_fn(|| consumer.recv().ok()).map(|delivery| delivery.item.value);
                    assert_eq!(received.collect::<Vec<_>>(), [0, 1, 2, 3], "round {round}");
                    assert_eq!(consumer.recv().unwrap_err().reason, EndReason::Finished, "round {round}");
                }
                Err(error) => {
                    assert_eq!(error, SubscribeError::Ended);
                    refused += 1;
                }
            }
        }
        refused
    });
    assert!((1..ROUNDS).contains(&refused), "{refused} of {ROUNDS} were refused: the two never met");
}

#[test]
fn a_value_for_the_history_keeps_the_order_of_a_begun_batch() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 8, ..PublisherOptions::default() });
    let stamp = |sequence| Stamp { sequence, ..Stamp::default() };
    publisher.push(stamp(5), 5);
    publisher.remember(stamp(6), 6);
    publisher.push(stamp(7), 7);
    publisher.flush();
    let from_five = SubscribeOptions { start: Start::From(5), ..SubscribeOptions::default() };
    let mut consumer = hub.subscribe(from_five).unwrap();
    publisher.finish(EndReason::Finished);
    let received = std::iter::from_fn(|| consumer.recv().ok()).map(|delivery| (delivery.item.value, delivery.gap));
    assert_eq!(received.collect::<Vec<_>>(), [(5, None), (6, None), (7, None)]);
}

#[test]
fn a_ring_is_not_longer_than_the_limit() {
    let (_publisher, hub) =
        Publisher::<u64>::new(PublisherOptions { history: usize::MAX, live: false, ..Default::default() });
    for &overflow in OverflowPolicy::ALL {
        for buffer in [usize::MAX, 1 << 63, (1 << 24) + 1] {
            let refused = hub.subscribe(options(overflow, buffer)).unwrap_err();
            assert!(matches!(refused, SubscribeError::TooLong { .. }), "{overflow}, {buffer}: {refused}");
        }
        let from_start = SubscribeOptions { start: Start::From(0), ..options(overflow, 1) };
        assert!(matches!(hub.subscribe(from_start), Err(SubscribeError::TooLong { .. })), "a history without end");
    }
    assert_eq!(
        hub.subscribe(options(OverflowPolicy::SkipToLive, 1 << 24)).unwrap_err().to_string(),
        "a ring of 33554432 blocks is refused: more than 16777216 (choose a shorter buffer, or a later start)"
    );
    let mut shortest = hub.subscribe(options(OverflowPolicy::DropNewest, 0)).unwrap();
    assert_eq!(shortest.try_recv_at(Timestamp::default()), Err(TryRecvError::Empty));
}

/// A producer that waits for room for more items than a ring holds goes on once the ring is empty.
#[test]
fn room_for_more_than_a_ring_is_an_empty_ring() {
    let (mut publisher, hub) = Publisher::new(waiting());
    let mut consumer = subscribe(&hub, OverflowPolicy::Block, 4);
    assert!(publisher.has_room(8) && publisher.has_room(usize::MAX));
    send(&mut publisher);
    assert!(publisher.has_room(3) && !publisher.has_room(4) && !publisher.has_room(8));
    consumer.try_recv_at(Timestamp::default()).unwrap();
    assert!(publisher.has_room(8));
    // A batch counts: where it fills the ring, nothing more fits.
    for sequence in 1..5 {
        assert!(publisher.has_room(1));
        publisher.push(Stamp { sequence, ..Stamp::default() }, sequence);
    }
    assert!(!publisher.has_room(1) && !publisher.has_room(usize::MAX));
    publisher.flush();
    assert_eq!(consumer.stats().snapshot().lost.total(), 0);
}

#[test]
fn send_waits_for_a_consumer_that_blocks() {
    let lost = ends(|| {
        let (mut publisher, hub) = Publisher::new(waiting());
        let mut consumer = subscribe(&hub, OverflowPolicy::Block, 4);
        let producer = thread::spawn(move || {
            (0..50).for_each(|_| send(&mut publisher));
            publisher.finish(EndReason::Finished);
        });
        while consumer.recv().is_ok() {
            thread::yield_now();
        }
        producer.join().unwrap();
        consumer.stats().snapshot().lost.total()
    });
    assert_eq!(lost, 0);
}

/// A consumer so late that even the newest item in its ring is stale has nothing to take: it is not ready.
#[test]
fn ready_means_that_an_item_or_the_end_is_there() {
    let mut context = Context::from_waker(Waker::noop());
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::SkipToLive, 2);
    (0..100).for_each(|_| send(&mut publisher));
    assert_eq!(consumer.poll_ready(&mut context), Poll::Pending, "all 4 items in the ring are stale");
    (0..2).for_each(|_| send(&mut publisher));
    assert_eq!(consumer.poll_ready(&mut context), Poll::Ready(()));
    // What was promised is delivered, even if the ring overflows before it is taken.
    (0..100).for_each(|_| send(&mut publisher));
    let taken = consumer.try_recv_at(Timestamp::default()).unwrap();
    assert_eq!((taken.item.value, taken.gap.unwrap().items), (103, 103));
    assert_eq!(consumer.poll_ready(&mut context), Poll::Pending);
    publisher.finish(EndReason::Finished);
    assert_eq!(consumer.poll_ready(&mut context), Poll::Ready(()));
    assert!(matches!(consumer.try_recv_at(Timestamp::default()), Err(TryRecvError::Ended(_))));
}

/// A look whether an item is there takes none: the next one taken is the newest, and those before it are counted.
#[test]
fn a_look_at_the_newest_item_loses_nothing() {
    let mut context = Context::from_waker(Waker::noop());
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::Latest, 1);
    send(&mut publisher);
    assert_eq!(consumer.poll_ready(&mut context), Poll::Ready(()));
    (0..2).for_each(|_| send(&mut publisher));
    assert_eq!(consumer.poll_ready(&mut context), Poll::Ready(()));
    let received = std::iter::from_fn(|| consumer.try_recv_at(Timestamp::default()).ok());
    assert_eq!(received.map(|delivery| delivery.item.value).collect::<Vec<_>>(), [2]);
    let account = consumer.stats().snapshot();
    assert_eq!((account.offered, account.delivered, account.lost.total(), account.queued), (3, 1, 2, 0));
}

#[test]
fn a_forgotten_batch_counts_as_delivered_once() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 4);
    let now = Timestamp::default();
    (0..4).for_each(|_| send(&mut publisher));
    std::mem::forget(consumer.try_recv_batch(now, 3).unwrap());
    let account = consumer.stats().snapshot();
    assert_eq!((account.delivered, account.queued, consumer.queued_items()), (3, 1, 1));
    let next = consumer.try_recv_at(now).unwrap();
    assert_eq!((next.item.value, next.gap), (3, None));
    (0..4).for_each(|_| send(&mut publisher));
    assert_eq!(consumer.stats().snapshot().lost.total(), 0, "its slots are free");
    std::mem::forget(consumer.try_recv_batch(now, usize::MAX).unwrap());
    assert_eq!(consumer.try_recv_at(now), Err(TryRecvError::Empty));
    assert_eq!(consumer.stats().snapshot().delivered, 8);
}

#[test]
fn a_number_above_the_highest_is_clamped_or_refused() {
    let (mut publisher, hub) = Publisher::<u64>::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::SkipToLive, 4);
    publisher.consumers();
    publisher.advance_to(u64::MAX);
    assert_eq!(publisher.next_sequence(), u64::MAX >> 6);
    publisher.finish(EndReason::Finished);
    assert_eq!(consumer.recv().unwrap_err().gap.unwrap().items, u64::MAX >> 6);
}

#[test]
fn a_consumer_that_left_before_it_was_admitted_is_removed() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    drop(subscribe(&hub, OverflowPolicy::DropNewest, 8));
    // Looks for consumers that left first, and then admits the new one.
    publisher.send(0_u64, Timestamp::default());
    assert_eq!(publisher.consumers(), 0);
}

/// A value that counts how many of its kind live.
struct Counted {
    number: u64,
    _living: Arc<()>,
}

struct Census(Arc<()>);

impl Census {
    fn new() -> Self {
        Self(Arc::new(()))
    }

    fn send(&self, publisher: &mut Publisher<Counted>) {
        let number = publisher.next_sequence();
        publisher.send(Counted { number, _living: Arc::clone(&self.0) }, Timestamp::default());
    }

    fn living(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Takes all queued items.
fn drain(consumer: &mut Consumer<Counted>) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Ok(batch) = consumer.try_recv_batch(Timestamp::default(), usize::MAX) {
        numbers.extend(batch.iter().map(|item| item.value.number));
    }
    numbers
}

/// Most items beyond those in rings that a fan-out without a history keeps: it looks for such every 64.
const MAX_UNRECLAIMED: usize = 64 + 1;

#[test]
fn a_consumer_that_stands_still_holds_the_items_in_its_ring_only() {
    for overflow in
        [OverflowPolicy::DropNewest, OverflowPolicy::SkipToLive, OverflowPolicy::Disconnect, OverflowPolicy::Latest]
    {
        let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
        let mut frozen = subscribe(&hub, overflow, 8);
        let mut healthy = subscribe(&hub, OverflowPolicy::Disconnect, 8);
        let census = Census::new();
        for number in 0..1000 {
            census.send(&mut publisher);
            assert_eq!(drain(&mut healthy), [number]);
            assert!(census.living() <= 16 + MAX_UNRECLAIMED, "{overflow}: {} after {number}", census.living());
        }
        let held = drain(&mut frozen);
        // One that skips to live finds all of them stale.
        assert!(overflow == OverflowPolicy::SkipToLive || !held.is_empty(), "{overflow}: nothing was kept");
        assert!(held.windows(2).all(|pair| pair[1] == pair[0] + 1), "{overflow}: {held:?}");
        assert!(healthy.stats().snapshot().lost.total() == 0);
    }
}

#[test]
fn a_consumer_that_keeps_up_late_holds_back_a_ring_at_most() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut late = subscribe(&hub, OverflowPolicy::Disconnect, 100);
    let census = Census::new();
    for number in 0..5000 {
        census.send(&mut publisher);
        if number % 90 == 0 {
            drain(&mut late);
        }
        assert!(census.living() <= 100 + MAX_UNRECLAIMED, "{} after {number}", census.living());
    }
    assert_eq!(late.stats().snapshot().lost.total(), 0);
}

/// The items in a ring that has refused some are kept apart from the others, until it was empty once.
#[test]
fn a_ring_that_refused_items_goes_on_with_the_right_ones() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 4);
    let census = Census::new();
    let mut owed = std::collections::VecDeque::new();
    for round in 0..1000_u64 {
        for _ in 0..round % 7 {
            if owed.len() < 4 {
                owed.push_back(publisher.next_sequence());
            }
            census.send(&mut publisher);
        }
        for _ in 0..round % 5 {
            let taken = consumer.try_recv_at(Timestamp::default()).ok().map(|delivery| delivery.item.value.number);
            assert_eq!(taken, owed.pop_front(), "in round {round}");
        }
        assert!(census.living() <= 4 + MAX_UNRECLAIMED, "{} in round {round}", census.living());
    }
}

#[test]
fn values_for_the_history_are_not_kept_for_consumers() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumers =
        [subscribe(&hub, OverflowPolicy::DropNewest, 4), subscribe(&hub, OverflowPolicy::DropNewest, 4)];
    let census = Census::new();
    census.send(&mut publisher);
    drain(&mut consumers[0]);
    for sequence in 1..1000 {
        publisher.remember(
            Stamp { sequence, ..Stamp::default() },
            Counted { number: sequence, _living: Arc::clone(&census.0) },
        );
    }
    assert!(census.living() <= 4 + MAX_UNRECLAIMED, "{}", census.living());
    census.send(&mut publisher);
    assert_eq!(consumers.each_mut().map(drain), [vec![1000], vec![0, 1000]]);
}

#[test]
fn items_outlive_their_producer() {
    for is_finished in [true, false] {
        let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 2, ..PublisherOptions::default() });
        let mut full = subscribe(&hub, OverflowPolicy::DropNewest, 3);
        let mut half = subscribe(&hub, OverflowPolicy::DropNewest, 9);
        let census = Census::new();
        (0..6).for_each(|_| census.send(&mut publisher));
        let batch = half.try_recv_batch(Timestamp::default(), 4).unwrap();
        let kept = batch.iter().nth(3).map(Arc::clone).unwrap();
        let back = hub.subscribe(SubscribeOptions { start: Start::Back(2), ..SubscribeOptions::default() }).unwrap();
        if is_finished {
            publisher.finish(EndReason::Finished);
        } else {
            drop(publisher);
        }
        // The batch was taken before the end, and is read after it.
        assert!(batch.iter().map(|item| item.value.number).eq(0..4));
        drop(batch);
        assert_eq!((drain(&mut full), drain(&mut half)), (vec![0, 1, 2], vec![4, 5]));
        let mut back = back;
        assert_eq!(drain(&mut back), if is_finished { vec![4, 5] } else { vec![] });
        assert_eq!((census.living(), kept.value.number), (1, 3), "all else is freed with the end");
    }
}

#[test]
fn a_batch_outlives_the_close_of_its_consumer() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 8);
    let census = Census::new();
    (0..5).for_each(|_| census.send(&mut publisher));
    let stats = Arc::clone(consumer.stats());
    let batch = consumer.try_recv_batch(Timestamp::default(), 3).unwrap();
    stats.close();
    (0..200).for_each(|_| census.send(&mut publisher));
    assert_eq!(publisher.consumers(), 0);
    drop(publisher);
    assert!(batch.iter().map(|item| item.value.number).eq(0..3));
    drop(batch);
    drop(consumer);
    assert_eq!(census.living(), 0);
}
