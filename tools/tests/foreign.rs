//! `aircheckctl load` against servers that are not aircheck: bytes are counted, and answers without a stream are named.

mod scripted;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use serde_json::Value;

/// Starts a server that lets `answer` write to every connection that asks for `/radio`, `/stream.json` or `/stream.opus`, and answers
/// 404 to everything else.
fn serve(answer: impl Fn(&mut TcpStream) + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    // It ends with the test.
    thread::spawn(move || {
        for tcp in listener.incoming() {
            thread::spawn(move || {
                let mut tcp = tcp.expect("a connection");
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && tcp.read(&mut byte).unwrap_or(0) == 1 {
                    request.push(byte[0]);
                }
                if ["/radio", "/stream.json", "/stream.opus"]
                    .iter()
                    .any(|path| request.starts_with(format!("GET {path} ").as_bytes()))
                {
                    answer(&mut tcp);
                } else {
                    let _ = tcp.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n");
                }
            });
        }
    });
    address
}

fn load(url: &str, flags: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aircheckctl"));
    let output = scripted::output(
        command
            .args(["load", url])
            .args(flags)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("it should start"),
    );
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

/// How often the radio sends.
const EVERY: std::time::Duration = std::time::Duration::from_millis(10);
/// The bytes that it sends.
const PIECE: [u8; 100] = [7; 100];

#[test]
fn any_stream_of_bytes_is_measured() {
    let address = serve(|tcp| {
        let mut sent = tcp.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nicy-br: 80\r\n\r\n");
        while sent.is_ok() {
            sent = tcp.write_all(&PIECE);
            thread::sleep(EVERY);
        }
    });
    let url = format!("http://{address}/radio");
    let flags = ["--listeners", "5", "--ramp", "500/s", "--churn", "5/s", "--for", "2s"];
    let (code, stdout, stderr) = load(&url, &[&flags[..], &["--json"]].concat());
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stderr.contains("which is not an aircheck server"), "{stderr}");
    let object: Value = serde_json::from_str(&stdout).expect("an object");
    let healthy = &object["kinds"]["healthy"];
    assert!(healthy["bytes"].as_u64().is_some_and(|bytes| bytes > 5 * 100), "{object}");
    assert_eq!((&healthy["blocks"], &healthy["latency_seconds"]), (&Value::Null, &Value::Null));
    assert!(healthy["first_byte_seconds"]["p50"].as_f64().is_some(), "{object}");
    let longest = &healthy["longest_pause_seconds"];
    assert!(longest["p50"].as_f64().is_some_and(|seconds| (0.01..2.0).contains(&seconds)), "{object}");
    let (code, stdout, _) = load(&url, &flags);
    assert_eq!(code, 0, "{stdout}");
    assert!(stdout.contains("the longest of each healthy listener: p50 "), "{stdout}");
    assert!(stdout.lines().last().is_some_and(|line| line.starts_with("ok: ")), "{stdout}");
}

#[test]
fn a_stream_of_shoutcast_is_measured() {
    let address = serve(|tcp| {
        let mut sent = tcp.write_all(b"ICY 200 OK\r\nicy-br: 80\r\n\r\n");
        while sent.is_ok() {
            sent = tcp.write_all(&PIECE);
            thread::sleep(EVERY);
        }
    });
    let (code, stdout, stderr) = load(&format!("http://{address}/radio"), &["--listeners", "2", "--for", "1s"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.lines().last().is_some_and(|line| line.starts_with("ok: 2 healthy listeners got ")), "{stdout}");
}

#[test]
fn a_page_is_not_a_stream() {
    let address = serve(|tcp| {
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello");
    });
    let (code, stdout, stderr) = load(&format!("http://{address}/radio"), &["--listeners", "5"]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("there was nothing to listen to: not a stream, but 5 bytes of text/html"), "{stderr}");
    let (code, _, stderr) = load(&format!("http://{address}/nothing"), &["--listeners", "5", "--ramp", "500/s"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("the server refused all 5: not found (HTTP 404)"), "{stderr}");
}

#[test]
fn an_empty_stream_is_a_failure() {
    let address = serve(|tcp| {
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n");
        scripted::until_closed(tcp);
    });
    let flags = ["--listeners", "2", "--ramp", "500/s", "--for", "1s"];
    let (code, stdout, stderr) = load(&format!("http://{address}/radio"), &flags);
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(stdout.contains("failed: nothing came within "), "{stdout}");
}

#[test]
fn an_answer_that_is_not_http_is_named() {
    let address = serve(|tcp| {
        let _ = tcp.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
    });
    let (code, _, stderr) = load(&format!("http://{address}/radio"), &["--listeners", "2"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("no HTTP answer"), "{stderr}");
}

#[test]
fn a_stream_that_breaks_off_means_that_the_server_died() {
    let address = serve(|tcp| {
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let (code, stdout, stderr) = load(&format!("http://{address}/radio"), &["--listeners", "1"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stdout.contains("failed: the server died after ") && stdout.contains("5 bytes"), "{stdout}");
}

#[test]
fn lines_of_json_are_checked_on_any_server() {
    // A block is missing without a notice.
    let address = serve(|tcp| {
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for sequence in [7, 8, 10] {
            scripted::send(tcp, &scripted::chunk(&scripted::line(sequence)));
        }
        scripted::send(tcp, "0\r\n\r\n");
    });
    let (code, stdout, stderr) = load(&format!("http://{address}/stream.json"), &["--listeners", "1"]);
    assert_eq!(code, 3, "{stdout}{stderr}");
    assert!(stdout.contains("lost 1 block in 1 gap; 1 stream contradicted itself"), "{stdout}");
}

/// Sends a stream of Ogg Opus with two packets of sound, which ends its body properly, and its last page if it says so.
fn send_opus(tcp: &mut TcpStream, last: PacketWriteEndInfo) {
    let mut pages = PacketWriter::new(Vec::new());
    for (packet, end, position) in [
        (b"OpusHead".to_vec(), PacketWriteEndInfo::EndPage, 0),
        (b"OpusTags".to_vec(), PacketWriteEndInfo::EndPage, 0),
        (vec![31 << 3; 100], PacketWriteEndInfo::EndPage, 960),
        (vec![31 << 3; 100], last, 1920),
    ] {
        pages.write_packet(packet, 7, end, position).expect("memory");
    }
    let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for page in pages.into_inner().chunks(50) {
        let _ = write!(tcp, "{:x}\r\n", page.len()).and_then(|()| tcp.write_all(page));
        let _ = tcp.write_all(b"\r\n");
        // Pieces of their own, which end within pages and chunks.
        thread::sleep(EVERY);
    }
    let _ = tcp.write_all(b"0\r\n\r\n");
}

#[test]
fn a_stream_of_ogg_must_end_with_its_last_page() {
    let whole = serve(|tcp| send_opus(tcp, PacketWriteEndInfo::EndStream));
    let (code, stdout, stderr) = load(&format!("http://{whole}/stream.opus"), &["--listeners", "2", "--ramp", "500/s"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("; then the stream ended"), "{stdout}");
    let cut = serve(|tcp| send_opus(tcp, PacketWriteEndInfo::EndPage));
    let (code, stdout, stderr) = load(&format!("http://{cut}/stream.opus"), &["--listeners", "2", "--ramp", "500/s"]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(stdout.contains("2 of 2 streams broke: the stream ended without the last page of Ogg"), "{stdout}");
}
