//! The Ogg stream of one listener that writes its own pages.

use bytes::Bytes;
use ogg::{PacketWriteEndInfo, PacketWriter};

use super::{CELT_20_MS, STEREO, VENDOR, opus_head, push_text};
use crate::rendition::codec::OpusPacket;

/// The Ogg stream of one listener. Its time 0 is the start of the first packet.
pub struct OggOpus {
    writer: PacketWriter<'static, Vec<u8>>,
    serial: u32,
    head: [u8; 19],
    pre_skip: u16,
    /// Position of the first packet, which is granule position 0.
    origin: Option<u64>,
    /// Granule position of the last page.
    granule: u64,
    /// Length of the last packet. A packet that conceals a loss should be like the one before (RFC 7845, section 4.1).
    frames: u32,
    /// First byte of the last packet.
    toc: u8,
    has_ended: bool,
}

impl OggOpus {
    /// Makes a stream with this serial number, which should be random. `pre_skip` is the encoder's, in frames at 48 kHz,
    /// and `input_rate_hz` the source's rate.
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

    /// Returns the two header pages, which come first. Players show `title`.
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

    /// Returns a page with these packets, and a further page from each jump of their positions on. Without packets,
    /// returns nothing.
    ///
    /// Granule positions follow the packets' positions, so they jump where packets are missing. Players treat such a jump
    /// in different ways; [`conceal`](Self::conceal) fills the hole instead.
    #[must_use]
    pub fn page(&mut self, packets: &[OpusPacket]) -> Bytes {
        self.write_pages(packets, None);
        self.take()
    }

    /// Fills the hole up to `position`, where the next packet starts, with packets that ask the decoder to conceal a loss.
    /// RFC 7845, section 4.1, recommends this for gaps of live streams. It keeps the time of the stream true in every
    /// player, but a listener that has fallen behind stays as far behind.
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

    /// Ends the stream with these packets, at the position `end` or else where they end. Without packets, the last page
    /// adds no sound.
    ///
    /// Returns nothing if the stream has ended already, with a packet that [is the last](OpusPacket::is_last).
    #[must_use]
    pub fn end(&mut self, packets: &[OpusPacket], end: Option<u64>) -> Bytes {
        self.write_pages(packets, Some(end.unwrap_or(u64::MAX)));
        if !self.has_ended {
            // A page needs a packet. A granule position that stays the same cuts its sound off, and if it is the only
            // packet, all of it lies in the pre-skip.
            let granule = if self.origin.is_some() { self.granule } else { self.pre_skip.into() };
            self.write(self.lost_packet(), PacketWriteEndInfo::EndStream, granule);
        }
        self.take()
    }

    /// Writes packets, with a page for each run without a jump. If there is an `end`, the last page ends the stream.
    fn write_pages(&mut self, packets: &[OpusPacket], end: Option<u64>) {
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
            // The lowest two bits are a code for the number of frames; 0 stands for one frame.
            self.toc = packet.bytes.first().map_or(self.toc, |toc| toc & !0b11);
            self.write(packet.bytes.to_vec(), info, self.granule);
        }
    }

    /// Returns a packet with a first byte only, which a decoder conceals as a loss (RFC 6716, section 3.2.1).
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    use ogg::{Packet, PacketReader};

    fn packet(position: u64, frames: u32, is_last: bool) -> OpusPacket {
        OpusPacket { position, frames, is_last, bytes: Bytes::from(vec![CELT_20_MS | STEREO | 1, 1, 2, 3]) }
    }

    /// Reads pages, and checks the checksum of each.
    fn read(pages: &[Bytes]) -> Vec<Packet> {
        let mut reader = PacketReader::new(Cursor::new(pages.concat()));
        std::iter::from_fn(|| reader.read_packet().unwrap()).collect()
    }

    #[test]
    fn the_headers_have_the_layout_of_rfc_7845() {
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
        assert_eq!(numbers, [0, 1, 2, 3, 4], "page numbers do not jump");
    }

    #[test]
    fn a_hole_is_filled_with_packets_like_the_one_before() {
        let mut ogg = OggOpus::new(1, 2, 312, 48_000);
        assert!(ogg.conceal(5000).is_empty(), "there is no hole before the first packet");
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
    fn the_last_packets_end_the_stream_at_the_given_position() {
        let mut ogg = OggOpus::new(1, 2, 312, 48_000);
        let last = [packet(960, 960, false), packet(1920, 960, false)];
        let packets = read(&[ogg.header(None), ogg.end(&last, Some(2000)), ogg.end(&[], None)]);
        assert_eq!(packets.len(), 4);
        assert!(packets[3].last_in_stream());
        assert_eq!(packets[3].absgp_page(), 1040);
    }

    #[test]
    fn a_stream_without_last_packets_ends_where_it_was() {
        let mut ogg = OggOpus::new(1, 1, 312, 48_000);
        let pages = [ogg.header(None), ogg.page(&[packet(960, 960, false)]), ogg.end(&[], None), ogg.end(&[], None)];
        let packets = read(&pages);
        assert_eq!(packets.len(), 4, "it ends once");
        assert!(packets[3].last_in_stream());
        assert_eq!(packets[3].absgp_page(), 960);
    }
}
