//! The schema: every setting with its names, its default, its bounds and its meaning.
//!
//! A setting is one field of the structs below, and a new one needs no other place:
//!
//! - its doc comment is the text of `--help` and of docs/configuration.md,
//! - its name is the key in the file, its `long` is the flag, and the flag in capitals after `AIRCHECK_` is the variable,
//! - its `default_value` is the only copy of the default,
//! - its `deserialize_with` reads and bounds the value, whether it stands in the file, a variable, a flag or a default.
//!
//! A setting that only the file can have, because it is a table, is a field of `FileConfig`.
//!
//! The groups are nested, and the keys in the file are flat: `settings.rs` reads each group from the same table.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::OverflowPolicy;
use aircheck_engine::source::PcmEncoding;
use aircheck_notify::{Form, Target};
use clap::{ArgAction, Args};
use humantime::parse_duration;
use ipnet::IpNet;
use rustix::system::uname;
use serde::Deserialize;

use super::edge_name::{EdgeName, edge_name_of};
use super::listen::{FileMode, ListenAddress};
use super::mount_table::{self, MountTable};
use super::nats_url::NatsUrl;
use super::network::Network;
use super::notation::{Address, Directory, Encoding, FileName, Notation as _, OrOff, Policy, Span};
use super::notify::{Level, NotifyForm, NotifyUrl};
use super::number::Number;
use super::on_loss::{FallbackSpec, LossPolicy};
use super::origin::{HostName, WebOrigin};
use super::pace::Pace;
use super::publish_format::PublishFormat;
use super::push::PushTarget;
use super::record_keep::{RecordFormat, RecordKeep, Size};
use super::record_split::RecordSplit;
use super::source::SourceSpec;
use super::tokens;
use crate::access::policy::Rules;
use crate::access::token::Token;

/// Smallest limit of lag, in blocks: a healthy listener is one or two behind while others are served.
pub const MIN_LAG_BLOCKS: u32 = 4;

/// Sample rate in Hz of the sound on stdin if none is given: most tools write this and [`STDIN_CHANNELS`] when asked for raw
/// sound.
const STDIN_RATE_HZ: u32 = 48_000;
/// Channels of the sound on stdin if none are given.
const STDIN_CHANNELS: u16 = 2;
/// Rate in Hz of a mount that waits for its first device or source client, if none is given: the rate of most devices.
const WAITING_RATE_HZ: u32 = 48_000;
/// Channels of such a mount. A microphone with one channel is heard on both.
const WAITING_CHANNELS: u16 = 2;

/// All settings of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The mounts, the first of which is at `/stream*`. Never empty.
    pub mounts: Vec<MountConfig>,
    /// The address, and limits of connections.
    pub http: HttpConfig,
    /// The listeners of other servers, and those of this one as others see them.
    pub audience: AudienceConfig,
    /// The receivers of notifications.
    pub notify: NotifyConfig,
    /// The tokens, which only the file can have.
    pub tokens: Vec<Arc<Token>>,
}

/// The settings of a mount: of the only one, or of a table `[[mount]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MountConfig {
    /// Its name, which is unique.
    pub name: String,
    /// The source, and the blocks that are made of it.
    pub capture: CaptureConfig,
    /// Delivery to a listener whose URL does not say otherwise.
    pub delivery: DeliveryConfig,
    /// The recording.
    pub recorder: RecorderConfig,
    /// The subject of NATS that other servers take the sound from.
    pub publish: PublishConfig,
    /// What counts as silence.
    pub silence: SilenceConfig,
    /// The receivers that are told of this mount alone, beside those of the server.
    pub notify: Vec<Target>,
    /// Its settings as they were written, by their keys, to tell what a file has changed. Secrets are not shown.
    pub(super) written: BTreeMap<&'static str, String>,
}

impl Config {
    /// Returns the rules by which requests may listen, read figures and change things.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules { tokens: self.tokens.clone(), is_public: self.http.insecure_public }
    }

    /// Returns the settings of the mount at `/stream*`.
    ///
    /// # Panics
    ///
    /// Without a mount.
    #[must_use]
    pub fn first_mount(&self) -> &MountConfig {
        &self.mounts[0]
    }
}

