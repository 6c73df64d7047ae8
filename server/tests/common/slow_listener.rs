//! Listeners that fall behind: processes of their own whose received bytes are kept, so that their true lag is known.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::client::{ReadPace, SavedStream, reader_command};
use super::numbered::{BLOCK_SECONDS, Format, Received};
use super::scrape::{self, Metrics};
use crate::common::{Server, curl, signal, wait, with_priority};

/// How far a reported lag may be from the true one, in blocks: two that were just being read, and 20 ms.
const TOLERANCE: f64 = 2.0 + 0.02 / BLOCK_SECONDS;
/// The policy that ends a slow listener.
pub(crate) const DISCONNECT: &str = "disconnect";
/// A listener with a smaller lag is live, in blocks.
const LIVE_BLOCKS: u64 = 10;
/// With so much lag, a listener has been behind for long enough that the server has noticed: its buffer is half a second.
const CERTAINLY_BEHIND_SECONDS: f64 = 1.0;

/// The request of a [`SlowListener`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    pub(crate) format: Format,
    pub(crate) overflow: &'static str,
    /// Distinguishes its name from those of the same format and policy.
    pub(crate) suffix: &'static str,
    /// Further query parameters.
    pub(crate) query: &'static str,
}

impl Role {
    pub(crate) fn name(self) -> String {
        format!("{}-{}{}", self.format.label(), self.overflow, self.suffix)
    }

    fn path(self) -> String {
        self.format.path(&format!("name={}&overflow={}&{}", self.name(), self.overflow, self.query))
    }

    /// Starts curl.
    pub(crate) fn curl(self, server: &Server, directory: &Path) -> SlowListener {
        let file = directory.join(self.name());
        self.start(server, &curl(&["--output", file.to_str().unwrap(), &server.url(&self.path())]), &file)
    }

    /// Starts curl inside a network namespace: only the link delays it.
    pub(crate) fn curl_within(self, namespace: &str, server: &Server, directory: &Path) -> SlowListener {
        let file = directory.join(self.name());
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "curl", "--silent", "--no-buffer", "--output"]);
        command.arg(&file).arg(server.url(&self.path()));
        self.start(server, &command, &file)
    }

    /// Starts a process that reads at `pace`.
    pub(crate) fn reader(self, server: &Server, directory: &Path, pace: ReadPace) -> SlowListener {
        let file = directory.join(self.name());
        self.start(server, &reader_command(server.address, &self.path(), &file, pace), &file)
    }

    /// Starts it with priority: it reads when it is meant to, so that it has no lag that is only the load of the machine.
    fn start(self, server: &Server, command: &Command, file: &Path) -> SlowListener {
        SlowListener {
            role: self,
            started: scrape::head(server.figures_address()),
            process: with_priority(command)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
            take: SavedStream::new(file.to_owned(), self.format),
            reports: Vec::new(),
            settled: false,
        }
    }
}

/// A listener that is made to fall behind.
#[derive(Debug)]
pub(crate) struct SlowListener {
    pub(crate) role: Role,
    /// One past the number of the newest block when it was started.
    started: u64,
    process: Child,
    take: SavedStream,
    reports: Vec<LagReport>,
    /// Whether it was seen live, with as many lost blocks as the server reports.
    pub(crate) settled: bool,
}

/// The position of a listener in the stream at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// One past the number of the newest block.
    head: u64,
    /// The number of blocks read, the number of the first, and one past the number of the last.
    read: usize,
    first: u64,
    next: u64,
    missing: u64,
    /// The most lost blocks that it cannot know of.
    unreported: u64,
}

/// A lag that the server reported between two looks at the true position.
#[derive(Debug)]
struct LagReport {
    /// The row or metric, for messages.
    source: String,
    lag_blocks: f64,
    before: Position,
    after: Position,
    /// One past the last block that it was offered, if the server may have ended it.
    end: u64,
}

impl LagReport {
    /// Returns by how many blocks the report is wrong, given the numbers of all blocks that were read: its least distance
    /// from a true lag between the two looks, or with some blocks more or less read.
    fn error_blocks(&self, numbers: &[u64]) -> f64 {
        let around = TOLERANCE as usize;
        let reads = self.before.read.saturating_sub(around).max(1)..=(self.after.read + around).min(numbers.len());
        let error_blocks = |read: usize| {
            let next = numbers[read - 1] + 1;
            let least = self.before.head.min(self.end).saturating_sub(next) as f64;
            let most = self.after.head.saturating_sub(next) as f64;
            let off = (least - self.lag_blocks).max(self.lag_blocks - most).max(0.0);
            let outside = self.before.read.saturating_sub(read).max(read.saturating_sub(self.after.read));
            off + outside as f64
        };
        reads.map(error_blocks).fold(f64::INFINITY, f64::min)
    }
}

impl SlowListener {
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    pub(crate) fn name(&self) -> String {
        self.role.name()
    }

