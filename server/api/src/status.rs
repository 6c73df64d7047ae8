//! The server and its source as the API shows them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{GatherStatus, HopStatus, Metadata, Percentiles, PublishStatus, ReportStatus};

/// The document at `/api/v1/status`. Times are Unix seconds, spans are seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// The mount that this is about; empty from an older server.
    #[serde(default)]
    pub mount: String,
    /// Whether `state` is `live`.
    pub on_air: bool,
    /// Whether sound comes, or why not.
    pub state: StreamState,
    /// The source.
    pub source: SourceStatus,
    /// Rate, channels and block length.
    pub format: StreamFormat,
    /// When the server started.
    pub started_at: f64,
    /// The server's clock.
    pub now: f64,
    /// Sequence number of the newest block; `null` before the first block.
    pub head_sequence: Option<u64>,
    /// The counts of the capture.
    pub capture: CaptureStatus,
    /// The level of each channel.
    pub level: Vec<ChannelLevel>,
    /// The loudness by EBU R128; `null` before any sound, and for rates that have none.
    #[serde(default)]
    pub loudness: Option<LoudnessStatus>,
    /// Latencies before the listeners' rings.
    #[serde(default)]
    pub latency_seconds: SourceLatency,
    /// Number of listeners.
    pub listeners: usize,
    /// The most listeners that the server accepts at a time.
    pub max_listeners: usize,
    /// The buffer of a listener whose URL has none.
    pub buffer_seconds: f64,
    /// The limit of lag of a listener whose URL has none; `null` without a limit.
    pub max_lag_seconds: Option<f64>,
    /// Length of the sound that may wait in the kernel for each listener.
    pub socket_buffer_seconds: f64,
    /// Number of encoders that run.
    pub encoders: usize,
    /// The recording; `null` if nothing is recorded.
    pub recording: Option<RecordingStatus>,
    /// The hop from the server that is the source; `null` for other sources.
    #[serde(default)]
    pub hop: Option<HopStatus>,
    /// What is published for other servers; `null` if nothing is.
    #[serde(default)]
    pub publish: Option<PublishStatus>,
    /// The segments of HLS, in each format that can carry the sound.
    #[serde(default)]
    pub hls: Vec<HlsStatus>,
    /// The receivers of notifications.
    #[serde(default)]
    pub notifications: Vec<NotificationTarget>,
    /// The last notification, whether it has been delivered or not; `null` before the first.
    #[serde(default)]
    pub last_notification: Option<LastNotification>,
    /// What is known of the sound that is captured now; listeners hear it when its block does.
    #[serde(default)]
    pub metadata: MetadataStatus,
    /// The Icecast servers to which the mount is pushed.
    #[serde(default)]
    pub pushes: Vec<PushStatus>,
    /// The gathering of the listeners of other servers; `null` if none are.
    #[serde(default)]
    pub gather: Option<GatherStatus>,
    /// The reports on the listeners for another server; `null` if none are sent.
    #[serde(default)]
    pub report: Option<ReportStatus>,
    /// The addresses of the page.
    pub urls: Vec<String>,
}

/// An Icecast server to which a mount is pushed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PushStatus {
    /// Its URL, without user and password.
    pub to: String,
    /// The number of its row in `/api/v1/listeners`, while it takes the sound; `null` while it does not.
    pub listener: Option<u64>,
    /// How far it is behind, as far as this server can see; `null` while it takes no sound.
    pub lag_seconds: Option<f64>,
    /// Why it takes no sound; `null` while it does.
    pub failure: Option<String>,
    /// Since when it takes the sound, or does not.
    pub since: f64,
    /// How often it was connected.
    pub connections: u64,
}

/// The metadata of a mount, as `/api/v1/mounts/NAME/metadata` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataStatus {
    /// The titles.
    #[serde(flatten)]
    pub metadata: Metadata,
    /// Sequence number of the first block that they belong to; `null` if nothing has been known.
    #[serde(default)]
    pub sequence: Option<u64>,
}

/// A row of `/api/v1/mounts`, in the order of the settings: the first one is also at `/stream`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountRow {
    /// Its name, which is unique.
    pub name: String,
    /// Whether sound comes, or why not. One whose source could not be opened yet is silent.
    pub state: StreamState,
    /// The source in words.
    pub source: String,
    /// The reason why the source cannot be opened, has failed or is lost; `null` while it works.
    pub failure: Option<String>,
    /// Rate, channels and block length; `null` until the source could be opened.
    pub format: Option<StreamFormat>,
    /// Sequence number of the newest block; `null` before the first block.
    pub head_sequence: Option<u64>,
    /// The level of each channel.
    pub level: Vec<ChannelLevel>,
    /// Number of listeners.
    pub listeners: u64,
    /// The lag of the listener that is furthest behind, at the last look at each; `null` without listeners.
    pub worst_lag_seconds: Option<f64>,
    /// The path of its stream, to which the suffix of a format may be added, such as `.opus`.
    pub stream: String,
}

