//! How the Icecast servers of a mount are reached.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aircheck_api::PushStatus;
use aircheck_engine::Timestamp;

/// The state of each server to which a mount is pushed, by its URL without the password.
#[derive(Debug, Default)]
pub struct Pushes(Mutex<BTreeMap<String, PushStatus>>);

impl Pushes {
    /// Notes that a server takes the sound, as the listener with this number.
    pub fn connected(&self, to: &str, listener: u64) {
        self.change(to, |status| {
            status.connections += 1;
            (status.listener, status.failure) = (Some(listener), None);
        });
    }

    /// Notes that a server takes no sound, for this reason. Returns whether that is new.
    pub fn failed(&self, to: &str, failure: String) -> bool {
        self.change(to, |status| {
            let is_new = status.failure.as_deref() != Some(&failure);
            (status.listener, status.failure) = (None, Some(failure));
            is_new
        })
    }

    /// Forgets a server that was taken out of the settings.
    pub fn forget(&self, to: &str) {
        self.states().remove(to);
    }

    /// Returns the state of each.
    #[must_use]
    pub fn statuses(&self) -> Vec<PushStatus> {
        self.states().values().cloned().collect()
    }

    fn change<T>(&self, to: &str, change: impl FnOnce(&mut PushStatus) -> T) -> T {
        let mut states = self.states();
        let status = states.entry(to.to_owned()).or_insert_with(|| PushStatus {
            to: to.to_owned(),
            listener: None,
            failure: None,
            since: 0.0,
            connections: 0,
        });
        let before = status.listener.is_some();
        let result = change(status);
        if status.since == 0.0 || before != status.listener.is_some() {
            status.since = Timestamp::now().unix_seconds();
        }
        result
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, PushStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
