//! Sound files and playlists as the source, and the titles that go with the sound to each listener. ffmpeg makes the files.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use common::{Listener, Server, curl, eventually, noise, refused, tone_and_rms, write_wav, write_wav_at};

/// Frames of a second.
const RATE_HZ: u32 = 48_000;

/// Files in a directory of their own.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a tone of half a second, at this rate, as a WAV file.
    fn tone(&self, name: &str, hz: f64, rate_hz: u32) -> PathBuf {
        let samples = (0..rate_hz / 2).map(|n| tone_at(hz, n, rate_hz));
        write_wav_at(rate_hz, &self.path(name), 1, samples);
        self.path(name)
    }

    /// Makes another file of a WAV file, with further arguments of ffmpeg.
    fn encoded(&self, from: &Path, name: &str, arguments: &[&str]) -> PathBuf {
        let to = self.path(name);
        let output =
            Command::new("ffmpeg").args(["-v", "error", "-y", "-i"]).arg(from).args(arguments).arg(&to).output();
        let output = output.expect("ffmpeg runs: Debian's package is ffmpeg");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        to
    }

    /// Writes a playlist and returns it as a source.
    fn playlist(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        source(&self.path(name))
    }
}

fn source(path: &Path) -> String {
    format!("file:{}", path.display())
}

fn tone_at(hz: f64, n: u32, rate_hz: u32) -> i16 {
    ((f64::from(n) / f64::from(rate_hz) * hz * std::f64::consts::TAU).sin() * 12_000.0) as i16
}

/// Returns all that comes from `path` until the stream ends with its source.
fn all_of(server: &Server, path: &str) -> Vec<u8> {
    let output = curl(&["--fail", &server.url(path)]).output().unwrap();
    assert!(output.status.success(), "{path}: {output:?}");
    output.stdout
}

