//! Tests of packets made of several blocks.

use super::*;
use std::time::Duration;

use aircheck_api::Metadata;
use aircheck_engine::source::PcmEncoding;
use proptest::prelude::*;

use crate::rendition::codec::OpusBitrate;
use crate::rendition::packet::{RecordOverhead, Wire};
use crate::rendition::packet_log::PacketLog;
use crate::rendition::test_blocks::{fallback, numbered, sound};

const OPUS: Encoding = Encoding::Opus { bitrate: OpusBitrate::DEFAULT };
const S16: Encoding = Encoding::Pcm(PcmEncoding::S16Le);

fn encoded(encoder: &mut Encoder, sound: &Block, numbers: impl IntoIterator<Item = u64>) -> Vec<Item<Packet>> {
    let mut packets = Vec::new();
    for number in numbers {
        encoder.encode(&numbered(sound, number), &mut packets);
    }
    packets.extend(encoder.cut());
    packets
}

fn blocks_of(packets: &[Item<Packet>]) -> Vec<(u64, u64)> {
    packets.iter().map(|packet| (packet.stamp.first(), packet.stamp.sequence)).collect()
}

#[test]
fn a_group_is_one_packet_and_ends_before_a_missing_block() {
    let sound = sound(Duration::from_millis(10));
    let mut encoder = Encoder::new(S16, sound.format(), 4, 0).unwrap();
    let packets = encoded(&mut encoder, &sound, [2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 18]);
    assert_eq!(blocks_of(&packets), [(2, 3), (4, 7), (8, 9), (11, 11), (12, 15), (16, 16), (18, 18)]);
    let stamp = packets[1].stamp;
    assert_eq!(stamp.captured_at, numbered(&sound, 7).stamp.captured_at, "that of the last block");
    assert_eq!(stamp.dispatched_at, numbered(&sound, 4).stamp.dispatched_at, "that of the first block");
    let mut bytes = Vec::new();
    (0..4).for_each(|_| PcmEncoding::S16Le.encode(sound.samples(), &mut bytes));
    assert_eq!(packets[1].bytes(Wire::Plain), bytes);
    assert!(encoder.finish().is_none());
}

#[test]
fn a_packet_has_the_sound_of_one_title() {
    let sound = sound(Duration::from_millis(10));
    let log = Arc::<MetadataLog>::default();
    let title = |title: &str| Metadata { title: Some(title.to_owned()), artist: None };
    log.set(title("a"), 2);
    log.set(title("b"), 6);
    for encoding in [S16, OPUS, Encoding::Json] {
        let mut encoder = Encoder::new(encoding, sound.format(), 4, 0).unwrap().with_metadata(Arc::clone(&log));
        let packets = encoded(&mut encoder, &sound, 0..12);
        assert_eq!(blocks_of(&packets), [(0, 1), (2, 3), (4, 5), (6, 7), (8, 11)], "{encoding:?}");
        let numbers: Vec<_> = packets.iter().map(|packet| packet.metadata().map(|change| change.number)).collect();
        assert_eq!(numbers, [None, Some(1), Some(1), Some(2), Some(2)], "{encoding:?}");
    }
}

#[test]
fn a_packet_has_sound_of_one_origin() {
    let (source, fallback) = (sound(Duration::from_millis(10)), fallback(Duration::from_millis(10)));
    for encoding in [S16, OPUS, Encoding::Json] {
        let mut encoder = Encoder::new(encoding, source.format(), 8, 0).unwrap();
        let mut packets = Vec::new();
        for (sound, numbers) in [(&source, 0..4), (&fallback, 4..6), (&source, 6..8)] {
            numbers.for_each(|number| encoder.encode(&numbered(sound, number), &mut packets));
        }
        let cuts: Vec<_> = packets.iter().map(|it| (it.stamp.first(), it.stamp.sequence, it.origin())).collect();
        let expected = [(0, 3, Origin::Source), (4, 5, Origin::Fallback), (6, 7, Origin::Source)];
        assert_eq!(cuts, expected, "{encoding:?}");
    }
}

#[test]
fn blocks_of_which_a_codec_keeps_the_sound_wait_for_the_next_one() {
    let sound = sound(Duration::from_millis(1));
    let mut encoder = Encoder::new(OPUS, sound.format(), 1, 0).unwrap();
    let packets = encoded(&mut encoder, &sound, (0..10).chain(20..22));
    // A packet has 2.5 ms. Block 21 completes the one that starts at 20 ms with block 20 in it.
    assert_eq!(blocks_of(&packets), [(0, 2), (3, 4), (5, 7), (8, 9), (20, 20), (21, 21)]);
    let lengths: Vec<usize> = packets.iter().map(|packet| packet.bytes(Wire::Chunked).len()).collect();
    assert!(lengths[..5].iter().all(|length| *length > 0), "{lengths:?}");
    assert_eq!(lengths[5], 0, "an empty chunk would end the response");
    let tail = encoder.finish().unwrap();
    let end = |packet: &Packet| packet.ends().sealed(Wire::Plain, RecordOverhead::default());
    assert!(end(&tail) > end(&packets[5]));
    assert!(encoder.finish().is_none(), "it is finished already");
}

