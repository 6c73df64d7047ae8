//! The wake-up of one end of a fan-out that waits for the other: of a consumer for items, and of a producer for room.

use std::task::Waker;

use crate::sync::{AtomicBool, AtomicWaker, Ordering, fence, register};

/// An end that may wait. It arms, looks once more at what it waits for, and waits. The other end changes that, issues a
/// sequentially consistent fence, and wakes it if it is armed: either this end sees the change at its second look, or the
/// other one sees it armed.
#[derive(Debug)]
pub(crate) struct Waiter {
    armed: AtomicBool,
    waker: AtomicWaker,
}

impl Waiter {
    pub(crate) fn new() -> Self {
        Self { armed: AtomicBool::new(false), waker: AtomicWaker::new() }
    }

    /// Announces that this end is about to wait. It must look once more before it does.
    pub(crate) fn arm(&self, waker: &Waker) {
        register(&self.waker, waker);
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// Wakes this end, whether it waits or not.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Wakes this end if it waits. The caller must have issued a sequentially consistent fence since its last change.
    pub(crate) fn wake_if_armed(&self) {
        if self.armed.load(Ordering::Relaxed) {
            self.armed.store(false, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    /// Wakes a producer if it waits, after room was made.
    pub(crate) fn made(&self) {
        fence(Ordering::SeqCst);
        self.wake_if_armed();
    }
}
