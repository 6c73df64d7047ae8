//! Limits of lag, silence in place of lost blocks, and the log of events.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Listener, Server, assert_identity, eventually, signal};
use hound::{SampleFormat, WavSpec, WavWriter};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const FRAMES: usize = 480;
const CHANNELS: usize = 2;
/// Bytes of a block as `f32le`.
const BLOCK_BYTES: usize = FRAMES * CHANNELS * 4;
/// The limit of lag of the listener that is stalled, in blocks.
const LIMIT: u64 = 30;
/// Between two probes, in blocks.
const PROBE_INTERVAL: u64 = 20;

/// Returns how many single blocks the server may send to a listener that is stalled for so many blocks: one every 200 ms beyond its
/// limit.
const fn max_probes(stall: u64) -> u64 {
    stall.saturating_sub(LIMIT) / PROBE_INTERVAL
}

/// Writes a minute of sound in which each sample is the number of its block, counted from 1, so that none is silent.
fn numbered(directory: &Path) -> PathBuf {
    let path = directory.join("numbered.wav");
    let spec = WavSpec {
        channels: CHANNELS as u16,
        sample_rate: 48_000,
        bits_per_sample: 32,
        sample_format: SampleFormat::Float,
    };
    let mut writer = WavWriter::create(&path, spec).unwrap();
    for block in 0..6000_u32 {
        for _ in 0..FRAMES * CHANNELS {
            writer.write_sample((block + 1) as f32 / 65_536.0).unwrap();
        }
    }
    writer.finalize().unwrap();
    path
}

/// Splits bytes of `f32le` into blocks and returns the number of each, counted from 0, or `None` for silence. Fails if
/// the samples of a block differ.
fn blocks(bytes: &[u8]) -> Vec<Option<u32>> {
    let number = |block: &[u8]| {
        let samples: Vec<f32> = block.chunks_exact(4).map(|s| f32::from_le_bytes(s.try_into().unwrap())).collect();
        assert!(samples.iter().all(|sample| *sample == samples[0]), "samples of two blocks in one");
        ((samples[0] * 65_536.0) as u32).checked_sub(1)
    };
    bytes.chunks_exact(BLOCK_BYTES).map(number).collect()
}

/// Starts a server of numbered sound and a listener in a directory of their own.
fn start_listening(flags: &[&str], query: &str) -> (tempfile::TempDir, Server, Listener) {
    let directory = tempfile::tempdir().unwrap();
    let source = format!("wav:{}", numbered(directory.path()).display());
    let server = Server::start(&[&["--source", &source], flags].concat());
    let listener = Listener::start(
        &server.url(&format!("stream.pcm?sample=f32le&name=one&{query}")),
        &directory.path().join("heard"),
    );
    server.row_when("one", |row| row["delivered"].as_u64().unwrap() > 20);
    (directory, server, listener)
}

fn seconds(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap()
}

/// Returns the samples of a metric by their labels, as they are written.
fn metric(text: &str, name: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter_map(|line| line.strip_prefix(name)?.split_once(' '));
    samples.map(|(labels, value)| (labels.to_owned(), value.parse().unwrap())).collect()
}

#[test]
fn max_lag_ends_a_listener_with_the_policy_disconnect() {
    let (_directory, server, mut listener) = start_listening(&[], "overflow=disconnect&buffer=10s&max_lag=500ms");
    assert_eq!(server.row_when("one", |_| true)["max_lag_seconds"], 0.5);
    signal(listener.pid(), "STOP");
    eventually("its end", || server.rows().is_empty().then_some(()));
    signal(listener.pid(), "CONT");
    listener.wait();
    let left = metric(&server.text("metrics"), "aircheck_listeners_left_total");
    assert_eq!(left["{reason=\"max_lag\"}"], 1.0, "{left:?}");
    server.wait_for_log("left listener=1");
    server.wait_for_log("reason=\"max_lag\"");
}

