//! A mount of the settings, which may be on the air or not yet.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aircheck_api::StreamState;

use super::served::{Change, MountError, ServedMount};
use crate::config::MountConfig;
use crate::delivery::shards::Shards;

/// How long [`ConfiguredMount::close`] waits for a source that is being opened: most of what the stop of the service may take.
const OPENING_TIMEOUT: Duration = Duration::from_secs(3);

/// A mount of the settings.
#[derive(Debug)]
pub struct ConfiguredMount {
    /// Its settings until it is on the air, which then has those that are true.
    config: Arc<MountConfig>,
    state: Mutex<State>,
    /// Rings when an opening has ended.
    opened: Condvar,
}

#[derive(Debug, Default)]
struct State {
    served: Option<Arc<ServedMount>>,
    /// Why the last try to open it has failed.
    failure: Option<String>,
    is_opening: bool,
    is_closed: bool,
}

impl ConfiguredMount {
    /// Makes a mount that is not on the air yet.
    #[must_use]
    pub fn new(config: &MountConfig) -> Arc<Self> {
        Arc::new(Self { config: Arc::new(config.clone()), state: Mutex::default(), opened: Condvar::new() })
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Returns its settings.
    #[must_use]
    pub fn config(&self) -> Arc<MountConfig> {
        self.served().map_or_else(|_| Arc::clone(&self.config), |served| served.config())
    }

    /// Returns the mount.
    ///
    /// # Errors
    ///
    /// Why it is not on the air yet.
    pub fn served(&self) -> Result<Arc<ServedMount>, String> {
        let state = self.state();
        let failure = || state.failure.clone().unwrap_or_else(|| "it is being opened".to_owned());
        state.served.clone().ok_or_else(failure)
    }

    /// Tries to put it on the air.
    ///
    /// # Errors
    ///
    /// Why that failed; it may be tried again unless it is closed.
    pub fn open(&self, shards: &Shards) -> Result<Arc<ServedMount>, MountError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(MountError::Closed);
        }
        state.is_opening = true;
        drop(state);
        let opened = ServedMount::open(Arc::clone(&self.config), shards).map(Arc::new);
        state = self.state();
        let outcome = match opened {
            Ok(served) if state.is_closed => {
                drop(state);
                served.stop();
                state = self.state();
                Err(MountError::Closed)
            }
            Ok(served) => Ok(Arc::clone(state.served.insert(served))),
            Err(error) => {
                state.failure = Some(error.to_string());
                Err(error)
            }
        };
        state.is_opening = false;
        drop(state);
        self.opened.notify_all();
        outcome
    }

    /// Takes other settings if it is on the air, as [`ServedMount::change`] does.
    ///
    /// # Errors
    ///
    /// When they cannot be used. It keeps those that it has.
    pub fn change(&self, config: &MountConfig) -> Result<Change, MountError> {
        match self.served() {
            Ok(served) => served.change(&Arc::new(config.clone())),
            Err(_) => Ok(Change::Anew),
        }
    }

    /// Takes it off the air for ever: stops its source, and with it all streams. One that is being opened is waited for.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let waited = self.opened.wait_timeout_while(state, OPENING_TIMEOUT, |state| state.is_opening);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        let served = state.served.clone();
        drop(state);
        if waited.timed_out() {
            tracing::warn!("the source of the mount `{}` hangs where it is opened, and is left behind", self.name());
        }
        if let Some(served) = served {
            served.stop();
        }
    }

    /// Returns whether its source delivers, or why not.
    #[must_use]
    pub fn state_of_stream(&self) -> StreamState {
        self.served().map_or(StreamState::Silent, |served| served.mount.state())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_mount_that_is_closed_while_it_is_being_opened_is_waited_for_and_has_no_source_afterwards() {
        let mut config = Config::default().first_mount().clone();
        config.capture.source = "tone:440".parse().unwrap();
        let (mount, shards) = (ConfiguredMount::new(&config), Shards::start().unwrap());
        // As an opening does that has begun.
        mount.state().is_opening = true;
        thread::scope(|scope| {
            let closing = scope.spawn(|| mount.close());
            while !mount.state().is_closed {
                thread::yield_now();
            }
            assert!(!closing.is_finished(), "it waits");
            mount.state().is_opening = false;
            mount.opened.notify_all();
        });
        assert!(matches!(mount.open(&shards), Err(MountError::Closed)));
        assert!(mount.served().is_err());
    }
}
