//! The frames of a WebSocket (RFC 6455, section 5.2), as a server sends them: not masked. Of a block's message only the
//! header is read: 24 bytes, little-endian.

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::client::message::{self, HEADER_BYTES, Said, VERSION};
use crate::load::reader::Item;
use crate::units as words;

/// Opcode, and 7, 16 or 64 bits of length.
const FRAME_HEADER_MOST: usize = 10;
/// Longest text that is read; news of a gap have 80 bytes.
const TEXT_MOST: u64 = 64 << 10;
/// Longest block's message, as for listening: 100 ms of 32 channels at 768 kHz.
const MESSAGE_MOST: u64 = 10 << 20;
/// The last of the kinds of payload.
const KIND_MOST: u8 = 3;
/// Stands for a close without a code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FINAL: u8 = 0x80;

/// Frames as they come, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// A frame's header as far as it has come.
    header: Vec<u8>,
    /// The frame that is being read.
    frame: Option<Frame>,
    /// What is kept of its payload: a block's header, or a text.
    kept: Vec<u8>,
    messages: u64,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    length: u64,
    left: u64,
}

impl Frames {
    /// Takes in what arrived, and tells what the messages say that end in it.
    ///
    /// # Errors
    ///
    /// A sentence about the message that makes no sense.
    pub(crate) fn push(&mut self, mut bytes: &[u8], tell: &mut dyn FnMut(Item)) -> Result<(), String> {
        loop {
            let frame = match &mut self.frame {
                Some(frame) => frame,
                None => {
                    let Some(&byte) = bytes.first() else { return Ok(()) };
                    bytes = &bytes[1..];
                    self.header.push(byte);
                    let Some(frame) = frame(&self.header).map_err(|why| self.complain(&why))? else { continue };
                    self.header.clear();
                    self.frame.insert(frame)
                }
            };
            let keep = if frame.opcode == BINARY { HEADER_BYTES } else { TEXT_MOST as usize };
            let taken = bytes.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
            self.kept.extend(&bytes[..taken.min(keep - self.kept.len().min(keep))]);
            frame.left -= taken as u64;
            bytes = &bytes[taken..];
            if frame.left > 0 {
                return Ok(());
            }
            let frame = *frame;
            self.messages += 1;
            if let Some(item) = self.read(frame).map_err(|why| self.complain(&why))? {
                tell(item);
            }
            (self.frame, _) = (None, self.kept.clear());
        }
    }

    fn read(&self, frame: Frame) -> Result<Option<Item>, String> {
        match frame.opcode {
            BINARY => block(&self.kept, frame.length).map(Some),
            TEXT => {
                let text = std::str::from_utf8(&self.kept).map_err(|_| "its text is not UTF-8".to_owned())?;
                Ok(match message::text(text)? {
                    Said::Gap(gap) => Some(Item::Gap(gap)),
                    Said::Clock { asked, now } => Some(Item::Clock { asked, now }),
                    _ => None,
                })
            }
            PING => Ok(Some(Item::Ping(self.kept.clone()))),
            CLOSE => {
                let code = self.kept.first_chunk().map_or(NO_CODE, |code| u16::from_be_bytes(*code));
                let why = String::from_utf8_lossy(self.kept.get(2..).unwrap_or_default());
                Ok(Some(Item::Closed { code, why: words::quoted(&why, 123) }))
            }
            _ => Ok(None),
        }
    }

    fn complain(&self, why: &str) -> String {
        format!("message {} makes no sense: {why}", self.messages.max(1))
    }
}

/// The frame that a header begins, once it is whole.
fn frame(header: &[u8]) -> Result<Option<Frame>, String> {
    debug_assert!(header.len() <= FRAME_HEADER_MOST);
    let &[first, second, ref rest @ ..] = header else { return Ok(None) };
    let opcode = first & 0x0F;
    if first & !0x0F != FINAL || !matches!(opcode, TEXT | BINARY | CLOSE | PING | PONG) {
        return Err("it is in pieces, or of no kind that is known".to_owned());
    }
    let length = match second {
        0..126 => u64::from(second),
        126 => match rest.first_chunk() {
            Some(length) => u64::from(u16::from_be_bytes(*length)),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => u64::from_be_bytes(*length),
            None => return Ok(None),
        },
        _ => return Err("it is masked, which a server's must not be".to_owned()),
    };
    if length > if opcode == BINARY { MESSAGE_MOST } else { TEXT_MOST } {
        return Err(format!("{length} bytes are longer than any that aircheck sends"));
    }
    Ok(Some(Frame { opcode, length, left: length }))
}

