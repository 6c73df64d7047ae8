//! The capture thread's cost for each block, by number of consumers, beside what else could be done on that thread.
//!
//! Two ways to hand a block over to another thread, which then fans it out:
//! - the engine's `Capture::write` of one block of 480 stereo frames, which copies the samples into the capture ring; the
//!   dispatcher makes the shared block and fans it out;
//! - *ring, task, broadcast*: the same copy into a plain rtrb ring, which a tokio task looks into each millisecond; it
//!   makes an `Arc` of each block and sends that to tokio's broadcast channel. Nothing wakes the task, as nothing wakes
//!   the dispatcher, so this is the same work on the capture thread for the same result.
//!
//! And one that fans out on the spot, which is more work and so no equal: tokio's `broadcast::Sender::send` of a
//! ready-made `Arc` of the same block, copy and allocation not counted. All receivers are tasks on one runtime of two
//! workers and read every sample.
//!
//! Two rhythms: *paced*, a block each millisecond as from a device (the stream has 480 kHz, so that 480 frames are a
//! millisecond), and *bursts* of 64 blocks in a row every 20 ms, as from a sound server after a stall. Each call is timed
//! by itself; the median cost of the clock is taken off. Contenders take turns. Quantiles are of all rounds together, and
//! left out where fewer than ten values lie beyond them; ratios of the median are between turns of the same round, and
//! their median is shown. On a machine with few processors, p99.9 is when the pushing thread was put aside or woke a
//! peer. *Lost* counts blocks that a consumer or the capture ring lost, of all that consumers were offered.
//!
//! `-- "paced/engine"` measures only those cases; without a base there is no ratio.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{Arguments, Rounds, Table, Target, clock_cost, number, sum, tap};
use aircheck_engine::{StreamOptions, SubscribeOptions, Timestamp};
use aircheck_tools::report::percentiles::at;
use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

const RATE_HZ: u32 = 480_000;
const BLOCK_SAMPLES: usize = 960;
const BLOCK: Duration = Duration::from_millis(1);
/// Receivers of tokio's channel: the number that the target names.
const PEER_RECEIVERS: usize = 16;
/// The capture ring's blocks at this block length, rounded down to a power of two.
const PEER_CAPACITY: usize = 256;
const ROUNDS: usize = 5;
/// The first calls of a turn are not counted: threads start, pages are touched.
const WARM_UP: usize = 128;

const CONTENDERS: [Contender; 6] = [
    Contender::Engine(1),
    Contender::Engine(16),
    Contender::Engine(64),
    Contender::RingTaskBroadcast,
    Contender::Broadcast,
    Contender::Nothing,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    /// The engine with this many consumers.
    Engine(usize),
    /// The same copy into a ring, and the fan-out by a task.
    RingTaskBroadcast,
    /// The whole fan-out on the capture thread.
    Broadcast,
    /// A plain copy of the block in the same rhythm, which shows what the machine itself adds.
    Nothing,
}

/// The times at which blocks come.
#[derive(Clone, Copy)]
struct Rhythm {
    name: &'static str,
    about: &'static str,
    burst: usize,
    every: Duration,
    calls: usize,
}

const RHYTHMS: [Rhythm; 2] = [
    Rhythm { name: "paced", about: "a block each millisecond", burst: 1, every: BLOCK, calls: 2_000 },
    Rhythm {
        name: "bursts",
        about: "64 blocks in a row every 20 ms",
        burst: 64,
        every: Duration::from_millis(20),
        calls: 4_096,
    },
];

/// The calls of one turn or more.
struct Calls {
    /// In nanoseconds.
    spans: Histogram<u64>,
    /// Blocks that consumers should have got, and those that they did not.
    offered: u64,
    lost: u64,
}

fn main() {
    let arguments = Arguments::read();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("threads");
    let clock = clock_cost();
    let cases = RHYTHMS.iter().enumerate().flat_map(|(rhythm, _)| CONTENDERS.map(|contender| (rhythm, contender)));
    let cases =
        arguments.choose(cases, |(rhythm, contender)| format!("{}/{}", RHYTHMS[*rhythm].name, contender.name()));
    println!("push of one block of 480 frames stereo; clock cost of {} ns taken off", clock.as_nanos());
    for (number, rhythm) in RHYTHMS.into_iter().enumerate() {
        let in_it = cases.iter().filter(|(rhythm, _)| *rhythm == number);
        let contenders: Vec<Contender> = in_it.map(|(_, contender)| *contender).collect();
        if contenders.is_empty() {
            continue;
        }
        let (rounds, rhythm) = if arguments.is_quick() { (1, rhythm.short()) } else { (ROUNDS, rhythm) };
        let mut calls: Vec<Calls> =
            contenders.iter().map(|_| Calls { spans: histogram(), offered: 0, lost: 0 }).collect();
        let p50 = Rounds::run(rounds, contenders.len(), |contender| {
            let turn = contenders[contender].measure(&runtime, rhythm, clock);
            let all = &mut calls[contender];
            all.spans.add(&turn.spans).expect("the same bounds");
            all.offered += turn.offered;
            all.lost += turn.lost;
            turn.spans.value_at_quantile(0.5) as f64
        });
        println!("\n{}, {}; {} calls in each of {rounds} rounds\n", rhythm.name, rhythm.about, rhythm.calls);
        print(&contenders, &p50, &calls);
    }
}

