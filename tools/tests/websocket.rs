//! The real `aircheckctl listen` against WebSockets of the test's own, over TCP: what it takes, and what it refuses.

mod served;

use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use served::{Ended, Served, send};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept};

/// Frames of a block, of two samples each.
const FRAMES: usize = 8;

type Socket = WebSocket<TcpStream>;

/// A server for one listener, which gets a hello for stereo at 48 kHz, and then what `say` says.
fn serve(payload: &'static str, say: impl FnOnce(&mut Socket) + Send + 'static) -> Served {
    Served::raw(move |tcp| {
        let mut socket = accept(tcp).expect("it should ask for a WebSocket");
        let hello = format!(
            r#"{{"hello":{{"version":1,"listener":1,"payload":"{payload}","rate_hz":48000,"channels":2,
                "block_frames":{FRAMES},"block_seconds":0.0001,"now":1.5,"new":[]}}}}"#
        );
        socket.send(Message::text(hello)).expect("a hello goes out");
        say(&mut socket);
    })
}

/// Ends the stream as aircheck does, and waits until the listener has gone.
fn close(socket: &mut Socket, code: CloseCode, reason: &str) {
    let _ = socket.close(Some(CloseFrame { code, reason: reason.into() }));
    while socket.read().is_ok() {}
}

fn finish(socket: &mut Socket) {
    close(socket, CloseCode::Normal, "finished");
}

/// A binary message with a header of `version` and `kind`.
fn message(version: u8, kind: u8, sequence: u64, captured_at: Duration, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![version, kind, 0, 0];
    message.extend((payload.len() as u32).to_le_bytes());
    message.extend(sequence.to_le_bytes());
    message.extend((captured_at.as_nanos() as u64).to_le_bytes());
    message.extend(payload);
    message
}

