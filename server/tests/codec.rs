//! The output of the codecs, decoded by ffmpeg and compared with their input.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::process::Command;
use std::time::Duration;

use aircheck_engine::Format;
use aircheck_server::rendition::codec::flac::frame::Frame;
use aircheck_server::rendition::codec::{FlacEncoder, OpusBitrate, OpusEncoder};
use aircheck_server::rendition::container::flac::FrameNumbering;
use aircheck_server::rendition::container::ogg::{Numbering, OggPages, Weights};
use aircheck_server::rendition::packet::{Numbered, Packet, Wire};

const TAU: f64 = std::f64::consts::TAU;
/// The warning of ffmpeg where a frame of FLAC is missing.
const MISSING_FRAME: &str = "sample/frame number mismatch in adjacent frames";

fn format(rate_hz: u32, channels: u16, block_ms: u64) -> Format {
    Format::new(rate_hz, channels, Duration::from_millis(block_ms)).unwrap()
}

/// Runs `program` with a file of `bytes`, whose path replaces `{}` among its arguments, and returns its stdout. Fails at
/// any warning but `complaint`.
fn ask(program: &str, arguments: &[&str], bytes: &[u8], complaint: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream");
    std::fs::write(&path, bytes).unwrap();
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-v", "warning"]);
    command.args(arguments.iter().map(|argument| if *argument == "{}" { path.to_str().unwrap() } else { argument }));
    let output = command.output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaints.lines().all(|line| !complaint.is_empty() && line.contains(complaint)),
        "{program}: {complaints}"
    );
    assert!(output.status.success());
    output.stdout
}

/// Returns when each packet starts, as ffprobe reports it.
fn probe(bytes: &[u8], complaint: &str) -> Vec<i64> {
    let csv = ask("ffprobe", &["-show_entries", "packet=pts", "-of", "csv=p=0", "{}"], bytes, complaint);
    let lines = String::from_utf8(csv).unwrap();
    lines.split_ascii_whitespace().map(|line| line.trim_end_matches(',').parse().unwrap()).collect()
}

/// Returns integers of `bits` bits: noise, which no codec compresses, then silence, full scale and a square wave.
fn integers(bits: u32, samples: usize) -> Vec<i32> {
    let (full, mut state) = (1_i32 << (bits - 1), 0x2545_F491_4F6C_DD1D_u64);
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state as i32) >> (32 - bits)
    };
    (0..samples)
        .map(|index| match index * 8 / samples {
            0..3 => noise(),
            3 => 0,
            4 if index % 2 == 0 => full - 1,
            4 => -full,
            5 if index / 37 % 2 == 0 => full - 1,
            5 => -full,
            6 => noise() >> (bits / 2),
            _ => (f64::from(full - 1) * (index as f64 * 0.01).sin()) as i32,
        })
        .collect()
}

/// The frames for `integers`, block by block.
fn flac(format: Format, bits: u32, integers: &[i32]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut encoder = FlacEncoder::new(format, bits).unwrap();
    let scale = (1_u32 << (bits - 1)) as f32;
    let frames = integers.chunks(format.block_samples()).enumerate().map(|(sequence, block)| {
        let samples: Vec<f32> = block.iter().map(|sample| *sample as f32 / scale).collect();
        encoder.encode(sequence as u64, &samples).unwrap().to_vec()
    });
    let frames = frames.collect();
    (encoder.header().unwrap().to_vec(), frames)
}

/// What ffmpeg makes of FLAC.
fn decoded(bits: u32, flac: &[u8], complaint: &str) -> Vec<i32> {
    let sample = if bits == 16 { "s16le" } else { "s24le" };
    let codec = format!("pcm_{sample}");
    let bytes =
        ask("ffmpeg", &["-err_detect", "crccheck", "-i", "{}", "-f", sample, "-c:a", &codec, "-"], flac, complaint);
    let width = bits as usize / 8;
    let integer = |bytes: &[u8]| bytes.iter().rev().fold(0_i32, |value, byte| value << 8 | i32::from(*byte));
    bytes.chunks(width).map(|bytes| integer(bytes) << (32 - bits) >> (32 - bits)).collect()
}

