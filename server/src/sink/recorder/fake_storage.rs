//! A storage in memory that fails on demand.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{Storage, StorageFile};

/// A storage in memory. Its files hold the bytes that the system was given, which stay if the program is killed.
#[derive(Clone, Default)]
pub(super) struct FakeStorage(Arc<Mutex<Disk>>);

/// The files of a [`FakeStorage`], and the ways in which it fails.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<String, Content>,
    pub(super) create_fails: bool,
    /// Files with this ending lose their content when they are synced.
    pub(super) sync_fails: Option<&'static str>,
    /// Files with this ending cannot be written to.
    pub(super) write_fails: Option<&'static str>,
    /// Names of synced files, in order.
    pub(super) synced: Vec<String>,
    /// Bytes that still fit; any number if `None`.
    pub(super) free_bytes: Option<usize>,
}

/// The content of a file.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// The bytes that stay if the power fails.
    pub(super) synced: Vec<u8>,
    /// Whether a sync has reported the file's failure.
    has_reported: bool,
}

impl FakeStorage {
    /// Ends all failures.
    pub(super) fn heal(&self) {
        let mut disk = self.disk();
        (disk.create_fails, disk.sync_fails, disk.write_fails, disk.free_bytes) = (false, None, None, None);
    }

    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }
}

impl Storage for FakeStorage {
    type File = FakeFile;

    fn create(&mut self, name: &str) -> io::Result<FakeFile> {
        let mut disk = self.disk();
        if disk.create_fails {
            return Err(io::Error::other("no such directory"));
        }
        if disk.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.files.insert(name.to_owned(), Content::default());
        Ok(FakeFile { storage: self.clone(), name: name.to_owned(), position: Arc::default() })
    }

    fn remove(&mut self, name: &str) {
        let mut disk = self.disk();
        let freed = disk.files.remove(name).map_or(0, |file| file.bytes.len());
        disk.free_bytes = disk.free_bytes.map(|free| free + freed);
    }

    fn free_bytes(&self) -> Option<u64> {
        self.disk().free_bytes.map(|free| free as u64)
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

#[derive(Clone)]
pub(super) struct FakeFile {
    storage: FakeStorage,
    name: String,
    position: Arc<Mutex<usize>>,
}

impl StorageFile for FakeFile {
    fn sync(&self) -> io::Result<()> {
        let mut disk = self.storage.disk();
        disk.synced.push(self.name.clone());
        let fails = disk.sync_fails.is_some_and(|ending| self.name.ends_with(ending));
        let file = disk.files.get_mut(&self.name).unwrap();
        if fails && !file.has_reported {
            file.has_reported = true;
            // A real disk, too, reports a failure once, and the data is gone then. Only sound is lost here: without its
            // sidecar, no test could tell which.
            let kept = file.synced.len().max(100);
            if self.name.ends_with(".wav") {
                file.bytes.iter_mut().skip(kept).for_each(|byte| *byte = 0x55);
            }
            return Err(io::Error::other("the disk is broken"));
        }
        file.synced.clone_from(&file.bytes);
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.storage.disk();
        let file = &mut disk.files.get_mut(&self.name).unwrap().bytes;
        let length = file.len();
        file.truncate(bytes as usize);
        let freed = length - file.len();
        disk.free_bytes = disk.free_bytes.map(|free| free + freed);
        Ok(())
    }
}

impl Write for FakeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.storage.disk();
        if disk.write_fails.is_some_and(|ending| self.name.ends_with(ending)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut position = self.position.lock().unwrap();
        let length = disk.files[&self.name].bytes.len();
        let grows = (*position + bytes.len()).saturating_sub(length);
        let free = disk.free_bytes.unwrap_or(usize::MAX);
        let taken = bytes.len() - grows.saturating_sub(free);
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.free_bytes = disk.free_bytes.map(|free| free - grows.min(free));
        let file = &mut disk.files.get_mut(&self.name).unwrap().bytes;
        file.resize(length.max(*position + taken), 0);
        file[*position..*position + taken].copy_from_slice(&bytes[..taken]);
        *position += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for FakeFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut position = self.position.lock().unwrap();
        *position = match to {
            SeekFrom::Start(bytes) => bytes as usize,
            SeekFrom::Current(bytes) => position.checked_add_signed(bytes as isize).unwrap(),
            SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(*position as u64)
    }
}
