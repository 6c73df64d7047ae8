//! One encoder: turns each block into a packet.

use aircheck_api::Payload;
use aircheck_engine::{Block, Format, Item, Stamp, Timestamp};
use bytes::Bytes;

use crate::mount::throttle::Throttle;
use crate::rendition::codec::json::block_json;
use crate::rendition::codec::{FlacEncoder, OpusEncoder, OpusPacket};
use crate::rendition::container::message::{self, samples};
use crate::rendition::encoding::Encoding;

/// What an encoder made of one block.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// All of it.
    Whole(Bytes),
    /// Packets of Opus: as many as became whole with this block.
    Opus(Vec<OpusPacket>),
}

impl Encoded {
    /// The binary messages that this is on the WebSocket.
    pub fn messages(&self, stamp: Stamp) -> Vec<Bytes> {
        match self {
            Self::Whole(message) => vec![message.clone()],
            Self::Opus(packets) => {
                packets.iter().map(|packet| message::binary(Payload::Opus, stamp, &packet.bytes)).collect()
            }
        }
    }
}

/// One encoder at work.
#[derive(Debug)]
pub struct Encoder {
    work: Work,
    complaints: Throttle,
}

#[derive(Debug)]
enum Work {
    /// Each block by itself.
    Stateless(Encoding),
    Opus(Box<OpusEncoder>),
    Flac(Box<FlacEncoder>),
}

impl Encoder {
    /// An encoder for blocks of `format`.
    ///
    /// # Errors
    ///
    /// A sentence, where there is no such encoding of this format.
    pub fn new(encoding: Encoding, format: Format) -> Result<Self, String> {
        let work = match encoding {
            Encoding::Opus { bitrate } => {
                Work::Opus(Box::new(OpusEncoder::new(format, bitrate).map_err(|error| error.to_string())?))
            }
            Encoding::Flac { bits } => {
                Work::Flac(Box::new(FlacEncoder::new(format, bits).map_err(|error| error.to_string())?))
            }
            stateless => Work::Stateless(stateless),
        };
        Ok(Self { work, complaints: Throttle::default() })
    }

    /// What becomes of one block.
    pub fn encode(&mut self, block: &Item<Block>) -> Encoded {
        let sequence = block.stamp.sequence;
        let encoded = match &mut self.work {
            Work::Stateless(encoding) => Ok(Encoded::Whole(encode(*encoding, block))),
            Work::Opus(encoder) => {
                let mut packets = Vec::new();
                encoder.encode(sequence, block.samples(), &mut packets).map(|()| Encoded::Opus(packets))
            }
            Work::Flac(encoder) => encoder.encode(sequence, block.samples()).map(Encoded::Whole),
        };
        encoded.unwrap_or_else(|error| {
            // Not expected of any of them. The block is heard as a hole.
            if self.complaints.pass(Timestamp::now()).is_some() {
                tracing::error!(sequence, "a block could not be encoded: {error}");
            }
            Encoded::Whole(Bytes::new())
        })
    }

    /// What is left when there are no more blocks.
    pub fn finish(&mut self) -> Vec<OpusPacket> {
        let mut packets = Vec::new();
        if let Work::Opus(encoder) = &mut self.work
            && let Err(error) = encoder.finish(&mut packets)
        {
            tracing::error!("the end of the stream could not be encoded: {error}");
        }
        packets
    }
}

/// The bytes of one block, where they depend on nothing else.
fn encode(encoding: Encoding, block: &Item<Block>) -> Bytes {
    match encoding {
        Encoding::Pcm(encoding) => {
            let mut bytes = Vec::new();
            encoding.encode(block.samples(), &mut bytes);
            bytes.into()
        }
        Encoding::Message(payload) => {
            let mut bytes = Vec::new();
            samples(payload).unwrap_or_default().encode(block.samples(), &mut bytes);
            message::binary(payload, block.stamp, &bytes)
        }
        Encoding::Events => format!("id: {}\ndata: {}\n\n", block.stamp.sequence, block_json(block)).into(),
        Encoding::Json | Encoding::Opus { .. } | Encoding::Flac { .. } => {
            let mut line = block_json(block);
            line.push('\n');
            line.into()
        }
    }
}
