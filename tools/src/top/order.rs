//! In which order listeners stand, and which of them are shown.

use std::cmp::Ordering;

use super::api::Row;

/// What they are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Key {
    #[default]
    Lag,
    Lost,
    Name,
    Connected,
}

/// An order of rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    pub(crate) key: Key,
    pub(crate) is_reversed: bool,
}

impl Order {
    /// The next one of four, in its natural direction.
    pub(crate) fn cycle(&mut self) {
        let key = match self.key {
            Key::Lag => Key::Lost,
            Key::Lost => Key::Name,
            Key::Name => Key::Connected,
            Key::Connected => Key::Lag,
        };
        *self = Self { key, is_reversed: false };
    }

    /// What comes first, in words.
    pub(crate) fn label(self) -> &'static str {
        match (self.key, self.is_reversed) {
            (Key::Lag, false) => "furthest behind first",
            (Key::Lag, true) => "least behind first",
            (Key::Lost, false) => "most lost first",
            (Key::Lost, true) => "least lost first",
            (Key::Name, false) => "by name",
            (Key::Name, true) => "by name, reversed",
            (Key::Connected, false) => "longest here first",
            (Key::Connected, true) => "newest first",
        }
    }

    /// Which of two comes first. Equals stand in the order in which they came, so that rows rest.
    pub(crate) fn compare(self, a: &Row, b: &Row) -> Ordering {
        let by_key = match self.key {
            Key::Lag => b.notable_seconds().total_cmp(&a.notable_seconds()),
            Key::Lost => b.lost.cmp(&a.lost),
            Key::Name => a.title().to_lowercase().cmp(&b.title().to_lowercase()),
            Key::Connected => a.connected_at.total_cmp(&b.connected_at),
        };
        let by_key = if self.is_reversed { by_key.reverse() } else { by_key };
        by_key.then(a.id.cmp(&b.id))
    }
}

/// Whether `row` has `text` in its name or its address; capitals don't matter.
pub(crate) fn matches(row: &Row, text: &str) -> bool {
    let text = text.to_lowercase();
    row.name.to_lowercase().contains(&text) || row.remote.to_lowercase().contains(&text)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::row;
    use super::*;

    fn ids(order: Order, rows: &[Row]) -> Vec<u64> {
        let mut rows: Vec<&Row> = rows.iter().collect();
        rows.sort_by(|a, b| order.compare(a, b));
        rows.iter().map(|row| row.id).collect()
    }

    #[test]
    fn each_order_puts_first_what_it_says() {
        let mut rows = [row(1, "bell", 0.02), row(2, "Anna", 3.0), row(3, "cellar", 0.07), row(4, "dome", 1.0)];
        (rows[0].lost, rows[3].lost) = (5, 9);
        rows[2].connected_at = 0.0;
        let mut order = Order::default();
        // Lags of a block or two are no order: 1 stays before 3.
        assert_eq!(ids(order, &rows), [2, 4, 1, 3]);
        order.is_reversed = true;
        assert_eq!(ids(order, &rows), [1, 3, 4, 2]);
        order.cycle();
        assert_eq!(ids(order, &rows), [4, 1, 2, 3]);
        order.cycle();
        assert_eq!(ids(order, &rows), [2, 1, 3, 4]);
        order.cycle();
        assert_eq!(ids(order, &rows), [3, 1, 2, 4]);
        order.cycle();
        assert_eq!((order.key, order.is_reversed), (Key::Lag, false));
    }

    #[test]
    fn lag_that_was_asked_for_is_no_reason_to_stand_first() {
        let mut rows = [row(1, "a", 2.0), row(2, "b", 0.5)];
        rows[0].burst_seconds = 2.0;
        assert_eq!(ids(Order::default(), &rows), [2, 1]);
    }

    #[test]
    fn a_filter_looks_at_name_and_address() {
        let row = row(7, "Kitchen", 0.0);
        for (text, fits) in [("kit", true), ("40007", true), ("", true), ("cellar", false)] {
            assert_eq!(matches(&row, text), fits, "{text}");
        }
    }
}
