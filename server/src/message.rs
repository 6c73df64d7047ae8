//! The messages of the WebSocket: what goes out in binary and in JSON, and what comes back.

use std::collections::VecDeque;

use aircheck_engine::source::PcmEncoding;
use aircheck_engine::{Format, Gap, Stamp, Timestamp};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// The protocol's version, in every binary message.
pub const VERSION: u8 = 1;
/// Bytes before the payload of a binary message.
pub const HEADER_BYTES: usize = 24;

/// What the payload of a binary message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Interleaved 32-bit floats.
    F32,
    /// Interleaved 16-bit integers.
    S16,
    /// A packet of Opus.
    Opus,
}

impl Payload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::S16, Self::Opus];

    /// The payload as listeners write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::S16 => "s16",
            Self::Opus => "opus",
        }
    }

    /// Its number in a message's header.
    #[must_use]
    pub const fn kind(self) -> u8 {
        match self {
            Self::F32 => 1,
            Self::S16 => 2,
            Self::Opus => 3,
        }
    }

    /// How its samples are written, if it has any.
    #[must_use]
    pub const fn samples(self) -> Option<PcmEncoding> {
        match self {
            Self::F32 => Some(PcmEncoding::F32Le),
            Self::S16 => Some(PcmEncoding::S16Le),
            Self::Opus => None,
        }
    }
}

/// A binary message: little-endian `u8 version, u8 kind, u16 reserved, u32 payload bytes, u64 sequence,
/// u64 captured_at` in nanoseconds of Unix time, and the payload.
#[must_use]
pub fn binary(payload: Payload, stamp: Stamp, bytes: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(HEADER_BYTES + bytes.len());
    message.extend([VERSION, payload.kind(), 0, 0]);
    message.extend((bytes.len() as u32).to_le_bytes());
    message.extend(stamp.sequence.to_le_bytes());
    message.extend(stamp.captured_at.unix_nanos().to_le_bytes());
    message.extend_from_slice(bytes);
    message.into()
}

/// How packets lie in a stream, in frames at 48 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// Each is this long: packet *n* starts at *n* times it.
    pub packet_frames: u32,
    /// What a packet decodes to is so much older than what it was made of.
    pub pre_skip_frames: u16,
}

/// The first message: what is to come, and where it is Opus, in which packets.
#[must_use]
pub fn hello(format: Format, payload: Payload, packets: Option<Packets>, listener: u64) -> String {
    let mut hello = json!({
        "version": VERSION,
        "listener": listener,
        "payload": payload.label(),
        "rate_hz": if payload == Payload::Opus { 48_000 } else { format.rate_hz() },
        "channels": format.channels(),
        "block_frames": format.block_frames(),
        "block_seconds": format.block_span().as_secs_f64(),
        "now": Timestamp::now().unix_seconds(),
    });
    if let Some(Packets { packet_frames, pre_skip_frames }) = packets {
        hello["packet_frames"] = packet_frames.into();
        hello["pre_skip_frames"] = pre_skip_frames.into();
    }
    json!({ "hello": hello }).to_string()
}

