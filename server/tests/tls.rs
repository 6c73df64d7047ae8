//! HTTPS and WSS with independent clients: the same sound, a proper end, certificates that are renewed, and clients that do not speak
//! as they should.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::tls::{self, Connection, TlsConnection};
use common::{
    Listener, Server, TEST_TIMEOUT, assert_identity, connect_from, curl, eventually, raw, refused, write_wav,
};
use serde_json::Value;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConnection, ProtocolVersion, SupportedProtocolVersion};
use tungstenite::{Message, WebSocket};

/// Arguments of curl for a version of TLS.
const VERSIONS: [[&str; 3]; 2] = [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]];

/// Starts a server with TLS.
fn start(flags: &[&str]) -> Server {
    let of_tls = tls::flags();
    Server::start(&[flags, &of_tls.each_ref().map(String::as_str)].concat())
}

/// Returns noise, which no lossy codec keeps.
fn noise(samples: usize) -> Vec<i16> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as i16
    };
    (0..samples).map(next).collect()
}

#[test]
fn curl_hears_the_same_samples_with_each_version_of_tls_as_without() {
    let directory = tempfile::tempdir().unwrap();
    let samples = noise(2 * 2 * 48_000 + 123 * 2);
    let source = write_wav(&directory.path().join("in.wav"), 2, samples.iter().copied());
    let mut server = start(&["--source", &source]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let paths = ["stream.wav?from=0", "stream.pcm?from=0&gather=100ms", "stream.json?from=0"];
    let mut listeners = Vec::new();
    for (index, version) in VERSIONS.iter().enumerate() {
        for path in paths {
            let file = directory.path().join(format!("{index}-{}", path.split('?').next().unwrap()));
            let url = server.url(path);
            let arguments = [&version[..], &["--output", file.to_str().unwrap(), &url]].concat();
            let listener = Listener::of(&mut curl(&arguments));
            listeners.push((path, file, listener));
        }
    }
    let mut json = None;
    for (path, file, mut listener) in listeners {
        assert!(listener.wait().success(), "{path} ends properly");
        let heard = fs::read(&file).unwrap();
        let expected: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        if path.starts_with("stream.json") {
            let text = String::from_utf8(heard).unwrap();
            let numbers = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64());
            assert!(numbers.eq((0..=200).map(Some)), "{path}");
            // Both are of the same server, so each number in it is the same.
            assert!(json.get_or_insert_with(|| text.clone()) == &text, "{path}");
        } else {
            assert!(heard.ends_with(&expected) && heard.len() - expected.len() <= 44, "{path}: {} bytes", heard.len());
        }
    }
    assert!(server.wait().success());
}

#[test]
fn ffmpeg_hears_opus_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    // Long enough for ffmpeg to come before it is over.
    let source = write_wav(&directory.path().join("in.wav"), 1, noise(8 * 48_000));
    let server = start(&["--source", &source]);
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-tls_verify", "1", "-ca_file"])
        .arg(tls::certificate_of(server.address).unwrap())
        .args(["-i", &server.url("stream.opus?from=0"), "-f", "s16le", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // To a packet of 20 ms.
    assert!(output.stdout.len().abs_diff(2 * 8 * 48_000) <= 2 * 960, "{} bytes", output.stdout.len());
}

/// Connects with TLS.
fn connect(server: &Server) -> TlsConnection {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    match Connection::new(stream) {
        Connection::Tls(connection) => *connection,
        Connection::Plain(_) => panic!("the server has no TLS"),
    }
}

/// Sends a request on a connection of its own.
fn request(server: &Server, path: &str) -> TlsConnection {
    let mut stream = connect(server);
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream
}

#[test]
fn the_end_of_a_stream_and_of_an_answer_is_said_in_tls_too() {
    let directory = tempfile::tempdir().unwrap();
    let source = write_wav(&directory.path().join("in.wav"), 1, noise(6 * 48_000));
    let mut server = start(&["--source", &source]);
    // rustls reports a connection that is closed without that as an error.
    let read_to_end = |mut stream: TlsConnection| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes[8..].starts_with(b" 200 OK\r\n"), "{}", bytes[..100].escape_ascii());
        bytes
    };
    let mut answered = connect(&server);
    write!(answered, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_to_end(answered).ends_with(b"ok"));

    let deleted = request(&server, "stream.wav?name=deleted");
    let id = server.row_when("deleted", |row| row["delivered"].as_u64() > Some(5))["id"].clone();
    let (status, answer) = server.ask(&["--request", "DELETE"], &format!("api/v1/listeners/{id}"));
    assert_eq!(status, 200, "{answer}");
    assert!(read_to_end(deleted).ends_with(b"0\r\n\r\n"));

    let mut old = connect(&server);
    write!(old, "GET /stream.pcm?name=old HTTP/1.0\r\n\r\n").unwrap();
    let to_the_end = [request(&server, "stream.opus"), request(&server, "stream.json"), old];
    to_the_end.into_iter().for_each(|stream| drop(read_to_end(stream)));
    assert!(server.wait().success());

    let mut server = start(&["--source", "tone:440"]);
    let told = request(&server, "stream.flac?name=told");
    server.row_when("told", |row| row["delivered"].as_u64() > Some(5));
    server.terminate();
    assert!(read_to_end(told).ends_with(b"0\r\n\r\n"));
    assert!(server.wait().success());
}

