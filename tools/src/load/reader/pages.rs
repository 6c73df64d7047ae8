//! The pages of an Ogg Opus stream (RFC 3533, RFC 7845). Each page says at which position its last packet ends, and
//! each packet's first bytes say how long it sounds. Where the position rises by more than that, sound is missing.

use std::mem;

use crc::{Algorithm, Crc, Table};

use super::item::Item;

/// Length of a page's header before its table of segments.
const HEADER_BYTES: usize = 27;
/// Where the flags, the position, the checksum and the number of segments stand in it.
const FLAGS_AT: usize = 5;
const POSITION_AT: usize = 6;
const CHECKSUM_AT: usize = 22;
const SEGMENTS_AT: usize = 26;
/// The page begins within a packet.
const CONTINUES: u8 = 1;
/// The first and the last page of a stream.
const FIRST: u8 = 2;
const LAST: u8 = 4;
/// A segment of this length is not the last of its packet.
const FULL_SEGMENT: u8 = 255;
/// How a page begins, with the version.
const MARK: &[u8] = b"OggS\0";
/// Pages without sound: the identification and the comments.
const HEADER_PAGES: u64 = 2;
/// Ogg's checksum (RFC 3533, section 6); its value for `123456789` stands in `check`.
const OGG: Algorithm<u32> = Algorithm {
    width: 32,
    poly: 0x04c1_1db7,
    init: 0,
    refin: false,
    refout: false,
    xorout: 0,
    check: 0x89a1_897f,
    residue: 0,
};
/// Sixteen bytes at a time: byte by byte, checksums cost more than reading from the socket.
static CHECKSUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&OGG);

/// The pages of a stream in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// The page that is not complete yet.
    part: Vec<u8>,
    pages: u64,
    /// Pages of the stream that goes on; another one may follow its last page.
    pages_of_stream: u64,
    /// Frames of a packet that goes on in the next page.
    open_frames: u64,
    /// Where the last page ended; `None` before the first with sound.
    position: Option<u64>,
    has_last_page: bool,
}

impl Pages {
    /// Returns whether the last page that came ends the stream.
    pub(crate) fn has_last_page(&self) -> bool {
        self.has_last_page
    }

    /// Reads bytes that arrived, and passes on the sound of the pages that end in them.
    ///
    /// # Errors
    ///
    /// A sentence about the page that can't be read.
    pub(crate) fn push(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(Item)) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.part.is_empty() {
                self.check_mark(bytes)?;
                let length = known_length(bytes);
                if bytes.len() >= length {
                    let (page, rest) = bytes.split_at(length);
                    self.read(page, found)?;
                    bytes = rest;
                    continue;
                }
            }
            let missing = known_length(&self.part) - self.part.len();
            let (more, rest) = bytes.split_at(missing.min(bytes.len()));
            self.part.extend_from_slice(more);
            bytes = rest;
            self.check_mark(&self.part)?;
            if self.part.len() == known_length(&self.part) {
                let page = mem::take(&mut self.part);
                self.read(&page, found)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, page: &[u8], found: &mut dyn FnMut(Item)) -> Result<(), String> {
        let sum = checksum(page);
        if page[CHECKSUM_AT..SEGMENTS_AT] != sum.to_le_bytes() {
            return Err(self.unreadable("its checksum is wrong"));
        }
        let flags = page[FLAGS_AT];
        if flags & FIRST != 0 {
            *self = Self { pages: self.pages, ..Self::default() };
        }
        self.pages += 1;
        self.pages_of_stream += 1;
        self.has_last_page = flags & LAST != 0;
        let segments = usize::from(page[SEGMENTS_AT]);
        let (table, mut body) = page[HEADER_BYTES..].split_at(segments);
        let (mut frames, mut ends_packet) = (0, false);
        let mut begins_packet = flags & CONTINUES == 0;
        for &length in table {
            let (segment, rest) = body.split_at(usize::from(length));
            body = rest;
            if begins_packet {
                self.open_frames = packet_frames(segment);
            }
            begins_packet = length < FULL_SEGMENT;
            if begins_packet {
                frames += mem::take(&mut self.open_frames);
                ends_packet = true;
            }
        }
        // A page in which no packet ends has no position.
        if !ends_packet || self.pages_of_stream <= HEADER_PAGES {
            return Ok(());
        }
        let position = page[POSITION_AT..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // Sound that the last page cuts off is not missing.
        if !self.has_last_page {
            let begins = position.saturating_sub(frames);
            let hole = self.position.and_then(|position| begins.checked_sub(position)).filter(|&hole| hole > 0);
            if let Some(frames) = hole {
                found(Item::Hole { frames });
            }
            found(Item::Sound { frames });
        }
        self.position = Some(position);
        Ok(())
    }

    fn check_mark(&self, page: &[u8]) -> Result<(), String> {
        let mark = MARK.len().min(page.len());
        if page[..mark] == MARK[..mark] { Ok(()) } else { Err(self.unreadable("it does not begin as one")) }
    }

    fn unreadable(&self, why: &str) -> String {
        format!("cannot read page {} of Ogg: {why}", self.pages + 1)
    }
}

/// Returns the length of the page that `bytes` begin with, as far as they tell it: at first that of its header.
fn known_length(bytes: &[u8]) -> usize {
    let Some(&segments) = bytes.get(SEGMENTS_AT) else { return HEADER_BYTES };
    let body_at = HEADER_BYTES + usize::from(segments);
    let body =
        bytes.get(HEADER_BYTES..body_at).map_or(0, |table| table.iter().map(|&length| usize::from(length)).sum());
    body_at + body
}

/// Returns the checksum of a page, which is taken with zeros in its own place.
fn checksum(page: &[u8]) -> u32 {
    let mut digest = CHECKSUM.digest();
    digest.update(&page[..CHECKSUM_AT]);
    digest.update(&[0; SEGMENTS_AT - CHECKSUM_AT]);
    digest.update(&page[SEGMENTS_AT..]);
    digest.finalize()
}

/// Returns the frames at 48 kHz of a packet, by its first two bytes (RFC 6716, sections 3.1 and 3.2).
fn packet_frames(packet: &[u8]) -> u64 {
    let Some(&toc) = packet.first() else { return 0 };
    let each = match toc >> 3 {
        config @ 0..12 => [480, 960, 1920, 2880][usize::from(config % 4)],
        config @ 12..16 => [480, 960][usize::from(config % 2)],
        config => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let number = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(0, |count| u64::from(count & 0x3F)),
    };
    each * number
}

#[cfg(test)]
mod tests {
    use ogg::writing::{PacketWriteEndInfo, PacketWriter};

