//! Who listens now, and the totals over everybody, present and gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aircheck_engine::{Format, Loss, Snapshot, Timestamp};

use crate::listener::{Joining, Listener};
use crate::mount::Mount;

/// The reason under which blocks count that a listener left in its queue when it went.
pub const LEFT: &str = "left";

/// All who listen now, and the sums over those who are gone.
#[derive(Debug)]
pub struct Listeners {
    format: Format,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    present: BTreeMap<u64, Arc<Listener>>,
    gone: BTreeMap<Mount, Totals>,
}

/// Sums over the listeners of a mount, present and gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many listen now.
    pub present: u64,
    /// Blocks offered.
    pub offered: u64,
    /// Blocks delivered.
    pub delivered: u64,
    /// Blocks lost, by [`Loss`].
    pub lost: [u64; Loss::ALL.len()],
    /// Blocks in the queues of listeners when they went.
    pub left: u64,
    /// Blocks in the queues of those who listen now.
    pub queued: u64,
}

impl Totals {
    fn add(&mut self, snapshot: &Snapshot) {
        self.offered += snapshot.offered;
        self.delivered += snapshot.delivered;
        for (sum, reason) in self.lost.iter_mut().zip(Loss::ALL) {
            *sum += snapshot.lost.of(reason);
        }
    }
}

/// The limit of listeners is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Listeners {
    /// Nobody yet, and never more than `most`.
    #[must_use]
    pub fn new(format: Format, most: usize) -> Arc<Self> {
        Arc::new(Self { format, most, state: Mutex::default() })
    }

    /// Whether one more would be too many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state().present.len() >= self.most
    }

    /// Takes a listener in. It is gone when the returned guard is dropped.
    ///
    /// # Errors
    ///
    /// When there are as many as there may be.
    pub fn join(self: &Arc<Self>, joining: Joining) -> Result<Presence, Full> {
        let mut state = self.state();
        if state.present.len() >= self.most {
            return Err(Full);
        }
        state.next_id += 1;
        let id = state.next_id;
        let listener = Arc::new(Listener::new(id, joining, self.format));
        state.present.insert(id, Arc::clone(&listener));
        Ok(Presence { listener, listeners: Arc::clone(self) })
    }

    /// Everyone who listens now, the longest first.
    #[must_use]
    pub fn present(&self) -> Vec<Arc<Listener>> {
        self.state().present.values().cloned().collect()
    }

    /// How many listen now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().present.len()
    }

    /// Sums by mount. None of them ever goes back, but `present` and `queued`.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Mount, Totals> {
        let state = self.state();
        let mut totals = state.gone.clone();
        for listener in state.present.values() {
            let sums = totals.entry(listener.mount()).or_default();
            let snapshot = listener.tally().snapshot();
            sums.add(&snapshot);
            sums.present += 1;
            sums.queued += snapshot.queued;
        }
        totals
    }

    /// Ends a listener; false if there is none with this number.
    #[must_use]
    pub fn disconnect(&self, id: u64) -> bool {
        let Some(listener) = self.state().present.get(&id).cloned() else { return false };
        listener.tally().close();
        true
    }

    /// Hangs up on those who have ended but don't read the rest, `patience` after this was first seen. Called
    /// regularly; `waiting` carries over who has been seen.
    pub fn hang_up_on_ended(&self, waiting: &mut BTreeMap<u64, Timestamp>, patience: Duration, now: Timestamp) {
        let present = self.present();
        waiting.retain(|id, _| present.iter().any(|listener| listener.id() == *id));
        for listener in present.iter().filter(|listener| listener.has_ended()) {
            let since = *waiting.entry(listener.id()).or_insert(now);
            if now.since(since) >= patience {
                listener.hang_up();
            }
        }
    }

    fn leave(&self, listener: &Listener) {
        let mut state = self.state();
        state.present.remove(&listener.id());
        let snapshot = listener.tally().snapshot();
        let sums = state.gone.entry(listener.mount()).or_default();
        sums.add(&snapshot);
        sums.left += snapshot.queued;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener is there as long as this is.
#[derive(Debug)]
pub struct Presence {
    listener: Arc<Listener>,
    listeners: Arc<Listeners>,
}

impl Presence {
    /// The listener.
    #[must_use]
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.listeners.leave(&self.listener);
    }
}
