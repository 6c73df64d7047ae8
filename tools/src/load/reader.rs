//! From the bytes of a stream to its blocks. Only headers are read: a load test of a thousand listeners has no time for
//! samples. Nothing is kept but a header or page that is not complete yet.

mod byte_counter;
mod item;
mod lines;
mod pages;

use aircheck_api::{Rendition, StreamFormat, StreamParam};

pub(crate) use self::byte_counter::ByteCounter;
pub(crate) use self::item::Item;
use self::lines::Lines;
use self::pages::Pages;
use super::url::LoadUrl;

/// The reader of one stream's body.
#[derive(Debug)]
pub(crate) enum Reader {
    /// Counts bytes.
    Bytes(ByteCounter),
    /// Reads lines of JSON, or events that hold them.
    Lines(Lines),
    /// Reads pages of Ogg.
    Pages(Pages),
    /// The WebSocket brings items itself.
    Messages,
}

impl Reader {
    /// Makes the reader of a stream of this rendition. `sample_bytes` and `format` are what the server says of it.
    pub(crate) fn new(url: &LoadUrl, format: Option<&StreamFormat>, sample_bytes: Option<u64>) -> Self {
        let block_bytes = match (format, sample_bytes) {
            // Silence in place of lost blocks is not delivered sound.
            _ if url.asks_for(StreamParam::Gaps, "silence") => None,
            (Some(format), Some(sample_bytes)) => {
                Some(u64::from(format.block_frames) * u64::from(format.channels) * sample_bytes)
            }
            _ => None,
        };
        match url.rendition {
            Some(Rendition::Json) => Self::Lines(Lines::new(false)),
            Some(Rendition::Events) => Self::Lines(Lines::new(true)),
            Some(Rendition::WebSocket) => Self::Messages,
            Some(Rendition::Opus) => Self::Pages(Pages::default()),
            Some(Rendition::Wav) => Self::Bytes(ByteCounter::new(block_bytes, true)),
            Some(Rendition::Pcm | Rendition::Flac | Rendition::Mp3) | None => {
                Self::Bytes(ByteCounter::new(block_bytes, false))
            }
        }
    }

    /// Returns whether the stream so far can be its whole: Ogg tells its last page.
    pub(crate) fn is_complete(&self) -> bool {
        if let Self::Pages(pages) = self { pages.has_last_page() } else { true }
    }

    /// Reads bytes that arrived, and passes on what it finds.
    ///
    /// # Errors
    ///
    /// A sentence about what can't be read; there is nothing to go on with then.
    pub(crate) fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(Item)) -> Result<(), String> {
        match self {
            Self::Bytes(counter) => counter.push(bytes),
            Self::Lines(lines) => return lines.push(bytes, found),
            Self::Pages(pages) => return pages.push(bytes, found),
            Self::Messages => {}
        }
        Ok(())
    }
}