#[test]
fn max_lag_skips_a_listener_to_live_and_bounds_what_kernels_hold() {
    let (directory, server, listener) = start_listening(&["--max-lag", "10s"], "buffer=2s&max_lag=300ms");
    let mut max_gaps = 0;
    // After the first stall, its receive buffer is a megabyte, which has room for seconds of sound.
    for _ in 0..2 {
        let count = |row: &Value, key: &str| row[key].as_u64().unwrap();
        // A window that has just grown has to settle first.
        let delivered = count(&server.row_when("one", |_| true), "delivered");
        let live =
            server.row_when("one", |row| count(row, "delivered") > delivered + 60 && seconds(row, "lag_seconds") < 0.1);
        signal(listener.pid(), "STOP");
        let row = server.row_when("one", |_| true);
        let (delivered, lost, offered) = (count(&row, "delivered"), count(&row, "lost"), count(&row, "offered"));
        let row = server.row_when("one", |row| count(row, "offered") >= offered + 150);
        assert_identity(&row);
        // What the limit permits, what was on its way, the probes of the rest, and two for a machine that is late.
        let went = count(&row, "delivered") - delivered;
        let most = LIMIT + 2 + max_probes(count(&row, "offered") - offered) + 2;
        assert!(went <= most, "{went} of at most {most} blocks went into kernels: {row}");
        signal(listener.pid(), "CONT");
        let row = server.row_when("one", |row| count(row, "lost") > lost && seconds(row, "lag_seconds") < 0.1);
        assert_identity(&row);
        // One gap before each probe and one before the sound is live again. The rows are from before and after the stall.
        max_gaps += max_probes(count(&row, "offered") - count(&live, "offered")) + 1;
    }
    let text = server.text("metrics");
    let late = metric(&text, "aircheck_lost_blocks_total")["{mount=\"main\",format=\"pcm\",reason=\"late\"}"];
    assert!(late > 100.0, "{late} of some 250 lost blocks have the reason late");
    // What it heard is in order, and lacks exactly what the server says that it lost.
    let path = directory.path().join("heard");
    let (row, heard) = eventually("the blocks up to its gaps", || {
        let row = server.row_when("one", |_| true);
        let heard: Option<Vec<_>> = blocks(&std::fs::read(&path).unwrap()).into_iter().collect();
        let heard = heard.expect("no silence takes the place of lost blocks");
        let missing = u64::from(heard[heard.len() - 1] - heard[0]) + 1 - heard.len() as u64;
        (row["lost"] == missing).then_some((row, heard))
    });
    assert!(heard.is_sorted_by(|a, b| a < b), "in order, and none twice");
    let holes = heard.windows(2).filter(|pair| pair[0] + 1 < pair[1]).count() as u64;
    let gaps = row["gaps"].as_u64().unwrap();
    assert!(2 <= holes && holes <= gaps && gaps <= max_gaps, "{holes} holes, {max_gaps} gaps at most: {row}");
    drop(listener);
}

#[test]
fn gaps_silence_replaces_lost_blocks_by_as_much_silence() {
    let (directory, server, listener) = start_listening(&[], "buffer=200ms&gaps=silence");
    signal(listener.pid(), "STOP");
    let row = server.row_when("one", |row| row["lost"].as_u64().unwrap() > 50);
    assert_identity(&row);
    signal(listener.pid(), "CONT");
    server.row_when("one", |row| row["gaps"].as_u64() > Some(0) && seconds(row, "lag_seconds") < 0.1);
    let path = directory.path().join("heard");
    eventually("sound after the gap", || {
        let heard = blocks(&std::fs::read(&path).unwrap());
        heard.last().copied().flatten().is_some().then_some(())
    });
    let heard = eventually("as much silence as was lost", || {
        let lost = server.row_when("one", |_| true)["lost"].as_u64().unwrap();
        let heard = blocks(&std::fs::read(&path).unwrap());
        let silent = heard.iter().filter(|block| block.is_none()).count();
        (silent as u64 == lost).then_some(heard)
    });
    drop(listener);
    let first = heard[0].unwrap();
    for (position, block) in (first..).zip(&heard) {
        assert!(block.is_none_or(|number| number == position), "{block:?} where {position} belongs");
    }
    assert_eq!(server.ask(&[], "stream.json?gaps=silence").0, 400);
}

/// Parses the events so far, without comments: number, name and data.
fn events(text: &str) -> Vec<(u64, String, Value)> {
    let event = |event: &str| {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        Some((field("id: ")?.parse().unwrap(), field("event: ")?, serde_json::from_str(&field("data: ")?).unwrap()))
    };
    // The last event may not be complete.
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    whole.split("\n\n").filter_map(event).collect()
}

