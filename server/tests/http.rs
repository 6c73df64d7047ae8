//! Paths, parameters, methods and headers. A wrong request gets an answer and disturbs no listener.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Listener, Server, TEST_TIMEOUT, curl, eventually, raw, signal};
use serde_json::Value;

/// Returns the message of an error response.
fn error_of(response: &str) -> String {
    let body = response.split("\r\n\r\n").nth(1).unwrap_or_default();
    serde_json::from_str::<Value>(body).unwrap()["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_wrong_request_gets_an_error_that_says_what_would_work() {
    let server = Server::start(&["--source", "tone:440"]);
    let cases: &[(&[&str], &str, u16, &str)] = &[
        (&[], "nothing", 404, "/stream.wav"),
        (&[], "stream.aac", 404, "/stream.wav"),
        (&[], "stream.opus?bitrate=5k", 400, "bitrate"),
        (&[], "stream.opus?bitrate=511000", 400, "bitrate"),
        (&[], "stream.opus?bitrate=", 400, "bitrate"),
        (&[], "stream.wav?bitrate=96k", 400, "bitrate"),
        (&[], "stream.opus?sample=s16le", 400, "sample"),
        (&[], "stream.flac?sample=f32le", 400, "sample"),
        (&[], "stream.opus?gaps=silence", 400, "gaps"),
        (&[], "stream.wav?payload=f32", 400, "payload"),
        (&[], "stream.wav?gather=x", 400, "gather"),
        (&[], "stream.wav?gather=126ms", 400, "125ms"),
        (&[], "stream.wav?gather=200ms&buffer=2s&max_lag=1s", 400, "125ms"),
        (&[], "stream.wav?gather=20ms&gaps=silence", 400, "gather"),
        (&[], "stream?format=aac", 400, "format"),
        (&["-H", "Upgrade: websocket", "-H", "Connection: Upgrade"], "stream", 426, "version 13"),
        (&["-X", "POST"], "stream.wav", 405, "GET, HEAD"),
        (&["-X", "DELETE"], "metrics", 405, "GET, HEAD"),
        (&[], "api/v1/listeners/1", 405, "DELETE"),
        (&["-X", "DELETE"], "api/v1/listeners/7", 404, "no listener 7"),
        (&["-X", "DELETE"], "api/v1/listeners/x", 404, "`x`"),
        (&[], "stream.wav?buffer=soon", 400, "buffer"),
        (&[], "stream.wav?buffer=1h", 400, "buffer"),
        (&[], "stream.wav?buffer=1s&buffer=2s", 400, "buffer"),
        (&[], "stream.wav?burst=-1s", 400, "burst"),
        (&[], "stream.wav?burst=1d", 400, "burst"),
        (&[], "stream.wav?from=one", 400, "from"),
        (&[], "stream.wav?from=1&burst=1s", 400, "from"),
        (&[], "stream.wav?overflow=explode", 400, "overflow"),
        (&[], "stream.wav?overflow=block", 400, "overflow"),
        (&[], "stream.wav?sample=u8", 400, "sample"),
        (&[], "stream.json?sample=s16le", 400, "sample"),
        (&[], "stream.wav?format=wav", 400, "format"),
        (&[], "stream.wav?burts=1s", 400, "burts"),
        (&[], "stream.wav?name=%07", 400, "name"),
        (&["-H", "Accept: text/event-stream", "-H", "Last-Event-ID: x"], "stream", 400, "Last-Event-ID"),
        (&["-H", "Host: evil.example"], "", 403, "evil.example"),
        (&["-H", "Origin: https://evil.example"], "stream.wav", 403, "https://evil.example"),
        (&["-H", "Sec-Fetch-Site: cross-site"], "stream.wav", 403, "another web site"),
    ];
    for (arguments, path, status, named) in cases {
        let (got, response) = server.ask(arguments, path);
        assert_eq!(got, *status, "{path}: {response}");
        assert!(error_of(&response).contains(named), "{path}: {response}");
        if *status == 405 {
            assert!(response.to_lowercase().contains("\r\nallow: "), "{response}");
        }
    }
    assert!(server.rows().is_empty(), "no listener was added");
}

#[test]
fn malformed_and_incomplete_requests_do_not_disturb_listeners() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let _healthy = Listener::start(&server.url("stream.wav?name=healthy"), &directory.path().join("healthy"));
    server.row_when("healthy", |row| row["delivered"].as_u64().unwrap() > 0);

    // A program that speaks TLS gets an alert, which it understands.
    assert!(raw(server.address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").starts_with(b"\x15\x03"));
    assert!(raw(server.address, b"GET / HTTP/9.9\r\n\r\n").starts_with(b"HTTP/1.1 400"));
    let close = "Connection: close\r\n\r\n";
    for hosts in ["", "Host: 127.0.0.1\r\nHost: evil.example\r\n"] {
        let request = format!("GET / HTTP/1.1\r\n{hosts}{close}");
        assert!(raw(server.address, request.as_bytes()).starts_with(b"HTTP/1.1 400"), "{hosts}");
    }
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{many}\r\n");
    assert!(raw(server.address, request.as_bytes()).starts_with(b"HTTP/1.1 431"));
    let long = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    assert!(raw(server.address, long.as_bytes()).starts_with(b"HTTP/1.1 431"));
    // The connection of half a request is closed after a timeout, and so is a silent one.
    std::thread::scope(|scope| {
        for sent in [&b"GET / HTTP/1.1\r\nHost: 127"[..], b""] {
            scope.spawn(move || assert_eq!(raw(server.address, sent), b"", "{}", sent.escape_ascii()));
        }
    });

    let before = server.row_when("healthy", |_| true);
    let after = server.row_when("healthy", |row| row["delivered"].as_u64() > before["delivered"].as_u64());
    let captured = server.json("api/v1/status")["capture"]["lost_overflow"].as_u64().unwrap();
    assert!(after["lost"].as_u64().unwrap() <= captured, "{after}");
}

#[test]
fn the_number_of_listeners_is_limited() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440", "--max-listeners", "1"]);
    let first = Listener::start(&server.url("stream.wav?name=first"), &directory.path().join("first"));
    server.row_when("first", |_| true);
    let (status, response) = server.ask(&[], "stream.wav");
    assert_eq!(status, 503, "{response}");
    assert!(response.to_lowercase().contains("\r\nretry-after: "), "{response}");
    assert!(server.text("metrics").contains("aircheck_listeners_refused_total{reason=\"limit\"} 1\n"));
    drop(first);
    eventually("a free place", || server.rows().is_empty().then_some(()));
    let _second = Listener::start(&server.url("stream.wav?name=second"), &directory.path().join("second"));
    server.row_when("second", |_| true);
}

#[test]
fn a_disconnected_listener_gets_a_proper_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let mut listener = Listener::start(&server.url("stream.wav?name=one"), &directory.path().join("one"));
    let id = server.row_when("one", |row| row["delivered"].as_u64().unwrap() > 0)["id"].clone();
    assert_eq!(server.ask(&["-X", "DELETE"], &format!("api/v1/listeners/{id}")).0, 200);
    assert!(listener.wait().success());
    eventually("an empty table", || server.rows().is_empty().then_some(()));
}