fn print(contenders: &[Contender], p50: &Rounds, calls: &[Calls]) {
    let place = |wanted: Contender| contenders.iter().position(|contender| *contender == wanted);
    let bases = [Contender::RingTaskBroadcast, Contender::Broadcast, Contender::Engine(1)].map(place);
    let tail = |contender: usize| at(&calls[contender].spans, 0.999).map(|nanos| nanos as f64);
    let of_medians = |contender: usize, base: usize| Some(p50.ratio(contender, base));
    let of_tails = |contender: usize, base: usize| Some(tail(contender)? / tail(base)?);
    let mut table = Table::new([
        "contender",
        "lost",
        "p50 ns",
        "p99.9 ns",
        "p50 / ring, task",
        "p99.9",
        "p50 / send",
        "p99.9",
        "p50 / engine, 1",
        "p99.9",
    ]);
    for (number_of_it, contender) in contenders.iter().enumerate() {
        let Calls { offered, lost, .. } = calls[number_of_it];
        let lost = if offered == 0 { "-".to_owned() } else { format!("{lost} of {offered}") };
        let mut row =
            vec![contender.name(), lost, number(Some(p50.median(number_of_it)), 0), number(tail(number_of_it), 0)];
        for base in bases {
            row.push(number(base.and_then(|base| of_medians(number_of_it, base)), 3));
            row.push(number(base.and_then(|base| of_tails(number_of_it, base)), 3));
        }
        table.row(row);
    }
    let verdict = |most, ratio: Option<f64>| ratio.map(|ratio| Target::AtMost(most).verdict(ratio)).unwrap_or_default();
    let [_, send, engine_1] = bases;
    let sixteen = place(Contender::Engine(16)).zip(send);
    let sixty_four = place(Contender::Engine(64)).zip(engine_1);
    let targets = [
        verdict(0.1, sixteen.and_then(|(engine, send)| of_medians(engine, send))),
        verdict(0.05, sixteen.and_then(|(engine, send)| of_tails(engine, send))),
        verdict(1.25, sixty_four.and_then(|(many, one)| of_medians(many, one))),
        verdict(1.25, sixty_four.and_then(|(many, one)| of_tails(many, one))),
    ];
    let cells = ["target (16 / send; 64 / 1)", "", "", "", "", ""].map(str::to_owned);
    table.row(cells.into_iter().chain(targets));
    println!("{table}");
}

/// Up to ten seconds in nanoseconds; anything longer counts as that.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("possible bounds")
}

impl Contender {
    fn name(self) -> String {
        match self {
            Self::Engine(consumers) => format!("engine, {consumers} consumers"),
            Self::RingTaskBroadcast => format!("ring, task, tokio broadcast, {PEER_RECEIVERS} receivers"),
            Self::Broadcast => format!("send of tokio broadcast, {PEER_RECEIVERS} receivers"),
            Self::Nothing => "plain copy, no consumers".into(),
        }
    }

    fn measure(self, runtime: &Runtime, rhythm: Rhythm, clock: Duration) -> Calls {
        match self {
            Self::Engine(consumers) => engine(runtime, consumers, rhythm, clock),
            Self::RingTaskBroadcast => ring_task_broadcast(runtime, rhythm, clock),
            Self::Broadcast => tokio_broadcast(runtime, rhythm, clock),
            Self::Nothing => {
                let block = [0.25_f32; BLOCK_SAMPLES];
                let mut to = block;
                let spans = rhythm.run(clock, |_| black_box(&mut to).copy_from_slice(black_box(&block)));
                Calls { spans, offered: 0, lost: 0 }
            }
        }
    }
}

impl Rhythm {
    /// Returns the rhythm with a single burst.
    fn short(self) -> Self {
        Self { calls: self.burst, ..self }
    }

    /// Returns the number of blocks in all.
    fn blocks(self) -> u64 {
        (self.calls + WARM_UP) as u64
    }

