//! Bytes that a listener sends on its connection: none, a request too many, or messages of a WebSocket.

use aircheck_api::{ClientText, Clock, ServerText};
use aircheck_engine::{Stamp, Timestamp};

use crate::delivery::client_messages::{ClientMessage, ClientMessages, close_answer, close_frame};
use crate::delivery::heard::HeardReports;
use crate::delivery::listener::Listener;
use crate::delivery::stale::{NextPacket, StaleNotices};
use crate::mount::throttle::Throttle;
use crate::rendition::packet::{self, Wire, push_frame};
use crate::rendition::packet_log::PacketLog;

/// Bytes from one listener, as far as they matter later.
#[derive(Debug)]
pub(super) enum Input {
    /// A stream is the last response of its connection, so anything that follows the request is too much.
    Http {
        /// Whether something followed.
        has_more: bool,
    },
    /// The body of its request, or nothing. It is passed over, with all that follows it.
    Body,
    /// Messages.
    WebSocket(Box<Messages>),
}

/// The messages of a WebSocket listener.
#[derive(Debug, Default)]
pub(super) struct Messages {
    incoming: ClientMessages,
    heard: HeardReports,
    complaints: Throttle,
    /// Whether it has sent a report or a question, as players do.
    is_player: bool,
    stale: StaleNotices,
}

/// The frames that answer what was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// One after the other.
    pub(super) bytes: Vec<u8>,
    /// Whether the last one closes the session.
    pub(super) is_last: bool,
}

impl Input {
    /// `has_body` says whether the request has a body, which may not have come yet.
    pub(super) fn new(wire: Wire, has_body: bool) -> Self {
        match wire {
            Wire::WebSocket => Self::WebSocket(Box::default()),
            Wire::Chunked | Wire::Plain if has_body => Self::Body,
            Wire::Chunked | Wire::Plain => Self::Http { has_more: false },
        }
    }

    /// Returns whether something followed the request for the stream.
    pub(super) fn has_more(&self) -> bool {
        matches!(self, Self::Http { has_more: true })
    }

    /// Notes that a packet with this stamp was sent.
    pub(super) fn sent(&mut self, stamp: Stamp) {
        if let Self::WebSocket(messages) = self {
            messages.heard.sent(stamp);
        }
    }

    /// Returns the message that tells a WebSocket player before `packet` that sound is old, if it is due. A client that only listens
    /// has no buffer of its own to drop, and may not know this message.
    pub(super) fn stale_notice(&mut self, packet: NextPacket, listener: &Listener) -> Option<String> {
        let Self::WebSocket(messages) = self else { return None };
        let stale = messages.stale.before(packet, listener.is_behind(), listener.behind_at());
        stale.filter(|_| messages.is_player).map(|stale| ServerText::Stale(stale).to_json())
    }

    /// Takes what was read from the connection, and returns the answer.
    pub(super) fn take(&mut self, bytes: &[u8], listener: &Listener, log: &PacketLog, now: Timestamp) -> Answer {
        let mut answer = Answer::default();
        match self {
            Self::Http { has_more } => *has_more = true,
            Self::Body => {}
            Self::WebSocket(messages) => messages.take(bytes, listener, log, now, &mut answer),
        }
        answer
    }
}

impl Messages {
    fn take(&mut self, bytes: &[u8], listener: &Listener, log: &PacketLog, now: Timestamp, answer: &mut Answer) {
        self.incoming.push(bytes);
        // Pings may be answered less often than they come (RFC 6455, section 5.5.3): the last of those read together is.
        let mut last_ping = None;
        while !answer.is_last
            && let Some(message) = self.incoming.take()
        {
            match message {
                ClientMessage::Text(text) => {
                    if let Some(text) = self.reply(&text, listener, log, now) {
                        push_frame(&mut answer.bytes, packet::TEXT, text.to_json().as_bytes());
                    }
                }
                ClientMessage::Ping(payload) => last_ping = Some(payload),
                ClientMessage::Pong(before) => listener.take_pong(before, now),
                ClientMessage::Close(code) => answer.close(close_answer(code)),
                ClientMessage::Refused(code, reason) => answer.close(close_frame(code, reason)),
            }
        }
        if let Some(payload) = last_ping.filter(|_| !answer.is_last) {
            push_frame(&mut answer.bytes, packet::PONG, &payload);
        }
    }

    /// Returns the reply to a report or a question.
    fn reply(&mut self, text: &str, listener: &Listener, log: &PacketLog, now: Timestamp) -> Option<ServerText> {
        let text = ClientText::parse(text);
        self.is_player |= text.is_ok();
        let taken = match text {
            Ok(ClientText::Clock(asked)) => return Some(ServerText::Clock(Clock { asked, now: now.unix_seconds() })),
            Ok(ClientText::Heard(heard)) => {
                let latency = self.heard.latency(heard, now, |sequence| log.captured_at(sequence));
                latency.map(|latency| listener.record_heard(heard.sequence, latency, now))
            }
            Err(complaint) => Err(complaint),
        };
        let complaint = taken.err()?;
        self.complaints.pass(now).map(|_| ServerText::Error(complaint))
    }
}

impl Answer {
    fn close(&mut self, frame: Vec<u8>) {
        self.bytes.extend(frame);
        self.is_last = true;
    }
}
