//! Random messages: none makes the parser panic, and one that is read is the one that would be written.

use aircheck_api::Metadata;
use aircheck_engine::Timestamp;
use aircheck_fuzz::edited;
use bolero::check;

use super::packets::{Packet, read_packets};
use super::{ClockAnswer, Coding, Head, HopFormat, SampleEncoding, read, read_samples, write, write_packets};
use crate::hop::account::Outcome;
use crate::hop::arrival::Arrival;
use crate::hop::numbers::NewestBlock;
use crate::hop::opus_blocks::OpusBlocks;
use crate::hop::title::Title;

fn head() -> Head {
    Head {
        coding: Some(Coding::Samples(SampleEncoding::S16)),
        origin: aircheck_engine::Origin::Source,
        format: HopFormat { rate_hz: 8000, channels: 1, block_frames: 8 },
        frames: 8,
        epoch: 1,
        serial: 2,
        sequence: 3,
        captured_nanos: 4,
        sent_nanos: 5,
    }
}

fn of_opus() -> Vec<u8> {
    let format = HopFormat { rate_hz: 48_000, channels: 1, block_frames: 480 };
    let head = Head { coding: Some(Coding::Opus { pre_skip: 120 }), format, frames: 480, ..head() };
    let packet = Packet { position: 960, frames: 480, bytes: &[30 << 3, 7] };
    write_packets(&head, [packet].into_iter())
}

/// Decodes a message, again and again: each block is whole, or its sound is lost.
fn decode(head: &Head, pre_skip: u16, packets: &[Packet<'_>]) {
    let mut blocks = OpusBlocks::new(head.format, pre_skip).expect("a format of Opus");
    for round in 0..3 {
        let arrivals = (0..head.blocks()).map(|n| Arrival {
            epoch: head.epoch,
            sequence: head.sequence + round * head.blocks() + n,
            captured_at: Timestamp::default(),
            origin: head.origin,
            lost_on_hop: round,
            outcome: Outcome::Taken,
            is_first: n == 0,
        });
        let whole = head.format.block_frames as usize * usize::from(head.format.channels);
        let ready = blocks.push(arrivals, packets);
        assert!(ready.iter().all(|(_, samples)| samples.as_ref().is_none_or(|samples| samples.len() == whole)));
    }
    blocks.finish();
}

#[test]
fn messages() {
    let (good, of_opus) = (write(&head(), &[0.5; 8]), of_opus());
    let metadata = Metadata { title: Some("a".to_owned()), artist: Some("b".to_owned()) };
    let title = Title { epoch: 1, sequence: 2, metadata }.to_bytes();
    check!().with_max_len(96).for_each(|bytes: &[u8]| {
        for message in [bytes.to_vec(), edited(bytes, &[&good, &title, &of_opus])] {
            if let Ok((head, body)) = read(&message) {
                let mut samples = Vec::new();
                let again = match head.coding {
                    Some(Coding::Opus { pre_skip }) => {
                        let packets = read_packets(body).expect("they were read");
                        decode(&head, pre_skip, &packets);
                        write_packets(&head, packets.into_iter())
                    }
                    Some(Coding::Samples(encoding)) => {
                        read_samples(encoding, body, &mut samples);
                        assert_eq!(samples.len(), head.frames as usize * usize::from(head.format.channels));
                        write(&head, &samples)
                    }
                    None => write(&head, &[]),
                };
                assert_eq!(read(&again).map(|(head, _)| head), Ok(head));
            }
            let _ = ClockAnswer::read(&message);
            if let Some(Ok(title)) = Title::read(&message) {
                assert_eq!(Title::read(&title.to_bytes()), Some(Ok(title)));
            }
            let _ = NewestBlock::read(&message, Timestamp::default());
        }
    });
}
