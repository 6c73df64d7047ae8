//! A writer that stops at its first failure.

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A file to which nothing more is written after the first failure: half of a frame would shift all samples after it.
pub(crate) struct FailStop<F> {
    file: F,
    stop: StopFlag,
}

/// The flag that stops a [`FailStop`] writer. Its clones are the same flag.
#[derive(Clone, Default)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Makes all further writes fail.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<F> FailStop<F> {
    /// Wraps a file. The flag is set at the first failure, or from outside.
    pub(crate) fn new(file: F, stop: StopFlag) -> Self {
        Self { file, stop }
    }

    fn attempt<T>(&mut self, act: impl FnOnce(&mut F) -> io::Result<T>) -> io::Result<T> {
        if self.stop.is_set() {
            return Err(io::Error::other("an earlier write has failed"));
        }
        let result = act(&mut self.file);
        if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.stop.set();
        }
        result
    }
}

impl<F: Write> Write for FailStop<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(Write::flush)
    }
}

impl<F: Seek> Seek for FailStop<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.attempt(|file| file.seek(to))
    }
}
