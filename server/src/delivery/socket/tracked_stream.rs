//! One listener's connection below HTTP: its socket options, and what is still on its way to the kernel and in it.
//!
//! Kernel buffers hide lag: unbounded, they take in 20 seconds of sound from a server before it notices that nobody
//! reads. So they are kept short, and what stays in them is followed.

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

/// A listener whose machine acknowledges nothing, or lets nothing more be sent, for this long is gone. Longer than a
/// Wi-Fi roams or a laptop's short sleep, shorter than the 15 minutes that TCP itself would wait.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// What is on its way may be this many times what waits to be sent: at twice the stream's rate, that bridges a round
/// trip of 200 ms by default, which is from one end of the world to the other.
const ON_ITS_WAY: u64 = 4;
/// Smallest bounds in bytes: a packet of the network is 1.5 KB, and the kernel's own smallest send buffer is 4.6 KB.
const UNSENT_LEAST: u64 = 4 * 1024;
/// Largest send buffer in bytes: Linux's own limit where nobody changed it.
const SEND_BUFFER_MOST: u64 = 4 << 20;

/// What is known of a connection from any thread.
#[derive(Debug)]
pub struct TrackedSocket {
    remote: SocketAddr,
    /// The socket, as long as it is open.
    socket: Mutex<Option<RawFd>>,
    /// Bytes given to the kernel.
    written: AtomicU64,
    /// `written` when hyper last had nothing buffered.
    flushed: AtomicU64,
    /// hyper has nothing buffered.
    clear: AtomicBool,
    /// A body waits for that.
    wanted: AtomicBool,
    /// Number of calls of `state`.
    #[cfg(test)]
    pub(crate) asked: AtomicU64,
}

/// A connection at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackedState {
    /// Bytes given to the kernel by the time that hyper had none left; `None` while it has some.
    pub flushed_bytes: Option<u64>,
    /// What the kernel says; `None` once the socket is closed.
    pub socket: Option<TcpInfo>,
}

impl TrackedSocket {
    /// The listener's address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Bounds what the kernel takes in for a stream of `bytes_per_second`, whose packets have up to `packet_bytes`:
    /// so much sound that waits to be sent as sounds for `target`, and at least two packets; and on its way four times
    /// that.
    pub fn bound(&self, bytes_per_second: u64, packet_bytes: u64, target: Duration) {
        let of_target = (u128::from(bytes_per_second) * target.as_nanos() / 1_000_000_000) as u64;
        let unsent = of_target.max(2 * packet_bytes).clamp(UNSENT_LEAST, SEND_BUFFER_MOST);
        let send_buffer = (unsent * ON_ITS_WAY).min(SEND_BUFFER_MOST);
        self.with_socket(|socket| tcp_info::bound(socket, unsent as u32, send_buffer as u32));
    }

    /// Whether hyper has written everything that it was given. A body that hands over nothing before keeps hyper's
    /// buffer at one packet, whatever its size.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.clear.load(Ordering::Acquire)
    }

    /// Has the connection's task polled again once [`is_clear`](Self::is_clear).
    pub fn want_clear(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Says that hyper is given something. Returns the bytes written so far.
    pub fn write(&self) -> u64 {
        self.clear.store(false, Ordering::Release);
        self.written.load(Ordering::Acquire)
    }

    /// Returns the bytes given to the kernel by the time that hyper had none left; `None` while it has some. Unlike
    /// [`state`](Self::state), this asks nothing of the kernel.
    #[must_use]
    pub fn flushed_bytes(&self) -> Option<u64> {
        let clear = self.is_clear();
        let flushed = self.flushed.load(Ordering::Acquire);
        clear.then_some(flushed)
    }

    /// Returns where the connection stands now. It costs a system call of a microsecond or two.
    #[must_use]
    pub fn state(&self) -> TrackedState {
        #[cfg(test)]
        self.asked.fetch_add(1, Ordering::Relaxed);
        TrackedState { flushed_bytes: self.flushed_bytes(), socket: self.with_socket(tcp_info::state).flatten() }
    }

    /// The lock is held during the call, so that the descriptor is not closed and used again for another socket
    /// meanwhile.
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
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        let tracked = Arc::new(TrackedSocket {
            remote,
            socket: Mutex::new(Some(stream.as_raw_fd())),
            written: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            clear: AtomicBool::new(true),
            wanted: AtomicBool::new(false),
            #[cfg(test)]
            asked: AtomicU64::new(0),
        });
        Ok(Self { stream, socket: tracked })
    }

    /// What others may know of it.
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

    /// hyper flushes once its own buffer is empty: here, all that was handed over is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &self.socket;
        socket.flushed.store(socket.written.load(Ordering::Acquire), Ordering::Release);
        socket.clear.store(true, Ordering::Release);
        if socket.wanted.swap(false, Ordering::AcqRel) {
            context.waker().wake_by_ref();
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
