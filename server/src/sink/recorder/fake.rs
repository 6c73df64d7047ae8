//! A shelf in memory that fails when it is told to.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{Medium, Shelf};

/// A shelf in memory. Its files hold what a kill would leave.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<World>>);

#[derive(Default)]
pub(super) struct World {
    pub(super) files: BTreeMap<String, Kept>,
    pub(super) create_fails: bool,
    /// Files with this ending are lost when they are synced.
    pub(super) sync_fails: Option<&'static str>,
    /// Files with this ending can't be written to.
    pub(super) write_fails: Option<&'static str>,
    /// What was synced, in order.
    pub(super) synced: Vec<String>,
    /// How many bytes the disk still takes.
    pub(super) free_bytes: Option<usize>,
}

#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    /// Its failure was told.
    is_told: bool,
    /// What a loss of power would leave.
    pub(super) synced: Vec<u8>,
}

impl Fake {
    /// Nothing fails any more.
    pub(super) fn heal(&self) {
        let mut world = self.world();
        (world.create_fails, world.sync_fails, world.write_fails, world.free_bytes) = (false, None, None, None);
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

impl Shelf for Fake {
    type Medium = FakeFile;

    fn create(&mut self, name: &str) -> io::Result<FakeFile> {
        let mut world = self.world();
        if world.create_fails {
            return Err(io::Error::other("no such directory"));
        }
        if world.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.files.insert(name.to_owned(), Kept::default());
        Ok(FakeFile { shelf: self.clone(), name: name.to_owned(), position: Arc::default() })
    }

    fn remove(&mut self, name: &str) {
        let mut world = self.world();
        let freed = world.files.remove(name).map_or(0, |file| file.bytes.len());
        world.free_bytes = world.free_bytes.map(|free| free + freed);
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

#[derive(Clone)]
pub(super) struct FakeFile {
    shelf: Fake,
    name: String,
    position: Arc<Mutex<usize>>,
}

impl Medium for FakeFile {
    fn sync(&self) -> io::Result<()> {
        let mut world = self.shelf.world();
        world.synced.push(self.name.clone());
        let fails = world.sync_fails.is_some_and(|ending| self.name.ends_with(ending));
        let file = world.files.get_mut(&self.name).unwrap();
        if fails && !file.is_told {
            file.is_told = true;
            // As disks do: it tells once, and what it was about is gone. Of sound, that is; where the sidecar is gone too,
            // nobody can tell of it.
            let kept = file.synced.len().max(100);
            if self.name.ends_with(".wav") {
                file.bytes.iter_mut().skip(kept).for_each(|byte| *byte = 0x55);
            }
            return Err(io::Error::other("the disk is broken"));
        }
        file.synced.clone_from(&file.bytes);
        Ok(())
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.shelf.world();
        let file = &mut world.files.get_mut(&self.name).unwrap().bytes;
        let length = file.len();
        file.truncate(bytes as usize);
        let freed = length - file.len();
        world.free_bytes = world.free_bytes.map(|free| free + freed);
        Ok(())
    }
}

impl Write for FakeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.shelf.world();
        if world.write_fails.is_some_and(|ending| self.name.ends_with(ending)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut position = self.position.lock().unwrap();
        let length = world.files[&self.name].bytes.len();
        let grows = (*position + bytes.len()).saturating_sub(length);
        let free = world.free_bytes.unwrap_or(usize::MAX);
        let taken = bytes.len() - grows.saturating_sub(free);
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        world.free_bytes = world.free_bytes.map(|free| free - grows.min(free));
        let file = &mut world.files.get_mut(&self.name).unwrap().bytes;
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
