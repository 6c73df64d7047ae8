//! The cost of a delivery as consumers, batches and blocks grow, by criterion: the fan-out by itself, on one thread.
//!
//! An iteration pushes one item, or eight in a row, flushes, and then lets every consumer take its items. The items are
//! handles of blocks, 48 kHz stereo, that are made once and sent again and again. With *handles alone*, consumers do not
//! read the samples; otherwise every consumer reads all of them. The report counts a delivery, one item to one consumer,
//! as one element: `thrpt` is deliveries per second.
//!
//! Left out are the costs of other threads: cache lines that move from core to core (`throughput` has them), and waking
//! consumers (`push`, `latency`).

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aircheck_benches::sum;
use aircheck_engine::{Consumer, Publisher, PublisherOptions, Stamp, SubscribeOptions, Timestamp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Samples of a millisecond.
const MILLISECOND: usize = 96;
const BLOCKS_MS: [usize; 5] = [1, 2, 5, 10, 20];
const CONSUMERS: [usize; 6] = [1, 4, 16, 64, 256, 1024];
const BATCHES: [(usize, &str); 2] = [(1, "one by one"), (8, "by 8")];

fn deliveries(criterion: &mut Criterion) {
    growth(criterion, "handles alone", 10, |samples| {
        black_box(samples);
    });
    for millis in BLOCKS_MS {
        growth(criterion, &format!("{millis} ms"), millis, |samples| {
            black_box(sum(samples));
        });
    }
}

/// Times blocks of so many milliseconds, which each consumer gives to `read`.
fn growth(criterion: &mut Criterion, name: &str, millis: usize, read: impl Fn(&[f32])) {
    let mut group = criterion.benchmark_group(format!("fanout/{name}"));
    for (batch, how) in BATCHES {
        let blocks: Vec<Arc<[f32]>> = (0..batch).map(|_| vec![0.25; millis * MILLISECOND].into()).collect();
        for consumers in CONSUMERS {
            let mut lineup = Lineup::new(consumers);
            group.throughput(Throughput::Elements((batch * consumers) as u64));
            group.bench_function(BenchmarkId::new(how, consumers), |bencher| {
                bencher.iter(|| lineup.carry(&blocks, &read));
            });
        }
    }
}

/// A fan-out and its consumers.
struct Lineup {
    publisher: Publisher<Arc<[f32]>>,
    consumers: Vec<Consumer<Arc<[f32]>>>,
    now: Timestamp,
}

impl Lineup {
    fn new(consumers: usize) -> Self {
        let (publisher, hub) = Publisher::new(PublisherOptions::default());
        let subscribe = |_| hub.subscribe(SubscribeOptions::default()).expect("a running fan-out");
        Self { publisher, consumers: (0..consumers).map(subscribe).collect(), now: Timestamp::now() }
    }

    /// Pushes the blocks and lets every consumer take them.
    fn carry(&mut self, blocks: &[Arc<[f32]>], read: impl Fn(&[f32])) {
        for block in blocks {
            let sequence = self.publisher.next_sequence();
            let stamp = Stamp { sequence, captured_at: self.now, dispatched_at: self.now, preceding: 0 };
            self.publisher.push(stamp, Arc::clone(block));
        }
        self.publisher.flush();
        for consumer in &mut self.consumers {
            let batch = consumer.try_recv_batch(self.now, usize::MAX).expect("it was flushed");
            batch.iter().for_each(|item| read(&item.value));
        }
    }
}

criterion_group! {
    name = fanout;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20);
    targets = deliveries
}
criterion_main!(fanout);
