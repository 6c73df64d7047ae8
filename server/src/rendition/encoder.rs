//! One encoder: turns blocks into packets, with one or more blocks in a packet.

use std::sync::Arc;

use aircheck_api::{EpochNotice, Payload};
use aircheck_engine::{Block, Format, Gap, Item, Loss, Origin, Stamp, Timestamp};
use bytes::Bytes;

use crate::metadata::{Change, MetadataLog};
use crate::mount::throttle::Throttle;
use crate::rendition::codec::flac::frame::Frame;
use crate::rendition::codec::json::block_json;
use crate::rendition::codec::{CodecError, FlacEncoder, Mp3Encoder, OpusEncoder, OpusPacket};
use crate::rendition::container::message::{self, samples};
use crate::rendition::container::ogg::OggPages;
use crate::rendition::encoding::Encoding;
use crate::rendition::packet::{self, Ends, Numbered, Packet};

/// Encodes one stream of blocks, and gathers them into packets.
#[derive(Debug)]
pub struct Encoder {
    codec: Codec,
    /// Blocks that go into a packet.
    group: u64,
    /// Most blocks that a packet can have.
    max_blocks: u64,
    /// The blocks since the last packet.
    gathered: Option<Stamp>,
    /// Where their sound comes from.
    origin: Origin,
    /// The run of another server that it is of.
    epoch: Option<EpochNotice>,
    /// What is known of the sound of each block, and of those that are gathered.
    metadata: Arc<MetadataLog>,
    change: Option<Arc<Change>>,
    /// Where the last packet ends in all packets.
    ends: Ends,
    error_log: Throttle,
}

/// A codec, and what it has made of the gathered blocks.
#[derive(Debug)]
enum Codec {
    /// Each block is encoded by itself, and the bytes follow each other.
    Bytes { encoding: Encoding, bytes: Vec<u8> },
    /// Messages of the WebSocket, each with the samples of one block.
    Messages { payload: Payload, messages: Vec<Message> },
    /// Messages of the WebSocket, each with a packet of Opus.
    OpusMessages { encoder: Box<OpusEncoder>, messages: Vec<Message> },
    /// Packets of Opus, for pages of Ogg.
    Opus { encoder: Box<OpusEncoder>, pages: Box<OggPages>, packets: Vec<OpusPacket> },
    /// Frames of MP3, which follow each other.
    Mp3 { encoder: Box<Mp3Encoder>, bytes: Vec<u8> },
    /// Frames of FLAC, which follow each other.
    Flac { encoder: Box<FlacEncoder>, header: Bytes, bytes: Vec<u8>, frames: Vec<Frame> },
}

/// A message of the WebSocket with its kind.
type Message = (u8, Bytes);

impl Encoder {
    /// Makes an encoder for blocks of `format`, with `group` of them in a packet. `serial` is the serial number of its Ogg
    /// stream.
    ///
    /// # Errors
    ///
    /// When this format cannot be encoded so.
    pub fn new(encoding: Encoding, format: Format, group: u64, serial: u32) -> Result<Self, CodecError> {
        let group = group.max(1);
        let packet_frames = OpusEncoder::packet_frames_for(format, group);
        let opus = |bitrate| OpusEncoder::new(format, bitrate, packet_frames).map(Box::new);
        let codec = match encoding {
            Encoding::Opus { bitrate } => {
                let encoder = opus(bitrate)?;
                let pages = OggPages::new(serial, format.channels() as u8, encoder.pre_skip(), format.rate_hz());
                Codec::Opus { encoder, pages: Box::new(pages), packets: Vec::new() }
            }
            Encoding::OpusMessages { bitrate } => Codec::OpusMessages { encoder: opus(bitrate)?, messages: Vec::new() },
            Encoding::Flac { bits } => {
                let encoder = Box::new(FlacEncoder::new(format, bits)?);
                let header = encoder.header()?;
                Codec::Flac { encoder, header, bytes: Vec::new(), frames: Vec::new() }
            }
            Encoding::Mp3 { bitrate } => {
                Codec::Mp3 { encoder: Box::new(Mp3Encoder::new(format, bitrate)?), bytes: Vec::new() }
            }
            Encoding::Message(payload) => Codec::Messages { payload, messages: Vec::new() },
            Encoding::Pcm(_) | Encoding::Json | Encoding::Events => Codec::Bytes { encoding, bytes: Vec::new() },
        };
        let max_blocks = match codec {
            // So many fill a packet of Opus.
            Codec::Opus { .. } | Codec::OpusMessages { .. } => {
                let block_frames_at_48_khz = u64::from(format.block_frames()) * 48_000 / u64::from(format.rate_hz());
                group.max(u64::from(packet_frames).div_ceil(block_frames_at_48_khz.max(1)))
            }
            Codec::Mp3 { .. } => group.max(Mp3Encoder::blocks_of_frame(format)),
            _ => group,
        };
        Ok(Self {
            codec,
            group,
            max_blocks,
            gathered: None,
            origin: Origin::Source,
            epoch: None,
            metadata: Arc::default(),
            change: None,
            ends: Ends::default(),
            error_log: Throttle::default(),
        })
    }

