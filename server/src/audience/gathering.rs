//! What has been gathered of the listeners of other servers, written by one task and read by requests and metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aircheck_api::{EdgeReport, EventKind, GatherStatus, ReportMessages};
use aircheck_engine::Timestamp;

use super::edges::{Edges, Seen, Verdict};
use super::report::ReportError;
use crate::config::{NatsUrl, is_edge_name};
use crate::hop::account::Connection;

/// What became of a message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is a report.
    Reported(Verdict),
    /// It is this server's own.
    Own,
    /// It is none.
    Refused(ReportError),
}

/// The reports of the edges.
#[derive(Debug)]
pub struct Gathering {
    url: NatsUrl,
    /// The run of this server, whose own reports are left out.
    own_run: String,
    /// The connection to NATS.
    pub connection: Connection,
    edges: Mutex<Edges>,
    messages: Mutex<ReportMessages>,
    slow: AtomicU64,
}

impl Gathering {
    /// Makes what is gathered at a subject in this run, nothing so far.
    #[must_use]
    pub fn new(url: &NatsUrl, own_run: String) -> Arc<Self> {
        let (connection, edges, messages, slow) = Default::default();
        Arc::new(Self { url: url.clone(), own_run, connection, edges, messages, slow })
    }

    /// Returns the server and the subject.
    #[must_use]
    pub fn url(&self) -> &NatsUrl {
        &self.url
    }

    /// Takes what was read of a message of the edge `name` that comes at `now`. Returns what became of it, and what that changes.
    pub fn take(&self, name: &str, read: Result<EdgeReport, ReportError>, now: Timestamp) -> (Outcome, Vec<EventKind>) {
        let mut events = Vec::new();
        let outcome = match read {
            Ok(_) if !is_edge_name(name) => Outcome::Refused(ReportError::Malformed("its subject ends with no name")),
            Ok(report) if report.run == self.own_run => Outcome::Own,
            Ok(report) => Outcome::Reported(self.edges().take(name, report, now, &mut events)),
            Err(error) => Outcome::Refused(error),
        };
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match &outcome {
            Outcome::Own => return (outcome, events),
            Outcome::Reported(Verdict::Taken) => &mut messages.taken,
            Outcome::Reported(Verdict::Late) => &mut messages.late,
            Outcome::Reported(Verdict::Foreign { .. }) => &mut messages.foreign,
            Outcome::Reported(Verdict::Full) => &mut messages.full,
            Outcome::Refused(ReportError::TooLong(_)) => &mut messages.too_long,
            Outcome::Refused(ReportError::Version(_)) => &mut messages.version,
            Outcome::Refused(ReportError::Malformed(_)) => &mut messages.malformed,
        };
        *count += 1;
        drop(messages);
        (outcome, events)
    }

    /// Returns what the passing of time has changed by `now`.
    #[must_use]
    pub fn look(&self, now: Timestamp) -> Vec<EventKind> {
        let mut events = Vec::new();
        self.edges().look(now, &mut events);
        events
    }

    /// Counts a time at which messages found the subscription full.
    pub fn count_slow(&self) {
        self.slow.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the edges by name, as they are seen at `now`.
    #[must_use]
    pub fn seen(&self, now: Timestamp) -> Vec<Seen> {
        self.edges().seen(now)
    }

    /// Returns the state of it.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> GatherStatus {
        let edges = self.edges();
        let (seen, dropped_edges) = (edges.seen(now), edges.dropped());
        drop(edges);
        let silent_edges = seen.iter().filter(|edge| edge.is_silent).count() as u64;
        GatherStatus {
            from: self.url.to_string(),
            is_connected: self.connection.is_connected(),
            failure: self.connection.reason(),
            reconnects: self.connection.reconnects(),
            edges: seen.len() as u64 - silent_edges,
            silent_edges,
            dropped_edges,
            slow_consumer_events: self.slow.load(Ordering::Relaxed),
            messages: *self.messages.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn edges(&self) -> MutexGuard<'_, Edges> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::edges::tests::{report, row};
    use super::*;

    #[test]
    fn each_message_counts_once_and_an_own_one_does_not() {
        let url = "nats://h:1/radio.edges".parse::<NatsUrl>();
        // A build without NATS has no such address.
        let Ok(url) = url else { return };
        let (gathering, now) = (Gathering::new(&url, "own".to_owned()), Timestamp::now());
        let reported = |run, made| Ok(report(run, made, vec![row(1)]));
        let take = |name: &str, read| gathering.take(name, read, now).0;
        assert_eq!(take("berlin", reported("own", 1)), Outcome::Own);
        assert!(gathering.seen(now).is_empty());
        assert_eq!(take("berlin", reported("a", 1)), Outcome::Reported(Verdict::Taken));
        assert_eq!(take("berlin", reported("a", 1)), Outcome::Reported(Verdict::Late));
        assert_eq!(take("berlin", reported("b", 1)), Outcome::Reported(Verdict::Foreign { is_second: false }));
        for (name, read) in [
            ("ber.lin", reported("a", 2)),
            ("berlin", Err(ReportError::Malformed(""))),
            ("berlin", Err(ReportError::Version(2))),
            ("berlin", Err(ReportError::TooLong(1))),
        ] {
            assert!(matches!(take(name, read), Outcome::Refused(_)));
        }
        let status = gathering.status(now);
        let expected = ReportMessages { taken: 1, late: 1, foreign: 1, full: 0, too_long: 1, version: 1, malformed: 2 };
        assert_eq!((status.messages, status.edges, status.silent_edges), (expected, 1, 0));
    }
}
