//! The messages of the WebSocket, both ways.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::StreamFormat;

/// Version of the protocol, in the header of each binary message and in the hello.
pub const PROTOCOL_VERSION: u8 = 1;
/// Length of the header of a binary message.
pub const HEADER_BYTES: usize = 24;

/// The content of a binary message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// Interleaved 32-bit floats, little-endian.
    F32,
    /// Interleaved 16-bit integers, little-endian.
    S16,
    /// A packet of Opus.
    Opus,
}

impl Payload {
    /// All payloads.
    pub const ALL: [Self; 3] = [Self::F32, Self::S16, Self::Opus];

    /// Returns the name that `?payload=` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::S16 => "s16",
            Self::Opus => "opus",
        }
    }

    /// Returns the payload of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|payload| payload.name() == name)
    }

    /// Returns the number in a message's header.
    #[must_use]
    pub const fn kind(self) -> u8 {
        match self {
            Self::F32 => 1,
            Self::S16 => 2,
            Self::Opus => 3,
        }
    }

    /// Returns the payload of this number.
    #[must_use]
    pub fn from_kind(kind: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|payload| payload.kind() == kind)
    }
}

/// The header of a binary message: little-endian `u8 version, u8 kind, u16 reserved, u32 payload bytes, u64 sequence,
/// u64 captured_at`.
///
/// ```
/// use aircheck_api::{MessageHeader, Payload};
///
/// let header = MessageHeader { payload: Payload::S16, payload_bytes: 4, sequence: 7, captured_at_nanos: 9 };
/// let message = [&header.to_bytes()[..], &[0; 4]].concat();
/// assert_eq!(MessageHeader::split(&message)?, (header, &[0; 4][..]));
/// # Ok::<(), aircheck_api::HeaderError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// The kind of the payload.
    pub payload: Payload,
    /// Length of the payload.
    pub payload_bytes: u32,
    /// Sequence number of the block.
    pub sequence: u64,
    /// Capture time of the block's first frame in nanoseconds of Unix time.
    pub captured_at_nanos: u64,
}

/// The reason why a binary message could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The message ends within the header.
    #[error("a message of {0} bytes is shorter than its header of {HEADER_BYTES}")]
    Short(usize),
    /// The header is of another version.
    #[error("the message has version {0}, and only version {PROTOCOL_VERSION} is known")]
    Version(u8),
    /// The number is no [`Payload`]'s.
    #[error("the message has the unknown kind {0}")]
    Kind(u8),
    /// The payload has another length than the header says.
    #[error("the header announces {announced} bytes, and {actual} follow")]
    Length {
        /// By the header.
        announced: u32,
        /// Bytes after the header.
        actual: usize,
    },
}

impl MessageHeader {
    /// Returns the header as it is sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = PROTOCOL_VERSION;
        bytes[1] = self.payload.kind();
        bytes[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..].copy_from_slice(&self.captured_at_nanos.to_le_bytes());
        bytes
    }

    /// Splits a binary message into its header and its payload.
    ///
    /// # Errors
    ///
    /// When the message is not of this protocol, or its length is not the one that it announces.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let (bytes, payload) = message.split_first_chunk::<HEADER_BYTES>().ok_or(HeaderError::Short(message.len()))?;
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        if bytes[0] != PROTOCOL_VERSION {
            return Err(HeaderError::Version(bytes[0]));
        }
        let header = Self {
            payload: Payload::from_kind(bytes[1]).ok_or(HeaderError::Kind(bytes[1]))?,
            payload_bytes: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            sequence: number(8),
            captured_at_nanos: number(16),
        };
        if header.payload_bytes as usize == payload.len() {
            Ok((header, payload))
        } else {
            Err(HeaderError::Length { announced: header.payload_bytes, actual: payload.len() })
        }
    }
}

/// The first text message of the server: the format of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub version: u8,
    /// The listener's number in `/api/v1/listeners`.
    pub listener: u64,
    /// The payload of binary messages.
    pub payload: Payload,
    /// Frames per second of what the payload decodes to.
    pub rate_hz: u32,
    /// Samples per frame.
    pub channels: u16,
    /// Frames per block at the source's rate.
    pub block_frames: u32,
    /// Length of a block.
    pub block_seconds: f64,
    /// The server's clock, in Unix seconds.
    pub now: f64,
    /// Length of a packet of Opus in frames at 48 kHz: packet *n* starts at *n* times it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet_frames: Option<u32>,
    /// Frames at 48 kHz by which a decoded packet is older than the sound that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_skip_frames: Option<u16>,
    /// Bits per second of Opus: the bitrate that is nearest to the one in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u32>,
}

impl Hello {
    /// Returns rate, channels and block length.
    #[must_use]
    pub fn format(&self) -> StreamFormat {
        let Self { rate_hz, channels, block_frames, block_seconds, .. } = *self;
        StreamFormat { rate_hz, channels, block_frames, block_seconds }
    }
}