#[test]
fn a_listener_by_wss_hears_and_is_answered() {
    let server = start(&["--source", "tone:440"]);
    let (mut socket, _) = tungstenite::client("wss://localhost/stream?name=wss", connect(&server)).unwrap();
    let Message::Text(hello) = socket.read().unwrap() else { panic!("no hello") };
    assert!(hello.contains("\"hello\""), "{hello}");
    let mut next = None;
    for _ in 0..150 {
        if let Message::Binary(block) = socket.read().unwrap() {
            let sequence = u64::from_le_bytes(block[8..16].try_into().unwrap());
            assert!(next.is_none_or(|next| next == sequence), "{sequence} is not {next:?}");
            next = Some(sequence + 1);
        }
    }
    // Its pongs prove what it has read, although they come in records.
    let row = server.row_when("wss", |row| row["latency_seconds"]["read"]["p50"].is_number());
    assert!(row["lag_at_most_seconds"].as_f64().unwrap() < 0.5, "{row}");
    assert_identity(&row);
    socket.send(Message::Text(r#"{"clock":7}"#.into())).unwrap();
    let answer = text_after(&mut socket);
    assert!(answer.contains("\"clock\""), "{answer}");
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    eventually("its leave", || server.rows().is_empty().then_some(()));
}

/// Returns the next text message.
fn text_after(socket: &mut WebSocket<TlsConnection>) -> String {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return text.to_string();
        }
    }
}

