//! The pages of an Ogg Opus stream (RFC 3533, RFC 7845). Each page says at which position its last packet ends, and each
//! packet's first bytes how long it sounds: what the position jumps beyond that is missing.

use crate::load::reader::Item;

/// Up to the number of segments, and with all of them.
const PAGE_HEADER: usize = 27;
/// How every page begins, with the version.
const MARK: &[u8] = b"OggS\0";
/// The header type's flag of a first page.
const FIRST: u8 = 2;
/// The header type's flag of a last page.
const LAST: u8 = 4;
/// Pages that hold no sound: the identification and the comments.
const HEADER_PAGES: u64 = 2;
/// Stands for the position of a page in which no packet ends.
const NOWHERE: u64 = u64::MAX;

/// Pages as they come, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    header: Vec<u8>,
    page: Option<Page>,
    pages: u64,
    /// Where the last page ended; none before the first with sound.
    position: Option<u64>,
}

/// A page whose payload is being read.
#[derive(Debug)]
struct Page {
    granule: u64,
    is_last: bool,
    /// Bytes of its packets, in order, and which one is being read.
    packets: Vec<usize>,
    packet: usize,
    /// How much of that was read, and its first byte.
    read: usize,
    toc: u8,
    frames: u64,
}

impl Pages {
    /// Takes in what arrived, and tells of the sound of the pages that end in it.
    ///
    /// # Errors
    ///
    /// A sentence about the page that makes no sense.
    pub(crate) fn push(&mut self, mut bytes: &[u8], tell: &mut dyn FnMut(Item)) -> Result<(), String> {
        loop {
            if self.page.is_none() {
                let whole = self.header.get(PAGE_HEADER - 1).map_or(PAGE_HEADER, |&n| PAGE_HEADER + usize::from(n));
                let taken = bytes.len().min(whole - self.header.len());
                self.header.extend(&bytes[..taken]);
                bytes = &bytes[taken..];
                // At once: what is no page may claim to have a long header.
                if self.header.len() >= MARK.len() && !self.header.starts_with(MARK) {
                    return Err(format!("page {} is no page of Ogg", self.pages + 1));
                }
                let whole = self.header.get(PAGE_HEADER - 1).map_or(PAGE_HEADER, |&n| PAGE_HEADER + usize::from(n));
                if self.header.len() < whole {
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    continue;
                }
                self.pages += 1;
                self.page = Some(Page::begin(&self.header).ok_or(format!("page {} is no page of Ogg", self.pages))?);
                self.header.clear();
            }
            let Some(page) = &mut self.page else { return Ok(()) };
            bytes = page.take(bytes);
            if page.packet < page.packets.len() {
                return Ok(());
            }
            if let Some(page) = self.page.take() {
                self.end(&page, tell);
            }
        }
    }

    fn end(&mut self, page: &Page, tell: &mut dyn FnMut(Item)) {
        if self.pages <= HEADER_PAGES || page.granule == NOWHERE {
            return;
        }
        // What the last page cuts off is not missing.
        if !page.is_last {
            let begins = page.granule.saturating_sub(page.frames);
            if let Some(hole) = self.position.and_then(|position| begins.checked_sub(position)).filter(|&hole| hole > 0)
            {
                tell(Item::Hole { frames: hole });
            }
            tell(Item::Sound { frames: page.frames });
        }
        self.position = Some(page.granule);
    }
}

impl Page {
    fn begin(header: &[u8]) -> Option<Self> {
        let granule = u64::from_le_bytes(*header.get(6..)?.first_chunk()?);
        if header[5] & FIRST != 0 && granule != 0 {
            return None;
        }
        let mut packets = vec![0];
        for (index, &lace) in header[PAGE_HEADER..].iter().enumerate() {
            *packets.last_mut()? += usize::from(lace);
            // A lacing value below 255 ends a packet.
            if lace < 255 && index + 1 < header.len() - PAGE_HEADER {
                packets.push(0);
            }
        }
        Some(Self { granule, is_last: header[5] & LAST != 0, packets, packet: 0, read: 0, toc: 0, frames: 0 })
    }

    /// Reads on, and gives back what comes after the page.
    fn take<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Some(&length) = self.packets.get(self.packet) {
            let taken = bytes.len().min(length - self.read);
            for (at, &byte) in (self.read..).zip(&bytes[..taken.min(2)]) {
                match at {
                    0 => {
                        self.toc = byte;
                        self.frames += if byte & 3 == 3 { 0 } else { frames(byte, 0) };
                    }
                    // Only where the first byte says that the second one tells how many frames there are.
                    1 if self.toc & 3 == 3 => self.frames += frames(self.toc, byte),
                    _ => {}
                }
            }
            self.read += taken;
            bytes = &bytes[taken..];
            if self.read < length {
                break;
            }
            (self.packet, self.read) = (self.packet + 1, 0);
        }
        bytes
    }
}

/// How many frames at 48 kHz a packet has, by its first two bytes (RFC 6716, sections 3.1 and 3.2).
fn frames(toc: u8, count: u8) -> u64 {
    let each = match toc >> 3 {
        config @ 0..12 => [480, 960, 1920, 2880][usize::from(config % 4)],
        config @ 12..16 => [480, 960][usize::from(config % 2)],
        config => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let number = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(count & 0x3F),
    };
    each * number
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fullband CELT of 20 ms.
    const TOC: u8 = 31 << 3;

    fn page(kind: u8, granule: u64, packets: &[usize]) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.push(kind);
        page.extend(granule.to_le_bytes());
        page.extend([0; 12]);
        let laces: Vec<u8> =
            packets.iter().flat_map(|&n| [vec![255; n / 255], vec![(n % 255) as u8]].concat()).collect();
        page.push(laces.len() as u8);
        page.extend(laces);
        for &length in packets {
            page.push(TOC);
            page.extend(vec![9; length - 1]);
        }
        page
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Item>, String> {
        let mut pages = Pages::default();
        let mut items = Vec::new();
        bytes.chunks(piece).try_for_each(|piece| pages.push(piece, &mut |item| items.push(item)))?;
        Ok(items)
    }

    #[test]
    fn holes_are_what_positions_jump_beyond_the_sound() {
        let stream = [
            page(FIRST, 0, &[19]),
            page(0, 0, &[40]),
            page(0, 960, &[300]),
            page(0, 2880, &[200, 255]),
            page(0, 2880 + 1920 + 960, &[100]),
            page(LAST, 5760, &[1]),
        ]
        .concat();
        let sound = |packets: u64| Item::Sound { frames: 960 * packets };
        let expected = [sound(1), sound(2), Item::Hole { frames: 1920 }, sound(1)];
        for piece in [1, 2, 27, 100, 10_000] {
            assert_eq!(read(&stream, piece).unwrap(), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn packets_say_how_long_they_sound() {
        assert_eq!(frames(TOC, 0), 960);
        assert_eq!(frames(TOC | 1, 0), 1920);
        assert_eq!(frames((16 << 3) | 3, 8), 960);
        assert_eq!(frames(3 << 3, 0), 2880);
        assert_eq!(frames(12 << 3, 0), 480);
    }

    #[test]
    fn what_is_no_page_is_told() {
        assert_eq!(read(&[b'x'; 100], 100), Err("page 1 is no page of Ogg".to_owned()));
    }
}
