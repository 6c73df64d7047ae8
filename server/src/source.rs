//! The start of the source that a configuration names.

pub mod devices;
mod stdin;
mod steady;

use aircheck_api::SourceKind;
use aircheck_engine::source::{Demo, Device, DeviceError, DeviceOptions, Paced, Source, Tone, Wav, WavError};
use aircheck_engine::{Stream, StreamError, StreamOptions};

use crate::config::{CaptureConfig, Pace, SourceSpec};
use steady::Steady;

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
    #[error("source `wav`: {0}")]
    Wav(#[from] WavError),
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
    /// This version does not have it.
    #[error("source `{0}` is not supported by this version")]
    Unsupported(String),
}

/// Opens and starts the source of `config`, and logs if it is not the expected one.
///
/// # Errors
///
/// When the source cannot be opened or started. `auto` falls back to the demo sound instead.
pub fn start(config: &CaptureConfig) -> Result<(Stream, SourceKind), OpenError> {
    if config.source != SourceSpec::Auto {
        let (source, kind) = open(config, &config.source)?;
        return Ok((start_stream(config, &config.source, source)?, kind));
    }
    let microphone = open(config, &SourceSpec::Mic(None))
        .and_then(|(source, kind)| Ok((start_stream(config, &SourceSpec::Auto, source)?, kind)));
    microphone.or_else(|error| {
        tracing::warn!("NOT A MICROPHONE: playing the built-in demo sound, because {error}");
        Ok((start_stream(config, &SourceSpec::Auto, Box::new(Demo))?, SourceKind::Demo))
    })
}

fn open(config: &CaptureConfig, spec: &SourceSpec) -> Result<(Box<dyn Source>, SourceKind), OpenError> {
    Ok(match spec {
        SourceSpec::Auto | SourceSpec::Mic(_) => {
            let name = if let SourceSpec::Mic(name) = spec { name.as_deref() } else { None };
            let wanted = DeviceOptions { rate_hz: config.rate_hz, channels: config.channels };
            let device =
                Device::open(name, wanted).map_err(|error| OpenError::Device { spec: spec.to_string(), error })?;
            (Box::new(device), SourceKind::Mic)
        }
        SourceSpec::Wav(path) => (Box::new(Paced::new(Wav::open(path, config.looped)?)), SourceKind::Wav),
        SourceSpec::Tone(hz) => (Box::new(Tone::new(*hz)), SourceKind::Tone),
        SourceSpec::Stdin => {
            let (rate_hz, channels, sample) = config.stdin_format();
            let pcm = stdin::open(rate_hz, channels, sample).map_err(|error| OpenError::Stdin(error.to_string()))?;
            let source: Box<dyn Source> = match config.pace {
                Pace::Source => Box::new(Paced::new(pcm)),
                Pace::Clock => Box::new(Paced::new(Steady::new(pcm).map_err(OpenError::Stdin)?)),
            };
            (source, SourceKind::Stdin)
        }
        SourceSpec::Nats { .. } => return Err(OpenError::Unsupported(spec.to_string())),
    })
}

fn start_stream(config: &CaptureConfig, spec: &SourceSpec, source: Box<dyn Source>) -> Result<Stream, OpenError> {
    let (block, history) = (config.block, config.history);
    let options = StreamOptions { block, history, realtime: true, ..StreamOptions::default() };
    Stream::start(source, options).map_err(|error| OpenError::Start { spec: spec.to_string(), error })
}
