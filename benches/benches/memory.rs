//! What a subscribed consumer takes: bytes on the heap, counted by the allocator.
//!
//! Measured on the fan-out that the server uses twice, with its default buffer and once with each overflow policy.
//! The handles' items are shared and not counted; `item` is the size of the handle itself: 8 bytes for a block's
//! `Arc`, 32 for an encoded packet's `bytes::Bytes`.

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use aircheck_benches::{Table, Target};
use aircheck_engine::{Block, FanOut, FanOutOptions, Overflow, RecvError, SubscribeOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Consumers to take the mean of; the fan-out's list of them grows in powers of two.
const CONSUMERS: usize = 64;
const TARGET: Target = Target::AtMost(64.0);

/// As large as `bytes::Bytes`: pointer, length, owner and its functions.
type Packet = [usize; 4];

fn main() {
    let default = SubscribeOptions::default();
    println!("heap of one consumer, mean of {CONSUMERS}; default buffer of {} items\n", default.buffer);
    let mut table = Table::new(["overflow", "item", "KiB", "KiB, has waited", "allocations", "target"]);
    for overflow in Overflow::ALL {
        let options = SubscribeOptions { overflow, ..default };
        table.row(row::<Arc<Block>>(options));
        table.row(row::<Packet>(options));
    }
    println!("{table}");
}

fn row<T: Sync + Clone + Send>(options: SubscribeOptions) -> [String; 6] {
    let (mut fan_out, hub) = FanOut::<T>::new(FanOutOptions { live: false, ..FanOutOptions::default() });
    let mut consumers = Vec::with_capacity(CONSUMERS);
    let region = Region::new(ALLOCATOR);
    consumers.extend((0..CONSUMERS).map(|_| hub.subscribe(options).expect("a running fan-out")));
    assert_eq!(fan_out.consumers(), CONSUMERS);
    let subscribed = region.change();
    for consumer in &mut consumers {
        assert!(matches!(consumer.recv_timeout(Duration::ZERO), Err(RecvError::Empty)));
    }
    let waited = region.change();
    let held = |stats: stats_alloc::Stats| {
        (stats.bytes_allocated - stats.bytes_deallocated) as f64 / CONSUMERS as f64 / 1024.0
    };
    [
        options.overflow.label().into(),
        size_of::<T>().to_string(),
        format!("{:.1}", held(subscribed)),
        format!("{:.1}", held(waited)),
        format!("{:.1}", waited.allocations as f64 / CONSUMERS as f64),
        TARGET.verdict(held(waited)),
    ]
}
