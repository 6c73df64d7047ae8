//! Every way to receive yields the same items, gaps and end.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

#[path = "common/ends.rs"]
mod ends;

use aircheck_engine::{Consumer, Delivery, EndReason, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
use ends::ends;
use futures_executor::{block_on, block_on_stream};

/// A consumer with five items, of which two numbers are missing before the fourth, and one before the end.
fn consumer() -> Consumer<u64> {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let consumer = hub.subscribe(SubscribeOptions::default()).unwrap();
    for item in 0..5 {
        if item == 3 {
            publisher.advance_to(5);
        }
        publisher.send(item, Timestamp::default());
    }
    publisher.advance_to(8);
    publisher.finish(EndReason::Finished);
    consumer
}

fn seen(deliveries: impl Iterator<Item = Delivery<u64>>) -> Vec<(u64, u64)> {
    deliveries.map(|delivery| (delivery.item.value, delivery.gap.map_or(0, |gap| gap.items))).collect()
}

#[test]
fn every_way_yields_the_same() {
    type Way = fn(&mut Consumer<u64>) -> Vec<(u64, u64)>;
    let ways: [(&str, Way); 5] = [
        ("iter", |consumer| seen(consumer.iter())),
        ("try_iter", |consumer| seen(consumer.try_iter())),
        ("for", |consumer| seen(consumer.into_iter())),
        ("recv_async", |consumer| seen(std::iter::from_fn(|| block_on(consumer.recv_async()).ok()))),
        ("Stream", |consumer| seen(block_on_stream(consumer))),
    ];
    for (name, way) in ways {
        let mut consumer = consumer();
        assert_eq!(way(&mut consumer), [(0, 0), (1, 0), (2, 0), (3, 2), (4, 0)], "{name}");
        let end = consumer.end().unwrap();
        assert_eq!((end.reason, end.gap.map(|gap| gap.items)), (EndReason::Finished, Some(1)), "{name}");
        assert!(way(&mut consumer).is_empty(), "{name}: nothing comes after the end");
    }
    assert_eq!(consumer().into_iter().count(), 5);
}

/// An item that comes while the task waits wakes it.
#[test]
fn async_code_is_woken_by_another_thread() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = hub.subscribe(SubscribeOptions::default()).unwrap();
    let producer = std::thread::spawn(move || {
        for item in 0..1000 {
            publisher.send(item, Timestamp::default());
            if item % 100 == 0 {
                std::thread::yield_now();
            }
        }
        publisher.finish(EndReason::Finished);
    });
    let received = ends(move || {
        block_on(async {
            let mut received = 0;
            while let Ok(delivery) = consumer.recv_async().await {
                received += 1 + delivery.gap.map_or(0, |gap| gap.items);
            }
            received + consumer.end().and_then(|end| end.gap).map_or(0, |gap| gap.items)
        })
    });
    assert_eq!(received, 1000);
    producer.join().unwrap();
}
