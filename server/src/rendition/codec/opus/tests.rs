//! Tests of Opus packets: their length, their grid, and formats that are refused.

use super::*;
use std::time::Duration;

use proptest::prelude::*;

fn format(rate_hz: u32, channels: u16, block: Duration) -> Format {
    Format::new(rate_hz, channels, block).unwrap()
}

/// Makes an encoder for listeners that get each block at once.
fn encoder(format: Format, bitrate: OpusBitrate) -> Result<OpusEncoder, CodecError> {
    OpusEncoder::new(format, bitrate, OpusEncoder::packet_frames_for(format, 1))
}

#[test]
fn packets_of_a_group_last_20_ms_if_it_is_so_long() {
    for (rate_hz, block_us, group, frames) in [
        (48_000, 10_000, 2, 960),
        (48_000, 10_000, 50, 960),
        (48_000, 2_500, 7, 120),
        (48_000, 2_500, 8, 960),
        (44_100, 10_000, 2, 960),
        (48_000, 3_000, 7, 960),
        (48_000, 3_000, 6, 120),
    ] {
        let format = format(rate_hz, 2, Duration::from_micros(block_us));
        assert_eq!(OpusEncoder::packet_frames_for(format, group), frames, "{group} blocks of {block_us} us");
    }
}

#[test]
fn packets_are_the_longest_that_need_no_second_block() {
    for (rate_hz, block_ms, frames) in [
        (48_000, 1, 120),
        (48_000, 3, 120),
        (48_000, 5, 240),
        (48_000, 9, 240),
        (48_000, 10, 480),
        (44_100, 10, 480),
        (22_050, 10, 480),
        (11_025, 5, 240),
        (44_100, 20, 960),
        (48_000, 100, 960),
    ] {
        assert_eq!(
            OpusEncoder::packet_frames_for(format(rate_hz, 2, Duration::from_millis(block_ms)), 1),
            frames,
            "{block_ms} ms"
        );
    }
}

#[test]
fn a_block_as_long_as_a_packet_becomes_one_packet_at_once() {
    for rate_hz in [48_000, 44_100, 96_000, 32_000, 16_000, 8_000] {
        let format = format(rate_hz, 2, Duration::from_millis(10));
        let mut encoder = encoder(format, OpusBitrate::default()).unwrap();
        for sequence in 5..50 {
            let mut packets = Vec::new();
            encoder.encode(sequence, &vec![0.1; format.block_samples()], &mut packets).unwrap();
            let [packet] = &packets[..] else { panic!("{rate_hz} Hz: {} packets", packets.len()) };
            assert_eq!((packet.position, packet.frames), (480 * sequence, 480), "{rate_hz} Hz");
        }
    }
}

#[test]
fn a_refusal_says_what_would_work() {
    let error = |rate_hz, channels| {
        let format = format(rate_hz, channels, Duration::from_millis(10));
        encoder(format, OpusBitrate::default()).unwrap_err().to_string()
    };
    assert!(error(48_000, 6).contains("the source has 6 (choose FLAC"));
    assert!(error(99, 2).contains("at least 100 Hz"));
}

#[test]
fn sound_is_heard_at_the_lowest_and_highest_bitrate_and_each_packet_length() {
    for (block_us, bitrate_bps) in [(2500, 6_000), (5000, 6_000), (20_000, 6_000), (20_000, 510_000), (2500, 510_000)] {
        let format = format(48_000, 2, Duration::from_micros(block_us));
        let mut encoder = encoder(format, OpusBitrate::nearest(bitrate_bps)).unwrap();
        let mut decoder = opus::Decoder::new(RATE_HZ, Channels::Stereo).unwrap();
        let (mut packets, mut heard, mut energy) = (Vec::new(), vec![0.0; format.block_samples()], 0.0);
        for sequence in 0..100 {
            let angle = |index| (sequence as usize * format.block_samples() + index) as f32 / 2.0 * 0.05;
            let block: Vec<f32> = (0..format.block_samples()).map(|index| angle(index).sin() * 0.5).collect();
            encoder.encode(sequence, &block, &mut packets).unwrap();
        }
        for packet in &packets {
            decoder.decode_float(&packet.bytes, &mut heard, false).unwrap();
            energy += heard.iter().map(|sample| sample * sample).sum::<f32>() / heard.len() as f32 / 100.0;
        }
        assert!((0.2..0.6).contains(&energy.sqrt()), "{block_us} us, {bitrate_bps} bit/s: {}", energy.sqrt());
    }
}

#[test]
fn samples_beyond_full_scale_are_clipped_and_nan_is_silence() {
    let packets = |odd: [f32; 6]| {
        let mut encoder = encoder(format(44_100, 1, Duration::from_millis(20)), OpusBitrate::DEFAULT).unwrap();
        let mut packets = Vec::new();
        for sequence in 0..20 {
            let mut block: Vec<f32> = (0..882).map(|index| (index as f32 * 0.05).sin() * 0.5).collect();
            block[100..106].copy_from_slice(&odd);
            encoder.encode(sequence, &block, &mut packets).unwrap();
        }
        packets
    };
    let tamed = packets([0.0, -1.0, 1.0, 1.0, -1.0, 0.5]);
    assert!(packets([f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 1e9, -1.1, 0.5]) == tamed);
}