#[test]
fn flac_decodes_to_the_source_sample_by_sample() {
    for (rate_hz, channels, block_ms, bits) in [
        (48_000, 2, 10, 16),
        (48_000, 2, 10, 24),
        (44_100, 1, 10, 16),
        (44_100, 2, 3, 24),
        (48_000, 6, 10, 24),
        (44_100, 6, 100, 16),
        (192_000, 2, 10, 24),
        (8_000, 1, 2, 16),
        (96_000, 8, 1, 24),
    ] {
        let format = format(rate_hz, channels, block_ms);
        // A last block of seven frames: fewer than any other block may have.
        let samples = (rate_hz / format.block_frames() * format.block_frames() + 7) as usize * usize::from(channels);
        let source = integers(bits, samples);
        let (header, frames) = flac(format, bits, &source);
        let whole = [header, frames.concat()].concat();
        assert!(decoded(bits, &whole, "") == source, "{rate_hz} Hz, {channels} channels, {bits} bits");
        let raw = source.len() * bits as usize / 8;
        assert!(whole.len() < raw, "{} bytes for {raw}: {rate_hz} Hz, {channels} channels, {bits} bits", whole.len());
    }
}

#[test]
fn flac_can_be_joined_late_and_a_missing_frame_is_detected() {
    let format = format(48_000, 2, 10);
    let source = integers(16, 480 * 2 * 400);
    let (header, frames) = flac(format, 16, &source);
    let stream = [header.clone(), frames[100..].concat()].concat();
    assert!(decoded(16, &stream, "") == source[960 * 100..]);
    let stream = [header, frames[100..150].concat(), frames[173..].concat()].concat();
    let expected = [&source[960 * 100..960 * 150], &source[960 * 173..]].concat();
    assert!(decoded(16, &stream, MISSING_FRAME) == expected);
    let numbers: Vec<i64> = (100..150).chain(173..400).map(|number| number * 480).collect();
    assert_eq!(probe(&stream, MISSING_FRAME), numbers);
}

/// The frames from `first` on as a listener gets them who joins there, in packets of `group` frames.
fn joined(frames: &[Vec<u8>], group: usize) -> Vec<u8> {
    let (mut stream, mut numbering) = (Vec::new(), FrameNumbering::default());
    for frames in frames.chunks(group) {
        let mut payload = Vec::new();
        let found: Vec<Frame> = frames
            .iter()
            .map(|frame| {
                payload.extend(frame);
                Frame::at(&payload, payload.len() - frame.len()).unwrap()
            })
            .collect();
        let packet = Packet::chunk(&payload, Numbered::Frames(found.into()));
        let mut bytes = Vec::new();
        numbering.append(&packet, Wire::Chunked, &mut bytes);
        numbering.advance(&packet);
        // A position in the bytes of one listener is one in those of the encoder.
        assert_eq!(bytes.len(), packet.bytes(Wire::Chunked).len());
        let head = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..head]).unwrap(), 16).unwrap();
        assert_eq!(bytes.len(), head + 2 + length + 2);
        stream.extend(&bytes[head + 2..head + 2 + length]);
    }
    stream
}

#[test]
fn a_listeners_frames_of_flac_begin_at_zero_and_a_missing_one_is_detected() {
    // Lengths and rates with and without a code of their own in the header; long numbers that become short ones.
    for (rate_hz, block_ms, first, group) in
        [(48_000, 10, 100, 1), (44_100, 10, 70_000, 1), (48_000, 5, 1 << 26, 7), (44_100, 3, (1 << 31) - 200, 1)]
    {
        let format = format(rate_hz, 2, block_ms);
        let (frames, samples) = (u64::from(format.block_frames()), format.block_samples());
        let source = integers(16, samples * 199);
        let mut encoder = FlacEncoder::new(format, 16).unwrap();
        let blocks = source.chunks(samples).zip(first..);
        let all: Vec<Vec<u8>> = blocks
            .map(|(block, sequence)| {
                let floats: Vec<f32> = block.iter().map(|sample| *sample as f32 / 32_768.0).collect();
                encoder.encode(sequence, &floats).unwrap().to_vec()
            })
            .collect();
        let header = encoder.header().unwrap().to_vec();
        let whole = [header.clone(), joined(&all, group)].concat();
        assert!(decoded(16, &whole, "") == source, "{rate_hz} Hz from {first}");
        let heard = [&all[..50], &all[71..]].concat();
        let with_gap = [header, joined(&heard, 1)].concat();
        let expected: Vec<i64> = (0..50).chain(71..199).map(|number| (number * frames) as i64).collect();
        assert_eq!(probe(&with_gap, MISSING_FRAME), expected, "{rate_hz} Hz from {first}");
    }
}

