//! Raw sound on stdin, read without a buffer of its own, so that what waits in the pipe is known.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

use aircheck_engine::source::{Pcm, PcmEncoding, QueuedBytes};

/// Opens stdin as raw sound.
///
/// # Errors
///
/// When there is no stdin, or too many files are open.
pub(super) fn open(rate_hz: u32, channels: u16, encoding: PcmEncoding) -> io::Result<Pcm<File>> {
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let is_pipe = stdin.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    let pcm = Pcm::new(stdin, "stdin", rate_hz, channels, encoding);
    // A file's rest is no backlog, and the system does not tell how much a socket holds.
    Ok(if is_pipe { pcm.with_queue(queued) } else { pcm })
}

/// Returns what waits in a pipe.
#[cfg(target_os = "linux")]
fn queued(pipe: &File) -> Option<QueuedBytes> {
    let waiting = rustix::io::ioctl_fionread(pipe).ok()?;
    let capacity = rustix::pipe::fcntl_getpipe_size(pipe).ok()? as u64;
    Some(QueuedBytes { waiting, capacity })
}

/// Returns nothing: only Linux tells how much a pipe holds.
#[cfg(not(target_os = "linux"))]
fn queued(_pipe: &File) -> Option<QueuedBytes> {
    None
}
