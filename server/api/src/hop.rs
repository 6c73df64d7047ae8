//! The hop from one server to another, as the API shows it.

use serde::{Deserialize, Serialize};

/// The account of a source that is another server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HopStatus {
    /// The NATS server and the subject.
    pub from: String,
    /// How the sound is coded that comes: `f32`, `s16` or `opus`; `null` before the first block.
    pub coding: Option<String>,
    /// Whether the connection to NATS is there.
    #[serde(rename = "connected")]
    pub is_connected: bool,
    /// The reason why it is not; `null` while it is.
    pub failure: Option<String>,
    /// How often it was made again.
    pub reconnects: u64,
    /// The run of the other server's mount that is heard, a number in a text, because it has more digits than a number of JSON.
    pub epoch: String,
    /// How many runs have been heard.
    pub epochs: u64,
    /// How far the numbers of blocks here are ahead of the other server's: 0, unless that was started anew and could not ask where
    /// they go on.
    pub number_offset: i64,
    /// Blocks that did not come, among those of the capture.
    pub lost_blocks: u64,
    /// How often messages found the subscription full, because this server was too slow.
    pub slow_consumer_events: u64,
    /// How far this server's clock is ahead of the other's; `null` while that is not known.
    pub clock_offset_seconds: Option<f64>,
    /// The offset is right to this.
    pub clock_error_seconds: Option<f64>,
    /// The messages that came, by what became of them.
    pub messages: HopMessages,
}

/// The messages that came from another server, by what became of them. Each has a block, or, with Opus, the blocks of 20 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HopMessages {
    /// Blocks of the stream.
    pub taken: u64,
    /// Blocks that had not come, and were fetched from the replay in time.
    pub filled: u64,
    /// Blocks of the time before this server's start, fetched from the replay for its history.
    pub past: u64,
    /// Blocks that came after a later one, or after silence had taken their place.
    pub late: u64,
    /// Blocks that had come already.
    pub duplicate: u64,
    /// Blocks of a second publisher on the subject.
    pub foreign: u64,
    /// Blocks whose rate, channels or length are not those of the stream.
    pub format: u64,
    /// Messages of another version.
    pub version: u64,
    /// Other messages.
    pub malformed: u64,
}

impl HopMessages {
    /// Returns the counts with their names.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, u64); 9] {
        let Self { taken, filled, past, late, duplicate, foreign, format, version, malformed } = *self;
        [
            ("taken", taken),
            ("filled", filled),
            ("past", past),
            ("late", late),
            ("duplicate", duplicate),
            ("foreign", foreign),
            ("format", format),
            ("version", version),
            ("malformed", malformed),
        ]
    }
}

/// The account of what is published for other servers. Each block that was offered is sent, lost or queued.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishStatus {
    /// The NATS server and the subject.
    pub to: String,
    /// How the sound is coded: `f32`, `s16` or `opus`.
    pub coding: String,
    /// The bitrate of Opus in bits per second; `null` where samples are sent as they are.
    pub bitrate: Option<u32>,
    /// Whether the connection to NATS is there.
    #[serde(rename = "connected")]
    pub is_connected: bool,
    /// The reason why it is not; `null` while it is.
    pub failure: Option<String>,
    /// How often it was made again.
    pub reconnects: u64,
    /// Blocks that were to be sent.
    pub offered: u64,
    /// Blocks that were handed to NATS.
    pub sent: u64,
    /// Blocks that were not, because NATS was not there or too slow, and those that the source or the capture had lost.
    pub lost: u64,
    /// Blocks that wait.
    pub queued: u64,
    /// What JetStream keeps of it; `null` if nothing is to be kept.
    pub replay: Option<ReplayStatus>,
}

/// What JetStream keeps of a published subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayStatus {
    /// The stream of JetStream.
    pub stream: String,
    /// The time that is kept.
    pub span_seconds: f64,
    /// The most memory that it may take on the NATS server.
    pub max_bytes: u64,
    /// Whether the stream is there with these bounds, as of the last look.
    #[serde(rename = "kept")]
    pub is_kept: bool,
    /// The reason why it is not; `null` while it is.
    pub failure: Option<String>,
    /// How often it could not be made or looked at.
    pub failures: u64,
}
