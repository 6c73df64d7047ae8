//! Listeners that count for themselves how far they have read, at a pace of their own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{ChunkedResponse, connect};
use super::numbered::Format;
use super::scrape;
use crate::common::tls::Connection;

/// Frames of a block at 48 kHz, in which positions of Ogg Opus count too.
const FRAMES: u64 = 480;
/// A block of the test tone as 16-bit samples, which is mono.
const BLOCK_BYTES: u64 = 2 * FRAMES;
const WAV_HEADER_BYTES: u64 = 44;
/// The longest page of Ogg that is sent without `gather`.
const PAGE_BLOCKS: u64 = 10;
/// Bytes of a frame of the WebSocket before its payload, if that is longer than 125 bytes.
const FRAME_HEADER_BYTES: usize = 4;
/// Between two reads of a listener that reads slowly.
const READ_INTERVAL: Duration = Duration::from_millis(50);
/// Between two looks of a waiting thread at whether the test is over.
const WAIT: Duration = Duration::from_millis(10);

/// A rendition whose position can be read from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rendition {
    Opus,
    Wav,
    /// Samples, by a program that answers no ping.
    WebSocket,
    /// Opus, by a program that answers pings when it comes to them.
    WebSocketOpus,
}

impl Rendition {
    fn request(self, address: SocketAddr, query: &str) -> String {
        let (path, fields) = match self {
            Self::Opus => (format!("stream.opus?{query}"), "Connection: close\r\n"),
            Self::Wav => (format!("stream.wav?{query}"), "Connection: close\r\n"),
            Self::WebSocket => (Format::Ws.path(query), Format::Ws.fields()),
            Self::WebSocketOpus => (format!("stream?payload=opus&{query}"), Format::Ws.fields()),
        };
        format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n")
    }

    /// Returns its bytes of a second, approximately.
    fn bytes_per_second(self) -> f64 {
        match self {
            Self::Opus => 12_400.0,
            Self::Wav => 96_000.0,
            Self::WebSocket => 98_800.0,
            Self::WebSocketOpus => 14_600.0,
        }
    }
}

/// A connection to the test tone, and how far its bytes have been read.
#[derive(Debug)]
pub(crate) struct Stream {
    rendition: Rendition,
    socket: Connection,
    response: ChunkedResponse,
    /// Bytes of a page or frame that is not complete.
    rest: Vec<u8>,
    /// The sequence number of its first block.
    first: u64,
    bytes: u64,
    /// One past the sequence number of the last block that was read in full.
    next: u64,
    /// The number of the first lost block.
    gap: Option<u64>,
    has_ended: bool,
}

impl Stream {
    /// Connects, with a receive buffer of `receive_buffer` bytes if given. The stream starts at the live head, whose number is
    /// said, so that its positions are those of the server; this also makes the listener's ring as long as the history.
    pub(crate) fn start(address: SocketAddr, rendition: Rendition, query: &str, receive_buffer: Option<usize>) -> Self {
        Self::start_from(scrape::head(address), address, rendition, query, receive_buffer)
    }

    /// Connects like [`start`](Self::start), with the number of the live head.
    pub(crate) fn start_from(
        first: u64,
        address: SocketAddr,
        rendition: Rendition,
        query: &str,
        receive_buffer: Option<usize>,
    ) -> Self {
        let mut socket = Connection::new(connect(address, receive_buffer).unwrap());
        socket.write_all(rendition.request(address, &format!("from={first}&{query}")).as_bytes()).unwrap();
        let response = ChunkedResponse::default();
        Self {
            rendition,
            socket,
            response,
            rest: Vec::new(),
            first,
            bytes: 0,
            next: first,
            gap: None,
            has_ended: false,
        }
    }

    /// Reads at most `most` bytes at once. Returns how many came, which is zero at the end of the stream.
    fn read(&mut self, most: usize) -> std::io::Result<usize> {
        let mut bytes = vec![0; most];
        let count = self.socket.read(&mut bytes)?;
        self.has_ended |= count == 0 && most > 0;
        let data = self.response.data(&bytes[..count]);
        self.bytes += data.len() as u64;
        match self.rendition {
            Rendition::Wav => self.next = self.first + self.bytes.saturating_sub(WAV_HEADER_BYTES) / BLOCK_BYTES,
            Rendition::Opus => self.take(&data, Self::page),
            Rendition::WebSocket | Rendition::WebSocketOpus => self.take(&data, Self::frame),
        }
        Ok(count)
    }

    /// Reads all that has come, without waiting for more. Returns one past the sequence number of the last block that was read in
    /// full. The socket must not block.
    pub(crate) fn drain(&mut self) -> u64 {
        while matches!(self.read(1 << 20), Ok(1..)) {}
        self.next
    }

    /// Returns the number of the first block.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number of the first lost block, as far as the stream shows it.
    pub(crate) fn gap(&self) -> Option<u64> {
        self.gap
    }

    /// Returns whether its end has been read.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes complete pages or frames from the bytes so far.
    fn take(&mut self, data: &[u8], one: fn(&mut Self, &[u8]) -> Option<usize>) {
        self.rest.extend_from_slice(data);
        let rest = std::mem::take(&mut self.rest);
        let mut left = &rest[..];
        while let Some(taken) = one(self, left) {
            left = &left[taken..];
        }
        self.rest = left.to_vec();
    }

