//! Streams that start in the recording: right to the block, at real pace, without loss or repeat up to the live sound.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "common/numbered.rs"]
mod numbered;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, UNIX_EPOCH};

use common::{Listener, Server, assert_identity, eventually};
use numbered::{BLOCK_SECONDS, Format, Received, StreamParser};
use serde_json::Value;

/// Starts a server that records numbered sound, and has a history of `history`.
fn recorded(folder: &Path, history: &str, more: &[&str]) -> Server {
    let source = numbered::source(folder, 60);
    let takes = folder.join("takes");
    let flags = ["--source", &source, "--history", history, "--record", takes.to_str().unwrap()];
    Server::start(&[&flags, more].concat())
}

/// Returns the sidecars in the directory of the recording, the oldest first.
fn sidecars(folder: &Path) -> Vec<Vec<Value>> {
    let mut files: Vec<_> = folder.join("takes").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().unwrap() == "jsonl");
    files.sort();
    let lines = |path| std::fs::read_to_string(path).unwrap();
    files.iter().map(|path| lines(path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()).collect()
}

/// Returns when block 0 was captured, in Unix seconds.
fn epoch(folder: &Path) -> f64 {
    let first = eventually("a recording", || sidecars(folder).into_iter().next().filter(|lines| !lines.is_empty()));
    first[0]["recording"]["captured_at"].as_f64().unwrap()
}

fn rfc3339(unix_seconds: f64) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_secs_f64(unix_seconds)).to_string()
}

fn received(format: Format, file: &Path) -> Received {
    let mut parser = StreamParser::new(format);
    parser.push(&std::fs::read(file).unwrap());
    parser.received
}

#[test]
fn every_format_starts_at_the_moment_and_comes_at_real_pace() {
    starts_at_the_moment(&["--record-split", "1s"]);
}

#[test]
fn so_it_does_from_files_of_flac() {
    starts_at_the_moment(&["--record-format", "flac"]);
}

fn starts_at_the_moment(flags: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let server = recorded(folder.path(), "300ms", flags);
    let epoch = epoch(folder.path());
    sleep(Duration::from_secs(3));
    // The middle of block 50.
    let at = rfc3339(epoch + 50.5 * BLOCK_SECONDS);
    let formats = [Format::Pcm, Format::Wav, Format::Json, Format::Sse];
    let start = Instant::now();
    let listeners: Vec<_> = formats
        .map(|format| {
            let file = folder.path().join(format.label());
            let url = server.url(&format.path(&format!("name={}&at={at}", format.label())));
            (format, Listener::start(&url, &file), file)
        })
        .into();
    sleep(Duration::from_secs(5));
    for format in formats {
        let row = server.row_when(format.label(), |row| row["delivered"].as_u64() > Some(300));
        assert_identity(&row);
        assert_eq!(row["lost"], 0, "{row}");
        assert_eq!(row["verdict"], "ok", "{row}");
        let [lag, requested] = ["lag_seconds", "burst_seconds"].map(|key| row[key].as_f64().unwrap());
        assert!(requested > 2.0 && lag - requested < 0.3, "the lag is requested: {row}");
    }
    let elapsed = start.elapsed().as_secs_f64();
    drop(listeners.into_iter().map(|(_, listener, _)| drop(listener)).collect::<Vec<_>>());
    for format in formats {
        let received = received(format, &folder.path().join(format.label()));
        assert_eq!(received.numbers.first(), Some(&50), "{format:?}");
        assert!(received.holes.is_empty() && received.reported_gaps.is_empty(), "{format:?}: {:?}", received.holes);
        let seconds = received.blocks() as f64 * BLOCK_SECONDS;
        assert!(seconds > 4.5 && seconds < elapsed + 0.5, "{format:?}: {seconds} s of sound in {elapsed} s");
        // It was recorded after the listener came.
        assert!(received.next() > Some(400), "{format:?}");
    }
}

#[test]
fn a_listener_hears_on_what_is_recorded_after_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let server = recorded(folder.path(), "2s", &[]);
    let epoch = epoch(folder.path());
    sleep(Duration::from_secs(4));
    let file = folder.path().join("stream");
    let listener = Listener::start(&server.url("stream.json?name=a&back=2.5s"), &file);
    let row = server.row_when("a", |row| row["delivered"].as_u64() > Some(500));
    assert_identity(&row);
    drop(listener);
    let received = received(Format::Json, &file);
    assert!(received.holes.is_empty() && received.reported_gaps.is_empty(), "{:?}", received.holes);
    let own_epoch = received.epoch.unwrap();
    assert!((own_epoch - epoch).abs() < 0.001, "capture times are those of the sound: {own_epoch} and {epoch}");
}

