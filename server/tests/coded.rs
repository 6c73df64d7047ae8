//! `/stream.flac` and `/stream.opus` of the real server, decoded by ffmpeg.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Listener, Server, assert_identity, eventually, signal, tone_and_rms};
use hound::{SampleFormat, WavSpec, WavWriter};

/// Writes a file of integers and returns it as a source.
fn wav(path: &Path, spec: WavSpec, samples: &[i32]) -> String {
    let mut writer = WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
    format!("wav:{}", path.display())
}

fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16) -> WavSpec {
    WavSpec { channels, sample_rate, bits_per_sample, sample_format: SampleFormat::Int }
}

/// `frames` frames of a tone at half of full scale, all channels alike.
fn tone(spec: WavSpec, hz: f64, frames: u32) -> Vec<i32> {
    let full = f64::from(1_i32 << (spec.bits_per_sample - 1));
    let sample = |n: u32| (std::f64::consts::TAU * hz * f64::from(n) / f64::from(spec.sample_rate)).sin() / 2.0;
    (0..frames).flat_map(|n| vec![(sample(n) * full) as i32; usize::from(spec.channels)]).collect()
}

/// The samples that ffmpeg decodes from a file, and what it complains about.
fn decoded(file: &Path, encoding: &str) -> (Vec<u8>, String) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-nostdin", "-i"]).arg(file).args(["-f", encoding, "-"]);
    let output = command.output().unwrap();
    (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the file of a listener that received all of `source`.
fn all_of(source: &str, path: &str, directory: &Path) -> PathBuf {
    let file = directory.join("heard");
    let mut server = Server::start(&["--source", source]);
    let mut listener = Listener::start(&server.url(path), &file);
    assert!(listener.wait().success(), "the stream ends in its proper way");
    assert!(server.wait().success());
    file
}

fn flac_is_the_file(spec: WavSpec, path: &str) {
    let directory = tempfile::tempdir().unwrap();
    // Not a whole number of blocks. Noise in the upper bits and in the lower ones, and a tone between.
    let frames = spec.sample_rate + 123;
    let mut samples = tone(spec, 440.0, frames);
    for (n, sample) in samples.iter_mut().enumerate() {
        let noise = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as i32 >> (32 - spec.bits_per_sample);
        *sample = if n % 3000 < 1000 { noise } else { *sample };
    }
    let source = wav(&directory.path().join("in.wav"), spec, &samples);
    let file = all_of(&source, path, directory.path());
    let (heard, complaints) = decoded(&file, "s32le");
    assert_eq!(complaints, "");
    let heard: Vec<i32> = heard.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
    let expected: Vec<i32> = samples.iter().map(|sample| sample << (32 - spec.bits_per_sample)).collect();
    assert_eq!(heard.len(), expected.len());
    assert!(heard == expected, "same length, other samples");
}

#[test]
fn flac_of_a_16_bit_file_decodes_to_the_file() {
    flac_is_the_file(spec(2, 44_100, 16), "stream.flac?from=0");
}

#[test]
fn flac_of_a_24_bit_file_has_24_bits() {
    flac_is_the_file(spec(3, 48_000, 24), "stream.flac?from=0");
}

/// Delay of `heard` against the tone in `source`, in frames: where they agree best, within a period.
fn best_shift(heard: &[f32], hz: f64) -> f64 {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (n, sample) in heard.iter().enumerate() {
        let phase = std::f64::consts::TAU * hz * n as f64 / 48_000.0;
        sine += f64::from(*sample) * phase.sin();
        cosine += f64::from(*sample) * phase.cos();
    }
    -cosine.atan2(sine) / (std::f64::consts::TAU * hz) * 48_000.0
}

#[test]
fn opus_keeps_pitch_level_timing_and_length_of_the_file() {
    // At Opus's own rate, and resampled; with a last block that is short, and with one that is not.
    for (rate_hz, frames) in [(48_000, 96_123), (48_000, 96_000), (44_100, 88_200), (11_025, 22_100)] {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec(2, rate_hz, 16);
        let source = wav(&directory.path().join("in.wav"), spec, &tone(spec, 1000.0, frames));
        let file = all_of(&source, "stream.opus?from=0", directory.path());
        let (heard, complaints) = decoded(&file, "f32le");
        assert_eq!(complaints, "", "{rate_hz}");
        let samples: Vec<f32> = heard.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let left: Vec<f32> = samples.iter().step_by(2).copied().collect();
        let expected = (f64::from(frames) * 48_000.0 / f64::from(rate_hz)).round() as i64;
        assert!((left.len() as i64 - expected).abs() <= 1, "{rate_hz}: {} frames, not {expected}", left.len());
        // A whole number of periods, away from both ends.
        let middle = &left[24_000..72_000];
        let (hz, rms) = tone_and_rms(middle, 48_000, &[500.0, 990.0, 1000.0, 1010.0, 2000.0]);
        assert_eq!(hz, 1000.0);
        assert!((rms - 0.5 / f64::sqrt(2.0)).abs() < 0.02, "{rate_hz}: {rms}");
        let shift = best_shift(middle, 1000.0);
        assert!(shift.abs() < 1.5, "{rate_hz}: {shift} frames late");
    }
}

/// The granule position and the flags of each page of an Ogg file (RFC 3533, section 6).
fn pages(file: &[u8]) -> Vec<(u64, u8)> {
    let mut pages = Vec::new();
    let mut rest = file;
    while let Some((head, _)) = rest.split_at_checked(27) {
        assert_eq!(&head[..4], b"OggS");
        let segments = usize::from(head[26]);
        let Some(lengths) = rest.get(27..27 + segments) else { break };
        let length = 27 + segments + lengths.iter().map(|length| usize::from(*length)).sum::<usize>();
        let Some(after) = rest.get(length..) else { break };
        pages.push((u64::from_le_bytes(head[6..14].try_into().unwrap()), head[5]));
        rest = after;
    }
    pages
}

#[test]
fn opus_has_a_last_page_when_the_server_ends() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heard.opus");
    let mut server = Server::start(&["--source", "tone:440"]);
    let mut listener = Listener::start(&server.url("stream.opus?name=one"), &file);
    server.row_when("one", |row| row["delivered"].as_u64().unwrap() > 20);
    server.terminate();
    assert!(listener.wait().success());
    assert!(server.wait().success());
    let pages = pages(&std::fs::read(&file).unwrap());
    let last = pages.iter().map(|(_, flags)| flags & 4 != 0).collect::<Vec<_>>();
    assert_eq!(
        last.iter().position(|last| *last),
        Some(pages.len() - 1),
        "the last page, and no other, is marked as the last"
    );
    assert_eq!(decoded(&file, "f32le").1, "");
}

