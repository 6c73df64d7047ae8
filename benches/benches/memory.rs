//! Heap of one subscribed consumer, counted by the allocator.
//!
//! Measured on the fan-out that the server uses twice, with the default buffer and with each overflow policy: after the
//! consumer has subscribed, after it has waited, and after it has taken a thousand items. Their latencies are spread over
//! 5 ms, so that its histograms have counts to keep. Items are shared and not counted; a ring holds their handles.
//!
//! `-- latest` measures only that policy.

use std::alloc::System;
use std::time::Duration;

use aircheck_benches::{Arguments, Table, Target};
use aircheck_engine::{OverflowPolicy, Publisher, PublisherOptions, Stamp, SubscribeOptions, Timestamp, TryRecvError};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The mean of these is shown. A power of two, in which the fan-out's list of consumers grows.
const CONSUMERS: usize = 64;
const TARGET: Target = Target::AtMost(64.0);

/// Items that each consumer takes.
const ITEMS: u64 = 1000;
/// Their latencies are below this.
const MAX_LATENCY_MICROS: u64 = 5000;

fn main() {
    let policies =
        Arguments::read().choose(OverflowPolicy::ALL.iter().copied(), |overflow| overflow.label().to_owned());
    if policies.is_empty() {
        return;
    }
    let default = SubscribeOptions::default();
    println!("heap of one consumer, mean of {CONSUMERS}; default buffer of {} items\n", default.buffer);
    let mut table = Table::new(["overflow", "KiB", "KiB, has waited", "KiB, has taken 1000", "allocations", "target"]);
    for overflow in policies {
        table.row(row(SubscribeOptions { overflow, ..default }));
    }
    println!("{table}");
}

fn row(options: SubscribeOptions) -> [String; 6] {
    let (mut publisher, hub) = Publisher::<u64>::new(PublisherOptions { live: false, ..PublisherOptions::default() });
    let mut consumers = Vec::with_capacity(CONSUMERS);
    // The first item makes the fan-out's own lists grow, which is no consumer's heap.
    publisher.send(0, Timestamp::now());
    let region = Region::new(ALLOCATOR);
    consumers.extend((0..CONSUMERS).map(|_| hub.subscribe(options).expect("a running fan-out")));
    assert_eq!(publisher.consumers(), CONSUMERS);
    let subscribed = region.change();
    for consumer in &mut consumers {
        assert!(matches!(consumer.recv_timeout(Duration::ZERO), Err(TryRecvError::Empty)));
    }
    let waited = region.change();
    for item in 1..=ITEMS {
        let now = Timestamp::now();
        // The multiplier spreads them.
        let dispatched_at = now - Duration::from_micros(item * 37 % MAX_LATENCY_MICROS);
        publisher.push(Stamp { sequence: item, captured_at: dispatched_at, dispatched_at, preceding: 0 }, item);
        publisher.flush();
        for consumer in &mut consumers {
            assert!(consumer.try_recv_at(now).is_ok());
        }
    }
    let taken = region.change();
    let held = |stats: stats_alloc::Stats| {
        (stats.bytes_allocated - stats.bytes_deallocated) as f64 / CONSUMERS as f64 / 1024.0
    };
    [
        options.overflow.label().into(),
        format!("{:.1}", held(subscribed)),
        format!("{:.1}", held(waited)),
        format!("{:.1}", held(taken)),
        format!("{:.1}", taken.allocations as f64 / CONSUMERS as f64),
        TARGET.verdict(held(taken)),
    ]
}
