//! Who listens now, and the totals over everybody, present and gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aircheck_engine::{EndReason, Format, Loss, Snapshot};

use crate::delivery::listener::{Joining, Listener};
use crate::mount::event_log::{Events, What};
use crate::rendition::name::Mount;

/// The reason under which blocks count that a listener left in its queue when it went.
pub const LEFT: &str = "left";

/// All who listen now, and the sums over those who are gone.
#[derive(Debug)]
pub struct Listeners {
    format: Format,
    most: usize,
    events: Arc<Events>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    present: BTreeMap<u64, Arc<Listener>>,
    gone: BTreeMap<Mount, Totals>,
    left: [u64; Leaving::ALL.len()],
}

/// Why a listener is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It left, or its connection broke.
    Left,
    /// Somebody disconnected it.
    Closed,
    /// Its ring was full, and its policy is to be ended then.
    TooSlow,
    /// It was further behind than it may be, likewise.
    MaxLag,
    /// The stream has ended.
    Finished,
}

impl Leaving {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Left, Self::Closed, Self::TooSlow, Self::MaxLag, Self::Finished];

    /// The reason, as metrics and JSON show it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Closed => "closed",
            Self::TooSlow => "too_slow",
            Self::MaxLag => "max_lag",
            Self::Finished => "finished",
        }
    }

    /// Why this listener is gone, or is about to go.
    #[must_use]
    pub fn of(listener: &Listener) -> Self {
        match listener.tally().end_reason() {
            Some(EndReason::Closed) if listener.is_too_late() => Self::MaxLag,
            Some(EndReason::Closed) => Self::Closed,
            Some(EndReason::TooSlow) => Self::TooSlow,
            Some(EndReason::Finished | EndReason::Abandoned) => Self::Finished,
            Some(EndReason::Left) | None => Self::Left,
        }
    }
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

/// Sums over everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllTotals {
    /// By mount; one that nobody has listened to is not there.
    pub by_mount: BTreeMap<Mount, Totals>,
    /// Listeners who are gone, by [`Leaving`].
    pub left: [u64; Leaving::ALL.len()],
}

/// The limit of listeners is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Listeners {
    /// Nobody yet, and never more than `most`. Who comes and goes is told to `events`.
    #[must_use]
    pub fn new(format: Format, most: usize, events: Arc<Events>) -> Arc<Self> {
        Arc::new(Self { format, most, events, state: Mutex::default() })
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
        drop(state);
        self.events.tell_of(&listener, What::Joined);
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
    pub fn totals(&self) -> AllTotals {
        let state = self.state();
        let mut by_mount = state.gone.clone();
        for listener in state.present.values() {
            let sums = by_mount.entry(listener.mount()).or_default();
            let snapshot = listener.snapshot();
            sums.add(&snapshot);
            sums.present += 1;
            sums.queued += snapshot.queued;
        }
        AllTotals { by_mount, left: state.left }
    }

    /// Ends a listener; false if there is none with this number.
    #[must_use]
    pub fn disconnect(&self, id: u64) -> bool {
        let Some(listener) = self.state().present.get(&id).cloned() else { return false };
        listener.tally().close();
        true
    }

    fn leave(&self, listener: &Listener) {
        let mut state = self.state();
        state.present.remove(&listener.id());
        let snapshot = listener.snapshot();
        let sums = state.gone.entry(listener.mount()).or_default();
        sums.add(&snapshot);
        sums.left += snapshot.queued;
        let reason = Leaving::of(listener);
        state.left[reason as usize] += 1;
        drop(state);
        let lost = snapshot.lost.total() + snapshot.queued;
        let Snapshot { offered, delivered, .. } = snapshot;
        self.events.tell_of(listener, What::Left { reason, offered, delivered, lost });
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
