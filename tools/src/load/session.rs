//! A listener's task: it connects, reads its stream, and leaves.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use aircheck_api::{ClientText, Rendition};
use hyper::StatusCode;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body::Body;
use super::gate::Gate;
use super::handle::{ListenerHandle, Shared};
use super::head::Head;
use super::listener::Ending;
use super::reader::Item;
use crate::client::{Message, TIMEOUT, Transport, WebSocket, refused};
use crate::failure::{Failure, io_words};
use crate::sanitize::sanitize;
use crate::units;

/// How long bytes that are on their way to a listener that leaves may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest content type and length that are shown.
const MAX_HEADER_CHARS: usize = 40;
/// How much is read of the body of a refusal, and for how long. aircheck's are one short line.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Listens until the stream ends or the listener is to leave, and enters into its handle how it ended.
pub(crate) async fn listen(shared: Rc<Shared>, handle: Rc<ListenerHandle>, server: SocketAddr) {
    // In a box, so that what beginning takes is freed: a run may have ten thousand listeners.
    let ending = match Box::pin(begin(&shared, &handle, server)).await {
        Err(ending) => ending,
        Ok(mut stream) => match read(&shared, &handle, &mut stream).await {
            Err(ending) => ending,
            Ok(()) => drain_and_close(&shared, &handle, &mut stream).await,
        },
    };
    // A stall that ended the stream counts too.
    end_measuring(&shared, &handle);
    *handle.ending.borrow_mut() = Some(ending);
    shared.has_endings.set(true);
}

fn end_measuring(shared: &Shared, handle: &ListenerHandle) {
    let mut measures = shared.measures.borrow_mut();
    handle.listener.borrow_mut().end_measuring(Instant::now(), &mut measures[handle.kind as usize]);
}

/// A stream that has begun.
#[derive(Debug)]
enum Stream {
    Http { gate: Gate, body: Body },
    WebSocket(Box<WebSocket<Gate>>),
}

/// The next step of a listener.
enum Step {
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
        let tcp = Transport::secure(tcp, plan.url.address())
            .await
            .map_err(|error| Ending::Failed(format!("cannot encrypt the connection: {}", io_words(&error))))?;
        let mut gate = Gate::new(tcp, Rc::clone(shared), Rc::clone(handle));
        // Only aircheck knows names.
        let name = plan.format.map(|_| handle.listener.borrow().name());
        let path = plan.url.path_and_query(name.as_deref());
        if plan.url.rendition == Some(Rendition::WebSocket) {
            let socket = WebSocket::open(gate, plan.url.address(), &path).await.map_err(no_stream)?;
            handle.listener.borrow_mut().begin(plan, None);
            return Ok(Stream::WebSocket(Box::new(socket)));
        }
        let is_events = plan.url.rendition == Some(Rendition::Events);
        let accept = if is_events { "text/event-stream" } else { "*/*" };
        let head = Head::ask(&mut gate, plan.url.address(), &path, accept).await;
        let head = head.map_err(|error| Ending::Failed(format!("no HTTP answer: {}", io_words(&error))))?;
        let is_chunked = head.header("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked"));
        let mut body = Body::new(is_chunked);
        if head.status != StatusCode::OK {
            return Err(refusal(head, gate, body).await);
        }
        let kind = head.header("content-type").unwrap_or_default();
        if let Some(length) = head.header("content-length") {
            let [kind, length] = [kind, length].map(|text| sanitize(text, MAX_HEADER_CHARS));
            return Err(Ending::Failed(format!("not a stream, but {length} bytes of {kind}")));
        }
        if kind.starts_with("text/html") {
            return Err(Ending::Failed("not a stream, but a page of text/html".to_owned()));
        }
        let sample_bytes = match head.header("x-audio-sample") {
            Some("s16le") => Some(2),
            Some("s24le") => Some(3),
            Some("f32le") => Some(4),
            _ => None,
        };
        handle.listener.borrow_mut().begin(plan, sample_bytes);
        take_bytes(shared, handle, &mut body, &head.rest)?;
        Ok(Stream::Http { gate, body })
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