/// The news of a gap, here and in every other format that tells of it in JSON.
#[must_use]
pub fn gap(gap: Gap) -> String {
    let Gap { from, blocks, reason } = gap;
    format!(r#"{{"gap":{{"from":{from},"blocks":{blocks},"reason":"{}"}}}}"#, reason.label())
}

/// What was wrong with something that the listener said.
#[must_use]
pub fn error(complaint: &str) -> String {
    json!({ "error": complaint }).to_string()
}

/// What a listener may say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Said {
    /// It has heard the beginning of a block.
    Heard {
        /// The block's sequence number.
        sequence: u64,
        /// When, in Unix seconds by the server's clock as the listener knows it.
        at: f64,
    },
    /// It asks for the time: the number is sent back with it.
    Clock {
        /// The listener's own time of asking, whatever it is.
        asked: f64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    heard: Option<HeardWire>,
    clock: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeardWire {
    sequence: u64,
    at: f64,
}

impl Said {
    /// Reads a text message.
    ///
    /// # Errors
    ///
    /// A sentence that says what is taken.
    pub fn parse(text: &str) -> Result<Self, String> {
        const TAKES: &str = r#"takes {"heard":{"sequence":7,"at":1790000000.5}} or {"clock":1.5}"#;
        match serde_json::from_str(text) {
            Ok(Wire { heard: Some(HeardWire { sequence, at }), clock: None }) if at.is_finite() => {
                Ok(Self::Heard { sequence, at })
            }
            Ok(Wire { heard: None, clock: Some(asked) }) if asked.is_finite() => Ok(Self::Clock { asked }),
            Ok(_) => Err(TAKES.to_owned()),
            Err(error) => Err(format!("{TAKES}: {error}")),
        }
    }
}

/// The answer to a question for the time.
#[must_use]
pub fn clock(asked: f64, now: Timestamp) -> String {
    let answer: Value = json!({"clock": {"asked": asked, "now": now.unix_seconds()}});
    answer.to_string()
}

/// When blocks were captured, of those that a listener may still report as heard.
#[derive(Debug, Default)]
pub struct Captured {
    stamps: VecDeque<(u64, Timestamp)>,
}

/// Blocks whose capture is remembered: 20 s of 10 ms, in 32 KB. A player with more in its own buffer is not live.
const REMEMBERED: usize = 2048;
/// A report may be ahead of our clock by so much, for the error of the listener's knowledge of it.
const AHEAD_SECONDS: f64 = 0.1;

impl Captured {
    /// A block goes out.
    pub fn remember(&mut self, stamp: Stamp) {
        if self.stamps.len() >= REMEMBERED {
            self.stamps.pop_front();
        }
        self.stamps.push_back((stamp.sequence, stamp.captured_at));
    }

    /// How long after its capture a block was heard, in seconds.
    ///
    /// # Errors
    ///
    /// A sentence that says why that can't be.
    pub fn ear_seconds(&self, sequence: u64, at: f64, now: Timestamp) -> Result<f64, String> {
        let captured_at = self
            .stamps
            .binary_search_by_key(&sequence, |(sequence, _)| *sequence)
            .map(|index| self.stamps[index].1)
            .map_err(|_| format!("heard: block {sequence} was not sent to you, or too long ago"))?;
        if at > now.unix_seconds() + AHEAD_SECONDS {
            return Err("heard: `at` is in the future".to_owned());
        }
        let seconds = at - captured_at.unix_seconds();
        if seconds < 0.0 {
            return Err("heard: `at` is before the block was captured".to_owned());
        }
        Ok(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_message_is_laid_out_as_the_interface_says() {
        let stamp = Stamp {
            sequence: 0x0102_0304_0506_0708,
            captured_at: Timestamp::from_nanos(0x1112_1314_1516_1718),
            ..Stamp::default()
        };
        let message = binary(Payload::S16, stamp, &[0xAA, 0xBB]);
        assert_eq!(message[..8], [1, 2, 0, 0, 2, 0, 0, 0]);
        assert_eq!(message[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(message[16..24], [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
        assert_eq!(message[24..], [0xAA, 0xBB]);
    }

    #[test]
    fn what_listeners_say_is_read_or_refused_in_a_sentence() {
        let heard = Said::parse(r#"{"heard":{"sequence":7,"at":1790000000.5}}"#);
        assert_eq!(heard, Ok(Said::Heard { sequence: 7, at: 1_790_000_000.5 }));
        assert_eq!(Said::parse(r#"{"clock":3}"#), Ok(Said::Clock { asked: 3.0 }));
        for text in [
            "",
            "x",
            "{}",
            "[]",
            "7",
            r#"{"heard":{}}"#,
            r#"{"heard":{"sequence":-1,"at":0}}"#,
            r#"{"clock":null}"#,
            r#"{"heard":{"sequence":1,"at":1e999}}"#,
            r#"{"clock":1,"heard":{"sequence":1,"at":1}}"#,
            r#"{"play":1}"#,
        ] {
            assert!(Said::parse(text).is_err_and(|error| error.contains("takes")), "{text}");
        }
    }

    #[test]
    fn only_what_can_be_was_heard() {
        let mut captured = Captured::default();
        for sequence in [5, 6, 9] {
            let captured_at = Timestamp::from_nanos(sequence * 10_000_000);
            captured.remember(Stamp { sequence, captured_at, ..Stamp::default() });
        }
        let now = Timestamp::from_nanos(1_000_000_000);
        let ear = captured.ear_seconds(6, 0.5, now).unwrap();
        assert!((ear - 0.44).abs() < 1e-9);
        for (sequence, at) in [(7, 0.5), (4, 0.5), (6, 0.01), (6, 1.2), (6, -1.0)] {
            assert!(captured.ear_seconds(sequence, at, now).is_err(), "{sequence} {at}");
        }
    }
}
