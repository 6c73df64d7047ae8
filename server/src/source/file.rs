//! Sound files and playlists of them, decoded ahead of the capture thread.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use aircheck_api::Metadata;
use aircheck_engine::source::Arrival;
use symphonia::core::formats::probe::Hint;

use super::decode::Decoder;
use super::decoded::Decoded;
use super::playlist::{self, Entry};
use super::portion::{Adapter, Portion};
use super::sound_queue::SoundQueue;
use crate::metadata::MetadataLog;

/// Sound that is decoded ahead, in seconds: a disk that spins up takes that long.
const AHEAD_SECONDS: u64 = 5;

/// Opens a sound file or a playlist. The sound has rate and channels of the first file that can be played; others are converted. With
/// `looped`, it starts again at its end. Titles go to `metadata`.
///
/// A file of a playlist that cannot be played, or breaks off, is logged and passed over.
///
/// # Errors
///
/// When no file can be played.
pub(super) fn open(path: &Path, looped: bool, metadata: Arc<MetadataLog>) -> Result<Decoded, String> {
    let is_playlist = playlist::is_playlist(path);
    let entries = if is_playlist {
        playlist::read(path)?
    } else {
        vec![Entry { path: path.to_owned(), metadata: Metadata::default() }]
    };
    let (mut index, mut first_refusal) = (0, None);
    let (decoder, portion) = loop {
        let Some(entry) = entries.get(index) else {
            let refusal = first_refusal.unwrap_or_default();
            let files = entries.len();
            return Err(if is_playlist {
                format!("{}: none of its {files} files can be played: {refusal}", path.display())
            } else {
                refusal
            });
        };
        match begin(entry) {
            Ok(begun) => break begun,
            Err(refusal) => {
                if is_playlist {
                    tracing::warn!("passed over in the playlist: {refusal}");
                }
                first_refusal.get_or_insert(refusal);
            }
        }
        index += 1;
    };
    let format = (portion.rate_hz, portion.channels, decoder.sample_bits());
    let adapter = Adapter::new(portion.rate_hz, portion.channels)?;
    let queue = SoundQueue::new(portion.channels, AHEAD_SECONDS * u64::from(portion.rate_hz));
    let looped_text = if looped { ", looped" } else { "" };
    let description = if is_playlist {
        format!("playlist “{}” of {} files{looped_text}", path.display(), entries.len())
    } else {
        format!("file “{}”{looped_text}", path.display())
    };
    let player = Player { entries, looped, adapter, queue: Arc::clone(&queue) };
    thread::Builder::new()
        .name("decoder".into())
        .spawn(move || player.run(index, decoder, portion))
        .map_err(|error| format!("cannot start a thread to decode: {error} (raise the limit of threads)"))?;
    let (arrival, sequence, reader) = (Arrival::Computed, 0, 0);
    Ok(Decoded { queue, format, description, arrival, metadata, sequence, reader, at_end: None })
}

/// Opens a file and decodes its first sound.
fn begin(entry: &Entry) -> Result<(Decoder, Portion), String> {
    let told = |why: String| format!("{}: {why}", entry.path.display());
    let file = File::open(&entry.path).map_err(|error| told(format!("cannot be opened: {error}")))?;
    let mut hint = Hint::new();
    if let Some(extension) = entry.path.extension().and_then(|extension| extension.to_str()) {
        hint.with_extension(extension);
    }
    let mut decoder = Decoder::open(Box::new(file), &hint).map_err(told)?;
    match decoder.next() {
        Ok(Some(mut portion)) => {
            if portion.metadata.as_ref().is_none_or(|metadata| *metadata == Metadata::default()) {
                portion.metadata = Some(entry.metadata.clone());
            }
            Ok((decoder, portion))
        }
        Ok(None) => Err(told("has no sound in it".to_owned())),
        Err(error) => Err(told(error)),
    }
}

/// Decodes the files one after another, on a thread of its own.
struct Player {
    entries: Vec<Entry>,
    looped: bool,
    adapter: Adapter,
    queue: Arc<SoundQueue>,
}

/// What has come of a file.
enum Played {
    Whole,
    /// It broke off, for this reason.
    Part(String),
    /// Nobody listens any more.
    Stopped,
}

impl Player {
    /// Plays from the file with number `index` on, which was begun.
    fn run(mut self, mut index: usize, decoder: Decoder, portion: Portion) {
        // A panic of a decoder must not look like a source that waits.
        let queue = EndOnDrop(Arc::clone(&self.queue));
        let mut begun = Ok((decoder, portion));
        let (mut in_pass, mut refusal) = (0, String::new());
        loop {
            let played = match begun {
                Ok((decoder, portion)) => {
                    in_pass += 1;
                    self.play(&self.entries[index].path.clone(), decoder, portion)
                }
                Err(refusal) => Played::Part(refusal),
            };
            match played {
                Played::Whole => {}
                Played::Stopped => return,
                Played::Part(why) if self.entries.len() == 1 => {
                    return queue.0.end(Err(why));
                }
                Played::Part(why) => {
                    tracing::warn!("passed over in the playlist: {why}");
                    refusal = why;
                }
            }
            index += 1;
            if index == self.entries.len() {
                if !self.looped {
                    return queue.0.end(Ok(()));
                }
                if std::mem::take(&mut in_pass) == 0 {
                    return queue.0.end(Err(format!("no file of the playlist can be played any more: {refusal}")));
                }
                index = 0;
            }
            begun = begin(&self.entries[index]);
        }
    }

    fn play(&mut self, path: &Path, mut decoder: Decoder, mut portion: Portion) -> Played {
        let breaks_off = |why: String| Played::Part(format!("{}: breaks off: {why}", path.display()));
        loop {
            let is_heard = match self.adapter.adapt(portion) {
                Ok(Some(piece)) => self.queue.push(piece),
                Ok(None) => true,
                Err(error) => return breaks_off(error),
            };
            if !is_heard {
                return Played::Stopped;
            }
            portion = match decoder.next() {
                Ok(Some(next)) => next,
                Ok(None) => return Played::Whole,
                Err(error) => return breaks_off(error),
            };
        }
    }
}

/// Ends the queue with a failure if nothing else has ended it.
struct EndOnDrop(Arc<SoundQueue>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(Err("the decoder has crashed (see its message on standard error)".to_owned()));
    }
}
