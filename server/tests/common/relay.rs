//! A link through user space: it carries packets from one TUN device to another, later, with jitter, loss, or at a limited rate.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{Namespace, run};

/// Bytes of the largest packet: the MTU of a TUN device, which is that of Ethernet.
const MAX_PACKET: usize = 1500;

/// What a link does to packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    /// The shortest time there and back.
    pub(crate) round_trip: Duration,
    /// The most by which a packet comes later, in each direction. Packets stay in order.
    pub(crate) jitter: Duration,
    /// Packets that are lost, of a thousand, in each direction.
    pub(crate) lost_per_mille: u64,
    /// Bytes that it carries in a second, in each direction, if there is a limit. Packets that come sooner wait.
    pub(crate) bytes_per_second: Option<u64>,
}

impl Namespace {
    /// Makes a namespace at the far end of a `link`.
    pub(crate) fn with_link(index: usize, link: Link) -> Result<Self, String> {
        let namespace = Self::unconnected(index)?;
        let (near, far) = (tun(&namespace.near)?, tun(&namespace.far)?);
        run("ip", &["link", "set", &namespace.far, "netns", &namespace.name])?;
        namespace.set_addresses()?;
        let copy = |tun: &File| tun.try_clone().map_err(|error| error.to_string());
        carry(link, copy(&near)?, copy(&far)?, 1);
        carry(link, far, near, 2);
        Ok(namespace)
    }
}

/// Makes a TUN device, which lives for as long as the file is open.
#[allow(unsafe_code, reason = "no safe crate of this workspace can attach a TUN device")]
fn tun(name: &str) -> Result<File, String> {
    let failed = |error: std::io::Error| format!("cannot make the TUN device {name}: {error}");
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(failed)?;
    let mut request = [0_u8; size_of::<libc::ifreq>()];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the system reads and writes no more than an `ifreq` at the pointer, which has that many bytes: a name that
    // ends with a zero, and the flags.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) } {
        0 => Ok(file),
        _ => Err(failed(std::io::Error::last_os_error())),
    }
}

/// Carries packets in one direction, until one of the devices is gone.
fn carry(link: Link, mut from: File, mut to: File, seed: u64) {
    let (sender, packets) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut random = Random(seed);
        let mut packet = [0; MAX_PACKET];
        let (mut free_at, mut last_due) = (Instant::now(), Instant::now());
        while let Ok(bytes @ 1..) = from.read(&mut packet) {
            if random.below(1000) < link.lost_per_mille {
                continue;
            }
            let rate = link.bytes_per_second;
            let span = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate as f64));
            free_at = free_at.max(Instant::now()) + span;
            let jitter = Duration::from_micros(random.below(link.jitter.as_micros() as u64 + 1));
            last_due = last_due.max(free_at + link.round_trip / 2 + jitter);
            if sender.send((last_due, packet[..bytes].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, packet) in packets {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A device that is down refuses packets; one that is gone ends the other thread.
            let _ = to.write(&packet);
        }
    });
}

/// Numbers that are the same in each run (xorshift64, by Marsaglia).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}
