//! `aircheckctl listen` against the real `aircheck`, over TCP: what it records and counts is what the server says.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavSpec, WavWriter};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes as long as this, however loaded the machine is: a hang must fail, not stop the run.
const PATIENCE: Duration = Duration::from_secs(60);
/// A WAV of its own for every test: 48 kHz, so a block of 10 ms is 480 frames.
const RATE_HZ: u32 = 48_000;

/// A running `aircheck` on a port of its own, ended when dropped.
struct Server {
    child: Child,
    /// `HOST:PORT`.
    authority: String,
    directory: TempDir,
}

impl Server {
    /// Starts the program that lies beside `aircheckctl`, and waits until it listens.
    fn start(flags: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_aircheckctl")).with_file_name("aircheck");
        assert!(
            program.is_file(),
            "this test needs the server, and there is no {}: run `cargo build --workspace` first",
            program.display()
        );
        let directory = tempfile::tempdir().expect("a directory");
        let log = File::create(directory.path().join("log")).expect("its log");
        let mut command = Command::new(program);
        // No settings but those of the test.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AIRCHECK_")) {
            command.env_remove(name);
        }
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().expect("it should start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its stdout")).read_line(&mut line).expect("UTF-8");
        // Made before the line is looked at, so that its log is shown and the process ended if it is wrong.
        let mut server = Self { child, authority: String::new(), directory };
        let url = line.trim().strip_prefix("listening on http://").expect("it should say where it listens");
        server.authority = url.trim_end_matches('/').to_owned();
        server
    }

    fn url(&self, query: &str) -> String {
        format!("http://{}/{query}", self.authority)
    }

    fn websocket(&self, query: &str) -> String {
        format!("ws://{}/{query}", self.authority)
    }

    /// What is said to a request without a body.
    fn ask(&self, method: &str, path: &str) -> String {
        let mut tcp = TcpStream::connect(&self.authority).expect("a connection");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.authority);
        tcp.write_all(request.as_bytes()).expect("it should take a request");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).expect("it should answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 "), "{method} {path}: {answer}");
        body.to_owned()
    }

    /// The row of the listener called `name`, once there is one with `condition`.
    fn row_when(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("the row for {name}"), || {
            let rows: Vec<Value> = serde_json::from_str(&self.ask("GET", "/api/v1/listeners")).expect("rows");
            let row = rows.into_iter().find(|row| row["name"] == name);
            row.inspect(assert_identity).filter(|row| condition(row))
        })
    }

    /// The sum of the series of a metric that have all of `labels`.
    fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.ask("GET", "/metrics");
        let series = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        let fitting = series.filter(|(given, _)| labels.iter().all(|label| given.contains(label)));
        fitting.map(|(_, value)| value.parse::<u64>().expect("a count")).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "the server's log:\n{}",
                fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
        }
    }
}

/// A running `aircheckctl listen`, ended when dropped.
struct Listening(Option<Child>);

impl Listening {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aircheckctl"));
        command.arg("listen").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().expect("it should start")))
    }

    fn signal(&self, name: &str) {
        let id = self.0.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill").success());
    }

    fn finish(mut self) -> Ended {
        let child = self.0.take().expect("it runs");
        let (done, ended) = mpsc::channel();
        thread::spawn(move || done.send(child.wait_with_output()));
        let Output { status, stdout, stderr } = ended.recv_timeout(PATIENCE).expect("its end").expect("its output");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: status.code(), summary: text(stdout), notices: text(stderr) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How it ended, and what it said.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    summary: String,
    notices: String,
}

impl Ended {
    /// The number before `noun` in the summary's line called `line`; nothing if it does not say so.
    fn count(&self, line: &str, noun: &str) -> Option<u64> {
        let line = self.summary.lines().find_map(|text| text.strip_prefix(line))?;
        let words: Vec<&str> = line.split([' ', ',', ':']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| word.trim_end_matches('s') == noun)?;
        words[at.checked_sub(1)?].parse().ok()
    }
}

/// Asks again until there is an answer.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().expect("a count")
}

fn assert_identity(row: &Value) {
    let parts = number(row, "delivered") + number(row, "lost") + number(row, "queued");
    assert_eq!(number(row, "offered"), parts, "{row}");
}

/// Noise that no codec would survive, as a stereo WAV of 32-bit floats, and its bits.
fn noise(path: &Path, frames: u32) -> Vec<u32> {
    let spec = WavSpec { channels: 2, sample_rate: RATE_HZ, bits_per_sample: 32, sample_format: SampleFormat::Float };
    let mut writer = WavWriter::create(path, spec).expect("a file");
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bits = Vec::new();
    for _ in 0..2 * frames {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let sample = (state as i32) as f32 / 2_147_483_648.0;
        writer.write_sample(sample).expect("space for it");
        bits.push(sample.to_bits());
    }
    writer.finalize().expect("space for it");
    bits
}

fn bits(path: &Path) -> Vec<u32> {
    let mut reader = hound::WavReader::open(path).expect("a WAV");
    assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, RATE_HZ));
    reader.samples::<f32>().map(|sample| sample.expect("whole samples").to_bits()).collect()
}

