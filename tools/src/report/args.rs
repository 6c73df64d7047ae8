//! The arguments of `aircheckctl report`.

use std::path::PathBuf;

use clap::Args;

/// Show what a run measured, from its log: percentiles, a plot, two runs side by side
///
/// Logs are HdrHistogram's interval logs (.hlog) in nanoseconds, as
/// `aircheckctl load --hlog` and `cargo bench --bench latency` write them. Two
/// logs are compared where both measured the same.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  aircheckctl report target/latency/latency.hlog
  aircheckctl report before.hlog after.hlog --only idle-16 --svg both.svg

Exit codes:
  0  the report was printed
  1  a log cannot be read or has no such measurement, or a file cannot be written
  2  wrong usage"
)]
pub(crate) struct ReportArgs {
    /// The logs
    #[arg(value_name = "FILE.hlog", required = true)]
    pub(crate) logs: Vec<PathBuf>,

    /// Show only measurements with NAME in their name
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Option<String>,

    /// Draw the percentiles of all measurements
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Write a page with tables and plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
