//! `aircheckctl report`: logs as tables, and as plots.

use std::fs;
use std::path::{Path, PathBuf};

use crate::report::log::{Log, LogError, Series};
use crate::report::page::{Part, html};
use crate::report::percentiles::{comparison, table};
use crate::report::plot::svg;
use crate::table::aligned;

/// A report's logs and the files that it writes.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The logs; two of them are compared.
    pub logs: Vec<PathBuf>,
    /// File for a plot of all logs.
    pub svg: Option<PathBuf>,
    /// File for a page with tables and plots.
    pub html: Option<PathBuf>,
    /// Restricts the report to measurements with this in their name.
    pub only: Option<String>,
}

/// A reason that there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No measurement has such a name.
    #[error("no measurement in {} is called `{only}`; there are {names}", path.display())]
    Nothing {
        /// The log.
        path: PathBuf,
        /// The name of `--only`.
        only: String,
        /// The names that there are.
        names: String,
    },
    /// Two logs that measured different things.
    #[error("the two logs have nothing in common to compare: `{0}` and `{1}`")]
    Different(String, String),
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

impl Report {
    /// Reads the logs, writes the plots, and returns the tables.
    ///
    /// # Errors
    ///
    /// If a log cannot be read or has no such measurement, or a file cannot be written. Nothing is written unless all
    /// logs can be read.
    pub fn make(&self) -> Result<String, ReportError> {
        let mut logs = Vec::new();
        for path in &self.logs {
            logs.push((name(path, &self.logs), self.chosen(path, Log::read(path)?)?));
        }
        let text = match logs.as_slice() {
            [first, second] => compared(first, second)?,
            logs => logs.iter().map(|(name, log)| told(name, log)).collect::<Vec<_>>().join("\n"),
        };
        if let Some(path) = &self.svg {
            write(path, &svg("Percentiles", &self.series(&logs)))?;
        }
        if let Some(path) = &self.html {
            let parts: Vec<Part> = logs
                .iter()
                .map(|(name, log)| Part { title: name.clone(), about: log.comments.join(" · "), log: log.clone() })
                .collect();
            write(path, &html("Latency", &[], &parts))?;
        }
        Ok(text)
    }

    /// Returns the log with the measurements of `--only`.
    fn chosen(&self, path: &Path, mut log: Log) -> Result<Log, ReportError> {
        let Some(only) = &self.only else { return Ok(log) };
        let names = log.series.iter().map(|series| series.name.clone()).collect::<Vec<_>>().join(", ");
        log.series.retain(|series| series.name.contains(only.as_str()));
        if log.series.is_empty() {
            return Err(ReportError::Nothing { path: path.to_owned(), only: only.clone(), names });
        }
        Ok(log)
    }

    /// Returns all curves, named after their log if there are several.
    fn series(&self, logs: &[(String, Log)]) -> Vec<Series> {
        let full = |log: &str, series: &Series| match logs.len() {
            1 => series.name.clone(),
            _ => format!("{} ({log})", series.name),
        };
        logs.iter()
            .flat_map(|(log, Log { series, .. })| series.iter().map(move |series| (log, series)))
            .map(|(log, series)| Series { name: full(log, series), histogram: series.histogram.clone() })
            .collect()
    }
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

fn compared(first: &(String, Log), second: &(String, Log)) -> Result<String, ReportError> {
    let rows = comparison((&first.0, &first.1), (&second.0, &second.1));
    if rows.len() == 1 {
        let names = |log: &Log| log.series.iter().map(|series| series.name.clone()).collect::<Vec<_>>().join(", ");
        return Err(ReportError::Different(names(&first.1), names(&second.1)));
    }
    Ok(aligned(&rows, 2))
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    fs::write(path, text).map_err(|error| ReportError::Write { path: path.to_owned(), error })
}
