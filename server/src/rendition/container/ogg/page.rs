//! A page of Ogg in shared bytes, and the numbers in its header.

use crate::rendition::container::ogg::checksum::{self, Weights};

/// The first byte of a packet with one fullband CELT frame of 20 ms (RFC 6716, section 3.1).
pub(super) const CELT_20_MS: u8 = 31 << 3;
/// The flag in that byte for stereo.
pub(super) const STEREO: u8 = 1 << 2;

/// The fields of a page's header (RFC 3533, section 6), by where they start.
pub(super) mod field {
    pub(crate) const FLAGS: usize = 5;
    pub(crate) const GRANULE: usize = 6;
    pub(crate) const SERIAL: usize = 14;
    pub(crate) const NUMBER: usize = 18;
    pub(crate) const CHECKSUM: usize = 22;
    pub(crate) const SEGMENTS: usize = 26;
    /// The lengths of the segments; their bytes follow.
    pub(crate) const LENGTHS: usize = 27;
}
/// The flag of a stream's last page.
pub(super) const END_OF_STREAM: u8 = 4;

/// An Ogg page in a shared packet, as its encoder numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Start of the page in the payload of its packet.
    pub(super) start: u32,
    /// Number of the page in the encoder's stream.
    pub(super) number: u32,
    /// End of the page's sound in frames at 48 kHz since the start of the stream.
    pub(super) granule: u64,
    /// Start of the sound of the whole packet, as the granule.
    pub(super) origin: u64,
    /// Checksum with these numbers.
    pub(super) checksum: u32,
    /// Factor that carries a change of the numbers to the end of the page: see [`checksum`].
    pub(super) shift: u32,
    /// First byte of the last Opus packet.
    pub(super) toc: u8,
    pub(super) ends_stream: bool,
}

impl Page {
    /// Writes these numbers and their checksum into the page's header.
    pub(super) fn renumber(&self, number: u32, granule: u64, weights: &mut Weights, header: &mut [u8]) {
        const GRANULE: usize = field::GRANULE;
        // From the granule position to the page number; the serial number between them stays.
        let mut difference = [0; field::CHECKSUM - GRANULE];
        difference[..8].copy_from_slice(&(granule ^ self.granule).to_le_bytes());
        difference[field::NUMBER - GRANULE..].copy_from_slice(&(number ^ self.number).to_le_bytes());
        let checksum = self.checksum ^ weights.change(difference, self.shift);
        header[GRANULE..field::SERIAL].copy_from_slice(&granule.to_le_bytes());
        header[field::NUMBER..field::CHECKSUM].copy_from_slice(&number.to_le_bytes());
        header[field::CHECKSUM..field::SEGMENTS].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Returns the pages in `bytes`, which hold whole pages and nothing else.
pub(super) fn find_pages(bytes: &[u8], origin: u64, toc: u8) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut start = 0;
    while let Some(page) = bytes.get(start..).filter(|page| page.len() >= field::LENGTHS) {
        let segments = usize::from(page[field::SEGMENTS]);
        let body: usize = page[field::LENGTHS..].iter().take(segments).map(|length| usize::from(*length)).sum();
        let length = field::LENGTHS + segments + body;
        pages.push(Page {
            start: start as u32,
            number: u32::from_le_bytes(array(page, field::NUMBER)),
            granule: u64::from_le_bytes(array(page, field::GRANULE)),
            origin,
            checksum: u32::from_le_bytes(array(page, field::CHECKSUM)),
            shift: checksum::shift(length - field::CHECKSUM),
            toc,
            ends_stream: page[field::FLAGS] & END_OF_STREAM != 0,
        });
        start += length;
    }
    pages
}

/// Returns the bytes of a field; zeros if it is not all there.
pub(super) fn array<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    bytes.get(start..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}
