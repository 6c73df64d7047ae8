//! The wake-up of a producer that waits until a consumer has room.

use std::task::Waker;

use crate::sync::{AtomicBool, AtomicWaker, Ordering, fence, register};

/// Wakes the producer when one of its consumers has made room, or does not need any more. The producer arms it, looks for
/// room once more, and waits.
#[derive(Debug)]
pub(crate) struct Room {
    armed: AtomicBool,
    producer: AtomicWaker,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { armed: AtomicBool::new(false), producer: AtomicWaker::new() }
    }

    /// Announces that the producer is about to wait. It must look for room once more before it does.
    pub(crate) fn arm(&self, waker: &Waker) {
        register(&self.producer, waker);
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// Wakes the producer if it waits. Called after room was made: either this sees the producer armed, or the producer
    /// sees the room at its second look.
    pub(crate) fn made(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) {
            self.armed.store(false, Ordering::Relaxed);
            self.producer.wake();
        }
    }
}

/// Tells a producer about room when it is dropped; none if the producer does not wait for this consumer.
#[derive(Debug)]
pub(crate) struct RoomNotice<'c>(pub(crate) Option<&'c Room>);

impl Drop for RoomNotice<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(room) = self.0 {
            room.made();
        }
    }
}
