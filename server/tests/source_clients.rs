//! Source clients: real programs, and bad ones, that send sound to a mount.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aircheck_api::TokenHash;
use serde_json::{Value, json};
use tempfile::TempDir;

use common::{Listener, Server, TEST_TIMEOUT, curl, eventually, noise, tone_and_rms, write_wav};

const RATE_HZ: u32 = 48_000;

/// A directory with a tone in it.
struct Files {
    directory: TempDir,
    tone: PathBuf,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tone = directory.path().join("tone.wav");
        let sample = |n: u32| ((f64::from(n) / 48_000.0 * 440.0 * std::f64::consts::TAU).sin() * 12_000.0) as i16;
        write_wav(&tone, 1, (0..60 * RATE_HZ).map(sample));
        Self { directory, tone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a coded file of the first `seconds` of the tone.
    fn encoded(&self, name: &str, seconds: &str, arguments: &[&str]) -> Vec<u8> {
        let to = self.path(name);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-y", "-t", seconds, "-i"]).arg(&self.tone).args(arguments).arg(&to);
        assert!(ffmpeg.status().expect("ffmpeg runs: Debian's package is ffmpeg").success());
        std::fs::read(to).unwrap()
    }
}

/// A source client, ended when dropped.
struct Client(Child);

impl Client {
    /// Starts ffmpeg, which sends the tone at its pace.
    fn ffmpeg(server: &Server, files: &Files, arguments: &[&str]) -> Self {
        let url = format!("icecast://source:any@{}/mounts/main", server.address);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-re", "-i"]).arg(&files.tone).args(arguments).arg(url);
        Self(ffmpeg.stdin(Stdio::null()).spawn().expect("ffmpeg runs: Debian's package is ffmpeg"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects and sends `head` and `body`.
fn send(server: &Server, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

/// Returns all that is answered until the connection is closed.
fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it, too.
    let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a file with its length, without waiting to be told to go on. Returns the status and the answer.
fn upload(server: &Server, path: &Path) -> (u16, String) {
    server.ask(&["--header", "Expect:", "--upload-file", path.to_str().unwrap()], "mounts/main")
}

const EXPECTS: &str = "PUT /mounts/main HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: test\r\nContent-Type: audio/ogg\r\n\
                       Expect: 100-continue\r\n\r\n";

fn wait_for_state(server: &Server, state: &str) -> Value {
    eventually(&format!("the state {state}"), || {
        Some(server.json("api/v1/status")).filter(|status| status["state"] == state)
    })
}

/// Returns how often the sound of a source client has come so far.
fn came(server: &Server) -> usize {
    server.events().iter().filter(|event| event["event"] == "source_back").count()
}

/// Sends `body`, and waits until it is heard. The event of that stays, and the state passes with the sound.
fn send_sound(server: &Server, body: &[u8]) -> TcpStream {
    let before = came(server);
    let stream = send(server, EXPECTS, body);
    eventually("its sound", || (came(server) > before).then_some(()));
    stream
}

/// Returns the pitch and level of half a second of what listeners hear now.
fn heard(server: &Server) -> (f64, f64) {
    let command = format!("curl -sN '{}' | head -c 96000", server.url("stream.pcm"));
    let bytes = Command::new("sh").args(["-c", &command]).output().unwrap().stdout;
    let left: Vec<f32> =
        bytes.chunks_exact(4).map(|frame| f32::from(i16::from_le_bytes([frame[0], frame[1]])) / 32_768.0).collect();
    tone_and_rms(&left, RATE_HZ, &[220.0, 404.0, 440.0, 480.0, 880.0])
}

#[test]
fn what_ffmpeg_sends_is_heard_in_each_form() {
    let (files, server) = (Files::new(), Server::start(&["--source", "put"]));
    let status = wait_for_state(&server, "silent");
    assert_eq!(status["source"]["failure"], "no source client is connected");
    let short_pages = ["-page_duration", "100000"];
    for (codec, arguments) in [
        ("Opus", &[&["-c:a", "libopus", "-content_type", "audio/ogg", "-f", "ogg"][..], &short_pages].concat()[..]),
        (
            "Free Lossless Audio Codec",
            &[&["-c:a", "flac", "-content_type", "audio/ogg", "-f", "ogg"][..], &short_pages].concat(),
        ),
        ("Vorbis", &["-c:a", "libvorbis", "-content_type", "audio/ogg", "-f", "ogg"]),
        ("MPEG Audio Layer 3", &["-c:a", "libmp3lame", "-ar", "44100", "-content_type", "audio/mpeg", "-f", "mp3"]),
        // The method SOURCE of HTTP/1.0, as old clients send it.
        (
            "MPEG Audio Layer 3",
            &["-c:a", "libmp3lame", "-content_type", "audio/mpeg", "-legacy_icecast", "1", "-f", "mp3"],
        ),
        ("PCM Signed 16-bit", &["-content_type", "audio/wav", "-f", "wav"]),
    ] {
        let client = Client::ffmpeg(&server, &files, arguments);
        let status = wait_for_state(&server, "live");
        let source = &status["source"];
        assert_eq!(source["kind"], "put");
        let description = source["description"].as_str().unwrap();
        assert!(description.starts_with("127.0.0.1 Lavf/") && description.contains(codec), "{description}");
        assert_eq!((&status["format"]["rate_hz"], &status["format"]["channels"]), (&json!(48_000), &json!(2)));
        // After the fade, and what an encoder begins with.
        eventually("the tone", || Some(heard(&server)).filter(|(hz, rms)| *hz == 440.0 && (*rms - 0.259).abs() < 0.02));
        drop(client);
        let status = wait_for_state(&server, "silent");
        assert_eq!(status["source"]["failure"], "the source client has left", "{codec}");
    }
}

#[test]
fn samples_that_are_sent_are_heard_bit_for_bit() {
    let files = Files::new();
    let server = Server::start(&["--source", "put", "--channels", "1"]);
    let samples = noise(2 * RATE_HZ);
    let wav = files.path("noise.wav");
    write_wav(&wav, 1, samples.iter().copied());
    let file = files.path("heard.pcm");
    let _listener = Listener::start(&server.url("stream.pcm?name=ear"), &file);
    server.row_when("ear", |row| row["offered"].as_u64() > Some(5));
    // With a length, and in chunks.
    for arguments in
        [&["--request", "PUT", "--data-binary"][..], &["--header", "Transfer-Encoding: chunked", "--upload-file"]]
    {
        let path = wav.to_str().unwrap();
        let argument = if arguments.contains(&"--upload-file") { path.to_owned() } else { format!("@{path}") };
        let (status, told) = server.ask(&[&["--header", "Expect:"], arguments, &[&argument]].concat(), "mounts/main");
        assert!(status == 200 && told.ends_with("{\"ended\":true}"), "{told}");
        // Sound that comes back begins at the grid of blocks with a fade of 8 ms, and the last block may not be complete.
        let sent: Vec<u8> = samples[2400..2 * RATE_HZ as usize - 960].iter().flat_map(|it| it.to_le_bytes()).collect();
        let is_there = |bytes: &[u8]| bytes.windows(sent.len()).any(|window| window == sent);
        eventually("the noise", || is_there(&std::fs::read(&file).unwrap()).then_some(()));
        wait_for_state(&server, "silent");
        std::fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    }
}

#[test]
fn a_second_client_is_refused_and_bad_ones_end_kindly_while_the_mount_goes_on() {
    let files = Files::new();
    let server = Server::start(&["--source", "put", "--fallback", "tone:880", "--fallback-after", "0s"]);
    wait_for_state(&server, "fallback");
    let junk = files.path("junk");
    std::fs::write(&junk, vec![0x5a; 100_000]).unwrap();
    let (status, told) = upload(&server, &junk);
    assert!(status == 415 && told.contains("is not sound that can be decoded (it takes MP3"), "{told}");

    // Garbage after the beginning of real sound, and a stop in the middle of a page.
    let opus = files.encoded("tone.opus", "12", &["-c:a", "libopus", "-f", "ogg", "-page_duration", "100000"]);
    let cut = send_sound(&server, &opus[..opus.len() / 2]);
    let (status, told) = upload(&server, &junk);
    assert!(status == 409 && told.contains("another source client is connected"), "{told}");
    cut.shutdown(Shutdown::Write).unwrap();
    let told = answer(cut);
    assert!(told.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{told}");
    let status = wait_for_state(&server, "fallback");
    assert_eq!(status["source"]["failure"], "the source client has left");
    assert_eq!(heard(&server).0, 880.0);

    let mut garbage = opus[..opus.len() / 4].to_vec();
    garbage.extend(std::iter::repeat_n(b"OggS garbage", 50_000).flatten());
    let garbage = send_sound(&server, &garbage);
    wait_for_state(&server, "fallback");
    drop(garbage);
    // The mount has taken no harm.
    let before = came(&server);
    eventually("a free place", || {
        let (status, _) = upload(&server, &files.path("tone.opus"));
        (status == 200).then_some(())
    });
    eventually("its sound", || (came(&server) > before).then_some(()));
}

#[test]
fn a_client_that_stalls_is_replaced_by_silence_and_ended_after_ten_seconds() {
    let files = Files::new();
    let server = Server::start(&["--source", "put"]);
    let opus = files.encoded("tone.opus", "3", &["-c:a", "libopus", "-f", "ogg", "-page_duration", "100000"]);
    let stalled = send_sound(&server, &opus[..opus.len() / 2]);
    let status = wait_for_state(&server, "silent");
    assert!(status["source"]["failure"].as_str().unwrap().contains("nothing comes from the source"), "{status}");
    let told = answer(stalled);
    assert!(
        told.contains("HTTP/1.1 408 Request Timeout") && told.contains("no sound has come of it for 10 s"),
        "{told}"
    );
    // A request without sound in it, and one for a mount with another source.
    let (status, told) = server.ask(&["--request", "PUT"], "mounts/main");
    assert!(status == 411 && told.contains("there is no sound in the request"), "{told}");
    let (status, told) = server.ask(&[], "mounts/main");
    assert!(status == 405 && told.to_lowercase().contains("allow: put, source"), "{told}");
    let (status, told) =
        Server::start(&["--source", "tone:440"]).ask(&["--request", "PUT", "--data", "x"], "mounts/main");
    assert!(status == 409 && told.contains("its source is tone:440 (set it to put)"), "{told}");
}

#[test]
fn a_client_needs_a_token_with_the_scope_admin_which_it_has_as_its_password() {
    let files = Files::new();
    let token = |name: &str, text: &str, scope: &str| {
        let hash = TokenHash::of(text);
        format!("[[token]]\nname = \"{name}\"\nhash = \"{hash}\"\nscopes = [\"{scope}\"]\n")
    };
    let text =
        format!("source = \"put\"\n{}{}", token("studio", "ac_studio", "admin"), token("ear", "ac_ear", "listen"));
    let config = files.path("aircheck.toml");
    std::fs::write(&config, &text).unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap()]);
    let wav = files.path("tone.wav");
    let upload = ["--upload-file", wav.to_str().unwrap()];
    for (user, expected) in [(None, 401), (Some("source:wrong"), 401), (Some("source:ac_ear"), 403)] {
        let user = user.map_or(vec![], |user| vec!["--user", user]);
        assert_eq!(server.ask(&[&upload[..], &user].concat(), "mounts/main").0, expected, "{user:?}");
        let title = "admin/metadata?mode=updinfo&mount=/mounts/main&song=x";
        assert_eq!(server.ask(&user, title).0, expected, "{user:?}");
    }
    let mut client = Listener::of(
        curl(&[&upload[..], &["--user", "source:ac_studio", &server.url("mounts/main")]].concat())
            .stdout(Stdio::piped()),
    );
    // The title, as clients of Icecast change it.
    eventually("the sound", || server.log().contains("source_back").then_some(()));
    let title = "admin/metadata?mode=updinfo&mount=%2Fmounts%2Fmain&song=The+Owls%20-%20Night%20train";
    let (status, told) = server.ask(&["--user", "source:ac_studio"], title);
    assert!(status == 200 && told.contains("<return>1</return>"), "{told}");
    let (_, told) = server.ask(&["--user", "any:ac_ear"], "api/v1/mounts/main/metadata");
    assert!(told.contains(r#"{"title":"The Owls - Night train","sequence":"#), "{told}");
    // Without its token, it is ended.
    std::fs::write(
        &config,
        text.replace("ac_studio", "ac_other")
            .replace(&TokenHash::of("ac_studio").to_string(), &TokenHash::of("ac_other").to_string()),
    )
    .unwrap();
    common::signal(server.pid(), "HUP");
    server.wait_for_log("its token was taken out of the settings");
    let _ = client.wait();
}