#[test]
fn a_listener_that_gathers_for_longer_than_the_end_may_take_gets_a_proper_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["--source", "tone:440", "--buffer", "20s"]);
    let listen = |name: &str| {
        let url = server.url(&format!("stream.wav?name={name}&gather=2s"));
        Listener::start(&url, &directory.path().join(name))
    };
    let (mut one, mut two) = (listen("one"), listen("two"));
    let id = server.row_when("one", |row| row["delivered"].as_u64().unwrap() > 100)["id"].clone();
    server.row_when("two", |row| row["delivered"].as_u64().unwrap() > 100);
    assert_eq!(server.ask(&["-X", "DELETE"], &format!("api/v1/listeners/{id}")).0, 200);
    assert!(one.wait().success(), "disconnected");
    server.terminate();
    assert!(two.wait().success(), "at the end of the stream");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_frozen_listener_can_be_disconnected() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let listener = Listener::start(&server.url("stream.wav?name=one"), &directory.path().join("one"));
    server.row_when("one", |row| row["delivered"].as_u64().unwrap() > 0);
    common::signal(listener.pid(), "STOP");
    let id = server.row_when("one", |row| row["queued"].as_u64().unwrap() > 10)["id"].clone();
    assert_eq!(server.ask(&["-X", "DELETE"], &format!("api/v1/listeners/{id}")).0, 200);
    eventually("an empty table", || server.rows().is_empty().then_some(()));
}

