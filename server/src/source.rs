//! The start of the source that a configuration names, with its supervisor.

mod demo;
pub mod devices;
#[cfg(test)]
mod fuzz;
mod stdin;
mod steady;

use std::sync::Arc;

use aircheck_api::SourceKind;
use aircheck_engine::source::{
    Device, DeviceConfig, DeviceError, DeviceReopener, OnLoss, OpenFallback, Paced, Pull, Source, Supervised, Tone,
    Wav, WavError,
};
use aircheck_engine::{Stream, StreamError, StreamOptions};

use crate::config::{CaptureConfig, FallbackSpec, LossPolicy, Pace, SourceSpec};
pub(crate) use demo::Demo;
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
    #[error("source `wav`: {0} (correct the path or the file, or choose another source with --source)")]
    Wav(#[from] WavError),
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
    /// This version does not have it.
    #[error("source `{0}` is not supported by this version")]
    Unsupported(String),
}

/// Opens and starts the source of `config`, and logs if it is not the expected one.
///
/// # Errors
///
/// When the source or the fallback cannot be opened or started. `auto` plays the demo sound instead, unless it is to
/// wait for a device.
pub fn start(config: &CaptureConfig) -> Result<(Stream, SourceKind), OpenError> {
    if let Some(spec) = &config.fallback {
        // A fallback that is missing is found now, and not when it is needed.
        open_fallback(spec).map_err(|error| OpenError::Fallback { spec: spec.to_string(), error })?;
    }
    let spec = &config.source;
    match spec {
        SourceSpec::Auto | SourceSpec::Mic(_) => {
            let name = if let SourceSpec::Mic(name) = spec { name.as_deref() } else { None };
            let microphone = start_microphone(config, name).map(|stream| (stream, SourceKind::Mic));
            match microphone {
                Err(error) if config.wait_for_source => {
                    tracing::warn!("NO MICROPHONE YET: listeners get silence, because {error}");
                    Ok((wait_for_microphone(config, name, error.to_string())?, SourceKind::Mic))
                }
                Err(error) if *spec == SourceSpec::Auto => {
                    tracing::warn!("NOT A MICROPHONE: playing the built-in demo sound, because {error}");
                    Ok((start_stream(config, Box::new(Paced::new(Demo::default())))?, SourceKind::Demo))
                }
                result => result,
            }
        }
        SourceSpec::Wav(path) => {
            let wav = Paced::new(Wav::open(path, config.looped)?);
            // A file never pauses, so only a fallback needs a supervisor.
            let wav: Box<dyn Source> = match config.fallback {
                Some(_) => Box::new(supervised(config, Supervised::new(Box::new(wav)))),
                None => Box::new(wav),
            };
            Ok((start_stream(config, wav)?, SourceKind::Wav))
        }
        SourceSpec::Tone(hz) => Ok((start_stream(config, Box::new(Tone::new(*hz)))?, SourceKind::Tone)),
        SourceSpec::Stdin => {
            let (rate_hz, channels, sample) = config.stdin_format();
            let pcm = stdin::open(rate_hz, channels, sample).map_err(|error| OpenError::Stdin(error.to_string()))?;
            let source: Box<dyn Source> = match config.pace {
                Pace::Source => Box::new(Paced::new(pcm)),
                Pace::Clock => Box::new(Paced::new(Steady::new(pcm).map_err(OpenError::Stdin)?)),
            };
            Ok((start_stream(config, Box::new(supervised(config, Supervised::new(source))))?, SourceKind::Stdin))
        }
        SourceSpec::Nats { .. } => Err(OpenError::Unsupported(spec.to_string())),
    }
}

fn start_microphone(config: &CaptureConfig, name: Option<&str>) -> Result<Stream, OpenError> {
    let device = Device::open(name, wanted(config))
        .map_err(|error| OpenError::Device { spec: config.source.to_string(), error })?;
    let reopener = reopener(config, name, device.rate_hz(), device.channels());
    start_stream(config, Box::new(supervised(config, Supervised::new(Box::new(device))).reopen(Arc::new(reopener))))
}

fn wait_for_microphone(config: &CaptureConfig, name: Option<&str>, reason: String) -> Result<Stream, OpenError> {
    let (rate_hz, channels) = config.waiting_format();
    let description = name.map_or_else(|| "microphone".to_owned(), |name| format!("microphone “{name}”"));
    let waiting = Supervised::waiting(description, reason, rate_hz, channels);
    let reopener = reopener(config, name, rate_hz, channels);
    start_stream(config, Box::new(supervised(config, waiting).reopen(Arc::new(reopener))))
}

/// Returns what a configuration asks of a device.
pub(crate) fn wanted(config: &CaptureConfig) -> DeviceConfig {
    DeviceConfig { rate_hz: config.rate_hz, channels: config.channels }
}

fn reopener(config: &CaptureConfig, name: Option<&str>, rate_hz: u32, channels: u16) -> DeviceReopener {
    DeviceReopener::new(name.map(str::to_owned), wanted(config), rate_hz, channels)
}

fn supervised(config: &CaptureConfig, source: Supervised) -> Supervised {
    let Some(spec) = config.fallback.clone() else {
        let is_end = config.on_source_loss == LossPolicy::End;
        return source.on_loss(if is_end { OnLoss::End } else { OnLoss::Silence });
    };
    let fallback: OpenFallback = Box::new(move || open_fallback(&spec));
    source.on_loss(OnLoss::Fallback { after: config.fallback_after }).fallback(fallback)
}

/// Opens the sound of a fallback.
pub(crate) fn open_fallback(spec: &FallbackSpec) -> Result<Box<dyn Pull>, String> {
    Ok(match spec {
        FallbackSpec::Wav(path) => Box::new(Wav::open(path, true).map_err(|error| error.to_string())?),
        FallbackSpec::Tone(hz) => Box::new(Tone::new(*hz).into_pull()),
        FallbackSpec::Demo => Box::new(Demo::default()),
    })
}

fn start_stream(config: &CaptureConfig, source: Box<dyn Source>) -> Result<Stream, OpenError> {
    let (block, history) = (config.block, config.history);
    let options = StreamOptions { block, history, realtime: true, ..StreamOptions::default() };
    Stream::start(source, options).map_err(|error| OpenError::Start { spec: config.source.to_string(), error })
}
