//! Latency at the pace of live sound, of the engine's fan-out and of its peers; and what one slow consumer does.
//!
//! A block is due each millisecond by the clock, whether the last one is out or not: each carries the time that it was
//! due at, and latency is from then to where a consumer has it in its hands (no coordinated omission: what a producer
//! that waits adds is in it). The producer, on this thread, spins until a block is due; one other thread goes round all
//! consumers, reading every sample. *One ring, one consumer* is the floor: an rtrb ring of blocks that are filled and
//! read in place, one slab and one cursor. For more consumers the disruptor is that.
//!
//! Contenders take turns, in [`ROUNDS`] rounds of [`TURN_BLOCKS`] blocks. Quantiles are of each turn; shown are their
//! medians over the rounds, and medians of ratios within a round. From p99 on they are the machine's: a floor of the
//! same run stands beside them, and the share of time that the hypervisor took away (steal) below.
//!
//! Then four consumers, of which one, on a thread of its own, stands still for 200 of every 500 ms, with room for 100
//! ms of blocks. What it gets first when it comes back has an age; the others lose something, or wait, or don't.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{Rounds, Steal, Table, Target, is_quick, sum};
use aircheck_engine::Timestamp;
use hdrhistogram::Histogram;

mod peers;

use peers::{FLOOR, PEERS, Peer, Sending, Taken, Taking};

const EVERY: Duration = Duration::from_millis(1);
/// A consumer's ring, in blocks.
const RING: usize = 128;
const TURN_BLOCKS: u64 = 500;
const ROUNDS: usize = 7;
const CONSUMERS: [usize; 5] = [1, 4, 16, 64, 256];
/// How long each contender is watched with a slow consumer.
const SLOW_RUN: Duration = Duration::from_secs(4);
const FREEZE_EVERY: Duration = Duration::from_millis(500);
const FREEZE: Duration = Duration::from_millis(200);
const QUANTILES: [f64; 4] = [0.5, 0.99, 0.999, 1.0];

fn main() {
    let quick = is_quick();
    let steal = Steal::now();
    let start = Instant::now();
    println!("paced latency in us: a block each ms, read by every consumer; medians of {ROUNDS} rounds\n");
    let mut table = Table::new(["consumers", "who", "p50", "p99", "p99.9", "max", "/ floor", "/ tokio", "target"]);
    for consumers in if quick { &CONSUMERS[..1] } else { &CONSUMERS[..] } {
        latency(start, *consumers, if quick { 1 } else { ROUNDS }, &mut table);
    }
    println!("{table}");
    println!("one of four consumers stands still for 200 of every 500 ms, with room for 100 ms\n");
    let mut table = Table::new([
        "who",
        "its blocks lost",
        "the others'",
        "age after a stall, ms",
        "/ tokio",
        "target",
        "others' p50, ms",
        "p99, ms",
        "what it does",
    ]);
    let watched: Vec<Watched> =
        PEERS.iter().map(|peer| slow(start, *peer, if quick { FREEZE_EVERY } else { SLOW_RUN })).collect();
    for (peer, seen) in PEERS.iter().zip(&watched) {
        let age = |seen: &Watched| seen.age.value_at_quantile(0.5) as f64 / 1e6;
        let ratio = age(seen) / age(&watched[1]);
        let ms = |quantile| format!("{:.2}", seen.healthy.value_at_quantile(quantile) as f64 / 1e6);
        table.row([
            peer.name.to_owned(),
            seen.slow_lost.to_string(),
            seen.others_lost.to_string(),
            format!("{:.2}", age(seen)),
            format!("{ratio:.2}"),
            if peer.name == "aircheck" { Target::AtMost(1.1).verdict(ratio) } else { String::new() },
            ms(0.5),
            ms(0.99),
            peer.slow.to_owned(),
        ]);
    }
    println!("{table}");
    println!("steal: {:.2} % of the time", steal.map_or(f64::NAN, Steal::percent_since));
}

/// Up to ten seconds in nanoseconds; anything longer counts as that.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("possible bounds")
}

