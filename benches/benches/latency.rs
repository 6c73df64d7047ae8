//! Latency by stage, from a paced source through the capture ring, the dispatcher and the fan-out to consumers: on an
//! idle machine, on a loaded one, and with one consumer that stands still.
//!
//! A block is due every 2 ms by the clock and carries that time as the time of its capture, whether the producer was on
//! time or not. So a late producer, a stalled dispatcher or a consumer that does not run counts in full (no coordinated
//! omission). Stages: `write`, until the block is in the capture ring; `ring`, until it is dispatched; `queue`, from then
//! until a consumer has it; `all`, from when it was due until a consumer has it. Consumers are tasks on a runtime of two
//! threads, as the server's are, and read every sample. A lost block has no latency: the share of lost blocks stands
//! beside, and percentiles with fewer than ten values beyond them are left out.
//!
//! *Loaded*: two more threads take all the processor time that they can get. *One frozen*: one of the consumers, of at
//! least four, stands still for 200 of every 500 ms, with a ring of 100 ms; latencies and losses are those of the others.
//!
//! Writes `latency.hlog`, which HdrHistogram's tools and `aircheckctl report` read, and `latency.html`, to
//! `target/latency` or the directory after `--out`. `-- idle-16` measures only that case; `-- --quick` takes a second for
//! each, and up to 16 consumers.

use std::error::Error;
use std::fmt;
use std::fs;
use std::future::poll_fn;
use std::hint::{black_box, spin_loop};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aircheck_benches::{Arguments, Steal, sum, tap};
use aircheck_engine::{Block, Consumer, StreamOptions, SubscribeOptions, Tally, Timestamp};
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
/// The most consumers of a short run.
const QUICK_CONSUMERS: usize = 16;
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

/// A number of consumers under one condition.
#[derive(Clone, Copy, Debug)]
struct Case {
    condition: Condition,
    consumers: usize,
}

impl Case {
    /// Returns all cases. A frozen consumer needs others beside it.
    fn all() -> impl Iterator<Item = Self> {
        let with = |consumers| Condition::ALL.map(|condition| Self { condition, consumers });
        CONSUMERS.into_iter().flat_map(with).filter(|case| case.condition != Condition::Frozen || case.consumers > 1)
    }

    fn name(&self) -> String {
        format!("{}-{}", self.condition.name(), self.consumers)
    }
}

