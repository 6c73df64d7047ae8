//! The mailbox of a shard: what other threads want of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use crate::delivery::session::Session;

/// Hands sessions and requests to a shard, and wakes it.
#[derive(Debug)]
pub struct Mailbox {
    number: usize,
    letters: Mutex<Letters>,
    waker: mio::Waker,
    is_closing: AtomicBool,
    /// Listeners that were assigned to the shard and are not gone.
    pub(super) listeners: AtomicUsize,
    /// Packets that were written together with others, because the shard had fallen behind its encoders.
    pub(super) gathered: AtomicU64,
}

/// What has come since the shard last looked.
#[derive(Debug, Default)]
pub(super) struct Letters {
    pub(super) sessions: Vec<Box<Session>>,
    /// Numbers of listeners that are to be looked at, because they are to end.
    pub(super) to_look_at: Vec<u64>,
}

impl Mailbox {
    pub(super) fn new(number: usize, waker: mio::Waker) -> Arc<Self> {
        Arc::new(Self {
            number,
            letters: Mutex::default(),
            waker,
            is_closing: AtomicBool::new(false),
            listeners: AtomicUsize::new(0),
            gathered: AtomicU64::new(0),
        })
    }

    /// Returns the number of the shard, from 0.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns a waker of the shard.
    #[must_use]
    pub fn waker(self: &Arc<Self>) -> Waker {
        Arc::clone(self).into()
    }

    /// Hands over the session of a new listener.
    pub(super) fn add(&self, session: Box<Session>) {
        self.put(|letters| letters.sessions.push(session));
    }

    /// Asks the shard to look at a listener that is to end.
    pub(super) fn look_at(&self, listener: u64) {
        self.put(|letters| letters.to_look_at.push(listener));
    }

    /// Asks the shard to end, and to close all connections as they are.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Takes all that has come.
    pub(super) fn take(&self) -> Letters {
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, put: impl FnOnce(&mut Letters)) {
        put(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));
        self.ring();
    }

    fn ring(&self) {
        // Fails only where the system has no memory for the eight bytes; the shard then looks with the next packet.
        let _ = self.waker.wake();
    }
}

impl Wake for Mailbox {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