/// Settings that only the file can have.
#[derive(Args, Deserialize)]
pub(super) struct FileConfig {
    /// Token that permits listening, reading figures or ending listeners: `name`, `hash` and `scopes`, as `aircheck token new`
    /// prints them; may be repeated
    #[arg(id = "token", long = "token", value_name = "TABLE", value_parser = tokens::not_a_text)]
    #[serde(rename = "token", default, deserialize_with = "tokens::list")]
    pub(super) tokens: Vec<Arc<Token>>,
    /// Mount with a source of its own, at `/mounts/NAME/stream.wav` and so on: `name`, `source`, and any other key of the source, its
    /// listeners, its recording or its silence, whose value is otherwise that of the whole file, and `notify` for receivers of its own; may be repeated
    #[arg(id = "mount", long = "mount", value_name = "TABLE", value_parser = mount_table::not_a_text)]
    #[serde(rename = "mount", default, deserialize_with = "mount_table::list")]
    pub(super) mounts: Vec<MountTable>,
}

/// The source, and the blocks that are made of it.
#[derive(Clone, Debug, PartialEq, Args, Deserialize)]
#[command(next_help_heading = "Source")]
pub struct CaptureConfig {
    /// Source of the sound: auto, mic, mic:NAME, wav:PATH, file:PATH, tone:HZ, stdin, put or nats://HOST:PORT/SUBJECT; auto is the
    /// default input device, or a demo sound if there is none; put is a source client such as butt or ffmpeg; nats:// is what another
    /// server publishes
    #[arg(long, value_name = "S", default_value = "auto")]
    #[serde(deserialize_with = "SourceSpec::deserialize")]
    pub source: SourceSpec,
    /// Start a file or a playlist again at its end; --loop=false overrides the file
    #[arg(
        id = "loop",
        long = "loop",
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    #[serde(rename = "loop")]
    pub looped: bool,
    /// Sample rate of stdin or source clients, or to request from an input device, in Hz
    // The engine's bounds; so are those of `channels` and `block`.
    #[arg(id = "rate", long = "rate", value_name = "HZ", help = format!("Sample rate in Hz {}", on_stdin(STDIN_RATE_HZ)))]
    #[serde(rename = "rate", default, deserialize_with = "Number::<1, 768_000, true>::some")]
    pub rate_hz: Option<u32>,
    /// Channels of stdin or source clients, or to request from an input device
    #[arg(long, value_name = "N", help = format!("Channels {}", on_stdin(STDIN_CHANNELS)))]
    #[serde(default, deserialize_with = "Number::<1, 32>::some")]
    pub channels: Option<u16>,
    /// Encoding of the samples on stdin: s16le, s24le or f32le
    #[arg(long, value_name = "FMT", default_value = "s16le")]
    #[serde(deserialize_with = "Encoding::deserialize")]
    pub sample: PcmEncoding,
    /// Whose clock the sound on stdin follows: source (the writer's; samples stay as they are) or clock (this machine's; the
    /// sound is resampled by up to 0.5 %)
    #[arg(long, value_name = "P", default_value = "source")]
    #[serde(deserialize_with = "Pace::deserialize")]
    pub pace: Pace,
    /// Length of a block, 1ms to 100ms
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "10ms")]
    #[serde(deserialize_with = "Span::<1, 100>::deserialize")]
    pub block: Duration,
    /// Sound that is kept for listeners that start in the past, 0s to 10m
    // None of it: no burst and no resume. Ten minutes of 48 kHz stereo are 230 MB, all of them in memory.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "10s")]
    #[serde(deserialize_with = "Span::<0, 600_000>::deserialize")]
    pub history: Duration,
    /// What listeners get while a device is lost or stdin pauses: silence, fallback or end; a lost device is opened again
    /// as soon as it is back
    #[arg(long, value_name = "P", default_value = "silence")]
    #[serde(deserialize_with = "LossPolicy::deserialize")]
    pub on_source_loss: LossPolicy,
    /// Sound to play while the source is lost, and after stdin or a file has ended: wav:PATH, tone:HZ, demo or off
    #[arg(long, value_name = "S", default_value = "off")]
    #[serde(deserialize_with = "OrOff::<FallbackSpec>::deserialize")]
    pub fallback: Option<FallbackSpec>,
    /// Silence before the fallback, 0s to 60m
    // By default longer than a device takes that was unplugged and plugged in again.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "2s")]
    #[serde(deserialize_with = "Span::<0, 3_600_000>::deserialize")]
    pub fallback_after: Duration,
    /// Serve before there is an input device, or before another server publishes, and wait for it; --wait-for-source=false overrides
    /// the file
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub wait_for_source: bool,
    /// Longest pause of the sound of another server while missing blocks are fetched from its replay, 1ms to 30s, or off, which fetches
    /// none; blocks that come later are lost
    // Without sound for 0.3 s more the source counts as lost: 0.8 s, as for any source.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "500ms")]
    #[serde(deserialize_with = "OrOff::<Span<1, 30_000>>::deserialize")]
    pub hop_wait: Option<Duration>,
}

