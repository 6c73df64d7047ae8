//! Sending to consumers that the producer waits for: on a thread, and in async code.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

#[path = "common/ends.rs"]
mod ends;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;

use aircheck_engine::{
    Consumer, EndReason, Hub, OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp, TryRecvError,
    TrySendError,
};
use ends::ends;
use futures_executor::block_on;

const ITEMS: u64 = 20_000;

fn waiting() -> (Publisher<u64>, Hub<u64>) {
    Publisher::new(PublisherOptions { live: false, ..PublisherOptions::default() })
}

fn subscribe(hub: &Hub<u64>) -> Consumer<u64> {
    let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 4, ..SubscribeOptions::default() };
    hub.subscribe(options).unwrap()
}

/// Takes all items in the given way, and checks that none is missing.
fn read(mut consumer: Consumer<u64>, takes_batches: bool) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut next = 0;
        if takes_batches {
            loop {
                match consumer.try_recv_batch(Timestamp::default(), usize::MAX) {
                    Ok(batch) => next += batch.items() as u64,
                    Err(TryRecvError::Empty) => thread::yield_now(),
                    Err(_) => break,
                }
            }
        } else {
            for delivery in &mut consumer {
                assert_eq!((delivery.item.value, delivery.gap), (next, None));
                next += 1;
            }
        }
        assert_eq!((next, consumer.stats().snapshot().lost.total()), (ITEMS, 0));
    })
}

/// A wake-up that is lost hangs the test.
#[test]
fn a_waiting_producer_is_woken_by_every_kind_of_reader() {
    for (takes_batches, is_async) in [(false, false), (false, true), (true, false), (true, true)] {
        ends(move || {
            let (mut publisher, hub) = waiting();
            let readers = [read(subscribe(&hub), takes_batches), read(subscribe(&hub), false)];
            for item in 0..ITEMS {
                if is_async {
                    block_on(publisher.send_async(item));
                } else {
                    publisher.send(item, Timestamp::default());
                }
            }
            publisher.finish(EndReason::Finished);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }
}

/// Each of them would hang the producer, if it were not woken.
#[test]
fn a_waiting_producer_goes_on_without_a_consumer_that_leaves_or_is_closed() {
    let leave: [fn(Consumer<u64>); 2] = [drop, |consumer| {
        consumer.stats().close();
        // Only the close can wake it.
        std::mem::forget(consumer);
    }];
    for leave in leave {
        ends(move || {
            let (mut publisher, hub) = waiting();
            let consumer = subscribe(&hub);
            let reader = thread::spawn(move || {
                // From here on, the producer can only wait.
                while consumer.queued_items() < 4 {
                    thread::yield_now();
                }
                leave(consumer);
            });
            for item in 0..10 {
                publisher.send(item, Timestamp::default());
            }
            reader.join().unwrap();
            assert_eq!(publisher.consumers(), 0);
        });
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

/// A batch keeps its slots until it is dropped.
#[test]
fn the_end_of_a_batch_wakes_a_waiting_producer() {
    let (mut publisher, hub) = waiting();
    let mut consumer = subscribe(&hub);
    (0..4).for_each(|item| publisher.send(item, Timestamp::default()));
    let batch = consumer.try_recv_batch(Timestamp::default(), usize::MAX).unwrap();
    assert_eq!(batch.items(), 4);
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(publisher.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    drop(batch);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(publisher.poll_ready(&mut Context::from_waker(&waker)).is_ready());
}

/// The slots of a forgotten batch are free from the next look on, whether that finds another item or not.
#[test]
fn the_look_after_a_forgotten_batch_wakes_a_waiting_producer() {
    let looks: [fn(&mut Consumer<u64>); 2] = [
        |consumer| assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty)),
        |consumer| assert!(consumer.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending()),
    ];
    for look in looks {
        let (mut publisher, hub) = waiting();
        let mut consumer = subscribe(&hub);
        (0..4).for_each(|item| publisher.send(item, Timestamp::default()));
        std::mem::forget(consumer.try_recv_batch(Timestamp::default(), usize::MAX).unwrap());
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(publisher.poll_ready(&mut Context::from_waker(&waker)).is_pending());
        look(&mut consumer);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(publisher.poll_ready(&mut Context::from_waker(&waker)).is_ready());
    }
}

/// Otherwise it would not be admitted until the consumer that the producer waits for reads again.
#[test]
fn a_new_consumer_wakes_a_waiting_producer() {
    let (mut publisher, hub) = waiting();
    let _frozen = subscribe(&hub);
    (0..4).for_each(|item| publisher.send(item, Timestamp::default()));
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(publisher.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    let late = subscribe(&hub);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(publisher.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    assert!(late.stats().is_attached());
}

#[test]
fn a_refused_value_comes_back() {
    let (mut publisher, hub) = waiting();
    let mut consumer = subscribe(&hub);
    let sent = (0..6).map(|item| publisher.try_send(item, Timestamp::default())).filter(Result::is_ok).count();
    assert_eq!(sent, 4);
    assert_eq!(publisher.try_send(9, Timestamp::default()), Err(TrySendError(9)));
    assert_eq!(consumer.try_recv().unwrap().item.value, 0);
    assert_eq!(publisher.try_send(9, Timestamp::default()), Ok(()));
}
