//! A listener that is to fall behind: a process of its own, whose every byte is kept, and with it the truth.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::client::{Pace, Take, reader_command};
use super::numbered::{BLOCK_SECONDS, Format, Received};
use super::scrape::Metrics;
use crate::common::{Server, curl, signal, wait};

/// How far a reported lag may be from the true one, in blocks: two that were read or not, and 20 ms.
const TOLERANCE: f64 = 2.0 + 0.02 / BLOCK_SECONDS;
/// The policy of those who don't go on.
pub(crate) const DISCONNECT: &str = "disconnect";
/// So many blocks may be replaced before a listener takes its first one, where only the latest is kept.
const REPLACED_FIRST: u64 = 3;
/// A listener this close to the live head has come back.
const LIVE: u64 = 10;
/// With so much lag, a listener has been behind for long enough that the server has noticed: its buffer is half a second.
const CERTAINLY_BEHIND_SECONDS: f64 = 1.0;

/// What a [`Subject`] is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    pub(crate) format: Format,
    pub(crate) overflow: &'static str,
    /// Tells it from others of its kind.
    pub(crate) suffix: &'static str,
    /// More of its query.
    pub(crate) query: &'static str,
}

impl Role {
    pub(crate) fn name(self) -> String {
        format!("{}-{}{}", self.format.label(), self.overflow, self.suffix)
    }

    /// How many lost blocks it may not know of although it has got later ones.
    pub(crate) fn untold(self) -> u64 {
        if self.overflow == "latest" && !self.format.tells_gaps() { REPLACED_FIRST } else { 0 }
    }

    fn path(self) -> String {
        self.format.path(&format!("name={}&overflow={}&{}", self.name(), self.overflow, self.query))
    }

    /// Has curl play it.
    pub(crate) fn curl(self, server: &Server, directory: &Path) -> Subject {
        let file = directory.join(self.name());
        self.play(curl(&["--output", file.to_str().unwrap(), &server.url(&self.path())]), &file)
    }

    /// Has curl play it inside a network namespace.
    pub(crate) fn curl_within(self, namespace: &str, server: &Server, directory: &Path) -> Subject {
        let file = directory.join(self.name());
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "curl", "--silent", "--no-buffer", "--output"]);
        command.arg(&file).arg(server.url(&self.path())).stdin(Stdio::null());
        self.play(command, &file)
    }

    /// Has a process play it that reads at its own pace.
    pub(crate) fn reader(self, server: &Server, directory: &Path, pace: Pace) -> Subject {
        let file = directory.join(self.name());
        self.play(reader_command(server.address, &self.path(), &file, pace), &file)
    }

    fn play(self, mut command: Command, file: &Path) -> Subject {
        Subject {
            role: self,
            process: command.stderr(Stdio::null()).spawn().unwrap(),
            take: Take::new(file.to_owned(), self.format),
            claims: Vec::new(),
            settled: false,
        }
    }
}

/// A listener that is to fall behind.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) role: Role,
    process: Child,
    take: Take,
    claims: Vec<Claim>,
    /// Whether it was found to be live, and to have lost what the server says.
    pub(crate) settled: bool,
}

/// Where a listener is at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// One past the number of the newest block.
    head: u64,
    /// How many blocks it has read, and which: the number of the first, and one past that of the last.
    read: usize,
    first: u64,
    next: u64,
    missing: u64,
}

/// A lag that was reported between two moments.
#[derive(Debug)]
struct Claim {
    /// Where, for people.
    source: String,
    lag_blocks: f64,
    before: Moment,
    after: Moment,
    /// One past the last block that it was ever to get, if it had been ended.
    end: u64,
}

impl Claim {
    /// By how many blocks it is wrong, given the numbers of all blocks that were read in the end: the least there is
    /// between it and what would have been right between the two moments, or with some blocks more or less read.
    fn wrong_by(&self, numbers: &[u64]) -> f64 {
        let around = TOLERANCE as usize;
        let reads = self.before.read.saturating_sub(around).max(1)..=(self.after.read + around).min(numbers.len());
        let wrong_by = |read: usize| {
            let next = numbers[read - 1] + 1;
            let least = self.before.head.min(self.end).saturating_sub(next) as f64;
            let most = self.after.head.saturating_sub(next) as f64;
            let off = (least - self.lag_blocks).max(self.lag_blocks - most).max(0.0);
            let outside = self.before.read.saturating_sub(read).max(read.saturating_sub(self.after.read));
            off + outside as f64
        };
        reads.map(wrong_by).fold(f64::INFINITY, f64::min)
    }
}

