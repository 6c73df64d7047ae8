//! Attacks that belong to no other test: those of docs/SECURITY.md that this file is named for there.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[allow(dead_code, reason = "this file uses a part of it")]
#[path = "common/receiver.rs"]
mod receiver;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Listener, Server, connect_from, eventually, raw, write_segment, write_wav};
use receiver::Receiver;
use serde_json::Value;

/// A server with a listener that must lose nothing.
struct Scene {
    server: Server,
    _listener: Listener,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(&["--source", "tone:440"]);
        let listener =
            Listener::start(&server.url("stream.wav?name=healthy&buffer=5s"), &directory.path().join("healthy"));
        server.row_when("healthy", |row| row["delivered"].as_u64() > Some(0));
        Self { server, _listener: listener, _directory: directory }
    }

    fn assert_nothing_lost(&self) {
        let before = self.server.row_when("healthy", |_| true);
        let row = self.server.row_when("healthy", |row| row["delivered"].as_u64() > before["delivered"].as_u64());
        assert_eq!(row["lost"], 0, "{row}");
    }
}

/// Returns how many answers there are in `bytes`, and the status of the first one.
fn answers(bytes: &[u8]) -> (usize, u16) {
    let text = String::from_utf8_lossy(bytes);
    let status = text.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (text.matches("HTTP/1.").count(), status)
}

#[test]
fn a_request_hidden_in_another_one_is_not_answered() {
    const HIDDEN: &str = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nX: ";
    let scene = Scene::start();
    // A proxy before the server may see another end of the request than the server does; what follows is then somebody else's.
    let malformed = [
        "Content-Length: 4\r\nContent-Length: 0\r\n\r\n0123",
        "Content-Length: 4, 0\r\n\r\n0123",
        "Content-Length: +4\r\n\r\n0123",
        "Content-Length: -1\r\n\r\n0123",
        "Content-Length: 0x4\r\n\r\n0123",
        "Content-Length:\r\n\r\n0123",
        "Content-Length : 4\r\n\r\n0123",
        "Content-Length: 99999999999999999999999\r\n\r\n0123",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X: folded\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: a\0b\r\n\r\n",
    ];
    let two_ends = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\n\n",
        "X: a\nTransfer-Encoding: chunked\n\n0\r\n\r\n",
        "X: a\nContent-Length: 4\n\n0123",
        "Content-Length: 4\r\n\r\n0123",
        "Content-Length: 4\r\nContent-Length: 4\r\n\r\n0123",
    ];
    let of = |fields: &str| {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{fields}{HIDDEN}\r\n\r\n");
        let answer = raw(scene.server.address, request.as_bytes());
        (answers(&answer), answer.escape_ascii().to_string())
    };
    for fields in malformed {
        let (answers, answer) = of(fields);
        assert_eq!(answers, (1, 400), "{fields:?}: {answer}");
    }
    for fields in two_ends {
        let ((count, status), answer) = of(fields);
        assert!(count == 1 && [200, 400].contains(&status), "{fields:?}: {count} answers: {answer}");
    }
    // HTTP/1.0 has no chunks.
    let request = format!("GET /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}\r\n\r\n");
    assert_eq!(answers(&raw(scene.server.address, request.as_bytes())), (1, 400));
    scene.assert_nothing_lost();
}

#[test]
fn a_huge_head_is_refused() {
    let scene = Scene::start();
    let heads = [
        format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(100_000)),
        format!("GET /stream.wav?name={} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(100_000)),
        format!("{} / HTTP/1.1\r\nHost: localhost\r\n\r\n", "A".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}: x\r\n\r\n", "x".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(20_000)),
    ];
    for head in heads {
        // The rest of it may not be read, and the connection reset then; what counts is that it is no page.
        let mut stream = TcpStream::connect(scene.server.address).unwrap();
        let _ = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let (count, status) = answers(&answer);
        assert!(count <= 1 && [0, 400, 414, 431].contains(&status), "{:.60}: {}", head, answer.escape_ascii());
    }
    scene.assert_nothing_lost();
}

