//! Tests of shared pages: as each listener gets them, they are what the `ogg` crate writes for it alone.

use super::*;
use crate::rendition::container::ogg::page::STEREO;
use crate::rendition::packet::Wire;
use std::io::Cursor;
use std::ops::Range;

use ogg::PacketReader;
use proptest::prelude::*;

const SERIAL: u32 = 0xC0FF_EE07;
const PRE_SKIP: u16 = 312;

/// Returns a packet of some bytes that differ with `seed`, with the first byte of stereo.
fn packet(position: u64, frames: u32, length: usize, seed: u64) -> OpusPacket {
    let mut bytes: Vec<u8> = (0..length as u64).map(|n| (n * 31 + seed * 17) as u8).collect();
    bytes[0] = CELT_20_MS | STEREO;
    OpusPacket { position, frames, is_last: false, bytes: bytes.into() }
}

/// A listener's whole file as the `ogg` crate writes it, of those of an encoder's packets that it gets. `is_ended` tells
/// whether the last one ends the stream.
fn written(packets: &[Vec<OpusPacket>], is_ended: bool) -> Vec<u8> {
    let mut writer = PacketWriter::new(Vec::new());
    let mut write = |bytes: Vec<u8>, info, granule| writer.write_packet(bytes, SERIAL, info, granule).unwrap();
    let mut tags = b"OpusTags".to_vec();
    push_text(&mut tags, VENDOR);
    tags.extend([0; 4]);
    write(opus_head(2, PRE_SKIP, 48_000).to_vec(), PacketWriteEndInfo::EndPage, 0);
    write(tags, PacketWriteEndInfo::EndPage, 0);
    let origin = packets.first().map_or(0, |first| first[0].position);
    for (index, group) in packets.iter().enumerate() {
        for (number, packet) in group.iter().enumerate() {
            let info = match group.get(number + 1) {
                None if is_ended && index + 1 == packets.len() => PacketWriteEndInfo::EndStream,
                Some(next) if next.position == packet.end() => PacketWriteEndInfo::NormalPacket,
                _ => PacketWriteEndInfo::EndPage,
            };
            write(packet.bytes.to_vec(), info, packet.end() - origin);
        }
    }
    if !is_ended {
        let granule = packets.last().map_or(PRE_SKIP.into(), |last| last[last.len() - 1].end() - origin);
        write(vec![CELT_20_MS | STEREO], PacketWriteEndInfo::EndStream, granule);
    }
    writer.into_inner()
}

/// A listener's whole file, of the encoder's pages.
fn renumbered(header: &[u8], packets: &[Packet], wire: Wire) -> Vec<u8> {
    let mut file = header.to_vec();
    let (mut numbering, mut weights) = (Numbering::new(), Weights::default());
    for packet in packets {
        let mut bytes = packet.bytes(wire).to_vec();
        for _ in 0..2 {
            numbering.renumber(packet, wire, &mut weights, &mut bytes);
        }
        numbering.advance(packet);
        let end = bytes.len() - if wire == Wire::Plain { 0 } else { 2 };
        file.extend(&bytes[packet.payload(wire).start..end]);
    }
    file.extend(numbering.end(header).unwrap_or_default());
    assert!(numbering.end(header).is_none(), "it ends once");
    file
}

/// Reads a file, and checks the checksum of each page.
fn read(file: &[u8]) -> Vec<ogg::Packet> {
    let mut reader = PacketReader::new(Cursor::new(file));
    std::iter::from_fn(|| reader.read_packet().unwrap()).collect()
}

