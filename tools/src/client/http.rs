//! One HTTP request over one connection, and its answer.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Collected, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::transport::Transport;
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

/// A request of this crate: none has a body.
pub(super) type EmptyRequest = Request<Empty<Bytes>>;

/// Connects to the server.
pub(crate) async fn connect(address: &Address) -> Result<Transport, Failure> {
    let connecting = async { Transport::secure(TcpStream::connect(address.endpoint()).await?, address).await };
    let why = match timeout(TIMEOUT, connecting).await {
        Ok(Ok(transport)) => return Ok(transport),
        Ok(Err(error)) => io_words(&error),
        Err(_) => format!("no answer within {}", units::span(TIMEOUT)),
    };
    Err(Failure::Connect { authority: address.authority().to_owned(), why, hint: address.hint() })
}

/// Makes a request with the headers that all have. It fails if the path is impossible.
pub(super) fn request(method: Method, address: &Address, path: &str) -> Result<EmptyRequest, Failure> {
    let mut request = Request::builder();
    if let Some(token) = address.token() {
        request = request.header(AUTHORIZATION, token.authorization());
    }
    request
        .method(method)
        .uri(path)
        .header(HOST, address.authority())
        .header(USER_AGENT, concat!("aircheckctl/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| no_answer(address, root_cause(&error)))
}

/// Asks to switch to another protocol. Returns the headers of the answer, the connection, and the bytes that came after
/// the headers.
pub(super) async fn switch<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    address: &Address,
    path: &str,
    headers: HeaderMap,
) -> Result<(HeaderMap, T, Bytes), Failure> {
    let mut request = request(Method::GET, address, path)?;
    request.headers_mut().extend(headers);
    let broken = |error: hyper::Error| no_answer(address, root_cause(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    let asked = async {
        let answer = timeout(TIMEOUT, sender.send_request(request)).await;
        let silent = |_| no_answer(address, format!("none within {}", units::span(TIMEOUT)));
        let (head, body) = answer.map_err(silent)?.map_err(broken)?.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(head.headers);
        }
        if head.status.is_success() {
            let why = format!("it answers HTTP {} instead of a WebSocket", head.status.as_u16());
            return Err(Failure::NotAStream { authority: address.authority().to_owned(), why });
        }
        let body = timeout(ERROR_BODY_TIMEOUT, Limited::new(body, MAX_ERROR_BYTES).collect()).await;
        let body = body.ok().and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default();
        Err(refused(head.status, &head.headers, &body))
    };
    // The connection has no task of its own, because it is taken out at the end.
    let (headers, parts) = match select(pin!(asked), pin!(connection.without_shutdown())).await {
        Either::Left((headers, connection)) => (headers?, connection.await),
        Either::Right((parts, asked)) => (asked.await?, parts),
    };
    let parts = parts.map_err(broken)?;
    Ok((headers, parts.io.into_inner(), parts.read_buf))
}

/// Returns the failure of a server that took the connection and sent nothing useful.
pub(super) fn no_answer(address: &Address, why: String) -> Failure {
    Failure::NoAnswer { authority: address.authority().to_owned(), why }
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
