//! The start of the source that a configuration names, with its supervisor.

#[cfg(feature = "decode")]
mod decode;
#[cfg(feature = "decode")]
mod decoded;
mod demo;
pub mod devices;
#[cfg_attr(not(feature = "decode"), path = "source/no_file.rs")]
mod file;
#[cfg(test)]
mod fuzz;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "decode")]
mod playlist;
#[cfg(feature = "decode")]
mod portion;
#[cfg_attr(not(feature = "decode"), path = "source/no_put.rs")]
mod put;
#[cfg(feature = "decode")]
mod sound_queue;
mod stdin;
mod steady;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aircheck_api::SourceKind;
use aircheck_engine::source::{
    Device, DeviceConfig, DeviceError, DeviceReopener, OnLoss, OpenFallback, Paced, Pull, Source, Supervised, Switch,
    Tone, Wav, WavError,
};
use aircheck_engine::{Stream, StreamError, StreamOptions, Timestamp};

use crate::config::{CaptureConfig, FallbackSpec, LossPolicy, NatsUrl, Pace, SourceSpec};
use crate::hop::account::HopAccount;
use crate::hop::numbers::NewestBlock;
use crate::metadata::MetadataLog;
pub(crate) use demo::Demo;
pub use put::{PutConnection, PutInput, PutRefused};
use steady::Steady;

/// Time from the moment when missing blocks of another server are given up to the one when it counts as lost.
#[cfg(feature = "nats")]
const QUIET_AFTER_WAIT: Duration = Duration::from_millis(300);

/// The reason why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The device cannot be used.
    #[error("source `{spec}`: {error}")]
    Device {
        /// The configured source.
        spec: String,
        /// The engine's error.
        error: DeviceError,
    },
    /// The file cannot be used.
    #[error("source `wav`: {0} (correct the path or the file, or choose another source with --source)")]
    Wav(#[from] WavError),
    /// The file, or all of a playlist, cannot be used.
    #[error("source `file`: {0} (correct the path or the file, or choose another source with --source)")]
    File(String),
    /// Source clients cannot be served.
    #[error("source `put`: {0}")]
    Put(String),
    /// The fallback cannot be used.
    #[error("fallback `{spec}`: {error} (correct the path or the file, or choose another fallback with --fallback)")]
    Fallback {
        /// The configured fallback.
        spec: String,
        /// The engine's error.
        error: String,
    },
    /// Standard input cannot be read.
    #[error("source `stdin`: {0}")]
    Stdin(String),
    /// The source was opened but did not start.
    #[error("source `{spec}`: {error}")]
    Start {
        /// The configured source.
        spec: String,
        /// The engine's error.
        error: StreamError,
    },
    /// Another server is not heard.
    #[error("source `{url}`: {why}")]
    Nats {
        /// The server and the subject.
        url: String,
        /// Why nothing comes from there, and what would help.
        why: String,
    },
}

/// A source that is open, with its supervisor.
#[derive(Debug)]
pub struct Opened {
    /// The source.
    pub source: Supervised,
    /// Its kind.
    pub kind: SourceKind,
    /// Where its clients connect, if it is made of them.
    pub put: Option<Arc<PutInput>>,
    /// What there is to know of another server that is the source.
    pub hop: Option<OpenHop>,
}

/// The hop from another server that is the source.
#[derive(Clone, Debug)]
pub struct OpenHop {
    /// Its account.
    pub account: Arc<HopAccount>,
    /// The length of its blocks, which keep their numbers.
    pub block: Duration,
    /// The number of the first block, which may be one of the replay, older than this server.
    pub first_sequence: u64,
    /// The number of the first block that has come live.
    pub first_live: u64,
}

/// A source that runs.
#[derive(Debug)]
pub struct Started {
    /// The stream of its blocks.
    pub stream: Stream,
    /// The number of its first block that is not older than this server.
    pub first_live: u64,
    /// Its kind.
    pub kind: SourceKind,
    /// Where its clients connect, if it is made of them.
    pub put: Option<Arc<PutInput>>,
    /// Changes it while the stream goes on.
    pub switch: Switch,
    /// The account of the hop from another server that is the source.
    pub hop: Option<Arc<HopAccount>>,
}

/// Opens and starts the source of `config`, and logs if it is not the expected one. What it knows of its sound goes to `metadata`.
/// Its numbers go on after those of `former`, a block of an earlier run, unless it has numbers of its own.
///
/// # Errors
///
/// When the source or the fallback cannot be opened or started. `auto` plays the demo sound instead, unless it is to
/// wait for a device.
pub fn start(
    config: &CaptureConfig,
    metadata: &Arc<MetadataLog>,
    former: Option<NewestBlock>,
) -> Result<Started, OpenError> {
    open_or_substitute(config, metadata, |Opened { source, kind, put, hop }| {
        let switch = source.switch();
        let stream = start_stream(config, source, hop.as_ref(), former)?;
        let first_live = hop.as_ref().map_or(stream.first_sequence(), |hop| hop.first_live);
        Ok(Started { stream, first_live, kind, put, switch, hop: hop.map(|hop| hop.account) })
    })
}

