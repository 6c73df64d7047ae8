//! Listeners that know what they have read.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};

use crate::namespace::Namespace;
use crate::stream::{Parser, Stream};
use crate::{Case, Times};

/// The longest wait for bytes, before a receiver looks at the time.
const READ_TIMEOUT: Duration = Duration::from_millis(20);
/// The pause between two reads of a program that reads a part of what comes.
const PACE_INTERVAL: Duration = Duration::from_millis(50);
/// Enough for all that comes in half a second.
const READ_BYTES: usize = 64 << 10;

/// What a receiver reads after it has read everything for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reading {
    Everything,
    NothingFromTheStart,
    Nothing,
    Half,
    NineTenths,
    Each100Millis,
    Each500Millis,
    NothingForAWhile,
}

impl Reading {
    pub(crate) const ALL: [Self; 8] = [
        Self::Everything,
        Self::NothingFromTheStart,
        Self::Nothing,
        Self::Half,
        Self::NineTenths,
        Self::Each100Millis,
        Self::Each500Millis,
        Self::NothingForAWhile,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Everything => "reads",
            Self::NothingFromTheStart => "never reads",
            Self::Nothing => "freezes",
            Self::Half => "half",
            Self::NineTenths => "nine tenths",
            Self::Each100Millis => "each 100 ms",
            Self::Each500Millis => "each 500 ms",
            Self::NothingForAWhile => "comes back",
        }
    }
}

/// A listener, until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    bytes: AtomicU64,
    position_micros: AtomicU64,
    is_over: AtomicBool,
}

impl Receiver {
    /// Connects a receiver that reads everything. Its name is that of the stream.
    pub(crate) fn direct(address: SocketAddr, stream: &'static Stream) -> Self {
        let plan = |_: Duration| Reading::Everything;
        let progress = Arc::default();
        Self::spawn(address, stream, None, stream.name, Arc::clone(&progress), progress, None, Instant::now(), plan)
    }

    /// Connects the receiver of a case, in a namespace if there is one.
    pub(crate) fn start(
        address: SocketAddr,
        case: &Case,
        name: &str,
        direct: &Self,
        namespace: Option<&Namespace>,
        started: Instant,
        times: Times,
    ) -> Self {
        let reading = case.reading;
        let plan = move |elapsed: Duration| match reading {
            Reading::NothingFromTheStart => reading,
            _ if elapsed < times.change => Reading::Everything,
            Reading::NothingForAWhile if elapsed >= times.back => Reading::Everything,
            _ => reading,
        };
        let namespace = namespace.map(|namespace| format!("/run/netns/{}", namespace.name));
        let direct = Arc::clone(&direct.0);
        Self::spawn(address, case.stream, case.buffer.bytes(), name, Arc::default(), direct, namespace, started, plan)
    }

    #[expect(clippy::too_many_arguments, reason = "they go to the thread as they are")]
    fn spawn(
        address: SocketAddr,
        stream: &'static Stream,
        buffer: Option<usize>,
        name: &str,
        progress: Arc<Progress>,
        direct: Arc<Progress>,
        namespace: Option<String>,
        started: Instant,
        plan: impl Fn(Duration) -> Reading + Send + 'static,
    ) -> Self {
        let own = Arc::clone(&progress);
        let name = name.replace(['?', '='], "-");
        thread::spawn(move || {
            let connection = connect(address, buffer, namespace.as_deref());
            let result = connection.and_then(|connection| {
                let separator = if stream.name.contains('?') { '&' } else { '?' };
                let path = format!("/{}{separator}name={name}", stream.name);
                write!(&connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
                let mut listener = Listener { connection, parser: Parser::new(stream.container), progress: own };
                listener.run(&direct, started, plan)
            });
            // The server ends before its listeners.
            if let Err(error) = result
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                eprintln!("the connection of {name} has failed: {error}");
            }
        });
        Self(progress)
    }

    /// Returns how far it has read.
    pub(crate) fn position(&self) -> Duration {
        Duration::from_micros(self.0.position_micros.load(Relaxed))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.is_over.store(true, Relaxed);
    }
}

/// Connects, from this namespace if there is one, which the thread then belongs to.
fn connect(address: SocketAddr, buffer: Option<usize>, namespace: Option<&str>) -> io::Result<TcpStream> {
    if let Some(namespace) = namespace {
        move_into_link_name_space(File::open(namespace)?.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect(&address.into())?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    Ok(socket.into())
}

struct Listener {
    connection: TcpStream,
    parser: Parser,
    progress: Arc<Progress>,
}

impl Listener {
    /// Reads as planned until it is dropped.
    fn run(&mut self, direct: &Progress, started: Instant, plan: impl Fn(Duration) -> Reading) -> io::Result<()> {
        // What it has read of a part, and the bytes of the direct receiver when it began with that.
        let mut of_part = None;
        while !self.progress.is_over.load(Relaxed) {
            let part = match plan(started.elapsed()) {
                Reading::Everything => {
                    self.read(READ_BYTES)?;
                    continue;
                }
                Reading::Nothing | Reading::NothingFromTheStart | Reading::NothingForAWhile => {
                    sleep(READ_TIMEOUT);
                    continue;
                }
                reading @ (Reading::Each100Millis | Reading::Each500Millis) => {
                    let is_short = reading == Reading::Each100Millis;
                    sleep(Duration::from_millis(if is_short { 100 } else { 500 }));
                    self.connection.set_nonblocking(true)?;
                    while self.read(READ_BYTES)? > 0 {}
                    continue;
                }
                Reading::Half => 0.5,
                Reading::NineTenths => 0.9,
            };
            let came = direct.bytes.load(Relaxed);
            let (from, read) = of_part.get_or_insert((came, 0));
            let due = (part * (came - *from) as f64) as u64;
            self.connection.set_nonblocking(true)?;
            if due > *read {
                *read += self.read((due - *read) as usize)? as u64;
            }
            sleep(PACE_INTERVAL);
        }
        Ok(())
    }

    /// Reads up to `most` bytes, and returns how many it has read; none if nothing comes.
    fn read(&mut self, most: usize) -> io::Result<usize> {
        let mut bytes = [0; READ_BYTES];
        let most = most.min(READ_BYTES);
        match self.connection.read(&mut bytes[..most]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.parser.take(&bytes[..length]);
                self.progress.bytes.fetch_add(length as u64, Relaxed);
                self.progress.position_micros.store(self.parser.position.as_micros() as u64, Relaxed);
                Ok(length)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(0),
            Err(error) => Err(error),
        }
    }
}