#[test]
fn the_policy_disconnect_ends_a_frozen_listener() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let url = server.url("stream.wav?name=one&overflow=disconnect&buffer=500ms");
    let listener = Listener::start(&url, &directory.path().join("one"));
    server.row_when("one", |row| row["delivered"].as_u64().unwrap() > 0);
    common::signal(listener.pid(), "STOP");
    eventually("an empty table", || server.rows().is_empty().then_some(()));
}

#[test]
fn server_sent_events_resume_after_the_last_event_id() {
    let server = Server::start(&["--source", "tone:440"]);
    // Until the requested blocks are in the history.
    eventually("sound", || (server.json("api/v1/status")["head_sequence"].as_u64()? > 10).then_some(()));
    let mut listener = curl(&["--max-time", "20", "-H", "Accept: text/event-stream", "-H", "Last-Event-ID: 4"])
        .arg(server.url("stream"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut pipe = listener.stdout.take().unwrap();
    let mut buffer = [0; 4096];
    while text.matches("\n\n").count() < 3 {
        let read = pipe.read(&mut buffer).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let _ = listener.kill();
    let _ = listener.wait();
    let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids[..2], ["5", "6"], "{text}");
}

#[test]
fn blocks_that_the_history_no_longer_has_are_a_counted_gap() {
    let server = Server::start(&["--source", "tone:440", "--history", "100ms"]);
    eventually("a short history", || (server.json("api/v1/status")["head_sequence"].as_u64()? > 50).then_some(()));
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.write_all(b"GET /stream.json?from=3&name=late HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while text.matches('\n').count() < 20 {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let body = text.split("\r\n\r\n").nth(1).unwrap();
    let gap: Value = serde_json::from_str(body.lines().next().unwrap()).unwrap();
    let block: Value = serde_json::from_str(body.lines().nth(1).unwrap()).unwrap();
    assert_eq!(gap["gap"]["from"], 3);
    assert_eq!(gap["gap"]["reason"], "history");
    assert_eq!(block["sequence"].as_u64().unwrap(), 3 + gap["gap"]["blocks"].as_u64().unwrap());
    let row = server.row_when("late", |_| true);
    common::assert_identity(&row);
    assert!(row["lost"].as_u64() >= gap["gap"]["blocks"].as_u64());
}

#[test]
fn a_format_is_chosen_by_accept_header_and_by_name() {
    let server = Server::start(&["--source", "tone:440"]);
    for (arguments, path, content_type) in [
        (&["--head"][..], "stream", "audio/wav"),
        (&["--head"], "stream.wav", "audio/wav"),
        (&["--head"], "stream.pcm?sample=f32le", "application/octet-stream"),
        (&["--head", "-H", "Accept: text/event-stream"], "stream", "text/event-stream"),
        (&["--head", "-H", "Accept: text/html, application/json;q=0.9"], "stream", "application/x-ndjson"),
        (&["--head"], "stream?format=sse", "text/event-stream"),
    ] {
        let (status, response) = server.ask(arguments, path);
        assert_eq!(status, 200, "{path}: {response}");
        assert!(response.contains(&format!("content-type: {content_type}\r\n")), "{path}: {response}");
        assert!(response.contains("x-audio-rate: 48000\r\nx-audio-channels: 1\r\n"), "{path}: {response}");
    }
    assert!(server.rows().is_empty(), "HEAD adds no listener");
}

#[test]
fn prometheus_can_read_the_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let hostile = server.url("stream.wav?name=%22%5C%7B%7D%F0%9F%8E%99");
    let listener = Listener::start(&hostile, &directory.path().join("one"));
    server.row_when("\"\\{}🎙", |row| row["delivered"].as_u64().unwrap() > 10);
    assert!(!server.text("metrics").contains("aircheck_listener_lag_seconds{"), "a healthy listener has no series");
    common::signal(listener.pid(), "STOP");
    let series = "aircheck_listener_lag_seconds{mount=\"main\",listener=\"1\",name=\"\\\"\\\\{}🎙\",format=\"wav\"} ";
    eventually("a series of the listener that is behind", || server.text("metrics").contains(series).then_some(()));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = server.text("metrics");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stdout));
    for series in [
        "aircheck_capture_up{mount=\"main\"} 1\n",
        "aircheck_capture_restarts_total{mount=\"main\"} 0\n",
        "aircheck_capture_lost_blocks_total{mount=\"main\",reason=\"xrun\"} 0\n",
        "aircheck_capture_level_dbfs{mount=\"main\",channel=\"0\",kind=\"peak\"} -12",
        "aircheck_listeners{mount=\"main\",format=\"wav\"} 1\n",
        "aircheck_listeners{mount=\"main\",format=\"pcm\"} 0\n",
        "aircheck_lag_seconds_count{mount=\"main\",format=\"wav\"} ",
        "aircheck_gap_blocks_count{mount=\"main\",format=\"json\"} 0\n",
        "aircheck_latency_seconds_bucket{mount=\"main\",stage=\"ring\",le=\"0.020095\"} ",
        "aircheck_latency_seconds_bucket{mount=\"main\",stage=\"queue\",le=\"0.020095\"} ",
        "aircheck_latency_seconds_bucket{mount=\"main\",stage=\"read\",le=\"0.020095\"} ",
        "aircheck_listener_lag_at_least_seconds{mount=\"main\",listener=\"1\",",
        "aircheck_listener_lag_at_most_seconds{mount=\"main\",listener=\"1\",",
    ] {
        assert!(text.contains(series), "{series} is missing in\n{text}");
    }
}

