//! `aircheckctl report`: logs as tables, and as plots.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::failure::{Failure, io_words};
use crate::report::args::ReportArgs;
use crate::report::log::{Log, Series};
use crate::report::page::{Part, html};
use crate::report::percentiles::{comparison, table};
use crate::report::plot::svg;
use crate::table::aligned;

/// Runs the command.
pub(crate) fn report(args: &ReportArgs) -> ExitCode {
    match make(args) {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failure) => failure.exit(),
    }
}

/// Reads the logs, writes the plots, and returns the tables. Nothing is written unless all logs can be read.
fn make(args: &ReportArgs) -> Result<String, Failure> {
    let mut logs = Vec::new();
    for path in &args.logs {
        logs.push((name(path, &args.logs), read(path, args.only.as_deref())?));
    }
    let text = match logs.as_slice() {
        [first, second] => compared(first, second)?,
        logs => logs.iter().map(|(name, log)| told(name, log)).collect::<Vec<_>>().join("\n"),
    };
    if let Some(path) = &args.svg {
        write(path, &svg("Percentiles", &curves(&logs)))?;
    }
    if let Some(path) = &args.html {
        let part = |(title, log): (String, Log)| Part { title, about: log.comments.join(" · "), log };
        write(path, &html("Latency", &[], &logs.into_iter().map(part).collect::<Vec<_>>()))?;
    }
    Ok(text)
}

/// Reads a log, and keeps the measurements with `only` in their name.
fn read(path: &Path, only: Option<&str>) -> Result<Log, Failure> {
    let mut log = Log::read(path).map_err(|error| Failure::Report(error.to_string()))?;
    let Some(only) = only else { return Ok(log) };
    let (path, names) = (path.display(), names(&log));
    log.series.retain(|series| series.name.contains(only));
    if log.series.is_empty() {
        return Err(Failure::Report(format!("no measurement in {path} is called `{only}`; there are {names}")));
    }
    Ok(log)
}

fn names(log: &Log) -> String {
    log.series.iter().map(|series| series.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Returns all curves, named after their log if there are several.
fn curves(logs: &[(String, Log)]) -> Vec<Series> {
    let mut curves = Vec::new();
    for (log, Log { series, .. }) in logs {
        curves.extend(series.iter().cloned().map(|curve| match logs.len() {
            1 => curve,
            _ => Series { name: format!("{} ({log})", curve.name), ..curve },
        }));
    }
    curves
}

/// Returns a log's short name, or its path if two share that.
fn name(path: &Path, all: &[PathBuf]) -> String {
    let is_alone = all.iter().filter(|other| other.file_name() == path.file_name()).count() == 1;
    let short = path.file_stem().filter(|_| is_alone).unwrap_or(path.as_os_str());
    short.to_string_lossy().into_owned()
}

fn told(name: &str, log: &Log) -> String {
    let comments: String = log.comments.iter().map(|comment| format!("  {comment}\n")).collect();
    format!("{name}\n{comments}\n{}", aligned(&table(log), 1))
}

fn compared(first: &(String, Log), second: &(String, Log)) -> Result<String, Failure> {
    let rows = comparison((&first.0, &first.1), (&second.0, &second.1));
    if rows.len() == 1 {
        let (first, second) = (names(&first.1), names(&second.1));
        let why = format!("the two logs have nothing in common to compare: `{first}` and `{second}`");
        return Err(Failure::Report(why));
    }
    Ok(aligned(&rows, 2))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::Write { path: path.to_owned(), why: io_words(&error) })
}