#[test]
fn a_listener_that_changes_its_keys_all_the_time_hears_on_and_its_lag_is_known() {
    let server = start(&["--source", "tone:440"]);
    let mut stream = request(&server, "stream.pcm?name=keys");
    let mut bytes = [0; 16 * 1024];
    for round in 0..100 {
        assert!(stream.read(&mut bytes).unwrap() > 0);
        if round % 4 == 0 {
            stream.refresh_keys();
            stream.write_all(b"\r\n").unwrap();
        }
    }
    assert_eq!(stream.state().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    // All bytes that were handed to the connection are acknowledged at some moment; those of TLS itself are counted, too.
    let reader = thread::spawn(move || while matches!(stream.read(&mut bytes), Ok(1..)) {});
    let row = server.row_when("keys", |row| row["socket_queued_bytes"] == 0);
    assert_eq!(row["lost"], 0, "{row}");
    server.terminate();
    reader.join().unwrap();
}

#[test]
fn a_plain_request_is_told_to_use_https_and_tls_on_a_plain_port_gets_an_alert() {
    let server = start(&["--source", "tone:440"]);
    let answer = raw(server.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains(&format!("this port speaks HTTPS: use https://{}/", server.address)), "{answer}");
    let plain = Server::start(&["--source", "tone:440"]);
    let url = plain.url("healthz").replace("http://", "https://");
    let output = curl(&["--insecure", "--max-time", "5", &url]).output().unwrap();
    // 35: the handshake has failed.
    assert_eq!(output.status.code(), Some(35), "{output:?}");
    assert_eq!(plain.text("healthz"), "ok");
}

#[test]
fn a_renewed_certificate_is_taken_while_a_listener_goes_on_and_a_bad_pair_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (cert, key) = tls::write_certificate(path, "live");
    let copy = path.join("first.pem");
    fs::copy(&cert, &copy).unwrap();
    let flags = ["--source", "tone:440", "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = Server::start(&flags);
    let is_taken = |certificate: &Path| {
        let certificate = certificate.to_str().unwrap();
        let url = format!("https://localhost:{}/healthz", server.address.port());
        let output = Command::new("curl").args(["--silent", "--cacert", certificate, &url]).output().unwrap();
        output.stdout == b"ok"
    };
    assert!(is_taken(&copy));
    let mut going_on = request(&server, "stream.pcm?name=going-on");
    let reader = thread::spawn(move || {
        let mut bytes = [0; 4096];
        while matches!(going_on.read(&mut bytes), Ok(1..)) {}
    });
    let (renewed, renewed_key) = tls::write_certificate(path, "renewed");
    fs::copy(&renewed, &cert).unwrap();
    server.wait_for_log("the certificate stays as it was: tls_key");
    assert!(is_taken(&copy), "the key does not belong to the new certificate");
    fs::copy(&renewed_key, &key).unwrap();
    eventually("the renewed certificate", || is_taken(&renewed).then_some(()));
    assert!(!is_taken(&copy));
    // Told, it looks at once.
    let (third, third_key) = tls::write_certificate(path, "third");
    fs::copy(&third, &cert).unwrap();
    fs::copy(&third_key, &key).unwrap();
    common::signal(server.pid(), "HUP");
    let told_at = Instant::now();
    eventually("the third certificate", || is_taken(&third).then_some(()));
    assert!(told_at.elapsed() < Duration::from_secs(3), "{:?}", told_at.elapsed());
    let row = only_row(&third, &server);
    assert_eq!(row["lost"], 0, "{row}");
    assert!(!reader.is_finished());
    server.terminate();
    reader.join().unwrap();
}

/// Returns the only row, with this certificate.
fn only_row(certificate: &Path, server: &Server) -> Value {
    let url = server.url("api/v1/listeners");
    let output =
        Command::new("curl").args(["--silent", "--cacert", certificate.to_str().unwrap(), &url]).output().unwrap();
    serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].take()
}

#[test]
fn a_self_signed_certificate_is_made_once_and_is_its_owner_s_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aircheck/tls-self-signed.pem");
    let start = || {
        Server::start_with(&["--source", "tone:440", "--tls-self-signed"], |command| {
            command.env_remove("STATE_DIRECTORY").env("XDG_DATA_HOME", directory.path())
        })
    };
    let server = start();
    let first = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let output = Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&file).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let fingerprint = text.trim().split('=').nth(1).unwrap();
    server.wait_for_log(&format!("SHA-256 {fingerprint}"));
    for name in ["localhost", "127.0.0.1"] {
        let url = format!("https://{name}:{}/healthz", server.address.port());
        let output =
            Command::new("curl").args(["--silent", "--cacert", file.to_str().unwrap(), &url]).output().unwrap();
        assert_eq!(output.stdout, b"ok", "{name}");
    }
    drop(server);
    let server = start();
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    drop(server);
}

