//! The WebSocket of a server: blocks and gaps come, questions for the time and reports of what was heard go.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::client::http::{self as client, PATIENCE, not_a_stream};
use crate::client::message::{self, Hello, Said};
use crate::failure::{Failure, root_cause};
use crate::listen::target::Target;
use crate::units as words;

/// Longest message taken. The longest that aircheck makes, 100 ms of 32 channels at 768 kHz, has 9.9 MB.
const MAX_MESSAGE_BYTES: usize = 10 << 20;
/// What is read at a time: more than a few blocks, so that a listener that stood still catches up quickly.
const READ_BYTES: usize = 64 << 10;
/// How long the other side may take to hear that it is over, which is only polite.
const FAREWELL_PATIENCE: Duration = Duration::from_millis(200);
/// Longest reason for closing that is shown; the protocol has room for 123 bytes.
const REASON_CHARS: usize = 123;

/// A WebSocket whose server has said hello.
#[derive(Debug)]
pub(crate) struct WebSocket {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    hello: Hello,
    messages: u64,
    /// Kept, so that a call that was given up in the middle doesn't lose it.
    closed: Option<Option<CloseFrame>>,
}

impl WebSocket {
    /// Connects, and waits for the hello. Must run inside a runtime, on which it leaves the connection's task.
    ///
    /// # Errors
    ///
    /// Whatever keeps the stream from beginning.
    pub(crate) async fn open(target: &Target) -> Result<Self, Failure> {
        let io = TokioIo::new(client::upgrade(target).await?);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await;
        let hello = match timeout(PATIENCE, first_text(&mut socket)).await {
            Ok(Ok(Some(text))) => Hello::parse(&text),
            Ok(Ok(None)) => Err("its first message is no hello".to_owned()),
            Ok(Err(error)) => return Err(lost(&error, 1)),
            Err(_) => Err(format!("no hello within {}", words::span(PATIENCE))),
        };
        let hello = hello.map_err(|why| not_a_stream(target, why))?;
        Ok(Self { socket, hello, messages: 1, closed: None })
    }

    /// What the server said first.
    pub(crate) fn hello(&self) -> Hello {
        self.hello
    }

    /// What the server says next; `None` when it has ended the stream properly. May be given up and called again.
    ///
    /// # Errors
    ///
    /// [`Failure::Ended`] if it ended this listener, [`Failure::Lost`] if the connection ends without a word, and
    /// [`Failure::Message`] for what can't be understood.
    pub(crate) async fn next(&mut self) -> Result<Option<Said>, Failure> {
        while self.closed.is_none() {
            let message = match self.socket.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(lost(&error, self.messages + 1)),
                None => return Err(Failure::Lost("the server closed it without a word".to_owned())),
            };
            let said = match &message {
                Message::Binary(bytes) => self.hello.block(bytes).map(Said::Block),
                Message::Text(text) => message::text(text),
                Message::Close(frame) => {
                    self.closed = Some(frame.clone());
                    continue;
                }
                // tungstenite answers pings itself.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            self.messages += 1;
            return said.map(Some).map_err(|why| Failure::Message { number: self.messages, why });
        }
        // tungstenite has the answer to the close ready; it has to go out.
        let _ = timeout(FAREWELL_PATIENCE, self.socket.flush()).await;
        match self.closed.clone().flatten() {
            Some(CloseFrame { code: CloseCode::Normal, .. }) => Ok(None),
            Some(CloseFrame { code, reason }) => {
                Err(Failure::Ended { code: code.into(), why: words::quoted(&reason, REASON_CHARS) })
            }
            None => Err(Failure::Lost("the server closed it without a reason".to_owned())),
        }
    }

    /// Asks what time it is; the answer comes as [`Said::Clock`] with the same number.
    pub(crate) async fn ask_time(&mut self, asked: f64) {
        self.say(message::clock(asked)).await;
    }

    /// Reports that the beginning of a block was heard `at`, in Unix seconds by the server's clock.
    pub(crate) async fn heard(&mut self, sequence: u64, at: f64) {
        self.say(message::heard(sequence, at)).await;
    }

    /// Says that it is over on this side.
    pub(crate) async fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        let _ = timeout(FAREWELL_PATIENCE, self.socket.close(Some(frame))).await;
    }

    /// Some 60 bytes a second, which the kernel takes even where the server has stopped reading for hours. If the
    /// connection is broken, the next one who reads hears of it.
    async fn say(&mut self, text: String) {
        let _ = timeout(FAREWELL_PATIENCE, self.socket.send(Message::text(text))).await;
    }
}

async fn first_text(socket: &mut WebSocketStream<TokioIo<Upgraded>>) -> Result<Option<Utf8Bytes>, Error> {
    loop {
        match socket.next().await.transpose()? {
            Some(Message::Text(text)) => return Ok(Some(text)),
            Some(Message::Ping(_) | Message::Pong(_)) => {}
            _ => return Ok(None),
        }
    }
}

fn lost(error: &Error, number: u64) -> Failure {
    match error {
        Error::Capacity(_) => Failure::Message { number, why: "longer than any block is".to_owned() },
        Error::Utf8(_) => Failure::Message { number, why: "its text is not UTF-8".to_owned() },
        other => Failure::Lost(root_cause(other)),
    }
}