#[test]
fn moments_that_are_not_to_be_had_are_refused_kindly() {
    let folder = tempfile::tempdir().unwrap();
    let server = recorded(folder.path(), "300ms", &[]);
    let epoch = epoch(folder.path());
    sleep(Duration::from_millis(1500));
    let cases = [
        (format!("at={}", rfc3339(epoch + 3600.0)), 400, "is in the future"),
        (format!("at={}", rfc3339(epoch - 60.0)), 404, "the recording begins at"),
        ("at=yesterday".to_owned(), 400, "2026-11-27T14:03:00Z"),
        ("back=soon".to_owned(), 400, "back: `soon` is not a duration"),
        ("back=1s&burst=0s".to_owned(), 400, "both say where to start"),
    ];
    for (query, status, sentence) in cases {
        let (code, text) = server.ask(&[], &format!("stream.wav?{query}"));
        assert_eq!(code, status, "{query}: {text}");
        assert!(text.contains(sentence), "{query}: {text}");
    }
    // What is asked for relative to now begins with the recording.
    let file = folder.path().join("stream");
    let listener = Listener::start(&server.url("stream.json?name=a&back=1h"), &file);
    server.row_when("a", |row| row["delivered"].as_u64() > Some(20));
    drop(listener);
    assert_eq!(received(Format::Json, &file).numbers.first(), Some(&0));

    let bare = Server::start(&["--source", "tone:440", "--history", "300ms"]);
    let (code, text) = bare.ask(&[], "stream.wav?back=20m");
    assert_eq!(code, 404, "{text}");
    assert!(text.contains("--record DIR"), "{text}");
}

/// A pause between two runs, and a part of a run that was not recorded.
#[test]
fn a_moment_in_a_hole_begins_with_what_comes_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = recorded(folder.path(), "300ms", &[]);
    let first_epoch = epoch(folder.path());
    sleep(Duration::from_millis(1500));
    server.terminate();
    assert!(server.wait().success());
    sleep(Duration::from_millis(2500));
    let server = recorded(folder.path(), "300ms", &[]);
    let second_epoch = eventually("the second run", || {
        let second = sidecars(folder.path()).into_iter().nth(1)?;
        second.first()?["recording"]["captured_at"].as_f64()
    });
    sleep(Duration::from_millis(1500));
    assert!(second_epoch - first_epoch > 3.5, "{first_epoch} and {second_epoch}");
    let file = folder.path().join("stream");
    let at = rfc3339(second_epoch - 1.0);
    let listener = Listener::start(&server.url(&format!("stream.json?name=a&at={at}")), &file);
    let row = server.row_when("a", |row| row["delivered"].as_u64() > Some(100));
    assert_identity(&row);
    drop(listener);
    let text = std::fs::read_to_string(&file).unwrap();
    let first: Value = serde_json::from_str(text.lines().find(|line| line.contains("\"samples\"")).unwrap()).unwrap();
    let captured_at = first["captured_at"].as_f64().unwrap();
    assert!((captured_at - second_epoch).abs() < 0.005, "{captured_at}, and the second run began at {second_epoch}");
}

#[test]
fn a_listener_comes_from_an_earlier_run_into_the_recording_of_the_present_one() {
    crosses_a_restart("300ms");
}

/// The present run is all in the history, so that its sound comes from there.
#[test]
fn a_listener_comes_from_an_earlier_run_into_the_live_sound() {
    crosses_a_restart("30s");
}

