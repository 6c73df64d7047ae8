//! What players need besides the sound: MP3 with its metadata, playlists, ranges, times that begin at zero.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/http_client.rs"]
mod http_client;
#[path = "common/truth.rs"]
mod truth;

use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Listener, Server, eventually, tone_and_rms, write_wav};
use http_client::{Response, read_to_end, send};

/// Bytes of sound between two blocks of metadata.
const INTERVAL: usize = 16_000;

/// A tone of a second at half of full scale, in two channels, as a source that is repeated.
fn tone(directory: &Path) -> String {
    let sample = |n: u32| ((std::f64::consts::TAU * 1000.0 * f64::from(n) / 48_000.0).sin() * 16_384.0) as i16;
    write_wav(&directory.join("tone.wav"), 2, (0..48_000).flat_map(|n| [sample(n); 2]))
}

/// Returns the left channel that ffmpeg decodes from a file of MP3, and what it complains about, but for its guess at the length.
fn decoded(file: &Path) -> (Vec<f32>, Vec<String>) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-nostdin", "-f", "mp3", "-i"]).arg(file).args(["-f", "f32le", "-"]);
    let output = command.output().unwrap();
    let samples = output.stdout.as_chunks().0.iter().step_by(2).map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let complaints = String::from_utf8(output.stderr).unwrap();
    (samples, complaints.lines().filter(|line| !line.contains("Estimating duration")).map(str::to_owned).collect())
}

/// Removes the blocks of metadata, and returns the sound and their texts.
fn without_metadata(stream: &[u8]) -> (Vec<u8>, Vec<String>) {
    let (mut sound, mut texts, mut rest) = (Vec::new(), Vec::new(), stream);
    while let Some((piece, after)) = rest.split_at_checked(INTERVAL)
        && let Some((length, after)) = after.split_first()
        && let Some((text, after)) = after.split_at_checked(usize::from(*length) * 16)
    {
        sound.extend_from_slice(piece);
        texts.push(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        rest = after;
    }
    sound.extend_from_slice(rest);
    (sound, texts)
}

#[test]
fn mp3_keeps_pitch_and_level_of_the_file_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heard.mp3");
    let mut server = Server::start(&["--source", &tone(directory.path())]);
    let mut listener = Listener::start(&server.url("stream.mp3?from=0"), &file);
    assert!(listener.wait().success(), "the stream ends in its proper way");
    assert!(server.wait().success());
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes[..2], [0xFF, 0xFB], "it begins with a frame");
    let (samples, complaints) = decoded(&file);
    assert!(complaints.is_empty(), "{complaints:?}");
    // A second, and what LAME adds before and after it: some frames of 1152 samples.
    assert!((48_000..48_000 + 5 * 1152).contains(&samples.len()), "{} samples", samples.len());
    let (hz, rms) = tone_and_rms(&samples[9600..38_400], 48_000, &[500.0, 990.0, 1000.0, 1010.0, 2000.0]);
    assert_eq!(hz, 1000.0);
    let expected = 0.5 / f64::sqrt(2.0);
    // LAME by itself makes it quieter by 5 % at this bitrate.
    assert!((rms / expected - 1.0).abs() < 0.01, "{rms}");
}

#[test]
fn mp3_has_the_rate_and_the_level_of_the_source_at_every_bitrate() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", &tone(directory.path()), "--loop"]);
    for kilobits in [32, 64, 160, 192, 224, 256, 320] {
        let file = directory.path().join(kilobits.to_string());
        let listener = Listener::start(&server.url(&format!("stream.mp3?burst=1s&bitrate={kilobits}k")), &file);
        common::eventually("a second and more of sound", || {
            let bytes = std::fs::metadata(&file).map_or(0, |file| file.len());
            (bytes > kilobits * 1500 / 8).then_some(())
        });
        drop(listener);
        let (samples, _) = decoded(&file);
        let (hz, rms) = tone_and_rms(&samples[9600..38_400], 48_000, &[500.0, 1000.0, 2000.0, 3000.0]);
        assert_eq!(hz, 1000.0, "at {kilobits} kbit/s");
        let off = rms / (0.5 / f64::sqrt(2.0)) - 1.0;
        assert!(off.abs() < 0.01, "at {kilobits} kbit/s its level is off by {:.1} %", 100.0 * off);
    }
}

