//! New consumers on their way from the threads that subscribe to the producer that admits them.

use std::sync::{PoisonError, TryLockError};

use crate::SubscribeError;
use crate::consumer_ring::ConsumerRing;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// The rings of consumers that have subscribed and not been admitted yet. After [`close`](Self::close) there are no
/// more: a subscription either comes before it, and then its ring is among the returned ones, or it is refused.
#[derive(Debug)]
pub(crate) struct Joining<T: Send + Sync> {
    /// Whether there may be rings. The producer reads this at every push, and the lock only where it is set.
    has_rings: AtomicBool,
    /// `None` once closed.
    rings: Mutex<Option<Vec<ConsumerRing<T>>>>,
}

impl<T: Send + Sync> Joining<T> {
    pub(crate) fn new() -> Self {
        Self { has_rings: AtomicBool::new(false), rings: Mutex::new(Some(Vec::new())) }
    }

    /// Adds a ring, unless the fan-out has ended.
    pub(crate) fn add(&self, ring: ConsumerRing<T>) -> Result<(), SubscribeError> {
        self.lock().as_mut().ok_or(SubscribeError::Ended)?.push(ring);
        self.has_rings.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the rings. Returns none while another thread holds the lock, because the producer never waits: its next
    /// look finds them.
    #[inline]
    pub(crate) fn take(&self) -> Vec<ConsumerRing<T>> {
        if self.has_rings.load(Ordering::Relaxed) { self.try_take() } else { Vec::new() }
    }

    #[cold]
    fn try_take(&self) -> Vec<ConsumerRing<T>> {
        let mut rings = match self.rings.try_lock() {
            Ok(rings) => rings,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Vec::new(),
        };
        self.has_rings.store(false, Ordering::Relaxed);
        rings.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes the rings and refuses all later ones. Waits while another thread adds its ring.
    pub(crate) fn close(&self) -> Vec<ConsumerRing<T>> {
        self.lock().take().unwrap_or_default()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<ConsumerRing<T>>>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
