//! The messages of the WebSocket, both ways. The header of a block is little-endian: `u8 version, u8 kind, u16 reserved,
//! u32 payload bytes, u64 sequence, u64 captured_at` in nanoseconds of Unix time.

use serde::Deserialize;
use serde_json::json;

use crate::client::block::{Block, Gap};
use crate::client::format::Format;
use crate::units as words;

/// The version of the protocol that is spoken here.
pub(crate) const VERSION: u8 = 1;
/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 24;
const KIND_F32: u8 = 1;
const KIND_S16: u8 = 2;
const KIND_OPUS: u8 = 3;
/// What is said to those who ask for Opus.
const NO_OPUS: &str = "it sends Opus, which aircheckctl does not decode; leave out payload=opus, or say payload=s16";
/// Longest block, in frames: 100 ms, the longest that aircheck makes, at the highest rate taken here.
const MAX_BLOCK_FRAMES: u32 = 76_800;
/// How much of a message that makes no sense, or of a complaint, is shown.
const EXCERPT_CHARS: usize = 60;
const COMPLAINT_CHARS: usize = 200;

/// What the server says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Rate and channels.
    pub(crate) format: Format,
    /// Frames of each block but a stream's last.
    pub(crate) block_frames: u32,
}

/// What the server says after that.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// A block.
    Block(Block),
    /// A loss.
    Gap(Gap),
    /// What time it was, in Unix seconds, when it read the question that was asked at `asked`.
    Clock {
        /// As it was sent with the question.
        asked: f64,
        /// The server's clock.
        now: f64,
    },
    /// What was wrong with something that was said to it.
    Complaint(String),
    /// Something of a kind not known here: a server may learn to say more.
    Unknown,
}

#[derive(Deserialize)]
struct Text {
    hello: Option<HelloFields>,
    gap: Option<Gap>,
    clock: Option<ClockFields>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct HelloFields {
    version: u64,
    payload: String,
    rate_hz: u32,
    channels: u32,
    block_frames: u32,
}

#[derive(Deserialize)]
struct ClockFields {
    asked: f64,
    now: f64,
}

impl Hello {
    /// Reads the first message.
    ///
    /// # Errors
    ///
    /// Says why nothing that follows could be understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let hello = json(text)?.hello.ok_or("its first message is no hello")?;
        if hello.version != u64::from(VERSION) {
            return Err(other_version(hello.version));
        }
        match hello.payload.as_str() {
            "f32" | "s16" => {}
            "opus" => return Err(NO_OPUS.to_owned()),
            other => return Err(format!("its payload '{}' is not known here", words::quoted(other, 40))),
        }
        if !(1..=MAX_BLOCK_FRAMES).contains(&hello.block_frames) {
            return Err(format!("its blocks have {} frames, not 1 to {MAX_BLOCK_FRAMES}", hello.block_frames));
        }
        let format = Format::new(hello.rate_hz, hello.channels)?;
        Ok(Self { format, block_frames: hello.block_frames })
    }

    /// Reads a binary message.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub(crate) fn block(&self, message: &[u8]) -> Result<Block, String> {
        let Some((header, payload)) = message.split_first_chunk::<HEADER_BYTES>() else {
            return Err(format!("{} bytes are less than its header of {HEADER_BYTES}", message.len()));
        };
        // Always so many bytes, as the header is that long.
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
        let [version, kind] = [header[0], header[1]];
        if version != VERSION {
            return Err(other_version(version.into()));
        }
        let promised = u32::from_le_bytes(std::array::from_fn(|byte| header[4 + byte]));
        if promised as usize != payload.len() {
            return Err(format!("its header promises {promised} bytes, and {} follow", payload.len()));
        }
        let samples: Vec<f32> = match kind {
            KIND_F32 => payload.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            KIND_S16 => {
                payload.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect()
            }
            KIND_OPUS => return Err(NO_OPUS.to_owned()),
            other => return Err(format!("kind {other} is not known here; a newer aircheckctl may know it")),
        };
        let channels = usize::from(self.format.channels);
        let frame_bytes = channels * if kind == KIND_F32 { 4 } else { 2 };
        if payload.is_empty() || !payload.len().is_multiple_of(frame_bytes) {
            return Err(format!("{} bytes are not whole frames of {frame_bytes}", payload.len()));
        }
        let frames = (samples.len() / channels) as u64;
        if frames > u64::from(self.block_frames) {
            return Err(format!("{frames} frames are more than a block's {}", self.block_frames));
        }
        let sequence = u64_at(8);
        // Blocks lie on a fixed grid; only a stream's last may be shorter.
        let position = sequence.saturating_mul(u64::from(self.block_frames));
        Ok(Block { sequence, position, captured_at: u64_at(16) as f64 / 1e9, frames, samples })
    }
}

/// Reads a text message after the first.
///
/// # Errors
///
/// Says what is wrong with it.
pub(crate) fn text(message: &str) -> Result<Said, String> {
    Ok(match json(message)? {
        Text { gap: Some(gap), .. } => Said::Gap(gap),
        Text { clock: Some(ClockFields { asked, now }), .. } => Said::Clock { asked, now },
        Text { error: Some(error), .. } => Said::Complaint(words::quoted(&error, COMPLAINT_CHARS)),
        _ => Said::Unknown,
    })
}