#[test]
fn flac_clips_samples_beyond_full_scale_and_silences_nan() {
    let format = format(48_000, 1, 10);
    let mut encoder = FlacEncoder::new(format, 16).unwrap();
    let mut block = vec![0.5; 480];
    let odd = [2.0, -2.0, f32::NAN, f32::INFINITY, 1.0, f32::NEG_INFINITY, 100.6 / 32_768.0, -100.6 / 32_768.0];
    block[..8].copy_from_slice(&odd);
    let stream = [encoder.header().unwrap(), encoder.encode(0, &block).unwrap()].concat();
    assert_eq!(decoded(16, &stream, "")[..9], [32_767, -32_768, 0, 32_767, 32_767, -32_768, 101, -101, 16_384]);
}

#[test]
fn flac_frame_numbers_reach_their_maximum() {
    let format = format(48_000, 2, 10);
    let mut encoder = FlacEncoder::new(format, 16).unwrap();
    let source = integers(16, 960);
    let samples: Vec<f32> = source.iter().map(|sample| *sample as f32 / 32_768.0).collect();
    for (first, start) in [(0, 0), (126, 126), (1 << 26, 1 << 26), ((1 << 31) - 3, (1 << 31) - 3), (1 << 31, 0)] {
        let mut stream = encoder.header().unwrap().to_vec();
        (first..first + 3).for_each(|sequence| stream.extend(encoder.encode(sequence, &samples).unwrap()));
        assert!(decoded(16, &stream, "") == source.repeat(3), "block {first}");
        assert_eq!(probe(&stream, ""), [start * 480, (start + 1) * 480, (start + 2) * 480], "block {first}");
    }
}

/// A source of `frames` frames, all channels alike, at `position / rate_hz` seconds each.
fn source(format: Format, frames: usize, sample: impl Fn(f64) -> f64) -> Vec<f32> {
    let channels = usize::from(format.channels());
    (0..frames * channels).map(|index| sample((index / channels) as f64 / f64::from(format.rate_hz())) as f32).collect()
}

/// A listener's whole file, of those blocks of `source` that are not in `missing` for the encoder.
fn opus(format: Format, bitrate_bps: u32, source: &[f32], missing: std::ops::Range<usize>) -> (Vec<u8>, u16) {
    let packet_frames = OpusEncoder::packet_frames_for(format, 1);
    let mut encoder = OpusEncoder::new(format, OpusBitrate::nearest(bitrate_bps), packet_frames).unwrap();
    let mut ogg = OggPages::new(7, format.channels() as u8, encoder.pre_skip(), format.rate_hz());
    let (mut file, mut numbering) = (ogg.header().to_vec(), Numbering::new());
    let mut packets = Vec::new();
    for (sequence, block) in source.chunks(format.block_samples()).enumerate() {
        if !missing.contains(&sequence) {
            encoder.encode(sequence as u64, block, &mut packets).unwrap();
            append(&mut file, &mut numbering, &ogg.pages(&packets));
            packets.clear();
        }
    }
    encoder.finish(&mut packets).unwrap();
    if let Some(last) = ogg.last(&packets) {
        append(&mut file, &mut numbering, &last);
    }
    file.extend(numbering.end(ogg.header()).unwrap_or_default());
    (file, encoder.pre_skip())
}

/// Appends a packet as a listener gets it.
fn append(file: &mut Vec<u8>, numbering: &mut Numbering, packet: &Packet) {
    let mut bytes = packet.bytes(Wire::Plain).to_vec();
    numbering.renumber(packet, Wire::Plain, &mut Weights::default(), &mut bytes);
    numbering.advance(packet);
    file.extend(bytes);
}

/// What ffmpeg makes of Ogg Opus: its first channel.
fn heard(channels: u16, file: &[u8]) -> Vec<f64> {
    let bytes = ask("ffmpeg", &["-i", "{}", "-f", "f32le", "-c:a", "pcm_f32le", "-"], file, "");
    let samples = bytes.chunks(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())));
    samples.step_by(usize::from(channels)).collect()
}

/// Level and delay, in frames, of a tone of 1 kHz in `heard`, and the level of all else: levels as parts of 1.
fn tone(heard: &[f64]) -> (f64, f64, f64) {
    let angle = |n: usize| n as f64 / 48.0 * TAU;
    let sum = |part: fn(f64) -> f64| {
        heard.iter().enumerate().map(|(n, sample)| sample * part(angle(n))).sum::<f64>() * 2.0 / heard.len() as f64
    };
    let (sin, cos) = (sum(f64::sin), sum(f64::cos));
    let rest = heard.iter().enumerate().map(|(n, s)| (s - sin * angle(n).sin() - cos * angle(n).cos()).powi(2));
    (sin.hypot(cos), (-cos).atan2(sin) / TAU * 48.0, (rest.sum::<f64>() / heard.len() as f64).sqrt())
}

