//! Listeners to numbered sound over plain sockets, on threads of this process or in a process of their own, which can be
//! stopped.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use super::numbered::{BLOCK_SECONDS, Format, Received, StreamParser};
use crate::common::tls::{self, Connection};

/// Sends a GET request on a connection of its own, with a receive buffer of `receive_buffer` bytes if given.
pub(crate) fn request(address: SocketAddr, path: &str, receive_buffer: Option<usize>) -> std::io::Result<Connection> {
    let mut stream = Connection::new(connect(address, receive_buffer)?);
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}

/// Connects, with a receive buffer of `receive_buffer` bytes if given.
pub(crate) fn connect(address: SocketAddr, receive_buffer: Option<usize>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect(&SockAddr::from(address))?;
    Ok(TcpStream::from(socket))
}

/// Returns the text at `path`.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = request(address, path, None).unwrap();
    stream.socket().set_read_timeout(Some(crate::common::TEST_TIMEOUT)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    body.to_owned()
}

/// A parser of a response with a chunked body (RFC 9112, section 7.1, without extensions and trailers). Data after an
/// upgrade to WebSocket is passed on unchanged.
#[derive(Debug, Default)]
pub(crate) struct ChunkedResponse {
    /// The head so far.
    head: Vec<u8>,
    has_head: bool,
    is_upgraded: bool,
    /// The rest of the current chunk, in bytes.
    left: usize,
    /// The chunk length that is being parsed.
    length: Option<usize>,
    /// Whether the last chunk has come.
    pub(crate) ended: bool,
}

impl ChunkedResponse {
    /// Returns the data in the next `bytes`. Fails at any status but 200 and 101.
    pub(crate) fn data(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        while let Some(&byte) = bytes.first() {
            let mut taken = 1;
            if !self.has_head {
                self.head.push(byte);
                self.has_head = self.head.ends_with(b"\r\n\r\n");
                self.is_upgraded = self.head.starts_with(b"HTTP/1.1 101 ");
                let is_taken = self.is_upgraded || self.head.starts_with(b"HTTP/1.1 200 ");
                assert!(!self.has_head || is_taken, "{}", self.head.escape_ascii());
            } else if self.is_upgraded {
                data.extend_from_slice(bytes);
                return data;
            } else if self.left > 0 {
                taken = self.left.min(bytes.len());
                self.left -= taken;
                data.extend_from_slice(&bytes[..taken]);
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

/// A listener on a thread of this process that reads all it gets.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) format: Format,
    stream: TcpStream,
    stream_so_far: Arc<Mutex<ReceivedStream>>,
    thread: Option<JoinHandle<bool>>,
}

/// The stream that a [`Client`] received.
#[derive(Debug)]
pub(crate) struct ReceivedStream {
    reading: StreamParser,
    /// When each of its blocks came, in Unix seconds.
    arrivals: Vec<f64>,
}

impl Client {
    pub(crate) fn start(address: SocketAddr, format: Format, query: &str) -> Self {
        let mut stream = request(address, &format.path(query), None).unwrap();
        let stream_so_far =
            Arc::new(Mutex::new(ReceivedStream { reading: StreamParser::new(format), arrivals: Vec::new() }));
        let (ours, writer) = (stream.socket().try_clone().unwrap(), Arc::clone(&stream_so_far));
        let thread = std::thread::spawn(move || {
            let mut chunks = ChunkedResponse::default();
            let mut buffer = [0; 16 * 1024];
            while let Ok(1..) = stream.read(&mut buffer).inspect(|&bytes| {
                let data = chunks.data(&buffer[..bytes]);
                let mut stream_so_far = writer.lock().unwrap();
                stream_so_far.reading.push(&data);
                let now = unix_now();
                let blocks = stream_so_far.reading.received.blocks();
                stream_so_far.arrivals.resize(blocks, now);
            }) {}
            chunks.ended
        });
        Self { format, stream: ours, stream_so_far, thread: Some(thread) }
    }

    fn received_stream(&self) -> MutexGuard<'_, ReceivedStream> {
        self.stream_so_far.lock().unwrap()
    }

    /// Reads no more until the guard is dropped, except what one call takes from its kernel.
    pub(crate) fn hold(&self) -> MutexGuard<'_, impl Sized> {
        self.received_stream()
    }

    /// Returns the blocks that it has received so far.
    pub(crate) fn received(&self) -> Received {
        self.received_stream().reading.received.clone()
    }

    /// Returns the seconds from capture to arrival of each block that arrived within `span`. Block 0 was captured at
    /// `epoch`; both are in Unix seconds.
    pub(crate) fn latencies(&self, epoch: f64, span: &Range<f64>) -> Vec<f64> {
        let stream_so_far = self.received_stream();
        let blocks = stream_so_far
            .reading
            .received
            .numbers
            .iter()
            .zip(&stream_so_far.arrivals)
            .filter(|(_, at)| span.contains(at));
        blocks.map(|(number, at)| at - epoch - *number as f64 * BLOCK_SECONDS).collect()
    }

    /// Waits for the end of its stream; returns whether it ended properly.
    pub(crate) fn wait(&mut self) -> bool {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Fails if it is closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The events of a server.
#[derive(Debug)]
pub(crate) struct Events(Arc<Mutex<Vec<Value>>>);

impl Events {
    /// Collects events from now on until the server ends.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut stream = request(address, "api/v1/events", None).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&events);
        std::thread::spawn(move || {
            let (mut chunks, mut text) = (ChunkedResponse::default(), Vec::new());
            let mut buffer = [0; 16 * 1024];
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                text.extend(chunks.data(&buffer[..bytes]));
                while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<_> = text.drain(..=end).collect();
                    if let Some(event) = line.strip_prefix(b"data: ") {
                        writer.lock().unwrap().push(serde_json::from_slice(event).unwrap());
                    }
                }
            }
        });
        Self(events)
    }