    /// Calls `push` with the number of each block in this rhythm. Returns the time that the calls took.
    fn run(self, clock: Duration, mut push: impl FnMut(u64)) -> Histogram<u64> {
        let mut histogram = histogram();
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

fn engine(runtime: &Runtime, consumers: usize, rhythm: Rhythm, clock: Duration) -> Calls {
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let (stream, mut capture) = tap(RATE_HZ, 2, options);
    let readers: Vec<_> = (0..consumers)
        .map(|_| {
            let mut consumer = stream.subscribe(SubscribeOptions::default()).expect("a running stream");
            let tally = Arc::clone(consumer.tally());
            let reader = runtime.spawn(async move {
                let mut total = 0.0;
                while let Ok(delivery) =
                    std::future::poll_fn(|context| consumer.poll_recv(context, Timestamp::now())).await
                {
                    total += sum(delivery.item.samples());
                }
                total
            });
            (tally, reader)
        })
        .collect();
    let block = [0.25_f32; BLOCK_SAMPLES];
    let (format, epoch) = (stream.format(), Timestamp::now());
    let spans = rhythm.run(clock, |number| {
        capture.write(black_box(&block), format.time_of(epoch, format.position(number)));
    });
    drop(capture);
    stream.wait();
    let mut delivered = 0;
    runtime.block_on(async {
        for (tally, reader) in readers {
            black_box(reader.await.expect("no reader panics"));
            delivered += tally.snapshot().delivered;
        }
    });
    let offered = rhythm.blocks() * consumers as u64;
    Calls { spans, offered, lost: offered - delivered }
}

/// Receivers of tokio's channel that read every sample, each a task that returns the number of blocks it got.
fn receivers(runtime: &Runtime, sender: &broadcast::Sender<Arc<[f32]>>) -> Vec<JoinHandle<u64>> {
    let receiver = |_| {
        let mut receiver = sender.subscribe();
        runtime.spawn(async move {
            let mut received = 0;
            loop {
                match receiver.recv().await {
                    Ok(block) => {
                        black_box(sum(&block));
                        received += 1;
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break received,
                }
            }
        })
    };
    (0..PEER_RECEIVERS).map(receiver).collect()
}

/// Waits for the receivers' end, and enters what they lost.
fn count(runtime: &Runtime, readers: Vec<JoinHandle<u64>>, rhythm: Rhythm, spans: Histogram<u64>) -> Calls {
    let offered = rhythm.blocks() * PEER_RECEIVERS as u64;
    let readers = readers.into_iter();
    let received: u64 = readers.map(|reader| runtime.block_on(reader).expect("no reader panics")).sum();
    Calls { spans, offered, lost: offered - received }
}

fn ring_task_broadcast(runtime: &Runtime, rhythm: Rhythm, clock: Duration) -> Calls {
    let (sender, _) = broadcast::channel::<Arc<[f32]>>(PEER_CAPACITY);
    let readers = receivers(runtime, &sender);
    let (mut ring, mut filled) = rtrb::RingBuffer::<f32>::new(PEER_CAPACITY * BLOCK_SAMPLES);
    let task = runtime.spawn(async move {
        let mut pause = tokio::time::interval(BLOCK);
        loop {
            // Asked first: what was pushed before the end is then there.
            let has_ended = filled.is_abandoned();
            while let Ok(chunk) = filled.read_chunk(BLOCK_SAMPLES) {
                // A whole number of blocks fits, so none wraps around the ring's end.
                let block: Arc<[f32]> = chunk.as_slices().0.into();
                chunk.commit_all();
                let _ = sender.send(block);
            }
            if has_ended {
                break;
            }
            pause.tick().await;
        }
    });
    let block = [0.25_f32; BLOCK_SAMPLES];
    let spans = rhythm.run(clock, |_| {
        // A full ring loses the block, as the capture ring does.
        let _ = ring.push_entire_slice(black_box(&block));
    });
    drop(ring);
    runtime.block_on(task).expect("the task does not panic");
    count(runtime, readers, rhythm, spans)
}

fn tokio_broadcast(runtime: &Runtime, rhythm: Rhythm, clock: Duration) -> Calls {
    let (sender, _) = broadcast::channel::<Arc<[f32]>>(PEER_CAPACITY);
    let readers = receivers(runtime, &sender);
    // More than the channel holds, so that no receiver has a block any more when it is sent again.
    let blocks: Vec<Arc<[f32]>> = (0..2 * PEER_CAPACITY).map(|_| [0.25; BLOCK_SAMPLES].into()).collect();
    let mut ready = blocks.iter().cycle().cloned();
    let mut next = ready.next();
    let spans = rhythm.run(clock, |_| {
        if let Some(block) = next.take() {
            let _ = black_box(sender.send(block));
        }
        next = ready.next();
    });
    drop(sender);
    count(runtime, readers, rhythm, spans)
}
