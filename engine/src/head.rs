//! Where live is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// The live head: the sequence number that comes next. Shared by everything that measures its lag against it.
#[derive(Clone, Debug, Default)]
pub struct Head(Arc<CachePadded<AtomicU64>>);

impl Head {
    /// The sequence number that has not been published yet, but is next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn advance(&self, next: u64) {
        self.0.store(next, Ordering::Release);
    }
}
