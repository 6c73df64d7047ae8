//! Listeners whose truth is known, because they are programs of their own that keep what they read; and what the
//! server says of them, held against it.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

pub(crate) mod client;
pub(crate) mod numbered;
pub(crate) mod scrape;
pub(crate) mod subject;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use client::{Client, Events};
use numbered::Format;
use scrape::Metrics;
use serde_json::Value;
use subject::{DISCONNECT, Moment, Subject};

use crate::common::{PATIENCE, Server, assert_identity, eventually};

/// Between scrapes, each of which takes some 50 ms where programs are not optimised.
const PAUSE: Duration = Duration::from_millis(60);
/// Names of listeners who are not to lose anything begin with this.
const HEALTHY: &str = "healthy";
/// Their rings: where a machine has more to do than it can, seconds may pass in which nobody is served.
const HEALTHY_BUFFER: &str = "5s";
/// How far the encoder may be behind the head, in blocks: the length of its own ring.
const ENCODER: f64 = 100.0;

/// Whether the long runs are asked for.
pub(crate) fn is_soak() -> bool {
    std::env::var_os("AIRCHECK_SOAK").is_some()
}

/// What the server said at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    /// One past the number of the newest block, before and after.
    pub(crate) head: u64,
    pub(crate) head_after: u64,
    pub(crate) rows: BTreeMap<String, Value>,
    pub(crate) metrics: Metrics,
}

/// A server, and those of its listeners whose truth is known.
#[derive(Debug)]
pub(crate) struct Scene {
    address: SocketAddr,
    events: Events,
    healthy: Vec<Client>,
    pub(crate) subjects: Vec<Subject>,
    scrapes: usize,
}

impl Scene {
    /// So many healthy listeners, of two formats in turn, who get sound.
    pub(crate) fn new(server: &Server, healthy: usize) -> Self {
        let address = server.address;
        let client = |number: usize| {
            let format = [Format::Pcm, Format::Sse][number % 2];
            Client::start(address, format, &format!("name={HEALTHY}-{number}&buffer={HEALTHY_BUFFER}"))
        };
        let healthy: Vec<_> = (0..healthy).map(client).collect();
        eventually("sound", || healthy.iter().all(|client| client.received().numbers.len() > 20).then_some(()));
        Self { address, events: Events::start(address), healthy, subjects: Vec::new(), scrapes: 0 }
    }

    /// The head, and where everybody is.
    fn moments(&mut self) -> (u64, Vec<Option<Moment>>) {
        let head = scrape::head(self.address);
        (head, self.subjects.iter_mut().map(|subject| subject.moment(head)).collect())
    }

    /// Asks the server for everything, and holds that against the truth before and after.
    pub(crate) fn scrape(&mut self) -> Scrape {
        std::thread::sleep(PAUSE);
        let (head, before) = self.moments();
        let rows = scrape::rows(self.address);
        let (_, between) = self.moments();
        let metrics = Metrics::of(self.address);
        let (head_after, after) = self.moments();
        rows.values().for_each(assert_identity);
        self.scrapes += 1;
        for (index, subject) in self.subjects.iter_mut().enumerate() {
            let Some(row) = rows.get(&subject.name()) else { continue };
            if let (Some(before), Some(between), Some(after)) = (before[index], between[index], after[index]) {
                subject.check_row(row, before, between);
                let row_lag = row["lag_seconds"].as_f64().unwrap();
                subject.check_series(&metrics, row_lag, between, after);
            }
        }
        Scrape { head, head_after, rows, metrics }
    }

    /// Scrapes until everybody is live again, and has lost what the server says.
    pub(crate) fn scrape_until_settled(&mut self) {
        self.subjects.iter_mut().for_each(|subject| subject.settled = false);
        let start = Instant::now();
        let is_settled = |subject: &Subject| subject.settled || subject.role.overflow == DISCONNECT;
        while !self.subjects.iter().all(is_settled) {
            let scrape = self.scrape();
            if start.elapsed() > PATIENCE {
                let late = self.subjects.iter_mut().filter(|subject| !is_settled(subject));
                let rows: Vec<_> =
                    late.map(|subject| (subject.received().missing(), scrape.rows.get(&subject.name()))).collect();
                panic!("not all come back, or know what they lost: {rows:?}");
            }
        }
    }