#[test]
fn opus_keeps_pitch_level_timing_and_length() {
    for (rate_hz, channels, block_ms, bitrate_bps) in [
        (48_000, 2, 10, 96_000),
        (44_100, 2, 10, 96_000),
        (44_100, 1, 7, 64_000),
        (16_000, 1, 20, 24_000),
        (96_000, 2, 1, 128_000),
        (22_050, 2, 100, 96_000),
        (44_101, 1, 5, 96_000),
    ] {
        let format = format(rate_hz, channels, block_ms);
        let frames = rate_hz as usize * 2 + 123;
        let (file, _) = opus(format, bitrate_bps, &source(format, frames, |t| 0.5 * (t * 1000.0 * TAU).sin()), 0..0);
        let heard = heard(channels, &file);
        let name = format!("{rate_hz} Hz, {channels} channels, {block_ms} ms, {bitrate_bps} bit/s");
        let due = (frames as f64 * 48_000.0 / f64::from(rate_hz)).round() as usize;
        assert_eq!(heard.len(), due, "{name}");
        let (level, delay, rest) = tone(&heard[24_000..72_000]);
        assert!((level / 0.5).log10().abs() * 20.0 < 0.5, "{name}: a tone of 0.5 came as one of {level}");
        assert!(delay.abs() < 2.0, "{name}: {delay} frames late");
        assert!(rest < 0.02, "{name}: noise of {rest}");
    }
}

#[test]
fn a_click_is_heard_when_it_was_made() {
    for (rate_hz, bitrate_bps) in [(48_000, 96_000), (44_100, 96_000), (48_000, 32_000)] {
        let format = format(rate_hz, 2, 10);
        let at = 0.7315;
        let click = |t: f64| if (t - at).abs() < 0.000_25 { 0.9 } else { 0.0 };
        let (file, _) = opus(format, bitrate_bps, &source(format, rate_hz as usize, click), 0..0);
        let heard = heard(2, &file);
        let loudest = (0..heard.len()).max_by(|a, b| heard[*a].abs().total_cmp(&heard[*b].abs())).unwrap();
        let late = loudest as f64 / 48_000.0 - at;
        assert!(late.abs() < 0.001, "{rate_hz} Hz, {bitrate_bps} bit/s: {late} s late");
    }
}

/// The granule position of each packet's page, and whether that is the last page.
fn granules(file: &[u8]) -> Vec<(u64, bool)> {
    let mut reader = ogg::PacketReader::new(std::io::Cursor::new(file));
    let packets = std::iter::from_fn(|| reader.read_packet().unwrap());
    packets.skip(2).map(|packet| (packet.absgp_page(), packet.last_in_stream())).collect()
}

#[test]
fn a_gap_advances_granule_positions_and_keeps_later_sound_in_place() {
    for (rate_hz, flushed) in [(48_000, 1), (44_100, 1)] {
        let format = format(rate_hz, 2, 10);
        let samples = source(format, 2 * rate_hz as usize, |t| 0.5 * (t * 1000.0 * TAU).sin());
        let (file, pre_skip) = opus(format, 96_000, &samples, 70..120);
        let granules = granules(&file);
        // What was in the encoder when block 70 did not come takes another packet.
        let expected: Vec<u64> = (1..=70 + flushed).chain(121..=200).map(|packet| packet * 480).collect();
        let (last, others) = granules.split_last().unwrap();
        assert_eq!(others.iter().map(|(granule, _)| *granule).collect::<Vec<_>>(), expected, "{rate_hz} Hz");
        assert!(others.iter().all(|(_, is_last)| !is_last));
        assert_eq!(*last, (96_000 + u64::from(pre_skip), true), "{rate_hz} Hz: the end is where the sound ends");
        // ffmpeg sees a hole of this length, and leaves it out, so what comes after it is as much earlier.
        let hole = (50 - flushed as usize) * 480;
        let steps: Vec<i64> = probe(&file, "").windows(2).map(|pair| pair[1] - pair[0] - 480).collect();
        assert_eq!(steps.iter().filter(|step| **step != 0).collect::<Vec<_>>(), [&(hole as i64)], "{rate_hz} Hz");
        let heard = heard(2, &file);
        assert_eq!(heard.len(), 96_000 - hole);
        let after = 120 * 480 - hole + 4800;
        let (level, delay, rest) = tone(&heard[after..after + 24_000]);
        assert!((level / 0.5).log10().abs() * 20.0 < 0.5 && rest < 0.02, "{rate_hz} Hz: {level}, noise of {rest}");
        assert!(delay.abs() < 2.0, "{rate_hz} Hz: {delay} frames late");
    }
}
