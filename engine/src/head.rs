//! The live head.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering};

/// The live head: the next sequence number to be published. Lag is measured against it.
#[derive(Clone, Debug, Default)]
pub struct Head(Arc<CachePadded<AtomicU64>>);

impl Head {
    /// Returns the next sequence number to be published.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn advance(&self, next: u64) {
        self.0.store(next, Ordering::Release);
    }
}
