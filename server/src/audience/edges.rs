//! The edges that report, with the last report of each. Time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aircheck_api::{EdgeReport, EdgeStatus, EventKind};
use aircheck_engine::Timestamp;

/// Edges that are known at a time: half more than a million listeners take. Each takes some 50 KB, and the longest possible reports
/// a few hundred.
pub const MAX_EDGES: usize = 256;
/// Figures as old as this are no longer true: three reports are missing.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
/// An edge from which nothing has come for this long is no longer shown: it has been told as silent, and was there to be seen.
pub const DROP_AFTER: Duration = Duration::from_secs(20);
/// Reports among which the quickest one is taken to have come in no time: a minute, in which clocks of two machines go apart by a few
/// milliseconds.
const TRIPS: usize = 60;

/// What becomes of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the newest one of its edge.
    Taken,
    /// A newer one has come.
    Late,
    /// Another server has this name, and is heard. `is_second` says that both of them are: the first one has not just been started anew.
    Foreign {
        /// Whether both are heard.
        is_second: bool,
    },
    /// There are too many edges.
    Full,
}

/// The edges, by their names.
#[derive(Debug, Default)]
pub struct Edges {
    by_name: BTreeMap<String, Edge>,
    dropped: u64,
}

/// An edge, as it told of itself last.
#[derive(Debug)]
struct Edge {
    report: Arc<EdgeReport>,
    came_at: Timestamp,
    trips: Trips,
    /// Whether it was told that the edge is silent.
    is_silent: bool,
    /// Whether a report of another server of this name has come, and whether one of this one has since.
    had_foreign: bool,
    has_second: bool,
}

/// An edge as it is seen at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// How old its figures are.
    pub age: Duration,
    /// Whether they are too old to be true.
    pub is_silent: bool,
    /// Its last report.
    pub report: Arc<EdgeReport>,
}

impl Edges {
    /// Takes a report that comes at `now`, and adds to `events` what that changes.
    pub fn take(&mut self, name: &str, report: EdgeReport, now: Timestamp, events: &mut Vec<EventKind>) -> Verdict {
        let edge = || name.to_owned();
        let Some(known) = self.by_name.get_mut(name) else {
            if report.is_last {
                return Verdict::Taken;
            }
            if self.by_name.len() >= MAX_EDGES {
                return Verdict::Full;
            }
            self.by_name.insert(name.to_owned(), Edge::new(report, now));
            events.push(EventKind::EdgeJoined { edge: edge() });
            return Verdict::Taken;
        };
        let is_same_run = known.report.run == report.run;
        if !is_same_run && known.age(now) < SILENT_AFTER {
            let is_second = known.has_second;
            known.had_foreign = true;
            return Verdict::Foreign { is_second };
        }
        if is_same_run && report.made_nanos <= known.report.made_nanos {
            return Verdict::Late;
        }
        if report.is_last {
            self.by_name.remove(name);
            events.push(EventKind::EdgeLeft { edge: edge() });
            return Verdict::Taken;
        }
        let age = known.age(now);
        if is_same_run {
            known.has_second |= known.had_foreign;
            known.trips.note(report.made_nanos, now);
            (known.report, known.came_at) = (Arc::new(report), now);
        } else {
            *known = Edge { is_silent: known.is_silent, ..Edge::new(report, now) };
        }
        if known.is_silent && known.age(now) < SILENT_AFTER {
            known.is_silent = false;
            events.push(EventKind::EdgeBack { edge: edge(), age_seconds: seconds(age) });
        }
        Verdict::Taken
    }

    /// Finds the edges that have fallen silent by `now`, and drops those that have been for long.
    pub fn look(&mut self, now: Timestamp, events: &mut Vec<EventKind>) {
        self.by_name.retain(|name, edge| {
            let (age, listeners) = (edge.age(now), edge.report.totals.listeners);
            if now.since(edge.came_at) >= DROP_AFTER {
                self.dropped += 1;
                events.push(EventKind::EdgeDropped { edge: name.clone(), listeners, age_seconds: seconds(age) });
                return false;
            }
            if age >= SILENT_AFTER && !edge.is_silent {
                edge.is_silent = true;
                events.push(EventKind::EdgeSilent { edge: name.clone(), listeners, age_seconds: seconds(age) });
            }
            true
        });
    }

    /// Returns the edges by name as they are seen at `now`.
    #[must_use]
    pub fn seen(&self, now: Timestamp) -> Vec<Seen> {
        let seen = |(name, edge): (&String, &Edge)| {
            let age = edge.age(now);
            Seen { name: name.clone(), age, is_silent: age >= SILENT_AFTER, report: Arc::clone(&edge.report) }
        };
        self.by_name.iter().map(seen).collect()
    }

    /// Returns how many edges were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Edge {
    fn new(report: EdgeReport, now: Timestamp) -> Self {
        let mut trips = Trips::default();
        trips.note(report.made_nanos, now);
        let (report, came_at) = (Arc::new(report), now);
        Self { report, came_at, trips, is_silent: false, had_foreign: false, has_second: false }
    }

