//! HLS of the real server: what ffmpeg hears, what caches are told, and what survives a loss and a restart.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::fmt::Debug;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aircheck_api::{TokenHash, moment, sign_url};
use hound::{SampleFormat, WavSpec, WavWriter};
use serde_json::Value;

use common::{Server, assert_identity, curl, eventually, tone_and_rms};

/// Length of a segment.
const SEGMENT_SECONDS: u64 = 2;

/// A playlist of segments, as a player reads it.
#[derive(Clone, Debug, PartialEq)]
struct Playlist {
    text: String,
    /// The number of its first segment.
    sequence: u64,
    header: String,
    segments: Vec<Segment>,
    is_ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Segment {
    /// When its first sound was captured, in Unix nanoseconds.
    at: u64,
    seconds: f64,
    url: String,
}

impl Segment {
    /// Returns its number in its own name.
    fn number(&self) -> u64 {
        let name = self.url.rsplit('/').next().unwrap();
        name.split_once('.').unwrap().0.parse().unwrap()
    }
}

impl Playlist {
    fn parse(text: &str) -> Self {
        let tag = |name: &str| {
            let mut lines = text.lines();
            lines
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_else(|| panic!("{name}: {text}"))
        };
        assert!(text.starts_with("#EXTM3U\n"), "{text}");
        assert_eq!(tag("#EXT-X-TARGETDURATION"), "2");
        let header = tag("#EXT-X-MAP").strip_prefix("URI=\"").unwrap().trim_end_matches('"').to_owned();
        let mut segments = Vec::new();
        let (mut at, mut seconds) = (None, None);
        for line in text.lines() {
            if let Some(time) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
                at = Some(moment::parse(time).unwrap());
            } else if let Some(length) = line.strip_prefix("#EXTINF:") {
                seconds = Some(length.trim_end_matches(',').parse().unwrap());
            } else if !line.starts_with('#') {
                let (at, seconds) = (at.take().unwrap(), seconds.take().unwrap());
                segments.push(Segment { at, seconds, url: line.to_owned() });
            }
        }
        Self {
            text: text.to_owned(),
            sequence: tag("#EXT-X-MEDIA-SEQUENCE").parse().unwrap(),
            header,
            segments,
            is_ended: text.contains("#EXT-X-ENDLIST"),
        }
    }

    fn of(server: &Server, variant: &str) -> Self {
        Self::parse(&server.text(&format!("hls/{variant}/index.m3u8")))
    }

    /// Waits until the playlist of a variant meets a condition.
    fn when(server: &Server, variant: &str, condition: impl Fn(&Self) -> bool) -> Self {
        eventually("a playlist", || Some(Self::of(server, variant)).filter(&condition))
    }

    fn last(&self) -> &Segment {
        self.segments.last().unwrap()
    }
}

/// Has ffmpeg play so many seconds from the oldest segment of a playlist on, and returns the samples. Fails at any complaint.
fn played(server: &Server, path: &str, seconds: u32, encoding: &str) -> Vec<u8> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "warning", "-nostdin", "-live_start_index", "0", "-i", &server.url(path)]);
    ffmpeg.args(["-t", &seconds.to_string(), "-f", encoding, "-"]);
    let output = ffmpeg.output().unwrap();
    // ffmpeg reads the header again with each version of the playlist, and says so.
    let is_usual = |line: &str| line.contains("Found duplicated MOOV Atom") || line.contains("Last message repeated");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaints.lines().all(is_usual), "{complaints}");
    output.stdout
}

