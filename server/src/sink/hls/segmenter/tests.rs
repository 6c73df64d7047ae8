//! Segments from packets of real encoders, taken apart again.

use aircheck_engine::{Block, Format, Stamp};
use mp4_atom::{Decode as _, Moof};

use super::*;
use crate::rendition::encoder::Encoder;
use crate::sink::hls::variant::Variant;

/// When block 0 was captured.
const EPOCH: Timestamp = Timestamp::from_nanos(1_800_000_000_000_000_000);

fn stereo(block: Duration) -> Format {
    Format::new(48_000, 2, block).unwrap()
}

/// A block of a tone at half of full scale.
fn block(format: Format, sequence: u64) -> Item<Block> {
    let first = format.position(sequence);
    let frames = first..first + u64::from(format.block_frames());
    let tone = |frame: u64| 0.5 * (std::f32::consts::TAU * (frame % 48_000) as f32 * 440.0 / 48_000.0).sin();
    let samples: Vec<_> = frames.flat_map(|frame| [tone(frame); 2]).collect();
    let captured_at = format.time_of(EPOCH, first);
    let stamp = Stamp { sequence, captured_at, dispatched_at: captured_at, ..Stamp::default() };
    Item { stamp, value: Block::of(format, &samples) }
}

fn recipe(variant: Variant, format: Format) -> Recipe {
    Recipe::new(variant, format, 16, "1700000000001".parse().unwrap()).unwrap()
}

/// Makes segments from number `from` on of the blocks with these numbers.
fn made(variant: Variant, format: Format, from: u64, blocks: impl IntoIterator<Item = u64>) -> Vec<Segment> {
    let recipe = recipe(variant, format);
    let mut encoder = Encoder::new(recipe.encoding, format, recipe.group, 1).unwrap();
    let mut segmenter = Segmenter::new(recipe, from).unwrap();
    let (mut packets, mut made) = (Vec::new(), Vec::new());
    for sequence in blocks {
        encoder.encode(&block(format, sequence), &mut packets);
        packets.drain(..).for_each(|packet| segmenter.push(&packet, &mut made));
    }
    made
}

fn numbers(made: &[Segment]) -> Vec<u64> {
    made.iter().map(|segment| segment.number).collect()
}

/// Returns where a segment begins in the stream, and its samples with their lengths.
fn samples(segment: &Segment) -> (u64, Vec<(u32, &[u8])>) {
    let mut rest: &[u8] = &segment.bytes;
    let traf = Moof::decode(&mut rest).unwrap().traf.remove(0);
    assert!(traf.tfhd.default_base_is_moof && rest[4..8] == *b"mdat");
    let moof = segment.bytes.len() - rest.len();
    assert_eq!(traf.trun[0].data_offset, Some(moof as i32 + 8), "the samples are behind the header of their box");
    let mut bytes = &rest[8..];
    let each = traf.trun[0].samples.iter().map(|entry| {
        let (sample, after) = bytes.split_at(entry.size.unwrap() as usize);
        bytes = after;
        (entry.duration.or(traf.tfhd.default_sample_duration).unwrap(), sample)
    });
    let each = each.collect();
    assert!(bytes.is_empty(), "{} bytes are of no sample", bytes.len());
    (traf.tfdt.unwrap().base_media_decode_time - 1_700_000_000_001 * 48, each)
}

/// Decodes all samples of Opus, and returns whether each second of them sounds, hundredth by hundredth.
fn loud_hundredths(made: &[Segment]) -> Vec<bool> {
    let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
    let mut sound = Vec::new();
    for (_, sample) in made.iter().flat_map(|segment| samples(segment).1) {
        let mut frames = [0.0; 2 * 960];
        let count = decoder.decode_float(sample, &mut frames, false).unwrap();
        sound.extend_from_slice(&frames[..2 * count]);
    }
    sound.chunks(960).map(|hundredth| hundredth.iter().any(|sample| sample.abs() > 0.1)).collect()
}

