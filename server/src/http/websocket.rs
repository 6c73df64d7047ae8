//! `/stream` as a WebSocket: a listener with a way back, by which it tells what it has heard.

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

/// Largest message that a listener may send: its reports have 60 bytes.
const SAID_MOST: usize = 1024;
/// What is read at a time; reports are short and few.
const READ_BYTES: usize = 4096;
/// Messages that wait to go out before no more are read: a gap, the packets of a block, and answers.
const ANSWERS_MOST: usize = 16;
/// For the answer to a close: a round trip on any line. Whoever reads no more is not waited for.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// How the connection is set up. Every message is written at once and nothing is buffered beyond it, for a session
/// sends the next one only when the last is flushed.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(SAID_MOST))
        .max_frame_size(Some(SAID_MOST))
}

/// One listener's WebSocket, until either side ends it. As a future, it is over when the connection is to be closed.
#[derive(Debug)]
pub(super) struct Session {
    socket: HyperWebsocketStream,
    packets: PacketReader,
    heard: HeardReports,
    /// The blocks that go out with the next message.
    pending: PendingBlocks,
    /// What is to go out, one after the other: answers, and what the packets gave last.
    out: VecDeque<Outgoing>,
    /// A message was written and is not flushed yet.
    flushing: bool,
    /// Nothing comes after what is to go out.
    over: bool,
    /// How long its answer to the close is waited for.
    patience: Option<Pin<Box<Sleep>>>,
    complaints: Throttle,
}

/// A message, and the blocks that are complete with it.
#[derive(Debug)]
struct Outgoing {
    message: Message,
    blocks: Option<PendingBlocks>,
}

impl Session {
    /// A session that begins with `hello`.
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
            patience: None,
            complaints: Throttle::default(),
        }
    }

    /// Takes in what the listener says, without waiting for it.
    fn listen(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        // Who asks faster than it reads the answers is not read either, until it does.
        while self.out.len() < ANSWERS_MOST {
            match Pin::new(&mut self.socket).poll_next(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(Error::AlreadyClosed),
                Poll::Ready(Some(Err(Error::Capacity(_)))) => {
                    self.close(CloseCode::Size, "messages are too long");
                    return Ok(());
                }
                Poll::Ready(Some(Err(Error::Protocol(_) | Error::Utf8(_)))) => {
                    self.close(CloseCode::Protocol, "this is no WebSocket any more");
                    return Ok(());
                }
                Poll::Ready(Some(message)) => match message? {
                    Message::Text(text) => self.hear(&text),
                    Message::Binary(_) => {
                        self.close(CloseCode::Unsupported, "binary messages are not taken");
                        return Ok(());
                    }
                    Message::Close(_) => {
                        // tungstenite has the answer ready; it has to go out.
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

    fn hear(&mut self, text: &str) {
        let now = Timestamp::now();
        let told = match ClientText::parse(text) {
            Ok(ClientText::Clock(asked)) => {
                let answer = ServerText::Clock(Clock { asked, now: now.unix_seconds() });
                self.push(Message::text(answer.to_json()), None);
                return;
            }
            Ok(ClientText::Heard(heard)) => {
                self.heard.latency(heard, now).map(|latency| self.packets.listener().heard(latency))
            }
            Err(complaint) => Err(complaint),
        };
        if let Err(complaint) = told
            && self.complaints.pass(now).is_some()
        {
            self.push(Message::text(ServerText::Error(complaint).to_json()), None);
        }
    }

    /// Ends it after what is to go out already.
    fn close(&mut self, code: CloseCode, reason: &'static str) {
        self.push(Message::Close(Some(CloseFrame { code, reason: reason.into() })), None);
        self.over = true;
    }

    fn push(&mut self, message: Message, blocks: Option<PendingBlocks>) {
        if !self.over {
            self.out.push_back(Outgoing { message, blocks });
        }
    }

    fn taken(&mut self, taken: &Next) {
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

    /// Has the last message written.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.flushing {
            ready!(Pin::new(&mut self.socket).poll_flush(context))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the answer to the close, for a while, or for the other side to hang up.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(ANSWER_PATIENCE)));
        loop {
            match Pin::new(&mut self.socket).poll_next(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return patience.as_mut().poll(context),
            }
        }
    }

    fn poll_session(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            // Before a close can come, after which nothing would say that what was written is written.
            let _ = self.poll_flush(context)?;
            if !self.over {
                self.listen(context)?;
            }
            ready!(self.poll_flush(context))?;
            if !self.out.is_empty() {
                ready!(Pin::new(&mut self.socket).poll_ready(context))?;
                if let Some(Outgoing { message, blocks }) = self.out.pop_front() {
                    let listener = self.packets.listener();
                    match blocks {
                        Some(PendingBlocks { numbers, blocks }) => {
                            listener.write(numbers, message.len(), blocks, Timestamp::now());
                        }
                        None => drop(listener.socket().write()),
                    }
                    Pin::new(&mut self.socket).start_send(message)?;
                    self.flushing = true;
                }
            } else if self.over {
                return self.poll_answer(context).map(Ok);
            } else {
                let taken = ready!(self.packets.poll_next(context));
                self.taken(&taken);
            }
        }
    }
}

impl Future for Session {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let over = ready!(self.poll_session(context));
        if let Err(Error::ConnectionClosed) = over {
            // tungstenite has written everything, the answer to the close last, and did not say so to what is below.
            let _ = Pin::new(self.socket.get_mut()).poll_flush(context);
        }
        // Whatever else went wrong with the connection, it is over.
        Poll::Ready(())
    }
}
