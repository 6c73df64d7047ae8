//! Ogg pages around Opus packets, for one listener (RFC 3533 and RFC 7845).
//!
//! Packets are shared by all listeners; pages are not, because each listener's file starts when that listener does.

use bytes::Bytes;
use ogg::{PacketWriteEndInfo, PacketWriter};

use crate::rendition::codec::OpusPacket;

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
    pre_skip: u16,
    /// The position that granule position 0 stands for.
    origin: Option<u64>,
    /// The last page's granule position.
    granule: u64,
    /// What the last packet was like: one to conceal a loss is best the same (RFC 7845, section 4.1).
    frames: u32,
    toc: u8,
    has_ended: bool,
}

impl OggOpus {
    /// A stream with this serial number, which should be random. `pre_skip` is the encoder's, in frames at 48 kHz, and
    /// `input_rate_hz` is the source's rate, which is only told.
    #[must_use]
    pub fn new(serial: u32, channels: u8, pre_skip: u16, input_rate_hz: u32) -> Self {
        Self {
            writer: PacketWriter::new(Vec::new()),
            serial,
            head: opus_head(channels, pre_skip, input_rate_hz),
            pre_skip,
            origin: None,
            granule: 0,
            frames: 960,
            toc: if channels == 2 { CELT_20_MS | STEREO } else { CELT_20_MS },
            has_ended: false,
        }
    }

