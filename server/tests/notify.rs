//! Notifications of the real program, to receivers over HTTP that take them, refuse them, are slow, or die.
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/receiver.rs"]
mod receiver;

use std::io::{PipeWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Listener, Server, eventually, refused, signal, write_wav};
use receiver::{Receiver, reply};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The parts of [`Receiver::url`] that nothing may show.
const SECRETS: [&str; 3] = ["p4ss", "s3cret", "t0ken"];

fn start(source: &str, flags: &[&str], urls: &[String]) -> Server {
    let flags = [&["--source", source], flags].concat();
    Server::start_with(&flags, |command| command.env("AIRCHECK_NOTIFY", urls.join(",")))
}

fn account(server: &Server) -> Value {
    server.json("api/v1/status")["notifications"][0].clone()
}

/// Waits until the account of the only target meets a condition.
fn account_when(server: &Server, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || Some(account(server)).filter(&condition))
}

/// Ends the server, and returns how long that took.
fn stop(mut server: Server) -> Duration {
    let stopped_at = Instant::now();
    server.terminate();
    assert!(server.wait().success());
    assert_no_secret(&server.log());
    stopped_at.elapsed()
}

fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is shown: {text}");
    }
}

#[test]
fn start_and_end_of_the_service_are_told_once_each() {
    let receiver = Receiver::taking();
    let server = start("tone:440", &[], &[receiver.url(), receiver.url()]);
    let started = receiver.wait_for("service begin");
    assert!(started.head.starts_with("POST /services/s3cret?auth=t0ken HTTP/1.1\r\n"), "{}", started.head);
    assert!(started.head.contains("authorization: Basic dXNlcjpwNHNz\r\n"), "{}", started.head);
    assert!(started.head.contains("content-type: application/json\r\n"), "{}", started.head);
    let json = started.json();
    assert_eq!(json["mount"], "main");
    assert!(json["text"].as_str().unwrap().contains(&server.url), "{json}");
    assert!(json["at"].as_f64().unwrap() > 1.7e9 && json["server"].is_string(), "{json}");

    let account = account_when(&server, "the delivery", |account| account["delivered"] == 1);
    assert_eq!(account["host"], receiver.address.to_string());
    assert_eq!(account["queued"], 0);
    let last = server.json("api/v1/status")["last_notification"].clone();
    assert_eq!((&last["event"], &last["state"], &last["text"]), (&json["event"], &json["state"], &json["text"]));
    assert!(account["last_error"].is_null() && account["delivered_at"].is_number(), "{account}");
    assert_no_secret(&server.text("api/v1/status"));
    let metrics = server.text("metrics");
    assert!(metrics.contains("aircheck_notifications_total{result=\"delivered\"} 1\n"), "{metrics}");
    assert_no_secret(&metrics);
    stop(server);
    assert_eq!(receiver.names(), ["service begin", "service end"]);
    assert!(receiver.received()[1].json()["text"].as_str().unwrap().contains("told to stop"));
}

#[test]
fn without_targets_the_status_has_none() {
    let server = Server::start(&["--source", "tone:440"]);
    let status = server.json("api/v1/status");
    assert_eq!(status["notifications"], serde_json::json!([]));
    assert!(status["last_notification"].is_null(), "{status}");
    assert!(server.text("metrics").contains("aircheck_notifications_total{result=\"failed\"} 0\n"));
}

