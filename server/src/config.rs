//! What the service is to do: every setting, from where it may come, and what it may be.
//!
//! A setting comes from the defaults, a TOML file, the environment or a flag; each of these beats the ones before it.
//! Every layer is read in full, so that a mistake is told even where a later layer hides it. A mistake is one line
//! that names the place and says what would be right.

pub mod cli;
mod file;
mod layers;
mod mistake;
mod nearest;
mod report;
mod setting;
mod source;
mod split;
mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use aircheck_engine::Overflow;
use aircheck_engine::source::PcmEncoding;

pub(crate) use layers::Layers;
pub use mistake::ConfigError;
pub use report::Checked;
pub(crate) use setting::Key;
pub use source::{SourceSpec, UnknownSource};
pub use split::RecordSplit;

/// The least blocks that a lag objective may be: a healthy listener is one or two behind while others are served.
pub const LAG_BLOCKS_LEAST: u32 = 4;

/// All settings of a service, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the sound comes from.
    pub source: SourceSpec,
    /// Whether a WAV file starts again at its end. Only with [`SourceSpec::Wav`].
    pub looped: bool,
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Length of a block, 1 ms to 100 ms.
    pub block: Duration,
    /// Sound that each listener's ring holds: at least one block, at most a minute.
    pub buffer: Duration,
    /// Sound kept for burst, resume and `from=`: none to ten minutes.
    pub history: Duration,
    /// Policy of a listener that asks for none. Never [`Overflow::Block`]: the service's sound is live.
    pub overflow: Overflow,
    /// Lag beyond which a listener is skipped to live, or ended if that is its policy; at least [`LAG_BLOCKS_LEAST`]
    /// blocks. `None`: only its ring's length counts.
    pub max_lag: Option<Duration>,
    /// Sound that may wait in the kernel for each listener, sent or not, on top of what is on its way: 10 ms to 10 s.
    pub socket_buffer: Duration,
    /// Most listeners at a time, 1 to 100,000.
    pub max_listeners: usize,
    /// Directory to record to. `None`: nothing is recorded, because a microphone is private.
    pub record: Option<PathBuf>,
    /// When the recording goes on in a new file. Only with a directory to record to.
    pub record_split: RecordSplit,
    /// Frames per second of raw sound on stdin, or to ask the input device for. Only for sources where
    /// [`SourceSpec::takes_format`].
    pub rate_hz: Option<u32>,
    /// Samples per frame of raw sound on stdin, or to ask the input device for. Only for sources where
    /// [`SourceSpec::takes_format`].
    pub channels: Option<u16>,
    /// How samples on stdin are written. Only with [`SourceSpec::Stdin`].
    pub sample: Option<PcmEncoding>,
    /// Host names, in lower case, under which requests are taken, besides addresses and localhost.
    pub allow_hosts: Vec<String>,
    /// Web sites, as browsers write them (`https://radio.example`), whose pages may read the streams.
    pub allow_origins: Vec<String>,
}

impl Default for Config {
    /// What runs where nothing is said.
    fn default() -> Self {
        Self {
            source: SourceSpec::Auto,
            looped: false,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8700)),
            block: Duration::from_millis(10),
            buffer: Duration::from_secs(1),
            history: Duration::from_secs(10),
            overflow: Overflow::SkipToLive,
            max_lag: None,
            // Ten blocks: enough that a listener's machine gets on with its packets while ours is kept waiting, and a
            // tenth of the ring, so that a stall shows in our own account almost at once.
            socket_buffer: Duration::from_millis(100),
            max_listeners: 1000,
            record: None,
            record_split: RecordSplit::default(),
            rate_hz: None,
            channels: None,
            sample: None,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
        }
    }
}

impl Config {
    /// Rate in Hz, channels and encoding of the raw sound on stdin: what is not said is 48,000 Hz, stereo and
    /// [`PcmEncoding::S16Le`], which is what most tools write when asked for raw sound.
    ///
    /// ```
    /// use aircheck_engine::source::PcmEncoding;
    /// use aircheck_server::config::Config;
    ///
    /// let config = Config { channels: Some(1), ..Config::default() };
    /// assert_eq!(config.stdin_format(), (48_000, 1, PcmEncoding::S16Le));
    /// ```
    #[must_use]
    pub fn stdin_format(&self) -> (u32, u16, PcmEncoding) {
        (self.rate_hz.unwrap_or(48_000), self.channels.unwrap_or(2), self.sample.unwrap_or(PcmEncoding::S16Le))
    }
}
