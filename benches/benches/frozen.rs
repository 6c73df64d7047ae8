//! One of four consumers freezes for 200 of every 500 ms: what do the others lose, and is its own loss counted?
//!
//! A live test tone in 2 ms blocks, and consumers on threads of their own that wait for each block and add up its
//! samples. The frozen one may be 100 ms behind, so that each freeze must cost something; the others a second, the
//! server's default, so that a busy machine costs them nothing: after a pause of all its threads for longer than a
//! buffer, the sound of the pause comes at once and does not fit. How late they are tells whether the frozen one
//! holds them up: `dispatch` is the time from when a block was due to when it was dispatched, `queue` from there to
//! the consumer. The same with nobody frozen, in the same run, shows what of it is the machine's.
//!
//! Every consumer counts what it got and the gaps that came with it; the table holds that against the engine's own
//! account of it. Beside it, tokio's broadcast channel, where all share one buffer: of the frozen one's size, and of
//! the others'.

use std::hint::black_box;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aircheck_benches::{Table, is_quick, sum};
use aircheck_engine::source::Tone;
use aircheck_engine::{Overflow, Start, Stream, StreamOptions, SubscribeOptions};
use tokio::sync::broadcast::{self, error::RecvError};

const BLOCK: Duration = Duration::from_millis(2);
/// 100 ms: half a freeze.
const FROZEN_BUFFER: usize = 50;
/// A second.
const BUFFER: usize = 500;
const BLOCK_SAMPLES: usize = 96;
const RUN: Duration = Duration::from_secs(4);
const CONSUMERS: usize = 4;

/// Freezes for 200 ms of every 500 ms.
struct Freezer {
    start: Instant,
    frozen: bool,
}

impl Freezer {
    fn new(frozen: bool) -> Self {
        Self { start: Instant::now(), frozen }
    }

    fn freeze(&self) {
        let phase = self.start.elapsed().as_millis() % 500;
        if self.frozen && phase >= 300 {
            thread::sleep(Duration::from_millis(500 - phase as u64));
        }
    }
}

/// What a consumer counted for itself.
#[derive(Clone, Copy, Default)]
struct Count {
    received: u64,
    /// Sum of the gaps that it was told of, the one at the end included.
    missed: u64,
}

fn main() {
    let run = if is_quick() { RUN / 8 } else { RUN };
    println!("one of {CONSUMERS} consumers frozen 200 of every 500 ms for {} s\n", run.as_secs_f64());
    let mut table = Table::new([
        "engine",
        "consumer",
        "offered",
        "received",
        "missed",
        "lost",
        "queued",
        "dispatch max ms",
        "queue p99 ms",
        "queue max ms",
        "verdict",
    ]);
    for (overflow, freezing) in
        [(Overflow::SkipToLive, true), (Overflow::DropNewest, true), (Overflow::DropNewest, false)]
    {
        engine(overflow, freezing, run, &mut table);
    }
    println!("{table}");
    let mut table = Table::new(["peer", "buffer", "receiver", "sent", "received", "lagged", "verdict"]);
    for buffer in [FROZEN_BUFFER, BUFFER] {
        tokio_broadcast(buffer, run, &mut table);
    }
    println!("{table}");
}

fn engine(overflow: Overflow, freezing: bool, run: Duration, table: &mut Table) {
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let stream = Stream::start(Box::new(Tone::new(440.0)), options).expect("a tone always starts");
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|number| {
            let freezes = freezing && number == 0;
            let buffer = if freezes { FROZEN_BUFFER } else { BUFFER };
            let options = SubscribeOptions { overflow, buffer, start: Start::Live };
            let mut consumer = stream.subscribe(options).expect("a running stream");
            let tally = Arc::clone(consumer.tally());
            let freezer = Freezer::new(freezes);
            let thread = thread::spawn(move || {
                let mut count = Count::default();
                let end = loop {
                    freezer.freeze();
                    match consumer.recv() {
                        Ok(delivery) => {
                            black_box(sum(delivery.item.samples()));
                            count.received += 1;
                            count.missed += delivery.gap.map_or(0, |gap| gap.blocks);
                        }
                        Err(end) => break end,
                    }
                };
                count.missed += end.gap.map_or(0, |gap| gap.blocks);
                count
            });
            (tally, thread)
        })
        .collect();
    thread::sleep(run);
    // The block's own length is in it.
    let due = Duration::from_micros(stream.ring_micros().max()).saturating_sub(BLOCK);
    stream.stop();
    for (number, (tally, thread)) in consumers.into_iter().enumerate() {
        let count = thread.join().expect("no consumer panics");
        let account = tally.snapshot();
        let lost = account.lost.total();
        let queue = tally.queue_micros().summary().map_or([0, 0], |late| [late.p99, late.max]);
        let [p99, max] = queue.map(|micros| milliseconds(Duration::from_micros(micros)));
        let freezes = freezing && number == 0;
        let exact = account.delivered == count.received
            && lost == count.missed
            && account.offered == count.received + count.missed + account.queued;
        table.row([
            overflow.label().to_owned(),
            name(number, freezes),
            account.offered.to_string(),
            count.received.to_string(),
            count.missed.to_string(),
            lost.to_string(),
            account.queued.to_string(),
            milliseconds(due),
            p99,
            max,
            verdict(freezes, exact, lost),
        ]);
    }
}

fn tokio_broadcast(buffer: usize, run: Duration, table: &mut Table) {
    let (sender, _) = broadcast::channel::<Arc<[f32]>>(buffer);
    let receivers: Vec<JoinHandle<Count>> = (0..CONSUMERS)
        .map(|number| {
            let mut receiver = sender.subscribe();
            let freezer = Freezer::new(number == 0);
            thread::spawn(move || {
                let mut count = Count::default();
                loop {
                    freezer.freeze();
                    match receiver.blocking_recv() {
                        Ok(block) => {
                            black_box(sum(&block));
                            count.received += 1;
                        }
                        Err(RecvError::Lagged(blocks)) => count.missed += blocks,
                        Err(RecvError::Closed) => break count,
                    }
                }
            })
        })
        .collect();
    let block: Arc<[f32]> = [0.25; BLOCK_SAMPLES].into();
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < run {
        let _ = sender.send(Arc::clone(&block));
        sent += 1;
        thread::sleep((start + BLOCK * sent).saturating_duration_since(Instant::now()));
    }
    drop(sender);
    for (number, receiver) in receivers.into_iter().enumerate() {
        let count = receiver.join().expect("no receiver panics");
        let exact = u64::from(sent) == count.received + count.missed;
        table.row([
            "tokio broadcast".to_owned(),
            buffer.to_string(),
            name(number, number == 0),
            sent.to_string(),
            count.received.to_string(),
            count.missed.to_string(),
            verdict(number == 0, exact, count.missed),
        ]);
    }
}

fn milliseconds(span: Duration) -> String {
    format!("{:.1}", span.as_secs_f64() * 1000.0)
}

fn name(number: usize, freezes: bool) -> String {
    if freezes { "frozen".into() } else { format!("healthy {number}") }
}

fn verdict(freezes: bool, exact: bool, lost: u64) -> String {
    match (freezes, exact, lost) {
        (_, false, _) => "NOT EXACT".into(),
        (true, true, _) => "exact".into(),
        (false, true, 0) => "nothing lost, exact".into(),
        _ => "LOST SOMETHING, exact".into(),
    }
}