#[test]
fn events_come_in_order_and_resume_after_the_last_event_id() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let path = directory.path().join("events");
    let watcher = Listener::start(&server.url("api/v1/events"), &path);
    let event_named = |name: &str| {
        eventually(&format!("the event {name}"), || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            events(&text).into_iter().find(|(_, event, _)| event == name)
        })
    };
    // The first comment says that it is connected.
    eventually("the connection", || std::fs::read(&path).is_ok_and(|bytes| !bytes.is_empty()).then_some(()));

    let url = server.url("stream.wav?sample=f32le&buffer=200ms&name=%22slow%22");
    let slow = Listener::start(&url, &directory.path().join("slow"));
    let (_, _, joined) = event_named("joined");
    assert_eq!(joined["listener"]["name"], "\"slow\"");
    assert_eq!(joined["listener"]["format"], "wav");
    server.row_when("\"slow\"", |row| row["delivered"].as_u64().unwrap() > 20);
    signal(slow.pid(), "STOP");
    // On an overloaded machine it may have fallen behind before, with another fault.
    let behind = eventually("the fault of the listener", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut behind = events(&text).into_iter().filter(|(_, event, _)| event == "fell_behind");
        behind.find_map(|(_, _, event)| (event["fault"] == "listener").then_some(event))
    });
    assert!(seconds(&behind, "lag_seconds") >= 0.05, "{behind}");
    let (_, _, skipped) = event_named("skipped");
    assert!(skipped["blocks"].as_u64().unwrap() > 0, "{skipped}");
    signal(slow.pid(), "CONT");
    event_named("caught_up");
    drop(slow);
    let (number, _, left) = event_named("left");
    assert_eq!(left["reason"], "left");
    let count = |key: &str| left[key].as_u64().unwrap();
    assert_eq!(count("offered"), count("delivered") + count("lost"), "{left}");

    let all = events(&std::fs::read_to_string(&path).unwrap());
    assert!(all.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "numbered without a gap: {all:?}");
    assert!(all.windows(2).all(|pair| pair[0].2["at"].as_f64() <= pair[1].2["at"].as_f64()), "{all:?}");
    assert!(all.iter().all(|(_, _, data)| data["sequence"].is_u64()), "{all:?}");
    drop(watcher);

    // A client that has all events but the last.
    let again = directory.path().join("again");
    let header = format!("Last-Event-ID: {}", number - 1);
    // An EventSource that reconnects repeats its first URL.
    let url = server.url("api/v1/events?from=0");
    let mut curl = common::curl(&["-H", &header, "--output", again.to_str().unwrap(), &url]);
    let mut curl = curl.spawn().unwrap();
    eventually("the event that was missed", || {
        let text = std::fs::read_to_string(&again).unwrap_or_default();
        events(&text).first().map(|first| assert_eq!((first.0, first.1.as_str()), (number, "left")))
    });
    let (status, answer) = server.ask(&[], "api/v1/events?from=first");
    assert!(status == 400 && answer.contains("`first` is not the number of an event"), "{answer}");
    server.terminate();
    assert!(common::wait(&mut curl).success(), "it ends properly");
    for line in ["joined listener=1", "fell_behind listener=1", "skipped listener=1", "left listener=1"] {
        server.wait_for_log(line);
    }
}

/// Returns the lengths of a response's chunks. Each chunk was sent at once.
fn chunks(stream: TcpStream) -> Vec<usize> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let mut chunks = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).unwrap();
        if length == 0 {
            return chunks;
        }
        chunks.push(length);
    }
}

#[test]
fn gather_sends_whole_blocks_together_and_counts_the_wait_as_lag() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let host = server.address;
    write!(stream, "GET /stream.pcm?name=seldom&buffer=4s&gather=500ms HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let reading = std::thread::spawn(move || chunks(stream));
    // Blocks that are gathered count as lag.
    server.row_when("seldom", |row| seconds(row, "lag_seconds") > 0.2);
    let row = server.row_when("seldom", |row| row["delivered"].as_u64().unwrap() > 350);
    assert_identity(&row);
    assert_eq!(row["lost"], 0, "{row}");
    assert!(seconds(&row, "lag_p50_seconds") > 0.05, "{row}");
    let id = &row["id"];
    assert_eq!(server.ask(&["-X", "DELETE"], &format!("api/v1/listeners/{id}")).0, 200);

    let chunks = reading.join().unwrap();
    // The first and the last may be anything.
    let between = &chunks[1..chunks.len() - 1];
    let block_bytes = 480 * 2 * server.json("api/v1/status")["format"]["channels"].as_u64().unwrap() as usize;
    assert!(between.iter().all(|chunk| chunk % block_bytes == 0), "{between:?}");
    let mean = between.iter().sum::<usize>() / between.len() / block_bytes;
    assert!((40..=60).contains(&mean), "{mean} blocks at a time: {chunks:?}");
}

