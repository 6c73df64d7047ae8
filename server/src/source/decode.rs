//! Decoding of MP3, FLAC, Vorbis, Opus and WAV, from files and from what source clients send.
//!
//! Symphonia reads the containers and decodes; it has no decoder of Opus, so libopus does that. What cannot be decoded is left out: a
//! damaged packet costs its own sound, and a source only ends when nothing but damaged packets comes.

#[cfg(test)]
mod fuzz;
mod opus;

use std::io;
use std::panic::{self, AssertUnwindSafe};

use aircheck_api::Metadata;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, Track};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::{MetadataRevision, StandardTag};
use symphonia::core::packet::Packet;
use symphonia::default::{get_codecs, get_probe};

use super::portion::Portion;
use opus::OpusPackets;

/// Damaged packets in a row after which nothing good is expected any more: two seconds or more.
const MAX_DAMAGED: u32 = 100;
/// What can be decoded, for messages.
pub(super) const TAKES: &str = "MP3, FLAC, Ogg with Opus, Vorbis or FLAC, or WAV";

/// Decodes one file, or all that one source client sends.
pub(super) struct Decoder {
    reader: Box<dyn FormatReader>,
    track: u32,
    codec: Codec,
    /// What is known of the sound that comes next, until it is told.
    metadata: Option<Metadata>,
    damaged: u32,
}

enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    Opus(Box<OpusPackets>),
}

impl Decoder {
    /// Finds out what `source` has, and reads it up to its sound. `hint` is the end of a file's name, or a type of media. Reads, so it
    /// may wait.
    ///
    /// # Errors
    ///
    /// The reason in words, when it cannot be read or is not sound that can be decoded.
    pub(super) fn open(source: Box<dyn MediaSource>, hint: &Hint) -> Result<Self, String> {
        without_panics(|| Self::read_start(source, hint))
    }

    fn read_start(source: Box<dyn MediaSource>, hint: &Hint) -> Result<Self, String> {
        let stream = MediaSourceStream::new(source, Default::default());
        let mut reader = get_probe().probe(hint, stream, Default::default(), Default::default()).map_err(|error| {
            match error {
                // Its own words for a file of another kind, or an empty one.
                Error::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => error.to_string(),
                Error::IoError(_) | Error::Unsupported(_) | Error::LimitError(_) => {
                    format!("is not sound that can be decoded (it takes {TAKES})")
                }
                error => error.to_string(),
            }
        })?;
        let (track, codec) = select(reader.as_ref())?;
        let metadata = Some(first_metadata(reader.as_mut()));
        Ok(Self { reader, track, codec, metadata, damaged: 0 })
    }

    /// Returns the bits of a sample, if they are integers of a known width.
    pub(super) fn sample_bits(&self) -> Option<u16> {
        let Codec::Symphonia(decoder) = &self.codec else { return None };
        // A decoder of coded sound may know a width, too, which says nothing of it.
        let is_exact = ["flac", "pcm"].iter().any(|codec| decoder.codec_info().short_name.starts_with(codec));
        let bits = decoder.codec_params().bits_per_sample.filter(|_| is_exact)?;
        u16::try_from(bits).ok()
    }

    /// Returns a few words for people, such as `Opus`.
    pub(super) fn codec_name(&self) -> &'static str {
        match &self.codec {
            Codec::Opus(_) => "Opus",
            Codec::Symphonia(decoder) => decoder.codec_info().long_name,
        }
    }

    /// Decodes the next packet that has sound; `None` at the end. May wait for what it reads.
    ///
    /// # Errors
    ///
    /// The reason in words, when it cannot go on.
    pub(super) fn next(&mut self) -> Result<Option<Portion>, String> {
        without_panics(|| self.decode_next())
    }

    fn decode_next(&mut self) -> Result<Option<Portion>, String> {
        loop {
            let packet = match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => packet,
                Ok(Some(_)) => continue,
                Ok(None) => return Ok(None),
                // A stream that is chained to the last one: another title, and maybe another codec.
                Err(Error::ResetRequired) => {
                    (self.track, self.codec) = select(self.reader.as_ref())?;
                    self.metadata = Some(Metadata::default());
                    continue;
                }
                // It is cut off. A live stream always is.
                Err(Error::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(Error::IoError(error)) => return Err(error.to_string()),
                Err(error) => {
                    self.count_damaged(&error.to_string())?;
                    continue;
                }
            };
            if let Some(metadata) = new_metadata(self.reader.as_mut()) {
                self.metadata = Some(metadata);
            }
            match self.codec.decode(&packet) {
                Ok(portion) if portion.samples.is_empty() => {}
                Ok(portion) => {
                    self.damaged = 0;
                    return Ok(Some(Portion { metadata: self.metadata.take(), ..portion }));
                }
                Err(error) => self.count_damaged(&error)?,
            }
        }
    }

    fn count_damaged(&mut self, error: &str) -> Result<(), String> {
        self.damaged += 1;
        if self.damaged < MAX_DAMAGED {
            Ok(())
        } else {
            Err(format!("{MAX_DAMAGED} damaged packets in a row: {error}"))
        }
    }
}

