//! One listener's connection below HTTP: its socket options, and what is still on its way to the kernel and in it.
//!
//! Kernel buffers hide lag: unbounded, they take in 20 seconds of sound from a server before it notices that nobody
//! reads. So they are kept short, and what stays in them is counted.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Not yet sent bytes above which the socket takes no more. With hyper's write buffer of the same size, a stalled
/// listener's 4 MB became 173 KB, most of it the receiver's own buffer; less than 16 KiB would split the packets of
/// 10 ms of 8-channel float sound.
pub const UNSENT_BYTES: u32 = 16 * 1024;
/// A listener whose machine acknowledges nothing, or lets nothing more be sent, for this long is gone. Longer than a Wi-Fi roams or a laptop's
/// short sleep, shorter than the 15 minutes that TCP itself would wait.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// What is known of a connection from any thread.
#[derive(Debug)]
pub struct Wire {
    remote: SocketAddr,
    /// The socket, as long as it is open.
    socket: Mutex<Option<RawFd>>,
    /// Bytes of the response's body given to hyper, with the framing that hyper adds.
    handed: AtomicU64,
    /// Bytes given to the kernel.
    written: AtomicU64,
    /// `handed` and `written` when hyper last had nothing buffered: since then, they grow by the same bytes.
    flushed_handed: AtomicU64,
    flushed_written: AtomicU64,
}

impl Wire {
    /// The listener's address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Counts a piece of a body that is given to hyper, which sends it as one HTTP chunk: its length in hexadecimal,
    /// a line break, the bytes and another line break.
    pub fn hand_chunk(&self, bytes: usize) {
        let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4) as u64;
        self.handed.fetch_add(digits + 4 + bytes as u64, Ordering::AcqRel);
    }

    /// Bytes that were handed over and have not left this machine's kernel: in hyper's buffer and in the socket's
    /// send queue, which holds what the listener's machine has not acknowledged.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        // The marks first: the counts only grow beyond them.
        let flushed_handed = self.flushed_handed.load(Ordering::Acquire);
        let flushed_written = self.flushed_written.load(Ordering::Acquire);
        let written = self.written.load(Ordering::Acquire) - flushed_written;
        let handed = self.handed.load(Ordering::Acquire) - flushed_handed;
        handed.saturating_sub(written) + self.send_queue_bytes()
    }

    /// Bytes in the socket's send queue; 0 once it is closed.
    fn send_queue_bytes(&self) -> u64 {
        // Held during the call, so that the descriptor is not closed and used again for another socket meanwhile.
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.map_or(0, send_queue::bytes)
    }
}

/// The connection as hyper sees it.
#[derive(Debug)]
pub struct WireStream {
    stream: TcpStream,
    wire: Arc<Wire>,
}

impl WireStream {
    /// Sets the socket up for live sound.
    ///
    /// # Errors
    ///
    /// When the listener is gone already.
    pub fn new(stream: TcpStream, remote: SocketAddr) -> io::Result<Self> {
        let socket = SockRef::from(&stream);
        socket.set_tcp_nodelay(true)?;
        // Somebody who vanished while there is nothing to send is found by this.
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNACKNOWLEDGED))?;
        #[cfg(target_os = "linux")]
        {
            socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
            socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        }
        let wire = Arc::new(Wire {
            remote,
            socket: Mutex::new(Some(stream.as_raw_fd())),
            handed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            flushed_handed: AtomicU64::new(0),
            flushed_written: AtomicU64::new(0),
        });
        Ok(Self { stream, wire })
    }

    /// What others may know of it.
    #[must_use]
    pub fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }
}

impl Drop for WireStream {
    fn drop(&mut self) {
        *self.wire.socket.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl AsyncRead for WireStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes once its own buffer is empty: here, all that was handed over is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &self.wire;
        wire.flushed_written.store(wire.written.load(Ordering::Acquire), Ordering::Release);
        wire.flushed_handed.store(wire.handed.load(Ordering::Acquire), Ordering::Release);
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl WireStream {
    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.wire.written.fetch_add(*bytes as u64, Ordering::AcqRel);
        }
    }
}

/// The one place of this crate that needs unsafe code: no safe crate asks a socket for its send queue.
mod send_queue {
    use std::os::fd::RawFd;

    /// Bytes that the peer of `socket` has not acknowledged, sent or not; 0 where the system can't tell.
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code, reason = "see the module's comment")]
    pub(super) fn bytes(socket: RawFd) -> u64 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: `SIOCOUTQ`, which has the number of `TIOCOUTQ`, writes one `int` to the pointer it is given and
        // touches nothing else; on a descriptor that is closed or no socket it fails.
        let failed = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) } != 0;
        if failed { 0 } else { u64::try_from(bytes).unwrap_or(0) }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn bytes(_: RawFd) -> u64 {
        0
    }
}
