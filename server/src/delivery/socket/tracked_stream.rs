//! A connection below HTTP: its socket options, and how many of its bytes hyper has written.
//!
//! Kernel buffers hide lag: unbounded, they take 20 seconds of sound before a server notices that the listener does not
//! read. So they are kept short, and the bytes in them are followed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::delivery::socket::tcp_info::{self, TcpInfo};

/// How long a listener's machine may acknowledge nothing, or keep its window closed, before the connection is reset.
/// Longer than a change of Wi-Fi cells or a laptop's short sleep, shorter than the 15 minutes that TCP itself would wait.
const ACK_TIMEOUT: Duration = Duration::from_secs(60);
/// The send buffer, with bytes in flight, in units of the bound on unsent bytes: at twice the stream's rate, that bridges a
/// round trip of 200 ms by default, which is half around the world.
const SEND_BUFFER_FACTOR: u64 = 4;
/// Smallest bound on unsent bytes: a packet of the network is 1.5 KB, and the kernel's own smallest send buffer is 4.6 KB.
const MIN_UNSENT_BYTES: u64 = 4 * 1024;
/// Largest send buffer: the default limit of Linux.
const MAX_SEND_BUFFER_BYTES: u64 = 4 << 20;

/// A connection as other threads see it.
#[derive(Debug)]
pub struct TrackedSocket {
    remote: SocketAddr,
    /// The descriptor; `None` once it is closed.
    socket: Mutex<Option<RawFd>>,
    /// Bytes that the kernel has taken.
    written: AtomicU64,
    /// `written` when hyper last had nothing buffered.
    flushed: AtomicU64,
    /// Whether hyper has nothing buffered.
    is_flushed: AtomicBool,
    /// Whether a body waits until hyper has nothing buffered.
    is_flush_awaited: AtomicBool,
    /// Number of calls of `state`.
    #[cfg(test)]
    pub(crate) asked: AtomicU64,
}

/// A connection at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackedState {
    /// Bytes that the kernel had taken when hyper had none left; `None` while hyper has some.
    pub flushed_bytes: Option<u64>,
    /// The kernel's view; `None` once the socket is closed.
    pub socket: Option<TcpInfo>,
}

impl TrackedSocket {
    /// Returns the address of the far end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Bounds the kernel's buffers for a stream of `bytes_per_second` in packets of up to `packet_bytes`: unsent bytes to
    /// `target` of sound, at least two packets; the send buffer to four times that.
    pub fn bound_buffers(&self, bytes_per_second: u64, packet_bytes: u64, target: Duration) {
        let of_target = (u128::from(bytes_per_second) * target.as_nanos() / 1_000_000_000) as u64;
        let unsent = of_target.max(2 * packet_bytes).clamp(MIN_UNSENT_BYTES, MAX_SEND_BUFFER_BYTES);
        let send_buffer = (unsent * SEND_BUFFER_FACTOR).min(MAX_SEND_BUFFER_BYTES);
        self.with_socket(|socket| tcp_info::bound_buffers(socket, unsent as u32, send_buffer as u32));
    }

    /// Returns whether hyper has written everything that it was given. A body that gives it nothing before keeps hyper's
    /// buffer at one packet.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.is_flushed.load(Ordering::Acquire)
    }

    /// Wakes the connection's task once [`is_flushed`](Self::is_flushed) is true.
    pub fn await_flush(&self) {
        self.is_flush_awaited.store(true, Ordering::Release);
    }

    /// Notes that hyper is about to get bytes. Returns the bytes written so far.
    pub fn begin_write(&self) -> u64 {
        self.is_flushed.store(false, Ordering::Release);
        self.written.load(Ordering::Acquire)
    }

    /// Returns the bytes that the kernel had taken when hyper had none left; `None` while hyper has some. Unlike
    /// [`state`](Self::state), this asks nothing of the kernel.
    #[must_use]
    pub fn flushed_bytes(&self) -> Option<u64> {
        let is_flushed = self.is_flushed();
        let flushed = self.flushed.load(Ordering::Acquire);
        is_flushed.then_some(flushed)
    }

    /// Returns the state of the connection now. Costs a system call of a microsecond or two.
    #[must_use]
    pub fn state(&self) -> TrackedState {
        #[cfg(test)]
        self.asked.fetch_add(1, Ordering::Relaxed);
        TrackedState { flushed_bytes: self.flushed_bytes(), socket: self.with_socket(tcp_info::state).flatten() }
    }

    /// Calls `ask` with the descriptor, under a lock, so that the descriptor is not closed and reused meanwhile.
    fn with_socket<T>(&self, ask: impl FnOnce(RawFd) -> T) -> Option<T> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.map(ask)
    }
}

/// The connection as hyper sees it.
#[derive(Debug)]
pub struct TrackedStream {
    stream: TcpStream,
    socket: Arc<TrackedSocket>,
}

impl TrackedStream {
    /// Sets the options of the socket for live sound.
    ///
    /// # Errors
    ///
    /// When the listener is gone already.
    pub fn new(stream: TcpStream, remote: SocketAddr) -> io::Result<Self> {
        let socket = SockRef::from(&stream);
        socket.set_tcp_nodelay(true)?;
        // Finds a machine that is gone while there is nothing to send.
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(ACK_TIMEOUT))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(ACK_TIMEOUT))?;
        let tracked = Arc::new(TrackedSocket {
            remote,
            socket: Mutex::new(Some(stream.as_raw_fd())),
            written: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            is_flushed: AtomicBool::new(true),
            is_flush_awaited: AtomicBool::new(false),
            #[cfg(test)]
            asked: AtomicU64::new(0),
        });
        Ok(Self { stream, socket: tracked })
    }

    /// Returns the part of it that other threads may use.
    #[must_use]
    pub fn socket(&self) -> &Arc<TrackedSocket> {
        &self.socket
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.socket.written.fetch_add(*bytes as u64, Ordering::AcqRel);
        }
    }
}

impl Drop for TrackedStream {
    fn drop(&mut self) {
        *self.socket.socket.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl AsyncRead for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TrackedStream {
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

    /// hyper flushes once its own buffer is empty, so everything that it was given is written here.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &self.socket;
        socket.flushed.store(socket.written.load(Ordering::Acquire), Ordering::Release);
        socket.is_flushed.store(true, Ordering::Release);
        if socket.is_flush_awaited.swap(false, Ordering::AcqRel) {
            context.waker().wake_by_ref();
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
