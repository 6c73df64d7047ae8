//! What a run comes to: a verdict, a table, or one JSON object.

use std::time::Duration;

use crate::report::percentiles::{aligned, nanos};
use serde_json::{Value, json};

use crate::load::crowd::Stop;
use crate::load::measures::{Kind, Measure, Measures, STALL, Spread};
use crate::load::rows::Compared;
use crate::load::tally::Tally;
use crate::units as words;

/// What the program exits with when a healthy listener lost something.
const LOST: u8 = 3;
const NANOS: f64 = 1e9;

/// Everything that is known at the end.
pub(crate) struct Outcome<'a> {
    pub(crate) url: String,
    pub(crate) stop: Stop,
    pub(crate) elapsed: Duration,
    /// In the order of [`Kind::ALL`].
    pub(crate) tallies: &'a [Tally; 3],
    pub(crate) measures: &'a [Measures; 3],
    /// How many had a row that could be compared, or why the server does not tell.
    pub(crate) compared: Result<&'a Compared, String>,
    pub(crate) churned: u64,
    pub(crate) wanted: u64,
    /// Whether whole blocks can be counted.
    pub(crate) counts_blocks: bool,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) server_cpu_seconds: Option<f64>,
    /// The longest that this process itself was late.
    pub(crate) late: Duration,
}

/// How it ended, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What to exit with.
    pub(crate) code: u8,
    /// Why.
    pub(crate) text: String,
}

