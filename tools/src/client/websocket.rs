//! The WebSocket of a server: blocks and gaps come, questions for the time and reports of what was heard go.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use aircheck_api::{ClientText, Clock, GapNotice, MessageHeader, PROTOCOL_VERSION, Payload, ServerText, StreamFormat};
use bytes::Bytes;
use futures_util::{Sink as _, SinkExt, StreamExt};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Error, Utf8Bytes};

use super::http::{self, TIMEOUT};
use super::url::Address;
use crate::failure::{Failure, root_cause};
use crate::sanitize::sanitize;
use crate::units;

/// Longest message that is taken. The longest that aircheck makes, 100 ms of 32 channels at 768 kHz, has 9.9 MB.
const MAX_MESSAGE_BYTES: usize = 10 << 20;
/// Bytes that are read at a time: several blocks, so that a listener that stood still catches up quickly.
const READ_BYTES: usize = 64 << 10;
/// How long a message to the server and the answer to a close may take; both are only a courtesy.
const SEND_TIMEOUT: Duration = Duration::from_millis(200);
/// Longest reason for closing that is shown; the protocol has room for 123 bytes.
const MAX_REASON_CHARS: usize = 123;
/// How much is shown of a message that cannot be read, and of an error of the server.
const EXCERPT_CHARS: usize = 60;
const MAX_ERROR_CHARS: usize = 200;
/// Highest rate in Hz, most channels and longest block in frames that aircheck streams: a hello with more is not one
/// of aircheck's.
const MAX_RATE_HZ: u32 = 768_000;
const MAX_CHANNELS: u16 = 32;
const MAX_BLOCK_FRAMES: u32 = 76_800;

/// A WebSocket whose server has said hello.
#[derive(Debug)]
pub(crate) struct WebSocket<T> {
    socket: WebSocketStream<T>,
    payload: Payload,
    format: StreamFormat,
    messages: u64,
    /// Kept, so that a call that was cancelled does not lose it.
    closed: Option<Option<CloseFrame>>,
}

/// A message of the server after its hello.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    /// A block or a packet.
    Block(MessageHeader, Bytes),
    /// A loss.
    Gap(GapNotice),
    /// The answer to a question for the time.
    Clock(Clock),
    /// An error about a message of ours.
    Error(String),
    /// A message of a kind that is not known here: a newer server may say more.
    Unknown,
}

impl<T: AsyncRead + AsyncWrite + Unpin> WebSocket<T> {
    /// Asks for a WebSocket, as RFC 6455 describes, and waits for the hello.
    pub(crate) async fn open(io: T, address: &Address, path: &str) -> Result<Self, Failure> {
        let not_a_stream = |why| Failure::NotAStream { authority: address.authority().to_owned(), why };
        let key = generate_key();
        let sent = HeaderValue::from_str(&key).map_err(|error| http::no_answer(address, root_cause(&error)))?;
        let headers = HeaderMap::from_iter([
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            (SEC_WEBSOCKET_KEY, sent),
        ]);
        let (headers, io, read_ahead) = http::switch(io, address, path, headers).await?;
        if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| *accept != *derive_accept_key(key.as_bytes())) {
            return Err(not_a_stream("it switches to another protocol than the WebSocket".to_owned()));
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let mut socket =
            WebSocketStream::from_partially_read(io, read_ahead.to_vec(), Role::Client, Some(config)).await;
        let hello = match timeout(TIMEOUT, first_text(&mut socket)).await {
            Ok(Ok(Some(text))) => read_hello(&text),
            Ok(Ok(None)) => Err("its first message is not a hello".to_owned()),
            Ok(Err(error)) => return Err(lost(&error, 1)),
            Err(_) => Err(format!("no hello within {}", units::span(TIMEOUT))),
        };
        let (payload, format) = hello.map_err(not_a_stream)?;
        Ok(Self { socket, payload, format, messages: 1, closed: None })
    }

    /// Returns what the server's binary messages carry.
    pub(crate) fn payload(&self) -> Payload {
        self.payload
    }

    /// Returns rate, channels and block length, as the server said in its hello.
    pub(crate) fn format(&self) -> StreamFormat {
        self.format
    }

