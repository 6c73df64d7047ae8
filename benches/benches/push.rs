//! What the capture thread pays per block, by how many listen, beside `send` of tokio's broadcast channel.
//!
//! The engine's push is `Capture::write` of one block of 480 stereo frames: it copies the samples into the ring. Then
//! the dispatcher makes the handle and fans it out, on its own thread. tokio's is `broadcast::Sender::send` of a
//! ready-made `Arc` of the same block, copy and allocation not counted: the cheapest thing that it can be given. All
//! receivers are tasks on the same runtime of two workers, and read every sample.
//!
//! Two ways to come: *paced*, a block each millisecond as from a device (the stream says 480 kHz, so that 480 frames
//! are a millisecond), and in *bursts* of 64 in a row every 20 ms, as from a sound server that caught its breath.
//! Each call is timed by itself; the median cost of the clock is taken off. Contenders take turns; quantiles are
//! taken in each turn, ratios between turns of the same round, and the medians of them are shown. The 99.9th
//! percentile on a machine with few processors is when the pushing thread was put aside or woke a peer.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{Rounds, Table, Target, clock_cost, is_quick, sum, tap};
use aircheck_engine::{StreamOptions, SubscribeOptions, Timestamp};
use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast::{self, error::RecvError};

const RATE_HZ: u32 = 480_000;
const BLOCK_SAMPLES: usize = 960;
const BLOCK: Duration = Duration::from_millis(1);
/// Receivers of tokio's channel: the case that the target names.
const PEER_RECEIVERS: usize = 16;
/// As many blocks as the capture ring has at this block length, to the next power of two below.
const PEER_CAPACITY: usize = 256;
const ROUNDS: usize = 5;
/// The first calls of a turn are not counted: threads start, pages are touched.
const WARM_UP: usize = 128;

const CONTENDERS: [Contender; 5] =
    [Contender::Engine(1), Contender::Engine(16), Contender::Engine(64), Contender::Broadcast, Contender::Nothing];
const ENGINE_1: usize = 0;
const ENGINE_64: usize = 2;
const BROADCAST: usize = 3;

#[derive(Clone, Copy)]
enum Contender {
    /// With this many consumers.
    Engine(usize),
    Broadcast,
    /// A plain copy of the block in the same rhythm: what the machine itself adds.
    Nothing,
}

/// When blocks come.
#[derive(Clone, Copy)]
struct Rhythm {
    name: &'static str,
    burst: usize,
    every: Duration,
    calls: usize,
}

const RHYTHMS: [Rhythm; 2] = [
    Rhythm { name: "paced, one a millisecond", burst: 1, every: BLOCK, calls: 2_000 },
    Rhythm { name: "bursts of 64 every 20 ms", burst: 64, every: Duration::from_millis(20), calls: 4_096 },
];

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(2).build().expect("threads");
    let clock = clock_cost();
    let (rounds, rhythms) = if is_quick() { (1, RHYTHMS.map(Rhythm::short)) } else { (ROUNDS, RHYTHMS) };
    println!("push of one block of 480 frames stereo; clock cost of {} ns taken off", clock.as_nanos());
    for rhythm in rhythms {
        let mut tails = Vec::new();
        let p50 = Rounds::run(rounds, CONTENDERS.len(), |contender| {
            let histogram = CONTENDERS[contender].measure(&runtime, rhythm, clock);
            tails.push(histogram.value_at_quantile(0.999) as f64);
            histogram.value_at_quantile(0.5) as f64
        });
        // The same turns in the same order, so the second pass only reads what the first one kept.
        let mut tails = tails.into_iter();
        let tail = Rounds::run(rounds, CONTENDERS.len(), |_| tails.next().unwrap_or(f64::NAN));
        println!("\n{}; {} calls in each of {rounds} rounds\n", rhythm.name, rhythm.calls);
        print(&p50, &tail);
    }
}

fn print(p50: &Rounds, tail: &Rounds) {
    let mut table =
        Table::new(["contender", "p50 ns", "p99.9 ns", "p50 / tokio", "p99.9 / tokio", "p50 / 1", "p99.9 / 1"]);
    for (number, contender) in CONTENDERS.iter().enumerate() {
        let mut row = vec![
            contender.name(),
            format!("{:.0}", p50.median(number)),
            format!("{:.0}", tail.median(number)),
            format!("{:.3}", p50.ratio(number, BROADCAST)),
            format!("{:.3}", tail.ratio(number, BROADCAST)),
        ];
        if matches!(contender, Contender::Engine(_)) {
            row.extend([p50.ratio(number, ENGINE_1), tail.ratio(number, ENGINE_1)].map(|ratio| format!("{ratio:.2}")));
        }
        table.row(row);
    }
    let tokio = |rounds: &Rounds, most| Target::AtMost(most).verdict(rounds.ratio(1, BROADCAST));
    let flat = |rounds: &Rounds| Target::AtMost(1.25).verdict(rounds.ratio(ENGINE_64, ENGINE_1));
    table.row([
        "target (16 / tokio's 16; 64 / 1)",
        "",
        "",
        &tokio(p50, 0.1),
        &tokio(tail, 0.05),
        &flat(p50),
        &flat(tail),
    ]);
    println!("{table}");
}