/// Whether sound comes, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// Sound comes.
    Live,
    /// The source is open, but no sound has come for a while, or none yet.
    Silent,
    /// The source is lost, and the fallback is heard instead.
    Fallback,
    /// The source has ended.
    Ended,
    /// A state of a newer server.
    #[serde(other)]
    Unknown,
}

impl StreamState {
    /// Returns the state in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Silent => "silent",
            Self::Fallback => "fallback",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
        }
    }
}

/// The source of the sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The source in words.
    pub description: String,
    /// Its kind.
    pub kind: SourceKind,
    /// The reason why it failed or is lost; `null` while it works.
    #[serde(default)]
    pub failure: Option<String>,
    /// Since when it is lost; `null` while it works.
    #[serde(default)]
    pub lost_since: Option<f64>,
    /// How long it was lost, all times together.
    #[serde(default)]
    pub down_seconds: f64,
    /// How often it was opened again.
    #[serde(default)]
    pub restarts: u64,
}

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A microphone or another input device.
    Mic,
    /// A WAV file.
    Wav,
    /// The test tone.
    Tone,
    /// The built-in demo sound.
    Demo,
    /// Samples from standard input.
    Stdin,
    /// Another server, through NATS.
    Nats,
    /// A sound file, or a playlist of them.
    File,
    /// A source client, which sends its sound by HTTP.
    Put,
    /// A kind of a newer server.
    #[serde(other)]
    Unknown,
}

/// Rate, channels and block length of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamFormat {
    /// Frames per second.
    pub rate_hz: u32,
    /// Samples per frame.
    pub channels: u16,
    /// Frames per block.
    pub block_frames: u32,
    /// Length of a block.
    pub block_seconds: f64,
}

impl StreamFormat {
    /// Returns the length of `frames` frames.
    #[must_use]
    pub fn span(&self, frames: u64) -> Duration {
        Duration::try_from_secs_f64(frames as f64 / f64::from(self.rate_hz)).unwrap_or(Duration::MAX)
    }
}

/// The counts of the capture, in blocks, its clock, and what the system has granted to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptureStatus {
    /// Blocks captured from the source.
    pub blocks: u64,
    /// Blocks lost because the capture ring was full: the dispatcher was late.
    pub lost_overflow: u64,
    /// Blocks that the device missed.
    pub lost_xrun: u64,
    /// Blocks that are missing because the source was lost, and those that are lost in bursts.
    #[serde(default)]
    pub lost_source: u64,
    /// Blocks that another server has captured and that did not come from there.
    #[serde(default)]
    pub lost_hop: u64,
    /// Blocks, among those of the source, that came all at once after a pause of the source, and that the ring had no room for.
    #[serde(default)]
    pub lost_in_bursts: u64,
    /// Blocks of the fallback, which were heard instead of blocks of the source.
    #[serde(default)]
    pub fallback: u64,
    /// How much faster the source's clock is than the system's, in parts per million; `null` while that is not known, and
    /// for sound that is computed or on disk.
    #[serde(default)]
    pub drift_ppm: Option<f64>,
    /// Two standard errors of the drift.
    #[serde(default)]
    pub drift_error_ppm: Option<f64>,
    /// Length of the sound that stands in the pipe in front of the source.
    #[serde(default)]
    pub waiting_seconds: f64,
    /// What the system has granted of real time.
    #[serde(default)]
    pub realtime: RealtimeStatus,
}

/// What the system has granted to the capture: neither is needed, and both help on a busy machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RealtimeStatus {
    /// The real-time priority of the capturing thread; `null` if it has none.
    pub priority: Option<u8>,
    /// The reason why it has none.
    pub priority_refusal: Option<String>,
    /// Bytes of the capture's memory that stay in RAM.
    pub locked_bytes: usize,
    /// The reason why some don't.
    pub lock_refusal: Option<String>,
}

