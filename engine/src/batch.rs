//! Several items that a consumer takes at once.

use std::fmt;
use std::sync::Arc;

use crate::ring_reader::Taken;
use crate::{Gap, Item};

/// Consecutive items without a gap between them, from [`Consumer::try_recv_batch`](crate::Consumer::try_recv_batch). All of
/// them count as delivered, whether they are used or not. They are borrowed, because a handle of its own for each costs more
/// than reading it; clone the ones to keep.
pub struct Batch<'c, T> {
    /// The gap directly before the first item.
    pub gap: Option<Gap>,
    /// How far the last block of the first item was behind the live head when the batch was taken, in blocks.
    pub lag_items: u64,
    items: Taken<'c, T>,
}

impl<'c, T> Batch<'c, T> {
    pub(crate) fn new(gap: Option<Gap>, lag_items: u64, items: Taken<'c, T>) -> Self {
        Self { gap, lag_items, items }
    }

    /// Iterates over the items: at least one.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// (0..3).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// let batch = consumer.try_recv_batch(Timestamp::now(), 10)?;
    /// assert_eq!(batch.iter().map(|item| item.value).sum::<u64>(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Item<T>>> {
        self.items.iter()
    }

    /// Returns the number of items.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// (0..3).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// assert_eq!(consumer.try_recv_batch(Timestamp::now(), 2)?.items(), 2);
    /// assert_eq!(consumer.try_recv_batch(Timestamp::now(), 2)?.items(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[inline]
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// Returns the number of blocks that the items stand for.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, Stamp, SubscribeOptions, Timestamp};
    ///
    /// let (mut packets, hub) = Publisher::new(PublisherOptions { group: 10, ..PublisherOptions::default() });
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// // A packet made from the blocks 0 to 9.
    /// packets.push(Stamp { sequence: 9, preceding: 9, ..Stamp::default() }, "packet");
    /// packets.flush();
    /// let batch = consumer.try_recv_batch(Timestamp::now(), usize::MAX)?;
    /// assert_eq!((batch.items(), batch.blocks()), (1, 10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[inline]
    pub fn blocks(&self) -> u64 {
        self.items.ends().map_or(0, |(first, last)| last.stamp.next() - first.stamp.first())
    }
}

impl<T> fmt::Debug for Batch<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gap, lag_items, .. } = self;
        let items = self.items();
        formatter.debug_struct("Batch").field("gap", gap).field("lag_items", lag_items).field("items", &items).finish()
    }
}
