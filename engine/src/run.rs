//! Several items that a consumer takes at one go.

use std::fmt;
use std::sync::Arc;

use rtrb::chunks::ReadChunk;

use crate::{Gap, Item};

/// Items that follow each other without a hole, in order: what [`Consumer::try_recv_run`](crate::Consumer::try_recv_run)
/// gives. All of them have been taken, whether they are looked at or not. They are lent, because letting each go by
/// itself costs more than looking at it; clone those that you keep.
pub struct Run<'c, T> {
    /// What is missing directly before the first of them.
    pub gap: Option<Gap>,
    /// How far the first of them was behind the live head when they were taken, in items.
    pub lag_items: u64,
    first: Arc<Item<T>>,
    rest: Option<ReadChunk<'c, Arc<Item<T>>>>,
}

impl<'c, T> Run<'c, T> {
    pub(crate) fn new(
        gap: Option<Gap>,
        lag_items: u64,
        first: Arc<Item<T>>,
        rest: Option<ReadChunk<'c, Arc<Item<T>>>>,
    ) -> Self {
        Self { gap, lag_items, first, rest }
    }

    /// The items: at least one.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Item<T>>> {
        let (front, back) = self.rest.as_ref().map_or((&[][..], &[][..]), ReadChunk::as_slices);
        std::iter::once(&self.first).chain(front).chain(back)
    }

    /// How many items.
    #[must_use]
    #[inline]
    pub fn items(&self) -> usize {
        1 + self.rest.as_ref().map_or(0, ReadChunk::len)
    }
}

impl<T> Drop for Run<'_, T> {
    fn drop(&mut self) {
        // They are counted as taken, so they must not be there for the next one to take.
        if let Some(rest) = self.rest.take() {
            rest.commit_all();
        }
    }
}

impl<T> fmt::Debug for Run<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gap, lag_items, .. } = self;
        let items = self.items();
        formatter.debug_struct("Run").field("gap", gap).field("lag_items", lag_items).field("items", &items).finish()
    }
}
