//! The log, the table and the parts of the page.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use aircheck_tools::report::log::{Interval, Log, Series, write};
use aircheck_tools::report::page::Part;
use aircheck_tools::report::percentiles::table;
use hdrhistogram::Histogram;

use crate::case::Condition;
use crate::run::Run;

/// Writes the log, whose comments hold the facts and the losses.
pub(crate) fn write_log(
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
pub(crate) fn table_with_losses(log: &Log, runs: &[Run]) -> Vec<Vec<String>> {
    let mut rows = table(log);
    for row in &mut rows {
        let run = runs.iter().find(|run| row[0].starts_with(&run.tag("")));
        row.push(run.map_or("lost".to_owned(), |run| run.losses.to_string()));
    }
    rows
}

/// Returns the parts of the page: a plot of the whole way for each condition, and one of the stages with 16 consumers.
/// A plot for each case would be too many.
pub(crate) fn parts(runs: &[Run]) -> Vec<Part> {
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

/// Returns what a reader needs to judge the figures: the machine, its load, the commit, the command.
pub(crate) fn facts(stolen_percent: f64) -> Vec<(String, String)> {
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
