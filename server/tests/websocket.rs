//! The WebSocket with an independent client: its messages, its end, and the effect of the messages of the client.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Server, TEST_TIMEOUT, assert_identity, eventually, raw, tone_and_rms, write_wav};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

/// The most messages before the one that a test waits for: 50 s of sound.
const MAX_MESSAGES: u64 = 5000;

/// A listener by WebSocket.
struct Client {
    socket: WebSocket<TcpStream>,
    messages: u64,
    pings: u64,
    hello: Value,
}

/// A binary message, as the interface lays it out.
struct Block {
    kind: u8,
    sequence: u64,
    captured_at: f64,
    payload: Vec<u8>,
}

/// A message of the stream.
enum StreamMessage {
    Block(Block),
    Gap { from: u64, blocks: u64, reason: String },
    Stale { before: u64 },
}

impl Client {
    fn listen(server: &Server, query: &str) -> Self {
        Self::listen_with(server.address, query, None)
    }

    /// Listens with a receive buffer of `receive_buffer` bytes.
    fn listen_with(address: SocketAddr, query: &str, receive_buffer: Option<usize>) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.connect(&SockAddr::from(address)).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let (mut socket, _) = tungstenite::client(format!("ws://{address}/stream?{query}"), stream).unwrap();
        let first = socket.read().unwrap();
        let Message::Text(hello) = first else { panic!("{first:?}") };
        let mut hello: Value = serde_json::from_str(&hello).unwrap();
        Self { socket, messages: 0, pings: 0, hello: hello["hello"].take() }
    }

    fn send(&mut self, text: &Value) {
        self.socket.send(Message::text(text.to_string())).unwrap();
    }

    /// Returns the next message that is neither a ping nor a pong.
    fn message(&mut self) -> Message {
        loop {
            self.messages += 1;
            assert!(self.messages < MAX_MESSAGES, "the message does not come");
            match self.socket.read().unwrap() {
                Message::Ping(_) => self.pings += 1,
                Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    fn next(&mut self) -> StreamMessage {
        match self.message() {
            Message::Binary(bytes) => StreamMessage::Block(block(&bytes)),
            Message::Text(text) => {
                let text: Value = serde_json::from_str(&text).unwrap();
                if let Some(before) = text["stale"]["before"].as_u64() {
                    return StreamMessage::Stale { before };
                }
                let gap = &text["gap"];
                let count = |key: &str| gap[key].as_u64().unwrap_or_else(|| panic!("{text}"));
                let reason = gap["reason"].as_str().unwrap().to_owned();
                StreamMessage::Gap { from: count("from"), blocks: count("blocks"), reason }
            }
            message => panic!("{message:?}"),
        }
    }

    fn block(&mut self) -> Block {
        match self.next() {
            StreamMessage::Block(block) => block,
            StreamMessage::Stale { before } => panic!("sound before {before} is old"),
            StreamMessage::Gap { from, blocks, .. } => panic!("{blocks} blocks are missing from {from} on"),
        }
    }

    /// Reads blocks until the server knows that pings are answered here: it has sent another one. Returns the next number.
    fn read_until_pings_tell(&mut self) -> u64 {
        let mut next = self.block().sequence + 1;
        while self.pings < 2 {
            next = self.block().sequence + 1;
        }
        next
    }

    /// Returns the next text message and discards the blocks before it.
    fn text(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.message() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Waits for the close message of the server and returns its code and reason.
    fn close(&mut self) -> (CloseCode, String) {
        loop {
            if let Message::Close(frame) = self.message() {
                let frame = frame.unwrap();
                return (frame.code, frame.reason.to_string());
            }
        }
    }

    /// Waits for the close message like [`close`](Self::close), and then for the end of the connection.
    fn end(mut self) -> (CloseCode, String) {
        let close = self.close();
        assert!(matches!(self.socket.read(), Err(Error::ConnectionClosed)));
        close
    }

    fn row(&self, server: &Server) -> Value {
        server.rows().into_iter().find(|row| row["id"] == self.hello["listener"]).unwrap()
    }
}

fn block(message: &[u8]) -> Block {
    let number = |bytes: std::ops::Range<usize>| u64::from_le_bytes(message[bytes].try_into().unwrap());
    assert_eq!([message[0], message[2], message[3]], [1, 0, 0], "version 1, and zeros in the reserved field");
    let length = u32::from_le_bytes(message[4..8].try_into().unwrap());
    assert_eq!(message.len(), 24 + length as usize);
    let captured_at = number(16..24) as f64 / 1e9;
    Block { kind: message[1], sequence: number(8..16), captured_at, payload: message[24..].to_vec() }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Writes a WAV file of a ramp through all values of 16 bits, one second of stereo; returns the source and its samples.
fn ramp(directory: &std::path::Path) -> (String, Vec<i16>) {
    let samples: Vec<i16> = (0..96_000_i32).map(|n| n as i16).collect();
    (write_wav(&directory.join("ramp.wav"), 2, samples.iter().copied()), samples)
}

#[test]
fn samples_arrive_unchanged_with_capture_times_and_a_close_message() {
    let directory = tempfile::tempdir().unwrap();
    let (source, samples) = ramp(directory.path());
    for (payload, kind) in [("f32", 1), ("s16", 2)] {
        let starting_at = unix_now();
        let server = Server::start(&["--source", &source]);
        let mut client = Client::listen(&server, &format!("from=0&name=one&payload={payload}"));
        assert_eq!(client.hello["payload"], payload);
        assert_eq!(client.hello["version"], 1);
        assert_eq!(client.hello["rate_hz"], 48_000);
        assert_eq!(client.hello["channels"], 2);
        assert_eq!(client.hello["block_frames"], 480);
        let row = client.row(&server);
        assert_eq!([&row["name"], &row["format"]], ["one", "ws"]);

        let mut heard = Vec::new();
        let mut epoch = None;
        for number in 0..100 {
            let Block { kind: got, sequence, captured_at, payload } = client.block();
            let now = unix_now();
            assert_eq!((got, sequence), (kind, number));
            // A file is captured at the pace of its samples, between the start of the server and the block's arrival.
            let epoch = *epoch.get_or_insert(captured_at);
            let offset = captured_at - epoch - number as f64 * 0.01;
            assert!(offset.abs() < 1e-6, "block {number} is {offset} s beside its place");
            assert!(starting_at <= epoch && captured_at <= now, "{starting_at}, {epoch}, {captured_at}, {now}");
            match kind {
                1 => heard
                    .extend(payload.as_chunks().0.iter().map(|bytes| (f32::from_le_bytes(*bytes) * 32_768.0) as i16)),
                _ => heard.extend(payload.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes))),
            }
        }
        assert!(heard == samples);
        assert_eq!(client.end(), (CloseCode::Normal, "finished".to_owned()));
    }
}

#[test]
fn opus_packets_decode_to_the_tone() {
    let server = Server::start(&["--source", "tone:440", "--block", "20ms"]);
    let mut client = Client::listen(&server, "payload=opus&bitrate=65000");
    let hello = ["payload", "rate_hz", "bitrate"].map(|member| client.hello[member].clone());
    assert_eq!(hello, [json!("opus"), json!(48_000), json!(64_000)], "the nearest bitrate is 64000");
    let channels = client.hello["channels"].as_u64().unwrap() as usize;
    let mut decoder = opus::Decoder::new(48_000, [opus::Channels::Mono, opus::Channels::Stereo][channels - 1]).unwrap();
    let (mut heard, mut next, mut bytes) = (Vec::new(), None, 0);
    while heard.len() < 100 * 960 {
        let StreamMessage::Block(Block { kind, sequence, payload, .. }) = client.next() else {
            // A gap, on an overloaded machine: starts again.
            (heard, next, bytes) = (Vec::new(), None, 0);
            continue;
        };
        assert_eq!((kind, sequence), (3, next.unwrap_or(sequence)));
        next = Some(sequence + 1);
        let mut samples = vec![0.0; 960 * channels];
        assert_eq!(decoder.decode_float(&payload, &mut samples, false).unwrap(), 960);
        heard.extend(samples.iter().step_by(channels));
        bytes += payload.len();
    }
    let (hz, rms) = tone_and_rms(&heard[9600..], 48_000, &[220.0, 415.0, 440.0, 466.0, 880.0]);
    assert_eq!(hz, 440.0);
    assert!((0.1..0.9).contains(&rms), "{rms}");
    assert!((8000..20_000).contains(&bytes), "{bytes} bytes for 2 s of 64 kbit/s");
}

#[test]
fn every_lost_block_is_reported_to_a_slow_reader() {
    let server = Server::start(&["--source", "tone:440", "--buffer", "200ms"]);
    // Larger than what waits unsent for it: into a smaller window, Linux sends a piece every 200 ms only, and it would stay
    // behind for ever.
    let mut client = Client::listen_with(server.address, "name=slow", Some(32 * 1024));
    let mut next = client.block().sequence + 1;
    server.row_when("slow", |row| row["lost"].as_u64().unwrap() > 30);
    let (mut told, mut gaps) = (0, 0);
    // It may lose more before it has caught up, and while its row is read.
    let row = loop {
        match client.next() {
            StreamMessage::Block(block) => {
                assert_eq!(block.sequence, next);
                next += 1;
                // A row takes longer than a block, so one for each block would keep it behind for ever.
                if told > 0 && unix_now() < block.captured_at + 0.1 {
                    let row = client.row(&server);
                    if row["lost"] == told {
                        break row;
                    }
                }
            }
            StreamMessage::Stale { before } => panic!("sound before {before} is old, for a client that is no player"),
            StreamMessage::Gap { from, blocks, reason } => {
                assert_eq!(from, next);
                assert!(["overflow", "skipped"].contains(&reason.as_str()), "{reason}");
                next += blocks;
                told += blocks;
                gaps += 1;
            }
        }
    };
    assert_identity(&row);
    assert_eq!([row["lost"].as_u64(), row["gaps"].as_u64()], [Some(told), Some(gaps)], "{row}");
}

/// What a row does not know of a client of WebSockets: a ping comes each 250 ms and is late after 200 ms.
const BETWEEN_PINGS_SECONDS: f64 = 0.5;

#[test]
fn a_player_that_comes_back_is_told_which_sound_is_old() {
    for payload in ["s16", "f32", "opus"] {
        // A ring of 8 s loses nothing. The listener is behind from 2 s on.
        let server = Server::start(&["--source", "tone:440", "--buffer", "8s"]);
        let mut client = Client::listen(&server, &format!("name=player&payload={payload}"));
        let block_seconds = client.hello["block_seconds"].as_f64().unwrap();
        // A player asks for the time.
        client.send(&json!({"clock": 1}));
        assert_eq!(client.text()["clock"]["asked"], 1.0);
        let mut next = client.read_until_pings_tell();
        // It reads nothing until a series of its own shows that the watch has seen it.
        let is_behind = || server.text("metrics").contains("aircheck_listener_lag_seconds{").then_some(());
        eventually("a listener that is behind", is_behind);
        let row = client.row(&server);
        let [stale, unread, lag] =
            ["stale_seconds", "unread_seconds", "lag_seconds"].map(|key| row[key].as_f64().unwrap());
        assert!((stale - unread).abs() < 0.02 + unread / 100.0, "all that it has not read was delivered: {row}");
        assert!(stale > 0.0 && stale < lag + 0.05, "{row}");
        if payload == "opus" {
            // So few bytes that its kernel has taken all of them.
            assert!((stale - lag).abs() < BETWEEN_PINGS_SECONDS, "{row}");
        }
        let came_back = unix_now();
        let mut stale_at = 0.0;
        let before = loop {
            match client.next() {
                StreamMessage::Block(block) => {
                    assert_eq!(block.sequence, next);
                    next += 1;
                    stale_at = block.captured_at;
                }
                StreamMessage::Stale { before } => break before,
                StreamMessage::Gap { from, blocks, .. } => panic!("{blocks} blocks are missing from {from} on"),
            }
        };
        let told_at = unix_now();
        assert!(before <= next, "{before} was not sent before {next}");
        // The watch looks ten times a second; a busy machine may be late.
        let live_at = stale_at - (next - before) as f64 * block_seconds;
        assert!(
            (came_back - 1.0..told_at).contains(&live_at),
            "{live_at} is not between when it came back, {came_back}, and when it was told so, {told_at}"
        );
        // It is told once.
        for _ in 0..100 {
            assert_eq!(client.block().sequence, next);
            next += 1;
        }
        // Nothing is stale any more.
        while client.row(&server)["stale_seconds"].as_f64() > Some(0.0) {
            (0..50).for_each(|_| drop(client.block()));
        }
    }
}

#[test]
fn a_player_that_is_skipped_to_live_is_told_so_before_the_first_live_block() {
    // So long that a busy machine does not make it lose more while it reads.
    let server = Server::start(&["--source", "tone:440", "--buffer", "2s"]);
    // Larger than what waits unsent for it, as above, and so small that sound is lost soon.
    let mut client = Client::listen_with(server.address, "name=skipped&payload=f32", Some(64 * 1024));
    client.send(&json!({"clock": 1}));
    assert_eq!(client.text()["clock"]["asked"], 1.0);
    server.row_when("skipped", |row| row["lost"].as_u64() > Some(50));
    let came_back = unix_now();
    let (mut last, mut gap_end, mut is_after_gap) = (0, 0, false);
    let before = loop {
        match client.next() {
            StreamMessage::Block(block) => (last, is_after_gap) = (block.sequence, false),
            StreamMessage::Gap { from, blocks, .. } => (gap_end, is_after_gap) = (from + blocks, true),
            StreamMessage::Stale { before } => break before,
        }
    };
    assert!(gap_end > 0, "it was skipped");
    // If another block had come before it was served, it is told as soon as it has caught up.
    assert!(last < before && (before == gap_end || !is_after_gap), "{last}, {gap_end}, {before}");
    let block = client.block();
    let before = if is_after_gap { before } else { block.sequence };
    assert_eq!(block.sequence, before, "the first live block comes next");
    assert!(block.captured_at > came_back - 1.0, "{} is the live head at {came_back}", block.captured_at);
    // It is told once.
    for number in before + 1..before + 100 {
        assert_eq!(client.block().sequence, number);
    }
}

#[test]
fn heard_reports_appear_in_the_row_and_in_the_metrics() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "name=ear");
    assert!(client.row(&server)["latency_seconds"]["ear"].is_null());
    for _ in 0..3 {
        let Block { sequence, captured_at, .. } = client.block();
        // Reports that it was heard 70 ms after its capture, once that time has passed.
        eventually("time to pass", || (unix_now() > captured_at + 0.07).then_some(()));
        client.send(&json!({"heard": {"sequence": sequence, "at": captured_at + 0.07}}));
    }
    let row = server.row_when("ear", |row| row["latency_seconds"]["ear"]["p50"].is_number());
    let p50 = row["latency_seconds"]["ear"]["p50"].as_f64().unwrap();
    assert!((0.065..0.075).contains(&p50), "{row}");
    let count = || {
        server
            .text("metrics")
            .contains("aircheck_latency_seconds_count{mount=\"main\",stage=\"ear\"} 3\n")
            .then_some(())
    };
    eventually("three reports in the metrics", count);
}