#[test]
fn groups_of_20_ms_have_packets_of_20_ms_that_end_with_them() {
    let sound = sound(Duration::from_millis(10));
    let mut encoder = Encoder::new(OPUS, sound.format(), 10, 0).unwrap();
    let packets = encoded(&mut encoder, &sound, 3..40);
    assert_eq!(blocks_of(&packets), [(3, 9), (10, 19), (20, 29), (30, 39)]);
    for packet in &packets {
        let page = packet.bytes(Wire::Plain);
        let granule = u64::from_le_bytes(page[6..14].try_into().unwrap());
        assert_eq!(granule, 480 * packet.stamp.next());
        // A packet ends with the first segment that is not full.
        let ends = page[27..27 + usize::from(page[26])].iter().filter(|length| **length < 255).count() as u64;
        assert_eq!(ends, packet.stamp.blocks().div_ceil(2), "Opus packets in the page");
    }
}

#[test]
fn a_message_has_the_stamp_of_the_block_that_completes_it() {
    let sound = sound(Duration::from_millis(1));
    let encoding = Encoding::OpusMessages { bitrate: OpusBitrate::DEFAULT };
    let mut encoder = Encoder::new(encoding, sound.format(), 1, 0).unwrap();
    let packets = encoded(&mut encoder, &sound, 0..5);
    assert_eq!(blocks_of(&packets), [(0, 2), (3, 4)]);
    let frame = packets[0].bytes(Wire::WebSocket);
    assert_eq!(frame[0], 0x82, "a whole binary message");
    let start = if frame[1] == 126 { 4 } else { 2 };
    let (header, payload) = aircheck_api::MessageHeader::split(&frame[start..]).unwrap();
    assert_eq!((header.payload, header.sequence), (Payload::Opus, 2));
    assert_eq!(header.captured_at_nanos, numbered(&sound, 2).stamp.captured_at.unix_nanos());
    assert_eq!(header.payload_bytes as usize, payload.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is missing, each block is in one packet, no missing one lies within a packet, and the packets' positions
    /// lead back to their numbers.
    #[test]
    fn packets_account_for_each_block(
        present in prop::collection::vec(prop::bool::weighted(0.9), 1..200),
        first in 0_u64..1000,
        group in 1_u64..20,
        (encoding, block_us) in prop::sample::select(vec![
            (S16, 1000), (OPUS, 1000), (OPUS, 2000), (OPUS, 10_000), (OPUS, 3000), (Encoding::Json, 1000),
            (Encoding::Flac { bits: 16 }, 1000), (Encoding::Message(Payload::F32), 1000),
        ]),
    ) {
        let sound = sound(Duration::from_micros(block_us));
        let mut encoder = Encoder::new(encoding, sound.format(), group, 0).unwrap();
        let numbers: Vec<u64> = (first..).zip(&present).filter(|(_, present)| **present).map(|(n, _)| n).collect();
        let mut packets = encoded(&mut encoder, &sound, numbers.iter().copied());
        let held: Vec<u64> = blocks_of(&packets).into_iter().flat_map(|(first, last)| first..=last).collect();
        prop_assert_eq!(held, numbers);
        prop_assert!(packets.iter().all(|packet| packet.stamp.blocks() <= encoder.max_blocks()));

        let log = PacketLog::new();
        let (none, tls) = (RecordOverhead::default(), RecordOverhead(22));
        let (mut framed, mut plain, mut sealed) = (0, 0, 0);
        for packet in &packets {
            framed += packet.bytes(Wire::Chunked).len() as u64;
            plain += packet.bytes(Wire::Plain).len() as u64;
            sealed += packet.sealed_len(Wire::Plain, tls);
            let ends = packet.ends();
            prop_assert_eq!((ends.sealed(Wire::Chunked, none), ends.sealed(Wire::Plain, none)), (framed, plain));
            prop_assert_eq!(ends.sealed(Wire::Plain, tls), sealed);
            log.push(packet.stamp, packet);
        }
        packets.retain(|packet| !packet.bytes(Wire::Plain).is_empty());
        for (wire, overhead) in [(Wire::Chunked, none), (Wire::Plain, none), (Wire::Chunked, tls), (Wire::Plain, tls)] {
            for pair in packets.windows(2) {
                let [end, next_end] = [0, 1].map(|index: usize| pair[index].ends().sealed(wire, overhead));
                prop_assert!(log.next_at(end, wire, overhead) >= Some(pair[0].stamp.next()));
                prop_assert!(log.next_at(end, wire, overhead) <= Some(pair[1].stamp.first()));
                prop_assert_eq!(log.next_at(next_end - 1, wire, overhead), log.next_at(end, wire, overhead));
            }
        }
    }
}