    use super::*;

    /// Fullband CELT of 20 ms.
    const TOC: u8 = 31 << 3;

    /// A stream of pages, each with its position and the lengths of its packets; the last page ends the stream.
    fn stream(pages: &[(u64, &[usize])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = PacketWriter::new(&mut bytes);
        for (number, (position, packets)) in pages.iter().enumerate() {
            for (index, &length) in packets.iter().enumerate() {
                let end = match (index + 1 == packets.len(), number + 1 == pages.len()) {
                    (false, _) => PacketWriteEndInfo::NormalPacket,
                    (true, false) => PacketWriteEndInfo::EndPage,
                    (true, true) => PacketWriteEndInfo::EndStream,
                };
                let mut packet = vec![9; length];
                packet[0] = TOC;
                writer.write_packet(packet, 7, end, *position).unwrap();
            }
        }
        bytes
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Item>, String> {
        let mut pages = Pages::default();
        let mut items = Vec::new();
        bytes.chunks(piece).try_for_each(|piece| pages.push(piece, &mut |item| items.push(item)))?;
        Ok(items)
    }

    #[test]
    fn a_hole_is_a_position_that_rises_by_more_than_the_sound() {
        let bytes = stream(&[
            (0, &[19]),
            (0, &[40]),
            (960, &[300]),
            (2880, &[200, 255]),
            (2880 + 1920 + 960, &[100]),
            (5760, &[1]),
        ]);
        let sound = |packets: u64| Item::Sound { frames: 960 * packets };
        let expected = [sound(1), sound(2), Item::Hole { frames: 1920 }, sound(1)];
        for piece in [1, 2, 27, 100, 10_000] {
            assert_eq!(read(&bytes, piece).unwrap(), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_packet_s_first_bytes_say_how_long_it_sounds() {
        assert_eq!(packet_frames(&[TOC, 0]), 960);
        assert_eq!(packet_frames(&[TOC | 1, 0]), 1920);
        assert_eq!(packet_frames(&[(16 << 3) | 3, 8]), 960);
        assert_eq!(packet_frames(&[3 << 3]), 2880);
        assert_eq!(packet_frames(&[12 << 3]), 480);
        assert_eq!(packet_frames(&[]), 0);
    }

    #[test]
    fn bytes_that_are_no_page_are_refused() {
        let why = read(&[b'x'; 100], 100).unwrap_err();
        assert_eq!(why, "cannot read page 1 of Ogg: it does not begin as one");
        let mut spoilt = stream(&[(0, &[19]), (0, &[40])]);
        *spoilt.last_mut().unwrap() ^= 1;
        assert!(read(&spoilt, 100).unwrap_err().starts_with("cannot read page 2 of Ogg: "));
    }
}
