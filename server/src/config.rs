//! The configuration: every setting with its names, its default, its bounds and its meaning.
//!
//! A setting is one field of the structs below, and a new one needs no other place:
//!
//! - its doc comment is the text of `--help` and of docs/configuration.md,
//! - its name is the key in the file, its `long` is the flag, and the flag in capitals after `AIRCHECK_` is the variable,
//! - its type reads, bounds and shows the value, with one reader for file, variable and flag,
//! - its value in `Default` is the only copy of the default.
//!
//! A value comes from the defaults, a TOML file, the environment or a flag; each of these beats the ones before it. Each
//! layer is checked in full, so that a mistake is told even where a later layer hides it. A message is one line: the
//! place, what is wrong, and what would work.

mod check;
pub mod cli;
mod error;
mod file;
mod layers;
mod notation;
mod number;
mod record_split;
mod report;
mod schema;
mod site;
mod source;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use aircheck_engine::Overflow;
use aircheck_engine::source::PcmEncoding;
use clap::{ArgAction, Args};
use humantime::parse_duration;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Serialize};

pub use error::ConfigError;
use notation::{Address, Directory, Encoding, Notation as _, OrOff, Policy, Span};
use number::Number;
pub use record_split::RecordSplit;
pub use report::Checked;
pub use schema::{Setting, settings};
use site::{HostName, WebOrigin};
pub use source::SourceSpec;
use value::Value;
pub use value::ValueError;

/// Smallest limit of lag, in blocks: a healthy listener is one or two behind while others are served.
pub const MIN_LAG_BLOCKS: u32 = 4;

/// All settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize)]
pub struct Config {
    /// The source, and the blocks that are made of it.
    #[command(flatten)]
    #[serde(flatten)]
    pub capture: CaptureConfig,
    /// What a listener gets if its URL does not say otherwise.
    #[command(flatten)]
    #[serde(flatten)]
    pub delivery: DeliveryConfig,
    /// The recording.
    #[command(flatten)]
    #[serde(flatten)]
    pub recorder: RecorderConfig,
    /// Connections.
    #[command(flatten)]
    #[serde(flatten)]
    pub http: HttpConfig,
}

/// The source, and the blocks that are made of it.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Source")]
#[serde(default)]
pub struct CaptureConfig {
    /// Source of the sound: auto, mic, mic:NAME, wav:PATH, tone:HZ or stdin; auto is the default input device, or a
    /// demo sound if there is none
    #[arg(long, value_name = "S")]
    #[serde(with = "SourceSpec")]
    pub source: SourceSpec,
    /// Start a WAV file again at its end; --loop=false overrides the file
    #[arg(
        id = "loop",
        long = "loop",
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    #[serde(rename = "loop")]
    pub looped: bool,
    /// Sample rate of the sound on stdin; an input device is asked for it if it is given, and has its own otherwise
    // The engine's bounds; so are those of `channels` and `block`.
    #[arg(id = "rate", long = "rate", value_name = "HZ")]
    #[serde(rename = "rate", deserialize_with = "Number::<1, 768_000, true>::some")]
    pub rate_hz: Option<u32>,
    /// Channels of the sound on stdin; an input device is asked for them if they are given, and has its own otherwise
    #[arg(long, value_name = "N")]
    #[serde(deserialize_with = "Number::<1, 32>::some")]
    pub channels: Option<u16>,
    /// Encoding of the samples on stdin: s16le, s24le or f32le
    #[arg(long, value_name = "FMT")]
    #[serde(with = "Encoding")]
    pub sample: PcmEncoding,
    /// Length of a block, 1ms to 100ms
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    #[serde(with = "Span::<1, 100>")]
    pub block: Duration,
    /// Sound that is kept for listeners that start in the past, 0s to 10m
    // None of it: no burst and no resume. Ten minutes of 48 kHz stereo are 230 MB, all of them in memory.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    #[serde(with = "Span::<0, 600_000>")]
    pub history: Duration,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            source: SourceSpec::Auto,
            looped: false,
            rate_hz: None,
            channels: None,
            // Most tools write this when asked for raw sound.
            sample: PcmEncoding::S16Le,
            block: Duration::from_millis(10),
            history: Duration::from_secs(10),
        }
    }
}

