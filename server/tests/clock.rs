//! Sources whose clock is not this machine's, and hiccups on the way to the server: the latency from the writer of a pipe to
//! a listener, measured from clicks that both see.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, TEST_TIMEOUT, signal};
use serde_json::Value;

const RATE_HZ: usize = 48_000;
/// The writer's period.
const PERIOD_FRAMES: usize = RATE_HZ / 100;
const PERIODS_PER_CLICK: usize = 25;
const CLICKS_PER_SECOND: usize = 4;
/// Length of a click: a millisecond, so that no resampler makes it much lower.
const CLICK_FRAMES: usize = RATE_HZ / 1000;
const CLICK_AMPLITUDE: f32 = 0.8;

/// What the writer does.
#[derive(Clone, Copy)]
struct Writer {
    /// How much faster than this machine's its clock is, as a share.
    faster: f64,
    /// In which second it is held up, and for how long. Its sound is captured meanwhile, and it writes all of it afterwards.
    held_up: Option<(usize, Duration)>,
    seconds: usize,
}

/// A writer that is later than this was stopped by the machine.
const MAX_WRITER_LATENESS: Duration = Duration::from_millis(300);
const HICCUP: Duration = Duration::from_millis(400);

/// The latency of each click in seconds, and the status at the end.
struct Measured {
    latencies: Vec<f64>,
    status: Value,
    metrics: String,
}

impl Measured {
    /// Returns the median latency of the clicks in these seconds.
    fn median(&self, seconds: std::ops::Range<usize>) -> f64 {
        let range = seconds.start * CLICKS_PER_SECOND..seconds.end * CLICKS_PER_SECOND;
        let mut latencies = self.latencies[range].to_vec();
        latencies.sort_by(f64::total_cmp);
        latencies[latencies.len() / 2]
    }

    fn capture(&self, field: &str) -> f64 {
        self.status["capture"][field].as_f64().unwrap_or_else(|| panic!("{field}: {}", self.status))
    }
}

/// Runs a server with a writer and a listener. `during` is called in each second. Where the machine stops the writer, which
/// is a hiccup that the test does not know, it is done again.
fn measure(pace: &str, writer: Writer, during: impl Fn(&Server, usize)) -> Measured {
    (0..6).find_map(|_| measure_once(pace, writer, &during)).expect("a machine that runs a thread in time")
}

/// Returns `None` if the machine stopped the writer.
fn measure_once(pace: &str, writer: Writer, during: impl Fn(&Server, usize)) -> Option<Measured> {
    let (reader, pipe) = std::io::pipe().unwrap();
    let flags = ["--source", "stdin", "--channels", "2", "--pace", pace];
    let server = Server::start_with(&flags, |command| command.stdin(reader));
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    // HTTP/1.0, so that the body has no chunks.
    stream.write_all(b"GET /stream.pcm HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let clicks = writer.seconds * CLICKS_PER_SECOND;
    let (sender, heard) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || hear(stream, clicks, &sender));
        let written = scope.spawn(move || write(File::from(OwnedFd::from(pipe)), writer));
        for second in 0..writer.seconds {
            during(&server, second);
            thread::sleep(Duration::from_secs(1));
        }
        let (written, was_stopped, pipe) = written.join().unwrap();
        let heard: Vec<Instant> = (0..clicks).map(|_| heard.recv_timeout(TEST_TIMEOUT).unwrap()).collect();
        let status = server.json("api/v1/status");
        let latency = |(written, heard): (&Instant, &Instant)| heard.duration_since(*written).as_secs_f64();
        let latencies = written.iter().zip(&heard).map(latency).collect();
        let lost = &status["capture"];
        assert_eq!((&lost["lost_overflow"], &lost["lost_xrun"]), (&0.into(), &0.into()), "{lost}");
        let metrics = server.text("metrics");
        drop(pipe);
        drop(server);
        (!was_stopped).then_some(Measured { latencies, status, metrics })
    })
}

/// Writes sound at the writer's own pace. Returns when each click was captured, whether the machine stopped this thread, and
/// the open pipe.
fn write(mut pipe: File, writer: Writer) -> (Vec<Instant>, bool, File) {
    let mut captured = Vec::new();
    let mut was_stopped = false;
    let start = Instant::now();
    // Half a second more, so that the last click is not held back.
    for period in 0..(writer.seconds * 2 + 1) * RATE_HZ / PERIOD_FRAMES / 2 {
        let mut samples = [0.0_f32; PERIOD_FRAMES];
        // A period is written when its last frame is there.
        let begins = start + Duration::from_secs_f64(period as f64 * 0.01 / (1.0 + writer.faster));
        if period % PERIODS_PER_CLICK == 0 {
            samples[..CLICK_FRAMES].fill(CLICK_AMPLITUDE);
            captured.push(begins);
        }
        let ends = begins + Duration::from_millis(10);
        let wait = ends.saturating_duration_since(Instant::now());
        thread::sleep(wait);
        was_stopped |= !wait.is_zero() && ends.elapsed() > MAX_WRITER_LATENESS;
        if let Some((second, span)) = writer.held_up
            && period == second * RATE_HZ / PERIOD_FRAMES
        {
            thread::sleep(span);
        }
        let bytes: Vec<u8> =
            samples.iter().flat_map(|sample| [((sample * 32_767.0) as i16).to_le_bytes(); 2]).flatten().collect();
        pipe.write_all(&bytes).unwrap();
    }
    captured.truncate(writer.seconds * CLICKS_PER_SECOND);
    (captured, was_stopped, pipe)
}

