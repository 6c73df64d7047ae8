//! A client of plain sockets: sends exactly these bytes, and takes apart all that comes back.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::common::{Server, TEST_TIMEOUT};
use crate::truth::client;

/// The first byte of a ping.
const PING: u8 = 0x89;

/// Connects, with a receive buffer of `receive_buffer` bytes if given.
pub(crate) fn connect(server: &Server, receive_buffer: Option<usize>) -> TcpStream {
    let stream = client::connect(server.address, receive_buffer).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects and sends `bytes` at once.
pub(crate) fn send(server: &Server, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = connect(server, None);
    stream.write_all(bytes.as_ref()).unwrap();
    stream
}

/// Reads to the end of a connection, with TLS or without. Fails if it is reset, if the end does not come, or if TLS does not say that
/// it is the end.
pub(crate) fn read_to_end(mut stream: impl Read) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let start = Instant::now();
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return bytes,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
        assert!(start.elapsed() < TEST_TIMEOUT, "the end does not come");
    }
}

/// Closes the connection with a reset.
pub(crate) fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// A response, and what follows it.
#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) version: String,
    pub(crate) status: u16,
    /// By their names in lower case.
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) is_chunked: bool,
    /// The chunks, if there are any.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// All of the body that has come.
    pub(crate) body: Vec<u8>,
    /// Whether the body has come to its end, as its own framing tells.
    pub(crate) is_complete: bool,
    /// The bytes after the body.
    pub(crate) after: Vec<u8>,
}

impl Response {
    /// Takes apart the first response in `bytes` (RFC 9112, sections 4 to 7). Fails if it violates the standard; a body may
    /// be cut off.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let (head, rest) = split(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("a head: {:?}", bytes.escape_ascii()));
        let head = std::str::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap().splitn(3, ' ');
        let version = first.next().unwrap().to_owned();
        let status = first.next().unwrap().parse().unwrap();
        let fields: BTreeMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let is_chunked = fields.get("transfer-encoding").is_some_and(|value| value == "chunked");
        let length = fields.get("content-length").map(|length| length.parse::<usize>().unwrap());
        let mut response = Self { version, status, fields, is_chunked, ..Self::default() };
        match length {
            _ if is_chunked => response.take_chunks(rest),
            Some(length) => {
                let (body, after) = rest.split_at(length.min(rest.len()));
                (response.body, response.after) = (body.to_vec(), after.to_vec());
                response.is_complete = body.len() == length;
            }
            // It ends with the connection.
            None => (response.body, response.is_complete) = (rest.to_vec(), true),
        }
        response
    }

    fn take_chunks(&mut self, mut rest: &[u8]) {
        while let Some((length, after)) = split(rest, b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(length).unwrap(), 16).unwrap();
            let Some((chunk, after)) = after.split_at_checked(length + 2) else { return };
            assert!(chunk.ends_with(b"\r\n"));
            if length == 0 {
                (self.is_complete, self.after) = (true, after.to_vec());
                return;
            }
            self.chunks.push(chunk[..length].to_vec());
            self.body.extend_from_slice(&chunk[..length]);
            rest = after;
        }
    }
}

/// Returns what is before and after the first `separator`.
fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

/// Returns the kinds and payloads of a server's WebSocket frames (RFC 6455, section 5.2), without pings. Fails if the last is cut
/// off.
pub(crate) fn websocket_frames(mut rest: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [kind, length, after @ ..] = rest {
        let (length, after) = match length {
            0..126 => (usize::from(*length), after),
            126 => (usize::from(u16::from_be_bytes([after[0], after[1]])), &after[2..]),
            _ => panic!("a frame of length {length}"),
        };
        let Some((payload, after)) = after.split_at_checked(length) else { panic!("the last frame is cut off") };
        frames.push((*kind, payload.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty(), "the last frame is cut off");
    frames.retain(|(kind, _)| *kind != PING);
    frames
}
