//! Decoded sound, and its conversion to the one format of a stream.

use std::time::Duration;

use aircheck_api::Metadata;
use aircheck_engine::{Converter, Format, Timestamp};

/// The length of blocks in the formats between which sound is converted, which the conversion does not depend on.
const ANY_BLOCK: Duration = Duration::from_millis(100);

/// The sound of one packet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Portion {
    /// Frames per second.
    pub(super) rate_hz: u32,
    /// Samples per frame.
    pub(super) channels: u16,
    /// Interleaved samples.
    pub(super) samples: Vec<f32>,
    /// What is known of the sound from here on, where that changes.
    pub(super) metadata: Option<Metadata>,
}

/// Sound in the format of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    /// Interleaved samples.
    pub(super) samples: Vec<f32>,
    /// What is known of the sound from here on, where that changes.
    pub(super) metadata: Option<Metadata>,
}

/// Brings portions of any format to one.
pub(super) struct Adapter {
    to: Format,
    /// The format of the last portion.
    from: Format,
    converter: Option<Converter>,
    /// What is known of sound that is kept back.
    metadata: Option<Metadata>,
}

impl Adapter {
    /// Makes an adapter to this rate in Hz and so many channels.
    ///
    /// # Errors
    ///
    /// When there is no such sound.
    pub(super) fn new(rate_hz: u32, channels: u16) -> Result<Self, String> {
        let to = Format::new(rate_hz, channels, ANY_BLOCK).map_err(|error| error.to_string())?;
        Ok(Self { to, from: to, converter: None, metadata: None })
    }

    /// Returns the samples of `portion` in the one format, with its metadata; none at all where everything is kept back. A few
    /// milliseconds may be kept back for the next call; where the format changes, they are lost.
    ///
    /// # Errors
    ///
    /// When the portion cannot be converted.
    pub(super) fn adapt(&mut self, portion: Portion) -> Result<Option<Piece>, String> {
        self.metadata = portion.metadata.clone().or(self.metadata.take());
        let samples = self.convert(portion)?;
        Ok((!samples.is_empty()).then(|| Piece { samples, metadata: self.metadata.take() }))
    }

    fn convert(&mut self, portion: Portion) -> Result<Vec<f32>, String> {
        let Portion { rate_hz, channels, samples, .. } = portion;
        if (rate_hz, channels) != (self.from.rate_hz(), self.from.channels()) {
            self.from = Format::new(rate_hz, channels, ANY_BLOCK).map_err(|error| error.to_string())?;
            self.converter = Converter::new(self.from, self.to)?;
        }
        let Some(converter) = &mut self.converter else { return Ok(samples) };
        let mut converted = Vec::with_capacity(samples.len() * 2);
        converter.convert(&samples, Timestamp::default(), |samples, _| converted.extend_from_slice(samples));
        Ok(converted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portion(rate_hz: u32, channels: u16, frames: usize) -> Portion {
        Portion { rate_hz, channels, samples: vec![0.5; frames * usize::from(channels)], metadata: None }
    }

    #[test]
    fn portions_of_any_format_become_sound_of_one() {
        let mut adapter = Adapter::new(48_000, 2).unwrap();
        let mut adapt =
            |portion| adapter.adapt(portion).map(|adapted| adapted.map_or(Vec::new(), |piece| piece.samples));
        assert_eq!(adapt(portion(48_000, 2, 100)).unwrap(), vec![0.5; 200], "as it is");
        assert_eq!(adapt(portion(48_000, 1, 100)).unwrap(), vec![0.5; 200]);
        let second: usize = (0..10).map(|_| adapt(portion(44_100, 1, 4410)).unwrap().len()).sum();
        assert!((95_000..=96_000).contains(&second), "{second} samples of a second");
        assert_eq!(adapt(portion(48_000, 2, 100)).unwrap(), vec![0.5; 200], "as it is again");
        assert!(adapt(portion(0, 2, 100)).is_err());
    }

    #[test]
    fn metadata_stays_with_sound_that_is_kept_back() {
        let mut adapter = Adapter::new(48_000, 1).unwrap();
        let metadata = Some(Metadata { title: Some("a".to_owned()), artist: None });
        let first = Portion { metadata: metadata.clone(), ..portion(44_100, 1, 10) };
        assert_eq!(adapter.adapt(first), Ok(None));
        assert_eq!(adapter.adapt(portion(44_100, 1, 1000)).unwrap().unwrap().metadata, metadata);
        assert_eq!(adapter.adapt(portion(44_100, 1, 1000)).unwrap().unwrap().metadata, None);
    }
}
