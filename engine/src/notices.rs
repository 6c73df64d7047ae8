//! What the consumers of a fan-out tell its producer, so that it need not look at each of them.

use crate::sync::{AtomicBool, Ordering};
use crate::waiter::Waiter;

/// Notices of any consumer to the producer of a fan-out.
#[derive(Debug)]
pub(crate) struct Notices {
    /// Whether a consumer has ever announced that it waits.
    has_waiters: AtomicBool,
    /// Whether a consumer was closed or dropped, or has ended, since the producer last looked for one.
    has_leavers: AtomicBool,
    /// The place where the producer waits for room.
    room: Waiter,
}

impl Notices {
    pub(crate) fn new() -> Self {
        Self { has_waiters: AtomicBool::new(false), has_leavers: AtomicBool::new(false), room: Waiter::new() }
    }

    /// Announces that a consumer waits. It must issue a sequentially consistent fence before it looks at its ring again.
    pub(crate) fn consumer_waits(&self) {
        // Only read from the second time on, so that consumers do not fight for its cache line.
        if !self.has_waiters.load(Ordering::Relaxed) {
            self.has_waiters.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether a consumer may be waiting for items.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        self.has_waiters.load(Ordering::Relaxed)
    }

    /// Announces that a consumer is over, and that the producer need not wait for its room any more. The account of that
    /// consumer must say so before.
    pub(crate) fn consumer_leaves(&self) {
        // A swap and not a store, so that the producer, which sees the last of several, sees what all wrote before.
        self.has_leavers.swap(true, Ordering::AcqRel);
        self.room.made();
    }

    /// Returns whether a consumer has left since the last call.
    #[inline]
    pub(crate) fn take_leavers(&self) -> bool {
        self.has_leavers.load(Ordering::Relaxed) && self.has_leavers.swap(false, Ordering::AcqRel)
    }

    /// Returns the place where the producer waits for room.
    #[inline]
    pub(crate) fn room(&self) -> &Waiter {
        &self.room
    }
}