/// Opens the source of `config` for a stream that is there, and logs if it is not the expected one.
///
/// # Errors
///
/// Those of [`start`], without those of the start.
pub fn open(config: &CaptureConfig, metadata: &Arc<MetadataLog>) -> Result<Opened, OpenError> {
    // The stream that goes on with it has its history.
    let config = CaptureConfig { history: Duration::ZERO, ..config.clone() };
    open_or_substitute(&config, metadata, Ok)
}

/// Opens the source and uses it, or uses what stands for a device that cannot be used.
fn open_or_substitute<T>(
    config: &CaptureConfig,
    metadata: &Arc<MetadataLog>,
    proceed: impl Fn(Opened) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let is_device = matches!(config.source, SourceSpec::Auto | SourceSpec::Mic(_));
    check_fallback(config)?;
    match open_source(config, metadata).and_then(&proceed) {
        Err(error) if is_device && config.wait_for_source => {
            tracing::warn!("NO MICROPHONE YET: listeners get silence, because {error}");
            let source = waiting_microphone(config, error.to_string());
            proceed(Opened { source, kind: SourceKind::Mic, put: None, hop: None })
        }
        Err(error) if config.source == SourceSpec::Auto => {
            tracing::warn!("NOT A MICROPHONE: playing the built-in demo sound, because {error}");
            let source = supervised(config, made(config, Box::new(Paced::new(Demo::default()))));
            proceed(Opened { source, kind: SourceKind::Demo, put: None, hop: None })
        }
        result => result,
    }
}

fn open_source(config: &CaptureConfig, metadata: &Arc<MetadataLog>) -> Result<Opened, OpenError> {
    let mut put = None;
    let (source, kind) = match &config.source {
        SourceSpec::Auto => (microphone(config, None)?, SourceKind::Mic),
        SourceSpec::Mic(name) => (microphone(config, name.as_deref())?, SourceKind::Mic),
        SourceSpec::Wav(path) => (made(config, Box::new(Paced::new(Wav::open(path, config.looped)?))), SourceKind::Wav),
        SourceSpec::Tone(hz) => (made(config, Box::new(Tone::new(*hz))), SourceKind::Tone),
        SourceSpec::Stdin => {
            let (rate_hz, channels, sample) = config.stdin_format();
            let pcm = stdin::open(rate_hz, channels, sample).map_err(|error| OpenError::Stdin(error.to_string()))?;
            let source: Box<dyn Source> = match config.pace {
                Pace::Source => Box::new(Paced::new(pcm)),
                Pace::Clock => Box::new(Paced::new(Steady::new(pcm).map_err(OpenError::Stdin)?)),
            };
            (Supervised::new(source), SourceKind::Stdin)
        }
        SourceSpec::File(path) => {
            let sound = open_file(path, config.looped, metadata)?;
            (made(config, Box::new(Paced::new(sound))), SourceKind::File)
        }
        SourceSpec::Put => {
            let (rate_hz, channels) = config.waiting_format();
            let input = PutInput::open(rate_hz, channels, Arc::clone(metadata)).map_err(OpenError::Put)?;
            let waiting = Supervised::waiting(
                "source client".to_owned(),
                "no source client is connected".to_owned(),
                rate_hz,
                channels,
            );
            let source = waiting.reopen(PutInput::reopener(put.insert(input)));
            (source, SourceKind::Put)
        }
        SourceSpec::Nats(url) => return open_nats(config, url, metadata),
    };
    Ok(Opened { source: supervised(config, source), kind, put, hop: None })
}

/// Opens a sound file or a playlist.
pub(crate) fn open_file(
    path: &Path,
    looped: bool,
    metadata: &Arc<MetadataLog>,
) -> Result<impl Pull + use<>, OpenError> {
    file::open(path, looped, Arc::clone(metadata)).map_err(OpenError::File)
}

/// Opens what another server publishes.
#[cfg(feature = "nats")]
fn open_nats(config: &CaptureConfig, url: &NatsUrl, metadata: &Arc<MetadataLog>) -> Result<Opened, OpenError> {
    let source =
        nats::NatsSource::open(url, config, metadata).map_err(|why| OpenError::Nats { url: url.to_string(), why })?;
    let account = Arc::clone(source.account());
    let (first_sequence, first_live) = (source.first_sequence(), source.first_live());
    let hop = OpenHop { account, block: source.block_span(), first_sequence, first_live };
    // Silence would take the place of blocks that are still waited for.
    let quiet_span = config.hop_wait.unwrap_or_default() + QUIET_AFTER_WAIT;
    let source = supervised(config, Supervised::new(Box::new(source)).over_hop().may_be_quiet_for(quiet_span));
    Ok(Opened { source, kind: SourceKind::Nats, put: None, hop: Some(hop) })
}

