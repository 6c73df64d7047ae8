//! The progress of a recording, which the recorder's thread writes and the status shows.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::mount::Mount;
use crate::mount::event_log::EventLog;

/// The part of a recording's status that its thread keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The file that is being written.
    pub(crate) file: Option<PathBuf>,
    /// WAV files so far.
    pub(crate) files: u64,
    /// Blocks of sound in them.
    pub(crate) blocks: u64,
    /// Blocks of silence in them whose sound the source did not deliver.
    pub(crate) missing: u64,
    /// Bytes of samples in them, silence included.
    pub(crate) bytes: u64,
    /// Blocks of sound that were left out, because the disk was nearly full.
    pub(crate) left_out: u64,
    /// Whether the recording has stopped because the disk is nearly full.
    pub(crate) is_disk_full: bool,
    /// Bytes that were free on the disk at the last look.
    pub(crate) free_bytes: Option<u64>,
    /// The error that keeps the recorder from writing.
    pub(crate) failing: Option<String>,
}

/// Progress that is shared between the recorder's thread and the handles of the recording.
#[derive(Debug, Default)]
pub(crate) struct SharedProgress {
    state: Mutex<State>,
    finished: Condvar,
    /// The mount in whose log events are published, once it is there.
    mount: OnceLock<Arc<Mount>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    progress: Progress,
    is_finished: bool,
}

impl SharedProgress {
    /// Replaces the progress.
    pub(crate) fn publish(&self, progress: &Progress) {
        self.state().progress.clone_from(progress);
    }

    /// Marks the recording as finished: nothing more will be written. `error` is the reason if it is not complete.
    pub(crate) fn finish(&self, error: Option<String>) {
        let mut state = self.state();
        state.is_finished = true;
        if error.is_some() {
            state.progress.failing = error;
        }
        self.finished.notify_all();
    }

    /// Publishes events of the recording in the log of `mount` from now on.
    pub(crate) fn report_to(&self, mount: Arc<Mount>) {
        // A recording has one mount.
        let _ = self.mount.set(mount);
    }

    /// Returns the log for events, once there is one.
    pub(crate) fn events(&self) -> Option<&EventLog> {
        self.mount.get().map(|mount| mount.events())
    }

    /// Returns the progress, and whether the recording has finished.
    pub(crate) fn get(&self) -> (Progress, bool) {
        let State { progress, is_finished } = self.state().clone();
        (progress, is_finished)
    }

    /// Waits until the recording has finished; returns false if that takes longer than `timeout`.
    pub(crate) fn wait_finished(&self, timeout: Duration) -> bool {
        let waited = self.finished.wait_timeout_while(self.state(), timeout, |state| !state.is_finished);
        waited.map_or_else(|error| error.into_inner().0.is_finished, |(state, _)| state.is_finished)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
