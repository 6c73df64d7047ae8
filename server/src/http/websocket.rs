//! `/stream` as a WebSocket: packets to the listener, and its reports of what it has heard.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aircheck_api::{ClientText, Clock, LeaveReason, ServerText};
use aircheck_engine::Timestamp;
use futures_core::Stream as _;
use futures_sink::Sink as _;
use hyper_tungstenite::HyperWebsocketStream;
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use hyper_tungstenite::tungstenite::{Error, Message};
use tokio::io::AsyncWrite as _;
use tokio::time::{Sleep, sleep};

use crate::delivery::heard::HeardReports;
use crate::delivery::packet_reader::{Next, PacketReader, PendingBlocks};
use crate::mount::throttle::Throttle;
use crate::rendition::container::message;

/// The largest message that a listener may send. Its reports have 60 bytes.
const MAX_MESSAGE_BYTES: usize = 1024;
/// The buffer of what the listener sends: reports are short and few.
const READ_BYTES: usize = 4096;
/// With so many messages to send, no more are read: a gap, the packets of a block, and answers.
const MAX_OUTGOING: usize = 16;
/// How long the listener may take to answer a close: a round trip on any line.
const CLOSE_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns the settings of the connection. Every message is written at once and nothing is buffered beyond it, because a
/// session sends a message only when the one before is flushed.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

/// One listener's WebSocket, until either side ends it. As a future, it resolves when the connection is to be closed.
#[derive(Debug)]
pub(super) struct Session {
    socket: HyperWebsocketStream,
    packets: PacketReader,
    heard: HeardReports,
    /// The blocks that go out with the next message.
    pending: PendingBlocks,
    /// Messages to send, in this order: answers, and those of the last packet.
    out: VecDeque<Outgoing>,
    /// A message is written and not flushed yet.
    flushing: bool,
    /// No message follows those in `out`.
    over: bool,
    /// Runs while the listener has not answered the close.
    close_timeout: Option<Pin<Box<Sleep>>>,
    complaints: Throttle,
}

/// A message, and the blocks that are complete with it.
#[derive(Debug)]
struct Outgoing {
    message: Message,
    blocks: Option<PendingBlocks>,
}

impl Session {
    /// Makes a session that begins with the message `hello`.
    pub(super) fn new(socket: HyperWebsocketStream, packets: PacketReader, hello: String) -> Self {
        let hello = Outgoing { message: Message::text(hello), blocks: None };
        Self {
            socket,
            packets,
            heard: HeardReports::default(),
            pending: PendingBlocks::default(),
            out: VecDeque::from([hello]),
            flushing: false,
            over: false,
            close_timeout: None,
            complaints: Throttle::default(),
        }
    }

    /// Reads the listener's messages that have arrived.
    fn read_messages(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        // A listener that asks faster than it reads the answers is not read either, until it does.
        while self.out.len() < MAX_OUTGOING {
            match Pin::new(&mut self.socket).poll_next(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(Error::AlreadyClosed),
                Poll::Ready(Some(Err(Error::Capacity(_)))) => {
                    self.close(CloseCode::Size, "messages are too long");
                    return Ok(());
                }
                Poll::Ready(Some(Err(Error::Protocol(_) | Error::Utf8(_)))) => {
                    self.close(CloseCode::Protocol, "this is not a WebSocket message");
                    return Ok(());
                }
                Poll::Ready(Some(message)) => match message? {
                    Message::Text(text) => self.receive(&text),
                    Message::Binary(_) => {
                        self.close(CloseCode::Unsupported, "binary messages are not taken");
                        return Ok(());
                    }
                    Message::Close(_) => {
                        // tungstenite has the answer ready; it has to be flushed.
                        self.out.clear();
                        (self.flushing, self.over) = (true, true);
                        return Ok(());
                    }
                    // tungstenite answers pings itself.
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                },
            }
        }
        Ok(())
    }

    /// Takes a report or a question of the listener's.
    fn receive(&mut self, text: &str) {
        let now = Timestamp::now();
        let taken = match ClientText::parse(text) {
            Ok(ClientText::Clock(asked)) => {
                let answer = ServerText::Clock(Clock { asked, now: now.unix_seconds() });
                self.push(Message::text(answer.to_json()), None);
                return;
            }
            Ok(ClientText::Heard(heard)) => {
                self.heard.latency(heard, now).map(|latency| self.packets.listener().record_heard(latency))
            }
            Err(complaint) => Err(complaint),
        };
        if let Err(complaint) = taken
            && self.complaints.pass(now).is_some()
        {
            self.push(Message::text(ServerText::Error(complaint).to_json()), None);
        }
    }

    /// Ends the session after the messages that are to be sent already.
    fn close(&mut self, code: CloseCode, reason: &'static str) {
        self.push(Message::Close(Some(CloseFrame { code, reason: reason.into() })), None);
        self.over = true;
    }

    fn push(&mut self, message: Message, blocks: Option<PendingBlocks>) {
        if !self.over {
            self.out.push_back(Outgoing { message, blocks });
        }
    }

    /// Makes the messages of what was taken from the ring.
    fn push_next(&mut self, taken: &Next) {
        if let Some(gap) = taken.gap() {
            self.push(Message::text(message::gap(gap)), None);
        }
        match taken {
            Next::Packet { gap, item } => {
                self.heard.sent(item.stamp);
                self.pending.add(*gap, item.stamp.sequence);
                let mut messages = item.value.messages(item.stamp).into_iter().peekable();
                while let Some(message) = messages.next() {
                    let blocks = messages.peek().is_none().then(|| mem::take(&mut self.pending));
                    self.push(Message::Binary(message), blocks);
                }
            }
            Next::End { .. } => {
                let reason = self.packets.listener().leave_reason();
                let code = if reason == LeaveReason::Finished { CloseCode::Normal } else { CloseCode::Policy };
                self.close(code, reason.name());
            }
        }
    }

    /// Flushes the last message.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.flushing {
            ready!(Pin::new(&mut self.socket).poll_flush(context))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the listener answers the close or closes the connection, or until it has had time to.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timeout = self.close_timeout.get_or_insert_with(|| Box::pin(sleep(CLOSE_ANSWER_TIMEOUT)));
        loop {
            match Pin::new(&mut self.socket).poll_next(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return timeout.as_mut().poll(context),
            }
        }
    }

    fn poll_session(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            // Before a close is read: after it, nothing would report that the last message is flushed.
            let _ = self.poll_flush(context)?;
            if !self.over {
                self.read_messages(context)?;
            }
            ready!(self.poll_flush(context))?;
            if !self.out.is_empty() {
                ready!(Pin::new(&mut self.socket).poll_ready(context))?;
                if let Some(Outgoing { message, blocks }) = self.out.pop_front() {
                    let listener = self.packets.listener();
                    match blocks {
                        Some(PendingBlocks { numbers, blocks }) => {
                            listener.record_write(numbers, message.len(), blocks, Timestamp::now());
                        }
                        None => drop(listener.socket().begin_write()),
                    }
                    Pin::new(&mut self.socket).start_send(message)?;
                    self.flushing = true;
                }
            } else if self.over {
                return self.poll_answer(context).map(Ok);
            } else {
                let taken = ready!(self.packets.poll_next(context));
                self.push_next(&taken);
            }
        }
    }
}

impl Future for Session {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let over = ready!(self.poll_session(context));
        if let Err(Error::ConnectionClosed) = over {
            // tungstenite has written everything, the answer to the close last, but has not flushed it.
            let _ = Pin::new(self.socket.get_mut()).poll_flush(context);
        }
        // Any other error ends the connection as well.
        Poll::Ready(())
    }
}
