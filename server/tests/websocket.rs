//! The WebSocket, by a client that is not ours: what comes, how it ends, and what becomes of what the client says.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{PATIENCE, Server, assert_identity, eventually, raw, tone_and_rms};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

/// Messages after which what a test waits for comes no more: 50 s of sound.
const MESSAGES_MOST: u64 = 5000;

/// A listener by WebSocket.
struct Client {
    socket: WebSocket<TcpStream>,
    messages: u64,
    hello: Value,
}

/// A binary message, as the interface lays it out.
struct Block {
    kind: u8,
    sequence: u64,
    captured_at: f64,
    payload: Vec<u8>,
}

/// What a client gets, and it was not asked for.
enum Got {
    Block(Block),
    Gap { from: u64, blocks: u64, reason: String },
}

impl Client {
    fn listen(server: &Server, query: &str) -> Self {
        Self::listen_with(server.address, query, None)
    }

    /// With a receive buffer of so many bytes.
    fn listen_with(address: SocketAddr, query: &str, receive_buffer: Option<usize>) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.connect(&SockAddr::from(address)).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut socket, _) = tungstenite::client(format!("ws://{address}/stream?{query}"), stream).unwrap();
        let first = socket.read().unwrap();
        let Message::Text(hello) = first else { panic!("{first:?}") };
        let mut hello: Value = serde_json::from_str(&hello).unwrap();
        Self { socket, messages: 0, hello: hello["hello"].take() }
    }

    fn say(&mut self, text: &Value) {
        self.socket.send(Message::text(text.to_string())).unwrap();
    }

    /// The next message that is neither a ping nor a pong.
    fn message(&mut self) -> Message {
        loop {
            self.messages += 1;
            assert!(self.messages < MESSAGES_MOST, "it does not come");
            match self.socket.read().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    fn next(&mut self) -> Got {
        match self.message() {
            Message::Binary(bytes) => Got::Block(block(&bytes)),
            Message::Text(text) => {
                let gap = &serde_json::from_str::<Value>(&text).unwrap()["gap"];
                let count = |key: &str| gap[key].as_u64().unwrap_or_else(|| panic!("{text}"));
                let reason = gap["reason"].as_str().unwrap().to_owned();
                Got::Gap { from: count("from"), blocks: count("blocks"), reason }
            }
            message => panic!("{message:?}"),
        }
    }

    fn block(&mut self) -> Block {
        match self.next() {
            Got::Block(block) => block,
            Got::Gap { from, blocks, .. } => panic!("{blocks} blocks are missing from {from} on"),
        }
    }

    /// The next text, whatever blocks come before it.
    fn text(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.message() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The code and reason with which the server ends it.
    fn close(&mut self) -> (CloseCode, String) {
        loop {
            if let Message::Close(frame) = self.message() {
                let frame = frame.unwrap();
                return (frame.code, frame.reason.to_string());
            }
        }
    }

    /// Likewise, where the server waits for the answer before it closes the connection.
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
    assert_eq!([message[0], message[2], message[3]], [1, 0, 0], "version 1, and nothing in what is reserved");
    let length = u32::from_le_bytes(message[4..8].try_into().unwrap());
    assert_eq!(message.len(), 24 + length as usize);
    let captured_at = number(16..24) as f64 / 1e9;
    Block { kind: message[1], sequence: number(8..16), captured_at, payload: message[24..].to_vec() }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// A WAV file of a ramp through all values of 16 bits, one second of stereo, and its samples.
fn ramp(directory: &std::path::Path) -> (String, Vec<i16>) {
    let path = directory.join("ramp.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let samples: Vec<i16> = (0..96_000_i32).map(|n| n as i16).collect();
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
    (format!("wav:{}", path.display()), samples)
}

#[test]
fn samples_come_as_they_are_in_the_file_and_the_end_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (source, samples) = ramp(directory.path());
    for (payload, kind) in [("f32", 1), ("s16", 2)] {
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
        let first_at = client.hello["now"].as_f64().unwrap();
        for number in 0..100 {
            let Block { kind: got, sequence, captured_at, payload } = client.block();
            assert_eq!((got, sequence), (kind, number));
            assert!((captured_at - first_at - number as f64 * 0.01).abs() < 60.0, "{captured_at}");
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
fn packets_of_opus_decode_to_the_tone() {
    let server = Server::start(&["--source", "tone:440", "--block", "20ms"]);
    let mut client = Client::listen(&server, "payload=opus&bitrate=65000");
    let hello = ["payload", "rate_hz", "bitrate"].map(|member| client.hello[member].clone());
    assert_eq!(hello, [json!("opus"), json!(48_000), json!(64_000)], "the nearest bitrate is 64000");
    let channels = client.hello["channels"].as_u64().unwrap() as usize;
    let mut decoder = opus::Decoder::new(48_000, [opus::Channels::Mono, opus::Channels::Stereo][channels - 1]).unwrap();
    let (mut heard, mut next, mut bytes) = (Vec::new(), None, 0);
    while heard.len() < 100 * 960 {
        let Got::Block(Block { kind, sequence, payload, .. }) = client.next() else {
            // On a machine that has too much to do. From there on anew.
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
fn who_stops_reading_is_told_of_every_block_that_it_lost() {
    let server = Server::start(&["--source", "tone:440", "--buffer", "200ms"]);
    let mut client = Client::listen_with(server.address, "name=slow", Some(4096));
    let mut next = client.block().sequence + 1;
    server.row_when("slow", |row| row["lost"].as_u64().unwrap() > 30);
    let (mut told, mut gaps) = (0, 0);
    // It may lose more before it has caught up.
    while told == 0 || client.row(&server)["lost"] != told {
        match client.next() {
            Got::Block(block) => {
                assert_eq!(block.sequence, next);
                next += 1;
            }
            Got::Gap { from, blocks, reason } => {
                assert_eq!(from, next);
                assert!(["overflow", "skipped"].contains(&reason.as_str()), "{reason}");
                next += blocks;
                told += blocks;
                gaps += 1;
            }
        }
    }
    let row = client.row(&server);
    assert_identity(&row);
    assert_eq!([row["lost"].as_u64(), row["gaps"].as_u64()], [Some(told), Some(gaps)], "{row}");
}

#[test]
fn what_is_heard_is_in_the_row_and_in_the_metrics() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "name=ear");
    assert!(client.row(&server)["latency_seconds"]["ear"].is_null());
    for _ in 0..3 {
        let Block { sequence, captured_at, .. } = client.block();
        // As if it had sounded 70 ms after it was captured, which is to have passed.
        eventually("time to pass", || (unix_now() > captured_at + 0.07).then_some(()));
        client.say(&json!({"heard": {"sequence": sequence, "at": captured_at + 0.07}}));
    }
    let row = server.row_when("ear", |row| row["latency_seconds"]["ear"]["p50"].is_number());
    let p50 = row["latency_seconds"]["ear"]["p50"].as_f64().unwrap();
    assert!((0.065..0.075).contains(&p50), "{row}");
    let count = || server.text("metrics").contains("aircheck_latency_seconds_count{stage=\"ear\"} 3\n").then_some(());
    eventually("three reports in the metrics", count);
}

#[test]
fn the_time_is_told() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "");
    let before = unix_now();
    client.say(&json!({"clock": 12.25}));
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
fn nonsense_is_answered_with_a_sentence_and_feeds_nothing() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "name=liar");
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
        client.say(&said);
        let answer = client.text();
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(word)), "{said}: {answer}");
    }
    let row = server.row_when("liar", |row| row["delivered"].as_u64().unwrap() > 10);
    assert!(row["latency_seconds"]["ear"].is_null(), "{row}");
    assert!(server.text("metrics").contains("aircheck_latency_seconds_count{stage=\"ear\"} 0\n"));
    // However much nonsense comes, few answers do.
    (0..1000).for_each(|_| client.say(&json!({"volume": 11})));
    client.say(&json!({"clock": 7}));
    let mut answers = 0;
    while client.text()["clock"].is_null() {
        answers += 1;
    }
    assert!(answers < 100, "{answers} answers");
}

#[test]
fn what_is_not_taken_ends_it_with_a_reason() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut client = Client::listen(&server, "");
    client.socket.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(client.end(), (CloseCode::Unsupported, "binary messages are not taken".to_owned()));

    let mut client = Client::listen(&server, "");
    client.socket.send(Message::text("x".repeat(2000))).unwrap();
    assert_eq!(client.close(), (CloseCode::Size, "messages are too long".to_owned()));

    // A frame that a client may not send: without a mask.
    let mut client = Client::listen(&server, "");
    client.socket.get_mut().write_all(&[0x81, 1, b'x']).unwrap();
    assert_eq!(client.close().0, CloseCode::Protocol);
    eventually("an empty table", || server.rows().is_empty().then_some(()));
}

