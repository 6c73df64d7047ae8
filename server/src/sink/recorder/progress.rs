//! The progress of a recording, which the recorder's thread writes and the status shows.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// The error that keeps the recorder from writing.
    pub(crate) failing: Option<String>,
}

/// Progress that is shared between the recorder's thread and the handles of the recording.
#[derive(Debug, Default)]
pub(crate) struct SharedProgress {
    state: Mutex<State>,
    finished: Condvar,
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
