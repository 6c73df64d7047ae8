//! WAV files through a whole stream, bit for bit, and files that are refused.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::source::{Paced, Pull, Wav};
use aircheck_engine::{Block, Consumer, EndReason, OverflowPolicy, Stream, StreamOptions, SubscribeOptions};
use hound::{SampleFormat, WavSpec, WavWriter};
use tempfile::TempDir;

/// Returns integers over the whole range of `bits`, including both ends.
fn integers(bits: u16, samples: usize) -> Vec<i32> {
    let (low, high) = (-(1_i64 << (bits - 1)), (1_i64 << (bits - 1)) - 1);
    let spread = (0..).map(|n: i64| low + (n * 2_654_435_761).rem_euclid(high - low + 1));
    [low, high, 0, -1, 1].into_iter().chain(spread).map(|value| value as i32).take(samples).collect()
}

/// Returns floats that a careless conversion would change: subnormal, tiny, beyond full scale, minus zero.
fn floats(samples: usize) -> Vec<f32> {
    let odd = [0.0, -0.0, 1.0, -1.0, 1.5, f32::MIN_POSITIVE / 2.0, f32::EPSILON, -3.4e38];
    odd.into_iter()
        .cycle()
        .zip(1..)
        .map(|(odd, n)| if n % 3 == 0 { odd } else { (n as f32).sin() })
        .take(samples)
        .collect()
}

fn spec(rate_hz: u32, channels: u16, bits: u16, sample_format: SampleFormat) -> WavSpec {
    WavSpec { channels, sample_rate: rate_hz, bits_per_sample: bits, sample_format }
}

fn write_ints(path: &Path, spec: WavSpec, samples: &[i32]) {
    let mut writer = WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
}

fn write_floats(path: &Path, spec: WavSpec, samples: &[f32]) {
    let mut writer = WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
}

/// A file that starts only when the channel is closed, so that the consumer receives its beginning.
struct Held(Wav, std::sync::mpsc::Receiver<()>);

impl Pull for Held {
    fn rate_hz(&self) -> u32 {
        self.0.rate_hz()
    }

    fn channels(&self) -> u16 {
        self.0.channels()
    }

    fn description(&self) -> String {
        self.0.description()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        let _ = self.1.recv();
        self.0.pull(samples)
    }
}

/// Starts a stream of the file, with a consumer that loses nothing and starts with the first block.
fn stream(wav: Wav) -> (Stream, Consumer<Block>) {
    let (begin, begun) = std::sync::mpsc::channel();
    let options = StreamOptions { live: false, ..StreamOptions::default() };
    let stream = Stream::start(Box::new(Paced::new(Held(wav, begun))), options).unwrap();
    let subscribe = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 8, ..SubscribeOptions::default() };
    let consumer = stream.subscribe(subscribe).unwrap();
    drop(begin);
    (stream, consumer)
}

/// Reads the whole file through a stream.
fn read_all(path: &Path, rate_hz: u32, channels: u16) -> Vec<f32> {
    let (stream, mut consumer) = stream(Wav::open(path, false).unwrap());
    assert_eq!((stream.format().rate_hz(), stream.format().channels()), (rate_hz, channels));
    let mut samples = Vec::new();
    let end = loop {
        match consumer.recv() {
            Ok(delivery) => {
                assert_eq!(delivery.gap, None);
                samples.extend_from_slice(delivery.item.samples());
            }
            Err(end) => break end,
        }
    };
    assert_eq!((end.reason, end.gap), (EndReason::Finished, None));
    assert_eq!(stream.capture().failure(), None);
    stream.wait();
    samples
}

fn assert_same(got: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let wrong = (0..).zip(got.iter().zip(wanted)).find(|(_, (got, wanted))| got.to_bits() != wanted.to_bits());
    assert_eq!(wrong, None::<(usize, (&f32, &f32))>, "{what}");
}