#[test]
fn requested_burst_is_reported_apart_from_lag_faults() {
    let server = Server::start(&["--source", "tone:440"]);
    eventually("a history", || (server.json("api/v1/status")["head_sequence"].as_u64() > Some(250)).then_some(()));
    let mut stream = TcpStream::connect(server.address).unwrap();
    // It may be a second behind besides.
    write!(stream, "GET /stream.pcm?burst=2s&buffer=4s&name=burst HTTP/1.1\r\nHost: {}\r\n\r\n", server.address)
        .unwrap();
    let reading = std::thread::spawn(move || read_at_the_pace_of_sound(stream));
    let row = server.row_when("burst", |row| {
        // At first its kernel takes in more than its window shows.
        row["delivered"].as_u64().unwrap() > 100 && seconds(row, "burst_seconds") > 0.5
    });
    let (lag, burst) = (seconds(&row, "lag_seconds"), seconds(&row, "burst_seconds"));
    assert!(burst > 0.5 && lag >= burst, "{row}");
    assert!(row["fault"].is_null(), "a requested burst of {burst} s is no fault: {row}");
    assert_eq!(row["verdict"], "ok");
    let text = server.text("metrics");
    assert!(!text.contains("aircheck_listener_burst_seconds{"), "only listeners that are behind have series: {text}");
    drop(server);
    reading.join().unwrap();
}

/// Reads until the stream ends, as players do: so the lag of a burst stays. The sound has 48,000 samples a second, in chunks.
fn read_at_the_pace_of_sound(mut stream: TcpStream) {
    const BYTES_PER_SECOND: f64 = 97_000.0;
    let (start, mut taken, mut bytes) = (Instant::now(), 0, [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        taken += count;
        let due = Duration::from_secs_f64(taken as f64 / BYTES_PER_SECOND);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
}

#[test]
fn open_metrics_are_served_on_request() {
    let server = Server::start(&["--source", "tone:440"]);
    let (status, response) = server.ask(&["-H", "Accept: application/openmetrics-text"], "metrics");
    assert_eq!(status, 200);
    assert!(response.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(response.ends_with("# EOF\n"), "{response}");
    assert!(response.contains("# TYPE aircheck_offered_blocks counter\n"), "{response}");
    assert!(response.contains("\naircheck_offered_blocks_total{mount=\"main\",format=\"wav\"} 0\n"), "{response}");
    let (_, response) = server.ask(&[], "metrics");
    assert!(response.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{response}");
}

/// Returns how many blocks kernels hold for a listener that never reads and has the smallest receive buffer.
fn blocks_in_kernels(socket_buffer: &str) -> u64 {
    let server = Server::start(&["--source", "tone:440", "--socket-buffer", socket_buffer]);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Before it connects, because that agrees on the window.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    write!(stream, "GET /stream.wav?name=frozen HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).unwrap();
    let row = server.row_when("frozen", |row| row["queued"].as_u64().unwrap() > 50);
    assert_identity(&row);
    // The queue grows and no block is delivered: the kernel is full.
    let delivered = row["delivered"].as_u64().unwrap();
    let row = server.row_when("frozen", |row| row["queued"].as_u64().unwrap() > 80);
    assert_eq!(row["delivered"], delivered);
    let on_its_way = seconds(&row, "socket_queued_seconds") + seconds(&row, "unread_seconds");
    // An estimate of what is unread is right to two blocks.
    assert!((on_its_way - delivered as f64 * 0.01).abs() <= 0.02, "of {delivered} blocks: {row}");
    delivered
}

#[test]
fn socket_buffer_bounds_what_kernels_hold() {
    // A block has 960 bytes: 50 ms are 4800 bytes unsent, and the listener's receive buffer takes some 4 KB more.
    let little = blocks_in_kernels("50ms");
    assert!(little <= 20, "{little} blocks");
    let much = blocks_in_kernels("1s");
    assert!((100..150).contains(&much), "{much} blocks");
}