    /// Returns how old its figures are at `now`: since their report came, and how much longer that was on its way than the quickest.
    fn age(&self, now: Timestamp) -> Duration {
        now.since(self.came_at) + self.trips.delay()
    }
}

impl Seen {
    /// Returns how old its figures are, in seconds.
    #[must_use]
    pub fn age_seconds(&self) -> f64 {
        seconds(self.age)
    }

    /// Returns it for people and programs.
    #[must_use]
    pub fn status(&self) -> EdgeStatus {
        let totals = self.report.totals;
        EdgeStatus {
            name: self.name.clone(),
            age_seconds: self.age_seconds(),
            is_silent: self.is_silent,
            left_off: totals.listeners.saturating_sub(self.report.rows.len() as u64),
            totals,
        }
    }
}

/// The times from the making of reports to their coming, by two clocks: only their differences mean something.
#[derive(Debug, Default)]
struct Trips(VecDeque<i128>);

impl Trips {
    fn note(&mut self, made_nanos: u64, came_at: Timestamp) {
        if self.0.len() == TRIPS {
            self.0.pop_front();
        }
        self.0.push_back(i128::from(came_at.as_nanos()) - i128::from(made_nanos));
    }

    /// Returns by how much the last one was longer than the shortest.
    fn delay(&self) -> Duration {
        let longer = self.0.back().zip(self.0.iter().min()).map_or(0, |(last, least)| last - least);
        Duration::from_nanos(u64::try_from(longer).unwrap_or(u64::MAX))
    }
}

/// To the millisecond, so that a log says 3.021 and not 3.0209999999999999.
fn seconds(span: Duration) -> f64 {
    span.as_millis() as f64 / 1000.0
}

#[cfg(test)]
pub(crate) mod tests {
    use aircheck_api::{AudienceTotals, ListenerRow, REPORT_VERSION};

    use super::*;

    /// The row of a listener that is as many tenths of a second behind as its number says.
    pub(crate) fn row(id: u64) -> ListenerRow {
        let json = serde_json::json!({
            "id": id, "name": format!("listener {id}"), "remote": "192.0.2.1:5", "format": "wav", "overflow": "", "connected_at": 0.0,
            "offered": 9, "delivered": 7, "lost": 1, "queued": 1, "lag_seconds": id as f64 / 10.0, "burst_seconds": 0.0,
            "lag_p50_seconds": null, "lag_p99_seconds": null, "lag_max_seconds": null, "gaps": 0,
            "gap_max_blocks": 0, "socket_queued_bytes": 0, "socket_queued_seconds": 0.0,
        });
        serde_json::from_value(json).expect("it has all that a row must have")
    }

    /// The report of a run, made so many seconds after its start, of these listeners.
    pub(crate) fn report(run: &str, made_seconds: u64, rows: Vec<ListenerRow>) -> EdgeReport {
        let listeners = rows.len() as u64;
        let totals = AudienceTotals { listeners, offered: 9, delivered: 7, lost: 1, queued: 1, ..Default::default() };
        let (run, made_nanos) = (run.to_owned(), made_seconds * 1_000_000_000);
        EdgeReport { report_version: REPORT_VERSION, run, made_nanos, is_last: false, totals, rows }
    }

    /// Edges, and a clock that a test moves.
    struct Scene {
        edges: Edges,
        start: Timestamp,
        events: Vec<EventKind>,
    }

    impl Scene {
        fn new() -> Self {
            Self { edges: Edges::default(), start: Timestamp::now(), events: Vec::new() }
        }

        fn at(&self, millis: u64) -> Timestamp {
            self.start + Duration::from_millis(millis)
        }

        /// A report of one listener that comes so many milliseconds after the start.
        fn take(&mut self, name: &str, run: &str, made_seconds: u64, millis: u64) -> Verdict {
            let (report, now) = (report(run, made_seconds, vec![row(1)]), self.at(millis));
            self.edges.take(name, report, now, &mut self.events)
        }

        /// The names of events up to this time.
        fn told(&mut self, millis: u64) -> Vec<&'static str> {
            let now = self.at(millis);
            self.edges.look(now, &mut self.events);
            std::mem::take(&mut self.events).iter().map(EventKind::name).collect()
        }

