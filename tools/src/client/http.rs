//! The HTTP request for a stream, and what comes back: the stream itself, or the way into a WebSocket.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::client::format::{Format, MAX_CHANNELS, MAX_RATE_HZ};
use crate::client::url::Address;
use crate::failure::{Failure, io_words, root_cause};
use crate::listen::target::Target;
use crate::units as words;

/// How long connecting and the answer's header may take, each. A server that lives answers at once; Linux would go
/// on trying to connect for two minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How much of an error's body is read, and for how long. Ours are one short line.
const ERROR_BODY_BYTES: usize = 64 << 10;
const ERROR_BODY_PATIENCE: Duration = Duration::from_secs(2);
/// Largest document that is read: the rows of 20 000 listeners.
const DOCUMENT_BYTES: usize = 32 << 20;
/// A server's answer: a stream that has begun.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the headers say.
    pub(crate) format: Format,
    /// Whether its clock is ours: the connection's two ends have the same address.
    pub(crate) same_machine: bool,
    body: Incoming,
}

impl Answer {
    /// The next bytes; `None` when the server has ended the stream properly.
    ///
    /// # Errors
    ///
    /// [`Failure::Lost`] if the connection ends before the stream does.
    pub(crate) async fn bytes(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::Lost(root_cause(&error))),
                // A frame that isn't data is a trailer.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Connects and asks for the stream. Must run inside a runtime, on which it leaves the connection's task.
///
/// # Errors
///
/// Whatever keeps the stream from beginning.
pub(crate) async fn ask(target: &Target) -> Result<Answer, Failure> {
    let tcp = connect(target.address()).await?;
    let same_machine = match (tcp.peer_addr(), tcp.local_addr()) {
        (Ok(peer), Ok(local)) => peer.ip() == local.ip(),
        _ => false,
    };
    let response = answer(target, tcp, HeaderMap::new()).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    let format = format(response.headers()).map_err(|why| not_a_stream(target, why))?;
    Ok(Answer { format, same_machine, body: response.into_body() })
}

/// Connects and asks for a WebSocket, as RFC 6455 wants it asked. Must run inside a runtime, as above.
///
/// # Errors
///
/// Whatever keeps it from being one.
pub(crate) async fn upgrade(target: &Target) -> Result<Upgraded, Failure> {
    let tcp = connect(target.address()).await?;
    // Messages to the server are short and rare; held back they would spoil the measurement of its clock.
    let _ = tcp.set_nodelay(true);
    let key = generate_key();
    let sent = HeaderValue::from_str(&key).map_err(|error| no_answer(target.address(), root_cause(&error)))?;
    let headers = HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (header::SEC_WEBSOCKET_KEY, sent),
    ]);
    let response = answer(target, tcp, headers).await?;
    let status = response.status();
    if status.is_success() {
        return Err(not_a_stream(target, format!("it answers HTTP {} instead of a WebSocket", status.as_u16())));
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|accepted| accepted.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(not_a_stream(target, "it switches protocols, but not to a WebSocket of ours".to_owned()));
    }
    hyper::upgrade::on(response).await.map_err(|error| Failure::Lost(root_cause(&error)))
}

/// A whole document, such as `/api/v1/status`. Must run inside a runtime, as above.
///
/// # Errors
///
/// Whatever keeps it from coming, and any status but 200.
pub(crate) async fn document(address: &Address, path: &str) -> Result<Bytes, Failure> {
    let response = request(address, path, connect(address).await?, HeaderMap::new()).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    match timeout(PATIENCE, Limited::new(response.into_body(), DOCUMENT_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(no_answer(address, root_cause(&*error))),
        Err(_) => Err(no_answer(address, format!("not all of it within {}", words::span(PATIENCE)))),
    }
}

/// The failure of a server that speaks HTTP, but not as aircheck does.
pub(crate) fn not_a_stream(target: &Target, why: String) -> Failure {
    Failure::NotAStream { authority: target.address().authority().to_owned(), why }
}

/// A TCP connection to the server.
///
/// # Errors
///
/// [`Failure::Connect`].
pub(crate) async fn connect(address: &Address) -> Result<TcpStream, Failure> {
    let why = match timeout(PATIENCE, TcpStream::connect(address.endpoint())).await {
        Ok(Ok(tcp)) => return Ok(tcp),
        Ok(Err(error)) => io_words(&error),
        Err(_) => format!("no answer within {}", words::span(PATIENCE)),
    };
    let hint = if address.names_port() { "" } else { " (port 80, as none was given; aircheck's own is 8700)" };
    Err(Failure::Connect { authority: address.authority().to_owned(), why, hint })
}

/// The answer to a request for the target with `headers` besides the usual ones.
async fn answer(target: &Target, tcp: TcpStream, headers: HeaderMap) -> Result<Response<Incoming>, Failure> {
    request(target.address(), &target.path_and_query(), tcp, headers).await
}

async fn request(
    address: &Address,
    path: &str,
    tcp: TcpStream,
    headers: HeaderMap,
) -> Result<Response<Incoming>, Failure> {
    match timeout(PATIENCE, send(address, path, tcp, headers)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(why)) => Err(no_answer(address, why)),
        Err(_) => Err(no_answer(address, format!("none within {}", words::span(PATIENCE)))),
    }
}

