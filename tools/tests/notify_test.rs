//! `aircheckctl notify-test` against receivers that take a notification, refuse it, and are none.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

/// Starts a receiver of one request, which gets `answer`.
fn receive(answer: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (send, received) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = String::new();
        let mut bytes = [0; 4096];
        while !is_whole(&request) {
            let read = stream.read(&mut bytes).expect("a request");
            request.push_str(std::str::from_utf8(&bytes[..read]).expect("UTF-8"));
        }
        stream.write_all(answer.as_bytes()).expect("a reader");
        send.send(request).expect("the test");
    });
    (address, received)
}

/// Returns whether all of the body has come.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    body.len() >= length.parse().expect("a number")
}

fn run(arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aircheckctl"))
        .arg("notify-test")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it should start");
    // It may have ended already.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    let output = child.wait_with_output().expect("its output");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!out.contains("s3cret") && !err.contains("s3cret"), "{out}{err}");
    (output.status.code().expect("no signal"), out, err)
}

#[test]
fn a_receiver_that_takes_the_test_is_named() {
    let (address, received) = receive("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (code, out, err) = run(&[&format!("http://{address}/s3cret")], "");
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with(&format!("{address} took the notification (HTTP 200, ")), "{out}");
    let request = received.recv().expect("a request");
    assert!(request.starts_with("POST /s3cret HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(r#"{"event":"test","state":"begin","mount":"main","#), "{request}");
}

#[test]
fn the_url_may_come_from_stdin() {
    let (address, received) = receive("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (code, _, err) = run(&["-", "--form", "slack"], &format!("http://{address}/s3cret\n"));
    assert_eq!(code, 0, "{err}");
    let request = received.recv().expect("a request");
    assert!(request.contains("content-type: application/json\r\n"), "{request}");
    assert!(request.contains(r#"{"text":":white_check_mark: "#), "{request}");
}

#[test]
fn ntfy_gets_a_line_of_text_and_headers() {
    let (address, received) = receive("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (code, _, err) = run(&[&format!("http://{address}/s3cret"), "--form", "ntfy"], "");
    assert_eq!(code, 0, "{err}");
    let request = received.recv().expect("a request");
    assert!(request.contains("title: aircheck: test begin\r\n"), "{request}");
    assert!(request.ends_with("this is a test of aircheck's notifications"), "{request}");
}

#[test]
fn a_failure_is_one_line_with_the_host_alone() {
    let (address, _received) = receive("HTTP/1.1 429 Slow\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n");
    let (code, out, err) = run(&[&format!("http://{address}/s3cret")], "");
    assert_eq!((code, &*out), (1, ""));
    let why = "HTTP 429; it asks to be left alone for 30.00 s (the server would try again)";
    assert_eq!(err, format!("aircheckctl: cannot notify {address}: {why}\n"));

    let (address, _received) = receive("HTTP/1.1 302 Found\r\nlocation: https://login.example/s3cret\r\n\r\n");
    let (code, _, err) = run(&[&format!("http://{address}/s3cret")], "");
    let why = "HTTP 302: it redirects to login.example (name that URL) (the server would not try again)";
    assert_eq!((code, err), (1, format!("aircheckctl: cannot notify {address}: {why}\n")));
}

#[test]
fn a_url_that_is_none_is_wrong_usage() {
    for (arguments, stdin) in [(["hooks.example/s3cret"], ""), (["-"], "hooks.example/s3cret"), (["-"], "")] {
        let (code, _, err) = run(&arguments, stdin);
        assert_eq!(code, 2, "{err}");
        assert!(err.starts_with("aircheckctl: <URL> must be a URL such as "), "{err}");
    }
    let (code, _, err) = run(&["http://h", "--form", "xml"], "");
    assert_eq!(code, 2);
    assert!(err.contains("must be json, ntfy or slack"), "{err}");
}