#[test]
fn health_and_readiness_are_one_word() {
    let server = Server::start(&["--source", "tone:440"]);
    assert_eq!(server.text("healthz"), "ok");
    eventually("readiness", || (server.ask(&[], "readyz").0 == 200).then_some(()));
    assert_eq!(server.text("readyz"), "live");
}

#[test]
fn a_configured_host_and_origin_are_accepted() {
    let server = Server::start(&[
        "--source",
        "tone:440",
        "--allow-host",
        "studio.example",
        "--allow-origin",
        "https://radio.example",
    ]);
    assert_eq!(server.ask(&["-H", "Host: studio.example"], "healthz").0, 200);
    let origin = ["--head", "-H", "Origin: https://radio.example"];
    let (status, response) = server.ask(&origin, "stream.wav");
    assert_eq!(status, 200);
    assert!(response.contains("access-control-allow-origin: https://radio.example\r\n"), "{response}");
    // Streams only.
    let (status, response) = server.ask(&origin, "api/v1/status");
    assert!(status == 403 && !response.contains("access-control"), "{response}");
}

#[test]
fn browsers_take_nothing_into_the_page_that_is_not_its_own() {
    let server = Server::start(&["--source", "tone:440"]);
    for path in ["", "api/v1/status", "nothing"] {
        let (_, response) = server.ask(&[], path);
        let policy = response.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
        let mut directives: Vec<_> = policy.split("; ").collect();
        directives.sort_unstable();
        let expected = [
            "base-uri 'none'",
            "default-src 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
        ];
        assert_eq!(directives, expected, "{path}");
    }
}

#[test]
fn the_table_of_listeners_can_be_sorted_filtered_and_cut() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let _listeners = ["bar", "attic", "Bar 2"].map(|name| {
        let url = server.url(&format!("stream.opus?name={}", name.replace(' ', "%20")));
        let listener = Listener::start(&url, &directory.path().join(name));
        server.row_when(name, |_| true);
        listener
    });
    let names = |query: &str| {
        let rows = server.json(&format!("api/v1/listeners{query}"));
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["bar", "attic", "Bar 2"]);
    assert_eq!(names("?sort=name&_=7"), ["Bar 2", "attic", "bar"]);
    assert_eq!(names("?name=BAR"), ["bar", "Bar 2"]);
    assert_eq!(names("?limit=2&sort=id"), ["bar", "attic"]);
    for (query, named) in
        [("limit=0", "limit"), ("limit=x", "1 or more"), ("sort=mood", "lag"), ("order=id", "`order`")]
    {
        let (status, response) = server.ask(&[], &format!("api/v1/listeners?{query}"));
        assert_eq!(status, 400, "{query}: {response}");
        assert!(error_of(&response).contains(named), "{query}: {response}");
    }
}

