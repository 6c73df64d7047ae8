//! The options of a connection for live sound.
//!
//! Kernel buffers hide lag: unbounded, they take 20 seconds of sound before a server notices that the listener does not
//! read. So they are kept short, and the bytes in them are followed.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::delivery::socket::silence::{GONE_TIMEOUT, MAX_PROBE_INTERVAL};
use crate::delivery::socket::tcp_info;

/// How long the far end may acknowledge nothing, or keep its window closed, before the kernel resets the connection. Only until a
/// listener's shard takes it over, because a listener may pause for longer ([`outlast_pauses`]).
const ACK_TIMEOUT: Duration = GONE_TIMEOUT;
/// Keep-alive probes of a connection with nothing to send: the first after this time, the others after this interval. The
/// kernel ends the connection [`GONE_TIMEOUT`] after the last sign of the far end.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// The send buffer, with bytes in flight, in units of the bound on unsent bytes: at twice the stream's rate, that bridges a
/// round trip of 200 ms by default, which is half around the world.
const SEND_BUFFER_FACTOR: u64 = 4;
/// Smallest bound on unsent bytes: a packet of the network is 1.5 KB, and the kernel's own smallest send buffer is 4.6 KB.
const MIN_UNSENT_BYTES: u64 = 4 * 1024;
/// Largest send buffer: the default limit of Linux.
const MAX_SEND_BUFFER_BYTES: u64 = 4 << 20;

/// Sets the options of every connection.
///
/// # Errors
///
/// When the far end is gone already.
pub fn prepare(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    // Finds a machine that is gone while there is nothing to send.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(ACK_TIMEOUT))?;
    Ok(())
}

/// Lets a listener pause for as long as its machine answers. The kernel's own timeout does not tell a closed window from a
/// machine that is gone, so the watch ends listeners by their [silence](super::silence) instead.
pub fn outlast_pauses(socket: &impl AsFd) {
    #[cfg(target_os = "linux")]
    // Fails only if the far end is gone already, which the first write shows.
    let _ = SockRef::from(socket).set_tcp_user_timeout(None);
    tcp_info::bound_retransmission(socket.as_fd().as_raw_fd(), MAX_PROBE_INTERVAL);
}

/// Ends what [`outlast_pauses`] permits, for a connection that is about to be closed: the kernel keeps it until the far end
/// has taken the rest.
pub fn end_pauses(socket: &impl AsFd) {
    #[cfg(target_os = "linux")]
    // Fails only if the far end is gone already, and then nothing is kept.
    let _ = SockRef::from(socket).set_tcp_user_timeout(Some(ACK_TIMEOUT));
}

/// How much of a stream may wait in the kernel.
#[derive(Clone, Copy, Debug)]
pub struct SocketBuffer {
    /// The stream's rate.
    pub bytes_per_second: u64,
    /// Its largest packet.
    pub packet_bytes: u64,
    /// The sound that may wait unsent. At least two packets may.
    pub target: Duration,
}

impl SocketBuffer {
    /// Bounds unsent bytes, and the send buffer to four times as much.
    pub fn bound(&self, socket: &impl AsFd) {
        let of_target = (u128::from(self.bytes_per_second) * self.target.as_nanos() / 1_000_000_000) as u64;
        let unsent = of_target.max(2 * self.packet_bytes).clamp(MIN_UNSENT_BYTES, MAX_SEND_BUFFER_BYTES);
        let send_buffer = (unsent * SEND_BUFFER_FACTOR).min(MAX_SEND_BUFFER_BYTES);
        tcp_info::bound_buffers(socket.as_fd().as_raw_fd(), unsent as u32, send_buffer as u32);
    }
}