/// Sound that a player keeps before it is heard, in blocks.
const KEPT: usize = 150;

#[test]
fn sound_that_a_player_keeps_is_late_for_the_ear_and_no_lag() {
    let server = Server::start(&["--source", "tone:440"]);
    // Each of them reads everything. `None` reports nothing.
    let players = [("keeps", Some(KEPT)), ("plays", Some(1)), ("quiet", None)];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (name, kept) in players {
            let mut client = Client::listen(&server, &format!("name={name}"));
            let is_over = &is_over;
            scope.spawn(move || {
                let mut blocks = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    client.messages = 0;
                    let Block { sequence, captured_at, .. } = match client.next() {
                        StreamMessage::Block(block) => block,
                        // On a machine that is overloaded: it begins anew.
                        StreamMessage::Gap { .. } | StreamMessage::Stale { .. } => {
                            blocks.clear();
                            continue;
                        }
                    };
                    blocks.push((sequence, captured_at));
                    // It begins to hear a block when another one comes, which was captured so much later.
                    let Some(heard) = kept.and_then(|kept| blocks.len().checked_sub(kept + 1)) else { continue };
                    if blocks.len() % 50 == 0 {
                        let report = json!({"heard": {"sequence": blocks[heard].0, "at": captured_at}});
                        client.send(&report);
                    }
                }
            });
        }
        let _over = SetWhenDropped(&is_over);
        for (name, kept) in players {
            let ear = kept.map(|kept| kept as f64 * 0.01);
            // A machine that does not let it read for a moment makes it late, truly.
            let row = server.row_when(name, |row| {
                let told = row["latency_seconds"]["ear"]["p50"].as_f64();
                let seconds = |key: &str| row[key].as_f64().unwrap();
                told.is_some() == ear.is_some()
                    && seconds("lag_seconds") < 0.25
                    && seconds("lag_at_most_seconds") < 1.0
                    && row["offered"].as_u64() > Some(3 * KEPT as u64)
            });
            if let Some(ear) = ear {
                // Latencies are told to a sixteenth.
                let told = row["latency_seconds"]["ear"]["p50"].as_f64().unwrap();
                assert!((told - ear).abs() < ear / 16.0 + 0.001, "{ear} s are true: {row}");
            }
            assert_eq!([&row["verdict"], &row["state"]], ["ok", "reads"], "{row}");
        }
    });
}

