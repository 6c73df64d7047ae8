//! The result of taking the next item.

use std::sync::Arc;

use crate::{End, Gap, Item};

/// An item as a consumer receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<T> {
    /// The gap directly before this item. It comes with the item, so that no loop can overlook it.
    pub gap: Option<Gap>,
    /// How far the last block of this item was behind the live head when it was taken, in blocks.
    pub lag_items: u64,
    /// The item: a value with its sequence number and times, shared with the other consumers.
    pub item: Arc<Item<T>>,
}

/// The reason why there is no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing is queued, or nothing came in time. An item may come later.
    #[error("no item is queued yet")]
    Empty,
    /// No more items will come.
    #[error(transparent)]
    Ended(#[from] End),
}
