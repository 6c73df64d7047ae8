//! The mounts of the process. Each has a source of its own and everything that belongs to it, and fails by itself: a source that
//! cannot be opened is tried again, while the other mounts are heard.

mod configured;
mod served;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Instant;

use aircheck_api::StreamState;

use crate::config::MountConfig;
pub use configured::ConfiguredMount;
pub use served::{Change, MountError, ServedMount};

/// All mounts, in the order of the settings.
#[derive(Debug)]
pub struct Mounts(RwLock<List>);

#[derive(Debug)]
struct List {
    /// Never empty.
    mounts: Arc<[Arc<ConfiguredMount>]>,
    is_stopped: bool,
}

impl Mounts {
    /// Makes the mounts of these settings, none of which is on the air yet.
    ///
    /// # Panics
    ///
    /// Without a mount.
    #[must_use]
    pub fn new(configs: &[MountConfig]) -> Arc<Self> {
        assert!(!configs.is_empty(), "there is a mount");
        let mounts = configs.iter().map(ConfiguredMount::new).collect();
        Arc::new(Self(RwLock::new(List { mounts, is_stopped: false })))
    }

    /// Replaces all mounts by these, which must not be none. Returns false, and does nothing, once they are stopped.
    pub fn replace(&self, mounts: Vec<Arc<ConfiguredMount>>) -> bool {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !list.is_stopped {
            list.mounts = mounts.into();
        }
        !list.is_stopped
    }

    /// Returns all of them.
    #[must_use]
    pub fn all(&self) -> Arc<[Arc<ConfiguredMount>]> {
        Arc::clone(&self.list().mounts)
    }

    /// Returns the mount at `/stream*`.
    #[must_use]
    pub fn first(&self) -> Arc<ConfiguredMount> {
        Arc::clone(&self.list().mounts[0])
    }

    /// Returns the mount of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<ConfiguredMount>> {
        self.list().mounts.iter().find(|mount| mount.name() == name).cloned()
    }

    /// Returns the mounts that are on the air.
    #[must_use]
    pub fn served(&self) -> Vec<Arc<ServedMount>> {
        self.all().iter().filter_map(|mount| mount.served().ok()).collect()
    }

    /// Returns whether the sources of all mounts deliver, or else the state of the first one whose source does not.
    #[must_use]
    pub fn state(&self) -> StreamState {
        let mounts = self.all();
        let mut states = mounts.iter().map(|mount| mount.state_of_stream());
        states.find(|state| *state != StreamState::Live).unwrap_or(StreamState::Live)
    }

    /// Returns whether all of them have been on the air, and their sources have ended.
    #[must_use]
    pub fn are_finished(&self) -> bool {
        self.all().iter().all(|mount| mount.served().is_ok_and(|served| served.is_finished()))
    }

    /// Returns how often the dispatcher of each mount has gone round, by its number, of those that run.
    #[must_use]
    pub fn dispatcher_turns(&self) -> Vec<(u64, u64)> {
        self.served().iter().filter_map(|served| Some((served.number, served.dispatcher_turns()?))).collect()
    }

    /// Returns why a source has failed, if one has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.served().iter().find_map(|served| served.mount.capture().failure().map(str::to_owned))
    }

    /// Stops all sources at the same time, and waits until they have ended. No mount comes on the air any more.
    pub fn stop(&self) {
        let mounts = {
            let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
            list.is_stopped = true;
            Arc::clone(&list.mounts)
        };
        thread::scope(|scope| {
            mounts.iter().for_each(|mount| {
                scope.spawn(|| mount.close());
            });
        });
    }

    /// Waits until the recordings have written everything that they got, until `deadline` at most. Returns the names of mounts
    /// whose recording did not.
    #[must_use]
    pub fn finish_recordings(&self, deadline: Instant) -> Vec<String> {
        let served = self.served();
        let late = served.iter().filter(|served| !served.finish_recording(deadline));
        late.map(|served| served.mount.name().to_owned()).collect()
    }

    /// Waits until the publishers have sent everything that they got, until `deadline` at most. Returns the names of mounts whose
    /// publisher did not.
    #[must_use]
    pub fn finish_publishing(&self, deadline: Instant) -> Vec<String> {
        let served = self.served();
        let late = served.iter().filter(|served| !served.finish_publishing(deadline));
        late.map(|served| served.mount.name().to_owned()).collect()
    }

    fn list(&self) -> RwLockReadGuard<'_, List> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
