//! The result of a run: a verdict, a table, or one JSON object.

use std::time::Duration;

use serde_json::{Value, json};

use super::comparison::Comparison;
use super::measures::{ListenerKind, Measure, Measures, STALL};
use super::run::Stop;
use super::totals::KindTotals;
use crate::failure::LOST;
use crate::table::aligned;
use crate::units::{self, nanos};

/// Everything that is known at the end.
pub(crate) struct Outcome<'a> {
    pub(crate) url: String,
    pub(crate) stop: Stop,
    pub(crate) elapsed: Duration,
    /// In the order of [`ListenerKind::ALL`].
    pub(crate) totals: &'a [KindTotals; 3],
    pub(crate) measures: &'a [Measures; 3],
    /// The comparison with the server's rows, or why it does not answer.
    pub(crate) comparison: Result<&'a Comparison, String>,
    pub(crate) churned: u64,
    /// Number of listeners by `--listeners`.
    pub(crate) wanted: u64,
    /// Whether whole blocks can be counted.
    pub(crate) counts_blocks: bool,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) server_cpu_seconds: Option<f64>,
    /// The longest delay of this process itself.
    pub(crate) late: Duration,
}

/// Whether the run went well, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conclusion {
    /// The exit code.
    pub(crate) code: u8,
    /// The reason.
    pub(crate) text: String,
}

