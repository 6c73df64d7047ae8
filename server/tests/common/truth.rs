//! Compares what the server reports of listeners with the truth: the listeners are programs of their own that keep the
//! stream that they read.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

pub(crate) mod client;
pub(crate) mod counting_listener;
pub(crate) mod healthy;
pub(crate) mod numbered;
pub(crate) mod scrape;
pub(crate) mod slow_listener;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use client::{Client, Events};
use numbered::Format;
use scrape::Metrics;
use serde_json::Value;
use slow_listener::{DISCONNECT, Position, SlowListener};

use crate::common::{Server, TEST_TIMEOUT, assert_identity, eventually};

/// The pause between scrapes, each of which takes some 50 ms in a debug build.
const SCRAPE_PAUSE: Duration = Duration::from_millis(60);
/// The names of listeners that must lose nothing begin with this.
const HEALTHY: &str = "healthy";
/// Their buffer: on an overloaded machine no listener may be served for seconds.
const HEALTHY_BUFFER: &str = "5s";
/// The most blocks that the encoder may be behind the head: the length of its own ring.
const MAX_ENCODER_LAG: f64 = 100.0;

/// Returns whether the long runs are requested.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("AIRCHECK_SOAK").is_some()
}

/// All reports of the server at one time.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    /// One past the number of the newest block, before and after.
    pub(crate) head: u64,
    pub(crate) head_after: u64,
    pub(crate) rows: BTreeMap<String, Value>,
    pub(crate) metrics: Metrics,
}

/// A server and its listeners whose true position is known.
#[derive(Debug)]
pub(crate) struct LagCheck {
    address: SocketAddr,
    events: Events,
    healthy: Vec<Client>,
    pub(crate) slow: Vec<SlowListener>,
    scrapes: usize,
}

impl LagCheck {
    /// Starts `healthy` healthy listeners of two formats in turn, and waits for their sound.
    pub(crate) fn new(server: &Server, healthy: usize) -> Self {
        let address = server.figures_address();
        let client = |number: usize| {
            let format = [Format::Pcm, Format::Sse][number % 2];
            Client::start(server.address, format, &format!("name={HEALTHY}-{number}&buffer={HEALTHY_BUFFER}"))
        };
        let healthy: Vec<_> = (0..healthy).map(client).collect();
        eventually("sound", || healthy.iter().all(|client| client.received().numbers.len() > 20).then_some(()));
        Self { address, events: Events::start(address), healthy, slow: Vec::new(), scrapes: 0 }
    }

    /// Returns the head and the positions of the slow listeners.
    fn positions(&mut self) -> (u64, Vec<Option<Position>>) {
        let head = scrape::head(self.address);
        (head, self.slow.iter_mut().map(|listener| listener.position(head)).collect())
    }

    /// Reads all reports of the server and compares them with the true positions before and after.
    pub(crate) fn scrape(&mut self) -> Scrape {
        std::thread::sleep(SCRAPE_PAUSE);
        let (head, before) = self.positions();
        let rows = scrape::rows(self.address);
        let (_, between) = self.positions();
        let metrics = Metrics::of(self.address);
        let (head_after, after) = self.positions();
        rows.values().for_each(assert_identity);
        self.scrapes += 1;
        for (index, listener) in self.slow.iter_mut().enumerate() {
            let Some(row) = rows.get(&listener.name()) else { continue };
            if let (Some(before), Some(between), Some(after)) = (before[index], between[index], after[index]) {
                listener.check_row(row, before, between);
                let row_lag = row["lag_seconds"].as_f64().unwrap();
                listener.check_series(&metrics, row_lag, between, after);
            }
        }
        Scrape { head, head_after, rows, metrics }
    }

    /// Scrapes until all slow listeners are live again and have lost as much as the server reports.
    pub(crate) fn scrape_until_settled(&mut self) {
        self.slow.iter_mut().for_each(|listener| listener.settled = false);
        let start = Instant::now();
        let is_settled = |listener: &SlowListener| listener.settled || listener.role.overflow == DISCONNECT;
        while !self.slow.iter().all(is_settled) {
            let scrape = self.scrape();
            if start.elapsed() > TEST_TIMEOUT {
                let late = self.slow.iter_mut().filter(|listener| !is_settled(listener));
                let rows: Vec<_> =
                    late.map(|listener| (listener.received().missing(), scrape.rows.get(&listener.name()))).collect();
                panic!("not all return to live with the reported losses: {rows:?}");
            }
        }
    }

