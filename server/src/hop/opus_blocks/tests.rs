//! Tests of blocks of Opus: each sample in its place, and each block whole or counted.

use std::time::Duration;

use aircheck_engine::{Format, Origin, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::hop::account::Outcome;
use crate::rendition::codec::{OpusBitrate, OpusEncoder, OpusPacket};

/// A message as a publisher makes it.
struct Message {
    first: u64,
    blocks: u64,
    packets: Vec<OpusPacket>,
}

/// An encoder's messages, of the blocks that are there, and its delay.
struct Sent {
    format: Format,
    messages: Vec<Message>,
    tail: Vec<OpusPacket>,
    pre_skip: u16,
}

/// Returns the sound of an instrument at a time in seconds: a chord whose loudness and pitch change, so that no shift fits as well as none.
fn chord(t: f64) -> f32 {
    let tone = |hz: f64, depth: f64| (std::f64::consts::TAU * hz * t + depth * (5.0 * t).sin()).sin();
    ((0.2 * tone(331.0, 40.0) + 0.15 * tone(1277.0, 90.0)) * (1.2 + (11.0 * t).sin()) / 2.0) as f32
}

fn block_of(format: Format, sequence: u64, frames: usize) -> Vec<f32> {
    let from = format.position(sequence);
    let channels = usize::from(format.channels());
    let sample = |frame: u64| chord(frame as f64 / f64::from(format.rate_hz()));
    (from..).take(frames).flat_map(|frame| vec![sample(frame); channels]).collect()
}

fn send(format: Format, numbers: impl IntoIterator<Item = u64>, bits_per_second: u32) -> Sent {
    send_at_levels(format, numbers, bits_per_second, |_| 1.0)
}

/// Sends blocks at a level of their own.
fn send_at_levels(
    format: Format,
    numbers: impl IntoIterator<Item = u64>,
    bits_per_second: u32,
    level: impl Fn(u64) -> f32,
) -> Sent {
    let group = format.blocks_in(Duration::from_millis(20));
    let packet_frames = OpusEncoder::packet_frames_for(format, group);
    let mut encoder = OpusEncoder::new(format, OpusBitrate::nearest(bits_per_second), packet_frames).unwrap();
    let mut messages = Vec::<Message>::new();
    for sequence in numbers {
        let mut samples = block_of(format, sequence, format.block_frames() as usize);
        samples.iter_mut().for_each(|sample| *sample *= level(sequence));
        match messages.last_mut() {
            Some(last) if last.first + last.blocks == sequence && !sequence.is_multiple_of(group) => {
                last.blocks += 1;
                encoder.encode(sequence, &samples, &mut last.packets).unwrap();
            }
            _ => {
                let mut packets = Vec::new();
                encoder.encode(sequence, &samples, &mut packets).unwrap();
                messages.push(Message { first: sequence, blocks: 1, packets });
            }
        }
    }
    let mut tail = Vec::new();
    encoder.finish(&mut tail).unwrap();
    Sent { format, messages, tail, pre_skip: encoder.pre_skip() }
}

fn packets(packets: &[OpusPacket]) -> Vec<Packet<'_>> {
    packets.iter().map(|it| Packet { position: it.position, frames: it.frames as u16, bytes: &it.bytes }).collect()
}

impl Sent {
    /// Returns the format of the blocks that come out: as many of them, at 48 kHz.
    fn hop_format(&self) -> HopFormat {
        let block_frames = self.format.block_frames() * 48_000 / self.format.rate_hz();
        HopFormat { rate_hz: 48_000, channels: self.format.channels(), block_frames }
    }

    /// Takes the messages for which `comes`, and returns what becomes of each block.
    fn take(&self, comes: impl Fn(usize) -> bool) -> Vec<Decoded> {
        let (mut blocks, mut all, lost) = self.take_without_end(comes);
        if lost == 0 {
            all.extend(blocks.push(std::iter::empty(), &packets(&self.tail)));
            all.extend(blocks.finish());
        }
        all
    }