#[test]
fn no_handshake_no_listener() {
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
        // The connection stays open for another try; a request to close it comes right behind.
        let close = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(raw(server.address, (request.clone() + &close).as_bytes())).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
        assert!(answer.contains(word), "{request}{answer}");
    }
    assert!(server.rows().is_empty());
}

#[test]
fn whoever_ends_it_it_ends_in_order() {
    let mut server = Server::start(&["--source", "tone:440"]);
    let mut read = 0;
    for _ in 0..20 {
        let mut client = Client::listen(&server, "name=leaves");
        client.block();
        client.socket.close(None).unwrap();
        // What was on its way still comes.
        read += 1 + std::iter::from_fn(|| client.socket.read().ok()).filter(Message::is_binary).count();
    }
    eventually("an empty table", || server.rows().is_empty().then_some(()));
    // A block that crosses the listener's close counts as what it is.
    let delivered = format!("aircheck_delivered_blocks_total{{format=\"ws\"}} {read}\n");
    let metrics = server.text("metrics");
    let told = metrics.lines().find(|line| line.starts_with("aircheck_delivered_blocks_total{format=\"ws\"}"));
    assert!(metrics.contains(&delivered), "{read} were read: {told:?}");

    let mut client = Client::listen(&server, "name=thrown-out");
    client.block();
    let id = &client.hello["listener"];
    assert_eq!(server.ask(&["-X", "DELETE"], &format!("api/v1/listeners/{id}")).0, 200);
    assert_eq!(client.end(), (CloseCode::Policy, "closed".to_owned()));

    // One that reads on, one that stands still, and the server's end.
    let mut client = Client::listen(&server, "name=reads");
    client.block();
    let _still = Client::listen_with(server.address, "name=still", Some(4096));
    server.row_when("still", |row| row["queued"].as_u64().unwrap() > 10);
    server.terminate();
    assert_eq!(client.end(), (CloseCode::Normal, "finished".to_owned()));
    assert!(server.wait().success());
}

/// A frozen listener can't be told; it is taken off the list all the same.
#[test]
fn one_that_stands_still_can_be_thrown_out() {
    let server = Server::start(&["--source", "tone:440"]);
    let client = Client::listen_with(server.address, "name=still", Some(4096));
    server.row_when("still", |row| row["queued"].as_u64().unwrap() > 10);
    let id = &client.hello["listener"];
    assert_eq!(server.ask(&["-X", "DELETE"], &format!("api/v1/listeners/{id}")).0, 200);
    eventually("an empty table", || server.rows().is_empty().then_some(()));
}
