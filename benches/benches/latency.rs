//! Latency by stage, from a paced source through the capture ring, the dispatcher and the fan-out to consumers: on an
//! idle machine, on a loaded one, and with one consumer that stands still.
//!
//! A block is due every 2 ms by the clock, and carries that time as the time of its capture, whether the producer was
//! on time or not: so a late producer, a stalled dispatcher or a consumer that is not run counts in full (no coordinated
//! omission). Stages: `write`, until it is in the capture ring; `ring`, until it is dispatched; `queue`, from there to
//! the consumer's hands; `all`, from when it was due to the consumer's hands. Consumers are tasks on a runtime of two
//! threads, as the server's are, and read every sample. What is lost has no latency: its share stands beside.
//!
//! *Loaded*: two threads more that take what processor time they can get. *Frozen*: one of the consumers stands still
//! for 200 of every 500 ms, with a ring of 100 ms; shown are the others.
//!
//! Writes `latency.hlog`, which HdrHistogram's tools and `aircheckctl report` read, and `latency.html`, to
//! `target/latency` or the directory after `--out`. `-- --quick` takes a second for each, and up to 16 consumers.

use std::error::Error;
use std::fs;
use std::future::poll_fn;
use std::hint::{black_box, spin_loop};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aircheck_benches::{Steal, is_quick, sum, tap};
use aircheck_engine::{Block, Consumer, StreamOptions, SubscribeOptions, Timestamp};
use aircheck_tools::report::log::{Interval, Log, Series, write};
use aircheck_tools::report::page::{Part, html};
use aircheck_tools::report::percentiles::{aligned, table};
use hdrhistogram::Histogram;
use tokio::runtime::Builder;

/// 96 frames of stereo.
const BLOCK: Duration = Duration::from_millis(2);
const RATE_HZ: u32 = 48_000;
const BLOCK_SAMPLES: usize = 192;
const CONSUMERS: [usize; 5] = [1, 4, 16, 64, 256];
const RUN: Duration = Duration::from_secs(4);
/// A second, the server's default.
const BUFFER: usize = 500;
/// 100 ms.
const FROZEN_BUFFER: usize = 50;
const FREEZE_EVERY: Duration = Duration::from_millis(500);
const FREEZE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Idle,
    Loaded,
    Frozen,
}

impl Condition {
    const ALL: [Self; 3] = [Self::Idle, Self::Loaded, Self::Frozen];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Loaded => "loaded",
            Self::Frozen => "one-frozen",
        }
    }
}

