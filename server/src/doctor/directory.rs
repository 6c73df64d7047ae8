//! Directories: whether files can be made in them, without making one.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Returns whether this user can make files in a directory.
pub(super) fn can_make_files(directory: &Path) -> bool {
    access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// Returns the nearest directory above `path` that is there.
pub(super) fn existing(path: &Path) -> PathBuf {
    let there = path.ancestors().skip(1).find(|ancestor| ancestor.exists() && !ancestor.as_os_str().is_empty());
    there.unwrap_or(Path::new(".")).to_path_buf()
}
