//! Packets of Opus in a message, byte for byte.
//!
//! Each of them, with little-endian numbers:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 7 | position of its first frame in what the encoder got, in frames at 48 kHz: block *n* begins at *n* times its length |
//! | 8 to 9 | frames that count of it: all that it decodes to; fewer only in the last packet of a stream |
//! | 10 to 11 | its length in bytes |
//! | 12 to the end | the packet as a decoder takes it (RFC 6716, section 3) |

/// The rate at which positions and frames are counted.
pub const OPUS_RATE_HZ: u32 = 48_000;
/// Bytes before each packet.
pub const PACKET_HEAD_BYTES: usize = 12;
/// The longest packet: 120 ms (RFC 6716, section 3.1).
pub const MAX_PACKET_FRAMES: usize = 5760;

/// The most sound of the packets in a message: that of its blocks, and what an encoder has held back before a hole.
const MAX_FRAMES: usize = 2 * OPUS_RATE_HZ as usize;

/// A packet of Opus, and where its sound belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'m> {
    /// Where its first frame lies in what the encoder got, in frames at 48 kHz.
    pub position: u64,
    /// Frames that count of it.
    pub frames: u16,
    /// The packet as the decoder takes it.
    pub bytes: &'m [u8],
}

impl Packet<'_> {
    /// Appends it to a message.
    pub(super) fn append_to(&self, message: &mut Vec<u8>) {
        message.extend(self.position.to_le_bytes());
        message.extend(self.frames.to_le_bytes());
        message.extend((self.bytes.len() as u16).to_le_bytes());
        message.extend(self.bytes);
    }
}

/// Reads the packets of a message. `None` unless each is one that a decoder takes, and lies after the one before, and for more than two seconds of
/// them.
#[must_use]
pub fn read_packets(mut bytes: &[u8]) -> Option<Vec<Packet<'_>>> {
    let (mut packets, mut end, mut total) = (Vec::new(), 0, 0);
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<PACKET_HEAD_BYTES>()?;
        let position = head[..8].try_into().map(u64::from_le_bytes).ok()?;
        let frames = u16::from_le_bytes([head[8], head[9]]);
        let (packet, rest) = rest.split_at_checked(u16::from_le_bytes([head[10], head[11]]).into())?;
        opus::packet::parse(packet).ok()?;
        let decoded = opus::packet::get_nb_samples(packet, OPUS_RATE_HZ).ok()?;
        total += decoded;
        let is_right = (1..=decoded).contains(&frames.into()) && decoded <= MAX_PACKET_FRAMES && position >= end;
        if !is_right || total > MAX_FRAMES {
            return None;
        }
        end = position.checked_add(decoded as u64)?;
        packets.push(Packet { position, frames, bytes: packet });
        bytes = rest;
    }
    Some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One frame of 20 ms of the codec CELT, and two of 10 ms.
    const ONE: &[u8] = &[31 << 3, 1, 2, 3];
    const TWO: &[u8] = &[30 << 3 | 1, 1, 2, 3, 4];

    fn bytes(packets: &[Packet<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.append_to(&mut bytes));
        bytes
    }

    #[test]
    fn packets_have_the_bytes_that_are_documented_and_come_out_as_they_went_in() {
        let packets = [
            Packet { position: 0x0102_0304, frames: 960, bytes: ONE },
            Packet { position: 0x0102_0304 + 960, frames: 17, bytes: TWO },
        ];
        let written = bytes(&packets);
        assert_eq!(written[..16], [4, 3, 2, 1, 0, 0, 0, 0, 0xc0, 3, 4, 0, 31 << 3, 1, 2, 3]);
        assert_eq!(read_packets(&written), Some(packets.to_vec()));
        assert_eq!(read_packets(&[]), Some(Vec::new()), "the codec holds all of it back");
        assert_eq!(read_packets(&written[..written.len() - 1]), None);
        assert_eq!(read_packets(&written[..20]), None);
    }

    #[test]
    fn what_a_decoder_does_not_take_is_no_packet() {
        let good = Packet { position: 960, frames: 960, bytes: ONE };
        assert!(read_packets(&bytes(&[good])).is_some());
        for wrong in [
            Packet { bytes: &[], ..good },
            // Two frames of the same length in three bytes.
            Packet { bytes: &[31 << 3 | 1, 1, 2, 3], ..good },
            // Three frames of 60 ms.
            Packet { bytes: &[3 << 3 | 3, 3, 1, 2, 3], ..good },
            Packet { frames: 0, ..good },
            Packet { frames: 961, ..good },
            Packet { position: u64::MAX, ..good },
        ] {
            assert_eq!(read_packets(&bytes(&[wrong])), None, "{wrong:?}");
        }
        assert_eq!(read_packets(&bytes(&[good, good])), None, "the same place");
        let long = |count: u64| (0..count).map(|n| Packet { position: 960 * n, ..good }).collect::<Vec<_>>();
        assert!(read_packets(&bytes(&long(100))).is_some() && read_packets(&bytes(&long(101))).is_none());
    }
}