#[test]
fn a_segment_has_the_samples_that_begin_in_its_two_seconds() {
    for (variant, block_ms, sample_frames) in
        [(Variant::Flac, 10, 480), (Variant::Flac, 7, 336), (Variant::Opus, 10, 960), (Variant::Opus, 7, 960)]
    {
        let format = stereo(Duration::from_millis(block_ms));
        // It begins in the middle of a segment.
        let first = format.blocks_in(Duration::from_secs(3));
        let made = made(variant, format, 0, first..first + 7200 / block_ms);
        assert_eq!(numbers(&made), [2, 3, 4], "{variant:?} of {block_ms} ms: only whole ones");
        let mut expected = (4 * 48_000_u64).next_multiple_of(sample_frames.into());
        for segment in &made {
            let (position, samples) = samples(segment);
            assert_eq!(position, expected, "{variant:?} of {block_ms} ms");
            assert_eq!(position / 96_000, segment.number);
            assert!(samples.iter().all(|(frames, _)| *frames == sample_frames), "{variant:?} of {block_ms} ms");
            expected += samples.len() as u64 * u64::from(sample_frames);
            let length = Duration::from_secs_f64(samples.len() as f64 * f64::from(sample_frames) / 48_000.0);
            assert!(segment.span.abs_diff(length) < Duration::from_nanos(2), "{:?}", segment.span);
        }
    }
}

#[test]
fn a_time_is_that_of_the_sound_and_not_of_the_encoder_s_delay() {
    let format = stereo(Duration::from_millis(10));
    for (variant, delay_us) in [(Variant::Flac, 0), (Variant::Opus, 2500)] {
        for segment in made(variant, format, 0, 150..900) {
            let begin = (EPOCH + SEGMENT_SPAN * segment.number as u32).unix_nanos();
            assert_eq!(begin - segment.captured_at, delay_us * 1000, "{variant:?}");
        }
    }
}

#[test]
fn a_hole_is_silence_of_the_same_length() {
    let format = stereo(Duration::from_millis(10));
    // Half a second is missing, within a segment and across two.
    for hole in [450..500, 580..630] {
        let blocks = (200..1000).filter(|sequence| !hole.contains(sequence));
        let flac = made(Variant::Flac, format, 0, blocks.clone());
        assert_eq!(numbers(&flac), [1, 2, 3, 4]);
        let mut sequence = 200;
        for segment in &flac {
            let (position, samples) = samples(segment);
            assert_eq!((position, samples.len()), (sequence * 480, 200));
            for (_, sample) in samples {
                // A frame of silence is the number and a constant.
                assert_eq!(sample.len() < 20, hole.contains(&sequence), "block {sequence}: {} bytes", sample.len());
                sequence += 1;
            }
        }
        let opus = made(Variant::Opus, format, 0, blocks);
        assert_eq!(numbers(&opus), [1, 2, 3, 4]);
        for segment in &opus {
            assert_eq!(samples(segment).1.len(), 100);
        }
        let loud = loud_hundredths(&opus);
        assert_eq!(loud.len(), 800);
        for (sequence, is_loud) in (200_u64..).zip(loud) {
            // The encoder's delay, and the fade of the decoder, at either end.
            if [hole.start, hole.end].iter().all(|edge| sequence.abs_diff(*edge) > 3) {
                assert_eq!(is_loud, !hole.contains(&sequence), "hundredth {sequence}");
            }
        }
    }
}

#[test]
fn a_hole_that_is_longer_than_the_playlist_begins_it_anew() {
    let format = stereo(Duration::from_millis(10));
    for variant in Variant::ALL {
        let made = made(variant, format, 0, (0..500).chain(5_000_150..5_000_700));
        assert_eq!(numbers(&made), [0, 1, 25_001, 25_002], "{variant:?}");
    }
}

#[test]
fn a_segment_that_was_made_before_is_not_made_again() {
    let format = stereo(Duration::from_millis(10));
    assert_eq!(numbers(&made(Variant::Opus, format, 2, 0..1000)), [2, 3, 4]);
}

#[test]
fn opus_is_silent_in_packets_of_each_length() {
    for frames in [120, 240, 480, 960] {
        let mut recipe = recipe(Variant::Opus, stereo(Duration::from_millis(10)));
        recipe.sample_frames = frames;
        let mut segmenter = Segmenter::new(recipe, 0).unwrap();
        let silence = segmenter.silence.sample(0);
        let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
        let mut sound = [1.0; 2 * 960];
        assert_eq!(decoder.decode_float(&silence, &mut sound, false).unwrap(), frames as usize);
        assert!(sound[..2 * frames as usize].iter().all(|sample| sample.abs() < 1e-4), "{frames}");
    }
}