#[cfg(not(feature = "nats"))]
fn open_nats(_: &CaptureConfig, url: &NatsUrl, _: &Arc<MetadataLog>) -> Result<Opened, OpenError> {
    let why = "this aircheck was built without the feature `nats` (build it with that)".to_owned();
    Err(OpenError::Nats { url: url.to_string(), why })
}

/// Supervises a source that is made or read here.
fn made(config: &CaptureConfig, source: Box<dyn Source>) -> Supervised {
    let source = Supervised::new(source);
    // With a fallback, a file whose disk hangs is to be heard of.
    if config.fallback.is_some() { source } else { source.may_pause() }
}

fn microphone(config: &CaptureConfig, name: Option<&str>) -> Result<Supervised, OpenError> {
    let device = Device::open(name, wanted(config))
        .map_err(|error| OpenError::Device { spec: config.source.to_string(), error })?;
    let reopener = reopener(config, name, device.rate_hz(), device.channels());
    Ok(Supervised::new(Box::new(device)).reopen(Arc::new(reopener)))
}

fn waiting_microphone(config: &CaptureConfig, reason: String) -> Supervised {
    let name = if let SourceSpec::Mic(name) = &config.source { name.as_deref() } else { None };
    let (rate_hz, channels) = config.waiting_format();
    let description = name.map_or_else(|| "microphone".to_owned(), |name| format!("microphone “{name}”"));
    let waiting = Supervised::waiting(description, reason, rate_hz, channels);
    supervised(config, waiting.reopen(Arc::new(reopener(config, name, rate_hz, channels))))
}

/// Returns what a configuration asks of a device.
pub(crate) fn wanted(config: &CaptureConfig) -> DeviceConfig {
    DeviceConfig { rate_hz: config.rate_hz, channels: config.channels }
}

fn reopener(config: &CaptureConfig, name: Option<&str>, rate_hz: u32, channels: u16) -> DeviceReopener {
    DeviceReopener::new(name.map(str::to_owned), wanted(config), rate_hz, channels)
}

fn supervised(config: &CaptureConfig, source: Supervised) -> Supervised {
    let (policy, fallback) = on_loss(config);
    let source = source.on_loss(policy);
    match fallback {
        Some(fallback) => source.fallback(fallback),
        None => source,
    }
}

/// Returns what happens when the source is lost, and the fallback.
#[must_use]
pub fn on_loss(config: &CaptureConfig) -> (OnLoss, Option<OpenFallback>) {
    let Some(spec) = config.fallback.clone() else {
        let is_end = config.on_source_loss == LossPolicy::End;
        return (if is_end { OnLoss::End } else { OnLoss::Silence }, None);
    };
    let fallback: OpenFallback = Box::new(move || open_fallback(&spec));
    (OnLoss::Fallback { after: config.fallback_after }, Some(fallback))
}

/// Finds out now, and not when it is needed, whether there is the fallback.
///
/// # Errors
///
/// When it cannot be opened.
pub fn check_fallback(config: &CaptureConfig) -> Result<(), OpenError> {
    let Some(spec) = &config.fallback else { return Ok(()) };
    open_fallback(spec).map(drop).map_err(|error| OpenError::Fallback { spec: spec.to_string(), error })
}

/// Opens the sound of a fallback.
pub(crate) fn open_fallback(spec: &FallbackSpec) -> Result<Box<dyn Pull>, String> {
    Ok(match spec {
        FallbackSpec::Wav(path) => Box::new(Wav::open(path, true).map_err(|error| error.to_string())?),
        FallbackSpec::Tone(hz) => Box::new(Tone::new(*hz).into_pull()),
        FallbackSpec::Demo => Box::new(Demo::default()),
    })
}

fn start_stream(
    config: &CaptureConfig,
    source: Supervised,
    hop: Option<&OpenHop>,
    former: Option<NewestBlock>,
) -> Result<Stream, OpenError> {
    let (block, first_sequence) = match hop {
        Some(hop) => (hop.block, hop.first_sequence),
        None => (config.block, former.map_or(0, |former| former.due(Timestamp::now(), config.block))),
    };
    let options =
        StreamOptions { block, history: config.history, first_sequence, realtime: true, ..StreamOptions::default() };
    Stream::start(Box::new(source), options)
        .map_err(|error| OpenError::Start { spec: config.source.to_string(), error })
}
