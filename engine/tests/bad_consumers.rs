//! Consumers that are leaked, forget what they took, are dropped on another thread, or go on after the end; and rings of
//! impossible lengths. Whatever they do, each item is delivered or counted as lost, and nothing hangs.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

#[path = "common/ends.rs"]
mod ends;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use aircheck_engine::source::Tone;
use aircheck_engine::{
    Consumer, EndReason, Hub, OverflowPolicy, Publisher, PublisherOptions, Stamp, Start, Stream, StreamOptions,
    SubscribeError, SubscribeOptions, Timestamp, TryRecvError,
};
use ends::ends;

const NOW: Timestamp = Timestamp::from_nanos(1_790_000_000_000_000_000);

fn waiting() -> PublisherOptions {
    PublisherOptions { live: false, ..PublisherOptions::default() }
}

fn options(overflow: OverflowPolicy, buffer: usize) -> SubscribeOptions {
    SubscribeOptions { overflow, buffer, ..SubscribeOptions::default() }
}

fn subscribe(hub: &Hub<u64>, overflow: OverflowPolicy, buffer: usize) -> Consumer<u64> {
    hub.subscribe(options(overflow, buffer)).unwrap()
}

/// Sends items whether there is room or not.
fn send(publisher: &mut Publisher<u64>, items: u64) {
    for _ in 0..items {
        let sequence = publisher.next_sequence();
        publisher.push(Stamp { sequence, captured_at: NOW, dispatched_at: NOW, preceding: 0 }, sequence);
        publisher.flush();
    }
}

#[derive(Default)]
struct Wakes(AtomicU64);

impl Wakes {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Asserts that all that the consumer was offered is somewhere.
fn assert_identity(consumer: &Consumer<u64>, offered: u64) {
    let account = consumer.stats().snapshot();
    assert_eq!(account.offered, offered, "{account:?}");
    assert_eq!(account.offered, account.delivered + account.lost.total() + account.queued, "{account:?}");
}

#[test]
fn a_leaked_consumer_holds_no_more_than_its_ring_and_disturbs_no_other() {
    for &overflow in OverflowPolicy::ALL {
        let (mut publisher, hub) = Publisher::new(waiting());
        let leaked = subscribe(&hub, overflow, 8);
        let stats = Arc::clone(leaked.stats());
        mem::forget(leaked);
        let mut healthy = subscribe(&hub, OverflowPolicy::DropNewest, 4);
        for item in 0..1000 {
            send(&mut publisher, 1);
            let delivery = healthy.try_recv_at(NOW).unwrap();
            assert_eq!((delivery.item.value, delivery.gap), (item, None), "{overflow}");
        }
        let account = stats.snapshot();
        assert!(account.queued <= 16 && account.delivered == 0, "{overflow}: {account:?}");
        assert_eq!(account.offered, account.queued + account.lost.total(), "{overflow}");
        if overflow == OverflowPolicy::Disconnect {
            assert_eq!((stats.end_reason(), account.offered), (Some(EndReason::TooSlow), 9));
        } else {
            assert_eq!((stats.end_reason(), account.offered), (None, 1000), "{overflow}");
        }
        assert_eq!(publisher.has_room(1), overflow != OverflowPolicy::Block, "a source waits for it if it promised to");
        // Anybody may end what nobody has any more.
        stats.close();
        assert!(publisher.has_room(1));
        assert_eq!(publisher.consumers(), 1, "{overflow}");
    }
}

/// Items that the publisher has not looked for yet: it does so after every 64.
const MAX_UNRECLAIMED: usize = 64 + 1;

#[test]
fn leaked_consumers_and_forgotten_batches_hold_the_items_of_their_rings_only() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let options = options(OverflowPolicy::DropNewest, 8);
    mem::forget(hub.subscribe(options).unwrap());
    let mut forgetful = hub.subscribe(options).unwrap();
    let item = Arc::new(());
    for number in 0..1000 {
        publisher.send(Arc::clone(&item), NOW);
        if number % 8 == 7 {
            mem::forget(forgetful.try_recv_batch(NOW, usize::MAX));
        }
        let living = Arc::strong_count(&item) - 1;
        assert!(living <= 2 * 8 + MAX_UNRECLAIMED, "{living} after {number}");
    }
}