/// What a listener gets if its URL does not say otherwise.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Listeners")]
#[serde(default)]
pub struct DeliveryConfig {
    /// Sound that a listener may be behind before it loses blocks, one block to 1m; with skip-to-live the ring is twice as
    /// long, so up to twice that is queued until the listener reads again
    // A minute behind is no longer live, and is 60,000 handles of blocks of 1 ms, half a megabyte for each listener.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    #[serde(with = "Span::<1, 60_000>")]
    pub buffer: Duration,
    /// What happens to a listener that is too slow: skip-to-live, drop-newest, latest or disconnect
    #[arg(long, value_name = "P")]
    #[serde(with = "Policy")]
    pub overflow: Overflow,
    /// Lag at which a listener is skipped to live, or disconnected if that is its policy: 4 blocks to 10m, or off
    // Beyond ten minutes there is neither ring nor history to be behind in.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    #[serde(with = "OrOff::<Span<1, 600_000>>")]
    pub max_lag: Option<Duration>,
    /// Sound that may wait in the kernel for each listener, 10ms to 10s: less shows a stall earlier, more bridges longer
    /// pauses
    // Below 10 ms the kernel runs dry between two wake-ups; beyond 10 s the lag is the kernel's before it is ours.
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    #[serde(with = "Span::<10, 10_000>")]
    pub socket_buffer: Duration,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            buffer: Duration::from_secs(1),
            overflow: Overflow::SkipToLive,
            max_lag: None,
            // Ten blocks: enough that a listener's machine gets on with its packets while ours is kept waiting, and a
            // tenth of the buffer, so that a stall shows in our own account almost at once.
            socket_buffer: Duration::from_millis(100),
        }
    }
}

/// The recording.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Recording")]
#[serde(default)]
pub struct RecorderConfig {
    /// Directory to record to, made if it is missing, or off; a lost block is silence in the file, and is listed in a
    /// second file beside it
    // Off unless the operator asks for it, because a microphone is private.
    #[arg(long, value_name = "DIR")]
    #[serde(with = "OrOff::<Directory>")]
    pub record: Option<PathBuf>,
    /// Length of a file, such as 1h, 1s to 24h, or its size, such as 500MB, 1MB to 4GiB
    #[arg(long, value_name = "D")]
    #[serde(with = "RecordSplit")]
    pub record_split: RecordSplit,
}

/// Connections.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Connections")]
#[serde(default)]
pub struct HttpConfig {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    #[serde(with = "Address")]
    pub listen: SocketAddr,
    /// Listeners at a time, 1 to 100000; further ones are told to come back later
    // A listener is a file descriptor and, with the default buffer, at most 64 KiB: 100,000 are 6.5 GB.
    #[arg(long, value_name = "N")]
    #[serde(deserialize_with = "Number::<1, 100_000>::deserialize")]
    pub max_listeners: usize,
    /// Connections that one address may have open at a time, 1 to 100000
    #[arg(long, value_name = "N")]
    #[serde(deserialize_with = "Number::<1, 100_000>::deserialize")]
    pub max_connections_per_address: usize,
    /// Host name under which requests are accepted, besides addresses and localhost; may be repeated
    #[arg(long = "allow-host", value_name = "NAME")]
    #[serde(deserialize_with = "HostName::list")]
    pub allow_hosts: Vec<String>,
    /// Web site whose pages may read the streams, SCHEME://HOST:PORT; may be repeated
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    #[serde(deserialize_with = "WebOrigin::list")]
    pub allow_origins: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            // Loopback: a microphone is private.
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8700)),
            max_listeners: 1000,
            // A page takes three connections: twenty pages behind one router, and some to spare.
            max_connections_per_address: 64,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
        }
    }
}

impl Config {
    /// Reads settings from keys and their values; the others are as by default.
    ///
    /// The groups are nested but the keys are flat. Each group reads the keys that it knows, because serde's `flatten`
    /// would forget which type a text is to become. Unknown keys are found before, by [`settings`].
    fn read<'a>(values: impl Iterator<Item = (&'a str, Value)> + Clone) -> Result<Self, ValueError> {
        Ok(Self {
            capture: CaptureConfig::deserialize(MapDeserializer::new(values.clone()))?,
            delivery: DeliveryConfig::deserialize(MapDeserializer::new(values.clone()))?,
            recorder: RecorderConfig::deserialize(MapDeserializer::new(values.clone()))?,
            http: HttpConfig::deserialize(MapDeserializer::new(values))?,
        })
    }
}

impl CaptureConfig {
    /// Returns rate in Hz, channels and encoding of the raw sound on stdin. The defaults are 48,000 Hz and stereo, which
    /// is what most tools write when asked for raw sound.
    ///
    /// ```
    /// use aircheck_engine::source::PcmEncoding;
    /// use aircheck_server::config::CaptureConfig;
    ///
    /// let config = CaptureConfig { channels: Some(1), ..CaptureConfig::default() };
    /// assert_eq!(config.stdin_format(), (48_000, 1, PcmEncoding::S16Le));
    /// ```
    #[must_use]
    pub fn stdin_format(&self) -> (u32, u16, PcmEncoding) {
        (self.rate_hz.unwrap_or(48_000), self.channels.unwrap_or(2), self.sample)
    }

    /// Fills in the rate and the channels that sound on stdin has where none are given.
    fn with_stdin_format(mut self) -> Self {
        let (rate_hz, channels, _) = self.stdin_format();
        (self.rate_hz, self.channels) = (Some(rate_hz), Some(channels));
        self
    }
}