fn floats(sequence: u64) -> Vec<u8> {
    served::samples(sequence).iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn block(sequence: u64) -> Message {
    Message::binary(message(1, 1, sequence, Duration::from_secs(1_790_000_000), &floats(sequence)))
}

fn say(socket: &mut Socket, message: Message) {
    // A listener that has gone is the test's to see, from its exit code.
    let _ = socket.send(message);
}

fn listen(server: &Served, flags: &[&str]) -> Ended {
    served::listen(&[&[server.websocket("/?name=x").as_str()], flags].concat())
}

#[test]
fn records_exactly_what_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let server = serve("f32", |socket| {
        (100..300).for_each(|sequence| say(socket, block(sequence)));
        finish(socket);
    });
    let ended = listen(&server, &["-o", path.to_str().unwrap(), "--strict"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let expected: Vec<u32> = (100..300).flat_map(|sequence| served::samples(sequence).map(f32::to_bits)).collect();
    assert_eq!(served::wav_bits(&path), expected);
    assert!(ended.summary.contains("200 blocks, 1600 frames"), "{ended:?}");
    assert!(ended.summary.contains("lost      nothing"), "{ended:?}");
}

#[test]
fn sixteen_bits_are_recorded_as_what_they_stand_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let integers = [0_i16, 1, -1, i16::MAX, i16::MIN, 16_384];
    let server = serve("s16", move |socket| {
        let payload: Vec<u8> = integers.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        say(socket, Message::binary(message(1, 2, 0, Duration::from_secs(1), &payload)));
        finish(socket);
    });
    let ended = listen(&server, &["-o", path.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(served::wav_bits(&path), integers.map(|sample| (f32::from(sample) / 32_768.0).to_bits()));
}

#[test]
fn gaps_are_counted_and_strict_tells() {
    let gap = |from: u64, blocks: u64| {
        Message::text(format!(r#"{{"gap":{{"from":{from},"blocks":{blocks},"reason":"overflow"}}}}"#))
    };
    for (flags, code) in [(&[][..], 0), (&["--strict"][..], 3)] {
        let server = serve("f32", move |socket| {
            for message in [block(0), gap(1, 3), block(4), Message::Ping(vec![1].into()), block(6), gap(7, 2)] {
                say(socket, message);
            }
            finish(socket);
        });
        let ended = listen(&server, flags);
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.summary.contains("6 blocks in 3 gaps, the longest 3"), "{ended:?}");
        assert!(ended.summary.contains("1 block missing without a gap line"), "{ended:?}");
        assert!(ended.notices.contains("gap: 3 blocks from 1 (overflow)"), "{ended:?}");
    }
}

#[test]
fn latency_is_told_by_the_server_s_clock_whatever_ours_says() {
    // A thousand seconds ahead, and every block a quarter of a second old when it is sent.
    const AHEAD: Duration = Duration::from_secs(1000);
    const AGE: Duration = Duration::from_millis(250);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + AHEAD;
    let server = serve("f32", move |socket| {
        let mut sequence = 0;
        while sequence < 4 {
            let Ok(Message::Text(text)) = socket.read() else { break };
            let asked: f64 = text.trim_start_matches(r#"{"clock":"#).trim_end_matches('}').parse().unwrap();
            let answer = format!(r#"{{"clock":{{"asked":{asked},"now":{:.6}}}}}"#, now().as_secs_f64());
            say(socket, Message::text(answer));
            say(socket, Message::binary(message(1, 1, sequence, now() - AGE, &floats(sequence))));
            sequence += 1;
        }
        finish(socket);
    });
    let ended = listen(&server, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let line = ended.summary.lines().find(|line| line.starts_with("latency")).expect("a latency");
    let after = |word: &str| {
        let (_, rest) = line.split_once(word).unwrap_or_else(|| panic!("no {word} in {line}"));
        rest.trim_start().split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // A busy machine makes it later, and by so much less certain; never earlier.
    assert!(after("p50") + after("±") >= 249.0 && after("p50") < 60_000.0, "{line}");
}

/// That listening to `server` fails with one line that says `words`.
fn assert_fails(server: &Served, words: &str) {
    let ended = listen(server, &[]);
    assert_eq!(ended.code, 1, "{words}: {ended:?}");
    let complaint = ended.complaint();
    assert!(complaint.contains(words), "{complaint:?} should say {words:?}");
}

#[test]
fn messages_that_make_no_sense_end_it_with_one_line() {
    let when = Duration::from_secs(1);
    let mut wrong_length = message(1, 1, 0, when, &[0; 64]);
    wrong_length[4] = 63;
    let cases = [
        (Message::binary(message(2, 1, 0, when, &[0; 64])), "version 2"),
        (Message::binary(message(1, 7, 0, when, &[0; 64])), "kind 7"),
        (Message::binary(message(1, 3, 0, when, &[0; 64])), "Opus"),
        (Message::binary(vec![1; 23]), "23 bytes are less than its header"),
        (Message::binary(wrong_length), "promises 63 bytes, and 64 follow"),
        (Message::binary(message(1, 1, 0, when, &[0; 12])), "not whole frames"),
        (Message::binary(vec![1; 11 << 20]), "longer than any block"),
        (Message::text("sound"), "not a JSON object: sound"),
    ];
    for (message, words) in cases {
        let server = serve("f32", |socket| {
            say(socket, message);
            while socket.read().is_ok() {}
        });
        assert_fails(&server, words);
    }
}

#[test]
fn a_hello_that_can_t_be_followed_ends_it_with_one_line() {
    assert_fails(&serve("opus", finish), "does not decode");
    let other = Served::raw(|tcp| {
        let mut socket = accept(tcp).expect("a WebSocket");
        say(
            &mut socket,
            Message::text(r#"{"hello":{"version":2,"payload":"f32","rate_hz":1,"channels":1,"block_frames":1}}"#),
        );
        while socket.read().is_ok() {}
    });
    assert_fails(&other, "version 2, and this aircheckctl 1");
    let silent = Served::raw(|tcp| {
        let mut socket = accept(tcp).expect("a WebSocket");
        say(&mut socket, block(0));
        while socket.read().is_ok() {}
    });
    assert_fails(&silent, "no hello");
}

#[test]
fn a_server_that_dies_or_ends_the_listener_is_no_proper_end() {
    assert_fails(&serve("f32", |socket| say(socket, block(0))), "connection lost");
    let ended = serve("f32", |socket| {
        say(socket, block(0));
        close(socket, CloseCode::Policy, "too_slow");
    });
    assert_fails(&ended, "the server ended it: too_slow (code 1008)");
}

#[test]
fn what_is_no_websocket_is_told_apart() {
    let json = r#"{"error":"this is no WebSocket of version 13"}"#;
    let refused = format!("HTTP/1.1 426 Upgrade Required\r\nContent-Length: {}\r\n\r\n{json}", json.len());
    let cases = [
        (refused.as_str(), "the server refused: this is no WebSocket of version 13 (HTTP 426)"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "refused: not found (HTTP 404)"),
        (
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
            "(HTTP 503); try again in 5 s",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200 instead of a WebSocket"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: bm9uc2Vuc2U=\r\n\r\n",
            "not to a WebSocket of ours",
        ),
        ("220 mail.example ESMTP\r\n", "no HTTP answer"),
        ("", "no HTTP answer"),
    ];
    for (answer, words) in cases {
        let answer = answer.to_owned();
        assert_fails(&Served::new(move |tcp| send(tcp, &answer)), words);
    }
}