/// Delivery to a listener whose URL does not say otherwise.
#[derive(Clone, Debug, PartialEq, Args, Deserialize)]
#[command(next_help_heading = "Listeners")]
pub struct DeliveryConfig {
    /// Sound that a listener may be behind before it loses blocks, one block to 1m; with skip-to-live the ring is twice as
    /// long, so up to twice that is queued until the listener reads again
    // A minute behind is no longer live, and is 60,000 handles of blocks of 1 ms, half a megabyte for each listener.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "1s")]
    #[serde(deserialize_with = "Span::<1, 60_000>::deserialize")]
    pub buffer: Duration,
    /// Policy for a listener that is too slow: skip-to-live, drop-newest, latest or disconnect
    #[arg(long, value_name = "P", default_value = "skip-to-live")]
    #[serde(deserialize_with = "Policy::deserialize")]
    pub overflow: OverflowPolicy,
    /// Lag at which a listener is skipped to live, or disconnected if that is its policy: 4 blocks to 10m, or off
    // Beyond ten minutes there is neither ring nor history to be behind in.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "off")]
    #[serde(deserialize_with = "OrOff::<Span<1, 600_000>>::deserialize")]
    pub max_lag: Option<Duration>,
    /// Time after which a listener is disconnected whose program reads nothing although sound waits for it, 1s to 60m, or off
    // Off by default: a paused player stays until its listener comes back. Below a second, a busy machine looks like a pause.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "off")]
    #[serde(deserialize_with = "OrOff::<Span<1_000, 3_600_000>>::deserialize")]
    pub idle_timeout: Option<Duration>,
    /// Sound that may wait in the kernel for each listener, 10ms to 10s; a shorter buffer shows stalls earlier, a longer
    /// one bridges longer pauses
    // Below 10 ms the kernel runs dry between two wake-ups; beyond 10 s the lag is the kernel's before it is ours.
    // The default is ten blocks: enough that a listener's machine gets on with its packets while ours is kept waiting, and a
    // tenth of the buffer, so that a stall shows in our own account almost at once.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "100ms")]
    #[serde(deserialize_with = "Span::<10, 10_000>::deserialize")]
    pub socket_buffer: Duration,
    /// Icecast server to which the sound is sent, icecast://source:PASSWORD@HOST:PORT/MOUNT, as Ogg Opus, or as MP3 if MOUNT ends
    /// in .mp3; may be repeated; the password is kept secret, so give it in the file or the variable
    // Other users of the machine can read the flags of a process.
    #[arg(long, value_name = "URL")]
    #[serde(default, deserialize_with = "PushTarget::list")]
    pub push: Vec<PushTarget>,
}