/// Bytes of a head come at this interval.
const TRICKLE: Duration = Duration::from_millis(250);
/// A head is waited for 10 s, and its first byte as long before.
const MAX_TRICKLE: Duration = Duration::from_secs(30);

#[test]
fn heads_that_come_byte_by_byte_are_not_waited_for() {
    let scene = Scene::start();
    let mut streams: Vec<_> =
        (1..=50).map(|last| connect_from(Ipv4Addr::new(127, 0, 7, last), scene.server.address)).collect();
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
    }
    let started_at = Instant::now();
    let mut head = b"GET /stream.wav HTTP/1.1\r\nHost: localhost\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
    while !streams.is_empty() {
        assert!(started_at.elapsed() < MAX_TRICKLE, "{} heads are waited for", streams.len());
        let byte = [*head.next().unwrap()];
        streams.retain_mut(|stream| {
            let is_open = matches!(stream.read(&mut [0; 512]), Err(error) if error.kind() == ErrorKind::WouldBlock);
            is_open && stream.write_all(&byte).is_ok()
        });
        std::thread::sleep(TRICKLE);
    }
    assert_eq!(scene.server.rows().len(), 1, "no listener has joined");
    scene.assert_nothing_lost();
}

#[test]
fn another_web_site_can_neither_listen_nor_act() {
    let server = Server::start(&["--source", "tone:440"]);
    let origin = ["-H", "Origin: https://evil.example"];
    let websocket = ["-H", "Upgrade: websocket", "-H", "Connection: Upgrade", "-H", "Sec-WebSocket-Version: 13"];
    let key = ["-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
    let cases: [(&[&str], &str); 6] = [
        (&[&origin[..], &websocket, &key].concat(), "stream"),
        (&[&origin[..], &["-X", "DELETE"]].concat(), "api/v1/listeners/1"),
        (&[&origin[..], &["-H", "Accept: text/event-stream"]].concat(), "stream"),
        (&origin, "api/v1/watch"),
        (&["-H", "Origin: null"], "stream.wav"),
        // A name of the attacker's that leads here.
        (&["-H", "Host: rebound.example", "-H", "Origin: http://rebound.example"], "api/v1/status"),
    ];
    for (arguments, path) in cases {
        let (status, response) = server.ask(arguments, path);
        assert_eq!(status, 403, "{path}: {response}");
        assert!(!response.to_lowercase().contains("access-control-allow"), "{response}");
    }
    // The question that a browser asks before a DELETE of another site.
    let preflight = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: DELETE"];
    let (status, response) = server.ask(&[&origin[..], &preflight].concat(), "api/v1/listeners/1");
    assert!([403, 405].contains(&status) && !response.to_lowercase().contains("access-control-allow"), "{response}");
    assert!(server.rows().is_empty(), "no listener has joined");
}

#[test]
fn what_others_plant_in_the_recording_directory_leads_nowhere() {
    const FROM_2020: &str = "recording.wav?from=2020-01-01T00:00:00Z&to=2020-01-01T00:00:01Z";
    const STEM: &str = "aircheck-20200101T000000Z-0000000000";
    let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = write_wav(&outside.path().join("source.wav"), 1, vec![0; 48_000]);
    let start = || Server::start(&["--source", &source, "--loop", "--record", folder.path().to_str().unwrap()]);
    let wav = write_segment(folder.path(), STEM, 1);
    let mut server = start();
    assert_eq!(server.ask(&[], FROM_2020).0, 200, "a recording of its own is heard");
    server.terminate();
    assert!(server.wait().success());

    // Sound from elsewhere, a description from elsewhere, a pipe that nobody writes to, and numbers beyond all bounds.
    let private = outside.path().join("private.wav");
    fs::write(&private, wav).unwrap();
    fs::remove_file(folder.path().join(format!("{STEM}.wav"))).unwrap();
    symlink(&private, folder.path().join(format!("{STEM}.wav"))).unwrap();
    write_segment(outside.path(), STEM, 1);
    let second = "aircheck-20200101T000000Z-0000000001";
    write_segment(folder.path(), second, 1);
    fs::remove_file(folder.path().join(format!("{second}.jsonl"))).unwrap();
    symlink(outside.path().join(format!("{STEM}.jsonl")), folder.path().join(format!("{second}.jsonl"))).unwrap();
    let pipe = folder.path().join("aircheck-20200101T000000Z-0000000002.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let third = "aircheck-20200101T000000Z-0000000003";
    write_segment(folder.path(), third, 1);
    let huge = r#"{"recording":{"rate_hz":48000,"channels":1,"position":18446744073709551615,"captured_at":1.8e10,"continues":null}}"#;
    fs::write(folder.path().join(format!("{third}.jsonl")), format!("{huge}\n")).unwrap();
    let server = start();
    let (status, response) = server.ask(&["--output", "/dev/null"], FROM_2020);
    assert_ne!(status, 200, "{response}");
    let begun = server.json("api/v1/status")["recording"].clone();
    eventually("sound that is recorded beside them", || {
        let blocks = server.json("api/v1/status")["recording"]["blocks"].as_u64();
        (blocks > begun["blocks"].as_u64()).then_some(())
    });
    assert_eq!(fs::read(&private).unwrap()[68..72], 0.5_f32.to_le_bytes(), "the file outside is as it was");
}

#[test]
fn a_hostile_receiver_of_notifications_brings_nothing_into_log_or_status() {
    let receiver = Receiver::start(|number, stream| {
        let answer: &[u8] = match number {
            0 => b"HTTP/1.1 500 \x1b[2Jgotcha\r\ncontent-length: 6\r\n\r\ngotcha\x1b[2J",
            1 => b"HTTP/1.1 503 x\r\nretry-after: 1\r\ncontent-length: 13\r\n\r\n\x1b]0;gotcha\x07\r\n",
            2 => b"HTTP/1.1 101 Switching Protocols\r\nupgrade: gotcha\r\nconnection: upgrade\r\n\r\ngotcha",
            3 => b"HTTP/1.1 500 x\r\nset-cookie: gotcha\r\nx-\x01: gotcha\r\n\r\n",
            _ => b"HTTP/1.1 302 x\r\nlocation: http://user:gotcha@h/gotcha\r\ncontent-length: 0\r\n\r\n",
        };
        let _ = stream.write_all(answer);
    });
    let server =
        Server::start_with(&["--source", "tone:440"], |command| command.env("AIRCHECK_NOTIFY", receiver.url()));
    let account = eventually("all answers", || {
        let account = server.json("api/v1/status")["notifications"][0].clone();
        (account["failed"].as_u64() >= Some(1)).then_some(account)
    });
    let shown = [account.to_string(), server.log(), server.text("metrics")];
    for text in shown {
        assert!(!text.contains("gotcha") && !text.contains('\u{1b}') && !text.contains("\\u001b"), "{text}");
    }
}

#[test]
fn a_log_in_full_detail_has_no_secret() {
    let receiver = Receiver::taking();
    let server = Server::start_with(&["--source", "tone:440"], |command| {
        command.env("RUST_LOG", "trace").env("AIRCHECK_NOTIFY", receiver.url())
    });
    receiver.wait_for("service begin");
    let fields = ["-H", "Authorization: Bearer s3cret", "-H", "Cookie: token=s3cret", "-u", "listener:s3cret"];
    let websocket = ["-H", "Upgrade: websocket", "-H", "Connection: Upgrade", "--max-time", "1"];
    for path in
        ["healthz", "stream.wav?signature=s3cret", "stream?token=s3cret", "s3cret", "listen.m3u?signature=s3cret"]
    {
        server.ask(&fields, path);
        server.ask(&[&fields[..], &websocket].concat(), path);
    }
    raw(server.address, b"GET /stream.wav?signature=s3cret HTTP/1.1\r\nAuthorization: s3cret\0\r\n\r\n");
    // The line on the last request, which is none.
    server.wait_for_log("DEBUG");
    let log = server.log();
    for secret in ["s3cret", "p4ss", "t0ken", "bGlzdGVuZXI6czNjcmV0", "dXNlcjpwNHNz"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
    let status: Value = server.json("api/v1/status");
    assert!(!status.to_string().contains("s3cret"), "{status}");
}