impl Contender {
    fn name(self) -> String {
        match self {
            Self::Engine(consumers) => format!("engine, {consumers} consumers"),
            Self::Broadcast => format!("tokio broadcast, {PEER_RECEIVERS} receivers"),
            Self::Nothing => "plain copy, nobody listens".into(),
        }
    }

    fn measure(self, runtime: &Runtime, rhythm: Rhythm, clock: Duration) -> Histogram<u64> {
        match self {
            Self::Engine(consumers) => engine(runtime, consumers, rhythm, clock),
            Self::Broadcast => tokio_broadcast(runtime, rhythm, clock),
            Self::Nothing => {
                let block = [0.25_f32; BLOCK_SAMPLES];
                let mut to = block;
                rhythm.run(clock, |_| black_box(&mut to).copy_from_slice(black_box(&block)))
            }
        }
    }
}

impl Rhythm {
    /// Only to be seen running.
    fn short(self) -> Self {
        Self { calls: self.burst, ..self }
    }

    /// Calls `push` with the number of each block in this rhythm, and returns how long the calls took.
    fn run(self, clock: Duration, mut push: impl FnMut(u64)) -> Histogram<u64> {
        // Up to ten seconds; anything longer counts as that.
        let mut histogram = Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("possible bounds");
        let mut due = Instant::now();
        for number in 0..self.calls + WARM_UP {
            if number.is_multiple_of(self.burst) {
                due += self.every;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let start = Instant::now();
            push(number as u64);
            let nanos = start.elapsed().saturating_sub(clock).as_nanos() as u64;
            if number >= WARM_UP {
                histogram.saturating_record(nanos);
            }
        }
        histogram
    }
}

fn engine(runtime: &Runtime, consumers: usize, rhythm: Rhythm, clock: Duration) -> Histogram<u64> {
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let (stream, mut capture) = tap(RATE_HZ, 2, options);
    let readers: Vec<_> = (0..consumers)
        .map(|_| {
            let mut consumer = stream.subscribe(SubscribeOptions::default()).expect("a running stream");
            runtime.spawn(async move {
                let mut total = 0.0;
                while let Ok(delivery) =
                    std::future::poll_fn(|context| consumer.poll_recv(context, Timestamp::now())).await
                {
                    total += sum(delivery.item.samples());
                }
                total
            })
        })
        .collect();
    let block = [0.25_f32; BLOCK_SAMPLES];
    let (format, epoch) = (stream.format(), Timestamp::now());
    let histogram = rhythm.run(clock, |number| {
        capture.write(black_box(&block), format.time_of(epoch, format.position(number)));
    });
    drop(capture);
    stream.wait();
    runtime.block_on(async {
        for reader in readers {
            black_box(reader.await.expect("no reader panics"));
        }
    });
    histogram
}

fn tokio_broadcast(runtime: &Runtime, rhythm: Rhythm, clock: Duration) -> Histogram<u64> {
    let (sender, _) = broadcast::channel::<Arc<[f32]>>(PEER_CAPACITY);
    let readers: Vec<_> = (0..PEER_RECEIVERS)
        .map(|_| {
            let mut receiver = sender.subscribe();
            runtime.spawn(async move {
                let mut total = 0.0;
                loop {
                    match receiver.recv().await {
                        Ok(block) => total += sum(&block),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => break total,
                    }
                }
            })
        })
        .collect();
    // More than the channel holds, so that a block is sent again only when everyone has let go of it.
    let blocks: Vec<Arc<[f32]>> = (0..2 * PEER_CAPACITY).map(|_| [0.25; BLOCK_SAMPLES].into()).collect();
    let mut ready = blocks.iter().cycle().cloned();
    let mut next = ready.next();
    let histogram = rhythm.run(clock, |_| {
        if let Some(block) = next.take() {
            let _ = black_box(sender.send(block));
        }
        next = ready.next();
    });
    drop(sender);
    runtime.block_on(async {
        for reader in readers {
            black_box(reader.await.expect("no reader panics"));
        }
    });
    histogram
}