fn block(header: &[u8], length: u64) -> Result<Item, String> {
    let Some(header) = header.first_chunk::<HEADER_BYTES>() else {
        return Err(format!("{length} bytes are less than its header of {HEADER_BYTES}"));
    };
    let (version, kind) = (header[0], header[1]);
    if version != VERSION || !(1..=KIND_MOST).contains(&kind) {
        return Err(format!("version {version} and kind {kind} are not known here"));
    }
    let eight = |at: usize| header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (promised, follows) = (eight(0) >> 32, length - HEADER_BYTES as u64);
    if promised != follows {
        return Err(format!("its header promises {promised} bytes, and {follows} follow"));
    }
    Ok(Item::Block { sequence: eight(8), position: None, captured_at_ns: eight(16) })
}

/// What kind of frame goes to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent {
    /// A text.
    Text,
    /// The answer to a ping.
    Pong,
    /// The end.
    Close,
}

/// A frame to the server, masked as all of a client's must be. The mask is for proxies that take what they see for
/// HTTP; what is sent here is nobody else's choice, so any mask will do.
pub(crate) fn masked(sent: Sent, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5A, 0xC3, 0x17, 0x88];
    let opcode = match sent {
        Sent::Text => OpCode::Data(Data::Text),
        Sent::Pong => OpCode::Control(Control::Pong),
        Sent::Close => OpCode::Control(Control::Close),
    };
    let header = FrameHeader { opcode, mask: Some(MASK), ..FrameHeader::default() };
    let mut bytes = Vec::with_capacity(FRAME_HEADER_MOST + 4 + payload.len());
    // Writing to a vector can't fail.
    let _ = header.format(payload.len() as u64, &mut bytes);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::block::Gap;

    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![FINAL | opcode];
        match payload.len() {
            length @ 0..126 => frame.push(length as u8),
            length @ 126..65_536 => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    fn message(sequence: u64, bytes: u32, follow: usize) -> Vec<u8> {
        let mut message = vec![1, 1, 0, 0];
        message.extend(bytes.to_le_bytes());
        message.extend(sequence.to_le_bytes());
        message.extend(1_790_000_000_250_000_000_u64.to_le_bytes());
        message.extend(vec![7; follow]);
        unmasked(BINARY, &message)
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Item>, String> {
        let mut frames = Frames::default();
        let mut items = Vec::new();
        bytes.chunks(piece).try_for_each(|piece| frames.push(piece, &mut |item| items.push(item)))?;
        Ok(items)
    }

    #[test]
    fn headers_are_read_in_whatever_pieces_they_come() {
        let bytes = [
            unmasked(TEXT, br#"{"hello":{"version":1,"payload":"opus","rate_hz":1,"channels":1,"block_frames":1}}"#),
            message(7, 8, 8),
            message(8, 7680, 7680),
            unmasked(TEXT, br#"{"gap":{"from":9,"blocks":3,"reason":"overflow"}}"#),
            unmasked(PING, b"x"),
            message(12, 70_000, 70_000),
            unmasked(CLOSE, &[&1008_u16.to_be_bytes()[..], b"too-slow"].concat()),
        ]
        .concat();
        let block = |sequence| Item::Block { sequence, position: None, captured_at_ns: 1_790_000_000_250_000_000 };
        let expected = [
            block(7),
            block(8),
            Item::Gap(Gap { from: 9, blocks: 3, reason: "overflow".to_owned() }),
            Item::Ping(b"x".to_vec()),
            block(12),
            Item::Closed { code: 1008, why: "too-slow".to_owned() },
        ];
        for piece in [1, 5, 4096, 1 << 20] {
            assert_eq!(read(&bytes, piece).unwrap(), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_message_that_makes_no_sense_is_told_why() {
        let cases = [
            (unmasked(BINARY, &[1; 23]), "23 bytes are less than its header of 24"),
            (message(7, 9, 8), "promises 9 bytes, and 8 follow"),
            (unmasked(BINARY, &[2; 24]), "version 2"),
            (vec![BINARY, 0], "in pieces"),
            (vec![FINAL | BINARY, 0x80], "masked"),
            (vec![FINAL | TEXT, 127, 0, 0, 0, 1, 0, 0, 0, 0], "longer than any"),
        ];
        for (bytes, words) in cases {
            let why = read(&bytes, 1000).unwrap_err();
            assert!(why.contains(words), "{why:?} should say {words:?}");
        }
    }

    #[test]
    fn what_is_sent_is_masked() {
        let frame = masked(Sent::Text, b"abc");
        assert_eq!(frame[..2], [0x81, 0x83]);
        let text: Vec<u8> = frame[6..].iter().zip(&frame[2..6]).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(text, b"abc");
    }
}