/// Records a WAV of noise as it is served, all of it, and compares every bit.
fn record_all(url: impl FnOnce(&Server) -> String) {
    let directory = tempfile::tempdir().expect("a directory");
    let [served, taken]: [PathBuf; 2] = ["in.wav", "take.wav"].map(|name| directory.path().join(name));
    // Not a whole number of blocks, so that the last one is short.
    let frames = 2 * RATE_HZ + 123;
    let expected = noise(&served, frames);
    let mut server = Server::start(&["--source", &format!("wav:{}", served.display())]);
    let taken_name = taken.to_str().expect("UTF-8");
    let ended = Listening::start(&[&url(&server), "-o", taken_name, "--strict"]).finish();

    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.count("received", "frame"), Some(u64::from(frames)), "{ended:?}");
    assert!(ended.summary.contains("lost      nothing"), "{ended:?}");
    let heard = bits(&taken);
    assert_eq!(heard.len(), expected.len());
    assert!(heard == expected, "as many samples, but others");
    let status = eventually("the server's end", || server.child.try_wait().expect("its status"));
    assert!(status.success(), "{status}");
}

#[test]
fn what_is_recorded_is_what_was_served() {
    record_all(|server| server.url("?from=0&name=check"));
}

#[test]
fn the_websocket_brings_the_same_bits() {
    record_all(|server| server.websocket("?from=0&name=check"));
}

/// A listener stands still until it has lost two seconds, comes back, and is then ended by the server, so that nothing
/// is on its way when the two accounts are compared.
fn stand_still(url: impl FnOnce(&Server) -> String, format: &str) -> Ended {
    let server = Server::start(&["--source", "tone:440"]);
    let listening = Listening::start(&[&url(&server), "--strict"]);
    server.row_when("slow", |row| number(row, "delivered") > 20);

    // First its socket has to fill, then its ring.
    listening.signal("STOP");
    server.row_when("slow", |row| number(row, "lost") >= 200);
    listening.signal("CONT");

    // It is told of the gap with the next block, and goes on at the live head.
    let row = server.row_when("slow", |row| {
        number(row, "gaps") > 0 && row["lag_seconds"].as_f64().expect("seconds") < 0.2 && number(row, "queued") == 0
    });
    assert!(number(&row, "gap_max_blocks") >= 200, "{row}");
    server.ask("DELETE", &format!("/api/v1/listeners/{}", row["id"]));
    let ended = listening.finish();
    assert!(ended.notices.contains("gap: "), "{ended:?}");
    assert!(!ended.summary.contains("faults"), "every loss is announced: {ended:?}");

    let lost = ended.count("lost", "block").expect("it lost some");
    let received = ended.count("received", "block").expect("it received some");
    eventually("an empty table", || (server.ask("GET", "/api/v1/listeners").trim() == "[]").then_some(()));
    // What was still in its ring when it was ended never left the server: `left`.
    let format = &format!(r#"format="{format}""#);
    let left = server.metric("aircheck_lost_blocks_total", &[format, r#"reason="left""#]);
    let all_lost = server.metric("aircheck_lost_blocks_total", &[format]);
    assert_eq!(lost, all_lost - left, "{row} {ended:?}");
    assert_eq!(received, server.metric("aircheck_delivered_blocks_total", &[format]), "{row} {ended:?}");
    // On a machine that keeps up nothing is lost between the row and the end; elsewhere it can only become more.
    assert!(lost >= number(&row, "lost"), "{row} {ended:?}");
    if server.metric("aircheck_capture_lost_blocks_total", &[]) == 0
        && ended.count("lost", "gap") == row["gaps"].as_u64()
    {
        assert_eq!(lost, number(&row, "lost"), "{row} {ended:?}");
    }
    ended
}

#[test]
fn a_listener_that_stood_still_counts_what_the_server_counts() {
    let ended = stand_still(|server| server.url("?name=slow&buffer=200ms"), "json");
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

#[test]
fn over_the_websocket_it_counts_the_same_and_is_told_why_it_was_ended() {
    let ended = stand_still(|server| server.websocket("?name=slow&buffer=200ms"), "ws");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.notices.contains("aircheckctl: the server ended it: closed (code 1008)"), "{ended:?}");
}

#[test]
fn strict_listening_over_the_websocket_tells_a_loss_by_its_exit_code() {
    let server = Server::start(&["--source", "tone:440"]);
    let listening = Listening::start(&[&server.websocket("?name=slow&buffer=200ms"), "--strict"]);
    server.row_when("slow", |row| number(row, "delivered") > 20);
    listening.signal("STOP");
    server.row_when("slow", |row| number(row, "lost") > 0);
    listening.signal("CONT");
    // Some blocks after the gap, so that it has surely been told.
    let row = server.row_when("slow", |row| number(row, "gaps") > 0);
    server.row_when("slow", |later| {
        number(later, "delivered") > number(&row, "delivered") + 20 && number(later, "queued") == 0
    });
    listening.signal("INT");
    let ended = listening.finish();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.notices.contains("aircheckctl: --strict: "), "{ended:?}");
    // It left by itself and said so: nobody took it for lost.
    eventually("an empty table", || (server.ask("GET", "/api/v1/listeners").trim() == "[]").then_some(()));
}
