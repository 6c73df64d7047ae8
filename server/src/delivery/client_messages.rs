//! The messages that a WebSocket listener sends (RFC 6455), and the frames that end its session.

use std::io::Cursor;
use std::ops::Range;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::rendition::packet::{CLOSE, push_frame};

/// The largest message that a listener may send. Its reports have 60 bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024;
/// The largest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: usize = 125;

const NOT_A_MESSAGE: ClientMessage = ClientMessage::Refused(CloseCode::Protocol, "this is not a WebSocket message");
const TOO_LONG: ClientMessage = ClientMessage::Refused(CloseCode::Size, "messages are too long");
const BINARY: ClientMessage = ClientMessage::Refused(CloseCode::Unsupported, "binary messages are not taken");

/// The messages that a WebSocket listener sends, put together from the bytes of its connection.
///
/// Memory is held only while a message is incomplete, and never more than the largest message, a control frame and
/// their headers need: 1.2 KB. A frame that is too long is refused by its header.
///
/// ```
/// use aircheck_server::delivery::client_messages::{ClientMessage, ClientMessages};
///
/// let mut messages = ClientMessages::default();
/// // A text with the mask 01 02 03 04.
/// messages.push(&[0x81, 0x82, 1, 2, 3, 4]);
/// assert_eq!(messages.take(), None);
/// messages.push(&[b'h' ^ 1, b'i' ^ 2]);
/// assert_eq!(messages.take(), Some(ClientMessage::Text("hi".to_owned())));
/// ```
#[derive(Debug, Default)]
pub struct ClientMessages {
    /// Bytes of the connection. The first `taken` of them are taken.
    bytes: Vec<u8>,
    taken: usize,
    /// The frames of an incomplete text, joined.
    text: Option<Vec<u8>>,
    /// No message follows: the listener has closed the session, or was refused.
    is_over: bool,
}

/// A message of a WebSocket listener.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// A report or a question.
    Text(String),
    /// A ping. Its answer is a pong with the same bytes.
    Ping(Vec<u8>),
    /// The answer to a ping that carried this number.
    Pong(u64),
    /// The end of the session. Its answer is [`close_answer`] with this code.
    Close(Option<u16>),
    /// Bytes that are not taken. The session must be closed with this code and reason.
    Refused(CloseCode, &'static str),
}

impl ClientMessages {
    /// Adds bytes of the connection, or drops them if the last message was [`Close`](ClientMessage::Close) or
    /// [`Refused`](ClientMessage::Refused).
    ///
    /// For bounded memory, all messages must be taken before the next bytes are pushed.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.is_over {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Takes the next whole message. Returns `None` until more bytes make one, and for ever after
    /// [`Close`](ClientMessage::Close) or [`Refused`](ClientMessage::Refused). Pongs that carry no number are passed over.
    pub fn take(&mut self) -> Option<ClientMessage> {
        let message = self.next_message().unwrap_or_else(Some);
        match message {
            Some(ClientMessage::Text(_) | ClientMessage::Ping(_) | ClientMessage::Pong(_)) => {}
            Some(ClientMessage::Close(_) | ClientMessage::Refused(..)) => {
                *self = Self { is_over: true, ..Self::default() };
            }
            None => {
                self.bytes.drain(..self.taken);
                self.bytes.shrink_to_fit();
                self.taken = 0;
            }
        }
        message
    }