/// Sends the time of arrival of each click.
fn hear(mut stream: TcpStream, clicks: usize, sender: &mpsc::Sender<Instant>) {
    let mut bytes = vec![0; 4096];
    let (mut odd, mut quiet, mut heard) = (Vec::new(), usize::MAX / 2, 0);
    while heard < clicks {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "the stream has ended after {heard} clicks");
        let now = Instant::now();
        odd.extend_from_slice(&bytes[..read]);
        let whole = odd.len() / 4 * 4;
        for frame in odd[..whole].chunks_exact(4) {
            let is_loud = i16::from_le_bytes([frame[0], frame[1]]) > 16_000;
            if is_loud && quiet > RATE_HZ / 20 {
                heard += 1;
                let _ = sender.send(now);
            }
            quiet = if is_loud { 0 } else { quiet + 1 };
        }
        odd.drain(..whole);
    }
}

fn nothing(_: &Server, _: usize) {}

/// A clock that is 0.3 % off would add 75 ms in these 25 s, and fill the pipe in two minutes.
#[test]
#[ignore = "it measures time, which other programs on the machine change: `make soak`"]
fn the_latency_does_not_grow_with_the_clocks_apart() {
    thread::scope(|scope| {
        for pace in ["source", "clock"] {
            for faster in [0.003, -0.003] {
                scope.spawn(move || {
                    let writer = Writer { faster, held_up: None, seconds: 25 };
                    let measured = measure(pace, writer, nothing);
                    let (first, last) = (measured.median(3..6), measured.median(20..25));
                    let (ppm, error) = (measured.capture("drift_ppm"), measured.capture("drift_error_ppm"));
                    println!(
                        "{pace}, {faster}: {first:.4} s, then {last:.4} s; {ppm:.0} ± {error:.0} ppm; {} waits",
                        measured.capture("waiting_seconds")
                    );
                    assert!(last - first < 0.04, "{pace}, {faster}: {:.3?}", measured.latencies);
                    assert!((ppm - faster * 1e6).abs() < (2.0 * error).max(200.0), "{faster}: {ppm} ± {error} ppm");
                    assert!(measured.metrics.contains("\naircheck_capture_drift_ppm{"), "{}", measured.metrics);
                });
            }
        }
    });
}

#[test]
#[ignore = "it measures time, which other programs on the machine change: `make soak`"]
fn a_hiccup_is_worked_off() {
    let writer = Writer { faster: 0.0, held_up: None, seconds: 20 };
    let stop_for = |server: &Server, second: usize, span: Duration| {
        if second == 8 {
            signal(server.pid(), "STOP");
            thread::sleep(span);
            signal(server.pid(), "CONT");
        }
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            let measured = measure("source", Writer { held_up: Some((8, HICCUP)), ..writer }, nothing);
            assert_back(&measured, "the writer was held up");
        });
        scope.spawn(move || {
            let measured = measure("clock", Writer { held_up: Some((8, HICCUP)), ..writer }, nothing);
            assert_back(&measured, "the writer was held up, and the sound is resampled");
        });
        scope.spawn(move || {
            let measured = measure("source", writer, |server, second| stop_for(server, second, HICCUP));
            assert_back(&measured, "the server was stopped");
        });
        scope.spawn(move || {
            let measured = measure("clock", writer, |server, second| stop_for(server, second, 3 * HICCUP));
            // Too long to be caught up at once. Then it is 0.5 %, which is 45 ms in nine seconds.
            let (before, after, last) = (measured.median(5..8), measured.median(10..12), measured.median(18..20));
            let waiting = measured.capture("waiting_seconds");
            println!(
                "clock: {before:.4} s, {after:.4} s after the hiccup, then {last:.4} s, of which {waiting:.4} wait"
            );
            assert!((1.0..1.3).contains(&(after - before)), "{before} s, then {after} s");
            assert!((0.02..0.06).contains(&(after - last)), "{after} s, then {last} s");
            // The rest is in the writer, because the pipe is full.
            assert!((0.05..0.35).contains(&waiting), "{waiting} s wait");
            // While the writer waits for room, its frames come at the server's pace.
            let drift = measured.status["capture"]["drift_ppm"].as_f64();
            assert!(drift.is_none_or(|ppm| ppm.abs() < 300.0), "{}", measured.status["capture"]);
        });
    });
}

fn assert_back(measured: &Measured, what: &str) {
    let (before, last) = (measured.median(5..8), measured.median(12..20));
    println!("{what}: {before:.4} s, then {last:.4} s");
    assert!(last - before < 0.03, "{what}: {:.3?}", measured.latencies);
}

/// A program that decodes a file fills its pipe at once. It must come at the pace of its sound, not faster.
#[test]
fn a_writer_without_a_pace_gets_one() {
    for pace in ["source", "clock"] {
        let (reader, mut pipe) = std::io::pipe().unwrap();
        let server = Server::start_with(&["--source", "stdin", "--pace", pace], |command| command.stdin(reader));
        let start = Instant::now();
        pipe.write_all(&vec![0; RATE_HZ * 4 * 8]).unwrap();
        // The pipe still has a third of a second.
        let took = start.elapsed().as_secs_f64();
        assert!((7.5..9.5).contains(&took), "{pace}: eight seconds of sound took {took} s");
        assert_eq!(server.json("api/v1/status")["capture"]["waiting_seconds"], 0.0);
    }
}
