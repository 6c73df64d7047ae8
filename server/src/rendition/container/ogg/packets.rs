//! The packets of Opus in the pages of a shared packet, for containers that have them one by one.

use crate::rendition::container::ogg::page::field;
use crate::rendition::packet::{Packet, Wire};

/// The lacing value of a segment behind which its packet goes on (RFC 3533, section 5).
const GOES_ON: u8 = 255;

/// A packet of Opus in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagedPacket<'p> {
    /// Where its first frame lies in the encoder's input, in frames at 48 kHz.
    pub position: u64,
    /// Frames that count of it: all that it decodes to, except in the stream's last packet.
    pub frames: u32,
    /// The packet as the decoder takes it.
    pub bytes: &'p [u8],
}

/// Returns the packets in the pages of `packet`, each of which decodes to `packet_frames` frames at 48 kHz. Packets lie on a grid of
/// this length, so the end of a page tells the position of each.
#[must_use]
pub fn packets_in_pages(packet: &Packet, packet_frames: u32) -> Vec<PagedPacket<'_>> {
    let bytes = &packet.bytes(Wire::Chunked)[packet.payload(Wire::Chunked)];
    let mut found = Vec::new();
    for page in packet.pages() {
        let in_page = bytes_of_packets(bytes.get(page.start as usize..).unwrap_or_default());
        let step = u64::from(packet_frames.max(1));
        let last = page.granule.saturating_sub(1) / step * step;
        let count = in_page.len();
        found.extend(in_page.into_iter().enumerate().map(|(index, bytes)| {
            let is_last = index + 1 == count;
            PagedPacket {
                position: last.saturating_sub((count - 1 - index) as u64 * step),
                frames: if is_last { (page.granule - last) as u32 } else { packet_frames },
                bytes,
            }
        }));
    }
    found
}

/// Returns the packets of the page at the start of `bytes`.
fn bytes_of_packets(bytes: &[u8]) -> Vec<&[u8]> {
    let segments = bytes.get(field::SEGMENTS).copied().unwrap_or_default().into();
    let Some((lengths, mut body)) = bytes.get(field::LENGTHS..).and_then(|rest| rest.split_at_checked(segments)) else {
        return Vec::new();
    };
    let packets = lengths.split_inclusive(|length| *length < GOES_ON);
    let length = |lengths: &[u8]| lengths.iter().map(|length| usize::from(*length)).sum();
    packets
        .map_while(|lengths| {
            let (packet, rest) = body.split_at_checked(length(lengths))?;
            body = rest;
            Some(packet)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::rendition::codec::OpusPacket;
    use crate::rendition::container::ogg::OggPages;

    fn packet(position: u64, frames: u32, length: usize) -> OpusPacket {
        OpusPacket { position, frames, is_last: frames < 960, bytes: Bytes::from(vec![length as u8; length]) }
    }

    #[test]
    fn packets_come_out_of_pages_as_they_went_in() {
        let mut pages = OggPages::new(1, 2, 312, 48_000);
        // One that takes several segments, one of a whole segment, a jump, and a last one that is cut.
        let opus = [packet(1920, 960, 600), packet(2880, 960, 255), packet(9600, 960, 3), packet(10_560, 17, 40)];
        let packet = pages.pages(&opus);
        assert_eq!(packet.pages().len(), 2, "a jump begins a page");
        let found = packets_in_pages(&packet, 960);
        let expected: Vec<_> = opus
            .iter()
            .map(|opus| PagedPacket { position: opus.position, frames: opus.frames, bytes: &opus.bytes })
            .collect();
        assert_eq!(found, expected);
    }
}