#[test]
fn settings_and_files_that_cannot_work_are_refused_with_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = tls::write_certificate(directory.path(), "one");
    let (_, other_key) = tls::write_certificate(directory.path(), "other");
    let [cert, key, other_key] = [&cert, &key, &other_key].map(|path| path.to_str().unwrap());
    let missing = directory.path().join("missing.pem");
    let missing = missing.to_str().unwrap();
    for (flags, complaint) in [
        (vec!["--tls-cert", cert], "--tls-cert needs the certificate's key: set --tls-key"),
        (vec!["--tls-key", key], "--tls-key needs the key's certificate: set --tls-cert"),
        (vec!["--tls-cert", cert, "--tls-key", key, "--tls-self-signed"], "--tls-self-signed makes a certificate"),
        (vec!["--tls-cert", missing, "--tls-key", key], "cannot read tls_cert"),
        (vec!["--tls-cert", cert, "--tls-key", missing], "cannot read tls_key"),
        (vec!["--tls-cert", key, "--tls-key", key], "there is no certificate in PEM in it"),
        (vec!["--tls-cert", cert, "--tls-key", cert], "there is no private key in PEM in it"),
        (vec!["--tls-cert", cert, "--tls-key", other_key], "this key does not belong to the certificate"),
    ] {
        let (code, text) = refused(&[&flags[..], &["--source", "tone:440"]].concat());
        assert_eq!(code, 2, "{flags:?}: {text}");
        assert!(text.contains(complaint) && text.lines().count() <= 2, "{flags:?}: {text}");
    }
}