/// The question for the time. The number comes back with the answer.
pub(crate) fn clock(asked: f64) -> String {
    json!({ "clock": asked }).to_string()
}

/// The report that the beginning of block `sequence` was heard `at`, in Unix seconds by the server's clock.
pub(crate) fn heard(sequence: u64, at: f64) -> String {
    json!({"heard": {"sequence": sequence, "at": at}}).to_string()
}

fn other_version(version: u64) -> String {
    format!("it speaks version {version}, and this aircheckctl {VERSION}; use the one that came with the server")
}

fn json(message: &str) -> Result<Text, String> {
    let excerpt = || words::quoted(message.trim(), EXCERPT_CHARS);
    if !message.trim_start().starts_with('{') {
        return Err(format!("not a JSON object: {}", excerpt()));
    }
    serde_json::from_str(message).map_err(|error| format!("{error}: {}", excerpt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = r#"{"hello":{"version":1,"listener":3,"payload":"f32","rate_hz":48000,"channels":2,
        "block_frames":480,"block_seconds":0.01,"now":1790000000.0}}"#;

    fn message(version: u8, kind: u8, promised: usize, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![version, kind, 0, 0];
        message.extend((promised as u32).to_le_bytes());
        message.extend(7_u64.to_le_bytes());
        message.extend(1_790_000_000_250_000_000_u64.to_le_bytes());
        message.extend(payload);
        message
    }

    #[test]
    fn a_block_is_read_exactly() {
        let hello = Hello::parse(HELLO).unwrap();
        assert_eq!(hello.format, Format { rate_hz: 48_000, channels: 2 });
        let samples = [0.5_f32, -1.0, 0.1, -0.0];
        let payload: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let block = hello.block(&message(1, 1, 16, &payload)).unwrap();
        assert_eq!((block.sequence, block.position, block.frames), (7, 3360, 2));
        assert!((block.captured_at - 1_790_000_000.25).abs() < 1e-6);
        assert_eq!(block.samples.iter().map(|s| s.to_bits()).collect::<Vec<_>>(), samples.map(f32::to_bits));
        let block = hello.block(&message(1, 2, 4, &[0, 0x80, 0, 0x40])).unwrap();
        assert_eq!((block.frames, block.samples), (1, vec![-1.0, 0.5]));
    }

    #[test]
    fn a_message_that_makes_no_sense_is_told_why() {
        let hello = Hello::parse(HELLO).unwrap();
        let long = vec![0; 481 * 8];
        let cases = [
            (message(1, 1, 0, &[])[..23].to_vec(), "23 bytes are less than its header of 24"),
            (Vec::new(), "0 bytes"),
            (message(2, 1, 8, &[0; 8]), "version 2"),
            (message(1, 3, 8, &[0; 8]), "Opus"),
            (message(1, 9, 8, &[0; 8]), "kind 9"),
            (message(1, 1, 9, &[0; 8]), "promises 9 bytes, and 8 follow"),
            (message(1, 1, 4, &[0; 4]), "4 bytes are not whole frames of 8"),
            (message(1, 2, 5, &[0; 5]), "5 bytes are not whole frames of 4"),
            (message(1, 1, 0, &[]), "0 bytes are not whole frames"),
            (message(1, 1, long.len(), &long), "481 frames are more than a block's 480"),
        ];
        for (message, words) in cases {
            let why = hello.block(&message).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{why:?} should say {words:?}");
        }
    }

    #[test]
    fn a_hello_that_can_t_be_followed_is_told_why() {
        let cases = [
            (r#"{"gap":{"from":1,"blocks":1,"reason":"overflow"}}"#.to_owned(), "no hello"),
            (HELLO.replace(r#""version":1"#, r#""version":2"#), "version 2"),
            (HELLO.replace("f32", "opus"), "does not decode"),
            (HELLO.replace("f32", "s24"), "'s24'"),
            (HELLO.replace("48000", "0"), "0 Hz"),
            (HELLO.replace(r#""channels":2"#, r#""channels":33"#), "33 channels"),
            (HELLO.replace(":480,", ":0,"), "0 frames"),
            ("hello".to_owned(), "not a JSON object: hello"),
        ];
        for (text, words) in cases {
            let why = Hello::parse(&text).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{why:?} should say {words:?}");
        }
    }

    #[test]
    fn texts_are_read_and_unknown_ones_are_let_pass() {
        let gap = Gap { from: 8, blocks: 3, reason: "overflow".to_owned() };
        assert_eq!(text(r#"{"gap":{"from":8,"blocks":3,"reason":"overflow"}}"#), Ok(Said::Gap(gap)));
        assert_eq!(text(r#"{"clock":{"asked":1.5,"now":2.5}}"#), Ok(Said::Clock { asked: 1.5, now: 2.5 }));
        assert_eq!(text(r#"{"error":"no\u001b"}"#), Ok(Said::Complaint("no\u{fffd}".to_owned())));
        assert_eq!(text(r#"{"epoch":{"rate":1}}"#), Ok(Said::Unknown));
        assert!(text("[1]").is_err());
        assert!(text(r#"{"gap":{"from":1}}"#).is_err());
    }

    #[test]
    fn what_is_said_is_what_the_server_takes() {
        assert_eq!(clock(1.5), r#"{"clock":1.5}"#);
        assert_eq!(heard(7, 1_790_000_000.5), r#"{"heard":{"at":1790000000.5,"sequence":7}}"#);
    }
}
