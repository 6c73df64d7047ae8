//! The order of the listeners, and the filter.

use std::cmp::Ordering;

use aircheck_api::ListenerRow;

use super::row;

/// The column that rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SortKey {
    #[default]
    Lag,
    Lost,
    Name,
    Connected,
}

/// An order of rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    pub(crate) key: SortKey,
    pub(crate) is_reversed: bool,
}

impl Order {
    /// Changes to the next column, in its natural direction.
    pub(crate) fn cycle(&mut self) {
        let key = match self.key {
            SortKey::Lag => SortKey::Lost,
            SortKey::Lost => SortKey::Name,
            SortKey::Name => SortKey::Connected,
            SortKey::Connected => SortKey::Lag,
        };
        *self = Self { key, is_reversed: false };
    }

    /// Returns in words which rows come first.
    pub(crate) fn label(self) -> &'static str {
        match (self.key, self.is_reversed) {
            (SortKey::Lag, false) => "furthest behind first",
            (SortKey::Lag, true) => "least behind first",
            (SortKey::Lost, false) => "most lost first",
            (SortKey::Lost, true) => "least lost first",
            (SortKey::Name, false) => "by name",
            (SortKey::Name, true) => "by name, reversed",
            (SortKey::Connected, false) => "longest here first",
            (SortKey::Connected, true) => "newest first",
        }
    }

    /// Compares two rows. Equal ones stand in the order in which they connected, so that rows rest.
    pub(crate) fn compare(self, a: &ListenerRow, b: &ListenerRow) -> Ordering {
        let by_key = match self.key {
            SortKey::Lag => row::notable_seconds(b).total_cmp(&row::notable_seconds(a)),
            SortKey::Lost => b.lost.cmp(&a.lost),
            SortKey::Name => row::title(a).to_lowercase().cmp(&row::title(b).to_lowercase()),
            SortKey::Connected => a.connected_at.total_cmp(&b.connected_at),
        };
        let by_key = if self.is_reversed { by_key.reverse() } else { by_key };
        by_key.then(a.id.cmp(&b.id))
    }
}

/// Returns whether `row` has `text` in its name or its address, in capitals or not.
pub(crate) fn matches(row: &ListenerRow, text: &str) -> bool {
    let text = text.to_lowercase();
    row.name.to_lowercase().contains(&text) || row.remote.to_lowercase().contains(&text)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::row;
    use super::*;

    fn ids(order: Order, rows: &[ListenerRow]) -> Vec<u64> {
        let mut rows: Vec<&ListenerRow> = rows.iter().collect();
        rows.sort_by(|a, b| order.compare(a, b));
        rows.iter().map(|row| row.id).collect()
    }

    #[test]
    fn each_order_begins_as_its_label_says() {
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
        assert_eq!((order.key, order.is_reversed), (SortKey::Lag, false));
    }

    #[test]
    fn requested_lag_does_not_count() {
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
