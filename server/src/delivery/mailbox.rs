//! The mailbox of a shard, in which other threads ask for something and wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use crate::delivery::attention::Attention;

/// Requests to a shard, and the means to wake it.
#[derive(Debug)]
pub struct Mailbox {
    number: usize,
    waker: mio::Waker,
    /// Listeners that are to be looked at, because they are to end.
    to_look_at: Attention,
    is_closing: AtomicBool,
    /// Listeners that have a place in the shard.
    listeners: AtomicUsize,
    /// Packets that were written together with others.
    gathered: AtomicU64,
}

impl Mailbox {
    /// Makes the mailbox of the shard with this number, which `waker` wakes.
    pub(super) fn new(number: usize, waker: mio::Waker) -> Arc<Self> {
        Arc::new(Self {
            number,
            waker,
            to_look_at: Attention::default(),
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
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Arc::clone(self).into()
    }

    /// Asks the shard to look at a listener that is to end.
    pub(super) fn look_at(&self, listener: u64) {
        self.to_look_at.ask(listener);
        self.ring();
    }

    /// Returns the listeners that are to be looked at since the last call.
    pub(super) fn take_to_look_at(&self) -> Vec<u64> {
        self.to_look_at.take()
    }

    /// Asks the shard to end, and to close all connections as they are.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Returns the number of listeners that have a place in the shard.
    pub(super) fn listeners(&self) -> usize {
        self.listeners.load(Ordering::Relaxed)
    }

    /// Counts packets that were written together with others.
    pub(super) fn count_gathered(&self, packets: u64) {
        self.gathered.fetch_add(packets, Ordering::Relaxed);
    }

    /// Returns the number of packets that were written together with others.
    pub(super) fn gathered(&self) -> u64 {
        self.gathered.load(Ordering::Relaxed)
    }

    /// Wakes the shard.
    pub(super) fn ring(&self) {
        // Fails only where the system has no memory for eight bytes; the shard then looks with the next packet.
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

/// A listener's place in a shard. It is free again when this is dropped.
#[derive(Debug)]
pub struct Assignment {
    mailbox: Arc<Mailbox>,
}

impl Assignment {
    /// Takes a place in the shard of this mailbox.
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        mailbox.listeners.fetch_add(1, Ordering::Relaxed);
        Self { mailbox }
    }

    /// Returns the mailbox of the shard.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.mailbox.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Mailbox {
    /// Makes the mailbox of a shard without a thread. Returns it with the poller that it wakes.
    pub(super) fn of_poller(number: usize) -> (Arc<Self>, mio::Poll) {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        (Self::new(number, waker), poll)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns whether the poller was woken since the last call.
    fn is_woken(poll: &mut mio::Poll) -> bool {
        let mut events = mio::Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn each_request_wakes_the_shard() {
        let (mailbox, mut poll) = Mailbox::of_poller(0);
        assert!(!is_woken(&mut poll));
        let waker = mailbox.waker();
        let requests: [(&str, &dyn Fn()); 5] = [
            ("look at a listener", &|| mailbox.look_at(7)),
            ("packets, by a waker", &|| waker.wake_by_ref()),
            ("packets, by a waker that is used up", &|| mailbox.waker().wake()),
            ("a new listener", &|| mailbox.ring()),
            ("close", &|| mailbox.close()),
        ];
        for (what, request) in requests {
            request();
            assert!(is_woken(&mut poll), "{what}");
            assert!(!is_woken(&mut poll), "{what}: once");
        }
    }

    #[test]
    fn the_listeners_to_look_at_are_taken_once_and_in_order() {
        let (mailbox, _poll) = Mailbox::of_poller(0);
        [3, 1, 2].into_iter().for_each(|listener| mailbox.look_at(listener));
        assert_eq!(mailbox.take_to_look_at(), [3, 1, 2]);
        mailbox.look_at(4);
        assert_eq!(mailbox.take_to_look_at(), [4]);
        assert!(mailbox.take_to_look_at().is_empty());
    }
}