#[test]
fn silence_of_all_and_of_one_channel_is_told_with_its_end() {
    let folder = tempfile::tempdir().unwrap();
    // Two seconds each: both channels sound, only the first, none.
    let frames = (0..3 * 96_000).flat_map(|frame| {
        let sample = if frame % 100 < 50 { 8000 } else { -8000 };
        [if frame < 192_000 { sample } else { 0 }, if frame < 96_000 { sample } else { 0 }]
    });
    let wav = write_wav(&folder.path().join("a.wav"), 2, frames);
    let receiver = Receiver::taking();
    let begun = Instant::now();
    let server = start(&wav, &["--loop", "--silence-after", "1s"], &[receiver.url()]);
    let told = ["channel_silence begin", "silence begin", "silence end", "channel_silence end"];
    for name in told {
        receiver.wait_for(name);
    }
    let channel = receiver.wait_for("channel_silence begin").json();
    assert_eq!((&channel["channel"], &channel["level_dbfs"]), (&1.into(), &(-60.0).into()));
    let end = receiver.wait_for("silence end").json();
    let seconds = end["duration_seconds"].as_f64().unwrap();
    let most = begun.elapsed().as_secs_f64();
    assert!((0.5..most).contains(&seconds), "silence lasts 2 s and is told after 1 s: {end}");
    stop(server);
    let names = receiver.names();
    assert_eq!(names[1..4], ["channel_silence begin", "silence begin", "silence end"], "{names:?}");
}

