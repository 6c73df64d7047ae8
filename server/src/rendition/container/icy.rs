//! Blocks of metadata between the bytes of MP3, for players that ask for them with `Icy-MetaData: 1`.
//!
//! There is no standard. Such a block comes after each [`INTERVAL`] bytes of sound; its first byte says how many times 16 bytes
//! follow. A block of the length 0 says that nothing has changed.

use bytes::Bytes;

use crate::rendition::container::titles::Titles;
use crate::rendition::packet::{Packet, Wire};

/// Bytes of sound between two blocks, which is told in the header `icy-metaint`: the interval that Icecast has.
pub const INTERVAL: usize = 16_000;
/// The unit of a block's length.
const UNIT: usize = 16;
/// The longest text in a block.
const MAX_TEXT_BYTES: usize = 255 * UNIT;

/// The blocks of one listener.
#[derive(Debug)]
pub struct IcyBlocks {
    /// The title of sound of which nothing is known.
    station: String,
    titles: Titles,
    /// The next block.
    block: Bytes,
    /// Bytes of sound before it.
    before: usize,
}

impl IcyBlocks {
    /// Makes the blocks of a stream of this station.
    #[must_use]
    pub fn new(station: &str) -> Self {
        let block = block(station).into();
        Self { station: station.to_owned(), titles: Titles::default(), block, before: INTERVAL }
    }

    /// Returns the next block, in or after `packet`.
    fn block_with(&self, packet: &Packet) -> Bytes {
        match self.titles.due(packet) {
            Some(change) => block(&change.notice.metadata.line().unwrap_or_else(|| self.station.clone())).into(),
            None => self.block.clone(),
        }
    }

    /// Appends the sound of `packet`, with the blocks that fall into it, as it goes over `wire`.
    pub fn append(&self, packet: &Packet, wire: Wire, bytes: &mut Vec<u8>) {
        let sound = &packet.bytes(wire)[packet.payload(wire)];
        if sound.len() < self.before {
            return bytes.extend_from_slice(packet.bytes(wire));
        }
        let (first, rest) = sound.split_at(self.before);
        let mut payload = [first, &self.block_with(packet)].concat();
        for piece in rest.chunks(INTERVAL) {
            payload.extend_from_slice(piece);
            if piece.len() == INTERVAL {
                payload.push(0);
            }
        }
        bytes.extend_from_slice(Packet::chunk(&payload, Default::default()).bytes(wire));
    }

    /// Counts a packet that is written.
    pub fn advance(&mut self, packet: &Packet) {
        let sound = packet.payload(Wire::Plain).len();
        self.block = self.block_with(packet);
        self.titles.advance(packet);
        if sound < self.before {
            self.before -= sound;
        } else {
            self.before = INTERVAL - (sound - self.before) % INTERVAL;
            self.block = Bytes::from_static(&[0]);
        }
    }
}

/// Returns a block with a title, without what would end it early.
fn block(title: &str) -> Vec<u8> {
    let title: String = title.chars().filter(|character| !character.is_control() && *character != '\'').collect();
    let mut text = format!("StreamTitle='{title}';").into_bytes();
    if text.len() > MAX_TEXT_BYTES {
        text = b"StreamTitle='';".to_vec();
    }
    let units = text.len().div_ceil(UNIT);
    text.resize(units * UNIT, 0);
    text.insert(0, units as u8);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rendition::packet::Numbered;

    #[test]
    fn a_block_comes_after_each_interval_of_sound() {
        // Packets that end before, at and after a block, and one with several in it.
        for lengths in
            [vec![7000; 9], vec![INTERVAL, 1, INTERVAL - 1, 10], vec![3 * INTERVAL + 5, INTERVAL - 5, 40_000]]
        {
            let (mut blocks, mut stream, mut sound) = (IcyBlocks::new("it's live"), Vec::new(), Vec::new());
            for (length, start) in lengths.iter().zip(0_u8..) {
                let payload: Vec<u8> = (0..*length).map(|index| start.wrapping_add(index as u8)).collect();
                let packet = Packet::chunk(&payload, Numbered::Nothing);
                let mut plain = Vec::new();
                blocks.append(&packet, Wire::Plain, &mut plain);
                let mut chunk = Vec::new();
                blocks.append(&packet, Wire::Chunked, &mut chunk);
                assert_eq!(chunk, Packet::chunk(&plain, Numbered::Nothing).bytes(Wire::Chunked));
                blocks.advance(&packet);
                stream.extend(plain);
                sound.extend(payload);
            }
            let (mut heard, mut texts, mut rest) = (Vec::new(), Vec::new(), &stream[..]);
            while let Some((piece, after)) = rest.split_at_checked(INTERVAL) {
                heard.extend_from_slice(piece);
                let (text, after) = after[1..].split_at(usize::from(after[0]) * UNIT);
                texts.push(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
                rest = after;
            }
            heard.extend_from_slice(rest);
            assert!(heard == sound, "{lengths:?}");
            assert_eq!(texts.len(), sound.len() / INTERVAL, "{lengths:?}");
            assert_eq!(texts[0], "StreamTitle='its live';");
            assert!(texts[1..].iter().all(String::is_empty), "{texts:?}");
        }
    }

    #[test]
    fn a_title_comes_in_the_next_block_and_the_station_where_none_is_known() {
        let log = crate::metadata::MetadataLog::default();
        let title = |title: &str| aircheck_api::Metadata { title: Some(title.to_owned()), artist: None };
        log.set(title("b"), 1);
        log.set(Default::default(), 3);
        let (mut blocks, mut stream) = (IcyBlocks::new("station"), Vec::new());
        for sequence in 0..5 {
            let mut packet = Packet::chunk(&vec![0x55; INTERVAL - 1], Numbered::Nothing);
            packet.set_metadata(log.at(sequence));
            blocks.append(&packet, Wire::Plain, &mut stream);
            blocks.advance(&packet);
        }
        let text = String::from_utf8_lossy(&stream);
        let titles: Vec<_> = text.split("StreamTitle='").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect();
        // The first packet ends a byte before its block.
        assert_eq!(titles, ["b", "station"]);
    }
}
