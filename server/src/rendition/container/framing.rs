//! Framing: the header, the notices of gaps, the numbers of pages and frames, and the end of one listener's stream.

use std::ops::Range;

use aircheck_engine::{Format, Gap};
use bytes::Bytes;

use crate::rendition::container::flac::FrameNumbering;
use crate::rendition::container::icy::IcyBlocks;
use crate::rendition::container::message;
use crate::rendition::container::notices::{NoticeForm, Notices};
use crate::rendition::container::ogg::{Numbering, Weights};
use crate::rendition::packet::{Packet, Wire};

/// The framing of one listener's stream. Packets are shared by all listeners; this state is the listener's own.
///
/// Its bytes are the rendition's own. Where they go over a connection as chunks or messages, the caller frames them.
#[derive(Debug)]
pub enum Framing {
    /// Packets follow each other, after a header if there is one.
    Plain {
        /// Bytes before the first packet.
        header: Option<Bytes>,
        /// A block of silence, for a listener that wants one in place of each lost block.
        silence: Option<Bytes>,
    },
    /// Lines of JSON, server-sent events, or messages of the WebSocket, with notices between them.
    Notices(Notices),
    /// Pages of Ogg with Opus in them.
    Ogg(OggFraming),
    /// Frames of FLAC.
    Flac {
        /// Bytes before the first packet.
        header: Option<Bytes>,
        /// The numbers of the frames.
        numbering: FrameNumbering,
    },
    /// Frames of MP3, with blocks of metadata between them if the listener wants them.
    Mp3(Option<Box<IcyBlocks>>),
}

/// The framing of one listener's pages.
#[derive(Debug)]
pub struct OggFraming {
    header: Bytes,
    /// Whether the header was taken.
    has_begun: bool,
    numbering: Numbering,
}

/// The replacement of lost blocks.
#[derive(Debug)]
pub enum GapFill {
    /// Nothing.
    Nothing,
    /// A notice of the gap. For the WebSocket, the text of a message.
    Notice(Bytes),
    /// A block of silence for each of these sequence numbers.
    Silence(Bytes, Range<u64>),
}

impl Framing {
    /// Makes the framing of pages that come after these header pages.
    #[must_use]
    pub fn ogg(header: Bytes) -> Self {
        Self::Ogg(OggFraming { header, has_begun: false, numbering: Numbering::new() })
    }

    /// Makes the framing of a rendition with notices in this form.
    #[must_use]
    pub fn notices(form: NoticeForm) -> Self {
        Self::Notices(Notices::new(form))
    }

    /// Takes the bytes that go before the first packet. They go in one chunk with it, because there are players that read once to
    /// find out what they play.
    pub fn take_header(&mut self) -> Option<Bytes> {
        match self {
            Self::Plain { header, .. } | Self::Flac { header, .. } => header.take(),
            Self::Ogg(ogg) => (!std::mem::replace(&mut ogg.has_begun, true)).then(|| ogg.header.clone()),
            Self::Notices(_) | Self::Mp3(_) => None,
        }
    }

    /// Returns the replacement of lost blocks.
    pub fn fill(&mut self, gap: Gap) -> GapFill {
        let end = gap.from + gap.items;
        match self {
            Self::Plain { silence: Some(silence), .. } => GapFill::Silence(silence.clone(), gap.from..end),
            // Pages and frames carry their positions, so a gap shows without a notice.
            Self::Plain { .. } | Self::Ogg(_) | Self::Flac { .. } | Self::Mp3(_) => GapFill::Nothing,
            Self::Notices(notices) => GapFill::Notice(match notices.form() {
                NoticeForm::Line => message::line_of_gap(gap).into(),
                NoticeForm::Event => message::event_of_gap(gap).into(),
                NoticeForm::Message => message::gap(gap).into(),
            }),
        }
    }

    /// Returns whether the listener needs bytes of its own for `packet`: if not, those of the packet are right for all.
    #[must_use]
    pub fn is_own(&self, packet: &Packet) -> bool {
        match self {
            Self::Plain { header, .. } => header.is_some(),
            Self::Ogg(_) | Self::Flac { .. } => true,
            Self::Mp3(metadata) => metadata.is_some(),
            Self::Notices(notices) => notices.may_be_due(packet),
        }
    }

    /// Appends `packet` as it goes over `wire`, with this listener's numbers and metadata: in as many bytes as the packet has, or
    /// more. The result is the same however often this is called before [`advance`](Self::advance), and whatever `weights` were used
    /// for.
    pub fn append(&self, packet: &Packet, wire: Wire, weights: &mut Weights, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        match self {
            Self::Flac { numbering, .. } => numbering.append(packet, wire, bytes),
            Self::Mp3(Some(blocks)) => blocks.append(packet, wire, bytes),
            Self::Notices(notices) => {
                notices.append(packet, wire, bytes);
                bytes.extend_from_slice(packet.bytes(wire));
            }
            Self::Ogg(ogg) => {
                bytes.extend_from_slice(packet.bytes(wire));
                ogg.numbering.renumber(packet, wire, weights, &mut bytes[start..]);
            }
            _ => bytes.extend_from_slice(packet.bytes(wire)),
        }
    }

    /// Counts a packet that is written.
    pub fn advance(&mut self, packet: &Packet) {
        match self {
            Self::Ogg(ogg) => ogg.numbering.advance(packet),
            Self::Flac { numbering, .. } => numbering.advance(packet),
            Self::Mp3(Some(blocks)) => blocks.advance(packet),
            Self::Notices(notices) => notices.advance(packet),
            Self::Plain { .. } | Self::Mp3(None) => {}
        }
    }

    /// Returns the bytes after the last packet, which end the stream. `tail` is what the encoder's
    /// [`Tail`](crate::rendition::encoders::Tail) holds; a listener that is ended before the stream has none.
    pub fn end(&mut self, tail: Option<&Packet>) -> Option<Bytes> {
        let Some(tail) = tail else {
            let Self::Ogg(ogg) = self else { return None };
            return ogg.numbering.end(&ogg.header);
        };
        let mut bytes = Vec::new();
        self.append(tail, Wire::Plain, &mut Weights::default(), &mut bytes);
        self.advance(tail);
        Some(bytes.into())
    }

    /// Returns a block of silence for samples of `sample_bytes` bytes: zeros, in all encodings.
    #[must_use]
    pub fn silence(format: Format, sample_bytes: usize) -> Bytes {
        vec![0; format.block_samples() * sample_bytes].into()
    }
}
