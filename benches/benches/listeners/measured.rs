//! All figures of one run, as cells of a table.

use std::time::Duration;

use aircheck_benches::{Cpu, Memory, Target, number};
use aircheck_tools::report::percentiles::has_quantile;
use serde_json::Value;

use crate::LISTENERS;
use crate::client::{BLOCK, BLOCK_BYTES, Received, WAV_HEADER_BYTES};
use crate::server::{Scrape, Totals};

/// Memory per listener in KiB.
const MEMORY: Target = Target::AtMost(64.0);

/// A value, and its target if it has one.
pub(crate) type Cell = [String; 2];

/// All figures of one server and its listeners.
pub(crate) struct Measured {
    pub(crate) listeners: usize,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Cpu,
    pub(crate) scrape: Scrape,
    pub(crate) rows: Vec<Value>,
    pub(crate) received: Vec<Received>,
    pub(crate) totals: Totals,
    pub(crate) before: Memory,
    pub(crate) with_one: Memory,
    pub(crate) with_all: Memory,
    pub(crate) after: Memory,
    pub(crate) again: Memory,
}

impl Measured {
    pub(crate) const LABELS: [&str; 25] = [
        "listeners",
        "window, s",
        "blocks offered",
        "blocks delivered",
        "blocks lost",
        "blocks left queued at the end",
        "accounts that don't add up",
        "bytes received - bytes of blocks delivered",
        "fewest blocks of a client - blocks by its clock",
        "lag p99 of the worst listener, ms",
        "lag max of the worst listener, ms",
        "stage queue, p99 of the worst listener, ms",
        "server CPU, % of one core",
        "  of it in the kernel, %",
        "  us per listener and block",
        "a scrape of /metrics, median and slowest, ms",
        "  server CPU beyond that of the listeners, ms",
        "  size, KiB",
        "memory before any listener, KiB (VmRSS)",
        "  with one, KiB",
        "  with all, KiB",
        "  per listener, KiB",
        "  after all left, KiB",
        "  when as many have come again, KiB",
        "  per listener then, KiB",
    ];

    /// Returns a value and its target for each of [`LABELS`](Self::LABELS). That nothing is lost is a target for 200
    /// listeners only.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let totals = &self.totals;
        let nothing = |count: u64| match (count, self.listeners) {
            (0, _) => "0 met".to_owned(),
            (_, LISTENERS) => "0 MISSED".to_owned(),
            _ => String::new(),
        };
        let always_nothing = |difference: i64| if difference == 0 { "0 met" } else { "0 MISSED" }.to_owned();
        let plain = |value: String| [value, String::new()];
        let worst_ms = |of: fn(&Value) -> &Value| {
            let seconds = self.rows.iter().filter_map(|row| of(row).as_f64()).fold(0.0, f64::max);
            plain(format!("{:.1}", seconds * 1000.0))
        };
        // Of the blocks of one listener, which is the least that the worst one had.
        let fewest_blocks = self.rows.iter().filter_map(|row| row["delivered"].as_u64()).min().unwrap_or(0);
        let worst_p99_ms = |of: fn(&Value) -> &Value| {
            if has_quantile(fewest_blocks, 0.99) { worst_ms(of) } else { plain(number(None, 0)) }
        };
        let wrong = self.rows.iter().filter(|row| !adds_up(row)).count()
            + usize::from(totals.offered != totals.delivered + totals.lost + totals.left)
            + self.listeners.abs_diff(self.rows.len());
        let bytes: u64 = self.received.iter().map(|received| received.bytes).sum();
        let expected = self.listeners as u64 * WAV_HEADER_BYTES + totals.delivered * BLOCK_BYTES;
        let unmatched = bytes as i64 - expected as i64;
        let fewest = self.received.iter().map(Received::ahead_of_clock).min().unwrap_or(0);
        let blocks = self.elapsed.as_secs_f64() / BLOCK.as_secs_f64() * self.listeners as f64;
        let per_listener = |memory: Memory| (memory.anon_kib - self.before.anon_kib) / self.listeners as f64;
        let (first, then) = (per_listener(self.with_all), per_listener(self.again));
        let further = (self.with_all.anon_kib - self.with_one.anon_kib) / (self.listeners - 1) as f64;
        vec![
            plain(self.listeners.to_string()),
            plain(format!("{:.1}", self.elapsed.as_secs_f64())),
            plain(totals.offered.to_string()),
            plain(totals.delivered.to_string()),
            [totals.lost.to_string(), nothing(totals.lost)],
            plain(totals.left.to_string()),
            [wrong.to_string(), always_nothing(wrong as i64)],
            [unmatched.to_string(), always_nothing(unmatched)],
            plain(format!("{fewest:+}")),
            worst_p99_ms(|row| &row["lag_p99_seconds"]),
            worst_ms(|row| &row["lag_max_seconds"]),
            worst_p99_ms(|row| &row["latency_seconds"]["queue"]["p99"]),
            plain(format!("{:.1}", 100.0 * self.cpu.total() / self.elapsed.as_secs_f64())),
            plain(format!("{:.0}", 100.0 * self.cpu.system / self.cpu.total())),
            plain(format!("{:.2}", 1e6 * self.cpu.total() / blocks)),
            plain(format!("{:.1}, {:.1}", self.scrape.median_ms, self.scrape.slowest_ms)),
            plain(format!("{:.1}", self.scrape.cpu_ms)),
            plain(format!("{:.0}", self.scrape.kib)),
            plain(kib(self.before)),
            plain(kib(self.with_one)),
            plain(kib(self.with_all)),
            [format!("{first:.1}, further ones {further:.1}"), MEMORY.verdict(first)],
            plain(kib(self.after)),
            plain(kib(self.again)),
            [format!("{then:.1}"), MEMORY.verdict(then)],
        ]
    }
}

/// Returns both figures, anonymous memory first.
fn kib(memory: Memory) -> String {
    format!("{} ({})", memory.anon_kib, memory.all_kib)
}

/// Returns whether `offered = delivered + lost + queued` in a row of `/api/v1/listeners`.
fn adds_up(row: &Value) -> bool {
    let count = |name: &str| row[name].as_u64().unwrap_or(u64::MAX / 4);
    count("offered") == count("delivered") + count("lost") + count("queued")
}
