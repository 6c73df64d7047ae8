//! The server's last answers, which are drawn and can be held still.

use std::collections::HashMap;

use aircheck_api::{ListenerRow, Status};

use super::history::History;
use super::row;

/// The newest status and rows, with each listener's last minute.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    pub(crate) rows: Vec<ListenerRow>,
    histories: HashMap<u64, History>,
    /// When the newest rows came.
    pub(crate) seen_at: f64,
}

impl Snapshot {
    /// Begins with the first answers, which came at `now`.
    pub(crate) fn new(status: Status, rows: Vec<ListenerRow>, now: f64) -> Self {
        let mut snapshot = Self { status, rows: Vec::new(), histories: HashMap::new(), seen_at: now };
        snapshot.take_rows(rows, now);
        snapshot
    }

    /// Takes a status. Returns whether it is of another run of the server, which gives its numbers to other listeners.
    pub(crate) fn take_status(&mut self, status: Status) -> bool {
        let is_another = status.started_at != self.status.started_at;
        if is_another {
            self.histories.clear();
            self.rows.clear();
        }
        self.status = status;
        is_another
    }

    /// Takes the rows that came at `now`.
    pub(crate) fn take_rows(&mut self, rows: Vec<ListenerRow>, now: f64) {
        let mut before = std::mem::take(&mut self.histories);
        for row in &rows {
            let mut history = before.remove(&row.id).unwrap_or_default();
            history.add(row::unrequested_seconds(row), now);
            self.histories.insert(row.id, history);
        }
        self.rows = rows;
        self.seen_at = now;
    }

    /// Returns the lag of the last minute as so many characters.
    pub(crate) fn bars(&self, row: &ListenerRow, cells: usize) -> String {
        let full = row::full_scale_seconds(row, &self.status);
        self.histories.get(&row.id).map(|history| history.bars(cells, full, self.seen_at)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{row, status};
    use super::*;

    #[test]
    fn a_listener_s_minute_stays_with_its_number() {
        let mut snapshot = Snapshot::new(status(), vec![row(1, "a", 1.0), row(2, "b", 0.0)], 30.0);
        snapshot.take_rows(vec![row(2, "b", 0.0), row(1, "a", 0.0)], 45.0);
        assert_eq!(snapshot.bars(&row(1, "a", 0.0), 4), "  █▁");
        assert_eq!(snapshot.bars(&row(2, "b", 0.0), 4), "  ▁▁");
        snapshot.take_rows(vec![row(2, "b", 0.0)], 46.0);
        assert_eq!(snapshot.bars(&row(1, "a", 0.0), 4), "");
    }

    #[test]
    fn another_server_s_listeners_begin_anew() {
        let mut snapshot = Snapshot::new(status(), vec![row(1, "a", 1.0)], 30.0);
        assert!(!snapshot.take_status(status()));
        assert_eq!(snapshot.rows.len(), 1);
        let mut another = status();
        another.started_at += 1.0;
        assert!(snapshot.take_status(another));
        assert!(snapshot.rows.is_empty());
        snapshot.take_rows(vec![row(1, "c", 0.0)], 31.0);
        assert_eq!(snapshot.bars(&row(1, "c", 0.0), 1), "▁");
    }
}