    /// Returns also the decoder, and how many blocks were lost at the end.
    fn take_without_end(&self, comes: impl Fn(usize) -> bool) -> (OpusBlocks, Vec<Decoded>, u64) {
        let mut blocks = OpusBlocks::new(self.hop_format(), self.pre_skip).unwrap();
        let (mut lost, mut all) = (0, Vec::new());
        for (index, message) in self.messages.iter().enumerate() {
            if !comes(index) {
                lost += message.blocks;
                continue;
            }
            let lost_on_hop = std::mem::take(&mut lost);
            let arrival = |n: u64| Arrival {
                epoch: 1,
                sequence: message.first + n,
                captured_at: Timestamp::default(),
                origin: Origin::Source,
                lost_on_hop: if n == 0 { lost_on_hop } else { 0 },
                outcome: Outcome::Taken,
                is_first: n == 0,
            };
            all.extend(blocks.push((0..message.blocks).map(arrival), &packets(&message.packets)));
        }
        (blocks, all, lost)
    }
}

/// Returns by how many frames the sound comes late, from -40 to 40, and the ratio of the signal to what differs from it there, in dB.
fn place(format: HopFormat, blocks: &[Decoded]) -> (i64, f64) {
    let channels = usize::from(format.channels);
    let start = blocks[0].0.sequence * u64::from(format.block_frames);
    let end = (blocks[blocks.len() - 1].0.sequence + 1) * u64::from(format.block_frames);
    let original: Vec<f32> = (start - 40..end + 40).map(|frame| chord(frame as f64 / 48_000.0)).collect();
    let ratio_db = |late: i64| {
        let (mut signal, mut noise) = (0.0, 0.0);
        for (block, samples) in blocks {
            let from = block.sequence * u64::from(format.block_frames) - start + 40;
            for (frame, samples) in samples.iter().flat_map(|it| it.chunks(channels)).enumerate() {
                let original = original[(from as i64 + frame as i64 - late) as usize];
                signal += f64::from(original).powi(2);
                noise += f64::from(samples[0] - original).powi(2);
            }
        }
        10.0 * (signal / noise).log10()
    };
    (-40..=40).map(|late| (late, ratio_db(late))).max_by(|(_, one), (_, other)| one.total_cmp(other)).unwrap()
}

fn format(rate_hz: u32, channels: u16, micros: u64) -> Format {
    Format::new(rate_hz, channels, Duration::from_micros(micros)).unwrap()
}

#[test]
fn each_sample_is_in_its_place_at_each_rate_block_length_and_bitrate() {
    for (format, bits_per_second) in [
        (format(48_000, 2, 10_000), 96_000),
        (format(48_000, 1, 10_000), 48_000),
        (format(48_000, 1, 1_000), 96_000),
        (format(48_000, 2, 13_000), 128_000),
        (format(48_000, 1, 100_000), 64_000),
        (format(44_100, 2, 10_000), 96_000),
        (format(16_000, 1, 5_000), 64_000),
        (format(96_000, 1, 10_000), 96_000),
    ] {
        let sent = send(format, 70..70 + format.blocks_in(Duration::from_secs(2)), bits_per_second);
        let blocks = sent.take(|_| true);
        let numbers: Vec<u64> = blocks.iter().map(|(block, _)| block.sequence).collect();
        assert!(numbers.iter().copied().eq(70..70 + format.blocks_in(Duration::from_secs(2))), "{format:?}");
        let whole = sent.hop_format().block_frames as usize * usize::from(format.channels());
        assert!(blocks.iter().all(|(_, samples)| samples.as_ref().map(Vec::len) == Some(whole)), "{format:?}");
        let (late, signal_to_noise_db) = place(sent.hop_format(), &blocks);
        assert!(late == 0 && signal_to_noise_db > 12.0, "{format:?}: {late} frames late, {signal_to_noise_db} dB");
    }
}