    /// Takes a page of Ogg (RFC 3533, section 6); returns its length.
    fn page(&mut self, bytes: &[u8]) -> Option<usize> {
        let lengths = bytes.get(27..)?.get(..bytes[26].into())?;
        let length = 27 + lengths.len() + lengths.iter().map(|length| usize::from(*length)).sum::<usize>();
        let page = bytes.get(..length)?;
        assert!(page.starts_with(b"OggS"), "no page begins here");
        let granule = u64::from_le_bytes(page[6..14].try_into().unwrap());
        // The header pages have none.
        if granule > 0 {
            self.reach(self.first + granule / FRAMES, PAGE_BLOCKS);
        }
        Some(length)
    }

    /// Takes a frame of the WebSocket (RFC 6455, section 5.2); returns its length.
    fn frame(&mut self, bytes: &[u8]) -> Option<usize> {
        const BINARY: u8 = 0x82;
        const PING: u8 = 0x89;
        let (header, length) = match *bytes.get(..FRAME_HEADER_BYTES)? {
            [_, 126, high, low] => (FRAME_HEADER_BYTES, usize::from(u16::from_be_bytes([high, low]))),
            [_, length, ..] => (2, usize::from(length)),
            _ => return None,
        };
        let payload = bytes.get(header..header + length)?;
        if bytes[0] == BINARY {
            let sequence = u64::from_le_bytes(payload[8..16].try_into().unwrap());
            // Opus may begin with a packet before the first block.
            self.reach((sequence + 1).max(self.first), 1);
        }
        if bytes[0] == PING && self.rendition == Rendition::WebSocketOpus {
            self.answer(payload);
        }
        Some(header + length)
    }

    /// Sends a pong, with a mask of zeros.
    fn answer(&mut self, ping: &[u8]) {
        const PONG: u8 = 0x8A;
        const MASKED: u8 = 0x80;
        let pong = [&[PONG, MASKED | ping.len() as u8, 0, 0, 0, 0], ping].concat();
        // Fails only at the end of the connection.
        let _ = self.socket.write_all(&pong);
    }

    /// Notes that a packet of at most `blocks` blocks ends before the block `next`.
    fn reach(&mut self, next: u64, blocks: u64) {
        assert!(next >= self.next, "block {next} comes after {}", self.next);
        if next - self.next > blocks && self.next > self.first {
            self.gap.get_or_insert(self.next);
        }
        self.next = next;
    }

    /// Lets [`drain`](Self::drain) return when nothing has come.
    pub(crate) fn without_waiting(self) -> Self {
        self.socket.socket().set_nonblocking(true).unwrap();
        self
    }
}

/// A pace of reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// All that comes, at once.
    All,
    Nothing,
    /// This part of what comes.
    Part(f64),
    /// All that has come, at intervals.
    Every(Duration),
}

/// The paces of a listener, each from so many seconds after its start on.
pub(crate) type Paces = &'static [(f64, Pace)];

/// A listener on a thread of this process.
#[derive(Debug)]
pub(crate) struct CountingListener {
    position: Arc<Position>,
    socket: TcpStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Position {
    next: AtomicU64,
    changes: AtomicUsize,
    is_over: AtomicBool,
}

impl CountingListener {
    /// Starts to read `stream` at its paces.
    pub(crate) fn start(stream: Stream, paces: Paces) -> Self {
        let position = Arc::new(Position { next: stream.next.into(), ..Position::default() });
        let socket = stream.socket.socket().try_clone().unwrap();
        let reader = Reader { stream, position: Arc::clone(&position), start: Instant::now(), taken: 0.0 };
        let thread = Some(std::thread::spawn(move || reader.run(paces)));
        Self { position, socket, thread }
    }

    /// Returns one past the sequence number of the last block that it has read in full.
    pub(crate) fn next(&self) -> u64 {
        self.position.next.load(SeqCst)
    }

    /// Returns how many times it has changed its pace.
    pub(crate) fn changes(&self) -> usize {
        self.position.changes.load(SeqCst)
    }
}

impl Drop for CountingListener {
    fn drop(&mut self) {
        self.position.is_over.store(true, SeqCst);
        // Fails if it is closed already.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Reader {
    stream: Stream,
    position: Arc<Position>,
    start: Instant,
    /// The seconds of sound that it has read at the pace of a part, and when it last did.
    taken: f64,
}

impl Reader {
    fn run(mut self, paces: Paces) {
        for (index, (_, pace)) in paces.iter().enumerate() {
            self.position.changes.store(index, SeqCst);
            let until = paces.get(index + 1).map_or(f64::INFINITY, |(from, _)| *from);
            self.stream.socket.socket().set_nonblocking(matches!(pace, Pace::Every(_))).unwrap();
            self.stream.socket.socket().set_read_timeout(Some(READ_INTERVAL)).unwrap();
            let begun = Instant::now();
            self.taken = 0.0;
            while self.start.elapsed().as_secs_f64() < until {
                if self.position.is_over.load(SeqCst) || !self.step(*pace, begun.elapsed()) {
                    return;
                }
            }
        }
    }

    /// Reads once, or waits. Returns whether the stream goes on.
    fn step(&mut self, pace: Pace, elapsed: Duration) -> bool {
        let most = match pace {
            Pace::Nothing => {
                std::thread::sleep(WAIT);
                return true;
            }
            Pace::All => 1 << 16,
            Pace::Every(interval) => {
                std::thread::sleep(interval);
                self.stream.drain();
                0
            }
            Pace::Part(part) => {
                std::thread::sleep(READ_INTERVAL);
                let due = elapsed.as_secs_f64() * part * self.stream.rendition.bytes_per_second();
                (due - self.taken) as usize
            }
        };
        let goes_on = match self.stream.read(most) {
            Ok(0) => most == 0,
            Ok(count) => {
                self.taken += count as f64;
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted),
        };
        self.position.next.store(self.stream.next, SeqCst);
        goes_on
    }
}
