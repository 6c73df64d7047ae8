//! The numbers in the pages of one listener's stream.

use bytes::Bytes;

use crate::rendition::container::ogg::checksum::{self, Weights};
use crate::rendition::container::ogg::page::{CELT_20_MS, END_OF_STREAM, Page, STEREO, array, field};
use crate::rendition::packet::{Packet, Wire};

/// Header pages, which come before those that are numbered here.
const HEADER_PAGES: u64 = 2;
/// Start of the identification header in the header pages: its page has one segment.
const OPUS_HEAD: usize = field::LENGTHS + 1;

/// The position of one listener in its own stream of pages. Its time 0 is the start of its first packet.
#[derive(Clone, Copy, Debug)]
pub struct Numbering {
    /// Position of the first packet, once one is written.
    origin: u64,
    /// Granule position of the last page.
    granule: u64,
    /// Pages that are written, without the header pages.
    pages: u64,
    /// First byte of the last Opus packet. A packet that conceals a loss should be like the one before (RFC 7845, section
    /// 4.1).
    toc: u8,
    has_ended: bool,
}

impl Default for Numbering {
    fn default() -> Self {
        Self::new()
    }
}

impl Numbering {
    /// Makes the numbering of a listener that has only the header pages.
    #[must_use]
    pub const fn new() -> Self {
        Self { origin: 0, granule: 0, pages: 0, toc: CELT_20_MS, has_ended: false }
    }

    /// Numbers the pages in `bytes`, which are those of `packet` as they go over `wire`. The result is the same however
    /// often this is called before [`advance`](Self::advance), and whatever `weights` were used for.
    pub fn renumber(&self, packet: &Packet, wire: Wire, weights: &mut Weights, bytes: &mut [u8]) {
        let (pages, payload) = (packet.pages(), packet.payload(wire).start);
        let origin = self.origin_with(pages);
        for (index, page) in pages.iter().enumerate() {
            let number = self.next_number().wrapping_add(index as u32);
            let start = payload + page.start as usize;
            if let Some(header) = bytes.get_mut(start..start + field::SEGMENTS) {
                page.renumber(number, page.granule.saturating_sub(origin), weights, header);
            }
        }
    }

    /// Counts the pages of a packet that is written.
    pub fn advance(&mut self, packet: &Packet) {
        let pages = packet.pages();
        let Some(last) = pages.last() else { return };
        self.origin = self.origin_with(pages);
        self.granule = last.granule.saturating_sub(self.origin);
        self.pages += pages.len() as u64;
        self.toc = last.toc;
        self.has_ended |= last.ends_stream;
    }

    /// Returns the page that ends the stream where it is, and adds no sound; `None` if a page has ended it already.
    /// `header` are its header pages.
    pub fn end(&mut self, header: &[u8]) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        self.has_ended = true;
        let head = header.get(OPUS_HEAD..).unwrap_or_default();
        // A page needs a packet: one with a first byte only, which a decoder conceals as a loss (RFC 6716, section 3.2.1).
        // A granule position that stays the same cuts its sound off, and if it is the only packet, all of it lies in the
        // pre-skip.
        let (granule, toc) = if self.pages > 0 {
            (self.granule, self.toc)
        } else {
            let [channels] = array(head, 9);
            (u16::from_le_bytes(array(head, 10)).into(), if channels == 2 { self.toc | STEREO } else { self.toc })
        };
        let mut page = b"OggS\0".to_vec();
        page.push(END_OF_STREAM);
        page.extend(granule.to_le_bytes());
        page.extend(array::<4>(header, field::SERIAL));
        page.extend(self.next_number().to_le_bytes());
        page.extend([0; 4]);
        // One segment of one byte.
        page.extend([1, 1, toc]);
        let checksum = checksum::checksum(&page);
        page[field::CHECKSUM..field::SEGMENTS].copy_from_slice(&checksum.to_le_bytes());
        Some(page.into())
    }

    fn next_number(&self) -> u32 {
        // Players take the number for one of 32 bits that starts again after the highest.
        (HEADER_PAGES + self.pages) as u32
    }

    /// Returns the position of the first packet, which is in `pages` if none was written before.
    fn origin_with(&self, pages: &[Page]) -> u64 {
        match pages.first() {
            Some(first) if self.pages == 0 => first.origin,
            _ => self.origin,
        }
    }
}
