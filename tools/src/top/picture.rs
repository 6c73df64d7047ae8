//! What the server has said so far: the picture that is drawn, and that can be held still.

use std::collections::HashMap;

use super::api::{Row, Status};
use super::history::History;

/// The newest status and rows, with each listener's last minute.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) status: Status,
    pub(crate) rows: Vec<Row>,
    histories: HashMap<u64, History>,
    /// When the newest rows came.
    pub(crate) seen_at: f64,
}

impl Picture {
    pub(crate) fn new(status: Status, rows: Vec<Row>, now: f64) -> Self {
        let mut picture = Self { status, rows: Vec::new(), histories: HashMap::new(), seen_at: now };
        picture.take_rows(rows, now);
        picture
    }

    /// True if it is another server than before, whose listeners' numbers mean others.
    pub(crate) fn take_status(&mut self, status: Status) -> bool {
        let is_another = status.started_at != self.status.started_at;
        if is_another {
            self.histories.clear();
            self.rows.clear();
        }
        self.status = status;
        is_another
    }

    pub(crate) fn take_rows(&mut self, rows: Vec<Row>, now: f64) {
        let mut before = std::mem::take(&mut self.histories);
        for row in &rows {
            let mut history = before.remove(&row.id).unwrap_or_default();
            history.add(row.unwanted_seconds(), now);
            self.histories.insert(row.id, history);
        }
        self.rows = rows;
        self.seen_at = now;
    }

    /// The lag of the last minute as so many characters.
    pub(crate) fn bars(&self, row: &Row, cells: usize) -> String {
        let limit = row.limit_seconds(&self.status);
        self.histories.get(&row.id).map(|history| history.bars(cells, limit, self.seen_at)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{row, status};
    use super::*;

    #[test]
    fn a_listener_s_minute_stays_with_its_number() {
        let mut picture = Picture::new(status(), vec![row(1, "a", 1.0), row(2, "b", 0.0)], 30.0);
        picture.take_rows(vec![row(2, "b", 0.0), row(1, "a", 0.0)], 45.0);
        assert_eq!(picture.bars(&row(1, "a", 0.0), 4), "  █▁");
        assert_eq!(picture.bars(&row(2, "b", 0.0), 4), "  ▁▁");
        picture.take_rows(vec![row(2, "b", 0.0)], 46.0);
        assert_eq!(picture.bars(&row(1, "a", 0.0), 4), "");
    }

    #[test]
    fn another_server_s_listeners_begin_anew() {
        let mut picture = Picture::new(status(), vec![row(1, "a", 1.0)], 30.0);
        assert!(!picture.take_status(status()));
        assert_eq!(picture.rows.len(), 1);
        let mut another = status();
        another.started_at += 1.0;
        assert!(picture.take_status(another));
        assert!(picture.rows.is_empty());
        picture.take_rows(vec![row(1, "c", 0.0)], 31.0);
        assert_eq!(picture.bars(&row(1, "c", 0.0), 1), "▁");
    }
}