/// Returns the first message of a client.
fn hello(server: &Server) -> Vec<u8> {
    let certificate = tls::certificate_of(server.address).unwrap();
    let config = tls::client(&certificate, &[&TLS13, &TLS12]);
    let mut client = ClientConnection::new(config, server.address.ip().into()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn handshakes_that_are_begun_and_never_completed_cost_no_listener_a_block() {
    /// A thousand a second, for so long.
    const FLOOD: u64 = 3;

    let server = start(&["--source", "tone:440"]);
    let hello = hello(&server);
    let listeners = ["stream.pcm?name=a", "stream.opus?name=b"];
    let mut curls: Vec<_> = listeners
        .iter()
        .map(|path| Listener::of(curl(&["--output", "/dev/null", &server.url(path)]).stderr(Stdio::null())))
        .collect();
    for name in ["a", "b"] {
        server.row_when(name, |row| row["delivered"].as_u64() > Some(20));
    }
    let start = Instant::now();
    let mut begun = 0;
    while start.elapsed() < Duration::from_secs(FLOOD) {
        let from = Ipv4Addr::new(127, 0, 7, (begun % 250) as u8 + 1);
        let mut stream = connect_from(from, server.address);
        // The server may have no place for it.
        let _ = stream.write_all(&hello);
        begun += 1;
        let due = start + Duration::from_millis(begun);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    println!("{begun} handshakes begun in {:?}", start.elapsed());
    assert!(begun > 100 * FLOOD, "{begun}: this machine begins too few");
    for name in ["a", "b"] {
        let row = server.row_when(name, |row| row["lag_seconds"].as_f64() < Some(0.2));
        assert_eq!((&row["lost"], &row["gaps"]), (&0.into(), &0.into()), "{row}");
        println!("{name}: lag at most {} s, by 99 % {} s", row["lag_max_seconds"], row["lag_p99_seconds"]);
    }
    curls.clear();
}

/// What each listener beside a flood asks for, and what curl says to get it.
const RENDITIONS: [(&str, &[&str]); 7] = [
    ("stream.wav?name=wav", &[]),
    ("stream.pcm?name=pcm", &[]),
    ("stream.flac?name=flac", &[]),
    ("stream.opus?name=opus", &[]),
    ("stream.mp3?name=mp3", &[]),
    ("stream.json?name=json", &[]),
    ("stream?name=events", &["--header", "Accept: text/event-stream"]),
];

/// Completes handshakes for so long, from so many threads and from many addresses. Returns how many there were.
fn flood(server: &Server, version: &'static SupportedProtocolVersion, span: Duration) -> u64 {
    /// Each thread begins one at this interval, so both a thousand a second.
    const INTERVAL: Duration = Duration::from_millis(2);

    let mut config = (*tls::client(&tls::certificate_of(server.address).unwrap(), &[version])).clone();
    config.resumption = Resumption::disabled();
    let (config, address, start) = (Arc::new(config), server.address, Instant::now());
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut completed = 0;
                for begun in 0.. {
                    if start.elapsed() >= span {
                        break;
                    }
                    let from = Ipv4Addr::new(127, 0, 9 + thread, (begun % 250) as u8 + 1);
                    let connection = TlsConnection::new(connect_from(from, address), Arc::clone(&config));
                    // The server may have no place for it.
                    completed += u64::from(connection.open_and_close().is_ok());
                    thread::sleep((start + INTERVAL * begun).saturating_duration_since(Instant::now()));
                }
                completed
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

#[test]
fn handshakes_that_are_completed_cost_no_listener_a_block() {
    const SPAN: Duration = Duration::from_secs(5);

    let server = start(&["--source", "tone:440"]);
    let mut curls: Vec<_> = RENDITIONS
        .iter()
        .map(|(path, arguments)| {
            let url = server.url(path);
            Listener::of(curl(&[*arguments, &["--output", "/dev/null", &url]].concat()).stderr(Stdio::null()))
        })
        .collect();
    let (mut socket, _) = tungstenite::client("wss://localhost/stream?name=websocket", connect(&server)).unwrap();
    let websocket = thread::spawn(move || while socket.read().is_ok() {});
    let listeners = RENDITIONS.len() + 1;
    eventually("all listeners", || {
        let has_begun = |row: &Value| row["delivered"].as_u64() > Some(20);
        (server.rows().iter().filter(|row| has_begun(row)).count() == listeners).then_some(())
    });
    for version in [&TLS13, &TLS12] {
        let completed = flood(&server, version, SPAN);
        println!("{:?}: {completed} handshakes in {SPAN:?}", version);
        assert!(completed > 50 * SPAN.as_secs(), "{completed}: this machine completes too few");
    }
    for row in server.rows() {
        assert_identity(&row);
        assert_eq!((&row["lost"], &row["gaps"]), (&0.into(), &0.into()), "{row}");
        println!("{}: lag at most {} s, by 99 % {} s", row["name"], row["lag_max_seconds"], row["lag_p99_seconds"]);
    }
    assert_eq!(server.rows().len(), listeners);
    curls.clear();
    drop(server);
    websocket.join().unwrap();
}

#[test]
fn handshakes_that_stand_still_give_way_to_others() {
    let server = start(&["--source", "tone:440", "--max-listeners", "5", "--max-connections-per-address", "20"]);
    let hello = hello(&server);
    // More than there are places.
    let held: Vec<_> = (0..400)
        .map(|n| {
            let mut stream = connect_from(Ipv4Addr::new(127, 0, 8, (n % 40) as u8 + 1), server.address);
            let _ = stream.write_all(&hello[..hello.len() / 2]);
            stream
        })
        .collect();
    let start = Instant::now();
    eventually("an answer", || {
        let output = curl(&["--max-time", "5", &server.url("healthz")]).output().unwrap();
        (output.stdout == b"ok").then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(held);
}

#[test]
fn a_record_that_is_not_genuine_ends_its_listener_alone() {
    let server = start(&["--source", "tone:440"]);
    let _other = Listener::of(&mut curl(&["--output", "/dev/null", &server.url("stream.pcm?name=other")]));
    let mut bad = request(&server, "stream.pcm?name=bad");
    server.row_when("bad", |row| row["delivered"].as_u64() > Some(5));
    bad.socket()
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .unwrap();
    let mut rest = Vec::new();
    let error = bad.read_to_end(&mut rest).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    server.wait_for_log("ended a listener: a TLS record from it is not genuine");
    let left = eventually("its end", || server.events().into_iter().find(|event| event["event"] == "left"));
    assert_eq!(left["reason"], "tls", "{left}");
    assert!(server.text("metrics").contains("aircheck_listeners_left_total{reason=\"tls\"} 1"));
    server.row_when("other", |row| row["lost"] == 0);
    assert_eq!(server.rows().len(), 1);
}