/// Sets a flag at the end of a scope, also of one that fails.
struct SetWhenDropped<'f>(&'f AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_block_that_is_reported_as_heard_was_read_for_certain() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "name=reports&payload=opus&buffer=10s&max_lag=1m");
    let first = client.block();
    let last = client.read_until_pings_tell() - 1;
    // It reads nothing from here on. Its kernel takes everything, and what it says is all that is known.
    let block_seconds = client.hello["block_seconds"].as_f64().unwrap();
    let behind = |row: &Value, sequence: u64| {
        (first.sequence + row["offered"].as_u64().unwrap() - sequence - 1) as f64 * block_seconds
    };
    let seconds = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let row = server.row_when("reports", |row| seconds(row, "lag_seconds") > 1.5);
    let truth = behind(&row, last);
    assert!((seconds(&row, "lag_seconds") - truth).abs() < BETWEEN_PINGS_SECONDS, "{truth} is true: {row}");

    // A block that was read long before proves nothing new.
    let mut report = |sequence: u64| client.send(&json!({"heard": {"sequence": sequence, "at": unix_now()}}));
    report(first.sequence);
    let row = server.row_when("reports", |row| row["latency_seconds"]["ear"]["p50"].is_number());
    let truth = behind(&row, last);
    assert!((seconds(&row, "lag_seconds") - truth).abs() < BETWEEN_PINGS_SECONDS, "{truth} is true: {row}");
    assert!(seconds(&row, "lag_at_most_seconds") > truth - 0.02, "{truth} is true: {row}");

    // One that it has not read by the server's other signs: it has.
    let heard = last + 100;
    report(heard);
    let row = server.row_when("reports", |row| seconds(row, "lag_at_most_seconds") < behind(row, last) - 0.5);
    let most = behind(&row, heard);
    for key in ["lag_seconds", "lag_at_most_seconds"] {
        assert!((seconds(&row, key) - most).abs() < 0.02, "{key} is {most}: {row}");
    }
    assert!(seconds(&row, "lag_at_least_seconds") < most + 0.02, "{row}");
}