#[test]
fn a_player_gets_metadata_between_the_bytes_of_mp3_if_it_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["--source", &tone(directory.path()), "--loop"]);
    let [with, without] = ["with", "without"].map(|name| directory.path().join(name));
    let mut listeners = [("1", &with), ("0", &without)].map(|(wants, file)| {
        let name = file.file_name().unwrap().to_str().unwrap();
        let url = server.url(&format!("stream.mp3?bitrate=320k&name={name}"));
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--header", &format!("Icy-MetaData: {wants}"), "--output"]).arg(file).arg(url);
        Listener::of(&mut curl)
    });
    server.row_when("with", |row| row["delivered"].as_u64().unwrap() > 150);
    let row = server.row_when("without", |row| row["delivered"].as_u64().unwrap() > 150);
    assert_eq!((&row["format"], &row["lost"]), (&"mp3".into(), &0.into()));
    server.terminate();
    listeners.iter_mut().for_each(|listener| assert!(listener.wait().success()));
    assert!(server.wait().success());
    let (sound, texts) = without_metadata(&std::fs::read(&with).unwrap());
    assert!(texts.len() >= 3, "{texts:?}");
    assert_eq!(texts[0], format!("StreamTitle='aircheck at {}';", server.address));
    assert!(texts[1..].iter().all(String::is_empty), "only a change is told: {texts:?}");
    std::fs::write(&with, sound).unwrap();
    for file in [with, without] {
        let (samples, complaints) = decoded(&file);
        // The first frames of a stream that is joined may need bytes of frames before them.
        let unexpected = complaints.into_iter().find(|line| !line.contains("invalid new backstep"));
        assert_eq!(unexpected, None, "{file:?}");
        assert!(samples.len() > 48_000, "{file:?}");
    }
}

#[test]
fn a_response_of_mp3_says_what_it_is() {
    let server = Server::start(&["--source", "tone:440"]);
    let head = |arguments: &[&str], path: &str| {
        let (status, response) = server.ask(&[&["--head"], arguments].concat(), path);
        assert_eq!(status, 200, "{response}");
        response.to_lowercase()
    };
    let plain = head(&[], "stream.mp3");
    for line in ["content-type: audio/mpeg\r", "x-audio-bitrate: 128000\r", "x-audio-gather: 100ms\r"] {
        assert!(plain.contains(line), "{line}: {plain}");
    }
    assert!(!plain.contains("icy-metaint"), "{plain}");
    // Names of stations tell two servers apart, and a relay puts none of them into a public directory.
    for line in [format!("icy-name: aircheck at {}\r", server.address).as_str(), "icy-pub: 0\r", "icy-br: 128\r"] {
        assert!(plain.contains(line), "{line}: {plain}");
    }
    for path in ["stream.opus", "stream.flac", "stream.wav"] {
        assert!(!head(&["--header", "Icy-MetaData: 1"], path).contains("icy-"), "VLC asks again by HTTP/1.0");
    }
    assert!(head(&["--header", "Icy-MetaData: 1"], "stream.mp3").contains("icy-metaint: 16000\r"));
    assert!(head(&[], "stream.mp3?bitrate=300k").contains("x-audio-bitrate: 320000\r"));
    // An Icecast that relays takes this type alone.
    assert!(head(&[], "stream.opus").contains("content-type: audio/ogg\r"));
    let (status, response) = server.ask(&[], "stream.mp3?sample=s16le");
    assert_eq!(status, 400, "{response}");
}

