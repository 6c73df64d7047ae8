//! The doorbell between an encoder and a thread that delivers its packets to many listeners.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// Wakes one delivery thread once for each packet of one encoder, however many listeners the thread has.
#[derive(Debug)]
pub struct Doorbell {
    waker: Waker,
    has_rung: AtomicBool,
    has_ended: AtomicBool,
}

impl Doorbell {
    /// Makes a doorbell for the thread that `waker` wakes.
    #[must_use]
    pub fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { waker, has_rung: AtomicBool::new(false), has_ended: AtomicBool::new(false) })
    }

    /// Rings, unless the caller alone holds it: a thread without listeners has no use for packets.
    pub fn ring(self: &Arc<Self>) {
        if Arc::strong_count(self) > 1 && !self.has_rung.swap(true, Ordering::AcqRel) {
            self.waker.wake_by_ref();
        }
    }

    /// Rings for the last time: the encoder has ended its listeners.
    pub fn ring_for_end(self: &Arc<Self>) {
        self.has_ended.store(true, Ordering::Release);
        self.ring();
    }

    /// Returns whether the encoder has ended its listeners.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Returns whether it has rung since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        self.has_rung.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_thread_is_woken_once_until_it_has_looked_and_never_without_listeners() {
        let wakes = Arc::<Wakes>::default();
        let doorbell = Doorbell::new(Arc::clone(&wakes).into());
        let count = || wakes.0.load(Ordering::Relaxed);
        doorbell.ring();
        assert_eq!(count(), 0, "there is no listener");
        let listeners = [Arc::clone(&doorbell), Arc::clone(&doorbell)];
        (0..3).for_each(|_| doorbell.ring());
        assert_eq!(count(), 1, "for three packets and two listeners");
        assert!(doorbell.take() && !doorbell.take());
        doorbell.ring();
        assert_eq!(count(), 2);
        assert!(!doorbell.has_ended());
        doorbell.ring_for_end();
        assert!(doorbell.has_ended() && doorbell.take());
        drop(listeners);
        doorbell.ring();
        assert_eq!(count(), 2, "the last one has left");
    }
}