#[test]
fn every_kind_of_file_comes_through_bit_for_bit() {
    let directory = TempDir::new().unwrap();
    for (rate_hz, channels) in [(48_000, 1), (44_100, 2), (11_025, 5), (96_000, 2), (8_000, 1)] {
        // A fifth of a second and 7 frames: the last block is short.
        let samples = (rate_hz as usize / 5 + 7) * usize::from(channels);
        for bits in [8, 16, 24, 32] {
            let path = directory.path().join(format!("{rate_hz}-{channels}-{bits}.wav"));
            let values = integers(bits, samples);
            write_ints(&path, spec(rate_hz, channels, bits, SampleFormat::Int), &values);
            let full_scale = 2_f64.powi(i32::from(bits) - 1);
            let wanted: Vec<f32> = values.iter().map(|value| (f64::from(*value) / full_scale) as f32).collect();
            let got = read_all(&path, rate_hz, channels);
            assert_same(&got, &wanted, &format!("{path:?}"));
            if bits <= 24 {
                let back = got.iter().map(|sample| (f64::from(*sample) * full_scale) as i32);
                assert!(back.eq(values.iter().copied()), "{bits} bits can be had back exactly");
            }
        }
        let path = directory.path().join(format!("{rate_hz}-{channels}-float.wav"));
        let values = floats(samples);
        write_floats(&path, spec(rate_hz, channels, 32, SampleFormat::Float), &values);
        assert_same(&read_all(&path, rate_hz, channels), &values, &format!("{path:?}"));
    }
}

#[test]
fn a_looped_file_has_no_break() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("loop.wav");
    // 700 frames are not a whole number of blocks, nor of the reader's portions.
    let values = integers(16, 1400);
    write_ints(&path, spec(44_100, 2, 16, SampleFormat::Int), &values);
    let (stream, mut consumer) = stream(Wav::open(&path, true).unwrap());
    assert!(stream.description().ends_with("looped"), "{}", stream.description());
    let mut got = Vec::new();
    while got.len() < 10 * values.len() {
        got.extend_from_slice(consumer.recv().unwrap().item.samples());
    }
    let wanted: Vec<f32> = values.iter().cycle().take(got.len()).map(|value| *value as f32 / 32_768.0).collect();
    assert_same(&got, &wanted, "ten rounds");
    drop(consumer);
    stream.stop();
}

/// Makes a file of 24 bits in four bytes, as some recorders do: each sample is its number. The header says that so many bits of
/// them count.
fn write_24_in_4(path: &Path, samples: u32, valid_bits: u16) {
    let pcm = b"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71";
    let mut file = b"RIFF\xff\xff\xff\x7fWAVEfmt \x28\x00\x00\x00\xfe\xff\x01\x00".to_vec();
    for number in [48_000_u32, 4 * 48_000] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    for number in [4, 24, 22, valid_bits, 0, 0] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(pcm);
    file.extend_from_slice(b"data");
    file.extend_from_slice(&(4 * samples).to_le_bytes());
    file.extend((0..samples).flat_map(u32::to_le_bytes));
    std::fs::write(path, file).unwrap();
}

#[test]
fn a_looped_file_of_24_bits_in_four_bytes_begins_again_at_its_beginning() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("loop.wav");
    write_24_in_4(&path, 700, 24);
    let (stream, mut consumer) = stream(Wav::open(&path, true).unwrap());
    let mut got = Vec::new();
    while got.len() < 3 * 700 {
        got.extend_from_slice(consumer.recv().unwrap().item.samples());
    }
    let wanted: Vec<f32> = (0..700_u16).cycle().take(got.len()).map(|value| f32::from(value) / 8_388_608.0).collect();
    assert_same(&got, &wanted, "three rounds");
    drop(consumer);
    stream.stop();
}

#[test]
fn samples_of_more_bits_than_there_are_are_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.wav");
    write_24_in_4(&path, 700, 300);
    assert_eq!(refused(&path), "has samples of 300 bits (it takes 8, 16, 24 and 32)");
}

/// Returns the one-line error for a file that is refused, without its path.
fn refused(path: &Path) -> String {
    let error = Wav::open(path, false).map(|_| ()).expect_err("it cannot be streamed").to_string();
    let (start, reason) = error.split_at(path.to_str().unwrap().len());
    assert_eq!(start, path.to_str().unwrap(), "it starts with the path");
    assert!(!error.contains('\n'), "{error:?} is more than a line");
    reason.strip_prefix(": ").expect("a colon").to_owned()
}