/// Writes a period of a tone of one channel each 10 ms, unless it is paused. Ends when the reader is gone.
fn write_tone(mut pipe: PipeWriter) -> Arc<AtomicBool> {
    let period: Vec<u8> = (0..480).map(|n| if n % 96 < 48 { 8000 } else { -8000 }).flat_map(i16::to_le_bytes).collect();
    let is_paused = Arc::new(AtomicBool::new(false));
    let paused = Arc::clone(&is_paused);
    std::thread::spawn(move || {
        let mut due = Instant::now();
        while paused.load(Ordering::Relaxed) || pipe.write_all(&period).is_ok() {
            due += Duration::from_millis(10);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    is_paused
}

#[test]
fn a_lost_source_and_its_fallback_are_told_with_their_ends() {
    let (reader, pipe) = std::io::pipe().unwrap();
    let receiver = Receiver::taking();
    let flags = ["--source", "stdin", "--channels", "1", "--fallback", "tone:440", "--fallback-after", "1500ms"];
    let server = Server::start_with(&flags, |command| command.stdin(reader).env("AIRCHECK_NOTIFY", receiver.url()));
    let is_paused = write_tone(pipe);
    let is_live = || (server.json("api/v1/status")["state"] == "live").then_some(());
    eventually("sound", is_live);
    // The writer must be known for one that goes at the pace of its sound.
    std::thread::sleep(Duration::from_millis(2500));
    is_paused.store(true, Ordering::Relaxed);
    let lost = receiver.wait_for("source_lost begin").json();
    assert!(lost["text"].as_str().unwrap().starts_with("the source delivers no sound: "), "{lost}");
    receiver.wait_for("fallback begin");
    is_paused.store(false, Ordering::Relaxed);
    let back = receiver.wait_for("source_lost end").json();
    let fallback = receiver.wait_for("fallback end").json();
    let seconds = |end: &Value| end["duration_seconds"].as_f64().unwrap();
    assert!(seconds(&fallback) > 0.0 && seconds(&back) > seconds(&fallback), "{back} {fallback}");
    eventually("the source", is_live);
    stop(server);
    let mut names = receiver.names();
    // The two ends come in the same moment.
    names[3..5].sort();
    let of_source = ["source_lost begin", "fallback begin", "fallback end", "source_lost end"];
    assert_eq!(names, [&["service begin"], &of_source[..], &["service end"]].concat());
}

#[test]
fn clipping_is_told_with_its_end() {
    let folder = tempfile::tempdir().unwrap();
    // A second at full scale, and then fifteen at half of it.
    let samples = (0..16 * 48_000).map(|n| {
        let peak = if n < 48_000 { 32_767 } else { 16_384 };
        if n % 100 < 50 { peak } else { -peak }
    });
    let wav = write_wav(&folder.path().join("a.wav"), 1, samples);
    let receiver = Receiver::taking();
    let server = start(&wav, &[], &[receiver.url()]);
    receiver.wait_for("clipping begin");
    let clips = server.json("api/v1/status")["level"][0]["clips"].as_u64().unwrap();
    assert!(clips > 0, "{clips}");
    assert!(server.text("metrics").contains("\naircheck_capture_clips_total{mount=\"main\",channel=\"0\"} "));
    let end = receiver.wait_for("clipping end").json();
    assert!(end["duration_seconds"].as_f64() > Some(9.0), "it has not happened for ten seconds: {end}");
    stop(server);
    assert_eq!(receiver.names(), ["service begin", "clipping begin", "clipping end", "service end"]);
}

#[test]
fn peaks_that_just_fit_are_no_clipping() {
    let folder = tempfile::tempdir().unwrap();
    let peak = |n: u32| if n % 100 < 2 { 32_767 } else { 8000 };
    let wav = write_wav(&folder.path().join("a.wav"), 1, (0..48_000).map(peak));
    let receiver = Receiver::taking();
    let server = start(&wav, &["--loop"], &[receiver.url()]);
    eventually("a peak at full scale", || {
        server.json("api/v1/status")["level"][0]["peak_dbfs"].as_f64().filter(|peak| *peak > -0.01)
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(server.json("api/v1/status")["level"][0]["clips"], 0);
    stop(server);
    assert_eq!(receiver.names(), ["service begin", "service end"]);
}

#[test]
fn a_listener_beyond_its_lag_objective_is_told_and_its_return() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::taking();
    let server = start("tone:440", &["--buffer", "30s"], &[receiver.url()]);
    let url = server.url("stream.wav?name=kitchen");
    let listener = Listener::start(&url, &folder.path().join("a"));
    server.row_when("kitchen", |row| row["delivered"].as_u64() > Some(10));
    signal(listener.pid(), "STOP");
    let begin = receiver.wait_for("listener_lag begin").json();
    assert_eq!(begin["listener"]["name"], "kitchen");
    assert!(begin["lag_seconds"].as_f64().unwrap() >= 7.0, "{begin}");
    signal(listener.pid(), "CONT");
    let end = receiver.wait_for("listener_lag end").json();
    assert_eq!(end["listener"]["name"], "kitchen");
    assert!(end["text"].as_str().unwrap().contains("keeps up again"), "{end}");
    drop(listener);
    stop(server);
    assert_eq!(receiver.names(), ["service begin", "listener_lag begin", "listener_lag end", "service end"]);
}

/// Listeners that come after the losses. Each adds a thousand blocks a second to those that are due, so that the losses are
/// less than a hundredth of them after some seconds instead of a minute.
const HEALTHY: usize = 12;

#[test]
fn losses_of_a_listener_are_told_and_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::taking();
    let started = Instant::now();
    let server = start("tone:440", &["--block", "1ms"], &[receiver.url()]);
    let url = server.url("stream.wav?name=kitchen&buffer=100ms");
    let listener = Listener::start(&url, &folder.path().join("a"));
    server.row_when("kitchen", |row| row["delivered"].as_u64() > Some(100));
    // Its lag is told, too.
    let losses = || receiver.names().into_iter().filter(|name| name.starts_with("losses")).collect::<Vec<_>>();
    signal(listener.pid(), "STOP");
    let begin = receiver.wait_for("losses begin").json();
    assert_eq!(begin["place"], "listeners");
    let share = begin["share"].as_f64().unwrap();
    assert!((0.01..1.0).contains(&share), "{begin}");
    drop(listener);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(losses(), ["losses begin"], "they are of the last minute still");

    let url = server.url("stream.wav?buffer=5s&gather=500ms");
    let _healthy: Vec<_> = (0..HEALTHY).map(|_| Listener::start(&url, Path::new("/dev/null"))).collect();
    let end = receiver.wait_for("losses end").json();
    assert_eq!((&end["place"], &end["share"]), (&begin["place"], &begin["share"]));
    assert_eq!(end["text"], "listeners lose less than 1 % again");
    let seconds = end["duration_seconds"].as_f64().unwrap();
    assert!((2.0..started.elapsed().as_secs_f64()).contains(&seconds), "{end}");
    let rows = server.rows();
    assert!(rows.iter().all(|row| row["lost"] == 0), "{rows:?}");
    stop(server);
    assert_eq!(losses(), ["losses begin", "losses end"]);
}

/// The threshold is the reserve and an hour of sound, and not a number of its own.
#[test]
fn a_disk_that_is_nearly_at_its_reserve_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let roomy = Receiver::taking();
    let flags = |reserve| ["--record", record.to_str().unwrap(), "--record-reserve", reserve];
    let server = start("tone:440", &flags("1MB"), &[roomy.url()]);
    let free = eventually("the free bytes", || server.json("api/v1/status")["recording"]["free_bytes"].as_u64());
    // Two answers of the file system.
    std::thread::sleep(Duration::from_secs(11));
    stop(server);
    if free > 3_000_000_000 {
        assert_eq!(roomy.names(), ["service begin", "service end"]);
    }

    let receiver = Receiver::taking();
    let reserve = free.saturating_sub(300_000_000) / 1_000_000;
    let server = start("tone:440", &flags(&format!("{reserve}MB")), &[receiver.url()]);
    let begin = receiver.wait_for("disk begin").json();
    assert_eq!(begin["reserve_bytes"], reserve * 1_000_000, "{begin}");
    assert!(begin["text"].as_str().unwrap().contains("it stops at"), "{begin}");
    stop(server);
}

#[test]
fn a_recording_that_stops_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let receiver = Receiver::taking();
    let server = start("tone:440", &["--record", record.to_str().unwrap(), "--record-split", "1s"], &[receiver.url()]);
    receiver.wait_for("service begin");
    std::fs::remove_dir_all(&record).unwrap();
    let begin = receiver.wait_for("recording begin").json();
    assert!(!begin["error"].as_str().unwrap().is_empty(), "{begin}");
    std::fs::create_dir(&record).unwrap();
    receiver.wait_for("recording end");
    stop(server);
}

#[test]
fn a_receiver_that_comes_later_gets_everything_in_order() {
    // A port that is bound and does not listen refuses connections, and nobody else takes it.
    let port = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    port.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = port.local_addr().unwrap().as_socket().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wav = write_wav(&folder.path().join("a.wav"), 1, vec![0; 48_000]);
    let server = start(&wav, &["--loop", "--silence-after", "1s"], &[format!("http://{address}/s3cret")]);
    let account = account_when(&server, "two failures", |account| {
        account["retried"].as_u64() >= Some(2) && account["queued"] == 2
    });
    assert_eq!(account["last_error"], "cannot connect: Connection refused");
    assert!(account["retry_at"].is_number(), "{account}");
    port.listen(128).unwrap();
    let receiver = Receiver::serve(port.into(), |_, stream| reply(stream, "204 No Content", ""));
    receiver.wait_for("silence begin");
    let account = account_when(&server, "both deliveries", |account| account["delivered"] == 2);
    assert_eq!((&account["queued"], &account["failed"]), (&0.into(), &0.into()));
    server.wait_for_log("takes notifications again");
    stop(server);
    assert_eq!(receiver.names(), ["service begin", "silence begin", "service end"]);
}

/// It answers after longer than events take to come, and gets each once and in order.
#[test]
fn a_slow_receiver_gets_everything_once() {
    let receiver = Receiver::start(|_, stream| {
        std::thread::sleep(Duration::from_secs(2));
        reply(stream, "200 OK", "");
    });
    let folder = tempfile::tempdir().unwrap();
    // A second of sound, and two of silence.
    let samples = (0..3 * 48_000).map(|n| if n < 48_000 { 8000 } else { 0 });
    let wav = write_wav(&folder.path().join("a.wav"), 1, samples);
    let server = start(&wav, &["--loop", "--silence-after", "1s"], &[receiver.url()]);
    let account = account_when(&server, "five deliveries", |account| account["delivered"].as_u64() >= Some(5));
    assert_eq!((&account["retried"], &account["failed"], &account["dropped"]), (&0.into(), &0.into(), &0.into()));
    let names = receiver.names();
    let expected = ["service begin", "silence begin", "silence end", "silence begin", "silence end"];
    assert_eq!(names[..5], expected, "{names:?}");
    stop(server);
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it() {
    let receiver = Receiver::start(|number, stream| match number {
        0 => reply(stream, "429 Too Many Requests", "retry-after: 3\r\n"),
        1 => reply(stream, "503 Service Unavailable", ""),
        _ => reply(stream, "200 OK", ""),
    });
    let server = start("tone:440", &[], &[receiver.url()]);
    let account = account_when(&server, "the delivery", |account| account["delivered"] == 1);
    assert_eq!((&account["retried"], &account["last_error"]), (&2.into(), &"HTTP 503".into()));
    let times: Vec<_> = receiver.received().iter().map(|received| received.at).collect();
    assert!(times[1] - times[0] >= Duration::from_millis(2900), "{times:?}");
    // The second failure in a row: 2 s.
    assert!(times[2] - times[1] >= Duration::from_millis(1900), "{times:?}");
    stop(server);
}

#[test]
fn a_redirect_is_not_followed_and_a_refusal_is_not_repeated() {
    let other = Receiver::taking();
    let location = format!("location: http://{}/s3cret\r\n", other.address);
    let receiver = Receiver::start(move |number, stream| match number {
        0 => reply(stream, "307 Temporary Redirect", &location),
        // The page of an error often repeats the path.
        _ => drop(write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 21\r\n\r\nCannot POST /s3cret .")),
    });
    let folder = tempfile::tempdir().unwrap();
    let wav = write_wav(&folder.path().join("a.wav"), 1, vec![0; 48_000]);
    let server = start(&wav, &["--loop", "--silence-after", "2s"], &[receiver.url()]);
    let account = account_when(&server, "the redirect", |account| account["failed"] == 1);
    assert_eq!(account["last_error"], "HTTP 307: it redirects to 127.0.0.1 (name that URL)");
    let account = account_when(&server, "the refusal", |account| account["failed"] == 2);
    assert_eq!((&account["last_error"], &account["queued"]), (&"HTTP 404".into(), &0.into()));
    assert!(server.text("metrics").contains("aircheck_notifications_total{result=\"failed\"} 2\n"));
    stop(server);
    assert_eq!(other.received().len(), 0);
    assert_eq!(receiver.received().len(), 3);
}

#[test]
fn the_word_of_a_refusal_is_shown() {
    let receiver = Receiver::start(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 10\r\n\r\nno_service");
    });
    let server = start("tone:440", &["--notify-form", "slack"], &[receiver.url()]);
    let account = account_when(&server, "the refusal", |account| account["failed"] == 1);
    assert_eq!((&account["last_error"], &account["form"]), (&"HTTP 404 no_service".into(), &"slack".into()));
    let text = receiver.received()[0].json()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with(":white_check_mark: ") && text.contains("the service has started"), "{text}");
}

/// In Slack's markup, the name of this listener would call everyone in the channel.
#[test]
fn slack_gets_a_message_for_the_begin_and_the_end_of_trouble() {
    let receiver = Receiver::taking();
    let server = start("tone:440", &["--notify-form", "slack"], &[receiver.url()]);
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("stream.wav?buffer=200ms&name=%3C!channel%3E%20%26%20co");
    let listener = Listener::start(&url, &folder.path().join("a"));
    server.row_when("<!channel> & co", |row| row["delivered"].as_u64() > Some(50));
    signal(listener.pid(), "STOP");
    let text_with = |mark: &str| {
        eventually(mark, || {
            let received = receiver.received();
            received.iter().find(|received| received.body.contains("!channel") && received.body.contains(mark)).cloned()
        })
    };
    let begin = text_with(":warning:");
    signal(listener.pid(), "CONT");
    let end = text_with(":white_check_mark:");
    for received in [begin, end] {
        assert!(received.head.contains("content-type: application/json\r\n"), "{}", received.head);
        let message = received.json();
        assert_eq!(message.as_object().unwrap().len(), 1, "a message is its text: {message}");
        let text = message["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt; &amp; co") && !text.contains(['<', '>']), "{text}");
    }
    stop(server);
}