/// What one case came to.
struct Run {
    case: Case,
    /// When it began, since the start of the benchmark.
    start: Duration,
    stages: [(&'static str, Histogram<u64>); 4],
    /// Of all consumers but the frozen one.
    losses: Losses,
    /// Of the frozen one.
    frozen: Option<Losses>,
}

/// Blocks that consumers were offered, and lost.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    lost: u64,
    offered: u64,
}

impl Losses {
    fn add(&mut self, tally: &Tally) {
        let account = tally.snapshot();
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
    fn tag(&self, stage: &str) -> String {
        format!("{}/{stage}", self.case.name())
    }

    /// Returns a sentence on what was lost.
    fn lost(&self) -> String {
        let frozen = self.frozen.map(|losses| format!("; the frozen consumer lost {losses}")).unwrap_or_default();
        format!("{}: {} blocks lost{frozen}", self.case.name(), self.losses)
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments = Arguments::read();
    let span = if arguments.is_quick() { Duration::from_secs(1) } else { RUN };
    let cases = arguments.choose(Case::all(), Case::name);
    let cases = cases.into_iter().filter(|case| !arguments.is_quick() || case.consumers <= QUICK_CONSUMERS);
    let (start, steal, began) = (Instant::now(), Steal::now(), SystemTime::now());
    let mut runs = Vec::new();
    for case in cases {
        let run = run(case, span, start.elapsed())?;
        eprintln!("{}", run.lost());
        runs.push(run);
    }
    if runs.is_empty() {
        return Ok(());
    }
    let facts = facts(steal.map_or(f64::NAN, Steal::percent_since));
    let out = arguments
        .value("--out")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/latency")), PathBuf::from);
    fs::create_dir_all(&out)?;
    let out = out.canonicalize()?;
    let log = out.join("latency.hlog");
    write_log(&log, &runs, &facts, began, span)?;
    println!("{}", aligned(&table_with_losses(&Log::read(&log)?, &runs), 1));
    for (name, fact) in &facts {
        println!("{name}: {fact}");
    }
    let page = out.join("latency.html");
    fs::write(&page, html("aircheck: latency by stage", &facts, &parts(&runs)))?;
    println!("report: {}\nlog: {}", page.display(), log.display());
    Ok(())
}

/// Writes the log, whose comments hold the facts and the losses.
fn write_log(
    path: &Path,
    runs: &[Run],
    facts: &[(String, String)],
    began: SystemTime,
    span: Duration,
) -> std::io::Result<()> {
    let mut comments: Vec<String> = facts.iter().map(|(name, fact)| format!("{name}: {fact}")).collect();
    comments.extend(runs.iter().map(Run::lost));
    let histograms: Vec<(String, Duration, &Histogram<u64>)> = runs
        .iter()
        .flat_map(|run| run.stages.iter().map(|(stage, histogram)| (run.tag(stage), run.start, histogram)))
        .collect();
    let intervals: Vec<Interval<'_>> =
        histograms.iter().map(|(tag, start, histogram)| Interval { tag, start: *start, span, histogram }).collect();
    write(path, &comments, began, &intervals)
}

/// Returns the table of a log, as it was read from the file, with a column for the losses of the same run.
fn table_with_losses(log: &Log, runs: &[Run]) -> Vec<Vec<String>> {
    let mut rows = table(log);
    for row in &mut rows {
        let run = runs.iter().find(|run| row[0].starts_with(&run.tag("")));
        row.push(run.map_or("lost".to_owned(), |run| run.losses.to_string()));
    }
    rows
}

/// Returns the parts of the page: a plot of the whole way for each condition, and one of the stages with 16 consumers.
/// A plot for each case would be too many.
fn parts(runs: &[Run]) -> Vec<Part> {
    let with_losses = |runs: &[&Run]| runs.iter().map(|run| run.lost()).collect::<Vec<_>>().join("; ");
    let mut parts = Vec::new();
    for condition in Condition::ALL {
        let of: Vec<&Run> = runs.iter().filter(|run| run.case.condition == condition).collect();
        if of.is_empty() {
            continue;
        }
        let series = of.iter().map(|run| Series { name: run.case.name(), histogram: run.stages[3].1.clone() });
        parts.push(Part {
            title: format!("{}: from when a block was due until a consumer had it", condition.name()),
            about: format!("By number of consumers. {}.", with_losses(&of)),
            log: Log { comments: Vec::new(), series: series.collect() },
        });
    }
    for run in runs.iter().filter(|run| run.case.consumers == 16) {
        let series = run.stages.iter();
        let series =
            series.map(|(stage, histogram)| Series { name: (*stage).to_owned(), histogram: histogram.clone() });
        parts.push(Part {
            title: format!("{} by stage", run.case.name()),
            about: format!("Where the time goes, with 16 consumers. {}.", with_losses(&[run])),
            log: Log { comments: Vec::new(), series: series.collect() },
        });
    }
    parts
}

/// Up to ten seconds in nanoseconds; anything longer counts as that.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("possible bounds")
}

fn run(case: Case, span: Duration, start: Duration) -> std::io::Result<Run> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let (stream, mut capture) = tap(RATE_HZ, 2, options);
    let (mut readers, mut frozen) = (Vec::new(), None);
    for number in 0..case.consumers {
        let is_frozen = case.condition == Condition::Frozen && number == 0;
        let buffer = if is_frozen { FROZEN_BUFFER } else { BUFFER };
        let consumer = stream.subscribe(SubscribeOptions { buffer, ..SubscribeOptions::default() });
        let consumer = consumer.expect("a running stream");
        let tally = Arc::clone(consumer.tally());
        if is_frozen {
            frozen = Some((tally, runtime.spawn(stand_still(consumer))));
        } else {
            readers.push((tally, runtime.spawn(read(consumer))));
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
    for (number, (tally, reader)) in readers.into_iter().enumerate() {
        let seen = runtime.block_on(reader).expect("no reader panics");
        if number == 0 {
            // All consumers get the same blocks, dispatched at the same time.
            ring = seen.ring;
        }
        queue.add(seen.queue).expect("the same bounds");
        all.add(seen.all).expect("the same bounds");
        losses.add(&tally);
    }
    calm.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| drop(thread.join()));
    let stages = [("write", written), ("ring", ring), ("queue", queue), ("all", all)];
    let frozen = frozen.map(|(tally, reader)| {
        runtime.block_on(reader).expect("no reader panics");
        let mut losses = Losses::default();
        losses.add(&tally);
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

/// Returns what a reader needs to judge the figures: the machine, its load, the commit, the command.
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
    let fact = |name: &str, fact: String| (name.to_owned(), fact);
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
