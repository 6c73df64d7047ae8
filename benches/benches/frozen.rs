//! One of four consumers freezes for 200 of every 500 ms: what do the others lose, and is its own loss counted?
//!
//! A live test tone in 2 ms blocks, consumers on threads of their own that wait for each block and add up its
//! samples, and buffers of 50 blocks (100 ms), so that each freeze must cost something. Every consumer counts what it
//! got and the gaps that came with it; the table holds that against the engine's own account of it. Beside it,
//! tokio's broadcast channel with the same rhythm and room for as many blocks, and what its receivers were told.

use std::hint::black_box;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aircheck_benches::{Table, sum};
use aircheck_engine::source::Tone;
use aircheck_engine::{Overflow, Start, Stream, StreamOptions, SubscribeOptions};
use tokio::sync::broadcast::{self, error::RecvError};

const BLOCK: Duration = Duration::from_millis(2);
const BUFFER: usize = 50;
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
    println!("one of {CONSUMERS} consumers frozen 200 of every 500 ms for {} s\n", RUN.as_secs());
    let mut table = Table::new(["engine", "consumer", "offered", "received", "missed", "lost", "queued", "verdict"]);
    for overflow in [Overflow::SkipToLive, Overflow::DropNewest] {
        engine(overflow, &mut table);
    }
    println!("{table}");
    let mut table = Table::new(["peer", "receiver", "sent", "received", "lagged", "verdict"]);
    tokio_broadcast(&mut table);
    println!("{table}");
}

fn engine(overflow: Overflow, table: &mut Table) {
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let stream = Stream::start(Box::new(Tone::new(440.0)), options).expect("a tone always starts");
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|number| {
            let options = SubscribeOptions { overflow, buffer: BUFFER, start: Start::Live };
            let mut consumer = stream.subscribe(options).expect("a running stream");
            let tally = Arc::clone(consumer.tally());
            let freezer = Freezer::new(number == 0);
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
    thread::sleep(RUN);
    stream.stop();
    for (number, (tally, thread)) in consumers.into_iter().enumerate() {
        let count = thread.join().expect("no consumer panics");
        let account = tally.snapshot();
        let lost = account.lost.total();
        let exact = account.delivered == count.received
            && lost == count.missed
            && account.offered == count.received + count.missed + account.queued;
        table.row([
            overflow.label().to_owned(),
            name(number),
            account.offered.to_string(),
            count.received.to_string(),
            count.missed.to_string(),
            lost.to_string(),
            account.queued.to_string(),
            verdict(number, exact, lost),
        ]);
    }
}

fn tokio_broadcast(table: &mut Table) {
    let (sender, _) = broadcast::channel::<Arc<[f32]>>(BUFFER);
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
    while start.elapsed() < RUN {
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
            name(number),
            sent.to_string(),
            count.received.to_string(),
            count.missed.to_string(),
            verdict(number, exact, count.missed),
        ]);
    }
}

fn name(number: usize) -> String {
    if number == 0 { "frozen".into() } else { format!("healthy {number}") }
}

fn verdict(number: usize, exact: bool, lost: u64) -> String {
    match (number, exact, lost) {
        (_, false, _) => "NOT EXACT".into(),
        (0, true, _) => "exact".into(),
        (_, true, 0) => "nothing lost, exact".into(),
        _ => "LOST SOMETHING, exact".into(),
    }
}