#[test]
fn ntfy_gets_text_and_headers() {
    let receiver = Receiver::taking();
    let server = start("tone:440", &["--notify-form", "ntfy"], &[receiver.url()]);
    let received = eventually("a notification", || receiver.received().into_iter().next());
    for header in ["title: aircheck: service begin\r\n", "priority: default\r\n", "tags: white_check_mark\r\n"] {
        assert!(received.head.contains(header), "{}", received.head);
    }
    assert!(received.body.contains("the service has started"), "{}", received.body);
    stop(server);
}

#[test]
fn an_answer_without_an_end_is_not_read() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let receiver = Receiver::start(move |_, stream| {
        let _ = write!(stream, "HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n", &[b'x'; 65_536][..], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {
            counted.fetch_add(65_536, Ordering::Relaxed);
        }
    });
    let server = start("tone:440", &[], &[receiver.url()]);
    account_when(&server, "a second failure", |account| account["retried"].as_u64() >= Some(2));
    // What fits into the buffers of two sockets.
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 2 * 16_000_000, "{sent} bytes were taken");
    assert!(stop(server) < Duration::from_secs(5));
}

#[test]
fn a_head_without_an_end_is_a_failure() {
    let receiver = Receiver::start(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n");
        while stream.write_all(&[b"x: ", &[b'x'; 8000][..], b"\r\n"].concat()).is_ok() {}
    });
    let server = start("tone:440", &[], &[receiver.url()]);
    let account = account_when(&server, "a failure", |account| account["retried"].as_u64() >= Some(1));
    assert!(account["last_error"].as_str().unwrap().starts_with("no HTTP answer: "), "{account}");
}