/// A source that waits for a consumer that was leaked waits for ever, and can be stopped all the same.
#[test]
fn a_stream_that_waits_for_a_leaked_consumer_can_be_stopped() {
    ends(|| {
        let options = StreamOptions { live: false, await_consumers: 1, ..StreamOptions::default() };
        let stream = Stream::start(Box::new(Tone::new(440.0)), options).unwrap();
        let leaked = stream
            .subscribe(SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 4, ..SubscribeOptions::default() })
            .unwrap();
        let stats = Arc::clone(leaked.stats());
        mem::forget(leaked);
        while stats.snapshot().queued < 4 {
            thread::yield_now();
        }
        stream.stop();
        let account = stats.snapshot();
        assert_eq!((account.delivered, account.queued), (0, 4));
        assert_eq!(account.offered, account.queued + account.lost.total());
        assert_eq!(stats.end_reason(), Some(EndReason::Finished));
    });
}

/// A forgotten batch keeps its slots until the consumer looks again, also if it only asks whether something is there.
#[test]
fn a_consumer_that_forgets_what_it_took_and_then_waits_gets_the_next_item() {
    for overflow in
        [OverflowPolicy::Block, OverflowPolicy::DropNewest, OverflowPolicy::SkipToLive, OverflowPolicy::Disconnect]
    {
        for only_asks in [true, false] {
            let (mut publisher, hub) = Publisher::new(waiting());
            let mut consumer = subscribe(&hub, overflow, 4);
            send(&mut publisher, 4);
            mem::forget(consumer.try_recv_batch(NOW, usize::MAX).unwrap());
            assert_identity(&consumer, 4);
            let wakes = Arc::new(Wakes::default());
            let waker = Waker::from(Arc::clone(&wakes));
            let mut context = Context::from_waker(&waker);
            let is_pending = if only_asks {
                consumer.poll_ready(&mut context).is_pending()
            } else {
                consumer.poll_recv(&mut context, NOW).is_pending()
            };
            assert!(is_pending, "{overflow}");
            assert!(publisher.has_room(4), "{overflow}, only asks: {only_asks}: its slots are free");
            send(&mut publisher, 4);
            assert_eq!(wakes.count(), 1, "{overflow}");
            for item in 4..8 {
                let delivery = consumer.try_recv_at(NOW).unwrap();
                assert_eq!((delivery.item.value, delivery.gap), (item, None), "{overflow}, only asks: {only_asks}");
            }
            assert_identity(&consumer, 8);
            assert_eq!(consumer.stats().snapshot().lost.total(), 0, "{overflow}");
        }
    }
}

#[test]
fn a_consumer_that_forgets_everything_it_takes_loses_nothing_unseen() {
    const ITEMS: u64 = 3_000;
    for &overflow in OverflowPolicy::ALL {
        let (mut publisher, hub) = Publisher::new(waiting());
        let mut consumer = subscribe(&hub, overflow, 6);
        let (mut next, mut missing) = (0, 0);
        while publisher.next_sequence() < ITEMS {
            let items = 1 + publisher.next_sequence() % 5;
            send(&mut publisher, items);
            match consumer.try_recv_batch(NOW, 3) {
                Ok(run) => {
                    missing += run.gap.map_or(0, |gap| gap.items);
                    let items: Vec<u64> = run.iter().map(|item| item.value).collect();
                    assert_eq!(items[0], next + run.gap.map_or(0, |gap| gap.items), "{overflow}");
                    next = items[0] + items.len() as u64;
                    mem::forget(run);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Ended(end)) => {
                    assert_eq!((overflow, end.reason), (OverflowPolicy::Disconnect, EndReason::TooSlow));
                    break;
                }
            }
            assert_identity(
                &consumer,
                if overflow == OverflowPolicy::Disconnect {
                    consumer.stats().snapshot().offered
                } else {
                    publisher.next_sequence()
                },
            );
        }
        publisher.finish(EndReason::Finished);
        let end = loop {
            match consumer.try_recv_at(NOW) {
                Ok(delivery) => missing += delivery.gap.map_or(0, |gap| gap.items),
                Err(TryRecvError::Ended(end)) => break end,
                Err(TryRecvError::Empty) => {}
            }
        };
        missing += end.gap.map_or(0, |gap| gap.items);
        let account = consumer.stats().snapshot();
        assert_eq!((account.lost.total(), account.queued), (missing, 0), "{overflow}: {account:?}");
    }
}