impl Codec {
    /// Decodes a packet: all of it, or nothing where it belongs to the time in which a codec settles.
    fn decode(&mut self, packet: &Packet) -> Result<Portion, String> {
        match self {
            Self::Opus(opus) => opus.decode(packet),
            Self::Symphonia(decoder) => {
                let decoded = decoder.decode(packet).map_err(|error| error.to_string())?;
                let mut samples = Vec::new();
                decoded.copy_to_vec_interleaved(&mut samples);
                let channels = decoded.spec().channels().count();
                Ok(Portion { rate_hz: decoded.spec().rate(), channels: channels as u16, samples, metadata: None })
            }
        }
    }
}

/// Makes an error of a panic: a header can say anything, and Symphonia 0.6.1 multiplies what that of a WAV file says without a check. A
/// decoder that has panicked is not used any more.
fn without_panics<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err("the decoder has crashed (see its message on standard error)".to_owned()))
}

/// Chooses the first track that can be decoded, and makes its decoder.
fn select(reader: &dyn FormatReader) -> Result<(u32, Codec), String> {
    let mut refusal = "there is no sound in it".to_owned();
    for track in reader.tracks() {
        let Some(params) = track.codec_params.as_ref().and_then(|params| params.audio()) else { continue };
        match codec(track, params) {
            Ok(codec) => return Ok((track.id, codec)),
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

fn codec(track: &Track, params: &AudioCodecParameters) -> Result<Codec, String> {
    if params.codec == CODEC_ID_OPUS {
        let head = params.extra_data.as_deref().unwrap_or_default();
        return OpusPackets::new(head, track.delay.unwrap_or(0)).map(|opus| Codec::Opus(Box::new(opus)));
    }
    get_codecs()
        .make_audio_decoder(params, &Default::default())
        .map(Codec::Symphonia)
        .map_err(|_| format!("its codec cannot be decoded (it takes {TAKES})"))
}

/// Returns all that is known of the sound at its start, as tags of several kinds may say.
fn first_metadata(reader: &mut dyn FormatReader) -> Metadata {
    let (mut metadata, mut log) = (Metadata::default(), reader.metadata());
    while let Some(revision) = log.pop() {
        add(&mut metadata, &revision);
    }
    // The newest one is never popped.
    log.current().into_iter().for_each(|revision| add(&mut metadata, revision));
    metadata
}

/// Returns what has become known of the sound since the last call; `None` if nothing has.
fn new_metadata(reader: &mut dyn FormatReader) -> Option<Metadata> {
    let mut log = reader.metadata();
    if log.is_latest() {
        return None;
    }
    let mut metadata = Metadata::default();
    log.skip_to_latest().into_iter().for_each(|revision| add(&mut metadata, revision));
    Some(metadata)
}

fn add(metadata: &mut Metadata, revision: &MetadataRevision) {
    let of_tracks = revision.per_track.iter().map(|track| &track.metadata);
    for tag in std::iter::once(&revision.media).chain(of_tracks).flat_map(|container| &container.tags) {
        match &tag.std {
            Some(StandardTag::TrackTitle(title)) => metadata.title = Some(title.to_string()),
            Some(StandardTag::Artist(artist)) => metadata.artist = Some(artist.to_string()),
            _ => {}
        }
    }
}