impl Outcome<'_> {
    /// Returns whether the run went well.
    pub(crate) fn conclusion(&self) -> Conclusion {
        let healthy = &self.totals[ListenerKind::Healthy as usize];
        let span = units::span(self.elapsed);
        match &self.stop {
            Stop::Died(why) => return failed(1, format!("the server died after {span}: {why}")),
            Stop::Nothing(why) => return failed(1, format!("there was nothing to listen to: {why}")),
            Stop::Time | Stop::Signal | Stop::StreamEnded => {}
        }
        let comparison = match &self.comparison {
            Ok(comparison) => comparison,
            Err(why) => return failed(1, format!("the server no longer answers: {why}")),
        };
        let all: u64 = self.totals.iter().map(|totals| totals.listeners).sum();
        let bytes: u64 = self.totals.iter().map(|totals| totals.bytes).sum();
        if all == 0 || bytes == 0 {
            return failed(1, format!("nothing came within {span}"));
        }
        let faults: Vec<String> = self.faults(healthy, comparison).into_iter().flatten().collect();
        if !faults.is_empty() {
            let mut text = faults.join("; ");
            // A machine that stands still also stops its listeners.
            if healthy.lost > 0 && self.late > STALL {
                text += &format!("; this process itself was late by {}, which may be why", units::span(self.late));
            }
            return failed(LOST, text);
        }
        let mut text = units::count(healthy.listeners, "healthy listener");
        text += &if self.counts_blocks {
            format!(" got {} and lost nothing", units::count(healthy.blocks, "block"))
        } else {
            format!(" got {}", units::bytes(healthy.bytes))
        };
        match self.stop {
            Stop::StreamEnded => text += "; then the stream ended",
            _ if !comparison.rows.is_empty() => text += ", as the server says",
            _ => {}
        }
        let refused: u64 = self.totals.iter().map(KindTotals::refusals).sum();
        if refused > 0 {
            text += &format!("; {refused} were refused");
        }
        Conclusion { code: 0, text }
    }

    /// Returns the faults, the gravest first.
    fn faults(&self, healthy: &KindTotals, comparison: &Comparison) -> [Option<String>; 7] {
        let some = |count: u64, text: String| (count > 0).then_some(text);
        let troubles = |count: u64, what: &str, first: &str| {
            some(count, format!("{} {what}: {first}", units::count(count, "healthy listener")))
        };
        let faulty: u64 = self.totals.iter().map(|totals| totals.faulty).sum();
        let ended_early = if self.stop == Stop::StreamEnded { 0 } else { healthy.finished };
        [
            some(
                healthy.lost,
                format!(
                    "healthy listeners lost {} in {}",
                    units::count(healthy.lost, "block"),
                    units::count(healthy.gaps, "gap")
                ),
            ),
            some(
                comparison.disagreements,
                format!(
                    "{} of the server {} add up: {}",
                    units::count(comparison.disagreements, "account"),
                    if comparison.disagreements == 1 { "doesn't" } else { "don't" },
                    comparison.words.join(", ")
                ),
            ),
            some(
                faulty,
                format!(
                    "{} contradicted {}",
                    units::count(faulty, "stream"),
                    if faulty == 1 { "itself" } else { "themselves" }
                ),
            ),
            troubles(healthy.malformed.count, "had an unreadable stream", &healthy.malformed.first),
            troubles(healthy.broken.count, "lost the connection", &healthy.broken.first),
            troubles(healthy.failed.count, "had no stream", &healthy.failed.first),
            some(
                ended_early + healthy.empty,
                format!(
                    "{} got nothing, or not to the end",
                    units::count(ended_early + healthy.empty, "healthy listener")
                ),
            ),
        ]
    }

    /// Returns the table, further facts, and the verdict.
    pub(crate) fn text(&self) -> String {
        let heading = "listeners,number,blocks,lost,gaps,first byte p50,p99,max,latency p50,p99,max,worst stall,bytes";
        let mut rows: Vec<Vec<String>> = vec![heading.split(',').map(str::to_owned).collect()];
        for kind in ListenerKind::ALL {
            let (totals, measures) = (&self.totals[kind as usize], &self.measures[kind as usize]);
            if kind != ListenerKind::Healthy && totals.listeners == 0 {
                continue;
            }
            let mut row = vec![kind.label().to_owned(), totals.listeners.to_string()];
            row.push(if self.counts_blocks { totals.blocks.to_string() } else { "-".to_owned() });
            row.extend([totals.lost, totals.gaps].map(|count| count.to_string()));
            for measure in [Measure::FirstByte, Measure::Latency] {
                row.extend(measures.percentiles(measure).map_or(["-"; 3].map(str::to_owned), |percentiles| {
                    [percentiles.p50, percentiles.p99, percentiles.max].map(time)
                }));
            }
            row.push(measures.percentiles(Measure::Stall).map_or("none".to_owned(), |stall| time(stall.max)));
            row.push(units::bytes(totals.bytes));
            rows.push(row);
        }
        let mut text = aligned(&rows, 1);
        if let Some(pause) = self.measures[ListenerKind::Healthy as usize].percentiles(Measure::LongestPause) {
            let [p50, p99, max] = [pause.p50, pause.p99, pause.max].map(time);
            text += &format!("pauses     the longest of each healthy listener: p50 {p50}, p99 {p99}, max {max}\n");
        }
        let refused: Vec<String> =
            self.refusals().iter().map(|(status, count)| format!("{count} with HTTP {status}")).collect();
        if !refused.is_empty() {
            text += &format!("refused    {}\n", refused.join(", "));
        }
        let ended_frozen = self.comparison.as_ref().map_or(0, |comparison| comparison.ended_frozen);
        if ended_frozen > 0 {
            text += &format!("frozen     the server ended {ended_frozen} of them\n");
        }
        if self.churned > 0 {
            text += &format!("churn      {} left and were replaced\n", self.churned);
        }
        if let Some(cpu) = self.cpu_seconds {
            text += &format!("CPU        {}", self.share(cpu));
            if let Some(cpu) = self.server_cpu_seconds {
                text += &format!(", the server {}", self.share(cpu));
            }
            text += &format!("; this process was late by {} at most\n", units::span(self.late));
        }
        let Conclusion { code, text: verdict } = self.conclusion();
        text + &format!("{}: {verdict}\n", if code == 0 { "ok" } else { "failed" })
    }

    fn share(&self, cpu: f64) -> String {
        format!("{cpu:.2} s ({:.1} % of a core)", 100.0 * cpu / self.elapsed.as_secs_f64().max(1e-3))
    }

    fn refusals(&self) -> std::collections::BTreeMap<u16, u64> {
        let mut all = std::collections::BTreeMap::new();
        for (status, count) in self.totals.iter().flat_map(|totals| &totals.refused) {
            *all.entry(*status).or_default() += count;
        }
        all
    }

    /// Returns the same as one object; times are in seconds.
    pub(crate) fn json(&self) -> Value {
        let kinds: serde_json::Map<String, Value> =
            ListenerKind::ALL.iter().map(|&kind| (kind.label().to_owned(), self.kind_json(kind))).collect();
        let Conclusion { code, text } = self.conclusion();
        let nothing = Comparison::default();
        let comparison = self.comparison.as_ref().map_or(&nothing, |comparison| *comparison);
        json!({
            "url": self.url,
            "seconds": self.elapsed.as_secs_f64(),
            "listeners": self.wanted,
            "kinds": kinds,
            "churned": self.churned,
            "refused": self.refusals(),
            "compared_rows": comparison.rows.len(),
            "disagreements": comparison.words,
            "ended_frozen": comparison.ended_frozen,
            "cpu_seconds": self.cpu_seconds,
            "server_cpu_seconds": self.server_cpu_seconds,
            "late_max_seconds": self.late.as_secs_f64(),
            "verdict": {"ok": code == 0, "code": code, "text": text},
        })
    }

    fn kind_json(&self, kind: ListenerKind) -> Value {
        let (totals, measures) = (&self.totals[kind as usize], &self.measures[kind as usize]);
        json!({
            "listeners": totals.listeners,
            "blocks": self.counts_blocks.then_some(totals.blocks),
            "lost": totals.lost,
            "gaps": totals.gaps,
            "bytes": totals.bytes,
            "faulty": totals.faulty,
            "finished": totals.finished,
            "broken": totals.broken.count,
            "malformed": totals.malformed.count,
            "failed": totals.failed.count,
            "first_byte_seconds": measures.percentiles(Measure::FirstByte),
            "latency_seconds": measures.percentiles(Measure::Latency),
            "stalls": measures.count(Measure::Stall),
            "longest_pause_seconds": measures.percentiles(Measure::LongestPause),
            "worst_stall_seconds": measures.percentiles(Measure::Stall).and_then(|stall| stall.max),
        })
    }
}

/// Writes a time of a table.
fn time(seconds: Option<f64>) -> String {
    nanos((seconds.unwrap_or(0.0) * 1e9).round() as u64)
}

fn failed(code: u8, text: String) -> Conclusion {
    Conclusion { code, text }
}