fn integers<const BYTES: usize>(bytes: &[u8], read: impl Fn([u8; BYTES]) -> i32) -> Vec<i32> {
    bytes.as_chunks::<BYTES>().0.iter().map(|bytes| read(*bytes)).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Asserts that `heard` is a part of `source`, which is repeated for ever, and begins at a multiple of `unit`.
fn assert_part<T: PartialEq + Debug>(heard: &[T], source: &[T], unit: usize) {
    let starts = (0..source.len()).step_by(unit);
    let is_heard = |start: &usize| heard.iter().zip(source.iter().cycle().skip(*start)).all(|(a, b)| a == b);
    let found = starts.clone().find(is_heard);
    assert!(found.is_some(), "{} samples are at none of {} places of the source", heard.len(), starts.count());
}

/// Writes ten seconds of noise that never repeats, and returns them as a source.
fn write_noise(path: &Path, spec: WavSpec) -> (String, Vec<i32>) {
    let samples = 10 * spec.sample_rate * u32::from(spec.channels);
    let noise = |n: u32| (u64::from(n) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) as i32;
    let samples: Vec<_> = (0..samples).map(|n| noise(n) >> (32 - spec.bits_per_sample)).collect();
    let mut writer = WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
    (format!("wav:{}", path.display()), samples)
}

#[test]
fn ffmpeg_hears_the_source_bit_for_bit_over_several_segments_of_flac() {
    let directory = tempfile::tempdir().unwrap();
    for (name, channels, sample_rate, bits_per_sample, block) in
        [("a.wav", 2, 48_000, 16, "10ms"), ("b.wav", 1, 44_100, 24, "7ms")]
    {
        let spec = WavSpec { channels, sample_rate, bits_per_sample, sample_format: SampleFormat::Int };
        let (source, samples) = write_noise(&directory.path().join(name), spec);
        let server = Server::start(&["--source", &source, "--loop", "--block", block]);
        let (seconds, unit) = (7, usize::from(channels));
        let heard = if bits_per_sample == 16 {
            integers(&played(&server, "mounts/main/hls/flac/index.m3u8", seconds, "s16le"), |it| {
                i16::from_le_bytes(it).into()
            })
        } else {
            let bytes = played(&server, "mounts/main/hls/flac/index.m3u8", seconds, "s32le");
            integers(&bytes, |it| i32::from_le_bytes(it) >> 8)
        };
        assert_eq!(heard.len(), seconds as usize * sample_rate as usize * unit, "over three segments and a half");
        assert_part(&heard, &samples, unit);
    }
}

#[test]
fn ffmpeg_hears_opus_at_the_right_pitch_and_length() {
    for (source, rate) in [("tone:440", 48_000), ("wav:44100", 44_100)] {
        let directory = tempfile::tempdir().unwrap();
        let source = if source == "tone:440" {
            source.to_owned()
        } else {
            let tone =
                |n: u32| (8000.0 * (std::f64::consts::TAU * 440.0 * f64::from(n) / f64::from(rate)).sin()) as i16;
            let path = directory.path().join("tone.wav");
            common::write_wav_at(rate, &path, 2, (0..rate * 10).flat_map(|n| [tone(n); 2]))
        };
        let looped: &[_] = if source.starts_with("wav:") { &["--loop"] } else { &[] };
        let server = Server::start(&[&["--source", &source], looped].concat());
        let heard = floats(&played(&server, "hls/opus/index.m3u8", 6, "f32le"));
        let channels = if rate == 48_000 { 1 } else { 2 };
        let frames = heard.len() / channels;
        // All but the delay of the encoder, which the decoder cuts off at the beginning.
        assert!((6 * 48_000 - 1000..=6 * 48_000).contains(&frames), "{frames} frames");
        for second in heard.chunks_exact(48_000 * channels).skip(1) {
            let one: Vec<_> = second.iter().step_by(channels).copied().collect();
            let (hz, rms) = tone_and_rms(&one, 48_000, &[415.3, 430.0, 440.0, 450.0, 466.2]);
            assert!((hz - 440.0).abs() < f64::EPSILON && rms > 0.1, "{hz} Hz, {rms}");
        }
    }
}

#[test]
fn the_playlist_of_variants_leads_to_both_and_promises_no_less_than_they_take() {
    let directory = tempfile::tempdir().unwrap();
    let spec = WavSpec { channels: 2, sample_rate: 48_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
    // Noise of full scale, which nothing compresses.
    let (source, _) = write_noise(&directory.path().join("noise.wav"), spec);
    let server = Server::start(&["--source", &source, "--loop"]);
    let text = server.text("mounts/main/hls/index.m3u8");
    let lines: Vec<_> = text.lines().collect();
    let mut variants = Vec::new();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("#EXT-X-STREAM-INF:")) {
        let bandwidth = pair[0].split_once("BANDWIDTH=").unwrap().1.split(',').next().unwrap();
        variants.push((pair[1], bandwidth.parse::<f64>().unwrap()));
        let variant = pair[1].split('/').next().unwrap();
        let playlist = Playlist::when(&server, variant, |it| it.segments.len() >= 2);
        for segment in &playlist.segments {
            let url = server.url(&format!("hls/{variant}/{}", segment.url));
            let bytes = curl(&["--fail", &url]).output().unwrap().stdout.len();
            let bits = bytes as f64 * 8.0 / segment.seconds;
            assert!(bits <= variants.last().unwrap().1, "{variant}: {bits} bit/s, and promised are {bandwidth}");
        }
    }
    let paths: Vec<_> = variants.iter().map(|(path, _)| *path).collect();
    assert_eq!(paths, ["opus/index.m3u8", "flac/index.m3u8"], "{text}");
    assert!(text.contains(r#"CODECS="Opus""#) && text.contains(r#"CODECS="fLaC""#), "{text}");
}

#[test]
fn a_mount_has_the_variants_that_can_carry_its_sound() {
    let directory = tempfile::tempdir().unwrap();
    let source = common::write_wav(&directory.path().join("six.wav"), 6, (0..48_000 * 6).map(|_| 0));
    let server = Server::start(&["--source", &source, "--loop"]);
    let text = server.text("hls/index.m3u8");
    assert!(text.contains("flac/") && !text.contains("opus/"), "{text}");
    let (status, answer) = server.ask(&[], "hls/opus/index.m3u8");
    assert_eq!(status, 404, "{answer}");
    assert!(answer.contains("Opus") && answer.contains("2 channels"), "{answer}");
}

#[test]
fn times_are_those_of_the_capture_and_lengths_those_of_the_sound() {
    let server = Server::start(&["--source", "tone:440"]);
    let captured_at = |sequence: u64| {
        let command = format!("curl -sN '{}' | head -n 1", server.url(&format!("stream.json?from={sequence}")));
        let line = Command::new("sh").args(["-c", &command]).output().unwrap().stdout;
        let block: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(block["sequence"], sequence, "{block}");
        block["captured_at"].as_f64().unwrap() * 1e9
    };
    for (variant, delay_ms) in [("flac", 0.0), ("opus", 2.5)] {
        let playlist = Playlist::when(&server, variant, |it| it.segments.len() >= 3);
        let last = playlist.last();
        let error_ms = last.at as f64 / 1e6 + delay_ms - captured_at(last.number() * SEGMENT_SECONDS * 100) / 1e6;
        // A playlist has milliseconds.
        assert!(error_ms.abs() <= 1.0, "{variant}: {error_ms} ms");
        let numbers: Vec<_> = playlist.segments.iter().map(Segment::number).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        assert!(playlist.segments.iter().all(|segment| (segment.seconds - 2.0).abs() < 1e-9), "{}", playlist.text);
    }
}

#[test]
fn sound_that_the_source_lost_is_silence_and_the_timeline_stays_true() {
    // A tone for six seconds, a pause, and the tone again.
    let (reader, mut pipe) = std::io::pipe().unwrap();
    let server = Server::start_with(&["--source", "stdin", "--channels", "1"], |command| command.stdin(reader));
    let mut frame = 0_u64;
    let mut write = move |seconds: u64| {
        for _ in 0..seconds * 100 {
            let tone = |n: u64| (8000.0 * (std::f64::consts::TAU * 440.0 * n as f64 / 48_000.0).sin()) as i16;
            let block: Vec<_> = (frame..frame + 480).flat_map(|n| tone(n).to_le_bytes()).collect();
            frame += 480;
            pipe.write_all(&block)?;
            std::thread::sleep(Duration::from_millis(10));
        }
        std::io::Result::Ok(())
    };
    let lost_source = |status: &Value| status["capture"]["lost_source"].as_u64().unwrap();
    let lost = |status: &Value| status["hls"][1]["lost"].as_u64().unwrap();
    write(3).unwrap();
    Playlist::of(&server, "flac");
    // A machine that lets this write nothing for a while loses sound, of which the segments may lack what was before them.
    let lost_before = lost_source(&server.json("api/v1/status"));
    write(3).unwrap();
    // Nothing comes.
    eventually("a loss of two seconds", || (lost(&server.json("api/v1/status")) > 200).then_some(()));
    write(4).unwrap();
    // It goes on until the server ends, because what is lost while this looks would be in one of the accounts first.
    std::thread::spawn(move || while write(1).is_ok() {});
    let after = Playlist::of(&server, "flac");
    eventually("the same loss in the account of the segments", || {
        let status = server.json("api/v1/status");
        status["hls"].as_array().unwrap().iter().for_each(assert_identity);
        let lost_source = lost_source(&status);
        (lost_source - lost_before..=lost_source).contains(&lost(&status)).then_some(())
    });
    let numbers: Vec<_> = after.segments.iter().map(Segment::number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(after.segments.iter().all(|segment| (segment.seconds - 2.0).abs() < 1e-9), "{}", after.text);
    // What is heard has as much silence as was lost.
    let bytes = played(&server, "hls/flac/index.m3u8", after.segments.len() as u32 * 2 - 2, "s16le");
    let samples = integers(&bytes, |it| i16::from_le_bytes(it).into());
    let loud = samples.chunks(480).map(|block| block.iter().any(|sample| sample.abs() > 4000)).collect::<Vec<_>>();
    let silent = loud.iter().filter(|loud| !**loud).count();
    assert!(silent > 150 && loud.iter().any(|loud| *loud), "{silent} silent blocks of {}", loud.len());
}

#[test]
fn numbers_and_names_survive_a_restart() {
    let start = || Server::start(&["--source", "tone:440"]);
    let mut server = start();
    let before = Playlist::when(&server, "opus", |it| it.segments.len() >= 2);
    server.terminate();
    assert!(server.wait().success());
    drop(server);
    let server = start();
    let after = Playlist::when(&server, "opus", |it| !it.segments.is_empty());
    let end = before.sequence + before.segments.len() as u64;
    assert!(after.sequence >= end, "{} after {end}", after.sequence);
    assert_ne!(after.header, before.header);
    for old in [&before.header, &before.last().url] {
        assert!(!after.text.contains(old.as_str()), "a cache may still have {old}");
        let (status, answer) = server.ask(&[], &format!("hls/opus/{old}"));
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(status == 404 && body.contains("began anew") && body.lines().count() == 1, "{answer}");
    }
}

#[test]
fn segments_are_made_while_somebody_asks() {
    let server = Server::start(&["--source", "tone:440"]);
    let running = || server.json("api/v1/status")["encoders"].as_u64().unwrap();
    let account = || server.json("api/v1/status")["hls"][0].clone();
    server.text("hls/index.m3u8");
    assert_eq!((running(), &account()["is_running"]), (0, &Value::from(false)), "the playlist of variants starts none");
    let first = Playlist::when(&server, "opus", |it| it.segments.len() >= 2);
    assert_eq!((running(), &account()["is_running"]), (1, &Value::from(true)));
    // The stream of a listener has the same encoder.
    let listener = common::Listener::of(curl(&[&server.url("stream.opus?name=shared")]).stdout(Stdio::null()));
    server.row_when("shared", |row| row["delivered"].as_u64() > Some(10));
    assert_eq!(running(), 1, "they share it");
    drop(listener);
    eventually("the end of the encoder", || (running() == 0).then_some(()));
    let ended = account();
    assert_eq!(ended["is_running"], false);
    assert_identity(&ended);
    assert_eq!(ended["queued"], 0, "{ended}");
    let (status, answer) = server.ask(&[], &format!("hls/opus/{}", first.last().url));
    assert!(status == 404 && answer.contains("is not kept any more"), "{answer}");
    // It begins again, and makes no segment twice.
    let again = Playlist::of(&server, "opus");
    assert!(again.segments[0].number() > first.last().number(), "{}", again.text);
    assert_eq!(again.sequence - first.sequence, again.segments[0].number() - first.segments[0].number());
}

#[test]
fn the_first_player_need_not_wait_where_there_is_a_history() {
    let server = Server::start(&["--source", "tone:440", "--history", "10s"]);
    let head = || server.json("api/v1/status")["head_sequence"].as_u64();
    eventually("a whole history", || (head() >= Some(1100)).then_some(()));
    for variant in ["opus", "flac"] {
        let playlist = Playlist::of(&server, variant);
        assert!(playlist.segments.len() >= 4, "{}", playlist.text);
    }
}

#[test]
fn answers_say_how_long_a_cache_may_keep_them() {
    let server = Server::start(&["--source", "tone:440", "--allow-origin", "https://radio.example"]);
    let playlist = Playlist::when(&server, "opus", |it| it.segments.len() >= 2);
    let segment = format!("hls/opus/{}", playlist.last().url);
    let header = format!("hls/opus/{}", playlist.header);
    for (path, cache, content_type) in [
        ("hls/index.m3u8", "public, max-age=60", "application/vnd.apple.mpegurl"),
        ("mounts/main/hls/opus/index.m3u8", "public, max-age=1", "application/vnd.apple.mpegurl"),
        (&header, "public, max-age=60, immutable", "audio/mp4"),
        (&segment, "public, max-age=60, immutable", "audio/mp4"),
    ] {
        let (status, got) = server.ask(&[], path);
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        assert_eq!(status, 200, "{path}: {head}");
        assert_eq!(field("cache-control").as_deref(), Some(cache), "{path}");
        assert_eq!(field("content-type").as_deref(), Some(content_type), "{path}");
        assert_eq!(field("x-accel-buffering"), None, "{path}: nginx would keep nothing");
        assert_eq!(field("vary").as_deref(), Some("origin"), "{path}: one site's answer is not another's");
        assert!(!body.is_empty());

        let (status, of_head) = server.ask(&["--head"], path);
        let length = format!("content-length: {}\r\n", field("content-length").unwrap());
        assert!(status == 200 && of_head.to_lowercase().contains(&length), "{path}: {of_head}");

        // A playlist may have changed since.
        if path != "mounts/main/hls/opus/index.m3u8" {
            let etag = field("etag").unwrap();
            let (status, known) = server.ask(&["--header", &format!("If-None-Match: {etag}")], path);
            assert_eq!(status, 304, "{path}: {known}");
            assert!(known.to_lowercase().contains(&format!("cache-control: {cache}\r\n")), "{known}");
            assert!(known.ends_with("\r\n\r\n"), "{known}");
        }
        let (status, changed) = server.ask(&["--header", "If-None-Match: \"another\""], path);
        assert_eq!(status, 200, "{path}: {changed}");
    }
    let (status, answer) = server.ask(&["--header", "Origin: https://radio.example"], &segment);
    assert!(status == 200 && answer.contains("access-control-allow-origin: https://radio.example"), "{status}");
    assert_eq!(server.ask(&["--header", "Origin: https://other.example"], &segment).0, 403);
}

#[test]
fn a_wrong_request_gets_one_line_that_no_cache_keeps() {
    let server = Server::start(&["--source", "tone:440"]);
    let playlist = Playlist::when(&server, "opus", |it| !it.segments.is_empty());
    let epoch = playlist.header.split('/').next().unwrap();
    for (path, status, sentence) in [
        (format!("hls/opus/{epoch}/999999.m4s"), 404, "segment 999999 is not made yet"),
        ("hls/opus/1/1.m4s".to_owned(), 404, "epoch 1 is not that of this stream"),
        ("hls/opus/1/header.mp4".to_owned(), 404, "began anew"),
        (format!("hls/opus/{epoch}/01.m4s"), 404, "nothing is at this path"),
        (format!("hls/mp3/{epoch}/1.m4s"), 404, "nothing is at this path"),
        ("hls/".to_owned(), 404, "nothing is at this path"),
        ("hls/opus/%2e%2e/index.m3u8".to_owned(), 404, "nothing is at this path"),
        ("mounts/attic/hls/index.m3u8".to_owned(), 404, "there is no mount `attic`"),
        ("hls/opus/index.m3u8?bitrate=48k".to_owned(), 400, "`bitrate` is not a parameter of HLS"),
    ] {
        let (code, answer) = server.ask(&["--path-as-is"], &path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(code, status, "{path}: {answer}");
        assert!(body.contains(sentence) && body.lines().count() == 1, "{path}: {body}");
        assert!(head.to_lowercase().contains("cache-control: no-store"), "{path}: {head}");
    }
    assert_eq!(server.ask(&["--request", "POST"], "hls/index.m3u8").0, 405);
    assert_eq!(server.ask(&[], "hls/opus/index.m3u8?_HLS_msn=7&_=1").0, 200, "what players add means nothing here");
}

#[test]
fn a_playlist_hands_its_right_on_to_what_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("aircheck.toml");
    let hash = TokenHash::of("ac_hall");
    let text = format!(
        "[[mount]]\nname = 'hall'\nsource = 'tone:440'\n[[mount]]\nname = 'studio'\nsource = 'tone:880'\n\
         [[token]]\nname = 'hall'\nhash = '{hash}'\nscopes = ['listen:hall']\n"
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap()]);
    let token = ["--header", "Authorization: Bearer ac_hall"];
    for (name, status) in [("studio", 403), ("attic", 403)] {
        assert_eq!(server.ask(&token, &format!("mounts/{name}/hls/index.m3u8")).0, status, "which mounts there are");
    }
    assert_eq!(server.ask(&[], "mounts/hall/hls/index.m3u8").0, 401);

    // By a token in a header, which no cache may answer for.
    let (status, master) = server.ask(&token, "mounts/hall/hls/index.m3u8");
    assert_eq!(status, 200, "{master}");
    assert!(master.to_lowercase().contains("cache-control: private, max-age="), "{master}");
    let media = master.lines().find(|line| line.starts_with("opus/index.m3u8?expires=")).unwrap().to_owned();

    // By the signed URLs alone from there on, which a player and a cache take as they are.
    let folder = "mounts/hall/hls";
    let (status, answer) = server.ask(&[], &format!("{folder}/{media}"));
    assert_eq!(status, 200, "{answer}");
    assert!(answer.to_lowercase().contains("cache-control: public, max-age=1\r\n"), "{answer}");
    let playlist = Playlist::parse(answer.split_once("\r\n\r\n").unwrap().1);
    let again = Playlist::parse(server.ask(&[], &format!("{folder}/{media}")).1.split_once("\r\n\r\n").unwrap().1);
    assert_eq!(playlist.header, again.header, "a URL stays the same, or a cache would have it twice");
    for path in [&playlist.header, &playlist.last().url] {
        let (status, head) = server.ask(&["--head"], &format!("{folder}/opus/{path}"));
        assert!(status == 200 && head.contains("public, max-age=60, immutable"), "{path}: {head}");
        let unsigned = path.split('?').next().unwrap();
        assert_eq!(server.ask(&[], &format!("{folder}/opus/{unsigned}")).0, 401, "{path}");
        let of_other = path.replace("opus/", "flac/");
        assert_eq!(server.ask(&[], &format!("{folder}/flac/{of_other}")).0, 403, "it opens nothing else");
    }
    let heard = played(&server, &format!("{folder}/{media}"), 3, "f32le");
    assert!(heard.len() > 2 * 48_000 * 4, "{} bytes", heard.len());

    // A URL that expires soon is kept no longer than that, and so are those in it.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let soon = sign_url(&hash, &format!("/{folder}/index.m3u8"), "", now + 30);
    let (status, answer) = server.ask(&[], &soon);
    assert_eq!(status, 200, "{answer}");
    let (_, age) = answer.split_once("max-age=").unwrap();
    let age: u64 = age.split("\r\n").next().unwrap().parse().unwrap();
    assert!(age <= 30, "{answer}");
    assert!(answer.contains(&format!("opus/index.m3u8?expires={}", now + 30)), "{answer}");
}

#[test]
fn a_stream_that_ends_ends_its_playlist() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("short.wav");
    common::write_wav(&path, 1, (0..48_000 * 5).map(|n| if n % 100 < 50 { 8000 } else { -8000 }));
    let config = directory.path().join("aircheck.toml");
    let text = format!(
        "[[mount]]\nname = 'short'\nsource = 'wav:{}'\n[[mount]]\nname = 'on'\nsource = 'tone:440'\n",
        path.display()
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap()]);
    // Before the end.
    ["flac", "opus"].iter().for_each(|variant| drop(Playlist::of(&server, variant)));
    for (variant, seconds) in [("flac", 5.0), ("opus", 5.0025)] {
        let playlist = Playlist::when(&server, variant, |it| it.is_ended);
        let length: f64 = playlist.segments.iter().map(|segment| segment.seconds).sum();
        assert!((length - seconds).abs() < 1e-5, "{variant}: {length} s, {}", playlist.text);
        // All that there was, to the end. ffmpeg plays the last packet of Opus as a whole, and drops the encoder's delay.
        let heard = played(&server, &format!("hls/{variant}/index.m3u8"), 60, "f32le");
        let (frames, whole) = (heard.len() / 4, if variant == "opus" { 960 } else { 0 });
        assert!((48_000 * 5..=48_000 * 5 + whole).contains(&frames), "{variant}: {frames} frames");
    }
}