    /// Returns the events of the listener called `name`.
    pub(crate) fn of(&self, name: &str) -> Vec<Value> {
        let events = self.0.lock().unwrap();
        events.iter().filter(|event| event["listener"]["name"] == name).cloned().collect()
    }
}

/// Numbered sound that another process writes to a file as it receives it.
#[derive(Debug)]
pub(crate) struct SavedStream {
    path: PathBuf,
    file: Option<std::fs::File>,
    reading: StreamParser,
}

impl SavedStream {
    pub(crate) fn new(path: PathBuf, format: Format) -> Self {
        Self { path, file: None, reading: StreamParser::new(format) }
    }

    /// Returns the blocks that are in the file by now.
    pub(crate) fn received(&mut self) -> &Received {
        if self.file.is_none() {
            self.file = std::fs::File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            self.reading.push(&bytes);
        }
        &self.reading.received
    }
}

/// The environment variable with the arguments of [`reader`].
const READER: &str = "AIRCHECK_TEST_READER";
/// The environment variable with the file of the server's certificate, if it has TLS.
const CERTIFICATE: &str = "AIRCHECK_TEST_CERTIFICATE";

/// The pace at which a [`reader`] reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPace {
    /// Receive buffer in bytes.
    pub(crate) buffer: usize,
    /// The most bytes a second.
    pub(crate) bytes_per_second: usize,
    /// For this long; afterwards it reads as fast as it can.
    pub(crate) slow_for: Duration,
}

/// Returns a command that runs this test program as a listener which writes its stream to `file`. The program must have a
/// test called `reader` that calls [`reader`].
pub(crate) fn reader_command(address: SocketAddr, path: &str, file: &Path, pace: ReadPace) -> Command {
    let ReadPace { buffer, bytes_per_second, slow_for } = pace;
    let arguments = format!("{address} {path} {} {buffer} {bytes_per_second} {}", file.display(), slow_for.as_millis());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "reader", "--ignored", "--nocapture"]).env(READER, arguments);
    if let Some(certificate) = tls::certificate_of(address) {
        command.env(CERTIFICATE, certificate);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Listens as [`reader_command`] asks. Fails if the stream does not end properly.
pub(crate) fn reader() {
    /// Between two reads: about the length of a block.
    const READ_INTERVAL: Duration = Duration::from_millis(10);

    let Ok(arguments) = std::env::var(READER) else { return };
    let mut words = arguments.split(' ');
    let mut word = || words.next().unwrap();
    let (address, path, file) = (word().parse().unwrap(), word(), word());
    let [buffer, bytes_per_second, slow_for] = [(); 3].map(|()| word().parse::<usize>().unwrap());
    let slow_for = Duration::from_millis(slow_for as u64);
    if let Some(certificate) = std::env::var_os(CERTIFICATE) {
        tls::note(address, Path::new(&certificate));
    }
    let mut stream = request(address, path, Some(buffer)).unwrap();
    let mut file = std::fs::File::create(file).unwrap();
    let mut chunks = ChunkedResponse::default();
    let mut bytes = vec![0; 64 * 1024];
    let (start, mut read) = (Instant::now(), 0);
    loop {
        let mut most = bytes.len();
        if start.elapsed() < slow_for {
            std::thread::sleep(READ_INTERVAL);
            most = ((start.elapsed().as_secs_f64() * bytes_per_second as f64) as usize).saturating_sub(read).min(most);
            if most == 0 {
                continue;
            }
        }
        match stream.read(&mut bytes[..most]) {
            Ok(0) => break,
            Ok(count) => {
                read += count;
                file.write_all(&chunks.data(&bytes[..count])).unwrap();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(chunks.ended, "the stream ends properly");
}