/// The producer goes on while consumers are dropped on other threads: with items in the ring, while they wait, and before
/// they are admitted.
#[test]
fn a_consumer_may_be_dropped_on_another_thread() {
    ends(|| {
        for &overflow in OverflowPolicy::ALL {
            for items in [0, 3, 100] {
                for waits in [true, false] {
                    let (mut publisher, hub) = Publisher::new(waiting());
                    let mut consumer = subscribe(&hub, overflow, 4);
                    let unadmitted = overflow == OverflowPolicy::Latest && items == 0;
                    if !unadmitted {
                        publisher.consumers();
                    }
                    let wakes = Arc::new(Wakes::default());
                    if waits {
                        let waker = Waker::from(Arc::clone(&wakes));
                        assert!(consumer.poll_recv(&mut Context::from_waker(&waker), NOW).is_pending());
                    }
                    let stats = Arc::clone(consumer.stats());
                    let drops = thread::spawn(move || drop(consumer));
                    send(&mut publisher, items);
                    drops.join().unwrap();
                    assert_eq!(publisher.consumers(), 0, "{overflow}");
                    // A new consumer is no worse off for it.
                    let mut next = subscribe(&hub, OverflowPolicy::DropNewest, 1);
                    publisher.consumers();
                    send(&mut publisher, 1);
                    assert_eq!(next.try_recv_at(NOW).unwrap().item.value, items);
                    let account = stats.snapshot();
                    assert_eq!(account.offered, account.delivered + account.lost.total() + account.queued);
                    let too_slow =
                        overflow == OverflowPolicy::Disconnect && stats.end_reason() == Some(EndReason::TooSlow);
                    assert!(stats.end_reason() == Some(EndReason::Left) || too_slow && items > 4);
                }
            }
        }
    });
}

/// A consumer is not bound to the thread that subscribed: each item is taken on another one here.
#[test]
fn a_consumer_may_change_its_thread_with_each_item() {
    ends(|| {
        let (mut publisher, hub) = Publisher::new(waiting());
        let mut consumer = subscribe(&hub, OverflowPolicy::Block, 2);
        let producer = thread::spawn(move || {
            for item in 0..200 {
                publisher.send(item, NOW);
            }
            publisher.finish(EndReason::Finished);
        });
        for item in 0..200 {
            consumer = thread::spawn(move || {
                let delivery = consumer.recv().unwrap();
                assert_eq!((delivery.item.value, delivery.gap), (item, None));
                consumer
            })
            .join()
            .unwrap();
        }
        assert_eq!(consumer.recv().unwrap_err().reason, EndReason::Finished);
        producer.join().unwrap();
    });
}

/// Whatever a consumer asks after its end, the answer is the end that it was told first, and no count moves.
#[test]
fn a_consumer_that_goes_on_after_the_end_is_told_the_same_end() {
    ends(|| {
        for &overflow in OverflowPolicy::ALL {
            for reason in [EndReason::Finished, EndReason::Failed, EndReason::Closed, EndReason::Abandoned] {
                let (mut publisher, hub) = Publisher::new(waiting());
                let mut consumer = subscribe(&hub, overflow, 4);
                send(&mut publisher, 3);
                publisher.advance_to(10);
                match reason {
                    EndReason::Closed => consumer.stats().close(),
                    EndReason::Abandoned => drop(publisher),
                    reason => publisher.finish(reason),
                }
                let end = loop {
                    match consumer.try_recv_at(NOW) {
                        Err(TryRecvError::Ended(end)) => break end,
                        received => assert!(received.is_ok(), "{overflow}: {received:?}"),
                    }
                };
                assert_eq!(end.reason, reason, "{overflow}");
                let counts = |consumer: &Consumer<u64>| {
                    let stats = consumer.stats();
                    let histograms = [stats.lag_items(), stats.gap_items(), stats.queue_micros()];
                    (stats.snapshot(), histograms.map(|histogram| histogram.summary().map_or(0, |all| all.count)))
                };
                let before = counts(&consumer);
                let ended = Err(TryRecvError::Ended(end));
                for _ in 0..3 {
                    let wakes = Arc::new(Wakes::default());
                    let waker = Waker::from(Arc::clone(&wakes));
                    let mut context = Context::from_waker(&waker);
                    assert_eq!(consumer.poll_ready(&mut context), Poll::Ready(()));
                    assert_eq!(consumer.try_recv_at(NOW), ended);
                    assert_eq!(consumer.try_recv_at(Timestamp::default()), ended);
                    assert_eq!(consumer.try_recv_batch(NOW, 0).map(drop), ended.clone().map(drop));
                    assert_eq!(consumer.try_recv_batch(NOW, usize::MAX).map(drop), ended.clone().map(drop));
                    assert_eq!(consumer.poll_recv(&mut context, NOW), Poll::Ready(Err(end)));
                    assert_eq!(consumer.recv(), Err(end));
                    assert_eq!(consumer.recv_timeout(Duration::ZERO), ended);
                    assert_eq!(consumer.recv_timeout(Duration::MAX), ended);
                    consumer.skip_to_newest();
                    assert_eq!(consumer.try_recv_at(NOW), ended);
                    consumer.stats().close();
                    assert_eq!(consumer.try_recv_at(NOW), ended, "it had ended before it was closed");
                    assert_eq!(wakes.count(), 0);
                }
                assert_eq!(counts(&consumer), before, "{overflow}, {reason:?}");
                assert_eq!(consumer.stats().end_reason(), Some(reason));
            }
        }
    });
}

