//! Limits of connections: one client cannot take the places of others, and a refused one gets its answer.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/process.rs"]
mod process;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use common::tls::{self, Connection};
use common::{Server, TEST_TIMEOUT, connect_from, eventually};
use process::raise_file_limit;

const ATTACKER: u8 = 66;
const HEAD_END: &str = "\r\n\r\n";
/// Connections that one address may have by default, without listeners.
const MAX_PER_ADDRESS: usize = 64;

/// Connects from `127.0.0.last`: each such address is another client.
fn connect(server: &Server, last: u8) -> TcpStream {
    connect_from(Ipv4Addr::new(127, 0, 0, last), server.address)
}

fn send(stream: &mut TcpStream, path: &str) {
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
}

/// Reads up to `end`, or to the end of the connection.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&text).contains(end) {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            bytes => text.extend_from_slice(&buffer[..bytes]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Asks for `path` on a connection of its own; returns the status code and the whole response.
fn ask_from(server: &Server, last: u8, path: &str) -> (u16, String) {
    let mut stream = connect(server, last);
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    let response = read_until(&mut stream, "no such text");
    let status = response.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (status, response)
}

/// Asks for `path`, keeps the connection, and reads its answer up to `end`.
fn keep(server: &Server, last: u8, path: &str, end: &str) -> TcpStream {
    let mut stream = connect(server, last);
    send(&mut stream, path);
    let response = read_until(&mut stream, end);
    assert!(response.starts_with("HTTP/1.1 200 "), "{path}: {response}");
    stream
}

/// Returns all that a connection says, if it says something within a moment: `None` if it does not and is still open.
fn said(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    match stream.peek(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        result => {
            result.unwrap();
            // The end may come some time after the first byte.
            stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            Some(text)
        }
    }
}

/// Checks that a response is a whole 503, up to the last byte of its body.
fn assert_whole_refusal(response: &str) {
    assert!(response.starts_with("HTTP/1.1 503 "), "{:?}", response.chars().take(200).collect::<String>());
    assert!(response.to_lowercase().contains("\r\nretry-after: "), "{response}");
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    assert_eq!(length, Some(body.len()), "{response}");
    assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["error"].is_string(), "{response}");
}

#[test]
fn silent_connections_of_one_client_take_no_place_of_others() {
    raise_file_limit();
    let server = Server::start(&["--source", "tone:440"]);
    let mut silent: Vec<TcpStream> = (0..1300).map(|_| connect(&server, ATTACKER)).collect();
    for path in ["healthz", "metrics", "api/v1/status", "api/v1/listeners", ""] {
        let (status, response) = ask_from(&server, 1, path);
        assert_eq!(status, 200, "{path}: {response}");
    }
    let _listener = keep(&server, 1, "stream.wav?name=listener", HEAD_END);
    server.row_when("listener", |row| row["delivered"].as_u64() > Some(0));
    let mut told = Vec::new();
    eventually("no more silent connections than one address may have", || {
        silent.retain_mut(|stream| match said(stream) {
            Some(response) => {
                told.push(response);
                false
            }
            None => true,
        });
        (silent.len() <= MAX_PER_ADDRESS).then_some(())
    });
    // Those that are left when this looks for the last time may have been silent for too long, too.
    assert!(told.len() >= 1300 - 2 * MAX_PER_ADDRESS, "{} were told", told.len());
    let closed = told.iter().filter(|response| response.is_empty()).count();
    assert!(closed <= MAX_PER_ADDRESS, "{closed} were closed without a word");
    told.iter().filter(|response| !response.is_empty()).for_each(|response| assert_whole_refusal(response));
    let (status, response) = ask_from(&server, ATTACKER, "healthz");
    assert_eq!(status, 200, "the client itself sees how the server is: {response}");
    let metrics = server.text("metrics");
    let refused =
        metrics.lines().find_map(|line| line.strip_prefix("aircheck_listeners_refused_total{reason=\"connections\"} "));
    assert!(refused.unwrap().parse::<u64>().unwrap() >= 1000, "{refused:?}");
}

#[test]
fn a_refused_connection_reads_its_whole_answer() {
    // 64 regular places for one address, which stay in use, and 65 spare ones, which are free again after two seconds.
    let server = Server::start(&["--source", "tone:440", "--max-listeners", "1"]);
    let _readers: Vec<TcpStream> = (0..MAX_PER_ADDRESS).map(|_| keep(&server, 2, "api/v1/events", HEAD_END)).collect();
    eventually("a connection without even a spare place", || {
        let _silent: Vec<TcpStream> = (0..65).map(|_| connect(&server, 2)).collect();
        let mut refused = connect(&server, 2);
        // Bytes that the server has not read when it closes would reset the connection, and the answer would be lost.
        let request = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "y".repeat(10_000));
        // In pieces, as a slow line brings it: the server takes them after it has closed its side, too.
        for piece in request.as_bytes().chunks(4000) {
            refused.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut response = String::new();
        refused.read_to_string(&mut response).unwrap();
        assert_whole_refusal(&response);
        response.contains("no place for another connection").then_some(())
    });
}

