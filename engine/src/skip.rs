//! The decision which queued items a consumer skips to get back to the live head.
//!
//! It needs numbers only. [`Consumer`](crate::Consumer) reads them, asks here, and drops the items.

/// How far behind the head a consumer may be, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LagLimit {
    buffer: u64,
    /// Lag that the consumer requested at its start. It shrinks with the lag, and does not grow again.
    requested: u64,
}

impl LagLimit {
    pub(crate) const fn new(buffer: u64) -> Self {
        Self { buffer, requested: 0 }
    }

    /// Permits as many blocks more, which the consumer has requested.
    pub(crate) fn request(&mut self, blocks: u64) {
        self.requested = blocks;
    }

    /// Returns the limit without requested lag, in blocks.
    pub(crate) const fn buffer(self) -> u64 {
        self.buffer
    }

    /// Returns the limit with requested lag, in blocks.
    #[inline]
    pub(crate) const fn blocks(self) -> u64 {
        self.buffer.saturating_add(self.requested)
    }

    /// Returns whether a lag of this many blocks exceeds the limit. Requested lag that the consumer has made up is not
    /// permitted any more.
    #[inline]
    pub(crate) fn is_exceeded_by(&mut self, lag: u64) -> bool {
        self.requested = self.requested.min(lag);
        lag > self.blocks()
    }
}

/// An item at the front of the ring that is behind the head by more than its consumer's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LateItem {
    /// The consumer's limit, in blocks.
    pub(crate) limit: u64,
    /// Blocks from this item to the newest one that the publisher has offered. The head may be ahead of that, while an
    /// encoder works or a batch is on its way.
    pub(crate) offered_after: u64,
    /// Whether the consumer has ended, so that no live item comes any more.
    pub(crate) has_ended: bool,
}

impl LateItem {
    /// Returns whether there is a newer item to skip to.
    pub(crate) const fn is_stale(self) -> bool {
        !self.has_ended && self.offered_after > self.limit
    }
}

/// The newest queued item, after all the ones before it were skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewestItem {
    /// The consumer's limit without requested lag, in blocks.
    pub(crate) limit: u64,
    /// Blocks from this item to the newest one that the publisher has offered.
    pub(crate) offered_after: u64,
    /// Whether the ring was full and refused a newer item.
    pub(crate) was_followed: bool,
    /// Whether the consumer has skipped items since its last delivery.
    pub(crate) has_skipped: bool,
    /// Whether [`poll_ready`](crate::Consumer::poll_ready) has promised an item.
    pub(crate) is_promised: bool,
}

impl NewestItem {
    /// Returns whether this item is skipped, too, because it is stale itself. That happens at most once in a row: where
    /// batches are longer than the ring, the newest queued item is always stale, and the consumer would never get one.
    pub(crate) const fn is_stale(self) -> bool {
        let is_late = self.was_followed || self.offered_after > self.limit;
        is_late && !self.has_skipped && !self.is_promised
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_exceeded_by_one_block_more() {
        // Buffer, requested lag, lag, whether the limit is exceeded, and the requested lag that is left.
        let table = [
            (10, 0, 0, false, 0),
            (10, 0, 10, false, 0),
            (10, 0, 11, true, 0),
            (10, 50, 60, false, 50),
            (10, 50, 61, true, 50),
            (10, 50, 40, false, 40),
            (10, 50, 0, false, 0),
            (u64::MAX, 50, u64::MAX, false, 50),
        ];
        for (buffer, requested, lag, is_exceeded, left) in table {
            let mut limit = LagLimit { buffer, requested };
            assert_eq!(limit.is_exceeded_by(lag), is_exceeded, "{buffer} and {requested}, behind by {lag}");
            assert_eq!(limit, LagLimit { buffer, requested: left }, "{buffer} and {requested}, behind by {lag}");
        }
    }

    #[test]
    fn requested_lag_that_was_made_up_is_not_permitted_again() {
        let mut limit = LagLimit::new(10);
        limit.request(50);
        let exceeded = [60, 30, 41, 40].map(|lag| limit.is_exceeded_by(lag));
        assert_eq!(exceeded, [false, false, true, false]);
    }

    #[test]
    fn a_late_item_is_stale_if_there_is_a_newer_one() {
        // Blocks offered after it, whether the consumer has ended, whether it is stale.
        let table = [(11, false, true), (10, false, false), (0, false, false), (11, true, false), (1000, true, false)];
        for (offered_after, has_ended, is_stale) in table {
            let item = LateItem { limit: 10, offered_after, has_ended };
            assert_eq!(item.is_stale(), is_stale, "{item:?}");
        }
    }

    #[test]
    fn the_newest_item_is_skipped_once_if_it_is_stale_itself() {
        // Blocks offered after it, refused a newer one, has skipped, is promised; whether it is skipped.
        let table = [
            (0, false, false, false, false),
            (10, false, false, false, false),
            (11, false, false, false, true),
            (0, true, false, false, true),
            (11, true, false, false, true),
            (11, true, true, false, false),
            (11, true, false, true, false),
            (11, true, true, true, false),
        ];
        for (offered_after, was_followed, has_skipped, is_promised, is_stale) in table {
            let item = NewestItem { limit: 10, offered_after, was_followed, has_skipped, is_promised };
            assert_eq!(item.is_stale(), is_stale, "{item:?}");
        }
    }
}
