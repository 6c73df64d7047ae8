//! The pages of an Ogg Opus stream (RFC 3533, RFC 7845). Each page says at which position its last packet ends, and
//! each packet's first bytes say how long it sounds. Where the position rises by more than that, sound is missing.

use ogg::reading::{BasePacketReader, PageParser};

use super::item::Item;

/// Length of a page's header before its table of segments.
const HEADER_BYTES: usize = 27;
/// Where the number of segments stands in it.
const SEGMENTS_AT: usize = 26;
/// How a page begins, with the version.
const MARK: &[u8] = b"OggS\0";
/// Pages without sound: the identification and the comments.
const HEADER_PAGES: u64 = 2;

/// The pages of a stream in pieces of any size.
pub(crate) struct Pages {
    /// The page that is not complete yet.
    bytes: Vec<u8>,
    packets: BasePacketReader,
    pages: u64,
    /// Where the last page ended; `None` before the first with sound.
    position: Option<u64>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("pages", &self.pages).finish_non_exhaustive()
    }
}

impl Pages {
    /// Makes a reader at the beginning of a stream.
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), packets: BasePacketReader::new(), pages: 0, position: None }
    }

    /// Reads bytes that arrived, and passes on the sound of the pages that end in them.
    ///
    /// # Errors
    ///
    /// A sentence about the page that can't be read.
    pub(crate) fn push(&mut self, bytes: &[u8], found: &mut dyn FnMut(Item)) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        // At once: bytes of another kind may look like a long page.
        while !self.bytes.is_empty() {
            let mark = MARK.len().min(self.bytes.len());
            if self.bytes[..mark] != MARK[..mark] {
                return Err(self.unreadable("it does not begin as one"));
            }
            let Some(length) = page_length(&self.bytes) else { break };
            let page: Vec<u8> = self.bytes.drain(..length).collect();
            self.pages += 1;
            self.read(&page, found)?;
        }
        Ok(())
    }

    fn read(&mut self, page: &[u8], found: &mut dyn FnMut(Item)) -> Result<(), String> {
        let unreadable = |pages: u64, why: &dyn std::fmt::Display| format!("cannot read page {pages} of Ogg: {why}");
        let Some((header, rest)) = page.split_first_chunk::<HEADER_BYTES>() else { return Ok(()) };
        let (mut parser, segments) = PageParser::new(*header).map_err(|error| unreadable(self.pages, &error))?;
        let (segments, body) = rest.split_at(segments);
        parser.parse_segments(segments.to_vec());
        let page = parser.parse_packet_data(body.to_vec()).map_err(|error| unreadable(self.pages, &error))?;
        self.packets.push_page(page).map_err(|error| unreadable(self.pages, &error))?;
        let (mut frames, mut end) = (0, None);
        while let Some(packet) = self.packets.read_packet() {
            frames += packet_frames(&packet.data);
            end = Some((packet.absgp_page(), packet.last_in_stream()));
        }
        // A page in which no packet ends has no position.
        let Some((position, is_last)) = end.filter(|_| self.pages > HEADER_PAGES) else { return Ok(()) };
        // Sound that the last page cuts off is not missing.
        if !is_last {
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

    fn unreadable(&self, why: &str) -> String {
        format!("cannot read page {} of Ogg: {why}", self.pages + 1)
    }
}

/// Returns the length of the page that `bytes` begin with, if all of it is there.
fn page_length(bytes: &[u8]) -> Option<usize> {
    let segments = usize::from(*bytes.get(SEGMENTS_AT)?);
    let table = bytes.get(HEADER_BYTES..HEADER_BYTES + segments)?;
    let length = HEADER_BYTES + segments + table.iter().map(|&bytes| usize::from(bytes)).sum::<usize>();
    (bytes.len() >= length).then_some(length)
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
        let mut pages = Pages::new();
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
