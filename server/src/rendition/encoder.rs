//! One encoder: turns each block into a packet.

use aircheck_api::Payload;
use aircheck_engine::{Block, Format, Item, Stamp, Timestamp};
use bytes::Bytes;

use crate::mount::throttle::Throttle;
use crate::rendition::codec::json::block_json;
use crate::rendition::codec::{FlacEncoder, OpusEncoder, OpusPacket};
use crate::rendition::container::message::{self, samples};
use crate::rendition::encoding::Encoding;

/// The output of an encoder for one block.
#[derive(Clone, Debug)]
pub enum Encoded {
    /// The whole block.
    Whole(Bytes),
    /// The packets of Opus that were completed by this block.
    Opus(Vec<OpusPacket>),
}

impl Encoded {
    /// Returns the binary messages of the WebSocket that carry it.
    pub fn messages(&self, stamp: Stamp) -> Vec<Bytes> {
        match self {
            Self::Whole(message) => vec![message.clone()],
            Self::Opus(packets) => {
                packets.iter().map(|packet| message::binary(Payload::Opus, stamp, &packet.bytes)).collect()
            }
        }
    }
}

/// Encodes one stream of blocks.
#[derive(Debug)]
pub struct Encoder {
    codec: Codec,
    error_log: Throttle,
}

#[derive(Debug)]
enum Codec {
    /// Each block is encoded by itself.
    Stateless(Encoding),
    Opus(Box<OpusEncoder>),
    Flac(Box<FlacEncoder>),
}

impl Encoder {
    /// Makes an encoder for blocks of `format`.
    ///
    /// # Errors
    ///
    /// A sentence with the reason, if this format cannot be encoded so.
    pub fn new(encoding: Encoding, format: Format) -> Result<Self, String> {
        let codec = match encoding {
            Encoding::Opus { bitrate } | Encoding::OpusMessages { bitrate } => {
                let packet_frames = OpusEncoder::packet_frames_for(format, 1);
                let encoder = OpusEncoder::new(format, bitrate, packet_frames);
                Codec::Opus(Box::new(encoder.map_err(|error| error.to_string())?))
            }
            Encoding::Flac { bits } => {
                Codec::Flac(Box::new(FlacEncoder::new(format, bits).map_err(|error| error.to_string())?))
            }
            stateless => Codec::Stateless(stateless),
        };
        Ok(Self { codec, error_log: Throttle::default() })
    }

    /// Encodes one block.
    pub fn encode(&mut self, block: &Item<Block>) -> Encoded {
        let sequence = block.stamp.sequence;
        let encoded = match &mut self.codec {
            Codec::Stateless(encoding) => Ok(Encoded::Whole(encode(*encoding, block))),
            Codec::Opus(encoder) => {
                let mut packets = Vec::new();
                encoder.encode(sequence, block.samples(), &mut packets).map(|()| Encoded::Opus(packets))
            }
            Codec::Flac(encoder) => encoder.encode(sequence, block.samples()).map(Encoded::Whole),
        };
        encoded.unwrap_or_else(|error| {
            // Not expected of any codec. The block becomes a hole in the sound.
            if self.error_log.pass(Timestamp::now()).is_some() {
                tracing::error!("cannot encode block {sequence}: {error}");
            }
            Encoded::Whole(Bytes::new())
        })
    }

    /// Returns the packets that are left after the last block.
    pub fn finish(&mut self) -> Vec<OpusPacket> {
        let mut packets = Vec::new();
        if let Codec::Opus(encoder) = &mut self.codec
            && let Err(error) = encoder.finish(&mut packets)
        {
            tracing::error!("cannot encode the end of the stream: {error}");
        }
        packets
    }
}

/// Encodes a block on its own.
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
        Encoding::Json | Encoding::Opus { .. } | Encoding::OpusMessages { .. } | Encoding::Flac { .. } => {
            let mut line = block_json(block);
            line.push('\n');
            line.into()
        }
    }
}