#[test]
fn a_receiver_that_dies_is_tried_again() {
    let receiver = Receiver::start(|number, stream| match number {
        // It dies before it answers, within its answer's head, and in another protocol.
        0 => {}
        1 => drop(write!(stream, "HTTP/1.1 20")),
        2 => drop(write!(stream, "220 mail.example ESMTP\r\n")),
        _ => reply(stream, "200 OK", ""),
    });
    let server = start("tone:440", &[], &[receiver.url()]);
    let account = account_when(&server, "the delivery", |account| account["delivered"] == 1);
    assert_eq!((&account["retried"], &account["queued"]), (&3.into(), &0.into()));
    assert_eq!(receiver.names(), ["service begin"; 4]);
}

#[test]
fn a_receiver_that_never_answers_delays_neither_listeners_nor_the_end() {
    let receiver = Receiver::start(|_, stream| drop(stream.read(&mut [0])));
    // One whose program does not even accept.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let healthy = Receiver::taking();
    let urls = [receiver.url(), format!("http://{}/", deaf.local_addr().unwrap()), healthy.url()];
    let server = start("tone:440", &[], &urls);
    healthy.wait_for("service begin");
    let folder = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(&server.url("stream.wav?name=a"), &folder.path().join("a"));
    let row = server.row_when("a", |row| row["delivered"].as_u64() > Some(200));
    assert_eq!(row["lost"], 0);
    let took = stop(server);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(listener.wait().success(), "its stream ends properly");
    // The end is told beside a notification that still waits for its answer.
    assert_eq!(receiver.names(), ["service begin", "service end"]);
    assert_eq!(healthy.names(), ["service begin", "service end"]);
}

