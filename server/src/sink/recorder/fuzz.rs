//! Fuzz targets of what the server reads of a recording: sidecars, and files of WAV and FLAC.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::Format;
use aircheck_fuzz::{edited, text};
use bolero::check;

use super::index::Index;
use super::run_reader::{Found, RunReader};
use super::segment::HEADER_BYTES;
use crate::rendition::codec::FlacEncoder;

const STEM: &str = "aircheck-20261128T160000Z-0000000000";
/// Frames of the files that are edited.
const FRAMES: u64 = 2400;
/// Frames that are read at once: those of a block.
const READ_FRAMES: u64 = 480;
const WORDS: [&str; 36] = [
    "{\"recording\":{\"rate_hz\":48000,\"channels\":1,\"position\":0,\"captured_at\":1790000000.5,\"continues\":null}}\n",
    "{\"recording\":{",
    "\"rate_hz\":",
    "\"channels\":",
    "\"position\":",
    "\"captured_at\":",
    "\"continues\":",
    "}}\n",
    "}\n",
    "{\"mark\":{\"frame\":",
    ",\"at\":",
    "{\"gap\":{\"from\":1,\"blocks\":2},\"frame\":",
    ",\"frames\":",
    "480",
    "48000",
    "0",
    "1",
    "2",
    "65535",
    "65536",
    "4294967295",
    "9223372036854775808",
    "18446744073709551615",
    "1790000000.5",
    "1e300",
    "-1",
    "1e19",
    "null",
    ",",
    "{",
    "}",
    "\n",
    "\"",
    "\"aircheck-20261128T160000Z-0000000000.wav\"",
    "\u{fc}",
    "e",
];

fn format() -> Format {
    Format::new(48_000, 1, Duration::from_millis(10)).unwrap()
}

fn wav() -> Vec<u8> {
    let mut file = vec![0; HEADER_BYTES as usize];
    let (start, length) = file.split_last_chunk_mut::<4>().unwrap();
    start[..4].copy_from_slice(b"RIFF");
    let end = start.len();
    start[end - 4..].copy_from_slice(b"data");
    *length = (4 * FRAMES as u32).to_le_bytes();
    file.resize(file.len() + 4 * FRAMES as usize, 0);
    file
}

fn flac() -> Vec<u8> {
    let mut encoder = FlacEncoder::new(format(), 16).unwrap();
    let mut file = encoder.header().unwrap().to_vec();
    for number in 0..FRAMES / READ_FRAMES {
        let block: Vec<f32> = (0..READ_FRAMES).map(|frame| ((frame * number) % 97) as f32 / 100.0).collect();
        file.extend_from_slice(&encoder.encode(number, &block).unwrap());
    }
    // The number of samples, which the recorder writes at each flush.
    file[22..26].copy_from_slice(&(FRAMES as u32).to_be_bytes());
    file
}

/// Reads all that a listener could ask of the recording in `directory`, and returns how many blocks of sound there were.
fn play(directory: &Path) -> usize {
    let index = Arc::new(Index::scan(directory));
    let mut heard = 0;
    for entry in index.entries() {
        assert!(entry.rate_hz > 0 && entry.channels > 0, "{entry:?}");
        assert!(entry.end() >= entry.position && entry.ended_at() >= entry.captured_at, "{entry:?}");
        let mut reader = RunReader::new(Arc::clone(&index), entry.run);
        for moment in [0, entry.captured_at, entry.ended_at(), u64::MAX] {
            let _ = index.find(moment, format());
            // An error is a file that is damaged.
            let _ = reader.position_at(&entry, moment);
        }
        let mut position = entry.position;
        for _ in 0..2 * FRAMES / READ_FRAMES {
            match reader.read(position, READ_FRAMES) {
                Ok(Found::Sound(samples, _)) => {
                    assert!(samples.len() as u64 <= READ_FRAMES * u64::from(entry.channels), "{entry:?}");
                    heard += 1;
                    position = position.saturating_add(READ_FRAMES);
                }
                Ok(Found::Hole(next)) => {
                    assert!(next > position, "a reader stands still at {position}: {entry:?}");
                    position = next;
                }
                Err((_, next)) => {
                    assert!(next > position, "a reader stands still at {position}: {entry:?}");
                    position = next;
                }
                Ok(Found::Beyond) => break,
            }
        }
    }
    heard
}

#[test]
fn sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = folder.path().join(format!("{STEM}.jsonl"));
    fs::write(folder.path().join(format!("{STEM}.wav")), wav()).unwrap();
    fs::write(&sidecar, WORDS[0]).unwrap();
    assert_eq!(play(folder.path()), 5, "an unchanged recording is heard");
    check!().with_max_len(64).for_each(|bytes: &[u8]| {
        // With a first line that is right, the other lines are read, too.
        let Some((first, rest)) = bytes.split_first() else { return };
        let first = if first % 2 == 0 { WORDS[0] } else { "" };
        fs::write(&sidecar, format!("{first}{}", text(rest, &WORDS))).unwrap();
        play(folder.path());
    });
}

#[test]
fn segment() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(format!("{STEM}.jsonl")), WORDS[0]).unwrap();
    let (wav, flac) = (wav(), flac());
    let files =
        [("wav", &wav), ("flac", &flac)].map(|(ending, file)| (folder.path().join(format!("{STEM}.{ending}")), file));
    for (path, file) in &files {
        fs::write(path, file).unwrap();
        assert_eq!(play(folder.path()), 5, "an unchanged recording is heard: {path:?}");
        fs::remove_file(path).unwrap();
    }
    check!().for_each(|bytes: &[u8]| {
        for (path, file) in &files {
            fs::write(path, edited(bytes, &[file])).unwrap();
            play(folder.path());
            fs::remove_file(path).unwrap();
        }
    });
}
