//! Listeners to numbered sound over plain sockets: as many as one likes on threads of this process, or one that is a
//! process of its own and can be stopped like any.

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

use super::numbered::{BLOCK_SECONDS, Format, Reading, Received};

/// A GET request on a connection of its own, which has a receive buffer of `receive_buffer` bytes if that is said.
pub(crate) fn request(address: SocketAddr, path: &str, receive_buffer: Option<usize>) -> std::io::Result<TcpStream> {
    let mut stream = connect(address, receive_buffer)?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}

fn connect(address: SocketAddr, receive_buffer: Option<usize>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect(&SockAddr::from(address))?;
    Ok(TcpStream::from(socket))
}

/// The text at `path`.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = request(address, path, None).unwrap();
    stream.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    body.to_owned()
}

/// Where a response stands whose body comes in chunks: RFC 9112, section 7.1, without extensions and trailers. What
/// comes after a change to the WebSocket is passed on as it is.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// What came of the head, until it has ended.
    head: Vec<u8>,
    has_head: bool,
    is_upgraded: bool,
    /// Bytes of the current chunk that are to come.
    left: usize,
    /// The length that is being read.
    length: Option<usize>,
    /// Whether the last chunk has come.
    pub(crate) ended: bool,
}

impl Chunks {
    /// The data in the next `bytes`. Any answer but 200 or 101 fails.
    pub(crate) fn data(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        while let Some(&byte) = bytes.first() {
            let mut taken = 1;
            if !self.has_head {
                self.head.push(byte);
                self.has_head = self.head.ends_with(b"\r\n\r\n");
                self.is_upgraded = self.head.starts_with(b"HTTP/1.1 101 ");
                let is_taken = self.is_upgraded || self.head.starts_with(b"HTTP/1.1 200 ");
                assert!(!self.has_head || is_taken, "{:?}", self.head.escape_ascii());
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

/// A listener on a thread of this process, which reads whatever comes.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) format: Format,
    stream: TcpStream,
    heard: Arc<Mutex<Heard>>,
    thread: Option<JoinHandle<bool>>,
}

/// What a [`Client`] got.
#[derive(Debug)]
pub(crate) struct Heard {
    reading: Reading,
    /// When each of its blocks came, in Unix seconds.
    arrivals: Vec<f64>,
}

impl Client {
    pub(crate) fn start(address: SocketAddr, format: Format, query: &str) -> Self {
        let mut stream = request(address, &format.path(query), None).unwrap();
        let heard = Arc::new(Mutex::new(Heard { reading: Reading::new(format), arrivals: Vec::new() }));
        let (ours, told) = (stream.try_clone().unwrap(), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            let mut chunks = Chunks::default();
            let mut buffer = [0; 16 * 1024];
            while let Ok(1..) = stream.read(&mut buffer).inspect(|&bytes| {
                let data = chunks.data(&buffer[..bytes]);
                let mut heard = told.lock().unwrap();
                heard.reading.push(&data);
                let now = unix_now();
                let blocks = heard.reading.received.blocks();
                heard.arrivals.resize(blocks, now);
            }) {}
            chunks.ended
        });
        Self { format, stream: ours, heard, thread: Some(thread) }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// What it got so far.
    pub(crate) fn received(&self) -> Received {
        self.heard().reading.received.clone()
    }

    /// From capture to arrival in seconds, of each block that came within `span`, block 0 having been captured at
    /// `epoch`; both in Unix seconds.
    pub(crate) fn latencies(&self, epoch: f64, span: &Range<f64>) -> Vec<f64> {
        let heard = self.heard();
        let blocks = heard.reading.received.numbers.iter().zip(&heard.arrivals).filter(|(_, at)| span.contains(at));
        blocks.map(|(number, at)| at - epoch - *number as f64 * BLOCK_SECONDS).collect()
    }

    /// Waits for the end of its stream; whether it was in order.
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

/// What happens at the server, as it tells of it.
#[derive(Debug)]
pub(crate) struct Events(Arc<Mutex<Vec<Value>>>);

impl Events {
    /// From now on, until the server ends.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut stream = request(address, "api/v1/events", None).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        std::thread::spawn(move || {
            let (mut chunks, mut text) = (Chunks::default(), Vec::new());
            let mut buffer = [0; 16 * 1024];
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                text.extend(chunks.data(&buffer[..bytes]));
                while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<_> = text.drain(..=end).collect();
                    if let Some(event) = line.strip_prefix(b"data: ") {
                        told.lock().unwrap().push(serde_json::from_slice(event).unwrap());
                    }
                }
            }
        });
        Self(events)
    }

    /// Those about the listener called `name`.
    pub(crate) fn of(&self, name: &str) -> Vec<Value> {
        let events = self.0.lock().unwrap();
        events.iter().filter(|event| event["listener"]["name"] == name).cloned().collect()
    }
}

/// The numbered sound that another process writes to a file as it reads it.
#[derive(Debug)]
pub(crate) struct Take {
    path: PathBuf,
    file: Option<std::fs::File>,
    reading: Reading,
}

impl Take {
    pub(crate) fn new(path: PathBuf, format: Format) -> Self {
        Self { path, file: None, reading: Reading::new(format) }
    }

    /// What is in the file by now.
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

/// Where a test program finds the [`Pace`] of the listener that it is to be, and what else it needs.
const READER: &str = "AIRCHECK_TEST_READER";

/// How a [`reader`] reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Receive buffer in bytes.
    pub(crate) buffer: usize,
    /// So many bytes a second, at most.
    pub(crate) bytes_per_second: usize,
    /// For so long; as fast as it can after that.
    pub(crate) slow_for: Duration,
}

/// This test program again, as a listener that writes what it reads to `file`. The program must have a test called
/// `reader` that calls [`reader`].
pub(crate) fn reader_command(address: SocketAddr, path: &str, file: &Path, pace: Pace) -> Command {
    let Pace { buffer, bytes_per_second, slow_for } = pace;
    let what = format!("{address} {path} {} {buffer} {bytes_per_second} {}", file.display(), slow_for.as_millis());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "reader", "--ignored", "--nocapture"]).env(READER, what);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The other side of [`reader_command`]. Fails if the stream does not end in order.
pub(crate) fn reader() {
    /// How often it reads: about as often as blocks come.
    const EVERY: Duration = Duration::from_millis(10);

    let Ok(what) = std::env::var(READER) else { return };
    let mut words = what.split(' ');
    let mut word = || words.next().unwrap();
    let (address, path, file) = (word().parse().unwrap(), word(), word());
    let [buffer, bytes_per_second, slow_for] = [(); 3].map(|()| word().parse::<usize>().unwrap());
    let slow_for = Duration::from_millis(slow_for as u64);
    let mut stream = request(address, path, Some(buffer)).unwrap();
    let mut file = std::fs::File::create(file).unwrap();
    let mut chunks = Chunks::default();
    let mut bytes = vec![0; 64 * 1024];
    let (start, mut read) = (Instant::now(), 0);
    loop {
        let mut most = bytes.len();
        if start.elapsed() < slow_for {
            std::thread::sleep(EVERY);
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
    assert!(chunks.ended, "the stream ends in order");
}