/// Level of one channel in dB relative to full scale; `null` where there is no sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelLevel {
    /// The largest sample.
    pub peak_dbfs: Option<f32>,
    /// The root of the mean square.
    pub rms_dbfs: Option<f32>,
    /// How often the channel has clipped since the start: three or more samples in a row at full scale.
    #[serde(default)]
    pub clips: u64,
}

/// Loudness by EBU R128. A level is `null` where there is no sound, or none above the gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoudnessStatus {
    /// Loudness of the last 0.4 s, in LUFS.
    pub momentary_lufs: Option<f64>,
    /// Loudness of the last 3 s, in LUFS.
    pub short_term_lufs: Option<f64>,
    /// Loudness since the start, in LUFS, gated.
    pub integrated_lufs: Option<f64>,
    /// Range of the short-term loudness since the start, in LU.
    pub range_lu: f64,
    /// The largest true peak of each channel since the start, in dB relative to full scale.
    pub true_peak_dbtp: Vec<Option<f64>>,
}

/// Latencies before the listeners' rings, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceLatency {
    /// From the capture of a block's first frame to its dispatch.
    #[serde(default)]
    pub ring: Percentiles,
    /// From the server that is the source to this one.
    #[serde(default)]
    pub hop: Percentiles,
}

/// The state of a recording. Each block that was offered to the recorder is among `blocks`, `lost` or `queued`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingStatus {
    /// The directory.
    pub directory: PathBuf,
    /// The file that is being written; `null` before the first block, after the last one, and while the disk fails.
    pub file: Option<PathBuf>,
    /// Files so far.
    pub files: u64,
    /// Blocks of sound in the files.
    pub blocks: u64,
    /// Blocks that are silence in the files or missing; at the end also those that the disk did not take.
    pub lost: u64,
    /// Blocks that wait to be written.
    pub queued: u64,
    /// Bytes of samples in the files, including silence.
    pub bytes: u64,
    /// Bytes that are free on the disk; `null` if that is not known.
    #[serde(default)]
    pub free_bytes: Option<u64>,
    /// The reason why nothing can be written now; `null` while the disk works.
    #[serde(default)]
    pub failing: Option<String>,
}

/// The segments of HLS in one format. Those who hear them are no listeners with a connection, and are not counted: a cache may ask for
/// many of them, and one for what it has heard before. The program that makes the segments is a consumer with an account of its own, in
/// blocks: `offered` is the sum of `delivered`, `lost` and `queued`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HlsStatus {
    /// `opus` or `flac`.
    pub format: String,
    /// Whether segments are being made, because somebody has asked for them in the last 20 s.
    pub is_running: bool,
    /// Segments so far.
    pub segments: u64,
    /// Requests for the playlist of this format that came here, and not to a cache.
    pub playlist_requests: u64,
    /// Requests for segments and the header before them that came here.
    pub segment_requests: u64,
    /// Blocks that were offered while segments were made.
    pub offered: u64,
    /// Blocks that were taken to make them.
    pub delivered: u64,
    /// Blocks that are silence in them, or in none of them.
    pub lost: u64,
    /// Blocks that wait to be taken.
    pub queued: u64,
}

/// A notification, as people read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastNotification {
    /// The event, such as `source_lost`.
    pub event: String,
    /// `begin` or `end`.
    pub state: String,
    /// When it happened.
    pub at: f64,
    /// What happened, in a sentence.
    pub text: String,
}

/// A receiver of notifications and its account. Each notification is delivered, failed or dropped, or is queued.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotificationTarget {
    /// Its host, and its port if that is not the scheme's own. The rest of its URL is a secret.
    pub host: String,
    /// The form in which it is told: `json`, `ntfy` or `slack`.
    pub form: String,
    /// Notifications that it has taken.
    pub delivered: u64,
    /// Notifications that it has refused, or redirected to another URL.
    pub failed: u64,
    /// Notifications that were given up, because the queue was full or they had waited for an hour.
    pub dropped: u64,
    /// Failed tries after which a notification is tried again.
    pub retried: u64,
    /// Notifications that wait, with the one that is being sent.
    pub queued: u64,
    /// When the last one was delivered; `null` before the first.
    pub delivered_at: Option<f64>,
    /// The last failure; `null` before the first.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<f64>,
    /// When the next try is due; `null` if none has to wait.
    pub retry_at: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_sources_of_a_newer_server_are_read() {
        assert_eq!(serde_json::from_str::<StreamState>(r#""dreaming""#).unwrap(), StreamState::Unknown);
        assert_eq!(serde_json::from_str::<SourceKind>(r#""telegraph""#).unwrap(), SourceKind::Unknown);
    }
}