struct Fixture {
    directory: TempDir,
    /// A correct file of 100 frames, 16 bits, stereo.
    good: Vec<u8>,
}

impl Fixture {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("good.wav");
        write_ints(&path, spec(48_000, 2, 16, SampleFormat::Int), &integers(16, 200));
        Self { good: fs::read(&path).unwrap(), directory }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join("it.wav");
        fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }
}

#[test]
fn a_file_that_is_not_wav_is_refused_in_one_line() {
    let fixture = Fixture::new();
    let missing = refused(&fixture.directory.path().join("missing.wav"));
    assert!(missing.starts_with("cannot be opened: No such file"), "{missing}");
    let directory = refused(fixture.directory.path());
    assert!(directory.starts_with("cannot be read: "), "{directory}");
    assert_eq!(refused(&fixture.file(b"")), "is cut off inside its header");
    let junk = refused(&fixture.file(&b"This is a letter to my aunt, and no sound. ".repeat(9)));
    assert!(junk.starts_with("is not a WAV file that can be read: "), "{junk}");
    let mut silent = fixture.good[..44].to_vec();
    silent[40..44].fill(0);
    assert_eq!(refused(&fixture.file(&silent)), "has no sound in it");
}

#[test]
fn a_truncated_file_is_refused() {
    let fixture = Fixture::new();
    for length in 0..44 {
        let reason = refused(&fixture.file(&fixture.good[..length]));
        assert!(reason == "is cut off inside its header", "{length} bytes: {reason}");
    }
    for length in 44..fixture.good.len() {
        let reason = refused(&fixture.file(&fixture.good[..length]));
        let frames = (length - 44) / 4;
        assert_eq!(reason, format!("is cut off: its header promises 100 frames, {frames} are there"));
    }
    Wav::open(fixture.file(&fixture.good), false).expect("whole, it is fine");
}

#[test]
fn no_channels_and_no_rate_are_refused() {
    let fixture = Fixture::new();
    for (field, reason) in [(22..24, "zero channels"), (24..28, "a sample rate of 0 Hz")] {
        let mut bytes = fixture.good.clone();
        bytes[field.clone()].fill(0);
        // In a consistent file, the values derived from it are zero too.
        bytes[28..32].fill(0);
        if field.start == 22 {
            bytes[32..34].fill(0);
        }
        let refused = refused(&fixture.file(&bytes));
        assert!(refused.contains(reason), "{refused}");
    }
}

/// With any byte in the header, the file is refused in one line or can be read to its end, without a panic.
#[test]
fn a_damaged_header_never_panics() {
    let fixture = Fixture::new();
    for offset in 0..44 {
        for value in [0, 1, 2, 3, 7, 17, 33, 64, 127, 128, 254, 255] {
            let mut bytes = fixture.good.clone();
            bytes[offset] = value;
            let path = fixture.file(&bytes);
            match Wav::open(&path, false) {
                Err(_) => drop(refused(&path)),
                Ok(mut wav) => {
                    let mut samples = vec![0.0; 64 * usize::from(wav.channels())];
                    let mut total = 0;
                    while let Ok(filled @ 1..) = wav.pull(&mut samples) {
                        assert_eq!(filled % usize::from(wav.channels()), 0, "whole frames only");
                        total += filled;
                    }
                    assert!(total <= bytes.len(), "{total} samples from {} bytes", bytes.len());
                }
            }
        }
    }
}

/// A file that shrinks while it is read ends the stream after the remaining samples, with a reason.
#[test]
fn a_file_that_shrinks_ends_the_stream_with_its_reason() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("shrinks.wav");
    write_ints(&path, spec(8_000, 1, 16, SampleFormat::Int), &integers(16, 80_000));
    let wav = Wav::open(&path, false).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(60_044).unwrap();
    let (stream, mut consumer) = stream(wav);
    let capture = Arc::clone(stream.capture());
    while consumer.recv().is_ok() {}
    stream.wait();
    while capture.failure().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let failure = capture.failure().unwrap();
    assert!(failure.starts_with(path.to_str().unwrap()), "{failure}");
}
