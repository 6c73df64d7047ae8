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

mod case;
mod report;
mod run;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use aircheck_benches::{Arguments, Steal};
use aircheck_tools::report::log::Log;
use aircheck_tools::report::page::html;
use aircheck_tools::table::aligned;

use case::Case;
use report::{facts, parts, table_with_losses, write_log};
use run::run;

const RUN: Duration = Duration::from_secs(4);
/// The most consumers of a short run.
const QUICK_CONSUMERS: usize = 16;

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
