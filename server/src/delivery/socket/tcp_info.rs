//! The kernel's view of a connection, from `TCP_INFO`. The only unsafe code of this crate is here, because no safe crate
//! asks a socket for it.

use std::os::fd::RawFd;
use std::time::Duration;

/// A connection at one moment, as the kernel sees it (`tcp_info` in `linux/tcp.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes that the listener's machine has acknowledged since the connection began. Written bytes that are not
    /// acknowledged are in the send queue, sent or not (`SIOCOUTQ`).
    pub acked_bytes: u64,
    /// The receive window that the listener's machine last offered, in bytes; `None` before Linux 5.4.
    pub window_bytes: Option<u64>,
    /// Time since its last acknowledgement, to the kernel's tick of 1 to 10 ms.
    pub since_ack: Duration,
    /// Bytes that are sent and not acknowledged.
    pub in_flight_bytes: u64,
    /// Probes of a closed window, or of a connection with nothing to send, since its last acknowledgement.
    pub probes: u32,
    /// Total time in which the receive window kept the kernel from sending more.
    pub window_limited: Duration,
    /// The shortest time of the last minutes from a byte's departure to its acknowledgement; `None` before the first.
    pub min_round_trip: Option<Duration>,
    /// That time on average: each acknowledgement counts for an eighth.
    pub round_trip: Duration,
    /// The most bytes that one segment carries.
    pub segment_bytes: u64,
    /// Segments that were sent again since the connection began.
    pub retransmits: u32,
    /// Segments that have come from there since then; most of them are acknowledgements.
    pub received_segments: u32,
    /// Whether bytes from there wait to be read here (see [`has_input`]). [`state`] does not tell.
    pub has_input: bool,
}

/// Returns the state of a connected TCP socket; `None` for any other descriptor, or where the system cannot tell.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "see the module's comment")]
#[must_use]
pub fn state(socket: RawFd) -> Option<TcpInfo> {
    use std::mem::{MaybeUninit, offset_of};

    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `TCP_INFO` writes at most `length` bytes to the pointer it is given, and how many to `length`; on a
    // descriptor that is closed or no TCP socket it fails.
    let failed = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    } != 0;
    // SAFETY: every field is an integer, for which zeros are a value; what an older kernel leaves out stays zero.
    let info = unsafe { info.assume_init() };
    let has = |offset: usize, bytes: usize| length as usize >= offset + bytes;
    if failed || !has(offset_of!(libc::tcp_info, tcpi_bytes_acked), size_of::<u64>()) {
        return None;
    }
    let tells_window = has(offset_of!(libc::tcp_info, tcpi_snd_wnd), size_of::<u32>());
    Some(TcpInfo {
        acked_bytes: info.tcpi_bytes_acked,
        window_bytes: tells_window.then_some(u64::from(info.tcpi_snd_wnd)),
        since_ack: Duration::from_millis(u64::from(info.tcpi_last_ack_recv)),
        in_flight_bytes: info
            .tcpi_bytes_sent
            .saturating_sub(info.tcpi_bytes_retrans)
            .saturating_sub(info.tcpi_bytes_acked),
        probes: u32::from(info.tcpi_probes),
        window_limited: Duration::from_micros(info.tcpi_rwnd_limited),
        min_round_trip: (info.tcpi_min_rtt != u32::MAX).then(|| Duration::from_micros(u64::from(info.tcpi_min_rtt))),
        round_trip: Duration::from_micros(u64::from(info.tcpi_rtt)),
        segment_bytes: u64::from(info.tcpi_snd_mss),
        retransmits: info.tcpi_total_retrans,
        received_segments: info.tcpi_segs_in,
        has_input: false,
    })
}

/// Returns whether bytes wait in a socket to be read.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "see the module's comment")]
#[must_use]
pub fn has_input(socket: RawFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: it writes one integer to the pointer that it is given; on a descriptor that is closed or no socket it fails.
    let failed = unsafe { libc::ioctl(socket, libc::FIONREAD, &raw mut bytes) } != 0;
    !failed && bytes > 0
}

/// Returns how much memory the bytes take that were written to a Unix socket and not read at its far end, with what the kernel
/// keeps about them; `None` for a descriptor that cannot tell.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "see the module's comment")]
#[must_use]
pub fn queued_memory(socket: RawFd) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // `SIOCOUTQ` has the number of `TIOCOUTQ`.
    // SAFETY: it writes one integer to the pointer that it is given; on any other descriptor it fails.
    let failed = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) } != 0;
    (!failed).then_some(u64::try_from(bytes).ok()).flatten()
}

/// Bounds the kernel's buffers: `unsent` bytes that wait to be sent, and `send_buffer` bytes including those in flight,
/// which the kernel doubles for its own bookkeeping. Does nothing to a closed socket.
#[cfg(target_os = "linux")]
pub fn bound_buffers(socket: RawFd, unsent: u32, send_buffer: u32) {
    set(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, unsent);
    set(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, send_buffer);
}

/// Bounds the pause between two retransmissions or probes. Does nothing before Linux 6.15, where it is two minutes.
#[cfg(target_os = "linux")]
pub fn bound_retransmission(socket: RawFd, max_pause: Duration) {
    /// From `linux/tcp.h`; libc does not have it yet.
    const TCP_RTO_MAX_MS: libc::c_int = 44;

    set(socket, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, max_pause.as_millis() as u32);
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "see the module's comment")]
fn set(socket: RawFd, level: libc::c_int, option: libc::c_int, value: u32) {
    // SAFETY: the system reads the length it is given from the pointer it is given; on a descriptor that is closed or
    // no TCP socket it fails.
    let _ = unsafe {
        libc::setsockopt(socket, level, option, (&raw const value).cast(), size_of::<u32>() as libc::socklen_t)
    };
}

#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn state(_: RawFd) -> Option<TcpInfo> {
    None
}

#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn has_input(_: RawFd) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn queued_memory(_: RawFd) -> Option<u64> {
    None
}

#[cfg(not(target_os = "linux"))]
pub fn bound_buffers(_: RawFd, _: u32, _: u32) {}

#[cfg(not(target_os = "linux"))]
pub fn bound_retransmission(_: RawFd, _: Duration) {}
