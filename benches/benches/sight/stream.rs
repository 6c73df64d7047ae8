//! Streams, and how far a receiver is in the sound, by its bytes.

use std::time::Duration;

use aircheck_benches::WAV_RATE_HZ;

/// Blocks of the server's default length.
pub(crate) const BLOCK: Duration = Duration::from_millis(10);
const BLOCK_FRAMES: u32 = WAV_RATE_HZ / 100;
const BLOCK_BYTES: usize = 2 * BLOCK_FRAMES as usize;
const WAV_HEADER_BYTES: usize = 44;
/// Frames at the start of a block that carry its number, ten bits each: so they are quiet, and no scaling changes them.
const MARK_FRAMES: u32 = 2;
const MARK_BITS: u32 = 10;
/// A mark's value of 1, and what [`write_wav`](aircheck_benches::write_wav) multiplies samples by.
const MARK_STEP: i16 = 16;
const FULL_SCALE: f64 = 32_000.0;
const PAGE_HEADER_BYTES: usize = 27;

/// A stream of the server.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: &'static str,
    pub(crate) container: Container,
    /// The length of a packet.
    pub(crate) packet: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Container {
    Ogg,
    Wav,
    Flac,
}

const fn stream(name: &'static str, container: Container, packet_millis: u64) -> Stream {
    Stream { name, container, packet: Duration::from_millis(packet_millis) }
}

pub(crate) const STREAMS: [Stream; 7] = [
    stream("stream.opus", Container::Ogg, 100),
    stream("stream.opus?gather=0ms", Container::Ogg, 20),
    stream("stream.opus?bitrate=32000", Container::Ogg, 100),
    stream("stream.opus?bitrate=128000", Container::Ogg, 100),
    stream("stream.wav", Container::Wav, 10),
    stream("stream.wav?gather=50ms", Container::Wav, 50),
    stream("stream.flac", Container::Flac, 10),
];

/// Returns the sample that marks this frame, from -1 to 1, if it is one of those that carry the number of their block.
pub(crate) fn mark(frame: u32) -> Option<f64> {
    let (block, place) = (frame / BLOCK_FRAMES, frame % BLOCK_FRAMES);
    let digit = (block >> (MARK_BITS * place.min(MARK_FRAMES))) & ((1 << MARK_BITS) - 1);
    // Half a step more, so that rounding changes nothing.
    (place < MARK_FRAMES).then(|| (f64::from(digit) + 0.5) * f64::from(MARK_STEP) / FULL_SCALE)
}

/// Returns the number of a block of 16-bit samples.
fn marked(block: &[u8]) -> u32 {
    let digit = |place: u32| {
        let at = 2 * place as usize;
        let sample = i16::from_le_bytes([block[at], block[at + 1]]);
        u32::try_from(sample / MARK_STEP).unwrap_or_default() << (MARK_BITS * place)
    };
    (0..MARK_FRAMES).map(digit).sum()
}

/// Finds in received bytes how far they bring a listener.
#[derive(Debug)]
pub(crate) struct Parser {
    container: Container,
    bytes: Vec<u8>,
    has_head: bool,
    /// The sound up to the end of the last packet: from the beginning of the source, or of the stream for Ogg.
    pub(crate) position: Duration,
}

impl Parser {
    pub(crate) fn new(container: Container) -> Self {
        Self { container, bytes: Vec::new(), has_head: false, position: Duration::ZERO }
    }

    /// Takes the next bytes of a response.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if !self.has_head {
            let Some(end) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            let header = if let Container::Wav = self.container { WAV_HEADER_BYTES } else { 0 };
            if self.bytes.len() < end + 4 + header {
                return;
            }
            self.bytes.drain(..end + 4 + header);
            self.has_head = true;
        }
        let mut used = 0;
        while let Some(length) = self.packet(used) {
            used += length;
        }
        self.bytes.drain(..used);
    }

    /// Takes the packet that starts at `at`, and returns its length; `None` if it is not complete.
    fn packet(&mut self, at: usize) -> Option<usize> {
        let bytes = &self.bytes[at..];
        match self.container {
            Container::Ogg => {
                let segments = usize::from(*bytes.get(PAGE_HEADER_BYTES - 1)?);
                let lengths = bytes.get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + segments)?;
                let length =
                    PAGE_HEADER_BYTES + segments + lengths.iter().map(|&length| usize::from(length)).sum::<usize>();
                let page = bytes.get(..length)?;
                // RFC 3533, section 6: the position is a number of frames, for Opus always of 48 kHz.
                let frames = u64::from_le_bytes(page[6..14].try_into().ok()?);
                self.position = Duration::from_micros(frames * 1000 / 48);
                Some(length)
            }
            Container::Wav => {
                self.position = BLOCK * (marked(bytes.get(..BLOCK_BYTES)?) + 1);
                Some(BLOCK_BYTES)
            }
            Container::Flac => {
                // A header has at most 16 bytes (RFC 9639, section 9.1).
                let header = bytes.get(..16)?;
                if let Some(number) = flac_number(header) {
                    self.position = BLOCK * number;
                }
                let next = bytes[1..].iter().position(|&byte| byte == 0xff);
                Some(next.map_or(bytes.len() - 15, |next| next + 1))
            }
        }
    }
}

/// Returns the number of the frame whose header this is (RFC 9639, section 9.1).
fn flac_number(header: &[u8]) -> Option<u32> {
    if header[..2] != [0xff, 0xf8] {
        return None;
    }
    // Coded as a character of UTF-8 is.
    let number_bytes = match header[4].leading_ones() {
        0 => 1,
        ones @ 2..=6 => ones as usize,
        _ => return None,
    };
    let first = u32::from(header[4] & (0xff_u8.checked_shr(header[4].leading_ones() + 1).unwrap_or_default()));
    let number = header[5..4 + number_bytes].iter().fold(first, |number, &byte| (number << 6) | u32::from(byte & 0x3f));
    let size_bytes = match header[2] >> 4 {
        6 => 1,
        7 => 2,
        _ => 0,
    };
    let rate_bytes = match header[2] & 15 {
        12 => 1,
        13 | 14 => 2,
        _ => 0,
    };
    let end = 4 + number_bytes + size_bytes + rate_bytes;
    let checksum = header[..end].iter().fold(0, |sum, &byte| {
        (0..8).fold(sum ^ byte, |sum: u8, _| if sum & 0x80 == 0 { sum << 1 } else { (sum << 1) ^ 7 })
    });
    (header.get(end) == Some(&checksum)).then_some(number)
}