/// The recording.
#[derive(Clone, Debug, PartialEq, Args, Deserialize)]
#[command(next_help_heading = "Recording")]
pub struct RecorderConfig {
    /// Directory to record to, made if it is missing, or off; a lost block is silence in the file, and is listed in a
    /// second file beside it
    // Off by default, because a microphone is private.
    #[arg(long, value_name = "DIR", default_value = "off")]
    #[serde(deserialize_with = "OrOff::<Directory>::deserialize")]
    pub record: Option<PathBuf>,
    /// Length of each file, 1s to 24h, such as 1h; or its size, 1MB to 4GiB, such as 500MB
    // The default is 1.4 GB of 48 kHz stereo, and a time of day is found by the hour in the file's name.
    #[arg(long, value_name = "D", default_value = "1h")]
    #[serde(deserialize_with = "RecordSplit::deserialize")]
    pub record_split: RecordSplit,
    /// Cut files at whole multiples of their length since midnight UTC, so that files of an hour begin on the hour
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub record_align: bool,
    /// Age or size of what is kept, such as 30d or 500GB; the oldest files beyond it are deleted; may be repeated
    // All is kept by default: a program that deletes does so only when told to.
    #[arg(long, value_name = "K")]
    #[serde(default, deserialize_with = "RecordKeep::list")]
    pub record_keep: Vec<RecordKeep>,
    /// Room to leave on the disk, or off; with less, the recording stops until there is room again
    // A gigabyte keeps a system disk usable: logs, packages and databases go on.
    #[arg(long, value_name = "SIZE", default_value = "1GB")]
    #[serde(deserialize_with = "OrOff::<Size>::deserialize")]
    pub record_reserve: Option<Size>,
    /// Format of the files, wav or flac; flac takes half of the room or less, and keeps 16 or 24 bits
    #[arg(long, value_name = "F", default_value = "wav")]
    #[serde(deserialize_with = "RecordFormat::deserialize")]
    pub record_format: RecordFormat,
}

/// The subject of NATS that other servers take the sound from.
#[derive(Clone, Debug, PartialEq, Args, Deserialize)]
#[command(next_help_heading = "Other servers")]
pub struct PublishConfig {
    /// Subject of a NATS server on which to publish each block, for other aircheck servers whose --source it is:
    /// nats://HOST:PORT/SUBJECT, with USER:PASSWORD@ before HOST where it is needed, ,HOST:PORT after PORT for each further server
    /// of a cluster, tls://… for an encrypted connection, or off; ?credentials=FILE and ?ca=FILE may follow; give a password in
    /// the file or the variable
    // Other users of the machine can read the flags of a process.
    #[arg(long, value_name = "URL", default_value = "off")]
    #[serde(deserialize_with = "OrOff::<NatsUrl>::deserialize")]
    pub publish: Option<NatsUrl>,
    /// Form in which to do so: exact, which changes no sample, opus, or opus:BITRATE such as opus:128k, which takes a tenth of the
    /// bandwidth, delays by 20 ms or the whole blocks that cover them, and changes the sound
    #[arg(long, value_name = "F", default_value = "exact")]
    #[serde(deserialize_with = "PublishFormat::deserialize")]
    pub publish_format: PublishFormat,
    /// Time that JetStream keeps in memory of the published subject, 1s to 1h, or off; other servers fetch from it what they have missed
    // An hour of 48 kHz stereo is 0.7 to 1.4 GB, all of it in the memory of the NATS server.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "off")]
    #[serde(deserialize_with = "OrOff::<Span<1_000, 3_600_000>>::deserialize")]
    pub replay: Option<Duration>,
}

