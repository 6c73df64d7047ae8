//! A listener's task: it connects, reads its stream, and leaves.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use aircheck_api::{ClientText, Rendition};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::gate::Gate;
use super::handle::{ListenerHandle, Shared};
use super::listener::Ending;
use super::reader::Item;
use crate::client::{Exchange, Message, TIMEOUT, WebSocket, get};
use crate::failure::{Failure, io_words, root_cause};
use crate::sanitize::sanitize;
use crate::units;

/// How long bytes that are on their way to a listener that leaves may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest content type and length that are shown.
const MAX_HEADER_CHARS: usize = 40;

/// Listens until the stream ends or the listener is to leave, and enters into its handle how it ended.
pub(crate) async fn listen(shared: Rc<Shared>, handle: Rc<ListenerHandle>, server: SocketAddr) {
    let ending = match begin(&shared, &handle, server).await {
        Err(ending) => ending,
        Ok(mut stream) => match read(&shared, &handle, &mut stream).await {
            Err(ending) => ending,
            Ok(()) => drain_and_close(&shared, &handle, &mut stream).await,
        },
    };
    // A stall that ended the stream counts too.
    end_measuring(&shared, &handle);
    *handle.ending.borrow_mut() = Some(ending);
}

fn end_measuring(shared: &Shared, handle: &ListenerHandle) {
    let mut measures = shared.measures.borrow_mut();
    handle.listener.borrow_mut().end_measuring(&shared.plan, Instant::now(), &mut measures[handle.kind as usize]);
}

/// A stream that has begun.
#[derive(Debug)]
enum Stream {
    Http {
        exchange: Box<Exchange<Gate>>,
        /// Whether the body tells its own end. Otherwise it ends with the connection, and may be cut off.
        has_end: bool,
    },
    WebSocket(Box<WebSocket<Gate>>),
}

/// A piece of a stream.
enum Piece {
    Bytes(Bytes),
    Message(Message),
}

/// The next step of a listener.
enum Step {
    Take(Piece),
    /// Asks the server for the time.
    Ask(f64),
    Leave,
}

async fn begin(shared: &Rc<Shared>, handle: &Rc<ListenerHandle>, server: SocketAddr) -> Result<Stream, Ending> {
    let plan = &shared.plan;
    let beginning = async {
        let tcp = TcpStream::connect(server)
            .await
            .map_err(|error| Ending::Failed(format!("cannot connect: {}", io_words(&error))))?;
        handle.local.set(tcp.local_addr().ok());
        let gate = Gate::new(tcp, Rc::clone(shared), Rc::clone(handle));
        // Only aircheck knows names.
        let name = plan.format.map(|_| handle.listener.borrow().name());
        let path = plan.url.path_and_query(name.as_deref());
        if plan.url.rendition == Some(Rendition::WebSocket) {
            let socket = WebSocket::open(gate, plan.url.address(), &path).await.map_err(no_stream)?;
            handle.listener.borrow_mut().begin(plan, None);
            return Ok(Stream::WebSocket(Box::new(socket)));
        }
        let is_events = plan.url.rendition == Some(Rendition::Events);
        let accept = HeaderValue::from_static(if is_events { "text/event-stream" } else { "*/*" });
        let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
        let exchange = get(gate, plan.url.address(), &path, headers).await.map_err(no_stream)?;
        if exchange.status() != StatusCode::OK {
            return Err(no_stream(exchange.refusal().await));
        }
        let kind = exchange.header("content-type").unwrap_or_default();
        if let Some(length) = exchange.header("content-length") {
            let [kind, length] = [kind, length].map(|text| sanitize(text, MAX_HEADER_CHARS));
            return Err(Ending::Failed(format!("not a stream, but {length} bytes of {kind}")));
        }
        if kind.starts_with("text/html") {
            return Err(Ending::Failed("not a stream, but a page of text/html".to_owned()));
        }
        let sample_bytes = match exchange.header("x-audio-sample") {
            Some("s16le") => Some(2),
            Some("s24le") => Some(3),
            Some("f32le") => Some(4),
            _ => None,
        };
        handle.listener.borrow_mut().begin(plan, sample_bytes);
        let has_end = exchange.header("transfer-encoding").is_some();
        Ok(Stream::Http { exchange: Box::new(exchange), has_end })
    };
    match timeout(TIMEOUT, beginning).await {
        Ok(begun) => begun,
        Err(_) => Err(Ending::Failed(format!("no HTTP answer within {}", units::span(TIMEOUT)))),
    }
}