/// Who is measured beside whom, with so many consumers: the peers, and the floor where it can be had.
fn latency(start: Instant, consumers: usize, rounds: usize, table: &mut Table) {
    let mut contenders = PEERS.to_vec();
    if consumers == 1 {
        contenders.push(FLOOR);
    }
    let mut turns = vec![Vec::new(); contenders.len()];
    let p50 = Rounds::run(rounds, contenders.len(), |contender| {
        let (sender, receivers) = (contenders[contender].open)(RING, consumers);
        let seen = turn(start, sender, receivers);
        let reading = seen.value_at_quantile(0.5) as f64;
        turns[contender].push(seen);
        reading
    });
    let place = |name| contenders.iter().position(|peer| peer.name == name).unwrap_or(0);
    let (tokio, floor) = (place("tokio broadcast"), place(if consumers == 1 { FLOOR.name } else { "disruptor" }));
    for (contender, (peer, turns)) in contenders.iter().zip(&turns).enumerate() {
        let median = |quantile| {
            let mut values: Vec<u64> = turns.iter().map(|turn| turn.value_at_quantile(quantile)).collect();
            values.sort_unstable();
            values[values.len() / 2] as f64 / 1000.0
        };
        let (to_floor, to_tokio) = (p50.ratio(contender, floor), p50.ratio(contender, tokio));
        let verdict = match (contender, consumers) {
            (0, 1) => Target::AtMost(1.15).verdict(to_floor) + " (floor)",
            (0, 16 | 64) => Target::AtMost(1.0).verdict(to_tokio) + " (tokio)",
            _ => String::new(),
        };
        let quantiles = QUANTILES.iter().map(|quantile| format!("{:.1}", median(*quantile)));
        let ratios = [format!("{to_floor:.2}"), format!("{to_tokio:.2}"), verdict];
        table.row([consumers.to_string(), peer.name.to_owned()].into_iter().chain(quantiles).chain(ratios));
    }
}

fn nanos(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

/// Sends a block each time one is due, for so many; each is told when it was due.
fn pace(start: Instant, sender: &mut dyn Sending, every: Duration, blocks: u64) {
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

/// What is read, and how late.
fn take_all(start: Instant, receivers: &mut [Box<dyn Taking>], seen: &mut Histogram<u64>) -> Taken {
    let mut all = Taken::default();
    let now = Timestamp::now();
    for receiver in receivers {
        let taken = receiver.take(now, &mut |block| {
            seen.saturating_record(nanos(start).saturating_sub(block.due_nanos));
            black_box(sum(&block.samples));
        });
        all.blocks += taken.blocks;
        all.lost += taken.lost;
    }
    all
}

/// One turn: all consumers on another thread.
fn turn(start: Instant, mut sender: Box<dyn Sending>, mut receivers: Vec<Box<dyn Taking>>) -> Histogram<u64> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut seen = histogram();
            while !over.load(Ordering::Relaxed) {
                take_all(start, &mut receivers, &mut seen);
            }
            seen
        });
        pace(start, &mut *sender, EVERY, TURN_BLOCKS);
        thread::sleep(Duration::from_millis(5));
        over.store(true, Ordering::Relaxed);
        reading.join().expect("no reader panics")
    })
}

/// What one slow consumer of four did.
struct Watched {
    slow_lost: u64,
    others_lost: u64,
    /// Of the first block that it got after each stall, in nanoseconds.
    age: Histogram<u64>,
    /// Latencies of the others.
    healthy: Histogram<u64>,
}

fn slow(start: Instant, peer: Peer, run: Duration) -> Watched {
    const SLOW_EVERY: Duration = Duration::from_millis(2);
    const SLOW_RING: usize = 64;
    let (mut sender, mut receivers) = (peer.open)(SLOW_RING, 4);
    let mut slow = receivers.pop().expect("there are four");
    let blocks = (run.as_nanos() / SLOW_EVERY.as_nanos()) as u64;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let healthy = scope.spawn(|| {
            let (mut seen, mut read) = (histogram(), 0);
            while !over.load(Ordering::Relaxed) {
                read += take_all(start, &mut receivers, &mut seen).blocks;
                thread::sleep(Duration::from_micros(100));
            }
            (seen, read)
        });
        let slow = scope.spawn(|| {
            let (mut age, mut read) = (histogram(), 0);
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
                read += slow
                    .take(Timestamp::now(), &mut |block| {
                        first.get_or_insert(nanos(start).saturating_sub(block.due_nanos));
                        black_box(sum(&block.samples));
                    })
                    .blocks;
                if let Some(first) = first.filter(|_| is_due) {
                    age.saturating_record(first);
                }
            }
            (age, read)
        });
        pace(start, &mut *sender, SLOW_EVERY, blocks);
        thread::sleep(FREEZE);
        over.store(true, Ordering::Relaxed);
        let (healthy, others_read) = healthy.join().expect("no reader panics");
        let (age, slow_read) = slow.join().expect("no reader panics");
        Watched { slow_lost: blocks - slow_read, others_lost: 3 * blocks - others_read, age, healthy }
    })
}