impl Outcome<'_> {
    /// Whether it went well.
    pub(crate) fn verdict(&self) -> Verdict {
        let healthy = &self.tallies[Kind::Healthy as usize];
        let span = words::span(self.elapsed);
        match &self.stop {
            Stop::Died(why) => return failed(1, format!("the server died after {span}: {why}")),
            Stop::Nothing(why) => return failed(1, format!("nothing could be listened to: {why}")),
            Stop::Time | Stop::Signal | Stop::StreamEnded => {}
        }
        let compared = match &self.compared {
            Ok(compared) => compared,
            Err(why) => return failed(1, format!("the server does not answer any more: {why}")),
        };
        let all: u64 = self.tallies.iter().map(|tally| tally.listeners).sum();
        let bytes: u64 = self.tallies.iter().map(|tally| tally.bytes).sum();
        if all == 0 || bytes == 0 {
            return failed(1, format!("nothing came within {span}"));
        }
        let whys: Vec<String> = self.complaints(healthy, compared).into_iter().flatten().collect();
        if !whys.is_empty() {
            let mut text = whys.join("; ");
            // A machine that stands still stops its listeners, too.
            if healthy.lost > 0 && self.late > STALL {
                text += &format!("; this process itself was late by {}, which may be why", words::span(self.late));
            }
            return failed(LOST, text);
        }
        let mut text = words::count(healthy.listeners, "healthy listener");
        text += &if self.counts_blocks {
            format!(" got {} and lost nothing", words::count(healthy.blocks, "block"))
        } else {
            format!(" got {}", words::bytes(healthy.bytes))
        };
        match self.stop {
            Stop::StreamEnded => text += "; then the stream ended",
            _ if !compared.rows.is_empty() => text += ", as the server says",
            _ => {}
        }
        let refused: u64 = self.tallies.iter().map(Tally::refusals).sum();
        if refused > 0 {
            text += &format!("; {refused} were refused");
        }
        Verdict { code: 0, text }
    }

    /// What is wrong, the gravest first.
    fn complaints(&self, healthy: &Tally, compared: &Compared) -> [Option<String>; 7] {
        let some = |count: u64, text: String| (count > 0).then_some(text);
        let troubles = |count: u64, what: &str, first: &str| {
            some(count, format!("{} {what}: {first}", words::count(count, "healthy listener")))
        };
        let faulty: u64 = self.tallies.iter().map(|tally| tally.faulty).sum();
        let left_alone = if self.stop == Stop::StreamEnded { 0 } else { healthy.finished };
        [
            some(
                healthy.lost,
                format!(
                    "healthy listeners lost {} in {}",
                    words::count(healthy.lost, "block"),
                    words::count(healthy.gaps, "gap")
                ),
            ),
            some(
                compared.wrong,
                format!(
                    "{} of the server don't add up: {}",
                    words::count(compared.wrong, "account"),
                    compared.told.join(", ")
                ),
            ),
            some(faulty, format!("what {} told and what it sent differ", words::count(faulty, "stream"))),
            troubles(healthy.malformed.count, "got nonsense", &healthy.malformed.first),
            troubles(healthy.broken.count, "lost the connection", &healthy.broken.first),
            troubles(healthy.failed.count, "had no stream", &healthy.failed.first),
            some(
                left_alone + healthy.silent,
                format!(
                    "{} got nothing, or not to the end",
                    words::count(left_alone + healthy.silent, "healthy listener")
                ),
            ),
        ]
    }

    /// The table, what else there was, and the verdict.
    pub(crate) fn text(&self) -> String {
        let heading = "listeners,number,blocks,lost,gaps,first byte p50,p99,max,latency p50,p99,max,worst stall,bytes";
        let mut rows: Vec<Vec<String>> = vec![heading.split(',').map(str::to_owned).collect()];
        for kind in Kind::ALL {
            let (tally, measures) = (&self.tallies[kind as usize], &self.measures[kind as usize]);
            if kind != Kind::Healthy && tally.listeners == 0 {
                continue;
            }
            let mut row = vec![kind.label().to_owned(), tally.listeners.to_string()];
            row.push(if self.counts_blocks { tally.blocks.to_string() } else { "-".to_owned() });
            row.extend([tally.lost, tally.gaps].map(|count| count.to_string()));
            for measure in [Measure::FirstByte, Measure::Latency] {
                let spread = measures.spread(measure);
                row.extend(
                    spread.map_or(["-"; 3].map(str::to_owned), |Spread { p50, p99, max }| [p50, p99, max].map(nanos)),
                );
            }
            row.push(measures.spread(Measure::Stall).map_or("none".to_owned(), |spread| nanos(spread.max)));
            row.push(words::bytes(tally.bytes));
            rows.push(row);
        }
        let mut text = aligned(&rows, 1);
        let refused: Vec<String> =
            self.refusals().iter().map(|(status, count)| format!("{count} with HTTP {status}")).collect();
        if !refused.is_empty() {
            text += &format!("refused    {}\n", refused.join(", "));
        }
        if self.churned > 0 {
            text += &format!("churn      {} left and were replaced\n", self.churned);
        }
        if let Some(cpu) = self.cpu_seconds {
            text += &format!("CPU        {}", self.share(cpu));
            if let Some(cpu) = self.server_cpu_seconds {
                text += &format!(", the server {}", self.share(cpu));
            }
            text += &format!("; this process was late by {} at most\n", words::span(self.late));
        }
        let Verdict { code, text: verdict } = self.verdict();
        text + &format!("{}: {verdict}\n", if code == 0 { "ok" } else { "failed" })
    }

    fn share(&self, cpu: f64) -> String {
        format!("{cpu:.2} s ({:.1} % of a core)", 100.0 * cpu / self.elapsed.as_secs_f64().max(1e-3))
    }

    fn refusals(&self) -> std::collections::BTreeMap<u16, u64> {
        let mut all = std::collections::BTreeMap::new();
        for (status, count) in self.tallies.iter().flat_map(|tally| &tally.refused) {
            *all.entry(*status).or_default() += count;
        }
        all
    }

    /// The same as one object; times in seconds.
    pub(crate) fn json(&self) -> Value {
        let kinds: serde_json::Map<String, Value> =
            Kind::ALL.iter().map(|&kind| (kind.label().to_owned(), self.kind_json(kind))).collect();
        let Verdict { code, text } = self.verdict();
        let (rows, told) =
            self.compared.as_ref().map_or((0, &[][..]), |compared| (compared.rows.len(), &compared.told));
        json!({
            "url": self.url,
            "seconds": self.elapsed.as_secs_f64(),
            "listeners": self.wanted,
            "kinds": kinds,
            "churned": self.churned,
            "refused": self.refusals(),
            "compared_rows": rows,
            "disagreements": told,
            "cpu_seconds": self.cpu_seconds,
            "server_cpu_seconds": self.server_cpu_seconds,
            "late_max_seconds": self.late.as_secs_f64(),
            "verdict": {"ok": code == 0, "code": code, "text": text},
        })
    }

    fn kind_json(&self, kind: Kind) -> Value {
        let (tally, measures) = (&self.tallies[kind as usize], &self.measures[kind as usize]);
        let spread = |measure| {
            measures.spread(measure).map(|Spread { p50, p99, max }| {
                json!({"p50": p50 as f64 / NANOS, "p99": p99 as f64 / NANOS, "max": max as f64 / NANOS})
            })
        };
        json!({
            "listeners": tally.listeners,
            "blocks": self.counts_blocks.then_some(tally.blocks),
            "lost": tally.lost,
            "gaps": tally.gaps,
            "bytes": tally.bytes,
            "faulty": tally.faulty,
            "finished": tally.finished,
            "broken": tally.broken.count,
            "malformed": tally.malformed.count,
            "failed": tally.failed.count,
            "first_byte_seconds": spread(Measure::FirstByte),
            "latency_seconds": spread(Measure::Latency),
            "stalls": measures.count(Measure::Stall),
            "worst_stall_seconds": measures.spread(Measure::Stall).map(|spread| spread.max as f64 / NANOS),
        })
    }
}

fn failed(code: u8, text: String) -> Verdict {
    Verdict { code, text }
}