#[test]
fn the_end_of_the_source_is_told_although_the_receiver_fails_once() {
    let receiver = Receiver::start(|number, stream| match number {
        1 => reply(stream, "503 Service Unavailable", "retry-after: 600\r\n"),
        _ => reply(stream, "200 OK", ""),
    });
    let folder = tempfile::tempdir().unwrap();
    let wav = write_wav(&folder.path().join("a.wav"), 1, vec![1000; 96_000]);
    let mut server = start(&wav, &[], &[receiver.url()]);
    assert!(server.wait().success());
    let received = receiver.received();
    assert_eq!(receiver.names(), ["service begin", "service end", "service end"]);
    assert!(received[2].json()["text"].as_str().unwrap().ends_with("the source has ended"));
}

#[test]
fn a_url_that_is_none_is_refused_without_showing_it() {
    for (url, why) in [
        ("hooks.example/s3cret", "must be a URL such as https://hooks.example/aircheck"),
        ("ftp://hooks.example/s3cret", "must begin with http:// or https://"),
        ("http:///s3cret", "must be a URL"),
        ("http://h:0/s3cret", "must have a port from 1 to 65535"),
    ] {
        let (code, text) = refused(&["--source", "tone:440", "--notify", url]);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("--notify ") && text.contains(why), "{text}");
        assert_no_secret(&text);
    }
}

