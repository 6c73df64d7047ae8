//! Framing: the header, the packets, the notices of gaps and the end of one listener's stream.

use std::ops::Range;

use aircheck_engine::{Format, Gap};
use bytes::Bytes;

use crate::rendition::codec::OpusPacket;
use crate::rendition::container::message;
use crate::rendition::container::ogg::OggOpus;
use crate::rendition::encoder::Encoded;

/// The framing of one listener's stream. Packets are shared by all listeners; this state is the listener's own.
#[derive(Debug)]
pub enum Framing {
    /// Packets follow each other, after a header if there is one.
    Plain {
        /// Bytes before the first packet.
        header: Option<Bytes>,
        /// A block of silence, for a listener that wants one in place of each lost block.
        silence: Option<Bytes>,
    },
    /// Lines of JSON.
    Json,
    /// Server-sent events.
    Events,
    /// Pages of Ogg with Opus in them.
    Ogg(Box<OggOpus>),
}

/// The replacement of lost blocks.
#[derive(Debug)]
pub enum GapFill {
    /// Nothing.
    Nothing,
    /// A notice of the gap.
    Notice(Bytes),
    /// A block of silence for each of these sequence numbers.
    Silence(Bytes, Range<u64>),
}

impl Framing {
    /// Returns the bytes before the first packet.
    pub fn header(&mut self) -> Option<Bytes> {
        match self {
            Self::Plain { header, .. } => header.take(),
            Self::Ogg(ogg) => Some(ogg.header(None)),
            Self::Json | Self::Events => None,
        }
    }

    /// Returns the replacement of lost blocks.
    pub fn fill(&mut self, gap: Gap) -> GapFill {
        let end = gap.from + gap.blocks;
        match self {
            Self::Plain { silence: Some(silence), .. } => GapFill::Silence(silence.clone(), gap.from..end),
            // Pages carry their positions, so a gap shows without a notice.
            Self::Plain { .. } | Self::Ogg(_) => GapFill::Nothing,
            Self::Json => GapFill::Notice(format!("{}\n", message::gap(gap)).into()),
            // The id is the last missing number, so that a listener that reconnects does not get the notice again.
            Self::Events => {
                GapFill::Notice(format!("id: {}\nevent: gap\ndata: {}\n\n", end - 1, message::gap(gap)).into())
            }
        }
    }

    /// Returns the bytes of a packet; `None` while an encoder keeps them for a later packet.
    pub fn packet(&mut self, encoded: &Encoded) -> Option<Bytes> {
        match (self, encoded) {
            (Self::Ogg(ogg), Encoded::Opus(packets)) => (!packets.is_empty()).then(|| ogg.page(packets)),
            (_, Encoded::Whole(bytes)) => (!bytes.is_empty()).then(|| bytes.clone()),
            // No rendition pairs them.
            (_, Encoded::Opus(_)) => None,
        }
    }

    /// Returns the bytes after the last packet. `tail` is the [`Tail`](crate::rendition::encoders::Tail) of the encoder.
    pub fn end(&mut self, tail: &[OpusPacket]) -> Option<Bytes> {
        match self {
            Self::Ogg(ogg) => Some(ogg.end(tail, None)),
            Self::Plain { .. } | Self::Json | Self::Events => None,
        }
    }

    /// Returns a block of silence for samples of `sample_bytes` bytes: zeros, in all encodings.
    #[must_use]
    pub fn silence(format: Format, sample_bytes: usize) -> Bytes {
        vec![0; format.block_samples() * sample_bytes].into()
    }
}
