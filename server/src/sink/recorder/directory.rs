//! The directory of a recording, and its files on a disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;

use super::storage::{Storage, StorageFile};

/// The reason why nothing can be recorded to a directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot record to {}: {error} (choose another directory with --record)", .path.display())]
pub struct RecordError {
    path: PathBuf,
    error: io::Error,
}

/// A directory to record to, locked against other servers for as long as it is open.
#[derive(Clone, Debug)]
pub struct RecordingDirectory {
    path: PathBuf,
    /// The directory itself, which carries the lock: so no file is left behind, and the lock ends with the process.
    _lock: Arc<File>,
}

impl RecordingDirectory {
    /// Opens the directory at `path`, and makes it if it is missing, for this user alone: a recording may be private.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made, no file can be made in it, or another server records to it.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let lock = Self::prepare(path).map_err(|error| RecordError { path: path.to_path_buf(), error })?;
        Ok(Self { path: path.to_path_buf(), _lock: Arc::new(lock) })
    }

    fn prepare(path: &Path) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::lock(path)
    }

    /// Locks the directory at `path`, which is there, and tests that files can be made in it.
    pub(crate) fn lock(path: &Path) -> io::Result<File> {
        // Making a file is the only test that notices a read-only file system. This file has no name, or a random one,
        // so that no link can be planted in its place and none is left behind.
        tempfile::tempfile_in(path)?;
        let directory = File::open(path)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(io::Error::other("another aircheck records to it")),
            // Some network file systems lock no directories. Files of two servers still have different names there.
            _ => Ok(directory),
        }
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Storage for RecordingDirectory {
    type File = DiskFile;

    fn create(&mut self, name: &str) -> io::Result<DiskFile> {
        // `create_new` follows no link either.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path.join(name))?;
        // The file's name, too, should survive a loss of power. Some file systems cannot sync a directory.
        let _ = File::open(&self.path).and_then(|directory| directory.sync_all());
        Ok(DiskFile(Arc::new(file)))
    }

    fn remove(&mut self, name: &str) {
        // If this fails, an empty file stays.
        let _ = fs::remove_file(self.path.join(name));
    }

    fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Returns the bytes that this user may still write on the file system of `path`; `None` if it cannot be asked.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// A file in a [`RecordingDirectory`].
#[derive(Clone, Debug)]
pub(crate) struct DiskFile(Arc<File>);

impl StorageFile for DiskFile {
    fn sync(&self) -> io::Result<()> {
        match self.0.sync_data() {
            // A file system that cannot sync reports no failures either.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => Ok(()),
            result => result,
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

impl Seek for DiskFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self.0).seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// The name of the test file of earlier versions, which stayed if the program was killed.
    fn earlier_probe() -> String {
        format!(".aircheck-{}", std::process::id())
    }

    #[test]
    fn a_planted_link_does_not_lead_to_a_file_outside_the_directory() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let private = outside.path().join("private");
        fs::write(&private, "private").unwrap();
        symlink(&private, folder.path().join(earlier_probe())).unwrap();
        symlink(&private, folder.path().join("a.wav")).unwrap();
        symlink(outside.path().join("missing"), folder.path().join("b.wav")).unwrap();
        let mut directory = RecordingDirectory::open(folder.path()).unwrap();
        for name in ["a.wav", "b.wav"] {
            assert_eq!(directory.create(name).unwrap_err().kind(), ErrorKind::AlreadyExists, "{name}");
        }
        assert_eq!(fs::read_to_string(&private).unwrap(), "private");
        assert_eq!(outside.path().read_dir().unwrap().count(), 1);
        assert_eq!(folder.path().read_dir().unwrap().count(), 3, "the links are still there");
    }

    #[test]
    fn a_leftover_probe_does_not_keep_a_directory_from_being_opened() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(earlier_probe())).unwrap();
        RecordingDirectory::open(folder.path()).unwrap();
        RecordingDirectory::open(folder.path()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "opening leaves nothing behind");
    }

    #[test]
    fn a_directory_is_one_servers_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = RecordingDirectory::open(folder.path()).unwrap();
        let refused = RecordingDirectory::open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("another aircheck records to it (choose another directory"), "{refused}");
        drop(first);
        RecordingDirectory::open(folder.path()).unwrap();
    }

    #[test]
    fn files_and_new_directories_are_for_their_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/recording");
        RecordingDirectory::open(&path).unwrap().create("a.wav").unwrap();
        for (path, mode) in [(path.clone(), 0o700), (path.join("a.wav"), 0o600)] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{}", path.display());
        }
    }
}