async fn send(address: &Address, path: &str, tcp: TcpStream, headers: HeaderMap) -> Result<Response<Incoming>, String> {
    let mut request = Request::get(path)
        .header(HOST, address.authority())
        .header(USER_AGENT, concat!("aircheckctl/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| root_cause(&error))?;
    request.headers_mut().extend(headers);
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(|error| root_cause(&error))?;
    // Its error, if any, also reaches the one who reads the body, or the WebSocket.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(|error| root_cause(&error))
}

/// The failure of a server that took the connection, and said nothing useful.
pub(crate) fn no_answer(address: &Address, why: String) -> Failure {
    Failure::NoAnswer { authority: address.authority().to_owned(), why }
}

/// The server's own words for it, from `{"error":"…"}`; else the status's usual ones.
pub(crate) async fn refusal(response: Response<Incoming>) -> Failure {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let status = response.status();
    let hint = match response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()) {
        Some(seconds) if seconds.parse::<u32>().is_ok() => format!("; try again in {seconds} s"),
        _ => String::new(),
    };
    let body = Limited::new(response.into_body(), ERROR_BODY_BYTES).collect();
    let said = match timeout(ERROR_BODY_PATIENCE, body).await {
        Ok(Ok(body)) => serde_json::from_slice(&body.to_bytes()).ok().map(|ErrorBody { error }| error),
        _ => None,
    };
    let why = match said {
        Some(error) => words::quoted(&error, 300),
        None => status.canonical_reason().unwrap_or("no reason given").to_lowercase(),
    };
    Failure::Refused { status: status.as_u16(), why, hint }
}

fn format(headers: &HeaderMap) -> Result<Format, String> {
    let rate_hz = number(headers, "X-Audio-Rate", MAX_RATE_HZ)?;
    let channels = number(headers, "X-Audio-Channels", u32::from(MAX_CHANNELS))?;
    Ok(Format { rate_hz, channels: u16::try_from(channels).unwrap_or(MAX_CHANNELS) })
}

fn number(headers: &HeaderMap, name: &str, max: u32) -> Result<u32, String> {
    let value = headers.get(name).ok_or_else(|| format!("its answer has no {name} header"))?;
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.trim().parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("its {name} is '{}', not a number from 1 to {max}", words::quoted(&text, 40))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rate: Option<&'static str>, channels: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        rate.map(|value| headers.insert("X-Audio-Rate", value.parse().unwrap()));
        channels.map(|value| headers.insert("X-Audio-Channels", value.parse().unwrap()));
        headers
    }

    #[test]
    fn the_format_comes_from_the_headers() {
        let stereo = format(&headers(Some("48000"), Some("2"))).unwrap();
        assert_eq!(stereo, Format { rate_hz: 48_000, channels: 2 });
        assert_eq!(stereo.span(480), Duration::from_millis(10));
    }

    #[test]
    fn a_missing_or_impossible_header_is_named() {
        let cases = [
            (None, Some("2"), "no X-Audio-Rate"),
            (Some("48000"), None, "no X-Audio-Channels"),
            (Some("0"), Some("2"), "X-Audio-Rate is '0'"),
            (Some("48000"), Some("33"), "1 to 32"),
            (Some("fast"), Some("2"), "'fast'"),
        ];
        for (rate, channels, words) in cases {
            let why = format(&headers(rate, channels)).unwrap_err();
            assert!(why.contains(words), "{why:?} should say {words:?}");
        }
    }
}
