//! The place where a recording makes its files: a directory, or in tests a storage that fails on demand.

use std::io::{self, Seek, Write};
use std::path::PathBuf;

/// A file that is being written. Its clones are the same file, with the same position.
pub(crate) trait StorageFile: Clone + Write + Seek {
    /// Waits until everything that was written would survive a loss of power.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file off after `bytes` bytes.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// A place for new files.
pub(crate) trait Storage {
    /// The files of this storage.
    type File: StorageFile;

    /// Makes a new file. If there is one of this name, fails with [`AlreadyExists`](io::ErrorKind::AlreadyExists) and
    /// does not touch it.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Removes a file that was made here and holds nothing.
    fn remove(&mut self, name: &str);

    /// Returns how many bytes are free for files of this user; `None` if that is unknown.
    fn free_bytes(&self) -> Option<u64>;

    /// Returns the path of a file, for messages and the status.
    fn path(&self, name: &str) -> PathBuf;
}