/// Reads the body of an error, and returns it as the server's refusal.
async fn refusal(head: Head, mut gate: Gate, mut body: Body) -> Ending {
    let Head { status, headers, mut rest } = head;
    let due = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    let most = due.unwrap_or(MAX_REFUSAL_BYTES).min(MAX_REFUSAL_BYTES);
    let mut text = Vec::new();
    let reading = async {
        while !body.has_ended() && text.len() < most {
            let mut bytes = &rest[..];
            while let Ok(Some(data)) = body.next(&mut bytes) {
                text.extend_from_slice(data);
            }
            rest.clear();
            if text.len() < most && !matches!(gate.read_buf(&mut rest).await, Ok(1..)) {
                break;
            }
        }
    };
    // After the time-out the bytes so far must do.
    let _ = timeout(REFUSAL_TIMEOUT, reading).await;
    no_stream(refused(status, &headers, &text))
}

/// Reads the stream until the listener is to leave.
async fn read(shared: &Shared, handle: &ListenerHandle, stream: &mut Stream) -> Result<(), Ending> {
    loop {
        let step = poll_fn(|context| {
            handle.watch(context);
            loop {
                if handle.is_leaving() {
                    return Poll::Ready(Ok(Step::Leave));
                }
                if let Some(asked) = handle.question.take() {
                    return Poll::Ready(Ok(Step::Ask(asked)));
                }
                ready!(stream.poll_take(shared, handle, context))?;
            }
        });
        match step.await? {
            Step::Ask(asked) => {
                if let Stream::WebSocket(socket) = stream {
                    socket.send(ClientText::Clock(asked)).await;
                }
            }
            Step::Leave => return Ok(()),
        }
    }
}

/// Takes bytes of a body that arrived.
fn take_bytes(shared: &Shared, handle: &ListenerHandle, body: &mut Body, mut bytes: &[u8]) -> Result<(), Ending> {
    let (now, clocks) = (Instant::now(), shared.clocks.get());
    let measures = &mut shared.measures.borrow_mut()[handle.kind as usize];
    let mut listener = handle.listener.borrow_mut();
    while let Some(data) = body.next(&mut bytes).map_err(|why| Ending::Malformed(why.to_owned()))? {
        listener.take(data, now, clocks, measures)?;
    }
    match body.has_ended() {
        true if listener.is_complete() => Err(Ending::Finished),
        true => Err(Ending::Broken("the stream ended without the last page of Ogg".to_owned())),
        false => Ok(()),
    }
}

fn take_message(shared: &Shared, handle: &ListenerHandle, message: Message) {
    let (now, clocks) = (Instant::now(), shared.clocks.get());
    let measures = &mut shared.measures.borrow_mut()[handle.kind as usize];
    let mut listener = handle.listener.borrow_mut();
    match message {
        Message::Block(header, _) => listener.take_block(&header, now, clocks, measures),
        Message::Gap(gap) => listener.enter(&Item::Gap(gap)),
        Message::Clock(answer) => shared.answers.borrow_mut().push((answer, now)),
        Message::Error(_) | Message::Unknown => {}
    }
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
            match poll_fn(|context| stream.poll_take(shared, handle, context)).await {
                Ok(()) => {}
                // Closed: the server has closed its side too.
                Err(Ending::Finished | Ending::Closed) => return Ending::Left,
                Err(Ending::Broken(_)) => return Ending::Torn,
                Err(ending) => return ending,
            }
        }
    };
    timeout(DRAIN_TIMEOUT, draining).await.unwrap_or(Ending::Torn)
}

impl Stream {
    /// Waits for a piece, and takes it.
    fn poll_take(
        &mut self,
        shared: &Shared,
        handle: &ListenerHandle,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Ending>> {
        match self {
            Self::Http { gate, body } => {
                let mut buffer = shared.buffer.borrow_mut();
                let mut buffer = ReadBuf::new(&mut buffer);
                let broken = |error: std::io::Error| Ending::Broken(io_words(&error));
                ready!(Pin::new(gate).poll_read(context, &mut buffer)).map_err(broken)?;
                Poll::Ready(match buffer.filled() {
                    [] => Err(Ending::Closed),
                    bytes => take_bytes(shared, handle, body, bytes),
                })
            }
            Self::WebSocket(socket) => Poll::Ready(match ready!(socket.poll_next(context)) {
                Ok(Some(message)) => {
                    take_message(shared, handle, message);
                    Ok(())
                }
                Ok(None) => Err(Ending::Finished),
                Err(failure @ Failure::Message { .. }) => Err(Ending::Malformed(failure.to_string())),
                Err(Failure::Lost(why)) => Err(Ending::Broken(why)),
                Err(failure) => Err(Ending::Broken(failure.to_string())),
            }),
        }
    }
}