fn no_stream(failure: Failure) -> Ending {
    match failure {
        Failure::Refused { status, why, .. } => Ending::Refused { status, why },
        Failure::NoAnswer { why, .. } => Ending::Failed(format!("no HTTP answer: {why}")),
        other => Ending::Failed(other.to_string()),
    }
}

/// Reads the stream until the listener is to leave.
async fn read(shared: &Shared, handle: &ListenerHandle, stream: &mut Stream) -> Result<(), Ending> {
    loop {
        let step = poll_fn(|context| {
            handle.watch(context);
            if handle.is_leaving() {
                return Poll::Ready(Ok(Step::Leave));
            }
            if let Some(asked) = handle.question.take() {
                return Poll::Ready(Ok(Step::Ask(asked)));
            }
            stream.poll_next(context).map_ok(Step::Take)
        });
        match step.await? {
            Step::Take(piece) => take(shared, handle, piece)?,
            Step::Ask(asked) => {
                if let Stream::WebSocket(socket) = stream {
                    socket.send(ClientText::Clock(asked)).await;
                }
            }
            Step::Leave => return Ok(()),
        }
    }
}

fn take(shared: &Shared, handle: &ListenerHandle, piece: Piece) -> Result<(), Ending> {
    let (now, clocks) = (Instant::now(), shared.clocks.get());
    let mut measures = shared.measures.borrow_mut();
    let measures = &mut measures[handle.kind as usize];
    let mut listener = handle.listener.borrow_mut();
    match piece {
        Piece::Bytes(bytes) => listener.take(&bytes, now, &shared.plan, clocks, measures)?,
        Piece::Message(Message::Block(header, _)) => {
            listener.take_block(&header, now, &shared.plan, clocks, measures);
        }
        Piece::Message(Message::Gap(gap)) => listener.enter(&Item::Gap(gap)),
        Piece::Message(Message::Clock(answer)) => shared.answers.borrow_mut().push((answer, now)),
        Piece::Message(Message::Error(_) | Message::Unknown) => {}
    }
    Ok(())
}

/// Leaves as a player does that is switched off, but reads the bytes that are on their way, so that all blocks that the
/// server counts as delivered are counted here too. Another server than aircheck may go on sending for ever, and is
/// left at once.
async fn drain_and_close(shared: &Shared, handle: &ListenerHandle, stream: &mut Stream) -> Ending {
    end_measuring(shared, handle);
    if shared.plan.format.is_none() {
        return Ending::Left;
    }
    let draining = async {
        // HTTP is closed by the gate.
        if let Stream::WebSocket(socket) = stream {
            socket.close().await;
        }
        loop {
            match poll_fn(|context| stream.poll_next(context)).await.and_then(|piece| take(shared, handle, piece)) {
                Ok(()) => {}
                Err(Ending::Finished) => return Ending::Left,
                // The server has closed its side too.
                Err(Ending::Closed) => return Ending::Left,
                Err(Ending::Broken(_)) => return Ending::Torn,
                Err(ending) => return ending,
            }
        }
    };
    timeout(DRAIN_TIMEOUT, draining).await.unwrap_or(Ending::Torn)
}

impl Stream {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Ending>> {
        match self {
            Self::Http { exchange, has_end } => exchange.poll_next(context).map(|bytes| match bytes {
                Ok(Some(bytes)) => Ok(Piece::Bytes(bytes)),
                Ok(None) if *has_end => Err(Ending::Finished),
                Ok(None) => Err(Ending::Closed),
                Err(error) if error.is_incomplete_message() || is_end_of_file(&error) => Err(Ending::Closed),
                Err(error) => Err(Ending::Broken(root_cause(&error))),
            }),
            Self::WebSocket(socket) => socket.poll_next(context).map(|message| match message {
                Ok(Some(message)) => Ok(Piece::Message(message)),
                Ok(None) => Err(Ending::Finished),
                Err(failure @ Failure::Message { .. }) => Err(Ending::Malformed(failure.to_string())),
                Err(Failure::Lost(why)) => Err(Ending::Broken(why)),
                Err(failure) => Err(Ending::Broken(failure.to_string())),
            }),
        }
    }
}

/// Returns whether a body broke off because the connection was closed within a chunk.
fn is_end_of_file(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    false
}
