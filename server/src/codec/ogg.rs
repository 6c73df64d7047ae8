//! Ogg pages around Opus packets, for one listener (RFC 3533 and RFC 7845).
//!
//! Packets are shared by all listeners; pages are not, because each listener's file starts when that listener does.

use bytes::Bytes;
use ogg::{PacketWriteEndInfo, PacketWriter};

use crate::codec::OpusPacket;

/// Who has encoded, for the comment header.
const VENDOR: &str = concat!("aircheck ", env!("CARGO_PKG_VERSION"));
/// A fullband CELT frame of 20 ms, in the first byte of a packet (RFC 6716, section 3.1).
const CELT_20_MS: u8 = 31 << 3;
/// The flag for stereo in that byte.
const STEREO: u8 = 1 << 2;

/// The identification header of Ogg Opus, which WebCodecs takes as a description, too.
///
/// `pre_skip` is in frames at 48 kHz; `input_rate_hz` is only told.
#[must_use]
pub fn opus_head(channels: u8, pre_skip: u16, input_rate_hz: u32) -> [u8; 19] {
    let mut head = *b"OpusHead\x01\0\0\0\0\0\0\0\0\0\0";
    head[9] = channels;
    head[10..12].copy_from_slice(&pre_skip.to_le_bytes());
    head[12..16].copy_from_slice(&input_rate_hz.to_le_bytes());
    head
}

/// The Ogg stream of one listener. The first packet that it is given starts at its time 0.
pub struct OggOpus {
    writer: PacketWriter<'static, Vec<u8>>,
    serial: u32,
    head: [u8; 19],
    /// The position that granule position 0 stands for.
    origin: Option<u64>,
    /// The last page's granule position.
    granule: u64,
    /// What the last packet was like: one to conceal a loss is best the same (RFC 7845, section 4.1).
    frames: u32,
    toc: u8,
}

impl OggOpus {
    /// A stream with this serial number, which should be random. `pre_skip` is the encoder's, or that and
    /// as much more as a player should decode but not play, in frames at 48 kHz; `input_rate_hz` is the source's rate,
    /// which is only told.
    #[must_use]
    pub fn new(serial: u32, channels: u8, pre_skip: u16, input_rate_hz: u32) -> Self {
        Self {
            writer: PacketWriter::new(Vec::new()),
            serial,
            head: opus_head(channels, pre_skip, input_rate_hz),
            origin: None,
            granule: 0,
            frames: 960,
            toc: if channels == 2 { CELT_20_MS | STEREO } else { CELT_20_MS },
        }
    }

    /// The two header pages, which go first. `title` is what players show.
    #[must_use]
    pub fn header(&mut self, title: Option<&str>) -> Bytes {
        let title = title.map(|title| format!("TITLE={title}"));
        let mut tags = b"OpusTags".to_vec();
        let mut push = |text: &str| {
            tags.extend((text.len() as u32).to_le_bytes());
            tags.extend(text.as_bytes());
        };
        push(VENDOR);
        match title {
            Some(title) => {
                tags.extend(1_u32.to_le_bytes());
                tags.extend((title.len() as u32).to_le_bytes());
                tags.extend(title.as_bytes());
            }
            None => tags.extend(0_u32.to_le_bytes()),
        }
        self.write(self.head.to_vec(), PacketWriteEndInfo::EndPage, 0);
        self.write(tags, PacketWriteEndInfo::EndPage, 0);
        self.take()
    }

    /// Packets in a page, or in one more at each jump of their positions. Nothing for no packets.
    ///
    /// Granule positions go with the packets' positions. So they jump where packets are missing, which players take
    /// differently; [`conceal`](Self::conceal) fills the hole instead.
    #[must_use]
    pub fn page(&mut self, packets: &[OpusPacket]) -> Bytes {
        self.pages(packets, None);
        self.take()
    }

    /// Stands in for what is missing up to `position`, where the next packet starts: packets that ask the decoder to
    /// conceal a loss. That is how RFC 7845, section 4.1, wants gaps of live streams, and keeps the time of the stream
    /// true in every player; but a listener that has fallen behind stays as far behind.
    #[must_use]
    pub fn conceal(&mut self, position: u64) -> Bytes {
        let Some(origin) = self.origin else { return Bytes::new() };
        let mut left = position.saturating_sub(origin + self.granule) / u64::from(self.frames);
        while left > 0 {
            left -= 1;
            self.granule += u64::from(self.frames);
            let info = if left == 0 { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
            self.write(self.lost_packet(), info, self.granule);
        }
        self.take()
    }

    /// The last packets, and with them the end of the stream: at `end`, as
    /// [`OpusEncoder::finish`](crate::codec::OpusEncoder::finish) tells it, or with the last packet.
    ///
    /// Without packets there still is a last page, which adds nothing to what is heard.
    #[must_use]
    pub fn end(&mut self, packets: &[OpusPacket], end: Option<u64>) -> Bytes {
        if packets.is_empty() {
            // A page that says the end has to have a packet here. A granule position that does not move cuts it off.
            self.write(self.lost_packet(), PacketWriteEndInfo::EndStream, self.granule);
        } else {
            self.pages(packets, Some(end.unwrap_or(u64::MAX)));
        }
        self.take()
    }

    fn pages(&mut self, packets: &[OpusPacket], end: Option<u64>) {
        for (index, packet) in packets.iter().enumerate() {
            let origin = *self.origin.get_or_insert(packet.position);
            self.granule = packet.end().saturating_sub(origin);
            let info = match (packets.get(index + 1), end) {
                (Some(next), _) if next.position == packet.end() => PacketWriteEndInfo::NormalPacket,
                (None, Some(end)) => {
                    self.granule = self.granule.min(end.saturating_sub(origin));
                    PacketWriteEndInfo::EndStream
                }
                _ => PacketWriteEndInfo::EndPage,
            };
            self.frames = packet.frames;
            // The lowest bits would say that there are more frames in it.
            self.toc = packet.bytes.first().map_or(self.toc, |toc| toc & !0b11);
            self.write(packet.bytes.to_vec(), info, self.granule);
        }
    }

    /// A packet with nothing in it but what it is: a loss to be concealed (RFC 6716, section 3.2.1).
    fn lost_packet(&self) -> Vec<u8> {
        vec![self.toc]
    }

    fn write(&mut self, packet: Vec<u8>, info: PacketWriteEndInfo, granule: u64) {
        // Writing to a vector can't fail.
        let _ = self.writer.write_packet(packet, self.serial, info, granule);
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(self.writer.inner_mut()).into()
    }
}

impl std::fmt::Debug for OggOpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OggOpus").field("serial", &self.serial).field("granule", &self.granule).finish_non_exhaustive()
    }
}