/// The notice of a gap, which is the same in every rendition with notices.
///
/// ```
/// use aircheck_api::GapNotice;
///
/// let gap = GapNotice { from: 8, blocks: 3, reason: "overflow".into() };
/// assert_eq!(gap.to_json(), r#"{"gap":{"from":8,"blocks":3,"reason":"overflow"}}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapNotice {
    /// Sequence number of the first lost block.
    pub from: u64,
    /// Number of lost blocks.
    pub blocks: u64,
    /// The reason.
    pub reason: Cow<'static, str>,
}

impl GapNotice {
    /// Returns the notice as an object with the one member `gap`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self { from, blocks, reason } = self;
        format!(r#"{{"gap":{{"from":{from},"blocks":{blocks},"reason":"{reason}"}}}}"#)
    }
}

/// The notice that the server from which this one has its sound was started anew. It comes before the first block of that run that
/// the listener gets.
///
/// ```
/// use aircheck_api::{EpochNotice, ServerText};
///
/// let text = r#"{"epoch":{"number":1,"sequence":1240}}"#;
/// assert_eq!(ServerText::Epoch(EpochNotice { number: 1, sequence: 1240 }).to_json(), text);
/// assert_eq!(ServerText::parse(text)?, Some(ServerText::Epoch(EpochNotice { number: 1, sequence: 1240 })));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochNotice {
    /// How often it was started anew since this server has heard it.
    pub number: u32,
    /// Sequence number of the first block of that run. Numbers here go on; those of the other server begin anew.
    pub sequence: u64,
}

/// The notice that a listener which was behind is live again.
///
/// ```
/// use aircheck_api::{ServerText, Stale};
///
/// let text = r#"{"stale":{"before":1240}}"#;
/// assert_eq!(ServerText::Stale(Stale { before: 1240 }).to_json(), text);
/// assert_eq!(ServerText::parse(text)?, Some(ServerText::Stale(Stale { before: 1240 })));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// Blocks before this sequence number are old: they waited for the listener. A player may drop them.
    pub before: u64,
}

/// What is known of the sound: titles, for people.
///
/// ```
/// use aircheck_api::Metadata;
///
/// let metadata = Metadata { title: Some("Night train".into()), artist: Some("The Owls".into()) };
/// assert_eq!(metadata.line().as_deref(), Some("The Owls - Night train"));
/// assert_eq!(serde_json::to_string(&metadata)?, r#"{"title":"Night train","artist":"The Owls"}"#);
/// assert_eq!(Metadata::default().line(), None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The title; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who plays or speaks; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artist: Option<String>,
}

impl Metadata {
    /// Returns artist and title in one line, as players show them; `None` if nothing is known.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        match (&self.artist, &self.title) {
            (Some(artist), Some(title)) => Some(format!("{artist} - {title}")),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        }
    }
}

/// The notice of new metadata, which is the same in every rendition with notices. It comes before the block that it begins with.
///
/// ```
/// use aircheck_api::{Metadata, MetadataNotice, ServerText};
///
/// let metadata = Metadata { title: Some("Later".into()), artist: None };
/// let notice = MetadataNotice { metadata, sequence: 1240 };
/// let text = r#"{"metadata":{"title":"Later"},"sequence":1240}"#;
/// assert_eq!(notice.to_json(), text);
/// assert_eq!(ServerText::parse(text)?, Some(ServerText::Metadata(notice)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataNotice {
    /// What is known from that block on. Empty if nothing is known any more.
    pub metadata: Metadata,
    /// Sequence number of the first block that it belongs to. For a listener that joined later, it has passed.
    pub sequence: u64,
}

impl MetadataNotice {
    /// Returns the notice as an object.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Fails for maps without string keys and for failing writers, of which there are none.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The answer to [`ClientText::Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// The number that came with the question.
    pub asked: f64,
    /// The server's clock, in Unix seconds.
    pub now: f64,
}

/// A text message of the server: an object with one member, or two for metadata.
///
/// ```
/// use aircheck_api::{Clock, ServerText};
///
/// let text = r#"{"clock":{"asked":1.5,"now":1790000000.5}}"#;
/// let clock = ServerText::Clock(Clock { asked: 1.5, now: 1_790_000_000.5 });
/// assert_eq!(clock.to_json(), text);
/// assert_eq!(ServerText::parse(text)?, Some(clock));
/// assert_eq!(ServerText::parse(r#"{"weather":{"sun":true}}"#)?, None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerText {
    /// The format of the stream.
    Hello(Hello),
    /// A loss.
    Gap(GapNotice),
    /// A new run of the server from which this one has its sound.
    Epoch(EpochNotice),
    /// Sound that is old.
    Stale(Stale),
    /// The time.
    Clock(Clock),
    /// The fault in a message of the client.
    Error(String),
    /// What is known of the sound that follows.
    #[serde(untagged)]
    Metadata(MetadataNotice),
}