/// One run: so many consumers under one condition.
struct Run {
    name: String,
    start: Duration,
    stages: [(&'static str, Histogram<u64>); 4],
    lost: u64,
    offered: u64,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().collect();
    let quick = is_quick();
    let out = arguments.iter().position(|argument| argument == "--out").and_then(|at| arguments.get(at + 1));
    let out =
        out.map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/latency")), PathBuf::from);
    fs::create_dir_all(&out)?;
    let out = out.canonicalize()?;
    let (start, steal) = (Instant::now(), Steal::now());
    let began = SystemTime::now();
    let mut runs = Vec::new();
    for consumers in CONSUMERS.into_iter().filter(|consumers| !quick || *consumers <= 16) {
        for condition in Condition::ALL {
            let span = if quick { Duration::from_secs(1) } else { RUN };
            let at = start.elapsed();
            let run = run(consumers, condition, span, at)?;
            eprintln!("{}: {} of {} lost", run.name, run.lost, run.offered);
            runs.push(run);
        }
    }
    let stolen = steal.map_or(f64::NAN, Steal::percent_since);
    let facts = facts(stolen);
    let comments: Vec<String> = facts.iter().map(|(what, fact)| format!("{what}: {fact}")).collect();
    let tags: Vec<Vec<String>> =
        runs.iter().map(|run| run.stages.iter().map(|(stage, _)| format!("{}/{stage}", run.name)).collect()).collect();
    let span = if quick { Duration::from_secs(1) } else { RUN };
    let intervals: Vec<Interval<'_>> = runs
        .iter()
        .zip(&tags)
        .flat_map(|(run, tags)| {
            run.stages.iter().zip(tags).map(move |((_, histogram), tag)| Interval {
                tag,
                start: run.start,
                span,
                histogram,
            })
        })
        .collect();
    let hlog = out.join("latency.hlog");
    write(&hlog, &comments, began, &intervals)?;
    // From the file, as everybody else would.
    println!("{}", aligned(&table(&Log::read(&hlog)?), 1));
    for (what, fact) in &facts {
        println!("{what}: {fact}");
    }
    let page = out.join("latency.html");
    fs::write(&page, html("aircheck: latency by stage", &facts, &parts(&runs)))?;
    println!("written: {}, {}", hlog.display(), page.display());
    Ok(())
}

/// One plot for each condition and number of consumers would be too many: one for each condition, of all the way.
fn parts(runs: &[Run]) -> Vec<Part> {
    let mut parts: Vec<Part> = Condition::ALL
        .iter()
        .map(|condition| {
            let of = runs.iter().filter(|run| run.name.starts_with(condition.name()));
            let lost = of.clone().map(|run| format!("{} of {}", run.lost, run.offered)).collect::<Vec<_>>().join(", ");
            let series = of.map(|run| Series { name: run.name.clone(), histogram: run.stages[3].1.clone() });
            Part {
                title: format!("{}: from when a block was due to the consumer's hands", condition.name()),
                about: format!("By number of consumers. Lost, in the same order: {lost}."),
                log: Log { comments: Vec::new(), series: series.collect() },
            }
        })
        .collect();
    for run in runs.iter().filter(|run| run.name.ends_with("-16")) {
        let series = run
            .stages
            .iter()
            .map(|(stage, histogram)| Series { name: (*stage).to_owned(), histogram: histogram.clone() });
        parts.push(Part {
            title: format!("{} by stage", run.name),
            about: "Where the time goes, with 16 consumers.".to_owned(),
            log: Log { comments: Vec::new(), series: series.collect() },
        });
    }
    parts
}

/// Up to ten seconds in nanoseconds; anything longer counts as that.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("possible bounds")
}

fn run(consumers: usize, condition: Condition, span: Duration, start: Duration) -> std::io::Result<Run> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let (stream, mut capture) = tap(RATE_HZ, 2, options);
    let mut readers = Vec::new();
    for number in 0..consumers {
        let frozen = condition == Condition::Frozen && number == 0 && consumers > 1;
        let buffer = if frozen { FROZEN_BUFFER } else { BUFFER };
        let consumer = stream.subscribe(SubscribeOptions { buffer, ..SubscribeOptions::default() });
        let consumer = consumer.expect("a running stream");
        if frozen {
            runtime.spawn(stand_still(consumer));
        } else {
            readers.push((Arc::clone(consumer.tally()), runtime.spawn(read(consumer))));
        }
    }
    let calm = Arc::new(AtomicBool::new(condition != Condition::Loaded));
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
    let (mut lost, mut offered) = (0, 0);
    for (number, (tally, reader)) in readers.into_iter().enumerate() {
        let seen = runtime.block_on(reader).expect("no reader panics");
        if number == 0 {
            // It is the same for all.
            ring = seen.ring;
        }
        queue.add(seen.queue).expect("the same bounds");
        all.add(seen.all).expect("the same bounds");
        let account = tally.snapshot();
        lost += account.lost.total();
        offered += account.offered;
    }
    calm.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| drop(thread.join()));
    let stages = [("write", written), ("ring", ring), ("queue", queue), ("all", all)];
    Ok(Run { name: format!("{}-{consumers}", condition.name()), start, stages, lost, offered })
}

/// What a consumer saw.
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

/// What the figures are of: the machine, the commit, the command.
fn facts(stolen_percent: f64) -> Vec<(String, String)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([':', '\t', ' ']));
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let rest: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let fact = |what: &str, fact: String| (what.to_owned(), fact);
    vec![
        fact(
            "machine",
            format!("{cores} processors, {}, Linux {}", model.unwrap_or("of an unknown kind"), kernel.trim()),
        ),
        fact("load average at the end", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        fact("taken away by other machines (steal)", format!("{stolen_percent:.2} % of the time")),
        fact("commit", commit),
        fact(
            "command",
            format!("cargo bench -p aircheck-benches --bench latency -- {}", rest.join(" "))
                .trim_end_matches(" -- ")
                .to_owned(),
        ),
    ]
}