/// Decodes packets, and puts the sound of each at its position.
fn decode_in_place(packets: &[OpusPacket], pre_skip: u16, frames: usize) -> Vec<f32> {
    let mut decoder = opus::Decoder::new(RATE_HZ, Channels::Mono).unwrap();
    let (mut sound, mut decoded) = (vec![0.0; frames], vec![0.0; 960]);
    for packet in packets {
        let length = decoder.decode_float(&packet.bytes, &mut decoded, false).unwrap();
        for (index, sample) in decoded[..length].iter().enumerate() {
            let position = (packet.position as usize + index).wrapping_sub(pre_skip.into());
            if let Some(place) = sound.get_mut(position) {
                *place = *sample;
            }
        }
    }
    sound
}

#[test]
fn sound_is_at_its_position_wherever_blocks_start() {
    for rate_hz in [48_000, 44_100] {
        // One of three blocks starts where a packet does.
        let format = format(rate_hz, 1, Duration::from_millis(13));
        let mut encoder = encoder(format, OpusBitrate::default()).unwrap();
        let mut packets = Vec::new();
        let clicks = [7, 8, 12, 13, 20, 26, 29, 31];
        for sequence in clicks {
            let mut block = vec![0.0; format.block_samples()];
            block[300..310].fill(0.8);
            encoder.encode(sequence, &block, &mut packets).unwrap();
        }
        encoder.finish(&mut packets).unwrap();
        let sound = decode_in_place(&packets, encoder.pre_skip(), 48_000);
        for sequence in clicks {
            let due = (format.position(sequence) + 305) as f64 * 48_000.0 / f64::from(rate_hz);
            let around = due as usize - 200..due as usize + 200;
            let loudest = around.max_by(|a, b| sound[*a].abs().total_cmp(&sound[*b].abs())).unwrap();
            assert!((loudest as f64 - due).abs() < 10.0, "{rate_hz} Hz: due at {due}, heard at {loudest}");
            assert!(sound[loudest] > 0.3, "{rate_hz} Hz: {} at {due}", sound[loudest]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// For blocks of any length with a hole and a short end, packets lie on their grid, leave out only the hole, and
    /// last as long as the source.
    #[test]
    fn positions_match_the_source(
        block_ms in 1_u64..=100,
        rate_hz in prop::sample::select(vec![48_000_u32, 44_100, 16_000, 96_000, 11_025, 44_101]),
        first in 0_u64..1_000_000,
        before in 1_u64..12,
        missing in 0_u64..12,
        after in 1_u64..12,
        short in 0.0..1.0_f64,
    ) {
        let format = format(rate_hz, 1, Duration::from_millis(block_ms));
        let mut encoder = encoder(format, OpusBitrate::nearest(64_000)).unwrap();
        let (packet, pre_skip) = (u64::from(encoder.packet_frames()), u64::from(encoder.pre_skip()));
        let at_48_khz = |frames: u64| (frames as f64 * 48_000.0 / f64::from(rate_hz)).round() as u64;
        let block = vec![0.1; format.block_samples()];
        let (hole, end) = (first + before, first + before + missing + after);
        let mut packets = Vec::new();
        for sequence in (first..hole).chain(hole + missing..end) {
            encoder.encode(sequence, &block, &mut packets).unwrap();
        }
        let frames = (short * f64::from(format.block_frames())) as usize;
        if frames > 0 {
            encoder.encode(end, &block[..frames], &mut packets).unwrap();
        }
        encoder.finish(&mut packets).unwrap();

        let (start, last) = (at_48_khz(format.position(first)), packets.last().unwrap());
        prop_assert!(last.is_last && last.frames > 0);
        prop_assert_eq!(last.end(), at_48_khz(format.position(end) + frames as u64) + pre_skip);
        prop_assert!(packets[0].position <= start && start < packets[0].position + packet);
        prop_assert!(packets.iter().all(|p| p.position % packet == 0 && (p.is_last || u64::from(p.frames) == packet)));
        let jumps: Vec<_> = packets.windows(2).filter(|pair| pair[1].position != pair[0].end()).collect();
        prop_assert!(jumps.len() <= 1);
        for jump in jumps {
            // All sound from before the hole is in packets before it, and all sound from after it in packets after it.
            prop_assert!(jump[0].end() >= at_48_khz(format.position(hole)) + pre_skip);
            prop_assert!(jump[1].position <= at_48_khz(format.position(hole + missing)));
            prop_assert!(jump[0].end() < jump[1].position);
        }
        prop_assert!(packets.iter().all(|p| opus::packet::get_nb_samples(&p.bytes, RATE_HZ).unwrap() as u64 == packet));
        let before = packets.len();
        encoder.finish(&mut packets).unwrap();
        prop_assert_eq!(packets.len(), before, "it is finished already");
    }
}
