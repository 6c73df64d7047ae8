//! A value on its way through a fan-out, with the number and times that identify it.

use std::ops::Deref;

use crate::Timestamp;

/// Sequence number and times of a block, or of an item made from it. They are assigned where the sound is captured and
/// never change: no later stage numbers items anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the block, from 0. A number that never arrives is a lost block.
    pub sequence: u64,
    /// When the first frame was captured.
    pub captured_at: Timestamp,
    /// When the dispatcher made it available to consumers.
    pub dispatched_at: Timestamp,
}

/// A value and its stamp, made once, then shared and immutable. It dereferences to the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item<T> {
    /// Sequence number and times.
    pub stamp: Stamp,
    /// The value.
    pub value: T,
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
