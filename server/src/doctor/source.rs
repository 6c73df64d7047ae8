//! The source: which inputs there are, and whether the configured one, or another source, delivers sound.

mod sound;
mod trial;

mod permissions;

mod inputs;

mod microphone;

use std::sync::Arc;

use aircheck_engine::source::{Paced, Source, Tone, Wav};

use super::finding::{Area, Finding, Level};
use crate::config::{CaptureConfig, SourceSpec};
use crate::source::{OpenError, open_fallback, open_file};
pub(super) use sound::Sound;
use trial::Trial;

/// Opens the source, hears it for a moment and closes it again. Returns its format too, if there will be sound.
pub(super) fn check(config: &CaptureConfig) -> (Vec<Finding>, Option<Sound>) {
    let mut findings = match &config.source {
        SourceSpec::Auto | SourceSpec::Mic(_) => Vec::new(),
        other => inputs::unused(&other.to_string()),
    };
    let (of_source, sound) = match &config.source {
        SourceSpec::Auto => microphone::check(config, None),
        SourceSpec::Mic(name) => microphone::check(config, name.as_deref()),
        SourceSpec::Wav(path) => match Wav::open(path, config.looped) {
            Ok(wav) => made(Box::new(Paced::new(wav)), config),
            Err(error) => {
                (vec![Finding::of_error(Area::Source, Level::Fault, &OpenError::Wav(error).to_string())], None)
            }
        },
        SourceSpec::File(path) => match open_file(path, config.looped, &Arc::default()) {
            Ok(sound) => made(Box::new(Paced::new(sound)), config),
            Err(error) => (vec![Finding::of_error(Area::Source, Level::Fault, &error.to_string())], None),
        },
        SourceSpec::Tone(hz) => made(Box::new(Tone::new(*hz)), config),
        SourceSpec::Stdin => {
            let (rate_hz, channels, _) = config.stdin_format();
            let text = format!("raw sound on stdin, {rate_hz} Hz, {channels} ch, which this check does not read");
            (vec![Finding::ok(Area::Source, text)], Some(Sound { rate_hz, channels, sample_bits: None }))
        }
        SourceSpec::Nats(url) => {
            let text = format!("what another server publishes on {url}, which this check does not take");
            (vec![Finding::ok(Area::Source, text)], None)
        }
        SourceSpec::Put => {
            let (rate_hz, channels) = config.waiting_format();
            let text =
                format!("sound of source clients, {rate_hz} Hz, {channels} ch, which this check does not wait for");
            (vec![Finding::ok(Area::Source, text)], Some(Sound { rate_hz, channels, sample_bits: None }))
        }
    };
    findings.extend(of_source);
    if let Some(spec) = &config.fallback {
        findings.push(match open_fallback(spec) {
            Ok(_) => Finding::ok(Area::Source, format!("the fallback {spec} can be played")),
            Err(error) => {
                let text = OpenError::Fallback { spec: spec.to_string(), error }.to_string();
                Finding::of_error(Area::Source, Level::Fault, &text)
            }
        });
    }
    (findings, sound)
}

/// Checks a source that needs no device.
fn made(source: Box<dyn Source>, config: &CaptureConfig) -> (Vec<Finding>, Option<Sound>) {
    let (what, sound) = (source.description(), Sound::of(&*source));
    match Trial::of(source, config) {
        Ok(Trial { first_after: Some(_), .. }) => (
            vec![Finding::ok(Area::Source, format!("{what}, {} Hz, {} ch", sound.rate_hz, sound.channels))],
            Some(sound),
        ),
        Ok(_) => {
            let advice = "see whether the file, or its disk, can be read";
            (vec![Finding::fault(Area::Source, format!("{what} delivers no sound"), advice)], None)
        }
        Err(error) => (vec![Finding::of_error(Area::Source, Level::Fault, &error.to_string())], None),
    }
}