/// The listeners of other servers, and those of this one as others see them.
#[derive(Clone, Debug, PartialEq, Args, Deserialize)]
#[command(next_help_heading = "Other servers")]
pub struct AudienceConfig {
    /// Subject of a NATS server under which to tell of the listeners here once a second, for the aircheck whose --gather it is:
    /// nats://HOST:PORT/SUBJECT as of --publish, or off; the messages have names and addresses of listeners
    #[arg(long, value_name = "URL", default_value = "off")]
    #[serde(deserialize_with = "OrOff::<NatsUrl>::deserialize")]
    pub report: Option<NatsUrl>,
    /// Name under which to do so, up to 32 letters, digits, hyphens and underscores; that of the machine if not given
    #[arg(long, value_name = "NAME")]
    #[serde(default, deserialize_with = "EdgeName::deserialize")]
    pub report_as: Option<String>,
    /// Subject of a NATS server under which other aircheck servers --report, to show their listeners here:
    /// nats://HOST:PORT/SUBJECT as of --publish, or off
    #[arg(long, value_name = "URL", default_value = "off")]
    #[serde(deserialize_with = "OrOff::<NatsUrl>::deserialize")]
    pub gather: Option<NatsUrl>,
}

/// The address, and limits of connections.
#[derive(Clone, Debug, PartialEq, Args, Deserialize)]
#[command(next_help_heading = "Connections")]
pub struct HttpConfig {
    /// Address to listen on, or unix:PATH; may be repeated; port 0 picks a free one; sockets that systemd passes are used instead
    // The default is loopback: a microphone is private.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8700")]
    #[serde(deserialize_with = "ListenAddress::one_or_list")]
    pub listen: Vec<ListenAddress>,
    /// Permissions of the file of a Unix socket, three octal digits
    // Its owner alone, as a microphone is private; 660 lets a proxy in that is of its group.
    #[arg(long, value_name = "MODE", default_value = "600")]
    #[serde(deserialize_with = "FileMode::deserialize")]
    pub unix_mode: u32,
    /// File with the certificate for HTTPS, in PEM, with those of its issuers after it; read again when it changes, and at SIGHUP
    #[arg(long, value_name = "FILE", default_value = "off")]
    #[serde(deserialize_with = "OrOff::<FileName>::deserialize")]
    pub tls_cert: Option<PathBuf>,
    /// File with the private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", default_value = "off")]
    #[serde(deserialize_with = "OrOff::<FileName>::deserialize")]
    pub tls_key: Option<PathBuf>,
    /// HTTPS with a certificate that is made once for this machine's names and addresses, and kept; browsers warn of it, so compare
    /// its fingerprint, which the log shows
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub tls_self_signed: bool,
    /// Permit listening without a token on an address that other machines can reach
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub insecure_public: bool,
    /// Address for status, listeners, events and metrics, or off; with one, --listen does not serve them
    #[arg(long, value_name = "ADDR", default_value = "off")]
    #[serde(deserialize_with = "OrOff::<Address>::deserialize")]
    pub admin_listen: Option<SocketAddr>,
    /// Listeners at a time, 1 to 1048576, each of which takes an open file; further ones are refused and may try again later
    // Linux's own ceiling of open files of a process (`fs.nr_open`).
    #[arg(long, value_name = "N", default_value = "1000")]
    #[serde(deserialize_with = "Number::<1, 1_048_576>::deserialize")]
    pub max_listeners: usize,
    /// Connections that one address may have open at a time without those of listeners, 1 to 100000
    // A page takes one connection besides its stream, and six while it loads: some fifty pages behind one router.
    #[arg(long, value_name = "N", default_value = "64")]
    #[serde(deserialize_with = "Number::<1, 100_000>::deserialize")]
    pub max_connections_per_address: usize,
    /// Proxy whose word about its clients is taken, an address or a network such as 10.0.0.0/8; may be repeated; Unix sockets count as
    /// 127.0.0.1
    // None by default: these fields and headers can be written by any client.
    #[arg(id = "trusted_proxy", long = "trusted-proxy", value_name = "CIDR")]
    #[serde(rename = "trusted_proxy", default, deserialize_with = "Network::list")]
    pub trusted_proxies: Vec<IpNet>,
    /// Host name under which requests are accepted, besides addresses and localhost; may be repeated
    #[arg(long = "allow-host", value_name = "NAME")]
    #[serde(default, deserialize_with = "HostName::list")]
    pub allow_hosts: Vec<String>,
    /// Web site whose pages may read the streams, SCHEME://HOST:PORT; may be repeated
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    #[serde(default, deserialize_with = "WebOrigin::list")]
    pub allow_origins: Vec<String>,
}