#[test]
fn an_idle_connection_gives_way_to_a_new_one() {
    let server = Server::start(&["--source", "tone:440"]);
    let mut idle: Vec<TcpStream> = (0..MAX_PER_ADDRESS).map(|_| keep(&server, 2, "healthz", "\r\n\r\nok")).collect();
    // Each was idle at once after its answer, the first one for the longest time.
    assert_eq!(ask_from(&server, 2, "").0, 200, "a file of the page, for which a spare place would not do");
    // The new one may be answered before.
    let word = eventually("the end of the one that was idle for the longest time", || said(&mut idle[0]));
    assert_eq!(word, "", "it is closed without another word");
    idle[1..].iter_mut().for_each(|stream| assert_eq!(said(stream), None));
}

#[test]
fn an_address_beyond_its_limit_can_still_listen_and_see_how_the_server_is() {
    let server = Server::start(&["--source", "tone:440"]);
    let readers: Vec<TcpStream> = (0..MAX_PER_ADDRESS).map(|_| keep(&server, 2, "api/v1/events", HEAD_END)).collect();
    for path in ["", "api/v1/events"] {
        let (status, response) = ask_from(&server, 2, path);
        assert_eq!(status, 503, "{path}: {response}");
        assert_whole_refusal(&response);
        assert!(response.contains("127.0.0.2 has 64") && response.contains("--max-connections-per-address"));
        assert_eq!(ask_from(&server, 3, "").0, 200, "another address has its own places");
    }
    for path in ["healthz", "readyz", "metrics", "api/v1/status", "api/v1/listeners"] {
        assert_eq!(ask_from(&server, 2, path).0, 200, "{path}");
    }
    let _listener = keep(&server, 2, "stream.pcm?name=listener", HEAD_END);
    drop(readers);
    eventually("a place for the page", || (ask_from(&server, 2, "").0 == 200).then_some(()));
}

#[test]
fn all_listeners_of_a_load_test_may_connect_at_once_from_one_address() {
    // As many as the system queues for a server that has no time: 128.
    let server = Server::start(&["--source", "tone:440", "--max-listeners", "120"]);
    let mut listeners: Vec<TcpStream> = (0..120).map(|_| connect(&server, 2)).collect();
    listeners.iter_mut().for_each(|stream| send(stream, "stream.opus"));
    for stream in &mut listeners {
        let response = read_until(stream, HEAD_END);
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    assert_eq!(ask_from(&server, 2, "").0, 200, "they have no places");
    let (status, response) = ask_from(&server, 2, "stream.opus");
    assert_eq!(status, 503, "{response}");
    assert!(response.contains("120"), "{response}");
}

/// Requests whose answers are more than the kernel takes for a connection.
const MANY_REQUESTS: usize = 400;

/// Asks for more than a connection holds.
fn ask_for_much(mut stream: impl Write) {
    let request = "GET /playout.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.repeat(MANY_REQUESTS).as_bytes()).unwrap();
}

/// Reads so many bytes after each pause, until the connection ends.
fn read_slowly(mut stream: TcpStream, bytes: usize, pause: Duration) {
    let mut buffer = vec![0; bytes];
    while matches!(stream.read(&mut buffer), Ok(1..)) {
        thread::sleep(pause);
    }
}

#[test]
fn answers_that_are_not_read_give_back_their_places() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("http.sock");
    let unix = format!("unix:{}", socket.display());
    let of_tls = tls::flags();
    let flags = [&["--source", "tone:440"][..], &of_tls.each_ref().map(String::as_str)].concat();
    let encrypted = Server::start_with(&flags, |command| command.args(["--listen", &unix]));
    let plain = Server::start(&["--source", "tone:440"]);
    let sockets = |server: &Server| {
        let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        let target = |file: std::io::Result<std::fs::DirEntry>| std::fs::read_link(file.unwrap().path()).ok();
        files.filter_map(target).filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    };
    let before = [&plain, &encrypted].map(sockets);
    let unread = connect(&plain, 1);
    ask_for_much(&unread);
    let mut of_tls = Connection::new(connect(&encrypted, 1));
    ask_for_much(&mut of_tls);
    let of_unix = UnixStream::connect(&socket).unwrap();
    ask_for_much(&of_unix);
    // One that takes a little now and then, and one on a slow link.
    let [trickle, slow] = [1, 2].map(|last| {
        let stream = connect(&plain, last);
        ask_for_much(&stream);
        stream
    });
    // What has come can be read for long after the end, so they end with this program.
    thread::spawn(move || read_slowly(trickle, 64, Duration::from_millis(200)));
    let slow = thread::spawn(move || read_slowly(slow, 4096, Duration::from_millis(200)));
    // The kernel takes requests for a server that has not accepted their connection yet.
    eventually("their sockets", || (sockets(&plain) > before[0] && sockets(&encrypted) > before[1]).then_some(()));
    eventually("the end of connections that are not read", || {
        (sockets(&plain) == before[0] + 1 && sockets(&encrypted) == before[1]).then_some(())
    });
    assert!(!slow.is_finished(), "a slow link is no fault");
    drop((unread, of_tls, of_unix));
}