impl Subject {
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    pub(crate) fn name(&self) -> String {
        self.role.name()
    }

    pub(crate) fn received(&mut self) -> &Received {
        self.take.received()
    }

    /// Waits for its end; whether that was in order.
    pub(crate) fn wait(&mut self) -> bool {
        wait(&mut self.process).success()
    }

    /// Where it is now; nowhere before its first block.
    pub(crate) fn moment(&mut self, head: u64) -> Option<Moment> {
        let received = self.take.received();
        let (read, missing) = (received.numbers.len(), received.missing());
        let (first, next) = (received.first()?, received.next()?);
        Some(Moment { head, read, first, next, missing })
    }

    /// Takes down the lag of its row, and compares the counts with what it had received just before and just after.
    pub(crate) fn check_row(&mut self, row: &Value, before: Moment, after: Moment) {
        let count = |key: &str| row[key].as_u64().unwrap();
        let end = if self.role.overflow == DISCONNECT { before.first + count("offered") } else { u64::MAX };
        let lag_blocks = row["lag_seconds"].as_f64().unwrap() / BLOCK_SECONDS;
        self.claims.push(Claim { source: row.to_string(), lag_blocks, before, after, end });
        // What it knows, the server has known before.
        assert!(count("lost") >= before.missing, "{before:?}: {row}");
        assert!(count("delivered") >= before.read as u64, "{before:?}: {row}");
        let is_live = after.next + LIVE > after.head;
        // On a machine that is too busy, one who wants only the latest goes on losing, and has come back all the same.
        let lost = before.missing..=after.missing + self.role.untold();
        self.settled |= is_live && lost.contains(&count("lost"));
    }

    /// Notes the lag of its series, which it has if it is behind. `row_lag` is the lag of its row, which was read before.
    pub(crate) fn check_series(&mut self, metrics: &Metrics, row_lag: f64, before: Moment, after: Moment) {
        let labels = [&*format!("name=\"{}\"", self.name())];
        let sum = |name: &str| metrics.sum(name, &labels);
        if metrics.with("aircheck_listener_lag_seconds", &labels).next().is_none() {
            // It was behind long before that: its buffer is half a second.
            assert!(
                row_lag < CERTAINLY_BEHIND_SECONDS || self.role.overflow == DISCONNECT,
                "{row_lag} s and no series"
            );
            return;
        }
        let lag = sum("aircheck_listener_lag_seconds");
        let parts = sum("aircheck_listener_lag_part_seconds");
        assert!((lag - parts).abs() < 1e-6, "{lag} s are not {parts} s");
        // One who is ended may have been so before or after this.
        if self.role.overflow != DISCONNECT {
            let source = format!("metrics {}", self.name());
            let claim = Claim { source, lag_blocks: lag / BLOCK_SECONDS, before, after, end: u64::MAX };
            self.claims.push(claim);
        }
    }

    /// Prints how good the reports were, and returns those that were wrong.
    pub(crate) fn verdict(&mut self) -> Vec<String> {
        let received = self.take.received();
        let judged: Vec<_> = self.claims.iter().map(|claim| (claim.wrong_by(&received.numbers), claim)).collect();
        let worst = judged.iter().map(|(wrong_by, _)| *wrong_by).fold(0.0, f64::max);
        let most = judged.iter().map(|(_, claim)| claim.lag_blocks).fold(0.0, f64::max);
        let (name, reports, got, lost) = (self.role.name(), judged.len(), received.numbers.len(), received.missing());
        println!("{name:>22} {reports:>8} {worst:>9.1} {most:>9.0} {got:>9} {lost:>9}");
        let wrong = judged.into_iter().filter(|(wrong_by, _)| *wrong_by > TOLERANCE + 1e-6);
        wrong.map(|(wrong_by, claim)| format!("by {wrong_by:.1} blocks: {claim:?}")).collect()
    }

    /// The heads of [`verdict`](Self::verdict)'s columns.
    pub(crate) fn print_heads() {
        println!(
            "{:>22} {:>8} {:>9} {:>9} {:>9} {:>9}",
            "listener", "reports", "wrong by", "most lag", "received", "missing"
        );
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