/// The receivers of notifications.
#[derive(Clone, Debug, PartialEq, Args, Deserialize)]
#[command(next_help_heading = "Notifications")]
pub struct NotifyConfig {
    /// URL to which events such as silence, losses or a full disk are posted; may be repeated; what follows the host is kept
    /// secret, so give it in the file or the variable
    // Other users of the machine can read the flags of a process.
    #[arg(id = "notify", long = "notify", value_name = "URL")]
    #[serde(rename = "notify", default, deserialize_with = "NotifyUrl::list")]
    pub targets: Vec<Target>,
    /// Form of notifications: json, ntfy or slack
    #[arg(id = "notify_form", long = "notify-form", value_name = "F", default_value = "json")]
    #[serde(rename = "notify_form", deserialize_with = "NotifyForm::deserialize")]
    pub form: Form,
}

/// What counts as silence.
#[derive(Clone, Debug, PartialEq, Args, Deserialize)]
#[command(next_help_heading = "Notifications")]
pub struct SilenceConfig {
    /// Time after which silence is told, 1s to 60m
    // Below a second, a pause between two sentences is silence. Music has seconds of it; a dead microphone lasts.
    #[arg(long, value_name = "D", value_parser = parse_duration, default_value = "30s")]
    #[serde(deserialize_with = "Span::<1_000, 3_600_000>::deserialize")]
    pub silence_after: Duration,
    /// Level (RMS) below which sound counts as silence, -120dBFS to -6dBFS
    // Above the noise of a microphone in a quiet room that is set up for speech, below any programme.
    #[arg(long, value_name = "L", default_value = "-60dBFS", allow_hyphen_values = true)]
    #[serde(deserialize_with = "Level::deserialize")]
    pub silence_level: Level,
}

/// Returns the end of the help of a setting whose default depends on the source.
fn on_stdin(default: impl Display) -> String {
    format!("of stdin or source clients ({default} if not given), or to request from an input device")
}

impl AudienceConfig {
    /// Returns the name under which this server tells of its listeners.
    #[must_use]
    pub fn name(&self) -> String {
        self.report_as.clone().unwrap_or_else(|| edge_name_of(&uname().nodename().to_string_lossy()))
    }
}

impl CaptureConfig {
    /// Returns whether `other` names the same source, which need not be closed and opened again.
    #[must_use]
    pub fn has_source_of(&self, other: &Self) -> bool {
        let source = |it: &Self| {
            let Self { source, looped, rate_hz, channels, sample, pace, wait_for_source, hop_wait, .. } = it.clone();
            (source, looped, rate_hz, channels, sample, pace, wait_for_source, hop_wait)
        };
        source(self) == source(other)
    }

    /// Returns rate in Hz, channels and encoding of the raw sound on stdin.
    ///
    /// ```
    /// use aircheck_engine::source::PcmEncoding;
    /// use aircheck_server::config::Config;
    ///
    /// let mut capture = Config::default().first_mount().capture.clone();
    /// capture.channels = Some(1);
    /// assert_eq!(capture.stdin_format(), (48_000, 1, PcmEncoding::S16Le));
    /// ```
    #[must_use]
    pub fn stdin_format(&self) -> (u32, u16, PcmEncoding) {
        (self.rate_hz.unwrap_or(STDIN_RATE_HZ), self.channels.unwrap_or(STDIN_CHANNELS), self.sample)
    }

    /// Returns rate in Hz and channels of a mount that starts without a device or a source client.
    #[must_use]
    pub fn waiting_format(&self) -> (u32, u16) {
        (self.rate_hz.unwrap_or(WAITING_RATE_HZ), self.channels.unwrap_or(WAITING_CHANNELS))
    }
}
