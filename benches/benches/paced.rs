//! Latency at the pace of live sound, of the engine's fan-out and of its peers; and the effect of one slow consumer.
//!
//! A block is due each millisecond by the clock, whether the last one is out or not. Each carries the time at which it
//! was due, and latency is from then until a consumer has it (no coordinated omission: the delay that a waiting producer
//! adds is in it). The producer, on this thread, spins until a block is due. One other thread visits all consumers in
//! turn and reads every sample. Meanwhile it asks the processor for the memory of the consumers after that one, as the engine's
//! delivery shards do; no peer needs that, because none has a ring for each consumer. *One ring, one consumer* is the floor: an rtrb
//! ring of blocks that are filled and read in place. For more consumers, disruptor, which has one ring for all, stands for it.
//!
//! Contenders take turns, in [`ROUNDS`] rounds of [`TURN_BLOCKS`] blocks. Quantiles are of all rounds together, and left
//! out where fewer than ten values lie beyond them; ratios are of the medians of one round, and the median of these is
//! shown. A lost block has no latency, so the share of lost blocks stands beside. From p99 on the machine is measured:
//! compare with the floor of the same run, and with the share of time that the hypervisor took away (steal) below.
//!
//! Then four consumers, of which one, on a thread of its own, stands still for 200 of every 500 ms, with room for 128 ms
//! of blocks. Shown are the age of the first block that it gets when it is back, and the losses and latencies of the
//! other three.
//!
//! `-- "64/aircheck"`, or `-- slow/`, measures only those cases.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{Arguments, Rounds, Steal, Table, Target, number, sum};
use aircheck_engine::Timestamp;
use aircheck_tools::report::percentiles::at;
use hdrhistogram::Histogram;

mod carriers;

use carriers::{AIRCHECK, BlockReceiver, BlockSender, CARRIERS, Carrier, DISRUPTOR, FLOOR, TOKIO, Taken, visit};

const EVERY: Duration = Duration::from_millis(1);
/// A consumer's ring, in blocks.
const RING: usize = 128;
const TURN_BLOCKS: u64 = 500;
const ROUNDS: usize = 7;
const CONSUMERS: [usize; 5] = [1, 4, 16, 64, 256];
/// The most consumers of a short run.
const QUICK_CONSUMERS: usize = 4;
/// How long each contender is watched with a slow consumer.
const SLOW_RUN: Duration = Duration::from_secs(4);
const FREEZE_EVERY: Duration = Duration::from_millis(500);
const FREEZE: Duration = Duration::from_millis(200);
const QUANTILES: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

/// The second half's: a block every 2 ms, so that a ring of 64 holds 128 ms.
const SLOW_EVERY: Duration = Duration::from_millis(2);
const SLOW_RING: usize = 64;
const SLOW_CONSUMERS: u64 = 4;

fn main() {
    let arguments = Arguments::read();
    let steal = Steal::now();
    let start = Instant::now();
    let max_consumers = if arguments.is_quick() { QUICK_CONSUMERS } else { usize::MAX };
    let cases = CONSUMERS.into_iter().filter(|consumers| *consumers <= max_consumers).flat_map(|consumers| {
        let floor = (consumers == 1).then_some(FLOOR);
        CARRIERS.into_iter().chain(floor).map(move |carrier| (Some(consumers), carrier))
    });
    let cases = cases.chain(CARRIERS.map(|carrier| (None, carrier)));
    let cases = arguments.choose(cases, |(consumers, carrier)| match consumers {
        Some(consumers) => format!("{consumers}/{}", carrier.name),
        None => format!("slow/{}", carrier.name),
    });
    let with = |consumers: Option<usize>| {
        let is_in = |case: &&(Option<usize>, Carrier)| case.0 == consumers;
        cases.iter().filter(is_in).map(|(_, carrier)| *carrier).collect::<Vec<Carrier>>()
    };

    let rounds = if arguments.is_quick() { 1 } else { ROUNDS };
    let mut table =
        Table::new(["consumers", "contender", "lost", "p50 us", "p99", "p99.9", "max", "/ floor", "/ tokio", "target"]);
    let groups: Vec<(usize, Vec<Carrier>)> =
        CONSUMERS.into_iter().map(|consumers| (consumers, with(Some(consumers)))).collect();
    for (consumers, contenders) in groups.iter().filter(|(_, contenders)| !contenders.is_empty()) {
        latency(start, *consumers, contenders, rounds, &mut table);
    }
    if groups.iter().any(|(_, contenders)| !contenders.is_empty()) {
        println!("paced latency: a block each ms, read by every consumer; {rounds} rounds of {TURN_BLOCKS} blocks\n");
        println!("{table}");
    }
    let contenders = with(None);
    if !contenders.is_empty() {
        println!("one of four consumers stands still for 200 of every 500 ms, with room for 128 ms\n");
        println!("{}", slow_table(start, &contenders, if arguments.is_quick() { FREEZE_EVERY } else { SLOW_RUN }));
    }
    println!("steal: {:.2} % of the time", steal.map_or(f64::NAN, Steal::percent_since));
}