/// A certificate for 127.0.0.1 and its key, in files.
fn make_certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=receiver", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key.to_str().unwrap()])
        .args(["-out", certificate.to_str().unwrap()])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    (certificate, key)
}

#[test]
fn https_is_verified_against_the_trusted_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = make_certificate(folder.path());
    let chain = CertificateDer::pem_file_iter(&certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/s3cret", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(connection, tcp.unwrap());
            let mut request = String::new();
            let mut bytes = [0; 4096];
            while !request.ends_with('}') {
                // Fails if the certificate is not accepted.
                let Ok(read @ 1..) = tls.read(&mut bytes) else { break };
                request.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let server = start("tone:440", &[], std::slice::from_ref(&url));
    let account = account_when(&server, "a failure", |account| account["retried"].as_u64() >= Some(1));
    let error = account["last_error"].as_str().unwrap();
    assert!(error.starts_with("cannot encrypt the connection: invalid peer certificate"), "{error}");
    assert_eq!(account["delivered"], 0);
    stop(server);

    let server = Server::start_with(&["--source", "tone:440"], |command| {
        command.env("AIRCHECK_NOTIFY", &url).env("SSL_CERT_FILE", &certificate)
    });
    account_when(&server, "the delivery", |account| account["delivered"] == 1);
    stop(server);
}

#[test]
fn a_receiver_of_one_mount_is_told_of_that_one_alone() {
    let (all, hall) = (Receiver::taking(), Receiver::taking());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aircheck.toml");
    let wav = directory.path().join("silence.wav");
    let source = write_wav(&wav, 1, (0..96_000).map(|_| 0));
    let mount = |name: &str, rest: &str| {
        format!("[[mount]]\nname = '{name}'\nsource = '{source}'\nloop = true\nsilence_after = '1s'\n{rest}\n")
    };
    let of_hall = format!("notify = ['http://{}/hall']", hall.address);
    let text = |hall: &str, studio: &str| {
        format!("notify = ['http://{}/all']\n", all.address) + &mount("hall", hall) + &mount("studio", studio)
    };
    std::fs::write(&file, text(&of_hall, "")).unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    let told = |receiver: &Receiver, event: &str, mount: &str| {
        receiver.received().iter().any(|it| it.json()["event"] == event && it.json()["mount"] == mount)
    };
    for mount in ["hall", "studio"] {
        eventually("both mounts for the server's receiver", || told(&all, "silence", mount).then_some(()));
    }
    eventually("the mount for its own", || told(&hall, "silence", "hall").then_some(()));
    assert!(hall.received().iter().all(|it| it.json()["mount"] == "hall" && it.json()["event"] != "service"));
    let accounts = |mount: &str| server.json(&format!("api/v1/status?mount={mount}"))["notifications"].clone();
    assert_eq!(accounts("hall").as_array().unwrap().len(), 2);
    assert_eq!(accounts("studio").as_array().unwrap().len(), 1);
    // The receiver goes to the other mount, which is told to it from then on.
    let before = hall.received().len();
    std::fs::write(&file, text("", &of_hall)).unwrap();
    signal(server.pid(), "HUP");
    server.wait_for_log(&format!("the mount `studio`: notify is {}", hall.address));
    assert!(!server.log().contains("/hall'"), "the path is a secret");
    std::fs::write(&file, text("", &(of_hall.clone() + "\nbuffer = '2s'")).replace("'1s'", "'2s'")).unwrap();
    signal(server.pid(), "HUP");
    eventually("the studio for the receiver", || {
        hall.received()[before..].iter().any(|it| it.json()["mount"] == "studio").then_some(())
    });
}
