//! The bound of the number of replays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most replays at a time. Each takes two threads, and reads its own part of the disk.
pub(super) const MAX_REPLAYS: usize = 64;

/// The replays that run.
#[derive(Clone, Debug, Default)]
pub struct Replays(Arc<AtomicUsize>);

impl Replays {
    /// Takes a place for one more replay; `None` if there are [`MAX_REPLAYS`].
    pub(super) fn enter(&self) -> Option<ReplayPlace> {
        // Made first, so that the count goes down again if there are too many.
        let place = ReplayPlace(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::AcqRel) < MAX_REPLAYS).then_some(place)
    }
}

/// A place among the replays, which is free again when it is dropped.
#[derive(Debug)]
pub(super) struct ReplayPlace(Arc<AtomicUsize>);

impl Drop for ReplayPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
