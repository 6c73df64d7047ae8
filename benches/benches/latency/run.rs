//! One case: a paced producer on this thread, consumers on a runtime of two threads.

use std::fmt;
use std::future::poll_fn;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{sum, tap};
use aircheck_engine::{Block, Consumer, Stats, StreamOptions, SubscribeOptions, Timestamp};
use hdrhistogram::Histogram;
use tokio::runtime::Builder;

use crate::case::{Case, Condition};

/// 96 frames of stereo.
const BLOCK: Duration = Duration::from_millis(2);
const RATE_HZ: u32 = 48_000;
const BLOCK_SAMPLES: usize = 192;
/// A second, the server's default.
const BUFFER: usize = 500;
/// 100 ms.
const FROZEN_BUFFER: usize = 50;
const FREEZE_EVERY: Duration = Duration::from_millis(500);
const FREEZE: Duration = Duration::from_millis(200);

/// The result of one case.
pub(crate) struct Run {
    pub(crate) case: Case,
    /// When it began, since the start of the benchmark.
    pub(crate) start: Duration,
    pub(crate) stages: [(&'static str, Histogram<u64>); 4],
    /// Of all consumers but the frozen one.
    pub(crate) losses: Losses,
    /// Of the frozen one.
    pub(crate) frozen: Option<Losses>,
}

/// Blocks that consumers were offered, and lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    lost: u64,
    offered: u64,
}

impl Losses {
    fn add(&mut self, stats: &Stats) {
        let account = stats.snapshot();
        self.lost += account.lost.total();
        self.offered += account.offered;
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.lost, self.offered)
    }
}

impl Run {
    pub(crate) fn tag(&self, stage: &str) -> String {
        format!("{}/{stage}", self.case.name())
    }

    /// Returns a sentence on the losses.
    pub(crate) fn lost(&self) -> String {
        let frozen = self.frozen.map(|losses| format!("; the frozen consumer lost {losses}")).unwrap_or_default();
        format!("{}: {} blocks lost{frozen}", self.case.name(), self.losses)
    }
}

/// Up to ten seconds in nanoseconds; anything longer counts as that.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("possible bounds")
}

/// Measures one case for so long.
pub(crate) fn run(case: Case, span: Duration, start: Duration) -> std::io::Result<Run> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let (stream, mut capture) = tap(RATE_HZ, 2, options);
    let (mut readers, mut frozen) = (Vec::new(), None);
    for number in 0..case.consumers {
        let is_frozen = case.condition == Condition::Frozen && number == 0;
        let buffer = if is_frozen { FROZEN_BUFFER } else { BUFFER };
        let consumer = stream.subscribe(SubscribeOptions { buffer, ..SubscribeOptions::default() });
        let consumer = consumer.expect("a running stream");
        let stats = Arc::clone(consumer.stats());
        if is_frozen {
            frozen = Some((stats, runtime.spawn(stand_still(consumer))));
        } else {
            readers.push((stats, runtime.spawn(read(consumer))));
        }
    }
    let calm = Arc::new(AtomicBool::new(case.condition != Condition::Loaded));
    let load: Vec<_> = (0..2)
        .map(|_| Arc::clone(&calm))
        .map(|calm| {
            thread::spawn(move || {
                while !calm.load(Ordering::Relaxed) {
                    spin_loop()
                }
            })
        })
        .collect();

    let mut written = histogram();
    let block = [0.25_f32; BLOCK_SAMPLES];
    let first = Timestamp::now() + BLOCK;
    for number in 0..(span.as_nanos() / BLOCK.as_nanos()) as u32 {
        let due = first + BLOCK * number;
        thread::sleep(due.since(Timestamp::now()));
        capture.write(black_box(&block), due);
        written.saturating_record(Timestamp::now().since(due).as_nanos() as u64);
    }
    drop(capture);
    stream.wait();
    let [mut ring, mut queue, mut all] = [histogram(), histogram(), histogram()];
    let mut losses = Losses::default();
    for (number, (stats, reader)) in readers.into_iter().enumerate() {
        let seen = runtime.block_on(reader).expect("no reader panics");
        if number == 0 {
            // All consumers get the same blocks, dispatched at the same time.
            ring = seen.ring;
        }
        queue.add(seen.queue).expect("the same bounds");
        all.add(seen.all).expect("the same bounds");
        losses.add(&stats);
    }
    calm.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| drop(thread.join()));
    let stages = [("write", written), ("ring", ring), ("queue", queue), ("all", all)];
    let frozen = frozen.map(|(stats, reader)| {
        runtime.block_on(reader).expect("no reader panics");
        let mut losses = Losses::default();
        losses.add(&stats);
        losses
    });
    Ok(Run { case, start, stages, losses, frozen })
}

/// Latencies that a consumer saw.
struct Seen {
    ring: Histogram<u64>,
    queue: Histogram<u64>,
    all: Histogram<u64>,
}

async fn read(mut consumer: Consumer<Block>) -> Seen {
    let mut seen = Seen { ring: histogram(), queue: histogram(), all: histogram() };
    while let Ok(delivery) = poll_fn(|context| consumer.poll_recv(context, Timestamp::now())).await {
        let now = Timestamp::now();
        let stamp = delivery.item.stamp;
        let nanos = |span: Duration| span.as_nanos() as u64;
        seen.ring.saturating_record(nanos(stamp.dispatched_at.since(stamp.captured_at)));
        seen.queue.saturating_record(nanos(now.since(stamp.dispatched_at)));
        seen.all.saturating_record(nanos(now.since(stamp.captured_at)));
        black_box(sum(delivery.item.samples()));
    }
    seen
}

async fn stand_still(mut consumer: Consumer<Block>) {
    let mut next = Instant::now() + FREEZE_EVERY - FREEZE;
    while let Ok(delivery) = poll_fn(|context| consumer.poll_recv(context, Timestamp::now())).await {
        black_box(sum(delivery.item.samples()));
        if Instant::now() >= next {
            next += FREEZE_EVERY;
            tokio::time::sleep(FREEZE).await;
        }
    }
}