    /// Takes frames until a message is whole. The error is a refusal.
    fn next_message(&mut self) -> Result<Option<ClientMessage>, ClientMessage> {
        while let Some((header, payload)) = self.next_frame()? {
            let payload = &self.bytes[payload];
            match header.opcode {
                OpCode::Control(Control::Ping) => return Ok(Some(ClientMessage::Ping(payload.to_vec()))),
                OpCode::Control(Control::Close) => return read_close(payload).map(Some),
                OpCode::Control(Control::Pong) => {
                    if let Ok(number) = payload.try_into() {
                        return Ok(Some(ClientMessage::Pong(u64::from_be_bytes(number))));
                    }
                }
                OpCode::Control(Control::Reserved(_)) => {}
                OpCode::Data(_) => {
                    let mut text = self.text.take().unwrap_or_default();
                    // Without the room that a vector takes in advance: it may stay for as long as the session.
                    text.reserve_exact(payload.len());
                    text.extend_from_slice(payload);
                    if header.is_final {
                        let text = String::from_utf8(text).map_err(|_| NOT_A_MESSAGE)?;
                        return Ok(Some(ClientMessage::Text(text)));
                    }
                    self.text = Some(text);
                }
            }
        }
        Ok(None)
    }

    /// Takes the next whole frame, and returns where its unmasked payload is in `bytes`. The error is a refusal.
    fn next_frame(&mut self) -> Result<Option<(FrameHeader, Range<usize>)>, ClientMessage> {
        let mut unread = Cursor::new(&self.bytes[self.taken..]);
        let Some((header, length)) = FrameHeader::parse(&mut unread).map_err(|_| NOT_A_MESSAGE)? else {
            return Ok(None);
        };
        let start = self.taken + unread.position() as usize;
        let (length, mask) = self.check(&header, length)?;
        let range = start..start + length;
        let Some(payload) = self.bytes.get_mut(range.clone()) else {
            return Ok(None);
        };
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        self.taken = range.end;
        Ok(Some((header, range)))
    }

    /// Checks a frame by its header, before its payload is waited for. Returns the length and the mask of the payload.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<(usize, [u8; 4]), ClientMessage> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE_BYTES {
            return Err(TOO_LONG);
        }
        let is_in_place = match header.opcode {
            OpCode::Control(_) => header.is_final && length <= MAX_CONTROL_BYTES,
            OpCode::Data(Data::Continue) => self.text.is_some(),
            OpCode::Data(_) => self.text.is_none(),
        };
        let is_reserved = header.rsv1 || header.rsv2 || header.rsv3;
        match header.mask {
            Some(mask) if is_in_place && !is_reserved => match header.opcode {
                OpCode::Data(Data::Binary) => Err(BINARY),
                OpCode::Data(_) if self.text.as_ref().map_or(0, Vec::len) + length > MAX_MESSAGE_BYTES => Err(TOO_LONG),
                _ => Ok((length, mask)),
            },
            _ => Err(NOT_A_MESSAGE),
        }
    }
}

/// Reads the payload of a close: nothing, or a code and a reason (RFC 6455, section 5.5.1).
fn read_close(payload: &[u8]) -> Result<ClientMessage, ClientMessage> {
    let code = match payload {
        [] => None,
        [high, low, reason @ ..] if str::from_utf8(reason).is_ok() => {
            let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
            // Codes that must not be sent (section 7.4) are not sent back either.
            Some(if code.is_allowed() { code } else { CloseCode::Protocol }.into())
        }
        _ => return Err(NOT_A_MESSAGE),
    };
    Ok(ClientMessage::Close(code))
}

/// Makes the frame that closes a session. The reason has at most 123 bytes.
#[must_use]
pub fn close_frame(code: CloseCode, reason: &str) -> Vec<u8> {
    debug_assert!(reason.len() + 2 <= MAX_CONTROL_BYTES, "the reason is too long for a control frame: {reason}");
    let mut frame = Vec::new();
    push_frame(&mut frame, CLOSE, &[&u16::from(code).to_be_bytes(), reason.as_bytes()].concat());
    frame
}

/// Makes the frame that answers a listener's [`Close`](ClientMessage::Close).
#[must_use]
pub fn close_answer(code: Option<u16>) -> Vec<u8> {
    match code {
        Some(code) => close_frame(code.into(), ""),
        None => {
            let mut frame = Vec::new();
            push_frame(&mut frame, CLOSE, &[]);
            frame
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
