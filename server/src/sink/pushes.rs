//! How the Icecast servers of a mount are reached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aircheck_api::PushStatus;
use aircheck_engine::Timestamp;

use crate::delivery::listener::Listener;

/// The state of each server to which a mount is pushed, by its URL without the password.
#[derive(Debug, Default)]
pub struct Pushes(Mutex<BTreeMap<String, Push>>);

#[derive(Debug)]
struct Push {
    /// The server as a listener, while it takes the sound; else why it does not.
    state: Result<Arc<Listener>, String>,
    since: Timestamp,
    connections: u64,
}

impl Pushes {
    /// Notes that a server takes the sound from now on, as this listener.
    pub fn connected(&self, to: &str, listener: Arc<Listener>) {
        let mut pushes = self.pushes();
        let connections = pushes.get(to).map_or(0, |push| push.connections) + 1;
        pushes.insert(to.to_owned(), Push { state: Ok(listener), since: Timestamp::now(), connections });
    }

    /// Notes that a server takes no sound, for this reason. Returns whether that is new.
    pub fn failed(&self, to: &str, failure: String) -> bool {
        let mut pushes = self.pushes();
        let Some(push) = pushes.get_mut(to) else {
            pushes.insert(to.to_owned(), Push { state: Err(failure), since: Timestamp::now(), connections: 0 });
            return true;
        };
        let is_new = push.state.as_ref().err() != Some(&failure);
        if push.state.is_ok() {
            push.since = Timestamp::now();
        }
        push.state = Err(failure);
        is_new
    }

    /// Forgets a server that was taken out of the settings.
    pub fn forget(&self, to: &str) {
        self.pushes().remove(to);
    }

    /// Returns the state of each, with the lag of this moment.
    #[must_use]
    pub fn statuses(&self) -> Vec<PushStatus> {
        let pushes = self.pushes();
        let status = |(to, push): (&String, &Push)| {
            let listener = push.state.as_ref().ok();
            let lag = |listener: &Arc<Listener>| listener.mount().seconds(listener.standing(Timestamp::now()).lag());
            PushStatus {
                to: to.clone(),
                listener: listener.map(|listener| listener.id()),
                lag_seconds: listener.map(lag),
                failure: push.state.as_ref().err().cloned(),
                since: push.since.unix_seconds(),
                connections: push.connections,
            }
        };
        pushes.iter().map(status).collect()
    }

    fn pushes(&self) -> MutexGuard<'_, BTreeMap<String, Push>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
