//! The directory of a recording, and its files on a disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open, openat, statvfs};
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
    /// Where it really is: a link in the place of the directory is not followed later.
    real_path: PathBuf,
    /// The directory itself, which carries the lock: so no file is left behind, and the lock ends with the process.
    lock: Arc<File>,
}

impl RecordingDirectory {
    /// Opens the directory at `path`, and makes it if it is missing, for this user alone: a recording may be private.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made, no file can be made in it, or another server records to it.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let failed = |error| RecordError { path: path.to_path_buf(), error };
        let (real_path, lock) = Self::prepare(path).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), real_path, lock: Arc::new(lock) })
    }

    fn prepare(path: &Path) -> io::Result<(PathBuf, File)> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let real_path = fs::canonicalize(path)?;
        let lock = Self::lock(&real_path)?;
        Ok((real_path, lock))
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
        let create = |directory: &File| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?;
            // The file's name, too, should survive a loss of power. Some file systems cannot sync a directory.
            let _ = directory.sync_all();
            Ok(File::from(file))
        };
        // Opened anew, because a disk may have come back in the place of the one that was lost.
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let anew = open(&self.real_path, flags, Mode::empty()).and_then(|directory| create(&File::from(directory)));
        let file = match anew {
            // There may still be one descriptor, for the file alone.
            Err(Errno::MFILE | Errno::NFILE) => create(&self.lock)?,
            anew => anew?,
        };
        Ok(DiskFile(Arc::new(file)))
    }

    fn remove(&mut self, name: &str) {
        // If this fails, an empty file stays.
        let _ = fs::remove_file(self.real_path.join(name));
    }

    fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.real_path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Opens a file of a recording to read it. Others may be able to write to its directory, so neither a link is followed, nor is a
/// pipe waited for.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no file of a recording", path.display())));
    }
    Ok(file)
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
    fn a_link_in_the_place_of_the_directory_is_not_followed() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path().join("recording");
        let mut directory = RecordingDirectory::open(&path).unwrap();
        directory.create("a.wav").unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        symlink(outside.path(), &path).unwrap();
        assert!(directory.create("b.wav").is_err());
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
        // A directory that has come back is used again.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        directory.create("c.wav").unwrap();
        assert!(path.join("c.wav").exists());
        // The operator's own link is one from the start.
        let link = folder.path().join("link");
        symlink(outside.path(), &link).unwrap();
        RecordingDirectory::open(&link).unwrap().create("d.wav").unwrap();
        assert!(outside.path().join("d.wav").exists());
    }

    #[test]
    fn what_is_read_is_a_file_and_neither_a_link_nor_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        fs::write(path("file"), "sound").unwrap();
        symlink(path("file"), path("link")).unwrap();
        symlink("/dev/zero", path("endless")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        fs::create_dir(path("directory")).unwrap();
        assert!(open_file(&path("file")).is_ok());
        for name in ["link", "endless", "pipe", "directory"] {
            assert!(open_file(&path(name)).is_err(), "{name}");
        }
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
