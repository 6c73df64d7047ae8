//! Ogg pages with Opus packets (RFC 3533 and RFC 7845).
//!
//! An encoder writes pages once for all its listeners, numbered by its own stream. A listener's file starts when the
//! listener does, so its [`Numbering`] puts other numbers into the pages' headers. Only the header's 12 bytes change; the
//! checksum follows from them alone, because it is linear.

mod checksum;
mod numbering;
mod packets;
pub(crate) mod page;

use bytes::Bytes;
use ogg::{PacketWriteEndInfo, PacketWriter};

use crate::rendition::codec::OpusPacket;
use crate::rendition::container::ogg::page::{CELT_20_MS, find_pages};
use crate::rendition::packet::{Numbered, Packet};

pub use checksum::Weights;
pub use numbering::Numbering;
pub use packets::{PagedPacket, packets_in_pages};

/// The encoder's name in the comment header.
const VENDOR: &str = concat!("aircheck ", env!("CARGO_PKG_VERSION"));
/// Returns the identification header of Ogg Opus, which is also the description that WebCodecs takes.
///
/// `pre_skip` is in frames at 48 kHz. `input_rate_hz` is information only: a decoder does not use it.
#[must_use]
pub fn opus_head(channels: u8, pre_skip: u16, input_rate_hz: u32) -> [u8; 19] {
    let mut head = *b"OpusHead\x01\0\0\0\0\0\0\0\0\0\0";
    head[9] = channels;
    head[10..12].copy_from_slice(&pre_skip.to_le_bytes());
    head[12..16].copy_from_slice(&input_rate_hz.to_le_bytes());
    head
}

/// The pages of one encoder. Granule positions are the packets' own: they count from the start of the source's stream.
pub struct OggPages {
    writer: PacketWriter<'static, Vec<u8>>,
    serial: u32,
    header: Bytes,
}

impl OggPages {
    /// Starts a stream with this serial number. `pre_skip` is the encoder's, in frames at 48 kHz, and `input_rate_hz` the
    /// source's rate.
    #[must_use]
    pub fn new(serial: u32, channels: u8, pre_skip: u16, input_rate_hz: u32) -> Self {
        let mut tags = b"OpusTags".to_vec();
        push_text(&mut tags, VENDOR);
        tags.extend(0_u32.to_le_bytes());
        let mut pages = Self { writer: PacketWriter::new(Vec::new()), serial, header: Bytes::new() };
        pages.write(opus_head(channels, pre_skip, input_rate_hz).to_vec(), PacketWriteEndInfo::EndPage, 0);
        pages.write(tags, PacketWriteEndInfo::EndPage, 0);
        pages.header = std::mem::take(pages.writer.inner_mut()).into();
        pages
    }

    /// Returns the two pages that each listener's stream begins with.
    #[must_use]
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// Returns a packet with these Opus packets in a page, and in a further page from each jump of their positions on.
    /// The page of a packet that [is the last](OpusPacket::is_last) ends the stream.
    #[must_use]
    pub fn pages(&mut self, packets: &[OpusPacket]) -> Packet {
        self.write_pages(packets, false)
    }

    /// Returns the packet that ends the stream with these Opus packets; `None` without any.
    #[must_use]
    pub fn last(&mut self, packets: &[OpusPacket]) -> Option<Packet> {
        (!packets.is_empty()).then(|| self.write_pages(packets, true))
    }

    fn write_pages(&mut self, packets: &[OpusPacket], is_end: bool) -> Packet {
        for (index, packet) in packets.iter().enumerate() {
            let info = match packets.get(index + 1) {
                _ if packet.is_last => PacketWriteEndInfo::EndStream,
                None if is_end => PacketWriteEndInfo::EndStream,
                Some(next) if next.position == packet.end() => PacketWriteEndInfo::NormalPacket,
                _ => PacketWriteEndInfo::EndPage,
            };
            self.write(packet.bytes.to_vec(), info, packet.end());
        }
        let bytes = std::mem::take(self.writer.inner_mut());
        let origin = packets.first().map_or(0, |packet| packet.position);
        // The lowest two bits are a code for the number of frames; 0 stands for one frame.
        let toc = packets.last().and_then(|packet| packet.bytes.first()).map_or(CELT_20_MS, |toc| toc & !0b11);
        let pages = find_pages(&bytes, origin, toc);
        Packet::chunk(&bytes, Numbered::Pages(pages.into()))
    }

    fn write(&mut self, packet: Vec<u8>, info: PacketWriteEndInfo, granule: u64) {
        // Writing to a vector can't fail.
        let _ = self.writer.write_packet(packet, self.serial, info, granule);
    }
}

impl std::fmt::Debug for OggPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OggPages").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// Appends a text with its length before it, as in a comment header.
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests;