#[test]
fn sound_after_a_hole_of_the_publisher_is_in_its_place() {
    let format = format(48_000, 1, 10_000);
    let numbers = (10..100).chain(101..150).chain(157..200).chain(350..400);
    let sent = send(format, numbers.clone(), 96_000);
    let blocks = sent.take(|_| true);
    assert!(blocks.iter().map(|(block, _)| block.sequence).eq(numbers), "each block is whole");
    assert!(blocks.iter().all(|(block, samples)| block.lost_on_hop == 0 && samples.is_some()));
    let (late, signal_to_noise_db) = place(sent.hop_format(), &blocks);
    assert!(late == 0 && signal_to_noise_db > 12.0, "{late} frames late, {signal_to_noise_db} dB");
}

#[test]
fn a_lost_message_costs_its_blocks_and_the_one_before_and_what_follows_soon_is_as_if_none_were_lost() {
    let format = format(48_000, 1, 10_000);
    let sent = send(format, 0..200, 96_000);
    let unbroken = sent.take(|_| true);
    // Blocks 100 to 103, of which 99 has the last frames in the first.
    let blocks = sent.take(|index| index != 50 && index != 51);
    let heard: Vec<_> = blocks.iter().filter(|(_, samples)| samples.is_some()).collect();
    assert!(heard.iter().map(|(block, _)| block.sequence).eq((0..99).chain(104..200)));
    let lost: Vec<u64> = heard.iter().map(|(block, _)| block.lost_on_hop).filter(|lost| *lost > 0).collect();
    assert_eq!((lost, heard[99].0.lost_on_hop), (vec![5], 5));
    assert_eq!(
        blocks.iter().filter(|(_, samples)| samples.is_none()).map(|(block, _)| block.sequence).collect::<Vec<_>>(),
        [99]
    );
    let differs_db = |block: &Arrival, samples: &[f32]| {
        let expected = unbroken[block.sequence as usize].1.as_ref().unwrap();
        let power =
            |samples: &mut dyn Iterator<Item = f32>| samples.map(|sample| f64::from(sample).powi(2)).sum::<f64>();
        let noise = power(&mut samples.iter().zip(expected).map(|(one, other)| one - other));
        10.0 * (noise / power(&mut expected.iter().copied())).log10()
    };
    for (block, samples) in heard {
        let differs_db = differs_db(block, samples.as_ref().unwrap());
        let most_db = match block.sequence {
            ..99 => f64::NEG_INFINITY,
            // The decoder finds back to the levels of the encoder: -1.9 dB at first, -24 after 80 ms, -72 after 260 ms.
            104..112 => -1.0,
            112..130 => -20.0,
            130.. => -60.0,
            99..104 => unreachable!(),
        };
        assert!(differs_db <= most_db, "block {}: {differs_db} dB", block.sequence);
    }
}

#[test]
fn a_decoder_is_told_of_a_hole_so_sound_that_became_quiet_in_it_is_less_loud_after_it() {
    let format = format(48_000, 1, 10_000);
    let sent = send_at_levels(format, 0..130, 96_000, |sequence| if sequence < 102 { 1.0 } else { 0.001 });
    let broken = sent.take(|index| !(50..55).contains(&index));
    let after = broken.iter().filter(|(block, _)| (110..115).contains(&block.sequence));
    let peak = after.flat_map(|(_, samples)| samples.iter().flatten()).fold(0.0_f32, |peak, it| peak.max(it.abs()));
    // 0.35 before the hole, and 0.0002 behind it where none is lost. A decoder that is not told begins at 0.017.
    assert!(peak < 0.012, "{peak}");
}