#[test]
fn granule_positions_jump_over_lost_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heard.opus");
    let mut server = Server::start(&["--source", "tone:440", "--buffer", "200ms", "--socket-buffer", "20ms"]);
    // Kernels hold seconds of Opus, so the ring is full only after seconds.
    let mut listener = Listener::start(&server.url("stream.opus?name=one&bitrate=510000&gather=0ms"), &file);
    let delivered = |row: &serde_json::Value| row["delivered"].as_u64().unwrap();
    server.row_when("one", |row| delivered(row) > 10);
    signal(listener.pid(), "STOP");
    let lost = server.row_when("one", |row| row["lost"].as_u64().unwrap() > 50);
    signal(listener.pid(), "CONT");
    let row = server.row_when("one", |row| delivered(row) > delivered(&lost) + 50);
    assert_identity(&row);
    server.terminate();
    assert!(listener.wait().success() && server.wait().success());

    let pages = pages(&std::fs::read(&file).unwrap());
    // Two pages of headers, one for each block of 10 ms, and the last one.
    let blocks: Vec<u64> = pages[2..].iter().map(|(granule, _)| *granule).collect();
    let mut steps: Vec<u64> = blocks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The last one ends with the sound: an incomplete block and the rest in the encoder.
    steps.pop();
    let jumps: Vec<u64> = steps.iter().copied().filter(|step| *step > 480).collect();
    let missing: u64 = jumps.iter().map(|jump| jump / 480 - 1).sum();
    assert!(steps.iter().all(|step| step % 480 == 0), "{steps:?}");
    assert_eq!([Some(jumps.len() as u64), Some(missing)], [row["gaps"].as_u64(), row["lost"].as_u64()], "{jumps:?}");
}