/// Up to ten seconds in nanoseconds; anything longer counts as that.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("possible bounds")
}

/// Lost blocks and their share: `12 (0.4 %)`.
fn share(lost: u64, of: u64) -> String {
    if lost == 0 { "0".to_owned() } else { format!("{lost} ({:.2} %)", 100.0 * lost as f64 / of as f64) }
}

/// The latencies that consumers saw, in nanoseconds, and the number of blocks that they read.
struct Latencies {
    histogram: Histogram<u64>,
    read: u64,
}

impl Latencies {
    fn new() -> Self {
        Self { histogram: histogram(), read: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("the same bounds");
        self.read += other.read;
    }
}

/// Measures contenders with the same number of consumers.
fn latency(start: Instant, consumers: usize, contenders: &[Carrier], rounds: usize, table: &mut Table) {
    let mut seen: Vec<Latencies> = contenders.iter().map(|_| Latencies::new()).collect();
    let p50 = Rounds::run(rounds, contenders.len(), |contender| {
        let (sender, receivers) = (contenders[contender].open)(RING, consumers);
        let turn = turn(start, sender, receivers);
        seen[contender].add(&turn);
        turn.histogram.value_at_quantile(0.5) as f64
    });
    let place = |name| contenders.iter().position(|carrier| carrier.name == name);
    let (tokio, floor) = (place(TOKIO), place(if consumers == 1 { FLOOR.name } else { DISRUPTOR }));
    let offered = rounds as u64 * TURN_BLOCKS * consumers as u64;
    for (contender, (carrier, seen)) in contenders.iter().zip(&seen).enumerate() {
        let to = |base: Option<usize>| base.map(|base| p50.ratio(contender, base));
        let (to_floor, to_tokio) = (to(floor), to(tokio));
        let verdict = match (carrier.name, consumers, to_floor, to_tokio) {
            (AIRCHECK, 1, Some(ratio), _) => Target::AtMost(1.15).verdict(ratio) + " (floor)",
            (AIRCHECK, 16 | 64, _, Some(ratio)) => Target::AtMost(1.0).verdict(ratio) + " (tokio)",
            _ => String::new(),
        };
        let micros = |quantile| number(at(&seen.histogram, quantile).map(|nanos| nanos as f64 / 1000.0), 1);
        table.row(
            [consumers.to_string(), carrier.name.to_owned(), share(offered - seen.read, offered)]
                .into_iter()
                .chain(QUANTILES.map(micros))
                .chain([number(to_floor, 2), number(to_tokio, 2), verdict]),
        );
    }
}

/// Measures contenders with one slow consumer.
fn slow_table(start: Instant, contenders: &[Carrier], run: Duration) -> Table {
    let mut table = Table::new([
        "contender",
        "its blocks lost",
        "it was told of",
        "the others' lost",
        "age after a stall, ms",
        "/ tokio",
        "target",
        "others' p50, ms",
        "p99, ms",
        "what it does",
    ]);
    let watched: Vec<Watched> = contenders.iter().map(|carrier| slow(start, *carrier, run)).collect();
    let age = |seen: &Watched| seen.age.value_at_quantile(0.5) as f64 / 1e6;
    let tokio = contenders.iter().position(|carrier| carrier.name == TOKIO);
    for (carrier, seen) in contenders.iter().zip(&watched) {
        let ratio = tokio.map(|tokio| age(seen) / age(&watched[tokio]));
        let millis = |quantile| number(at(&seen.healthy.histogram, quantile).map(|nanos| nanos as f64 / 1e6), 2);
        let is_judged = carrier.name == AIRCHECK;
        table.row([
            carrier.name.to_owned(),
            share(seen.blocks - seen.slow_read, seen.blocks),
            seen.slow_told.to_string(),
            share((SLOW_CONSUMERS - 1) * seen.blocks - seen.healthy.read, (SLOW_CONSUMERS - 1) * seen.blocks),
            format!("{:.2}", age(seen)),
            number(ratio, 2),
            ratio.filter(|_| is_judged).map(|ratio| Target::AtMost(1.1).verdict(ratio)).unwrap_or_default(),
            millis(0.5),
            millis(0.99),
            carrier.slow.to_owned(),
        ]);
    }
    table
}

fn nanos(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

/// Sends so many blocks, each when it is due.
fn pace(start: Instant, sender: &mut dyn BlockSender, every: Duration, blocks: u64) {
    let first = nanos(start) + 2_000_000;
    for sequence in 0..blocks {
        let due_nanos = first + sequence * every.as_nanos() as u64;
        while nanos(start) < due_nanos {
            spin_loop();
        }
        sender.send(1, &mut |block| {
            (block.sequence, block.due_nanos) = (sequence, due_nanos);
            block.samples.fill(black_box(0.25));
        });
    }
}

/// Reads all that the consumers have, and enters how late it is.
fn take_all(start: Instant, receivers: &mut [Box<dyn BlockReceiver>], seen: &mut Latencies) {
    let now = Timestamp::now();
    visit(receivers, |receiver| {
        seen.read += receiver
            .take(now, &mut |block| {
                seen.histogram.saturating_record(nanos(start).saturating_sub(block.due_nanos));
                black_box(sum(&block.samples));
            })
            .blocks;
    });
}

/// One turn: all consumers on another thread.
fn turn(start: Instant, mut sender: Box<dyn BlockSender>, mut receivers: Vec<Box<dyn BlockReceiver>>) -> Latencies {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut seen = Latencies::new();
            while !over.load(Ordering::Relaxed) {
                take_all(start, &mut receivers, &mut seen);
            }
            // A thread that was put aside may not have seen the last blocks before it was told to end.
            take_all(start, &mut receivers, &mut seen);
            seen
        });
        pace(start, &mut *sender, EVERY, TURN_BLOCKS);
        thread::sleep(Duration::from_millis(5));
        over.store(true, Ordering::Relaxed);
        reading.join().expect("no reader panics")
    })
}

