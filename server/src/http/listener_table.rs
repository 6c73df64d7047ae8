//! The table of listeners, made once for all that read it at the same time.

use std::cmp::Reverse;
use std::sync::OnceLock;
use std::time::Duration;

use aircheck_api::ListenerRow;
use aircheck_engine::Timestamp;
use bytes::Bytes;
use serde::Serialize;

use crate::delivery::listeners::Listeners;
use crate::delivery::steady_lag_millis;
use crate::http::table_query::{Sort, TableQuery};

/// A table is made at most this often. A row costs some 10 us, so that of 1000 listeners takes 4 % of a core at most,
/// however many read it.
pub(super) const TABLE_INTERVAL: Duration = Duration::from_millis(250);
/// Rows of a table of those furthest behind: no reader looks at more, and a browser lays out as many in passing.
pub(super) const MAX_WORST_ROWS: usize = 200;

/// The rows of all listeners at one moment, or of those furthest behind.
#[derive(Debug)]
pub(super) struct ListenerTable {
    /// Listeners in all.
    count: usize,
    /// In the order in which the listeners joined.
    rows: Vec<ListenerRow>,
    json: OnceLock<Bytes>,
    pushed: OnceLock<Bytes>,
}

/// What a page gets.
#[derive(Serialize)]
struct Pushed<'a> {
    /// Listeners in all.
    count: usize,
    /// The rows of those furthest behind.
    rows: Vec<&'a ListenerRow>,
}

impl ListenerTable {
    /// Looks at all listeners.
    pub(super) fn look(listeners: &Listeners, now: Timestamp) -> Self {
        Self::new(listeners.present().iter().map(|listener| listener.row(now)).collect())
    }

    /// Looks at the listeners furthest behind, which costs next to nothing for the others.
    pub(super) fn look_at_worst(listeners: &Listeners, now: Timestamp) -> Self {
        let count = listeners.count();
        let mut worst = listeners.furthest_behind(MAX_WORST_ROWS, |_| true);
        worst.sort_unstable_by_key(|listener| listener.id());
        Self { count, ..Self::new(worst.iter().map(|listener| listener.row(now)).collect()) }
    }

    fn new(rows: Vec<ListenerRow>) -> Self {
        Self { count: rows.len(), rows, json: OnceLock::new(), pushed: OnceLock::new() }
    }

    /// Returns the number of listeners in all.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the rows, in the order in which the listeners joined.
    pub(super) fn rows(&self) -> &[ListenerRow] {
        &self.rows
    }

    /// Returns the rows that `query` selects, as a JSON array. All rows in their own order are made once.
    pub(super) fn json(&self, query: &TableQuery) -> Bytes {
        if *query == TableQuery::default() {
            return self.json.get_or_init(|| json(&self.rows)).clone();
        }
        json(&self.select(query))
    }

    /// Returns what a page shows, as JSON: the number of listeners, and the rows of those furthest behind.
    pub(super) fn pushed(&self) -> Bytes {
        let make = || {
            let query = TableQuery { limit: Some(MAX_WORST_ROWS), sort: Sort::Lag, ..TableQuery::default() };
            json(&Pushed { count: self.count(), rows: self.select(&query) })
        };
        self.pushed.get_or_init(make).clone()
    }

    fn select(&self, query: &TableQuery) -> Vec<&ListenerRow> {
        let mut rows: Vec<_> = self.rows.iter().filter(|row| query.selects(&row.name, &row.mount)).collect();
        match query.sort {
            // So they are.
            Sort::Id => {}
            Sort::Lag => rows.sort_by_key(|row| Reverse(steady_lag_millis(row))),
            Sort::Lost => rows.sort_by_key(|row| Reverse(row.lost)),
            Sort::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        rows.truncate(query.limit.unwrap_or(usize::MAX));
        rows
    }
}

fn json(value: &impl Serialize) -> Bytes {
    // Fails for maps without string keys and for failing writers, of which there are none.
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of listeners with these names, lags and bursts in seconds, numbered from 1.
    fn table(listeners: &[(&str, f64, f64)]) -> ListenerTable {
        let row = |(id, (name, lag, burst)): (u64, &(&str, f64, f64))| {
            let json = serde_json::json!({
                "id": id, "name": name, "remote": "", "format": "wav", "overflow": "", "connected_at": 0.0, "offered": 0,
                "delivered": 0, "lost": 1000 - id, "queued": 0, "lag_seconds": lag, "burst_seconds": burst,
                "lag_p50_seconds": null, "lag_p99_seconds": null, "lag_max_seconds": null, "gaps": 0,
                "gap_max_blocks": 0, "socket_queued_bytes": 0, "socket_queued_seconds": 0.0,
            });
            serde_json::from_value(json).unwrap()
        };
        ListenerTable::new((1..).zip(listeners).map(row).collect())
    }

    fn ids(json: &Bytes) -> Vec<u64> {
        let rows: Vec<ListenerRow> = serde_json::from_slice(json).unwrap();
        rows.iter().map(|row| row.id).collect()
    }

    #[test]
    fn rows_are_selected_and_sorted() {
        let table = table(&[
            ("bar", 0.09, 0.0),
            ("cafe", 2.0, 1.95),
            ("Bar 2", 0.3, 0.0),
            ("attic", 0.01, 0.0),
            ("bar", 5.0, 4.0),
        ]);
        let ids = |query: &str| ids(&table.json(&TableQuery::parse(query).unwrap()));
        assert_eq!(ids(""), [1, 2, 3, 4, 5]);
        // Listeners below a tenth of a second keep the order of their numbers.
        assert_eq!(ids("sort=lag"), [5, 3, 1, 2, 4]);
        assert_eq!(ids("sort=lag&limit=2"), [5, 3]);
        assert_eq!(ids("sort=lost&limit=3"), [1, 2, 3]);
        assert_eq!(ids("sort=name"), [3, 4, 1, 5, 2]);
        assert_eq!(ids("name=bar"), [1, 3, 5]);
        assert_eq!(ids("name=bar&limit=1&sort=lag"), [5]);
    }

    #[test]
    fn a_page_gets_the_rows_furthest_behind_and_the_number_of_all() {
        let names: Vec<String> = (1..=300).map(|id| id.to_string()).collect();
        let listeners: Vec<_> = names.iter().map(|name| (&name[..], name.parse::<f64>().unwrap(), 0.0)).collect();
        let pushed: serde_json::Value = serde_json::from_slice(&table(&listeners).pushed()).unwrap();
        assert_eq!(pushed["count"], 300);
        let rows = pushed["rows"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]["id"], &rows[199]["id"]), (200, &300.into(), &101.into()));
    }

    #[test]
    fn all_rows_are_written_once() {
        let table = table(&[("one", 0.0, 0.0)]);
        let (one, two) = (table.json(&TableQuery::default()), table.json(&TableQuery::default()));
        assert!(std::ptr::eq(one.as_ptr(), two.as_ptr()));
    }
}