    /// Returns how many messages have come.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns the next message, or `None` when the server has ended the stream properly. A cancelled call loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Failure::Ended`] if the server ended this listener, [`Failure::Lost`] if the connection ends without a close,
    /// and [`Failure::Message`] for a message that cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Failure> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Does the same for a caller that waits for several things.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Message>, Failure>> {
        while self.closed.is_none() {
            let message = match ready!(self.socket.poll_next_unpin(context)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(lost(&error, self.messages + 1))),
                None => return Poll::Ready(Err(Failure::Lost("the server closed it without a word".to_owned()))),
            };
            let read = match message {
                tungstenite::Message::Binary(bytes) => block(bytes),
                tungstenite::Message::Text(text) => read_text(&text),
                tungstenite::Message::Close(frame) => {
                    self.closed = Some(frame);
                    continue;
                }
                // tungstenite answers pings itself.
                _ => continue,
            };
            self.messages += 1;
            return Poll::Ready(read.map(Some).map_err(|why| Failure::Message { number: self.messages, why }));
        }
        // tungstenite has the answer to the close ready. Where it cannot go out at once, the server does not wait for
        // it.
        let _ = std::pin::Pin::new(&mut self.socket).poll_flush(context);
        Poll::Ready(match self.closed.as_ref().and_then(Option::as_ref) {
            Some(CloseFrame { code: CloseCode::Normal, .. }) => Ok(None),
            Some(CloseFrame { code, reason }) => {
                Err(Failure::Ended { code: u16::from(*code), why: sanitize(reason, MAX_REASON_CHARS) })
            }
            None => Err(Failure::Lost("the server closed it without a reason".to_owned())),
        })
    }

    /// Sends a message, some 60 bytes, which the kernel takes even where the server has stopped reading for hours. If
    /// the connection is broken, the next read fails.
    pub(crate) async fn send(&mut self, text: ClientText) {
        let _ = timeout(SEND_TIMEOUT, self.socket.send(tungstenite::Message::text(text.to_json()))).await;
    }

    /// Closes the stream from this side.
    pub(crate) async fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        let _ = timeout(SEND_TIMEOUT, self.socket.close(Some(frame))).await;
    }
}

async fn first_text<T: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<T>,
) -> Result<Option<Utf8Bytes>, Error> {
    loop {
        match socket.next().await.transpose()? {
            Some(tungstenite::Message::Text(text)) => return Ok(Some(text)),
            Some(tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_)) => {}
            _ => return Ok(None),
        }
    }
}

/// Reads the first message, and checks that it can be one of aircheck's.
fn read_hello(text: &str) -> Result<(Payload, StreamFormat), String> {
    // The version first: a hello of another one may have another form.
    let version = serde_json::from_str::<Value>(text).ok().and_then(|text| text["hello"]["version"].as_u64());
    if let Some(version) = version.filter(|version| *version != u64::from(PROTOCOL_VERSION)) {
        return Err(other_version(version));
    }
    let ServerText::Hello(hello) = parse(text)?.ok_or("its first message is not a hello")? else {
        return Err("its first message is not a hello".to_owned());
    };
    if hello.rate_hz == 0 || hello.rate_hz > MAX_RATE_HZ {
        return Err(format!("it says {} Hz, not 1 to {MAX_RATE_HZ}", hello.rate_hz));
    }
    if !(1..=MAX_CHANNELS).contains(&hello.channels) {
        return Err(format!("it says {} channels, not 1 to {MAX_CHANNELS}", hello.channels));
    }
    if !(1..=MAX_BLOCK_FRAMES).contains(&hello.block_frames) {
        return Err(format!("its blocks have {} frames, not 1 to {MAX_BLOCK_FRAMES}", hello.block_frames));
    }
    Ok((hello.payload, hello.format()))
}

fn block(message: Bytes) -> Result<Message, String> {
    let (header, payload) = MessageHeader::split(&message).map_err(|error| match error {
        aircheck_api::HeaderError::Version(version) => other_version(version.into()),
        error => error.to_string(),
    })?;
    let payload = message.slice_ref(payload);
    Ok(Message::Block(header, payload))
}

fn read_text(text: &str) -> Result<Message, String> {
    Ok(match parse(text)? {
        Some(ServerText::Gap(gap)) => Message::Gap(gap),
        Some(ServerText::Clock(clock)) => Message::Clock(clock),
        Some(ServerText::Error(error)) => Message::Error(sanitize(&error, MAX_ERROR_CHARS)),
        // It tells of blocks and losses, not of titles.
        Some(ServerText::Hello(_) | ServerText::Epoch(_) | ServerText::Stale(_) | ServerText::Metadata(_)) | None => {
            Message::Unknown
        }
    })
}

fn parse(text: &str) -> Result<Option<ServerText>, String> {
    let excerpt = || sanitize(text.trim(), EXCERPT_CHARS);
    if !text.trim_start().starts_with('{') {
        return Err(format!("not a JSON object: {}", excerpt()));
    }
    ServerText::parse(text).map_err(|error| format!("{error}: {}", excerpt()))
}

fn other_version(version: u64) -> String {
    format!(
        "it speaks version {version}, and this aircheckctl {PROTOCOL_VERSION} (use the one that came with the server)"
    )
}

fn lost(error: &Error, number: u64) -> Failure {
    match error {
        Error::Capacity(_) => Failure::Message { number, why: "it is longer than any block".to_owned() },
        Error::Utf8(_) => Failure::Message { number, why: "its text is not UTF-8".to_owned() },
        other => Failure::Lost(root_cause(other)),
    }
}