/// A listener may lie, but only about what its machine has acknowledged.
#[test]
fn a_block_that_has_not_arrived_is_not_heard_whatever_is_reported() {
    let server = Server::start(&["--source", "tone:440", "--buffer", "10s"]);
    let mut client = Client::listen_with(server.address, "name=lies&max_lag=1m", Some(4096));
    let first = client.block().sequence;
    let row = server.row_when("lies", |row| row["queued"].as_u64() > Some(50));
    // Written to its connection, whose window is closed: most of it waits in this machine.
    let written = first + row["delivered"].as_u64().unwrap() - 1;
    client.send(&json!({"heard": {"sequence": written, "at": unix_now()}}));
    let row = server.row_when("lies", |row| row["latency_seconds"]["ear"]["p50"].is_number());
    let [least, lag, most, undelivered, sent] =
        ["lag_at_least_seconds", "lag_seconds", "lag_at_most_seconds", "undelivered_seconds", "socket_queued_seconds"]
            .map(|key| row[key].as_f64().unwrap());
    assert!(sent > 0.0, "{row}");
    assert!(undelivered + sent <= least + 0.001 && least <= lag && lag <= most, "{row}");
}

#[test]
fn the_server_answers_clock_messages_and_pings() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "");
    let before = unix_now();
    client.send(&json!({"clock": 12.25}));
    let clock = &client.text()["clock"];
    assert_eq!(clock["asked"], 12.25);
    // The two clocks are one here; JSON has microseconds of it.
    assert!((before - 1e-3..unix_now() + 1e-3).contains(&clock["now"].as_f64().unwrap()), "{clock}");
    client.socket.send(Message::Ping("are you there".into())).unwrap();
    loop {
        if let Message::Pong(pong) = client.socket.read().unwrap() {
            assert_eq!(pong, "are you there");
            break;
        }
    }
}