impl ServerText {
    /// Returns the message as it is sent.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Fails for maps without string keys and for failing writers, of which there are none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a message. `None`: it is of a kind that this version does not know.
    ///
    /// # Errors
    ///
    /// When it is not a JSON object, or a known member is not of its form.
    pub fn parse(text: &str) -> Result<Option<Self>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Members {
            hello: Option<Hello>,
            gap: Option<GapNotice>,
            epoch: Option<EpochNotice>,
            metadata: Option<Metadata>,
            sequence: Option<u64>,
            stale: Option<Stale>,
            clock: Option<Clock>,
            error: Option<String>,
        }
        let Members { hello, gap, epoch, metadata, sequence, stale, clock, error } = serde_json::from_str(text)?;
        let metadata = metadata.zip(sequence).map(|(metadata, sequence)| MetadataNotice { metadata, sequence });
        let known =
            hello.map(Self::Hello).or(gap.map(Self::Gap)).or(epoch.map(Self::Epoch)).or(metadata.map(Self::Metadata));
        let known = known.or(stale.map(Self::Stale)).or(clock.map(Self::Clock));
        Ok(known.or(error.map(Self::Error)))
    }
}

/// A report that a block is heard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    /// Sequence number of the block that has begun to sound.
    pub sequence: u64,
    /// When it did, in Unix seconds by the server's clock as the client knows it.
    pub at: f64,
}

/// A text message of the client: an object with one member.
///
/// ```
/// use aircheck_api::{ClientText, Heard};
///
/// let heard = ClientText::Heard(Heard { sequence: 7, at: 1_790_000_000.5 });
/// assert_eq!(heard.to_json(), r#"{"heard":{"sequence":7,"at":1790000000.5}}"#);
/// assert_eq!(ClientText::parse(r#"{"clock":1.5}"#)?, ClientText::Clock(1.5));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientText {
    /// A block is heard.
    Heard(Heard),
    /// A question for the time. The number is sent back with the answer.
    Clock(f64),
}

impl ClientText {
    /// Returns the message as it is sent.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Fails for maps without string keys and for failing writers, of which there are none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str = r#"expected {"heard":{"sequence":7,"at":1790000000.5}} or {"clock":1.5}"#;
        match serde_json::from_str(text) {
            Ok(Self::Heard(Heard { at: number, .. }) | Self::Clock(number)) if !number.is_finite() => {
                Err(ACCEPTED.to_owned())
            }
            Ok(said) => Ok(said),
            Err(error) => {
                // It repeats names of the text, which could command a terminal.
                let error = error.to_string().replace(char::is_control, "\u{fffd}");
                Err(format!("{ACCEPTED}: {error}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_laid_out_as_the_interface_says() {
        let header = MessageHeader {
            payload: Payload::S16,
            payload_bytes: 2,
            sequence: 0x0102_0304_0506_0708,
            captured_at_nanos: 0x1112_1314_1516_1718,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..8], [1, 2, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[16..24], [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
    }

    #[test]
    fn a_message_of_another_protocol_is_refused() {
        let header = MessageHeader { payload: Payload::F32, payload_bytes: 4, sequence: 1, captured_at_nanos: 2 };
        let good = [&header.to_bytes()[..], &[0; 4]].concat();
        let with = |at: usize, value: u8| {
            let mut message = good.clone();
            message[at] = value;
            MessageHeader::split(&message).map(|_| ()).unwrap_err()
        };
        assert_eq!(with(0, 2), HeaderError::Version(2));
        assert_eq!(with(1, 0), HeaderError::Kind(0));
        assert_eq!(with(4, 5), HeaderError::Length { announced: 5, actual: 4 });
        assert_eq!(MessageHeader::split(&good[..23]), Err(HeaderError::Short(23)));
    }

    #[test]
    fn client_messages_are_read_or_refused_in_a_sentence() {
        let heard = ClientText::parse(r#"{"heard":{"sequence":7,"at":1790000000.5}}"#);
        assert_eq!(heard, Ok(ClientText::Heard(Heard { sequence: 7, at: 1_790_000_000.5 })));
        assert_eq!(ClientText::parse(r#"{"clock":3}"#), Ok(ClientText::Clock(3.0)));
        for text in [
            "",
            "x",
            "{}",
            "[]",
            "7",
            r#"{"heard":{}}"#,
            r#"{"heard":{"sequence":-1,"at":0}}"#,
            r#"{"heard":{"sequence":1,"at":0,"x":1}}"#,
            r#"{"clock":null}"#,
            r#"{"heard":{"sequence":1,"at":1e999}}"#,
            r#"{"clock":1,"heard":{"sequence":1,"at":1}}"#,
            r#"{"play":1}"#,
        ] {
            assert!(ClientText::parse(text).is_err_and(|error| error.contains("expected {")), "{text}");
        }
    }
}