        fn ages(&self, millis: u64) -> Vec<(String, u128, bool)> {
            let seen = self.edges.seen(self.at(millis));
            seen.iter().map(|edge| (edge.name.clone(), edge.age.as_millis(), edge.is_silent)).collect()
        }
    }

    #[test]
    fn an_edge_that_falls_silent_is_told_shown_with_its_age_and_dropped() {
        let mut scene = Scene::new();
        assert_eq!(scene.take("berlin", "a", 1, 0), Verdict::Taken);
        assert_eq!(scene.told(0), ["edge_joined"]);
        assert!(scene.told(2999).is_empty());
        assert_eq!(scene.ages(2999), [("berlin".to_owned(), 2999, false)]);
        assert_eq!(scene.told(3000), ["edge_silent"]);
        assert!(scene.told(19_999).is_empty(), "each silence is told once");
        assert_eq!(scene.ages(19_999), [("berlin".to_owned(), 19_999, true)]);
        assert_eq!(scene.told(20_000), ["edge_dropped"]);
        assert!(scene.ages(20_000).is_empty());
        assert_eq!(scene.edges.dropped(), 1);
        assert_eq!(scene.take("berlin", "a", 30, 30_000), Verdict::Taken);
        assert_eq!(scene.told(30_000), ["edge_joined"]);
    }

    #[test]
    fn an_edge_that_is_back_is_told_and_one_that_ends_is_gone_at_once() {
        let mut scene = Scene::new();
        scene.take("berlin", "a", 1, 0);
        assert_eq!(scene.told(5000), ["edge_joined", "edge_silent"]);
        scene.take("berlin", "a", 6, 5000);
        assert_eq!(scene.told(5000), ["edge_back"]);
        let last = EdgeReport { is_last: true, ..report("a", 7, Vec::new()) };
        let now = scene.at(5500);
        assert_eq!(scene.edges.take("berlin", last, now, &mut scene.events), Verdict::Taken);
        assert_eq!(scene.told(5500), ["edge_left"]);
        assert!(scene.ages(5500).is_empty());
        // The next run comes at once.
        assert_eq!(scene.take("berlin", "b", 1, 5600), Verdict::Taken);
        assert_eq!(scene.told(5600), ["edge_joined"]);
    }

    #[test]
    fn reports_that_were_held_up_show_their_true_age() {
        let mut scene = Scene::new();
        scene.take("berlin", "a", 1, 1000);
        scene.take("berlin", "a", 2, 2000);
        // Made after 3 s, and held up for 2.
        scene.take("berlin", "a", 3, 5000);
        assert_eq!(scene.ages(5000), [("berlin".to_owned(), 2000, false)]);
        scene.take("berlin", "a", 4, 8000);
        assert_eq!(scene.ages(8000), [("berlin".to_owned(), 4000, true)], "as old as if nothing had come");
        assert_eq!(scene.told(8000), ["edge_joined", "edge_silent"]);
        scene.take("berlin", "a", 9, 9000);
        assert_eq!(scene.told(9000), ["edge_back"]);
        // One that is older than the last, and one that has come twice.
        assert_eq!(scene.take("berlin", "a", 8, 9100), Verdict::Late);
        assert_eq!(scene.take("berlin", "a", 9, 9100), Verdict::Late);
        assert_eq!(scene.ages(9100), [("berlin".to_owned(), 100, false)]);
    }

    #[test]
    fn a_second_edge_of_a_name_is_left_out_while_the_first_is_heard_and_a_new_run_follows_an_end() {
        let mut scene = Scene::new();
        scene.take("berlin", "a", 1, 0);
        assert_eq!(scene.take("berlin", "b", 50, 500), Verdict::Foreign { is_second: false });
        scene.take("berlin", "a", 2, 1000);
        assert_eq!(scene.take("berlin", "b", 51, 1500), Verdict::Foreign { is_second: true });
        assert_eq!(scene.edges.seen(scene.at(1500))[0].report.run, "a");
        // The first one was killed.
        assert_eq!(scene.take("berlin", "b", 53, 3900), Verdict::Foreign { is_second: true });
        assert_eq!(scene.take("berlin", "b", 54, 4000), Verdict::Taken);
        assert_eq!(scene.told(4000), ["edge_joined"], "it was never told as silent");
        assert_eq!(scene.ages(4000), [("berlin".to_owned(), 0, false)]);
        assert_eq!(scene.take("berlin", "b", 55, 5000), Verdict::Taken);
    }

    #[test]
    fn there_are_at_most_so_many_edges_and_a_dropped_one_makes_place() {
        let mut scene = Scene::new();
        for number in 0..MAX_EDGES {
            assert_eq!(scene.take(&format!("edge-{number}"), "a", 1, 0), Verdict::Taken);
        }
        assert_eq!(scene.take("berlin", "a", 1, 100), Verdict::Full);
        assert_eq!(scene.take("edge-7", "a", 2, 100), Verdict::Taken);
        assert_eq!(scene.edges.seen(scene.at(100)).len(), MAX_EDGES);
        scene.told(20_000);
        assert_eq!(scene.take("berlin", "a", 20, 20_000), Verdict::Taken);
    }

    #[test]
    fn rows_that_an_edge_has_not_sent_are_counted() {
        let mut scene = Scene::new();
        let mut report = report("a", 1, vec![row(1), row(2)]);
        report.totals.listeners = 500;
        let now = scene.at(0);
        scene.edges.take("berlin", report, now, &mut scene.events);
        let status = scene.edges.seen(now)[0].status();
        assert_eq!((status.totals.listeners, status.left_off, status.is_silent), (500, 498, false));
    }
}