#[test]
fn a_playlist_leads_to_the_stream_by_the_name_that_the_request_used() {
    let server = Server::start(&["--source", "tone:440", "--allow-host", "studio.example"]);
    let address = server.address;
    assert_eq!(
        server.text("listen.m3u"),
        format!("#EXTM3U\n#EXTINF:-1,aircheck at {address}\nhttp://{address}/stream.mp3\n")
    );
    let (status, response) =
        server.ask(&["--header", "Host: studio.example:81"], "listen.pls?format=opus&name=a+b%0Ac&burst=1s");
    assert_eq!(status, 200, "{response}");
    assert!(response.contains("content-type: audio/x-scpls\r\n"), "{response}");
    let url = "http://studio.example:81/stream.opus?name=a+b%0Ac&burst=1s";
    let title = "aircheck at studio.example:81";
    let playlist = format!("[playlist]\nNumberOfEntries=1\nFile1={url}\nTitle1={title}\nLength1=-1\nVersion=2\n");
    assert!(response.ends_with(&playlist), "{response}");
    let (status, response) = server.ask(&[], "listen.m3u?format=json");
    assert!(status == 400 && response.contains("mp3, opus, flac and wav"), "{response}");
    let old = Response::parse(&read_to_end(&send(&server, "GET /listen.m3u HTTP/1.0\r\n\r\n")));
    assert!(String::from_utf8_lossy(&old.body).contains(&format!("http://{address}/stream.mp3\n")), "{old:?}");
}

/// Reads a response to the end of its head: a stream does not end.
fn read_head(mut stream: &TcpStream) -> Response {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    Response::parse(&head)
}

#[test]
fn two_bytes_are_answered_as_a_range_and_are_no_listener() {
    let server = Server::start(&["--source", "tone:440"]);
    for (name, first) in [("wav", b"RI"), ("flac", b"fL"), ("opus", b"Og"), ("mp3", &[0xFF, 0xFB])] {
        let ask = |range: &str| {
            let (path, fields) = (format!("/stream.{name}"), format!("Range: bytes={range}\r\nConnection: close\r\n"));
            send(&server, format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", server.address))
        };
        // The listener of the rendition before leaves a moment after it has closed its connection.
        eventually("an empty table", || server.rows().is_empty().then_some(()));
        let response = Response::parse(&read_to_end(&ask("0-1")));
        assert_eq!((response.status, &response.body[..]), (206, &first[..]), "{name}");
        let range = &response.fields["content-range"];
        let length: u64 = range.strip_prefix("bytes 0-1/").unwrap().parse().unwrap();
        assert!(server.rows().is_empty(), "{name}");
        // Then iPhones ask for all of that.
        let all = format!("0-{}", length - 1);
        let head = read_head(&ask(&all));
        assert_eq!((head.status, &head.fields["content-range"]), (206, &format!("bytes {all}/{length}")), "{name}");
        // All others get the stream, and no range.
        let head = read_head(&ask("0-"));
        assert!(head.status == 200 && !head.fields.contains_key("content-range"), "{name}");
    }
}

#[test]
fn the_time_of_flac_begins_where_a_listener_joins() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heard.flac");
    let mut server = Server::start(&["--source", "tone:440"]);
    // Numbers of two bytes, which become one.
    eventually("two seconds", || {
        // There is none before the first block.
        server.json("api/v1/status")["head_sequence"].as_u64().filter(|sequence| *sequence > 200)
    });
    let mut listener = Listener::start(&server.url("stream.flac?name=late"), &file);
    server.row_when("late", |row| row["delivered"].as_u64().unwrap() > 50);
    server.terminate();
    assert!(listener.wait().success());
    assert!(server.wait().success());
    let mut command = Command::new("ffprobe");
    command.args(["-v", "warning", "-show_entries", "packet=pts_time", "-of", "csv=p=0"]).arg(&file);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let times = String::from_utf8(output.stdout).unwrap();
    assert!(times.starts_with("0.000000\n0.010000\n0.020000\n"), "{times}");
}

#[test]
fn sox_knows_a_wav_that_it_reads_from_a_pipe() {
    let server = Server::start(&["--source", "tone:440"]);
    // curl hands on each chunk by itself, and sox looks at what it gets first.
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--no-buffer", &server.url("stream.wav")]).stdout(Stdio::piped());
    let mut sound = curl.spawn().unwrap();
    let mut sox = Command::new("sox");
    sox.args(["-V1", "-", "-n", "trim", "0", "0.5", "stat"]).stdin(sound.stdout.take().unwrap());
    let output = sox.output().unwrap();
    sound.kill().unwrap();
    sound.wait().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("Length (seconds):      0.500000"), "{text}");
}
