//! A value on its way through a fan-out, with the number and times that identify it.

use std::ops::Deref;

use crate::Timestamp;

/// Sequence number and times of a block, or of an item made from it. They are assigned where the sound is captured and
/// never change: no later stage numbers items anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the block, from 0 to 2^58 - 1; of an item made from several blocks, the number of the last. A number that
    /// never arrives is a lost block.
    pub sequence: u64,
    /// How many blocks directly before that one the item was made from, too; at most as many as there are numbers before it.
    pub preceding: u32,
    /// When the first frame of the block with this number was captured.
    pub captured_at: Timestamp,
    /// When the dispatcher made it available to consumers; of several blocks, the first.
    pub dispatched_at: Timestamp,
}

impl Stamp {
    /// Returns the number of the first block that the item was made from.
    ///
    /// ```
    /// use aircheck_engine::Stamp;
    ///
    /// assert_eq!(Stamp { sequence: 9, preceding: 4, ..Stamp::default() }.first(), 5);
    /// ```
    #[must_use]
    #[inline]
    pub const fn first(&self) -> u64 {
        self.sequence - self.preceding as u64
    }

    /// Returns one past the number of the last block.
    ///
    /// ```
    /// use aircheck_engine::Stamp;
    ///
    /// assert_eq!(Stamp { sequence: 9, preceding: 4, ..Stamp::default() }.next(), 10);
    /// ```
    #[must_use]
    #[inline]
    pub const fn next(&self) -> u64 {
        self.sequence + 1
    }

    /// Returns the number of blocks that the item was made from.
    ///
    /// ```
    /// use aircheck_engine::Stamp;
    ///
    /// assert_eq!(Stamp { sequence: 9, preceding: 4, ..Stamp::default() }.blocks(), 5);
    /// ```
    #[must_use]
    #[inline]
    pub const fn blocks(&self) -> u64 {
        self.preceding as u64 + 1
    }
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
