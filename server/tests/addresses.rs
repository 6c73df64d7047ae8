//! Several addresses, IPv6, Unix sockets, and sockets that systemd passes.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Listener, TEST_TIMEOUT, command, command_behind, curl, eventually, refused, signal, wait};
use serde_json::Value;

/// A server of several addresses, ended when dropped.
struct Server {
    child: Child,
    /// What it says after `listening on`.
    urls: Vec<String>,
}

impl Server {
    /// Starts it, and waits until it says so many addresses.
    fn start(mut command: Command, flags: &[&str], addresses: usize) -> Self {
        command.args(["--source", "tone:440"]).args(flags).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (mut text, mut byte) = (Vec::new(), [0]);
        while text.iter().filter(|byte| **byte == b'\n').count() < addresses && stdout.read(&mut byte).unwrap() > 0 {
            text.push(byte[0]);
        }
        let text = String::from_utf8(text).unwrap();
        let urls = text.lines().map(|line| line.strip_prefix("listening on ").unwrap().to_owned()).collect();
        Self { child, urls }
    }

    fn end(&mut self) {
        signal(self.child.id(), "TERM");
        assert!(wait(&mut self.child).success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns what curl gets, over a Unix socket if `socket` is given.
fn get(socket: Option<&Path>, url: &str) -> String {
    let mut command = curl(&["--globoff", "--fail", "--max-time", "20"]);
    if let Some(socket) = socket {
        command.arg("--unix-socket").arg(socket);
    }
    let output = command.arg(url).output().unwrap();
    assert!(output.status.success(), "{url}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn row(socket: &Path, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("a row for {name}"), || {
        let rows: Vec<Value> = serde_json::from_str(&get(Some(socket), "http://localhost/api/v1/listeners")).unwrap();
        rows.into_iter().find(|row| row["name"] == name && condition(row))
    })
}

#[test]
fn each_address_is_said_and_serves_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("http.sock");
    let unix = format!("unix:{}", socket.display());
    let flags = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", &unix, "--unix-mode", "660"];
    let mut server = Server::start(command(), &flags, 3);
    assert!(server.urls[0].starts_with("http://127.0.0.1:"), "{:?}", server.urls);
    assert!(server.urls[1].starts_with("http://[::1]:"), "{:?}", server.urls);
    assert_eq!(server.urls[2], unix);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let status = |socket, url: &str| serde_json::from_str::<Value>(&get(socket, url)).unwrap();
    for url in &server.urls[..2] {
        assert_eq!(status(None, &format!("{url}api/v1/status"))["urls"], serde_json::json!(server.urls), "{url}");
    }
    assert_eq!(status(Some(&socket), "http://localhost/api/v1/status")["urls"], serde_json::json!(server.urls));
    server.end();
    assert!(!socket.exists(), "its file is removed");
}

#[test]
fn a_file_on_which_nothing_listens_is_replaced_and_another_program_s_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("http.sock");
    let unix = format!("unix:{}", socket.display());
    // A program that was killed leaves its file.
    drop(UnixListener::bind(&socket).unwrap());
    let server = Server::start(command(), &["--listen", &unix], 1);
    assert_eq!(get(Some(&socket), "http://localhost/healthz"), "ok");
    let (code, text) = refused(&["--source", "tone:440", "--listen", &unix]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&format!("cannot listen on {unix}: another program listens there")), "{text}");
    assert_eq!(get(Some(&socket), "http://localhost/healthz"), "ok");
    drop(server);
    let file = directory.path().join("file");
    fs::write(&file, "kept").unwrap();
    let (code, text) = refused(&["--source", "tone:440", "--listen", &format!("unix:{}", file.display())]);
    assert_eq!(code, 1, "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

#[test]
fn the_lag_of_a_listener_at_a_unix_socket_is_that_of_its_program() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("http.sock");
    let mut server = Server::start(command(), &["--listen", &format!("unix:{}", socket.display())], 1);
    let path = socket.to_str().unwrap();
    let url = "http://localhost/stream.pcm?name=unix";
    let listener = Listener::of(&mut curl(&["--unix-socket", path, "--output", "/dev/null", url]));
    let healthy = row(&socket, "unix", |row| row["delivered"].as_u64() > Some(100));
    assert_eq!(healthy["remote"], "unix");
    row(&socket, "unix", |row| row["lag_at_most_seconds"].as_f64() < Some(0.1));
    signal(listener.pid(), "STOP");
    // All of it waits in the socket or before it, and is known within 50 ms. Its buffer holds a second of such sound or two.
    let stopped = row(&socket, "unix", |row| row["lag_seconds"].as_f64() > Some(0.9));
    assert!(stopped["lag_at_most_seconds"].as_f64() >= stopped["lag_seconds"].as_f64(), "{stopped}");
    assert_eq!(stopped["fault"], "listener", "{stopped}");
    signal(listener.pid(), "CONT");
    row(&socket, "unix", |row| row["lag_seconds"].as_f64() < Some(0.1) && row["verdict"] == "ok");
    drop(listener);
    server.end();
}

#[test]
fn a_websocket_and_a_pipelined_request_go_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("http.sock");
    let _server = Server::start(command(), &["--listen", &format!("unix:{}", socket.display())], 1);
    let stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let (mut socket, _) = tungstenite::client("ws://localhost/stream", stream).unwrap();
    for _ in 0..20 {
        socket.read().unwrap();
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
}

#[test]
fn sockets_that_systemd_passes_are_used_instead_of_configured_ones() {
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let number = passed.as_raw_fd();
    // As systemd does: the socket is file 3, and the process's own number says that it is meant.
    let script = format!("exec 3<&{number}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"");
    rustix::io::fcntl_setfd(&passed, rustix::io::FdFlags::empty()).unwrap();
    let mut server = Server::start(command_behind(&["bash", "-c", &script]), &["--listen", "127.0.0.1:1"], 1);
    drop(passed);
    assert_eq!(server.urls, [format!("http://{address}/")]);
    assert_eq!(get(None, &format!("{}healthz", server.urls[0])), "ok");
    std::thread::sleep(Duration::from_millis(100));
    server.end();
}
