//! A frame of FLAC in shared bytes, and the same frame with another number.
//!
//! The header of a frame (RFC 9639, section 9.1) has the number in one to six bytes, and ends with a checksum of itself. The frame ends
//! with a checksum of all its bytes.

use crc::{CRC_8_SMBUS, CRC_16_UMTS, Crc, Table};

/// Numbers have 31 bits (RFC 9639, section 9.1.5): they start again after 248 days of 10 ms blocks.
const NUMBERS: u64 = 1 << 31;
/// Where the number starts: after the marker, the codes of length and rate, and those of channels and bits.
const NUMBER: usize = 4;
/// The checksum of a header: polynomial 0x07, initial value 0 (RFC 9639, section 9.1.8).
const HEADER_CRC: Crc<u8> = Crc::<u8>::new(&CRC_8_SMBUS);
/// The checksum of a whole frame: polynomial 0x8005, initial value 0, not reflected (RFC 9639, section 9.3). Every listener's frames are
/// summed, so the table is the largest and quickest.
static FRAME_CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_UMTS);

/// A frame in the bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    start: u32,
    end: u32,
    number: u32,
    number_bytes: u8,
    /// Bytes of the header with its checksum.
    header_bytes: u8,
}

impl Frame {
    /// Finds the parts of the frame that `bytes` hold from `start` to their end; `None` if there is no whole frame.
    #[must_use]
    pub fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let frame = bytes.get(start..)?;
        let (codes, first) = (*frame.get(2)?, *frame.get(NUMBER)?);
        // As in UTF-8, the first byte begins with as many ones as there are bytes, if there are more than one.
        let ones = first.leading_ones() as usize;
        let number_bytes = ones.max(1);
        let rest = frame.get(NUMBER + 1..NUMBER + number_bytes)?;
        let low = u32::from(first) & (0xFF_u32 >> ones.min(7));
        let number = rest.iter().fold(low, |number, byte| number << 6 | u32::from(byte & 0x3F));
        // Lengths and rates without a code of their own stand behind the number (sections 9.1.6 and 9.1.7).
        let length_bytes = match codes >> 4 {
            0b0110 => 1,
            0b0111 => 2,
            _ => 0,
        };
        let rate_bytes = match codes & 0b1111 {
            0b1100 => 1,
            0b1101 | 0b1110 => 2,
            _ => 0,
        };
        let header_bytes = NUMBER + number_bytes + length_bytes + rate_bytes + 1;
        (frame.len() > header_bytes + 2).then_some(Self {
            start: start as u32,
            end: bytes.len() as u32,
            number,
            number_bytes: number_bytes as u8,
            header_bytes: header_bytes as u8,
        })
    }

    /// Returns its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Returns the length in bytes that it has with another number.
    #[must_use]
    pub fn bytes_with(&self, number: u32) -> usize {
        self.bytes() - usize::from(self.number_bytes) + number_bytes(number)
    }

    /// Appends the frame, which is in `payload`, with another number.
    pub fn append_with(&self, number: u32, payload: &[u8], bytes: &mut Vec<u8>) {
        let frame = &payload[self.start as usize..self.end as usize];
        let (header, body) = frame.split_at(self.header_bytes.into());
        let (start, after_number) = (bytes.len(), NUMBER + usize::from(self.number_bytes));
        bytes.extend_from_slice(&header[..NUMBER]);
        push_number(number, bytes);
        bytes.extend_from_slice(&header[after_number..header.len() - 1]);
        bytes.push(HEADER_CRC.checksum(&bytes[start..]));
        bytes.extend_from_slice(&body[..body.len() - 2]);
        bytes.extend(FRAME_CRC.checksum(&bytes[start..]).to_be_bytes());
    }
}

/// Returns the number of the frame with the `index`-th block.
#[must_use]
pub fn number_of(index: u64) -> u32 {
    (index % NUMBERS) as u32
}

/// Returns how many numbers lie between two frames, of which `from` is the earlier one.
#[must_use]
pub fn distance(from: u32, to: u32) -> u32 {
    number_of(u64::from(to) + NUMBERS - u64::from(from))
}

/// Returns how many bytes a number takes.
fn number_bytes(number: u32) -> usize {
    match u32::BITS - number.leading_zeros() {
        ..=7 => 1,
        // Two bytes have 11 bits, and each further one has five more.
        bits => (bits as usize - 1).div_ceil(5),
    }
}

/// Appends a number in the way of UTF-8, which FLAC continues to six bytes.
fn push_number(number: u32, bytes: &mut Vec<u8>) {
    let length = number_bytes(number);
    if length == 1 {
        return bytes.push(number as u8);
    }
    let marker = !(0xFF_u8 >> length);
    bytes.push(marker | (number >> (6 * (length - 1))) as u8);
    bytes.extend((0..length - 1).rev().map(|index| 0x80 | (number >> (6 * index)) as u8 & 0x3F));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_utf_8() {
        for (number, length) in [
            (0, 1),
            (0x7F, 1),
            (0x80, 2),
            (0x7FF, 2),
            (0x800, 3),
            (0xFFFF, 3),
            (0x1_0000, 4),
            (0x1F_FFFF, 4),
            (0x20_0000, 5),
            (0x3FF_FFFF, 5),
            (0x400_0000, 6),
            (0x7FFF_FFFF, 6),
        ] {
            let mut bytes = Vec::new();
            push_number(number, &mut bytes);
            assert_eq!((bytes.len(), number_bytes(number)), (length, length), "{number:x}");
            if let Some(character) = char::from_u32(number) {
                assert_eq!(bytes, character.to_string().as_bytes(), "{number:x}");
            }
        }
    }

    #[test]
    fn distances_go_over_the_end_of_the_numbers() {
        assert_eq!(distance(5, 7), 2);
        assert_eq!(distance(number_of(NUMBERS - 1), 1), 2);
    }
}
