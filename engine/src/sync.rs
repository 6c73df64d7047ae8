//! The atomics, fences and locks of every hand-over between threads: the standard library's, or loom's where its models
//! run (see `models`). A ring's own atomics are not among them: rtrb and triple_buffer are proven by their authors.

pub(crate) use std::sync::atomic::Ordering;

#[cfg(loom)]
pub(crate) use loom::{
    future::AtomicWaker,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, fence},
    },
};
#[cfg(not(loom))]
pub(crate) use {
    atomic_waker::AtomicWaker,
    std::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, fence},
    },
};

/// Stores the waker that [`AtomicWaker::wake`] calls.
#[cfg(not(loom))]
#[inline]
pub(crate) fn register(slot: &AtomicWaker, waker: &std::task::Waker) {
    slot.register(waker);
}

/// Stores the waker that [`AtomicWaker::wake`] calls.
#[cfg(loom)]
pub(crate) fn register(slot: &AtomicWaker, waker: &std::task::Waker) {
    slot.register_by_ref(waker);
}