/// Polled before the fan-out has admitted it, a consumer waits and is woken.
#[test]
fn a_consumer_that_is_polled_too_early_waits() {
    for &overflow in OverflowPolicy::ALL {
        let (mut publisher, hub) = Publisher::new(waiting());
        let mut consumer = subscribe(&hub, overflow, 4);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        consumer.skip_to_newest();
        assert!(consumer.poll_ready(&mut context).is_pending());
        assert_eq!(consumer.try_recv_batch(NOW, usize::MAX).map(drop), Err(TryRecvError::Empty));
        assert_eq!(consumer.recv_timeout(Duration::ZERO), Err(TryRecvError::Empty));
        assert_eq!((consumer.queued_items(), consumer.stats().snapshot().offered), (0, 0));
        assert!(consumer.poll_recv(&mut context, NOW).is_pending());
        send(&mut publisher, 1);
        assert_eq!(wakes.count(), 1, "{overflow}");
        assert_eq!(consumer.try_recv_at(NOW).unwrap().item.value, 0);
        publisher.finish(EndReason::Finished);
        assert_eq!(hub.subscribe(options(overflow, 4)).unwrap_err(), SubscribeError::Ended);
    }
}

/// Rings of zero blocks are rings of one. Items may stand for any number of blocks, and the history may be of any length:
/// what is too long for memory is refused, and nothing overflows.
#[test]
fn rings_groups_and_histories_of_any_length_work_or_are_refused() {
    for group in [0, 1, 7, 1 << 24, u32::MAX as usize, 1 << 40, usize::MAX] {
        for history in [0, 1, 1 << 20, 1 << 40, usize::MAX] {
            for &overflow in OverflowPolicy::ALL {
                for buffer in [0, 1, 3, 1 << 23, usize::MAX] {
                    for start in
                        [Start::Live, Start::Back(2), Start::Back(u64::MAX), Start::From(0), Start::From(u64::MAX)]
                    {
                        let (mut publisher, hub) = Publisher::new(PublisherOptions { group, history, ..waiting() });
                        send(&mut publisher, 2);
                        let what = format!("{overflow}, ring {buffer}, items of {group}, history {history}, {start:?}");
                        let mut consumer = match hub.subscribe(SubscribeOptions { start, ..options(overflow, buffer) })
                        {
                            Ok(consumer) => consumer,
                            Err(SubscribeError::TooLong { blocks, limit }) => {
                                assert!(blocks > limit && limit == 1 << 24, "{what}");
                                continue;
                            }
                            Err(error) => panic!("{what}: {error}"),
                        };
                        publisher.consumers();
                        let first = consumer.stats().snapshot().first_sequence;
                        while consumer.try_recv_at(NOW).is_ok() {}
                        assert!(publisher.has_room(1) && publisher.has_room(usize::MAX), "{what}");
                        send(&mut publisher, 1);
                        assert_eq!(consumer.try_recv_at(NOW).unwrap().item.value, 2, "{what}");
                        let account = consumer.stats().snapshot();
                        assert_eq!(account.offered, 3 - first, "{what}");
                        assert_eq!(account.offered, account.delivered + account.lost.total(), "{what}");
                    }
                }
            }
        }
    }
}

/// Items as long as they may be, in a ring that is counted in blocks.
#[test]
fn an_item_of_four_billion_blocks_is_counted_in_full() {
    const BLOCKS: u64 = 1 << 32;
    for &overflow in OverflowPolicy::ALL {
        let (mut publisher, hub) = Publisher::new(PublisherOptions { group: usize::MAX, ..waiting() });
        let mut consumer = subscribe(&hub, overflow, 8);
        for number in 1..=30 {
            let stamp =
                Stamp { sequence: number * BLOCKS - 1, preceding: u32::MAX, captured_at: NOW, dispatched_at: NOW };
            publisher.push(stamp, number);
            publisher.flush();
        }
        let mut missing = 0;
        while let Ok(delivery) = consumer.try_recv_at(NOW) {
            missing += delivery.gap.map_or(0, |gap| gap.items);
        }
        let account = consumer.stats().snapshot();
        assert_eq!(account.offered, account.delivered + account.lost.total(), "{overflow}: {account:?}");
        assert!(account.offered.is_multiple_of(BLOCKS) && missing <= account.lost.total(), "{overflow}: {account:?}");
        assert!(consumer.stats().end_reason().is_some() || account.offered == 30 * BLOCKS, "{overflow}: {account:?}");
    }
}