#[test]
fn a_packet_of_several_blocks_counts_all_of_them_as_delivered() {
    let directory = tempfile::tempdir().unwrap();
    // Packets have 20 ms, and pages five of them.
    let server = Server::start(&["--source", "tone:440", "--block", "1ms"]);
    let _listener = Listener::start(&server.url("stream.opus?name=one"), &directory.path().join("heard"));
    let row = server.row_when("one", |row| row["offered"].as_u64().unwrap() > 2000);
    assert_identity(&row);
    assert!(row["delivered"].as_u64().unwrap() > 1500, "{row}");
}

/// Returns the number of running encoders, which are threads of that name.
fn encoders(server: &Server) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "encoder").count()
}

#[test]
fn listeners_share_one_encoder_which_ends_with_the_last_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    assert_eq!(encoders(&server), 0);
    let listen = |n: usize| {
        let path = format!("stream.opus?name=l{n}");
        Listener::start(&server.url(&path), &directory.path().join(n.to_string()))
    };
    let listeners: Vec<_> = (0..20).map(listen).collect();
    let all = || (server.rows().len() == 20).then_some(());
    eventually("all listeners", all);
    for n in 0..20 {
        server.row_when(&format!("l{n}"), |row| row["delivered"].as_u64().unwrap() > 10);
    }
    assert_eq!(encoders(&server), 1);
    drop(listeners);
    eventually("the encoder's end", || (encoders(&server) == 0).then_some(()));
}

#[test]
fn odd_bitrates_keep_no_listener_from_opus() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let listen = |name: &str, query: &str| {
        Listener::start(&server.url(&format!("stream.opus?name={name}{query}")), &directory.path().join(name))
    };
    let _odd: Vec<_> = (0..20).map(|n| listen(&format!("l{n}"), &format!("&bitrate={}", 31_990 + n))).collect();
    eventually("all of them", || (server.rows().len() == 20).then_some(()));
    let _others = [listen("default", ""), listen("low", "&bitrate=6k"), listen("high", "&bitrate=510k")];
    for name in ["l0", "l19", "default", "low", "high"] {
        server.row_when(name, |row| row["delivered"].as_u64().unwrap() > 0);
    }
    assert_eq!(encoders(&server), 4, "all odd bitrates are nearest to 32000");
}

#[test]
fn a_response_says_at_which_bitrate_it_is() {
    let server = Server::start(&["--source", "tone:440"]);
    for (path, bitrate) in [
        ("stream.opus", Some("96000")),
        ("stream.opus?bitrate=64k", Some("64000")),
        ("stream.opus?bitrate=100000", Some("96000")),
        ("stream.flac", None),
    ] {
        let (status, response) = server.ask(&["--head"], path);
        let told = response
            .to_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("x-audio-bitrate:").map(|bitrate| bitrate.trim().to_owned()));
        assert_eq!((status, told.as_deref()), (200, bitrate), "{path}: {response}");
    }
}

#[test]
fn more_channels_than_a_codec_has_are_refused_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let six = spec(6, 48_000, 16);
    let source = wav(&directory.path().join("six.wav"), six, &tone(six, 440.0, 48_000));
    let server = Server::start(&["--source", &source, "--loop"]);
    let (status, response) = server.ask(&[], "stream.opus");
    assert_eq!(status, 400, "{response}");
    assert!(response.contains("1 or 2 channels") && response.contains("FLAC"), "{response}");

    let nine = spec(9, 48_000, 16);
    let source = wav(&directory.path().join("nine.wav"), nine, &tone(nine, 440.0, 48_000));
    let server = Server::start(&["--source", &source, "--loop"]);
    let (status, response) = server.ask(&[], "stream.flac");
    assert_eq!(status, 400, "{response}");
    assert!(response.contains("8 channels"), "{response}");
}