#[test]
fn the_listeners_furthest_behind_come_without_the_rows_of_all_others() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    // Healthy ones join before and after it.
    let listeners = ["one", "frozen", "two"].map(|name| {
        let listener = Listener::start(&server.url(&format!("stream.wav?name={name}")), &directory.path().join(name));
        server.row_when(name, |row| row["delivered"].as_u64() > Some(20));
        listener
    });
    signal(listeners[1].pid(), "STOP");
    let worst = eventually("the frozen one", || {
        let rows = server.json("api/v1/listeners?sort=lag&limit=1");
        (rows[0]["lag_seconds"].as_f64().unwrap() > 1.0).then_some(rows)
    });
    assert_eq!((worst.as_array().unwrap().len(), &worst[0]["name"]), (1, &"frozen".into()));
    let rows = server.json("api/v1/listeners?sort=lag&limit=3");
    let names: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["frozen", "one", "two"]);
    signal(listeners[1].pid(), "CONT");
}

#[test]
fn the_table_of_listeners_is_made_four_times_a_second_at_most_and_is_true_for_its_request() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let _listener = Listener::start(&server.url("stream.wav?name=one"), &directory.path().join("one"));
    server.row_when("one", |row| row["delivered"].as_u64() > Some(0));
    let begun = Instant::now();
    let url = server.url("api/v1/listeners");
    // Each of four readers asks 10 times in a row.
    let readers = [(); 4].map(|()| {
        let url = url.clone();
        std::thread::spawn(move || {
            let tables = (0..10).map(|_| curl(&[&url]).output().unwrap().stdout);
            tables.map(|table| String::from_utf8(table).unwrap()).collect::<Vec<_>>()
        })
    });
    let tables = readers.map(|reader| reader.join().unwrap());
    let all: BTreeSet<&String> = tables.iter().flatten().collect();
    let most = begun.elapsed().as_millis() / 250 + 2;
    assert!(all.len() as u128 <= most, "{} different tables in {:?}", all.len(), begun.elapsed());
    for of_reader in &tables {
        assert!(of_reader.windows(2).all(|pair| pair[0] != pair[1]), "a table was older than the request for it");
    }
}

#[test]
fn status_and_listeners_are_pushed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let _listener = Listener::start(&server.url("stream.wav?name=one"), &directory.path().join("one"));
    server.row_when("one", |_| true);
    // The first status comes with the head, which this may read late.
    let begun = Instant::now();
    let mut watching = curl(&["--include", &server.url("api/v1/watch")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
    let mut counts = BTreeMap::<String, usize>::new();
    while counts.get("status").is_none_or(|count| *count < 15) {
        let event = lines.next().unwrap().strip_prefix("event: ").unwrap().to_owned();
        let data: Value = serde_json::from_str(lines.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(lines.next().unwrap(), "");
        match event.as_str() {
            "status" => assert_eq!((&data["state"], &data["listeners"]), (&"live".into(), &1.into())),
            "mounts" => assert_eq!((&data[0]["name"], &data[1]), (&"main".into(), &Value::Null)),
            _ => assert_eq!((&data["count"], &data["rows"][0]["name"]), (&1.into(), &"one".into())),
        }
        *counts.entry(event).or_default() += 1;
    }
    assert!(begun.elapsed() >= Duration::from_millis(2500), "15 in {:?}", begun.elapsed());
    assert_eq!(counts["listeners"], 5, "with every third status");
    assert_eq!(counts["mounts"], 1, "a list of one mount does not change");
    server.terminate();
    assert!(common::wait(&mut watching).success(), "it ends with the server, in its proper way");
}
