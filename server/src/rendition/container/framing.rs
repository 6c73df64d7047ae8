//! How packets become the bytes of one listener's stream: its header, what tells of a gap, and its end.

use std::ops::Range;

use aircheck_engine::{Format, Gap};
use bytes::Bytes;

use crate::rendition::container::message;

use crate::rendition::codec::OpusPacket;
use crate::rendition::container::ogg::OggOpus;
use crate::rendition::encoder::Encoded;

/// The state of one listener's stream. Packets are shared; what is here is the listener's own.
#[derive(Debug)]
pub enum Framing {
    /// Packets follow each other, after a header if there is one.
    Plain {
        /// What goes out first.
        header: Option<Bytes>,
        /// A block of silence, for a listener who wants one in place of each that is lost.
        silence: Option<Bytes>,
    },
    /// Lines of JSON.
    Json,
    /// Server-sent events.
    Events,
    /// Pages of Ogg with Opus in them.
    Ogg(Box<OggOpus>),
}

/// What takes the place of lost blocks.
#[derive(Debug)]
pub enum GapFill {
    /// Nothing.
    Nothing,
    /// The news of it.
    News(Bytes),
    /// So many times the same, for each of the blocks.
    Silence(Bytes, Range<u64>),
}

impl Framing {
    /// What goes out first.
    pub fn header(&mut self) -> Option<Bytes> {
        match self {
            Self::Plain { header, .. } => header.take(),
            Self::Ogg(ogg) => Some(ogg.header(None)),
            Self::Json | Self::Events => None,
        }
    }

    /// What takes the place of lost blocks.
    pub fn instead(&mut self, gap: Gap) -> GapFill {
        let end = gap.from + gap.blocks;
        match self {
            Self::Plain { silence: Some(silence), .. } => GapFill::Silence(silence.clone(), gap.from..end),
            // Pages know their positions, so a gap shows by itself.
            Self::Plain { .. } | Self::Ogg(_) => GapFill::Nothing,
            Self::Json => GapFill::News(format!("{}\n", message::gap(gap)).into()),
            // With the last missing number as its id, a listener that reconnects is not told of the loss again.
            Self::Events => {
                GapFill::News(format!("id: {}\nevent: gap\ndata: {}\n\n", end - 1, message::gap(gap)).into())
            }
        }
    }

    /// The bytes of a packet; none if it is not whole yet.
    pub fn packet(&mut self, encoded: &Encoded) -> Option<Bytes> {
        match (self, encoded) {
            (Self::Ogg(ogg), Encoded::Opus(packets)) => (!packets.is_empty()).then(|| ogg.page(packets)),
            (_, Encoded::Whole(bytes)) => (!bytes.is_empty()).then(|| bytes.clone()),
            // No mount pairs them.
            (_, Encoded::Opus(_)) => None,
        }
    }

    /// What goes out last, `tail` being what the encoder still had.
    pub fn end(&mut self, tail: &[OpusPacket]) -> Option<Bytes> {
        match self {
            Self::Ogg(ogg) => Some(ogg.end(tail, None)),
            Self::Plain { .. } | Self::Json | Self::Events => None,
        }
    }

    /// The block of silence for samples that are `sample_bytes` bytes long: zeros, in all encodings.
    #[must_use]
    pub fn silence(format: Format, sample_bytes: usize) -> Bytes {
        vec![0; format.block_samples() * sample_bytes].into()
    }
}