    /// Scrapes for `span`, and passes on each scrape with the time since the first.
    pub(crate) fn scrape_for(&mut self, span: Duration, mut with: impl FnMut(&Self, Scrape, Duration)) {
        let start = Instant::now();
        while start.elapsed() < span {
            let scrape = self.scrape();
            with(self, scrape, start.elapsed());
        }
    }

    /// Returns the events of the listener called `name`.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        self.events.of(name)
    }

    /// Disconnects a live listener and compares its account with the stream that it received.
    pub(crate) fn disconnect(&mut self, server: &Server, index: usize) {
        let name = self.slow[index].name();
        let id = &scrape::rows(self.address)[&name]["id"];
        let head = scrape::head(self.address) as f64;
        let (status, answer) = server.ask(&["--request", "DELETE"], &format!("api/v1/listeners/{id}"));
        assert_eq!(status, 200, "{answer}");
        assert!(self.slow[index].wait(), "{name} got a proper end");
        let offered = self.check_account(index, "closed");
        // Until it had left, which is a moment after it was disconnected.
        let head_after = scrape::head(self.address) as f64;
        let max_unreported = self.slow[index].max_unreported() as f64;
        let end = (self.slow[index].received().first().unwrap() + offered) as f64;
        let ends = head - MAX_ENCODER_LAG..=head_after + max_unreported;
        assert!(ends.contains(&end), "{name} was due blocks until {end}, but the end was within {ends:?}");
    }

    /// Compares the account of a listener that has left for `reason` with the stream that it received; returns how many
    /// blocks it was offered.
    pub(crate) fn check_account(&mut self, index: usize, reason: &str) -> u64 {
        let listener = &mut self.slow[index];
        let name = listener.name();
        let left = eventually("its end", || self.events.of(&name).into_iter().find(|event| event["event"] == "left"));
        let count = |key: &str| left[key].as_u64().unwrap();
        let received = listener.received();
        assert_eq!(left["reason"], reason, "{left}");
        assert_eq!(count("delivered"), received.numbers.len() as u64, "{name} got what was delivered: {left}");
        assert_eq!(count("offered"), count("delivered") + count("lost"), "{left}");
        if listener.role.format.reports_gaps() {
            let received = listener.received();
            // It sees no holes before its first block and after its last one.
            let (first, next) = (received.numbers[0], received.next().unwrap());
            let between: Vec<_> =
                received.reported_gaps.iter().filter(|gap| gap.end > first && gap.start < next).cloned().collect();
            assert_eq!(between, received.holes, "the stream of {name} reports each gap");
        }
        count("offered")
    }

    /// Fails if a report was wrong, or if a healthy listener lost blocks that were not lost at the capture.
    pub(crate) fn finish(&mut self) {
        SlowListener::print_heads();
        let wrong: Vec<_> = self.slow.iter_mut().flat_map(SlowListener::wrong_reports).collect();
        let captured = scrape::captured_losses(self.address);
        println!("in blocks of 10 ms, at {} scrapes; {captured} blocks were lost at the capture", self.scrapes);
        assert!(wrong.is_empty(), "{} reports were wrong:\n{}", wrong.len(), wrong.join("\n"));
        let rows = scrape::rows(self.address);
        for (number, client) in self.healthy.iter().enumerate() {
            let (row, received) = (&rows[&format!("{HEALTHY}-{number}")], client.received());
            assert!(received.missing() <= captured, "a healthy listener lost {:?}: {row}", received.holes);
            assert!(row["lost"].as_u64().unwrap() <= captured, "{row}");
        }
    }

    /// Returns the 99th percentile of the healthy listeners' latencies from capture to arrival, in milliseconds, over the
    /// blocks that arrived in `span` of Unix time.
    pub(crate) fn healthy_p99(&self, format: Format, span: &Range<f64>) -> f64 {
        let epoch = self.healthy.iter().find_map(|client| client.received().epoch).unwrap();
        let of_format = self.healthy.iter().filter(|client| client.format == format);
        let mut latencies: Vec<_> = of_format.flat_map(|client| client.latencies(epoch, span)).collect();
        latencies.sort_by(f64::total_cmp);
        latencies.get(latencies.len() * 99 / 100).map_or(f64::NAN, |seconds| seconds * 1000.0)
    }
}