#[test]
fn the_headers_have_the_layout_of_rfc_7845() {
    let header = OggPages::new(77, 2, 312, 44_100).header().clone();
    assert_eq!(&header, OggPages::new(77, 2, 312, 44_100).header());
    let packets = read(&header);
    assert_eq!(packets[0].data, b"OpusHead\x01\x02\x38\x01\x44\xAC\0\0\0\0\0");
    assert!(packets[0].first_in_stream() && packets[0].last_in_page());
    let tags = [b"OpusTags", &(VENDOR.len() as u32).to_le_bytes()[..], VENDOR.as_bytes(), &[0; 4]].concat();
    assert_eq!(packets[1].data, tags);
    assert!(packets[1].last_in_page());
    assert!(packets.iter().all(|packet| packet.absgp_page() == 0 && packet.stream_serial() == 77));
}

#[test]
fn time_starts_with_the_listener_and_jumps_with_the_packets() {
    let mut pages = OggPages::new(SERIAL, 2, PRE_SKIP, 48_000);
    // The listener comes after these.
    let _ = pages.pages(&[packet(0, 960, 50, 1)]);
    let jumping = pages.pages(&[packet(9600, 960, 9, 2), packet(10_560, 960, 9, 3), packet(19_200, 960, 9, 4)]);
    let last = OpusPacket { is_last: true, ..packet(20_160, 500, 9, 5) };
    let packets = [jumping, pages.pages(&[last])];
    let file = renumbered(pages.header(), &packets, Wire::Chunked);
    let read = read(&file);
    assert_eq!(read[2..].iter().map(ogg::Packet::absgp_page).collect::<Vec<_>>(), [1920, 1920, 10_560, 11_060]);
    assert!(read[5].last_in_stream());
    let numbers: Vec<u8> = file.windows(19).filter(|page| page.starts_with(b"OggS")).map(|page| page[18]).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4], "page numbers do not jump");
}

#[test]
fn a_stream_ends_where_it_is() {
    let mut pages = OggPages::new(SERIAL, 2, PRE_SKIP, 48_000);
    assert_eq!(renumbered(pages.header(), &[], Wire::Plain), written(&[], false));
    let packets = vec![vec![packet(960, 960, 9, 1)]];
    let page = pages.pages(&packets[0]);
    assert_eq!(renumbered(pages.header(), &[page], Wire::Plain), written(&packets, false));
    assert!(pages.last(&[]).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    /// Whichever packets a listener gets, of pages of any length with jumps in them, its file is its own.
    #[test]
    fn pages_are_numbered_as_if_written_for_the_listener(
        lengths in prop::collection::vec(prop::collection::vec((1_usize..1277, 0_u64..40, 120_u32..961), 1..70), 1..8),
        start in 0_u64..1 << 40,
        joins_at in 0_usize..8,
        lost in any::<u8>(),
        is_ended in any::<bool>(),
    ) {
        let mut position = start;
        let mut groups: Vec<Vec<OpusPacket>> = Vec::new();
        for group in &lengths {
            groups.push(group.iter().map(|&(length, jump, frames)| {
                // One of eight packets comes after a jump.
                position += if jump < 5 { jump * 120 } else { 0 };
                let packet = packet(position, frames, length, position);
                position = packet.end();
                packet
            }).collect());
        }
        let mut pages = OggPages::new(SERIAL, 2, PRE_SKIP, 48_000);
        let count = groups.len();
        let shared: Vec<Packet> = groups.iter().enumerate().map(|(index, group)| {
            if is_ended && index + 1 == count { pages.last(group).unwrap() } else { pages.pages(group) }
        }).collect();
        let heard: Range<usize> = joins_at.min(count - 1)..count;
        let gets = |index: &usize| index + 1 == count || lost >> index & 1 == 0;
        let expected: Vec<_> = heard.clone().filter(gets).map(|index| groups[index].clone()).collect();
        let got: Vec<_> = heard.filter(gets).map(|index| shared[index].clone()).collect();
        let expected = written(&expected, is_ended);
        for wire in [Wire::Plain, Wire::Chunked] {
            let file = renumbered(pages.header(), &got, wire);
            prop_assert!(file == expected, "differs from byte {:?} on", file.iter().zip(&expected).position(|(a, b)| a != b));
            prop_assert!(read(&file).last().unwrap().last_in_stream());
        }
    }
}
