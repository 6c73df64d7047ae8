//! The format of the sound that would go on the air.

use aircheck_engine::source::{Paced, Source};

use crate::config::{CaptureConfig, SourceSpec};
use crate::source::Demo;

/// The format of the sound that would go on the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Sound {
    pub(in crate::doctor) rate_hz: u32,
    pub(in crate::doctor) channels: u16,
    /// Bits of a sample, if they are integers of a known width.
    pub(in crate::doctor) sample_bits: Option<u16>,
}

impl Sound {
    /// Returns the format of a source.
    pub(super) fn of(source: &dyn Source) -> Self {
        Self { rate_hz: source.rate_hz(), channels: source.channels(), sample_bits: source.sample_bits() }
    }

    /// Returns the format of what goes on the air instead of a microphone that is missing, if anything does.
    pub(super) fn without_microphone(config: &CaptureConfig) -> Option<Self> {
        if config.wait_for_source {
            let (rate_hz, channels) = config.waiting_format();
            return Some(Self { rate_hz, channels, sample_bits: None });
        }
        (config.source == SourceSpec::Auto).then(|| Self::of(&Paced::new(Demo::default())))
    }
}
