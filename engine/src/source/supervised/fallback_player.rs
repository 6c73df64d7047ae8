//! The fallback as it plays.

use std::fmt;

use crate::converter::Converter;
use crate::lease::fade_frames;
use crate::source::pull::Pull;
use crate::{Format, Timestamp};

/// The sound of the fallback in the format of the stream, with a fade where it begins and ends.
pub(super) struct FallbackPlayer {
    pull: Box<dyn Pull>,
    source_format: Format,
    converter: Option<Converter>,
    /// Samples as they come from the fallback.
    portion: Box<[f32]>,
    /// Samples of the stream that are not written yet.
    ready: Vec<f32>,
    channels: usize,
    fade_frames: u32,
    has_begun: bool,
}

impl fmt::Debug for FallbackPlayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackPlayer").field("format", &self.source_format).finish_non_exhaustive()
    }
}

impl FallbackPlayer {
    pub(super) fn new(pull: Box<dyn Pull>, stream: Format) -> Result<Self, String> {
        let source_format =
            Format::new(pull.rate_hz(), pull.channels(), stream.block_span()).map_err(|error| error.to_string())?;
        let converter = Converter::new(source_format, stream)?;
        Ok(Self {
            pull,
            source_format,
            converter,
            portion: vec![0.0; source_format.block_samples()].into(),
            ready: Vec::with_capacity(4 * stream.block_samples()),
            channels: usize::from(stream.channels()),
            fade_frames: fade_frames(stream),
            has_begun: false,
        })
    }

    /// Fills a block, and returns whether there was sound for it.
    pub(super) fn fill(&mut self, block: &mut [f32]) -> bool {
        while self.ready.len() < block.len() {
            let Ok(filled @ 1..) = self.pull.pull(&mut self.portion) else { return false };
            let samples = &self.portion[..filled];
            let ready = &mut self.ready;
            match &mut self.converter {
                Some(converter) => {
                    converter.convert(samples, Timestamp::default(), |samples, _| ready.extend_from_slice(samples));
                }
                None => ready.extend_from_slice(samples),
            }
        }
        let length = block.len();
        block.copy_from_slice(&self.ready[..length]);
        self.ready.drain(..length);
        if !std::mem::replace(&mut self.has_begun, true) {
            for (frame, number) in block.chunks_exact_mut(self.channels).zip(1..self.fade_frames) {
                frame.iter_mut().for_each(|sample| *sample *= number as f32 / self.fade_frames as f32);
            }
        }
        true
    }

    /// Fills the last block, at whose end the sound has faded away.
    pub(super) fn fill_last(&mut self, block: &mut [f32]) -> bool {
        let is_filled = self.fill(block);
        for (frame, number) in block.chunks_exact_mut(self.channels).rev().zip(0..self.fade_frames) {
            frame.iter_mut().for_each(|sample| *sample *= number as f32 / self.fade_frames as f32);
        }
        is_filled
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A constant level without end.
    struct Level {
        rate_hz: u32,
    }

    impl Pull for Level {
        fn rate_hz(&self) -> u32 {
            self.rate_hz
        }

        fn channels(&self) -> u16 {
            1
        }

        fn description(&self) -> String {
            "level".to_owned()
        }

        fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
            samples.fill(0.5);
            Ok(samples.len())
        }
    }

    /// Guards against the click of a filter that begins in the middle of the fade.
    #[test]
    fn a_fallback_of_any_rate_begins_with_a_fade() {
        for rate_hz in [48_000, 44_100, 96_000] {
            let stream = Format::new(48_000, 1, Duration::from_millis(10)).unwrap();
            let mut player = FallbackPlayer::new(Box::new(Level { rate_hz }), stream).unwrap();
            let mut block = vec![0.0; stream.block_samples()];
            assert!(player.fill(&mut block));
            let mut last = 0.0_f32;
            let step = block.iter().map(|sample| (sample - std::mem::replace(&mut last, *sample)).abs());
            let step = step.fold(0.0, f32::max);
            assert!(step < 0.003, "{rate_hz} Hz: a step of {step}");
            assert!((last - 0.5).abs() < 0.001, "{rate_hz} Hz: {last}");
        }
    }
}
