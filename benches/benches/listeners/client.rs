//! A listener of `/stream.wav` that counts its blocks.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aircheck_benches::request;
use tokio::io::AsyncReadExt as _;

pub(crate) const BLOCK: Duration = Duration::from_millis(10);
/// Of 480 frames, two channels, two bytes.
pub(crate) const BLOCK_BYTES: u64 = 1920;
pub(crate) const WAV_HEADER_BYTES: u64 = 44;

/// The sound that a listener received.
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) first_at: Instant,
    pub(crate) last_at: Instant,
}

impl Received {
    /// Returns the blocks that came, less those that were due between the first and the last by this process's clock.
    pub(crate) fn ahead_of_clock(&self) -> i64 {
        let blocks = self.bytes.saturating_sub(WAV_HEADER_BYTES) / BLOCK_BYTES;
        let span = self.last_at.duration_since(self.first_at);
        blocks as i64 - 1 - (span.as_secs_f64() / BLOCK.as_secs_f64()).round() as i64
    }
}

/// Listens until the stream ends.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<Received> {
    let mut stream = request(address, "GET", "/stream.wav").await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
    }
    let mut chunks = Chunks::default();
    let mut buffer = [0; 8192];
    let now = Instant::now();
    let mut received = Received { bytes: 0, first_at: now, last_at: now };
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return if chunks.ended { Ok(received) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let data = chunks.data_in(&buffer[..read]);
        if data > 0 {
            received.last_at = Instant::now();
        }
        // The header may come some time before the first block.
        if received.bytes <= WAV_HEADER_BYTES {
            received.first_at = received.last_at;
        }
        received.bytes += data;
    }
}

/// A decoder of a body in HTTP/1.1 chunks (RFC 9112, section 7.1), without extensions and trailers.
#[derive(Default)]
struct Chunks {
    /// Bytes of the current chunk that have not come yet.
    left: usize,
    /// The length that is being read, in hexadecimal digits.
    length: Option<usize>,
    ended: bool,
}

impl Chunks {
    /// Takes the next `bytes`. Returns the number of bytes of data in them.
    fn data_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut data = 0;
        while let Some(&byte) = bytes.first() {
            let mut taken = 1;
            if self.left > 0 {
                taken = self.left.min(bytes.len());
                self.left -= taken;
                data += taken as u64;
            } else if let Some(digit) = char::from(byte).to_digit(16) {
                self.length = Some(self.length.unwrap_or(0) * 16 + digit as usize);
            } else if byte == b'\n'
                && let Some(length) = self.length.take()
            {
                self.left = length;
                self.ended = length == 0;
            }
            bytes = &bytes[taken..];
        }
        data
    }
}