#[test]
fn invalid_messages_get_an_error_and_change_no_metric() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "name=invalid");
    let Block { sequence, captured_at, .. } = client.block();
    let heard = |sequence: Value, at: f64| json!({"heard": {"sequence": sequence, "at": at}});
    for (said, word) in [
        (heard(json!(sequence), captured_at + 3600.0), "future"),
        (heard(json!(sequence), captured_at - 1.0), "before"),
        (heard(json!(sequence + 1_000_000), captured_at), "was not sent"),
        (heard(json!(-1), captured_at), "expected"),
        (heard(json!("seven"), captured_at), "expected"),
        (json!({"heard": {}}), "expected"),
        (json!({"clock": "noon"}), "expected"),
        (json!({"volume": 11}), "expected"),
        (json!([1, 2]), "expected"),
    ] {
        client.send(&said);
        let answer = client.text();
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(word)), "{said}: {answer}");
    }
    let row = server.row_when("invalid", |row| row["delivered"].as_u64().unwrap() > 10);
    assert!(row["latency_seconds"]["ear"].is_null(), "{row}");
    assert!(server.text("metrics").contains("aircheck_latency_seconds_count{mount=\"main\",stage=\"ear\"} 0\n"));
    // Invalid messages are answered at a limited rate.
    (0..1000).for_each(|_| client.send(&json!({"volume": 11})));
    client.send(&json!({"clock": 7}));
    let mut answers = 0;
    while client.text()["clock"].is_null() {
        answers += 1;
    }
    assert!(answers < 100, "{answers} answers");
}