    pub(crate) fn received(&mut self) -> &Received {
        self.take.received()
    }

    /// Waits for its end; returns whether it ended properly.
    pub(crate) fn wait(&mut self) -> bool {
        wait(&mut self.process).success()
    }

    /// Returns its position now; `None` before its first block.
    pub(crate) fn position(&mut self, head: u64) -> Option<Position> {
        let received = self.take.received();
        let (read, missing) = (received.numbers.len(), received.missing());
        let (first, next) = (received.first()?, received.next()?);
        Some(Position { head, read, first, next, missing, unreported: self.max_unreported() })
    }

    /// Returns how many lost blocks it may not know of although it has received later ones: the policy `latest` replaces what comes before
    /// the first one is taken, and samples do not tell that.
    pub(crate) fn max_unreported(&mut self) -> u64 {
        if self.role.overflow != "latest" || self.role.format.reports_gaps() {
            return 0;
        }
        let first = self.take.received().first();
        first.map_or(0, |first| first.saturating_sub(self.started))
    }

    /// Records the lag of its row, and compares the counts with its positions just before and just after.
    pub(crate) fn check_row(&mut self, row: &Value, before: Position, after: Position) {
        let count = |key: &str| row[key].as_u64().unwrap();
        let end = if self.role.overflow == DISCONNECT { before.first + count("offered") } else { u64::MAX };
        let lag_blocks = row["lag_seconds"].as_f64().unwrap() / BLOCK_SECONDS;
        self.reports.push(LagReport { source: row.to_string(), lag_blocks, before, after, end });
        // What the listener knows, the server has counted before.
        assert!(count("lost") >= before.missing, "{before:?}: {row}");
        assert!(count("delivered") >= before.read as u64, "{before:?}: {row}");
        let is_live = after.next + LIVE_BLOCKS > after.head;
        // On an overloaded machine a listener with the policy `latest` goes on losing blocks although it is live.
        let lost = before.missing..=after.missing + after.unreported;
        self.settled |= is_live && lost.contains(&count("lost"));
    }

    /// Records the lag of its series, which it has if it is behind. `row_lag` is the lag of its row, which was read before.
    pub(crate) fn check_series(&mut self, metrics: &Metrics, row_lag: f64, before: Position, after: Position) {
        let labels = [&*format!("name=\"{}\"", self.name())];
        let sum = |name: &str| metrics.sum(name, &labels);
        if metrics.with("aircheck_listener_lag_seconds", &labels).next().is_none() {
            // It was behind long before that, because its buffer is half a second; unless it has caught up meanwhile.
            let is_live = after.next + LIVE_BLOCKS > after.head;
            assert!(
                row_lag < CERTAINLY_BEHIND_SECONDS || is_live || self.role.overflow == DISCONNECT,
                "{row_lag} s and no series"
            );
            return;
        }
        let lag = sum("aircheck_listener_lag_seconds");
        let parts = sum("aircheck_listener_lag_part_seconds");
        assert!((lag - parts).abs() < 1e-6, "{lag} s are not {parts} s");
        // A listener with this policy may have been ended before or after the scrape.
        if self.role.overflow != DISCONNECT {
            let parts: Vec<_> = metrics.with("aircheck_listener_lag_part_seconds", &labels).collect();
            let source = format!("metrics {} {parts:?}", self.name());
            let report = LagReport { source, lag_blocks: lag / BLOCK_SECONDS, before, after, end: u64::MAX };
            self.reports.push(report);
        }
    }

    /// Prints a summary of its reports and returns the wrong ones.
    pub(crate) fn wrong_reports(&mut self) -> Vec<String> {
        let received = self.take.received();
        let judged: Vec<_> =
            self.reports.iter().map(|report| (report.error_blocks(&received.numbers), report)).collect();
        let worst = judged.iter().map(|(error_blocks, _)| *error_blocks).fold(0.0, f64::max);
        let most = judged.iter().map(|(_, report)| report.lag_blocks).fold(0.0, f64::max);
        let (name, reports, got, lost) = (self.role.name(), judged.len(), received.numbers.len(), received.missing());
        println!("{name:>22} {reports:>8} {worst:>9.1} {most:>9.0} {got:>9} {lost:>9}");
        let wrong = judged.into_iter().filter(|(error_blocks, _)| *error_blocks > TOLERANCE + 1e-6);
        wrong.map(|(error_blocks, report)| format!("by {error_blocks:.1} blocks: {report:?}")).collect()
    }

    /// Prints the headings of the columns that [`wrong_reports`](Self::wrong_reports) prints.
    pub(crate) fn print_heads() {
        println!(
            "{:>22} {:>8} {:>9} {:>9} {:>9} {:>9}",
            "listener", "reports", "wrong by", "max lag", "received", "missing"
        );
    }
}

impl Drop for SlowListener {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
