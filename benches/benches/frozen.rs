//! One of four consumers freezes for 200 of every 500 ms: the losses of the others, and whether its own is counted.
//!
//! A live test tone in 2 ms blocks, and consumers on threads of their own that wait for each block and add up its
//! samples. The frozen one has a buffer of 100 ms, so that each freeze must cost something. The others have a second, the
//! server's default, so that a busy machine costs them nothing: after a pause of the whole machine that is longer than a
//! buffer, the blocks of the pause come at once and do not fit. Their lateness tells whether the frozen one holds them
//! up: `dispatch` is the time from when a block was due until it was dispatched, `queue` from then until the consumer has
//! it. The same run without a frozen consumer shows the machine's part of it.
//!
//! Every consumer counts its blocks and the gaps that came with them, and the table compares that with the engine's own
//! account. Beside it stands tokio's broadcast channel, where all consumers share one buffer: of the frozen one's size,
//! and of the others'.
//!
//! `-- drop-newest`, or `-- tokio`, measures only those cases.

use std::hint::black_box;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aircheck_benches::{Arguments, Table, sum};
use aircheck_engine::source::Tone;
use aircheck_engine::{OverflowPolicy, Stream, StreamOptions, SubscribeOptions, Summary};
use aircheck_tools::report::percentiles::has_quantile;
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

/// A consumer's own count.
#[derive(Clone, Copy, Default)]
struct Count {
    received: u64,
    /// The sum of the gaps that it was told of, including the one at the end.
    missed: u64,
}

/// One measurement: the engine with a policy, with or without a frozen consumer, or tokio with a buffer.
#[derive(Clone, Copy)]
enum Case {
    Engine(OverflowPolicy, bool),
    Tokio(usize),
}

impl Case {
    fn name(&self) -> String {
        match self {
            Self::Engine(overflow, true) => format!("engine/{overflow}"),
            Self::Engine(overflow, false) => format!("engine/{overflow}/none frozen"),
            Self::Tokio(buffer) => format!("tokio/{buffer}"),
        }
    }
}

const CASES: [Case; 5] = [
    Case::Engine(OverflowPolicy::SkipToLive, true),
    Case::Engine(OverflowPolicy::DropNewest, true),
    Case::Engine(OverflowPolicy::DropNewest, false),
    Case::Tokio(FROZEN_BUFFER),
    Case::Tokio(BUFFER),
];

fn main() {
    let arguments = Arguments::read();
    let cases = arguments.choose(CASES, Case::name);
    let run = if arguments.is_quick() { RUN / 8 } else { RUN };
    println!("one of {CONSUMERS} consumers frozen 200 of every 500 ms for {} s\n", run.as_secs_f64());
    let mut of_engine = Table::new([
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
    let mut of_tokio = Table::new(["peer", "buffer", "receiver", "sent", "received", "lagged", "verdict"]);
    for case in &cases {
        match *case {
            Case::Engine(overflow, freezing) => engine(overflow, freezing, run, &mut of_engine),
            Case::Tokio(buffer) => tokio_broadcast(buffer, run, &mut of_tokio),
        }
    }
    if cases.iter().any(|case| matches!(case, Case::Engine(..))) {
        println!("{of_engine}");
    }
    if cases.iter().any(|case| matches!(case, Case::Tokio(_))) {
        println!("{of_tokio}");
    }
}

fn engine(overflow: OverflowPolicy, freezing: bool, run: Duration, table: &mut Table) {
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let stream = Stream::start(Box::new(Tone::new(440.0)), options).expect("a tone always starts");
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|number| {
            let freezes = freezing && number == 0;
            let buffer = if freezes { FROZEN_BUFFER } else { BUFFER };
            let options = SubscribeOptions { overflow, buffer, ..SubscribeOptions::default() };
            let mut consumer = stream.subscribe(options).expect("a running stream");
            let stats = Arc::clone(consumer.stats());
            let freezer = Freezer::new(freezes);
            let thread = thread::spawn(move || {
                let mut count = Count::default();
                let end = loop {
                    freezer.freeze();
                    match consumer.recv() {
                        Ok(delivery) => {
                            black_box(sum(delivery.item.samples()));
                            count.received += 1;
                            count.missed += delivery.gap.map_or(0, |gap| gap.items);
                        }
                        Err(end) => break end,
                    }
                };
                count.missed += end.gap.map_or(0, |gap| gap.items);
                count
            });
            (stats, thread)
        })
        .collect();
    thread::sleep(run);
    // The block's own length is in it.
    let due = Duration::from_micros(stream.ring_micros().max()).saturating_sub(BLOCK);
    stream.stop();
    for (number, (stats, thread)) in consumers.into_iter().enumerate() {
        let count = thread.join().expect("no consumer panics");
        let account = stats.snapshot();
        let lost = account.lost.total();
        let queue = stats.queue_micros().summary();
        let queue = |of: fn(&Summary) -> u64| queue.as_ref().map(|late| milliseconds(Duration::from_micros(of(late))));
        let p99 = queue(|late| late.p99).filter(|_| has_quantile(count.received, 0.99)).unwrap_or_else(none);
        let max = queue(|late| late.max).unwrap_or_else(none);
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

fn none() -> String {
    "-".to_owned()
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