fn crosses_a_restart(history: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = recorded(folder.path(), "300ms", &[]);
    let epoch = epoch(folder.path());
    sleep(Duration::from_millis(1500));
    server.terminate();
    assert!(server.wait().success());
    sleep(Duration::from_millis(1200));
    let server = recorded(folder.path(), history, &[]);
    sleep(Duration::from_millis(2500));
    let file = folder.path().join("stream");
    let at = rfc3339(epoch + 80.5 * BLOCK_SECONDS);
    let listener = Listener::start(&server.url(&format!("stream.json?name=a&at={at}")), &file);
    let row = server.row_when("a", |row| row["delivered"].as_u64() > Some(250));
    assert_identity(&row);
    drop(listener);
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let first = lines.next().unwrap();
    assert_eq!(first["sequence"], 80);
    let gaps: Vec<_> = lines.clone().filter(|line| line.get("gap").is_some()).collect();
    assert_eq!(gaps.len(), 1, "the pause between the runs: {gaps:?}");
    let pause = gaps[0]["gap"]["blocks"].as_f64().unwrap() * BLOCK_SECONDS;
    let blocks: Vec<_> = lines.filter(|line| line.get("gap").is_none()).collect();
    let mark = |block: &Value| {
        let half =
            |index: usize| u64::from((block["samples"][index].as_f64().unwrap() * 32_768.0).round() as i16 as u16);
        half(0) | half(1) << 16
    };
    for (block, next) in blocks.iter().zip(&blocks[1..]) {
        // The second run has the same source again.
        let is_same_run = next["sequence"].as_u64() == block["sequence"].as_u64().map(|number| number + 1);
        assert_eq!(mark(next), if is_same_run { mark(block) + 1 } else { 0 }, "right to the block");
        let number = |block: &Value| block["sequence"].as_u64().unwrap();
        let at = |block: &Value| block["captured_at"].as_f64().unwrap();
        let (numbers, seconds) = (number(next) - number(block), at(next) - at(block));
        let as_numbered = numbers as f64 * BLOCK_SECONDS;
        assert!((seconds - as_numbered).abs() < 0.03, "numbers follow the time: {block} and {next}");
    }
    assert!(pause > 1.0, "{pause} s");
}

#[test]
fn a_part_of_the_recording_is_a_file_of_the_right_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let server = recorded(folder.path(), "300ms", &["--record-split", "1s"]);
    let epoch = epoch(folder.path());
    sleep(Duration::from_millis(3200));
    let part = |from: f64, to: f64| format!("recording.wav?from={}&to={}", rfc3339(epoch + from), rfc3339(epoch + to));
    let file = folder.path().join("part.wav");
    let status = Listener::start(&server.url(&part(0.5, 2.25)), &file).wait();
    assert!(status.success());
    let mut reader = hound::WavReader::open(&file).unwrap();
    let samples: Vec<f32> = reader.samples().map(Result::unwrap).collect();
    assert_eq!(samples.len(), 2 * 175 * 480);
    let number = |block: &[f32]| {
        let low = (block[0] * 32_768.0) as i16 as u16;
        u32::from(low) | u32::from((block[1] * 32_768.0) as i16 as u16) << 16
    };
    assert!(samples.chunks(960).map(number).eq(50..225));
    for (query, status, sentence) in [
        (part(0.0, 3600.0), 400, "is in the future"),
        (part(2.0, 1.0), 400, "must be after"),
        (part(-60.0, -50.0), 404, "the recording begins at"),
        ("recording.wav?from=yesterday".to_owned(), 400, "from: `yesterday`"),
        ("recording.wav".to_owned(), 400, "takes from and to"),
    ] {
        let (code, text) = server.ask(&[], &query);
        assert!(code == status && text.contains(sentence), "{query}: {text}");
    }
}

/// Returns the numbers of whole blocks in samples of 16 bits.
fn numbers(samples: &[u8]) -> Received {
    let mut parser = StreamParser::new(Format::Pcm);
    parser.push(samples);
    parser.received
}

#[test]
fn coded_streams_start_at_the_moment_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = recorded(folder.path(), "300ms", &[]);
    let epoch = epoch(folder.path());
    sleep(Duration::from_secs(3));
    let at = rfc3339(epoch + 50.5 * BLOCK_SECONDS);
    let files = ["flac", "opus"].map(|format| (format, folder.path().join(format)));
    let start = Instant::now();
    let listeners =
        files.clone().map(|(format, file)| Listener::start(&server.url(&format!("stream.{format}?at={at}")), &file));
    sleep(Duration::from_secs(4));
    drop(listeners);
    let elapsed = start.elapsed().as_secs_f64();
    let decoded = files.map(|(_, file)| {
        let mut ffmpeg = std::process::Command::new("ffmpeg");
        ffmpeg.args(["-v", "fatal", "-i"]).arg(file).args(["-f", "s16le", "-"]).output().unwrap().stdout
    });
    let received = numbers(&decoded[0][..decoded[0].len() / numbered::BLOCK_BYTES * numbered::BLOCK_BYTES]);
    assert_eq!(received.numbers.first(), Some(&50));
    assert!(received.holes.is_empty() && received.blocks() > 300, "{received:?}");
    for samples in decoded {
        let seconds = samples.len() as f64 / (4.0 * 48_000.0);
        assert!(seconds > 3.0 && seconds < elapsed + 0.5, "{seconds} s of sound in {elapsed} s");
    }
}