#[test]
fn the_last_block_is_as_long_as_it_was() {
    let format = format(48_000, 2, 10_000);
    let mut sent = send(format, 0..0, 96_000);
    let mut encoder = OpusEncoder::new(format, OpusBitrate::DEFAULT, 960).unwrap();
    for sequence in 0..10 {
        let mut packets = Vec::new();
        let frames = if sequence == 9 { 100 } else { 480 };
        encoder.encode(sequence, &block_of(format, sequence, frames), &mut packets).unwrap();
        sent.messages.push(Message { first: sequence, blocks: 1, packets });
    }
    encoder.finish(&mut sent.tail).unwrap();
    let lengths: Vec<usize> =
        sent.take(|_| true).iter().map(|(_, samples)| samples.as_ref().unwrap().len() / 2).collect();
    assert_eq!(lengths, [480, 480, 480, 480, 480, 480, 480, 480, 480, 100]);
}

#[test]
fn blocks_without_sound_and_sound_without_blocks_are_not_kept_for_ever() {
    let format = HopFormat { rate_hz: 48_000, channels: 1, block_frames: 480 };
    let mut blocks = OpusBlocks::new(format, 120).unwrap();
    let arrival = |sequence| Arrival {
        epoch: 1,
        sequence,
        captured_at: Timestamp::default(),
        origin: Origin::Source,
        lost_on_hop: 0,
        outcome: Outcome::Taken,
        is_first: true,
    };
    let given_up: usize = (0..1000).map(|n| blocks.push(std::iter::once(arrival(n)), &[]).len()).sum();
    assert_eq!((given_up, blocks.awaited.len()), (900, 100));
    for n in 0..1000 {
        let packet = Packet { position: (1 << 40) + 960 * n, frames: 960, bytes: &[31 << 3, 7] };
        blocks.push(std::iter::empty(), &[packet]);
    }
    assert!(blocks.sound.len() <= 49_920 && blocks.awaited.is_empty(), "{} samples", blocks.sound.len());
}

#[test]
fn each_message_is_told_of_once_also_those_that_wait_at_the_end() {
    for micros in [5000, 10_000, 20_000, 40_000] {
        let sent = send(format(48_000, 1, micros), 0..40, 64_000);
        let firsts = |decoded: &[Decoded]| decoded.iter().filter(|(arrival, _)| arrival.is_first).count();
        let (decoder, ready, _) = sent.take_without_end(|index| index != 3);
        let (waiting, lost) = decoder.give_up();
        assert_eq!(firsts(&ready) + firsts(&waiting), sent.messages.len() - 1, "blocks of {micros} µs");
        assert_eq!(lost, waiting.len() as u64, "what is lost with it is lost before the next one");
        let (mut decoder, ready, _) = sent.take_without_end(|index| index != 3);
        // Sound that does not belong to the block.
        decoder.start = u64::MAX / 2;
        let last = decoder.finish();
        assert!(last.iter().all(|(_, samples)| samples.is_none()), "{last:?}");
        assert_eq!(firsts(&ready) + firsts(&last), sent.messages.len() - 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is lost, each block is heard, or counted before the next one that is.
    #[test]
    fn each_block_is_heard_or_counted(
        comes in prop::collection::vec(prop::bool::weighted(0.8), 60),
        micros in prop::sample::select(vec![1000_u64, 2500, 5000, 10_000, 13_000, 40_000]),
    ) {
        let format = format(48_000, 1, micros);
        let sent = send(format, 5..5 + 60 * format.blocks_in(Duration::from_millis(20)), 64_000);
        let mut next = None;
        for (block, samples) in sent.take(|index| comes.get(index).copied().unwrap_or(true)) {
            if samples.is_some() {
                // Before the first message that comes, no other one is known.
                let expected = next.map(|next: u64| next + block.lost_on_hop);
                prop_assert!(expected.is_none_or(|expected| expected == block.sequence), "{block:?} after {next:?}");
                next = Some(block.sequence + 1);
            }
        }
        if comes.get(sent.messages.len() - 1).is_none_or(|comes| *comes) {
            prop_assert_eq!(next, sent.messages.last().map(|last| last.first + last.blocks));
        }
    }
}