    /// The two header pages, which go first. `title` is what players show.
    #[must_use]
    pub fn header(&mut self, title: Option<&str>) -> Bytes {
        let mut tags = b"OpusTags".to_vec();
        push_text(&mut tags, VENDOR);
        tags.extend(u32::from(title.is_some()).to_le_bytes());
        if let Some(title) = title {
            push_text(&mut tags, &format!("TITLE={title}"));
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

    /// The last packets, and with them the end of the stream: at the position `end`, or where they end. Without packets
    /// there still is a last page, which adds nothing to what is heard.
    ///
    /// Nothing if the stream has ended already, with the packet that [says so](OpusPacket::is_last).
    #[must_use]
    pub fn end(&mut self, packets: &[OpusPacket], end: Option<u64>) -> Bytes {
        self.pages(packets, Some(end.unwrap_or(u64::MAX)));
        if !self.has_ended {
            // Another packet, because a page needs one. A granule position that does not move cuts it off; if it is
            // the only one, it is all in the pre-skip.
            let granule = if self.origin.is_some() { self.granule } else { self.pre_skip.into() };
            self.write(self.lost_packet(), PacketWriteEndInfo::EndStream, granule);
        }
        self.take()
    }

    /// Packets in as many pages as there are runs without a jump; the last one ends the stream if there is an `end`.
    fn pages(&mut self, packets: &[OpusPacket], end: Option<u64>) {
        for (index, packet) in packets.iter().enumerate() {
            let next = packets.get(index + 1);
            let end = if packet.is_last { Some(packet.end()) } else { end.filter(|_| next.is_none()) };
            let origin = *self.origin.get_or_insert(packet.position);
            self.granule = packet.end().min(end.unwrap_or(u64::MAX)).saturating_sub(origin);
            let info = match next {
                _ if end.is_some() => PacketWriteEndInfo::EndStream,
                Some(next) if next.position == packet.end() => PacketWriteEndInfo::NormalPacket,
                _ => PacketWriteEndInfo::EndPage,
            };
            if !packet.is_last {
                self.frames = packet.frames;
            }
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
        self.has_ended |= info == PacketWriteEndInfo::EndStream;
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

/// Appends a text with its length, as comment headers have it.
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    use ogg::{Packet, PacketReader};

    fn packet(position: u64, frames: u32, is_last: bool) -> OpusPacket {
        OpusPacket { position, frames, is_last, bytes: Bytes::from(vec![CELT_20_MS | STEREO | 1, 1, 2, 3]) }
    }

    /// What a reader that checks every page's checksum finds.
    fn read(pages: &[Bytes]) -> Vec<Packet> {
        let mut reader = PacketReader::new(Cursor::new(pages.concat()));
        std::iter::from_fn(|| reader.read_packet().unwrap()).collect()
    }

    #[test]
    fn the_headers_are_what_rfc_7845_asks_for() {
        let packets = read(&[OggOpus::new(77, 2, 312, 44_100).header(Some("Café"))]);
        assert_eq!(packets[0].data, b"OpusHead\x01\x02\x38\x01\x44\xAC\0\0\0\0\0");
        assert!(packets[0].first_in_stream() && packets[0].last_in_page());
        let tags = [b"OpusTags", &(VENDOR.len() as u32).to_le_bytes()[..], VENDOR.as_bytes()].concat();
        assert_eq!(packets[1].data, [&tags[..], b"\x01\0\0\0\x0B\0\0\0TITLE=Caf\xC3\xA9"].concat());
        assert!(packets[1].last_in_page());
        assert!(packets.iter().all(|packet| packet.absgp_page() == 0 && packet.stream_serial() == 77));
    }

    #[test]
    fn time_starts_with_the_listener_and_jumps_with_the_packets() {
        let mut ogg = OggOpus::new(1, 2, 312, 48_000);
        let pages = [
            ogg.header(None),
            ogg.page(&[]),
            ogg.page(&[packet(9600, 960, false), packet(10_560, 960, false), packet(19_200, 960, false)]),
            ogg.page(&[packet(20_160, 500, true)]),
            ogg.end(&[], None),
        ];
        let packets = read(&pages);
        let ends: Vec<u64> = packets[2..].iter().map(Packet::absgp_page).collect();
        assert_eq!(ends, [1920, 1920, 10_560, 11_060]);
        assert!(packets[5].last_in_stream());
        let numbers: Vec<u8> =
            pages.concat().windows(19).filter(|page| page.starts_with(b"OggS")).map(|page| page[18]).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4], "pages are counted, whatever is missing");
    }

    #[test]
    fn a_hole_is_filled_with_packets_like_the_one_before() {
        let mut ogg = OggOpus::new(1, 2, 312, 48_000);
        assert!(ogg.conceal(5000).is_empty(), "nothing is missing before the first packet");
        let pages =
            [ogg.header(None), ogg.page(&[packet(960, 960, false)]), ogg.conceal(960 * 500), ogg.conceal(960 * 500)];
        let packets = read(&pages);
        assert_eq!(packets.len(), 2 + 1 + 498);
        assert!(packets[3..].iter().all(|packet| packet.data == [CELT_20_MS | STEREO]));
        assert_eq!(packets.last().unwrap().absgp_page(), 960 * 499);
        // 255 packets go into a page.
        assert_eq!(packets[3].absgp_page(), 960 * 256);
    }

    #[test]
    fn the_last_packets_end_the_stream_where_they_are_told_to() {
        let mut ogg = OggOpus::new(1, 2, 312, 48_000);
        let last = [packet(960, 960, false), packet(1920, 960, false)];
        let packets = read(&[ogg.header(None), ogg.end(&last, Some(2000)), ogg.end(&[], None)]);
        assert_eq!(packets.len(), 4);
        assert!(packets[3].last_in_stream());
        assert_eq!(packets[3].absgp_page(), 1040);
    }

    #[test]
    fn a_stream_that_is_cut_off_ends_where_it_was() {
        let mut ogg = OggOpus::new(1, 1, 312, 48_000);
        let pages = [ogg.header(None), ogg.page(&[packet(960, 960, false)]), ogg.end(&[], None), ogg.end(&[], None)];
        let packets = read(&pages);
        assert_eq!(packets.len(), 4, "it ends once");
        assert!(packets[3].last_in_stream());
        assert_eq!(packets[3].absgp_page(), 960);
    }
}