    /// Takes what is known of the sound from here.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Arc<MetadataLog>) -> Self {
        self.metadata = metadata;
        self
    }

    /// Returns the most blocks that a packet can have: more than the group where a codec keeps sound back for longer.
    #[must_use]
    pub fn max_blocks(&self) -> u64 {
        self.max_blocks
    }

    /// Returns the bytes that each listener's stream begins with, as far as they are the codec's: the header of FLAC, and
    /// the header pages of Ogg.
    #[must_use]
    pub fn header(&self) -> Option<Bytes> {
        match &self.codec {
            Codec::Opus { pages, .. } => Some(pages.header().clone()),
            Codec::Flac { header, .. } => Some(header.clone()),
            _ => None,
        }
    }

    /// Encodes one block, and appends the packets that are complete with it.
    ///
    /// A packet is complete when its group is: groups end after numbers that are one below a multiple of their length, so
    /// the first may be shorter. A packet without bytes, because the codec keeps sound back, waits for the next block. It is
    /// complete anyway when a block is missing, because a gap lies between packets, never in one, and when it has
    /// [`max_blocks`](Self::max_blocks). Nor does a packet have sound of two origins, such as the source and the silence in its place, of
    /// two runs of another server, or of two titles.
    pub fn encode(&mut self, block: &Item<Block>, packets: &mut Vec<Item<Packet>>) {
        let stamp = block.stamp;
        let origin = block.origin();
        let epoch = self.epoch.filter(|epoch| epoch.number == block.epoch());
        let epoch = epoch.unwrap_or(EpochNotice { number: block.epoch(), sequence: stamp.first() });
        let change = self.metadata.at(stamp.sequence);
        if self.gathered.is_some_and(|gathered| gathered.next() != stamp.first())
            || self.origin != origin
            || self.epoch != Some(epoch)
            || self.change != change
        {
            packets.extend(self.cut());
        }
        (self.origin, self.epoch, self.change) = (origin, Some(epoch), change);
        if let Err(error) = self.codec.encode(block) {
            // Not expected of any codec. The block becomes a hole in the sound.
            if self.error_log.pass(Timestamp::now()).is_some() {
                tracing::error!("cannot encode block {}: {error}", stamp.sequence);
            }
            packets.extend(self.cut());
            return;
        }
        let gathered = match self.gathered {
            Some(before) => Stamp {
                preceding: before.preceding + stamp.preceding + 1,
                dispatched_at: before.dispatched_at,
                ..stamp
            },
            None => stamp,
        };
        self.gathered = Some(gathered);
        let is_group = gathered.next().is_multiple_of(self.group) || gathered.blocks() >= self.group;
        if is_group && !self.codec.is_empty() || gathered.blocks() >= self.max_blocks {
            packets.extend(self.cut());
        }
    }

    /// Returns a packet of the blocks that are gathered, if there are any. It has no bytes if the codec keeps all their
    /// sound back.
    pub fn cut(&mut self) -> Option<Item<Packet>> {
        let stamp = self.gathered.take()?;
        let mut packet = self.codec.take();
        packet.set_origin(self.origin);
        packet.set_epoch(self.epoch.unwrap_or_default());
        packet.set_metadata(self.change.clone());
        self.ends = packet.place(self.ends);
        Some(Item { stamp, value: packet })
    }

    /// Returns the packet after the last block, which belongs to no block; `None` if nothing is left.
    pub fn finish(&mut self) -> Option<Packet> {
        let mut packet = match self.codec.finish() {
            Ok(packet) => packet?,
            Err(error) => {
                tracing::error!("cannot encode the end of the stream: {error}");
                return None;
            }
        };
        self.ends = packet.place(self.ends);
        Some(packet)
    }
}