/// One slow consumer of four.
struct Watched {
    blocks: u64,
    slow_read: u64,
    /// Lost blocks that the library told the slow one of.
    slow_told: u64,
    /// Of the first block that it got after each stall, in nanoseconds.
    age: Histogram<u64>,
    /// The other three.
    healthy: Latencies,
}

fn slow(start: Instant, carrier: Carrier, run: Duration) -> Watched {
    let (mut sender, mut receivers) = (carrier.open)(SLOW_RING, SLOW_CONSUMERS as usize);
    let mut slow = receivers.pop().expect("there are four");
    let blocks = (run.as_nanos() / SLOW_EVERY.as_nanos()) as u64;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let healthy = scope.spawn(|| {
            let mut seen = Latencies::new();
            while !over.load(Ordering::Relaxed) {
                take_all(start, &mut receivers, &mut seen);
                thread::sleep(Duration::from_micros(100));
            }
            take_all(start, &mut receivers, &mut seen);
            seen
        });
        let slow = scope.spawn(|| {
            let (mut age, mut all) = (histogram(), Taken::default());
            let begun = Instant::now();
            let mut stalls = 0;
            while !over.load(Ordering::Relaxed) {
                let mut first = None;
                let is_due = begun.elapsed() > FREEZE_EVERY * (stalls + 1) - FREEZE;
                if is_due {
                    stalls += 1;
                    thread::sleep((FREEZE_EVERY * stalls).saturating_sub(begun.elapsed()));
                } else {
                    thread::sleep(Duration::from_micros(100));
                }
                let taken = slow.take(Timestamp::now(), &mut |block| {
                    first.get_or_insert(nanos(start).saturating_sub(block.due_nanos));
                    black_box(sum(&block.samples));
                });
                all.blocks += taken.blocks;
                all.lost += taken.lost;
                if let Some(first) = first.filter(|_| is_due) {
                    age.saturating_record(first);
                }
            }
            (age, all)
        });
        pace(start, &mut *sender, SLOW_EVERY, blocks);
        thread::sleep(FREEZE);
        over.store(true, Ordering::Relaxed);
        let healthy = healthy.join().expect("no reader panics");
        let (age, slow) = slow.join().expect("no reader panics");
        Watched { blocks, slow_read: slow.blocks, slow_told: slow.lost, age, healthy }
    })
}