/// Returns the lines of `/stream.json` from the first block to the end.
fn lines(server: &Server) -> Vec<Value> {
    let text = String::from_utf8(all_of(server, "stream.json?from=0")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn flac_and_wav_are_heard_bit_for_bit() {
    let files = Files::new();
    let samples = noise(2 * RATE_HZ);
    let wav = files.path("noise.wav");
    write_wav(&wav, 2, samples.iter().copied());
    let sent: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    for path in [
        wav.clone(),
        files.encoded(&wav, "noise.flac", &[]),
        files.encoded(&wav, "noise.oga", &["-c:a", "flac", "-f", "ogg"]),
    ] {
        let mut server = Server::start(&["--source", &source(&path)]);
        let heard = all_of(&server, "stream.pcm?from=0");
        assert!(heard == sent, "{}: {} bytes of {}", path.display(), heard.len(), sent.len());
        assert!(server.wait().success());
    }
}

#[test]
fn coded_files_are_heard_at_their_length_and_pitch() {
    let files = Files::new();
    let wav = files.path("tone.wav");
    write_wav_at(44_100, &wav, 2, (0..88_200).map(|n| tone_at(440.0, n / 2, 44_100)));
    for (name, rate_hz, arguments) in [
        ("tone.mp3", 44_100, &["-c:a", "libmp3lame"][..]),
        ("tone.ogg", 44_100, &["-c:a", "libvorbis"]),
        // Opus has one rate.
        ("tone.opus", 48_000, &["-c:a", "libopus"]),
    ] {
        let path = files.encoded(&wav, name, arguments);
        let server = Server::start(&["--source", &source(&path)]);
        let format = &server.json("api/v1/status")["format"];
        assert_eq!((&format["rate_hz"], &format["channels"]), (&json!(rate_hz), &json!(2)), "{name}");
        let heard = all_of(&server, "stream.pcm?from=0");
        let left: Vec<f32> =
            heard.chunks_exact(4).map(|frame| f32::from(i16::from_le_bytes([frame[0], frame[1]])) / 32_768.0).collect();
        // The last block may be short, and what a codec adds at both ends is taken off.
        let expected = left.len() as i64 - i64::from(rate_hz);
        assert!(expected.abs() <= i64::from(rate_hz) / 1000, "{name}: {} frames", left.len());
        let (hz, rms) = tone_and_rms(&left, rate_hz, &[220.0, 440.0, 480.0, 404.0]);
        assert!(hz == 440.0 && (rms - 0.259).abs() < 0.02, "{name}: {hz} Hz at {rms}");
    }
}

#[test]
fn a_playlist_goes_on_behind_a_missing_file_and_tells_titles_with_their_first_block() {
    let files = Files::new();
    let tone = |name, hz, rate_hz| files.tone(name, hz, rate_hz);
    files.encoded(&tone("a.wav", 440.0, RATE_HZ), "a.flac", &["-metadata", "title=A", "-metadata", "artist=Ann"]);
    files.encoded(&tone("b.wav", 660.0, 22_050), "b.mp3", &["-metadata", "title=B"]);
    files.tone("c.wav", 880.0, RATE_HZ);
    std::fs::write(files.path("junk.ogg"), "this is no sound").unwrap();
    let list = "#EXTM3U\na.flac\nmissing.mp3\nb.mp3\njunk.ogg\n#EXTINF:1,Cid - C\nc.wav\n";
    let mut server = Server::start(&["--source", &files.playlist("list.m3u", list)]);
    let lines = lines(&server);
    assert!(server.wait().success());
    let notices: Vec<_> = lines.iter().filter(|line| line.get("metadata").is_some()).collect();
    let titles: Vec<_> = notices.iter().map(|notice| notice["metadata"].clone()).collect();
    assert_eq!(
        titles[..3],
        [json!({"title": "A", "artist": "Ann"}), json!({"title": "B"}), json!({"title": "C", "artist": "Cid"})]
    );
    for pair in lines.windows(2).filter(|pair| pair[0].get("metadata").is_some() && pair[1].get("samples").is_some()) {
        assert_eq!(pair[0]["sequence"], pair[1]["sequence"], "the notice comes before its first block");
    }
    // Each file of half a second has 50 blocks: the title comes with the sound.
    let begins: Vec<_> = notices.iter().map(|notice| notice["sequence"].as_u64().unwrap()).collect();
    assert!(begins[0] == 0 && begins[1] == 50 && (99..=101).contains(&begins[2]), "{begins:?}");
    let heard = |from: u64| -> Vec<f32> {
        let blocks = lines.iter().filter(|line| line["samples"].is_array());
        let of_title = blocks.filter(|line| (from + 10..from + 40).contains(&line["sequence"].as_u64().unwrap()));
        of_title.flat_map(|line| line["samples"].as_array().unwrap()).map(|it| it.as_f64().unwrap() as f32).collect()
    };
    for (begin, expected) in begins.iter().zip([440.0, 660.0, 880.0]) {
        let (hz, _) = tone_and_rms(&heard(*begin), RATE_HZ, &[440.0, 660.0, 880.0]);
        assert_eq!(hz, expected);
    }
    for (name, why) in
        [("missing.mp3", "cannot be opened: No such file"), ("junk.ogg", "is not sound that can be decoded")]
    {
        let told = format!("passed over in the playlist: {}: {why}", files.path(name).display());
        assert!(server.log().contains(&told), "{told}\n{}", server.log());
    }
}

#[test]
fn a_playlist_is_looped_and_a_damaged_file_costs_no_more_than_its_damage() {
    let files = Files::new();
    let wav = files.tone("a.wav", 440.0, RATE_HZ);
    files.encoded(&wav, "a.mp3", &["-metadata", "title=A"]);
    let mut bytes = std::fs::read(files.encoded(&wav, "d.mp3", &["-metadata", "title=D"])).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 400].fill(0x55);
    std::fs::write(files.path("d.mp3"), bytes).unwrap();
    let list = files.playlist("list.pls", "[playlist]\nFile1=a.mp3\nFile2=d.mp3\n");
    let server = Server::start(&["--source", &list, "--loop"]);
    let command =
        format!("curl -sN '{}' | grep --line-buffered metadata | head -n 4", server.url("stream.json?from=0"));
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let notices: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let titles: Vec<_> = notices.iter().map(|notice| notice["metadata"]["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["A", "D", "A", "D"]);
    let begins: Vec<_> = notices.iter().map(|notice| notice["sequence"].as_u64().unwrap()).collect();
    // Of 50 blocks, the damage costs a few frames of 24 ms at most.
    assert!((38..=51).contains(&(begins[2] - begins[1])), "{begins:?}");
}

#[test]
fn what_cannot_be_played_at_all_is_refused_in_a_line() {
    let files = Files::new();
    std::fs::write(files.path("junk.mp3"), vec![7; 5000]).unwrap();
    std::fs::write(files.path("empty.flac"), "").unwrap();
    files.playlist("none.m3u", "junk.mp3\nmissing.ogg\n");
    files.playlist("empty.m3u", "# nothing\n");
    let path = |name: &str| files.path(name).display().to_string();
    for (name, why) in [
        ("missing.mp3", format!("{}: cannot be opened: No such file or directory", path("missing.mp3"))),
        ("junk.mp3", format!("{}: is not sound that can be decoded (it takes MP3, FLAC, Ogg", path("junk.mp3"))),
        ("empty.flac", format!("{}: is not sound that can be decoded", path("empty.flac"))),
        ("none.m3u", format!("{}: none of its 2 files can be played: {}", path("none.m3u"), path("junk.mp3"))),
        ("empty.m3u", format!("{}: the playlist has no entries", path("empty.m3u"))),
    ] {
        let (code, stderr) = refused(&["--source", &source(&files.path(name))]);
        let last = stderr.lines().last().unwrap();
        assert_eq!(code, 1, "{name}: {stderr}");
        assert!(last.contains(&format!("source `file`: {why}")), "{name}: {last}");
    }
}

/// Writes to a file what comes from `path` for as long as this is kept.
fn listen(server: &Server, files: &Files, name: &str, path: &str, arguments: &[&str]) -> (Listener, PathBuf) {
    let file = files.path(name);
    let (url, output) = (server.url(path), file.to_str().unwrap().to_owned());
    let arguments = [&["--output", &output, &url], arguments].concat();
    (Listener::of(&mut curl(&arguments)), file)
}

fn text_of(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}

#[test]
fn a_title_that_is_put_reaches_each_rendition_in_order_with_the_sound_and_those_who_come_later() {
    let files = Files::new();
    let server = Server::start(&["--source", "tone:440"]);
    let early = ["json", "mp3"].map(|format| {
        let path = format!("stream.{format}?name={format}");
        let listener = listen(&server, &files, format, &path, &["--header", "Icy-MetaData: 1"]);
        server.row_when(format, |row| row["delivered"].as_u64() > Some(5));
        listener
    });
    let (_events, events) =
        listen(&server, &files, "events", "stream?name=events", &["--header", "Accept: text/event-stream"]);
    server.row_when("events", |row| row["delivered"].as_u64() > Some(5));
    let has = |file: &Path, text: &str| text_of(file).contains(text).then_some(());
    eventually("the station", || has(&early[1].1, "StreamTitle='aircheck at "));
    let put = |body: &str| server.ask(&["--request", "PUT", "--data", body], "api/v1/mounts/main/metadata");
    let (status, answer) = put(r#"{"title":"Night train","artist":"The Owls"}"#);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    let sequence = answer["sequence"].as_u64().unwrap();
    let told = format!(r#"{{"metadata":{{"title":"Night train","artist":"The Owls"}},"sequence":{sequence}}}"#);
    // The notice stands between the block before and the first one that it belongs to.
    let around = |before: &str, after: &str| format!("{before}{told}{after}");
    let next = format!("\n{{\"sequence\":{sequence},");
    eventually("the line", || has(&early[0].1, &around("\n", &next)));
    let next = format!("\n\nid: {sequence}\n");
    eventually("the event", || has(&events, &around("\n\nevent: metadata\ndata: ", &next)));
    eventually("the title between MP3", || has(&early[1].1, "StreamTitle='The Owls - Night train';"));

    // One who comes later gets it before its first block, and so does one who starts before the change, in its place.
    let (_late, late) = listen(&server, &files, "late", "stream.json", &[]);
    eventually("a block", || has(&late, "\"samples\""));
    assert!(text_of(&late).starts_with(&told), "{}", &text_of(&late)[..200]);
    let (_back, back) = listen(&server, &files, "back", &format!("stream.json?from={}", sequence - 3), &[]);
    eventually("the line", || has(&back, &told));
    assert!(text_of(&back).starts_with(&format!("{{\"sequence\":{},", sequence - 3)), "{}", &text_of(&back)[..200]);

    assert_eq!(server.json("api/v1/status")["metadata"], answer);
    assert_eq!(server.json("api/v1/mounts/main/metadata"), answer);
    assert_eq!(put("{}").0, 200);
    eventually("nothing is known any more", || has(&early[0].1, r#"{"metadata":{},"sequence":"#));
    for (body, why) in [
        ("", "expected {"),
        ("{\"titel\":1}", "unknown field `titel`"),
        ("[", "EOF"),
        ("{\"title\":7}", "invalid type"),
    ] {
        let (status, answer) = put(body);
        assert!(status == 400 && answer.contains(why), "{body}: {answer}");
    }
    assert_eq!(put(&format!("{{\"title\":\"{}\"}}", "a".repeat(9000))).0, 400);
    let (status, answer) = server.ask(&["--request", "DELETE"], "api/v1/mounts/main/metadata");
    assert!(status == 405 && answer.to_lowercase().contains("allow: get, head, put"), "{answer}");
    assert_eq!(server.ask(&[], "api/v1/mounts/none/metadata").0, 404);
}