impl Codec {
    fn encode(&mut self, block: &Item<Block>) -> Result<(), CodecError> {
        let sequence = block.stamp.sequence;
        match self {
            Self::Bytes { encoding, bytes } => encode(*encoding, block, bytes),
            // A notice takes the place of sound that there is not. The encoder of Opus sees a gap.
            Self::Messages { messages, .. } | Self::OpusMessages { messages, .. }
                if block.origin().loss().is_some() =>
            {
                messages.push((packet::TEXT, message::gap(gap_of(block)).into()));
            }
            Self::Messages { payload, messages } => {
                let mut bytes = Vec::new();
                samples(*payload).unwrap_or_default().encode(block.samples(), &mut bytes);
                messages.push((packet::BINARY, message::binary(*payload, block.stamp, &bytes)));
            }
            Self::OpusMessages { encoder, messages } => {
                let mut packets = Vec::new();
                encoder.encode(sequence, block.samples(), &mut packets)?;
                let binary = |p: &OpusPacket| message::binary(Payload::Opus, block.stamp, &p.bytes);
                messages.extend(packets.iter().map(|p| (packet::BINARY, binary(p))));
            }
            Self::Opus { encoder, packets, .. } => encoder.encode(sequence, block.samples(), packets)?,
            Self::Mp3 { encoder, bytes } => encoder.encode(block.samples(), bytes)?,
            Self::Flac { encoder, bytes, frames, .. } => {
                let start = bytes.len();
                bytes.extend(encoder.encode(sequence, block.samples())?);
                frames.extend(Frame::at(bytes, start));
            }
        }
        Ok(())
    }

    /// Returns the packet with the end of the sound, as far as the codec has kept it back.
    fn finish(&mut self) -> Result<Option<Packet>, CodecError> {
        match self {
            Self::Opus { encoder, pages, packets } => {
                encoder.finish(packets)?;
                Ok(pages.last(&std::mem::take(packets)))
            }
            Self::Mp3 { encoder, bytes } => {
                encoder.finish(bytes)?;
                Ok((!bytes.is_empty()).then(|| Packet::chunk(bytes, Numbered::Nothing)))
            }
            _ => Ok(None),
        }
    }

    /// Returns whether nothing has come out since the last packet.
    fn is_empty(&self) -> bool {
        match self {
            Self::Bytes { bytes, .. } | Self::Flac { bytes, .. } | Self::Mp3 { bytes, .. } => bytes.is_empty(),
            Self::Messages { messages, .. } | Self::OpusMessages { messages, .. } => messages.is_empty(),
            Self::Opus { packets, .. } => packets.is_empty(),
        }
    }

    fn take(&mut self) -> Packet {
        match self {
            Self::Bytes { bytes, .. } | Self::Mp3 { bytes, .. } => {
                let packet = Packet::chunk(bytes, Numbered::Nothing);
                bytes.clear();
                packet
            }
            Self::Flac { bytes, frames, .. } => {
                let packet = Packet::chunk(bytes, Numbered::Frames(frames.as_slice().into()));
                bytes.clear();
                frames.clear();
                packet
            }
            Self::Messages { messages, .. } | Self::OpusMessages { messages, .. } => {
                let packet = Packet::messages(messages.iter().map(|(kind, message)| (*kind, &message[..])));
                messages.clear();
                packet
            }
            Self::Opus { pages, packets, .. } => {
                let packet = pages.pages(packets);
                packets.clear();
                packet
            }
        }
    }
}

/// Returns the gap that a block stands for whose sound is missing.
fn gap_of(block: &Item<Block>) -> Gap {
    let reason = block.origin().loss().unwrap_or(Loss::Source);
    Gap { from: block.stamp.first(), items: block.stamp.blocks(), reason }
}

/// Appends the bytes of a block that is encoded on its own.
fn encode(encoding: Encoding, block: &Item<Block>, bytes: &mut Vec<u8>) {
    let is_missing = block.origin().loss().is_some();
    match encoding {
        Encoding::Pcm(encoding) => encoding.encode(block.samples(), bytes),
        Encoding::Events if is_missing => bytes.extend(message::event_of_gap(gap_of(block)).into_bytes()),
        _ if is_missing => bytes.extend(message::line_of_gap(gap_of(block)).into_bytes()),
        Encoding::Events => {
            bytes.extend(format!("id: {}\ndata: {}\n\n", block.stamp.sequence, block_json(block)).into_bytes());
        }
        _ => {
            bytes.extend(block_json(block).into_bytes());
            bytes.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests;
