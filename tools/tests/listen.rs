//! The real `aircheckctl listen` against scripted WebSockets: blocks, losses, files, ends and exit codes.

mod scripted;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aircheck_api::Payload;
use scripted::{
    Scripted, aircheckctl, binary, block, end, finish, gap, hello, listen, say, send, until_gone, wav_bits,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::Control};

fn expected_bits(sequences: impl IntoIterator<Item = u64>) -> Vec<u32> {
    sequences.into_iter().flat_map(|sequence| scripted::samples(sequence).map(f32::to_bits)).collect()
}

#[test]
fn records_exactly_the_samples_that_were_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let server = Scripted::stream((100..300).map(block).collect());
    let ended = listen(&[&server.url("/?name=x&burst=1s"), "-o", path.to_str().unwrap(), "--strict"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(wav_bits(&path), expected_bits(100..300));
    assert!(ended.summary.contains("200 blocks, 1600 frames"), "{ended:?}");
    assert!(ended.summary.contains("lost      nothing"), "{ended:?}");
    assert!(ended.summary.contains("take.wav"), "{ended:?}");
}

#[test]
fn the_query_is_passed_on() {
    let server = Scripted::http(|tcp| send(tcp, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
    listen(&[&server.url("/stream.json?name=x&burst=1s")]);
    let request = server.request();
    assert!(request.starts_with("GET /stream?name=x&burst=1s HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("\r\nhost: 127.0.0.1:"), "{request}");
    assert!(request.to_lowercase().contains("\r\nupgrade: websocket\r\n"), "{request}");
}

/// Returns a message as an unmasked frame.
fn frame(message: &Message) -> Vec<u8> {
    let opcode = match message {
        Message::Binary(_) => OpCode::Data(Data::Binary),
        Message::Text(_) => OpCode::Data(Data::Text),
        _ => OpCode::Control(Control::Close),
    };
    let payload = match message {
        Message::Close(_) => 1000_u16.to_be_bytes().to_vec(),
        other => other.clone().into_data().to_vec(),
    };
    let mut bytes = Vec::new();
    FrameHeader { opcode, ..FrameHeader::default() }.format(payload.len() as u64, &mut bytes).expect("a frame");
    [bytes, payload].concat()
}

#[test]
fn messages_may_be_split_anywhere() {
    let messages: Vec<Message> = [Message::text(hello(Payload::F32))]
        .into_iter()
        .chain((0..5).map(block))
        .chain([gap(5, 2, "overflow")])
        .chain((7..9).map(block))
        .chain([Message::Close(None)])
        .collect();
    for size in [1, 2, 3, 7, 64, 1000] {
        let bytes: Vec<u8> = messages.iter().flat_map(frame).collect();
        let server = Scripted::raw_websocket(move |tcp, key| {
            let accept = derive_accept_key(key.as_bytes());
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            // The first bytes of the stream may come with the head.
            let all = [head.as_bytes(), &bytes].concat();
            for piece in all.chunks(size) {
                let _ = tcp.write_all(piece);
            }
            scripted::until_closed(tcp);
        });
        let ended = listen(&[&server.url("/")]);
        assert_eq!(ended.code, 0, "pieces of {size}: {ended:?}");
        assert!(ended.summary.contains("7 blocks, 56 frames"), "pieces of {size}: {ended:?}");
        assert!(ended.summary.contains("2 blocks in 1 gap"), "pieces of {size}: {ended:?}");
    }
}

#[test]
fn sixteen_bits_are_recorded_as_their_share_of_full_scale() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let integers = [0_i16, 1, -1, i16::MAX, i16::MIN, 16_384];
    let server = Scripted::websocket(Payload::S16, move |socket| {
        let payload: Vec<u8> = integers.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        say(socket, Message::binary(binary(Payload::S16, 0, Duration::from_secs(1), &payload)));
        finish(socket);
    });
    let ended = listen(&[&server.url("/"), "-o", path.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(wav_bits(&path), integers.map(|sample| (f32::from(sample) / 32_768.0).to_bits()));
}

fn lossy() -> Scripted {
    Scripted::stream(vec![
        block(0),
        gap(1, 3, "overflow"),
        block(4),
        Message::Ping(vec![1].into()),
        gap(5, 1, "skipped"),
        block(6),
        gap(7, 2, "overflow"),
    ])
}

#[test]
fn gaps_are_counted_and_left_out_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let ended = listen(&[&lossy().url("/stream.json"), "-o", path.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(wav_bits(&path), expected_bits([0, 4, 6]));
    let (said, summary) = (&ended.notices, &ended.summary);
    assert!(said.contains("gap: 3 blocks from 1 (overflow), 0.5 ms\n"), "{said}");
    assert!(said.contains("gap: 2 blocks from 7 (overflow)"), "a loss at the very end is one: {said}");
    assert!(summary.contains("6 blocks in 3 gaps, the longest 3 (0.5 ms); overflow 5, skipped 1"), "{summary}");
    assert!(!summary.contains("faults"), "{summary}");
}

#[test]
fn strict_exits_with_3_if_blocks_were_lost() {
    let ended = listen(&[&lossy().url("/"), "--strict"]);
    assert_eq!(ended.code, 3);
    assert!(ended.complaint().contains("6 blocks lost"));
}

#[test]
fn a_hole_without_a_notice_is_found() {
    let holed = || Scripted::stream(vec![block(0), block(1), block(4)]);
    let ended = listen(&[&holed().url("/")]);
    assert_eq!(ended.code, 0);
    assert!(ended.notices.contains("fault: 2 blocks from 2 missing without a notice"), "{ended:?}");
    assert!(ended.summary.contains("unannounced 2"), "{ended:?}");
    assert!(ended.summary.contains("faults    2 blocks missing without a notice"), "{ended:?}");
    assert_eq!(listen(&[&holed().url("/"), "--strict"]).code, 3);
}

#[test]
fn a_notice_that_contradicts_the_sequence_fails_strict_though_all_blocks_came() {
    let server = Scripted::stream(vec![block(0), gap(1, 3, "overflow"), block(1)]);
    let ended = listen(&[&server.url("/"), "--strict"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.summary.contains("lost      nothing"), "{ended:?}");
    assert!(ended.summary.contains("1 notice contradicted"), "{ended:?}");
}

#[test]
fn blocks_missing_from_the_requested_start_are_lost() {
    let server = Scripted::stream(vec![gap(0, 5, "history"), block(5)]);
    let ended = listen(&[&server.url("/?from=0")]);
    assert!(ended.summary.contains("history 5"), "{ended:?}");
    assert!(!ended.summary.contains("faults"), "{ended:?}");
}

#[test]
fn a_flood_of_gaps_is_shown_in_few_lines() {
    let server = Scripted::stream((0..500).flat_map(|n| [block(2 * n), gap(2 * n + 1, 1, "overflow")]).collect());
    let ended = listen(&[&server.url("/")]);
    let shown = ended.notices.lines().filter(|line| line.starts_with("gap: ")).count() as u64;
    let more = |line: &str| line.strip_prefix("… ")?.strip_suffix(" more gaps")?.parse::<u64>().ok();
    let held_back: u64 = ended.notices.lines().filter_map(more).sum();
    assert_eq!(shown + held_back, 500, "{ended:?}");
    assert!(held_back > 0, "{ended:?}");
    assert!(ended.summary.contains("500 blocks in 500 gaps"), "{ended:?}");
}

#[test]
fn latency_is_measured_by_the_server_s_clock() {
    // A thousand seconds ahead, and every block a quarter of a second old when it is sent.
    const AHEAD: Duration = Duration::from_secs(1000);
    const AGE: Duration = Duration::from_millis(250);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + AHEAD;
    let server = Scripted::websocket(Payload::F32, move |socket| {
        let mut sequence = 0;
        while sequence < 4 {
            let Ok(Message::Text(text)) = socket.read() else { break };
            let asked: f64 = text.trim_start_matches(r#"{"clock":"#).trim_end_matches('}').parse().unwrap();
            let answer = format!(r#"{{"clock":{{"asked":{asked},"now":{:.6}}}}}"#, now().as_secs_f64());
            say(socket, Message::text(answer));
            let floats = scripted::floats(sequence);
            say(socket, Message::binary(binary(Payload::F32, sequence, now() - AGE, &floats)));
            sequence += 1;
        }
        finish(socket);
    });
    let ended = listen(&[&server.url("/")]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let line = ended.summary.lines().find(|line| line.starts_with("latency")).expect("a latency");
    let after = |word: &str| {
        let (_, rest) = line.split_once(word).unwrap_or_else(|| panic!("no {word} in {line}"));
        rest.trim_start().split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // A busy machine makes it later, and by so much less certain; never earlier.
    assert!(after("p50") + after("±") >= 249.0 && after("p50") < 60_000.0, "{line}");
}

#[test]
fn a_cut_connection_is_an_error_and_the_recording_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    // Within a message, and between two.
    for (number, rest) in [&[0x82, 88, 1, 1][..], &[]].into_iter().enumerate() {
        let path = directory.path().join(format!("{number}.wav"));
        let server = Scripted::websocket(Payload::F32, move |socket| {
            (0..2).for_each(|sequence| say(socket, block(sequence)));
            let _ = socket.get_mut().write_all(rest);
        });
        let ended = listen(&[&server.url("/"), "-o", path.to_str().unwrap()]);
        assert_eq!(ended.code, 1, "ending {number}");
        assert!(ended.complaint().contains("connection lost: "), "{ended:?}");
        assert_eq!(wav_bits(&path), expected_bits(0..2), "ending {number}");
        assert!(ended.summary.contains("2 blocks, 16 frames"), "{ended:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_one_line() {
    // Bound and closed again: nothing listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = listen(&[&address.to_string()]);
    assert_eq!(ended.code, 1);
    assert_eq!(ended.complaint(), format!("aircheckctl: cannot connect to {address}: Connection refused"));
    assert_eq!(ended.summary, "");
}

#[test]
fn wrong_usage_is_one_line_and_2() {
    let cases: [(&[&str], &str); 5] = [
        (&["http://h:1/stream.wav"], "gaps cannot be seen in /stream.wav (use http://h:1/)"),
        (&["ftp://h/"], "'ftp' is not supported"),
        (&["ht tp"], "not a URL"),
        (&["h:1", "--for", "ages"], "--for"),
        (&[], "<URL>"),
    ];
    for (args, words) in cases {
        let ended = listen(args);
        assert_eq!(ended.code, 2, "{args:?}");
        assert!(ended.complaint().contains(words), "{ended:?}");
        assert_eq!(ended.notices.lines().count(), 1, "{ended:?}");
    }
}

fn endless() -> Scripted {
    Scripted::websocket(Payload::F32, |socket| {
        (0..).find(|&sequence| socket.send(block(sequence)).is_err());
    })
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let ended = listen(&[&endless().url("/"), "-o", "/nonexistent/take.wav"]);
    assert_eq!(ended.code, 1);
    assert!(ended.complaint().contains("cannot write /nonexistent/take.wav: No such file"), "{ended:?}");
    // A file that opens, but takes nothing.
    let ended = listen(&[&endless().url("/"), "-o", "/dev/full"]);
    assert_eq!(ended.code, 1);
    assert!(ended.complaint().contains("cannot write /dev/full: No space left"), "{ended:?}");
}

#[test]
fn for_ends_an_endless_stream() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("take.wav");
    let ended = listen(&[&endless().url("/"), "--for", "200ms", "--strict", "-o", path.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let bits = wav_bits(&path);
    let blocks = bits.len() / scripted::samples(0).len();
    assert!(blocks > 0);
    assert_eq!(bits, expected_bits(0..blocks as u64));
}

#[test]
fn for_also_ends_an_empty_stream() {
    let server = Scripted::websocket(Payload::F32, until_gone);
    let ended = listen(&[&server.url("/"), "--for", "1ms"]);
    assert_eq!(ended.code, 1);
    assert!(ended.complaint().contains("nothing came"), "{ended:?}");
}

#[test]
fn a_signal_completes_the_recording() {
    for signal in ["TERM", "INT", "HUP"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        let server = Scripted::websocket(Payload::F32, |socket| {
            (0..50).map(block).chain([gap(50, 1, "overflow")]).for_each(|message| say(socket, message));
            until_gone(socket);
        });
        let mut child = aircheckctl(&[&server.url("/"), "-o", path.to_str().unwrap()]).spawn().unwrap();
        // The gap is shown when it has been read, and so has everything before it.
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("gap: ") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended before the gap");
        }
        let killed = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
        assert!(killed.success());
        let ended = end(child);
        assert_eq!(ended.code, 0, "{signal}");
        assert_eq!(wav_bits(&path), expected_bits(0..50), "{signal}");
        assert!(ended.summary.contains("50 blocks, 400 frames"), "{ended:?}");
    }
}

#[test]
fn a_refusal_shows_the_server_s_own_words_and_costs_no_recording() {
    let refusing = |status: &'static str, headers: &'static str, body: &'static str| {
        let length = body.len();
        Scripted::http(move |tcp| {
            send(tcp, &format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n"));
            send(tcp, body);
        })
    };
    let cases = [
        ("404 Not Found", "", r#"{"error":"no such path"}"#, "no such path (HTTP 404)"),
        (
            "503 Busy",
            "Retry-After: 5\r\n",
            r#"{"error":"full: 10 listeners"}"#,
            "full: 10 listeners (HTTP 503); try again in 5 s",
        ),
        ("400 Bad", "", "{\"error\":\"from: \\u001b[2J\"}", "from: \u{fffd}[2J (HTTP 400)"),
        ("403 Forbidden", "", "<html>", "forbidden (HTTP 403)"),
    ];
    for (status, headers, body, words) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("take.wav");
        fs::write(&path, "an older recording").unwrap();
        let ended = listen(&[&refusing(status, headers, body).url("/"), "-o", path.to_str().unwrap()]);
        assert_eq!(ended.code, 1);
        let complaint = ended.complaint();
        assert!(complaint.contains(words), "{complaint:?} should say {words:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "an older recording");
    }
}
