//! One HTTP request over one connection, and its answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::url::Address;
use crate::failure::{Failure, io_words, root_cause};
use crate::sanitize::sanitize;
use crate::units;

/// How long connecting and the head of the answer may take, each. A healthy server answers at once; Linux would go on
/// trying to connect for two minutes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an error's body is read, and for how long. aircheck's are one short line.
const MAX_ERROR_BYTES: usize = 64 << 10;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest error that is shown.
const MAX_ERROR_CHARS: usize = 300;
/// The most that hyper reads ahead: several blocks of any rendition, so that a listener that stood still catches up
/// quickly, and little beside the kernel's buffer.
const MAX_READ_BYTES: usize = 64 << 10;

/// A request of this crate: none has a body.
pub(super) type EmptyRequest = Request<Empty<Bytes>>;

/// Connects to the server.
pub(crate) async fn connect(address: &Address) -> Result<TcpStream, Failure> {
    let why = match timeout(TIMEOUT, TcpStream::connect(address.endpoint())).await {
        Ok(Ok(tcp)) => return Ok(tcp),
        Ok(Err(error)) => io_words(&error),
        Err(_) => format!("no answer within {}", units::span(TIMEOUT)),
    };
    Err(Failure::Connect { authority: address.authority().to_owned(), why, hint: address.hint() })
}

/// Makes a request with the headers that all have. It fails if the path is impossible.
pub(super) fn request(method: Method, address: &Address, path: &str) -> Result<EmptyRequest, Failure> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.authority())
        .header(USER_AGENT, concat!("aircheckctl/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| no_answer(address, root_cause(&error)))
}

/// Asks for a path with headers besides the usual ones, and waits for the head of the answer.
pub(super) async fn get<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    address: &Address,
    path: &str,
    headers: HeaderMap,
) -> Result<Exchange<T>, Failure> {
    let mut request = request(Method::GET, address, path)?;
    request.headers_mut().extend(headers);
    match timeout(TIMEOUT, Exchange::begin(io, request)).await {
        Ok(Ok(exchange)) => Ok(exchange),
        Ok(Err(error)) => Err(no_answer(address, root_cause(&error))),
        Err(_) => Err(no_answer(address, format!("none within {}", units::span(TIMEOUT)))),
    }
}

/// Returns the failure of a server that took the connection and sent nothing useful.
pub(super) fn no_answer(address: &Address, why: String) -> Failure {
    Failure::NoAnswer { authority: address.authority().to_owned(), why }
}

/// A request whose answer has begun. The connection has no task of its own: it goes on while the body is polled, and
/// stands still otherwise, so that nothing is read ahead of its reader but [`MAX_READ_BYTES`].
#[derive(Debug)]
pub(crate) struct Exchange<T: AsyncRead + AsyncWrite + Unpin> {
    connection: Connection<T>,
    response: Response<Incoming>,
}

/// A connection, which must not be polled any more once it is done.
#[derive(Debug)]
struct Connection<T: AsyncRead + AsyncWrite + Unpin> {
    inner: http1::Connection<TokioIo<T>, Empty<Bytes>>,
    is_done: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Exchange<T> {
    async fn begin(io: T, request: EmptyRequest) -> Result<Self, hyper::Error> {
        let (mut sender, inner) =
            http1::Builder::new().max_buf_size(MAX_READ_BYTES).handshake(TokioIo::new(io)).await?;
        let mut connection = Connection { inner, is_done: false };
        let mut response = std::pin::pin!(sender.send_request(request));
        let response = std::future::poll_fn(|context| {
            let driven = connection.drive(context);
            // An answer that came before the connection broke counts.
            match response.as_mut().poll(context) {
                Poll::Ready(response) => Poll::Ready(response),
                Poll::Pending => match driven {
                    Err(error) => Poll::Ready(Err(error)),
                    Ok(()) => Poll::Pending,
                },
            }
        })
        .await?;
        Ok(Self { connection, response })
    }

    /// Returns the status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Returns a header of the answer, if it is there and text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok().map(str::trim)
    }

    /// Returns the next piece of the body, or `None` at its end.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, hyper::Error>> {
        loop {
            let driven = self.connection.drive(context);
            match Pin::new(self.response.body_mut()).poll_frame(context) {
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    // A frame that is not data is a trailer.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                Poll::Pending => return driven.map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending),
            }
        }
    }

    /// Reads the body of an error, and returns it as the server's refusal.
    pub(crate) async fn refusal(mut self) -> Failure {
        let mut body = Vec::new();
        let reading = std::future::poll_fn(|context| {
            while let Ok(Some(piece)) = ready!(self.poll_next(context)) {
                body.extend(piece);
                if body.len() > MAX_ERROR_BYTES {
                    break;
                }
            }
            Poll::Ready(())
        });
        // After the time-out the bytes so far must do.
        let _ = timeout(ERROR_BODY_TIMEOUT, reading).await;
        refused(self.status(), self.response.headers(), &body)
    }

    /// Takes the connection out, with the bytes that were read of it after the head.
    pub(super) fn into_io(self) -> (T, Bytes) {
        let parts = self.connection.inner.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// Reads and writes what can be at once.
    fn drive(&mut self, context: &mut Context<'_>) -> Result<(), hyper::Error> {
        if self.is_done {
            return Ok(());
        }
        // Without a shutdown, as the socket may become a WebSocket's.
        match self.inner.poll_without_shutdown(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(result) => {
                self.is_done = true;
                result
            }
        }
    }
}

/// Returns the server's refusal in its own words, from `{"error":"…"}`, or else in the status's usual ones.
pub(crate) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let hint = match headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) {
        Some(seconds) if seconds.parse::<u32>().is_ok() => format!("; try again in {seconds} s"),
        _ => String::new(),
    };
    let why = match serde_json::from_slice(body) {
        Ok(ErrorBody { error }) => sanitize(&error, MAX_ERROR_CHARS),
        Err(_) => status.canonical_reason().unwrap_or("no reason given").to_lowercase(),
    };
    Failure::Refused { status: status.as_u16(), why, hint }
}