    /// Scrapes for a while, and hands on what it gets, and how long it has done so.
    pub(crate) fn scrape_for(&mut self, span: Duration, mut with: impl FnMut(&Self, Scrape, Duration)) {
        let start = Instant::now();
        while start.elapsed() < span {
            let scrape = self.scrape();
            with(self, scrape, start.elapsed());
        }
    }

    /// What was told of the listener called `name`.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        self.events.of(name)
    }

    /// Ends a listener who listens, and compares its account with what it got.
    pub(crate) fn dismiss(&mut self, server: &Server, index: usize) {
        let name = self.subjects[index].name();
        let id = &scrape::rows(self.address)[&name]["id"];
        let head = scrape::head(self.address) as f64;
        let (status, answer) = server.ask(&["--request", "DELETE"], &format!("api/v1/listeners/{id}"));
        assert_eq!(status, 200, "{answer}");
        assert!(self.subjects[index].wait(), "{name} got a proper end");
        let offered = self.check_account(index, "closed");
        // Until it had left, which is a moment after it was told to.
        let head_after = scrape::head(self.address) as f64;
        let untold = self.subjects[index].role.untold() as f64;
        let end = (self.subjects[index].received().first().unwrap() + offered) as f64;
        let ends = head - ENCODER..=head_after + untold;
        assert!(ends.contains(&end), "{name} was due blocks until {end}, but the end was within {ends:?}");
    }

    /// Compares the account of a listener who is gone, for this reason, with what it got; returns how many blocks it
    /// was offered.
    pub(crate) fn check_account(&mut self, index: usize, reason: &str) -> u64 {
        let subject = &mut self.subjects[index];
        let name = subject.name();
        let left = eventually("its end", || self.events.of(&name).into_iter().find(|event| event["event"] == "left"));
        let count = |key: &str| left[key].as_u64().unwrap();
        let received = subject.received();
        assert_eq!(left["reason"], reason, "{left}");
        assert_eq!(count("delivered"), received.numbers.len() as u64, "{name} got what was delivered: {left}");
        assert_eq!(count("offered"), count("delivered") + count("lost"), "{left}");
        if subject.role.format.tells_gaps() {
            let received = subject.received();
            // Before its first block and after its last one, it knows of none by itself.
            let (first, next) = (received.numbers[0], received.next().unwrap());
            let between: Vec<_> =
                received.told.iter().filter(|gap| gap.end > first && gap.start < next).cloned().collect();
            assert_eq!(between, received.holes, "{name} was told of each gap");
        }
        count("offered")
    }

    /// Fails if any report was wrong, or if a healthy listener lost anything but what was lost at the capture.
    pub(crate) fn finish(&mut self) {
        Subject::print_heads();
        let wrong: Vec<_> = self.subjects.iter_mut().flat_map(Subject::verdict).collect();
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

    /// The 99th percentile of healthy listeners' latencies, from capture to arrival, in milliseconds, of all blocks
    /// that came in this span of Unix time.
    pub(crate) fn healthy_p99(&self, format: Format, span: &Range<f64>) -> f64 {
        let epoch = self.healthy.iter().find_map(|client| client.received().epoch).unwrap();
        let of_format = self.healthy.iter().filter(|client| client.format == format);
        let mut latencies: Vec<_> = of_format.flat_map(|client| client.latencies(epoch, span)).collect();
        latencies.sort_by(f64::total_cmp);
        latencies.get(latencies.len() * 99 / 100).map_or(f64::NAN, |seconds| seconds * 1000.0)
    }
}
