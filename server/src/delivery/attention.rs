//! The listeners that are to be looked at soon: something waits for them, or they are to end.

use std::sync::{Mutex, PoisonError};

/// The numbers of listeners that have asked for a look: by the watch, which need not look at all listeners then, or by
/// their shard.
#[derive(Debug, Default)]
pub struct Attention {
    listeners: Mutex<Vec<u64>>,
}

impl Attention {
    /// Asks for a look at a listener.
    pub(super) fn ask(&self, listener: u64) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Returns the listeners that have asked since the last call.
    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
