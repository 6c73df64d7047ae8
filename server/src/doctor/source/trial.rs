//! A trial of a source: it is started with the service's block and history, heard for a moment, and stopped.

use std::time::{Duration, Instant};

use aircheck_engine::source::Source;
use aircheck_engine::{Stream, StreamError, StreamOptions, SubscribeOptions};

use crate::config::CaptureConfig;

/// Longest wait for the first sound, as of a source that goes on the air: that of an idle sound server takes up to 2 s.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);
/// Length of the sound that is heard from its first block on: enough that a live microphone has noise in it.
const SPAN: Duration = Duration::from_millis(500);

/// What was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// Time from the start to the first block; `None` if none came.
    pub(super) first_after: Option<Duration>,
    /// Largest magnitude of the samples; 1 is full scale.
    pub(super) peak: f32,
}

impl Trial {
    /// Starts the source, hears it and stops it. Keeps none of its sound.
    pub(super) fn of(source: Box<dyn Source>, config: &CaptureConfig) -> Result<Self, StreamError> {
        let begin = Instant::now();
        let (block, history) = (config.block, config.history);
        let stream = Stream::start(source, StreamOptions { block, history, ..StreamOptions::default() })?;
        let mut trial = Self { first_after: None, peak: 0.0 };
        // A source that has ended already, as a very short file has, has no consumers any more.
        let Ok(mut consumer) = stream.subscribe(SubscribeOptions::default()) else {
            trial.first_after = (stream.capture().blocks() > 0).then(|| begin.elapsed());
            return Ok(trial);
        };
        let mut end = begin + FIRST_TIMEOUT;
        while let Ok(block) = consumer.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if trial.first_after.is_none() {
                trial.first_after = Some(begin.elapsed());
                end = Instant::now() + SPAN;
            }
            let samples = block.item.samples().iter();
            trial.peak = samples.fold(trial.peak, |peak, sample| peak.max(sample.abs()));
        }
        stream.stop();
        Ok(trial)
    }

    /// Returns the peak in dB below full scale; `None` for digital silence.
    pub(super) fn peak_dbfs(&self) -> Option<f32> {
        (self.peak > 0.0).then(|| 20.0 * self.peak.log10())
    }
}