#[test]
fn forbidden_messages_close_the_connection_with_a_reason() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "");
    client.socket.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(client.end(), (CloseCode::Unsupported, "binary messages are not taken".to_owned()));

    let mut client = Client::listen(&server, "");
    client.socket.send(Message::text("x".repeat(2000))).unwrap();
    assert_eq!(client.close(), (CloseCode::Size, "messages are too long".to_owned()));

    // A frame without a mask, which a client must not send.
    let mut client = Client::listen(&server, "");
    client.socket.get_mut().write_all(&[0x81, 1, b'x']).unwrap();
    assert_eq!(client.close().0, CloseCode::Protocol);
    eventually("an empty table", || server.rows().is_empty().then_some(()));
}

#[test]
fn a_failed_handshake_adds_no_listener() {
    let server = Server::start(&["--source", "tone:440"]);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, fields, status, word) in [
        ("stream", format!("{upgrade}{key}Sec-WebSocket-Version: 12\r\n"), 426, "version 13"),
        ("stream", format!("{upgrade}{key}"), 426, "version 13"),
        ("stream", format!("{upgrade}Sec-WebSocket-Version: 13\r\n"), 426, "ey"),
        ("stream?payload=mp3", format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"), 400, "payload"),
        ("stream?bitrate=96000", format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"), 400, "bitrate"),
        ("stream?payload=opus&bitrate=1", format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"), 400, "bitrate"),
        ("stream?gaps=silence", format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"), 400, "gaps"),
        ("stream?gather=20ms", format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"), 400, "gather"),
        ("stream?format=wav", format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"), 400, "format"),
    ] {
        let host = server.address;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        // The connection stays open for another request, so one that closes it follows.
        let close = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(raw(server.address, (request.clone() + &close).as_bytes())).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
        assert!(answer.contains(word), "{request}{answer}");
    }
    assert!(server.rows().is_empty());
}

#[test]
fn every_way_to_end_closes_in_order_and_counts_what_was_read() {
    let mut server = Server::start(&["--source", "tone:440"]);
    let mut read = 0;
    for _ in 0..20 {
        let mut client = Client::listen(&server, "name=leaves");
        client.block();
        client.socket.close(None).unwrap();
        // Blocks that were on their way still come.
        read += 1 + std::iter::from_fn(|| client.socket.read().ok()).filter(Message::is_binary).count();
    }
    eventually("an empty table", || server.rows().is_empty().then_some(()));
    // A block that crosses the listener's close message counts as delivered.
    let delivered = format!("aircheck_delivered_blocks_total{{mount=\"main\",format=\"ws\"}} {read}\n");
    let metrics = server.text("metrics");
    let told =
        metrics.lines().find(|line| line.starts_with("aircheck_delivered_blocks_total{mount=\"main\",format=\"ws\"}"));
    assert!(metrics.contains(&delivered), "{read} were read: {told:?}");

    let mut client = Client::listen(&server, "name=disconnected");
    client.block();
    let id = &client.hello["listener"];
    assert_eq!(server.ask(&["-X", "DELETE"], &format!("api/v1/listeners/{id}")).0, 200);
    assert_eq!(client.end(), (CloseCode::Policy, "closed".to_owned()));

    // The server ends with one listener that reads and one that is frozen.
    let mut client = Client::listen(&server, "name=reads");
    client.block();
    let _frozen = Client::listen_with(server.address, "name=frozen", Some(4096));
    server.row_when("frozen", |row| row["queued"].as_u64().unwrap() > 10);
    server.terminate();
    assert_eq!(client.end(), (CloseCode::Normal, "finished".to_owned()));
    assert!(server.wait().success());
}

#[test]
fn a_failed_source_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let recordings = folder.path().join("recordings");
    let flags = ["--source", "stdin", "--record", recordings.to_str().unwrap()];
    let mut server = Server::start_with(&flags, |command| command.stdin(reader));
    let mut client = Client::listen(&server, "name=told");
    let mut watcher = TcpStream::connect(server.address).unwrap();
    watcher.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    watcher.write_all(b"GET /api/v1/events?from=0 HTTP/1.0\r\n\r\n").unwrap();
    // A second of sound, and no whole frame.
    writer.write_all(&[0; 4 * 48_000 + 3]).unwrap();
    client.block();
    drop(writer);
    assert_eq!(client.end(), (CloseCode::Error, "failed".to_owned()));
    let mut events = String::new();
    watcher.read_to_string(&mut events).unwrap();
    assert!(events.contains(r#""event":"left","reason":"failed""#), "{events}");
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
    let sidecars = std::fs::read_dir(&recordings).unwrap().map(|entry| entry.unwrap().path());
    let sidecar = sidecars.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "jsonl")).unwrap();
    let notes = std::fs::read_to_string(sidecar).unwrap();
    assert!(notes.contains(r#""reason":"source_failed""#), "{notes}");
}

/// A frozen listener receives no close message; its row disappears all the same.
#[test]
fn a_frozen_websocket_listener_can_be_disconnected() {
    let server = Server::start(&["--source", "tone:440"]);
    let client = Client::listen_with(server.address, "name=frozen", Some(4096));
    server.row_when("frozen", |row| row["queued"].as_u64().unwrap() > 10);
    let id = &client.hello["listener"];
    assert_eq!(server.ask(&["-X", "DELETE"], &format!("api/v1/listeners/{id}")).0, 200);
    eventually("an empty table", || server.rows().is_empty().then_some(()));
}

#[test]
fn pings_show_how_much_a_client_has_not_read_of_packets_too_small_for_a_window() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "name=small&payload=opus&buffer=10s&max_lag=1m");
    let read = 150;
    for _ in 0..read {
        client.block();
    }
    let row = server.row_when("small", |row| row["lag_seconds"].as_f64().unwrap() > 2.0);
    let [least, lag, most] =
        ["lag_at_least_seconds", "lag_seconds", "lag_at_most_seconds"].map(|key| row[key].as_f64().unwrap());
    let truth = (row["offered"].as_u64().unwrap() - read) as f64 * client.hello["block_seconds"].as_f64().unwrap();
    assert!((least - 0.01..most + 0.01).contains(&truth), "{truth} of {least} to {most}");
    // A ping each 250 ms shows where it stopped.
    assert!((lag - truth).abs() < 0.35, "{truth} was shown as {lag}");
    // It catches up, faster than blocks come.
    while server.rows()[0]["lag_at_most_seconds"].as_f64().unwrap() > 1.0 {
        (0..100).for_each(|_| drop(client.block()));
    }
}
