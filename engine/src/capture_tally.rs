//! The account of a capture, shared with every thread that watches it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::Timestamp;

/// The account and the state of a capture. Written by the capturing thread, read by any thread.
#[derive(Debug, Default)]
pub struct CaptureTally {
    counts: CachePadded<Counts>,
    is_open: AtomicBool,
    failure: OnceLock<String>,
}

#[derive(Debug, Default)]
struct Counts {
    blocks: AtomicU64,
    lost_overflow: AtomicU64,
    lost_xrun: AtomicU64,
    next: AtomicU64,
    written_at: AtomicU64,
    xruns_reported: AtomicU64,
}

impl CaptureTally {
    /// Returns the blocks that went into the capture ring.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.counts.blocks.load(Ordering::Acquire)
    }

    /// Returns the blocks lost because the capture ring was full: the dispatcher did not run for too long.
    #[must_use]
    pub fn lost_overflow(&self) -> u64 {
        self.counts.lost_overflow.load(Ordering::Acquire)
    }

    /// Returns the blocks lost because the device missed sound.
    #[must_use]
    pub fn lost_xrun(&self) -> u64 {
        self.counts.lost_xrun.load(Ordering::Acquire)
    }

    /// Returns one past the last sequence number assigned, to a block or to a loss.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.counts.next.load(Ordering::Acquire)
    }

    /// Returns when sound last came from the source.
    #[must_use]
    pub fn written_at(&self) -> Option<Timestamp> {
        match self.counts.written_at.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Timestamp::from_nanos(nanos)),
        }
    }

    /// Returns whether the source is open and sound may come. False before the source starts, and after it ended or
    /// failed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Returns the failure of the source, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Marks the source as failed. The first failure stays. Not fit for a callback, because the message is allocated.
    pub(crate) fn fail(&self, message: String) {
        let _ = self.failure.set(message);
        self.is_open.store(false, Ordering::Release);
    }

    /// Counts an xrun that the device reported. The next written samples account for it. Fit for a callback.
    #[cfg(any(test, feature = "device"))]
    pub(crate) fn xrun_reported(&self) {
        self.counts.xruns_reported.fetch_add(1, Ordering::Release);
    }

    /// Marks the source as open or ended. Only the capture does this.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Release);
    }

    /// Counts a block that went into the ring.
    #[inline]
    pub(crate) fn block_written(&self) {
        add(&self.counts.blocks, 1);
    }

    /// Counts a block that found the ring full.
    #[inline]
    pub(crate) fn block_refused(&self) {
        add(&self.counts.lost_overflow, 1);
    }

    /// Counts blocks that the device lost.
    #[inline]
    pub(crate) fn blocks_missed(&self, blocks: u64) {
        add(&self.counts.lost_xrun, blocks);
    }

    /// Publishes the next sequence number.
    #[inline]
    pub(crate) fn advance(&self, next: u64) {
        self.counts.next.store(next, Ordering::Release);
    }

    /// Notes that sound captured at `captured_at` has come.
    #[inline]
    pub(crate) fn written(&self, captured_at: Timestamp) {
        self.counts.written_at.store(captured_at.as_nanos(), Ordering::Release);
    }

    /// Returns the xruns that the device has reported so far.
    #[inline]
    pub(crate) fn xruns_reported(&self) -> u64 {
        self.counts.xruns_reported.load(Ordering::Acquire)
    }
}

/// Adds to a counter with a load and a store. It has one writer, so no locked addition is needed.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Release);
}
