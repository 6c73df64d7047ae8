//! The live head.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::final_state::MAX_SEQUENCE;
use crate::sync::{AtomicU64, Ordering};

/// The live head: the next sequence number to be published. Lag is measured against it.
#[derive(Clone, Debug, Default)]
pub struct Head {
    published: Arc<CachePadded<AtomicU64>>,
    /// Added to the published number.
    ahead: u64,
}

impl Head {
    /// Returns the next sequence number to be published.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// ticks.send("tick", Timestamp::now());
    /// assert_eq!(hub.head().next(), 1);
    /// ```
    #[must_use]
    pub fn next(&self) -> u64 {
        self.published.load(Ordering::Acquire) + self.ahead
    }

    /// Returns the same head, counted `blocks` further, by 2^58 at most: for consumers of a stream that began that much
    /// earlier.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// ticks.send("tick", Timestamp::now());
    /// assert_eq!(hub.head().ahead_by(1000).next(), 1001);
    /// ```
    #[must_use]
    pub fn ahead_by(&self, blocks: u64) -> Self {
        Self { published: Arc::clone(&self.published), ahead: self.ahead.saturating_add(blocks).min(MAX_SEQUENCE) }
    }

    pub(crate) fn advance(&self, next: u64) {
        self.published.store(next, Ordering::Release);
    }
}
