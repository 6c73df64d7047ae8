//! Long pauses: a listener that reads nothing stays for as long as its machine answers, unless `--idle-timeout` ends it; one
//! whose machine is gone is ended within a minute. `make soak` has the pauses in full.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/namespace.rs"]
mod namespace;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use aircheck_engine::Timestamp;
use aircheck_server::delivery::socket::options::{outlast_pauses, prepare};
use aircheck_server::delivery::socket::silence::{GONE_TIMEOUT, Silence};
use aircheck_server::delivery::socket::tcp_info;
use common::{Listener, Server, assert_identity, eventually, signal};
use namespace::{Namespace, or_skip};
use serde_json::Value;
use socket2::SockRef;

/// Longer than any timeout of a minute, twice.
const LONG_PAUSE: Duration = Duration::from_secs(130);

fn is_soak() -> bool {
    std::env::var_os("AIRCHECK_SOAK").is_some()
}

/// Returns the kept event that the listener called `name` has left, once there is one.
fn left(server: &Server, name: &str) -> Value {
    eventually(&format!("the end of {name}"), || {
        server.events().into_iter().find(|event| event["event"] == "left" && event["listener"]["name"] == name)
    })
}

/// Asserts that an event has figures whose parts are its lag.
fn assert_parts(event: &Value) {
    let seconds = |key: &str| event[key].as_f64().unwrap_or_else(|| panic!("no {key}: {event}"));
    let parts = ["undelivered_seconds", "socket_queued_seconds", "unread_seconds"].map(seconds).iter().sum::<f64>();
    assert!((seconds("lag_seconds") + seconds("burst_seconds") - parts).abs() < 1e-5, "{event}");
}

fn unix_seconds() -> f64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

/// Asserts that the server ended a listener in time after its link went down. By the event's own time: the test may learn of it
/// later.
fn assert_gone_within(left: &Value, down_at: f64, surplus: f64) {
    let after = left["at"].as_f64().unwrap() - down_at;
    assert!(after < GONE_TIMEOUT.as_secs_f64() + surplus, "after {after} s: {left}");
}

#[test]
fn idle_timeout_ends_a_frozen_listener_and_no_other() {
    let server = Server::start(&["--source", "tone:440", "--idle-timeout", "2s"]);
    let directory = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let url = server.url(&format!("stream.wav?sample=f32le&buffer=500ms&name={name}"));
        let listener = Listener::start(&url, &directory.path().join(name));
        server.row_when(name, |row| row["delivered"].as_u64().unwrap() > 20);
        listener
    };
    let (frozen, _reading) = (start("frozen"), start("reading"));
    // At half the pace of its stream, sound always waits for it.
    let mut slow = TcpStream::connect(server.address).unwrap();
    write!(slow, "GET /stream.wav?sample=f32le&buffer=500ms&name=slow HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    std::thread::spawn(move || {
        while let Ok(1..) = slow.read(&mut [0; 1000]) {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    server.row_when("slow", |row| row["lost"].as_u64().unwrap() > 20);
    signal(frozen.pid(), "STOP");
    let stopped = Instant::now();
    let left = left(&server, "frozen");
    // It has another second to read the end of its stream.
    let elapsed = stopped.elapsed();
    assert!(elapsed > Duration::from_secs(2), "after {elapsed:?}");
    assert_eq!((&left["reason"], &left["limit_seconds"]), (&"idle".into(), &2.0.into()), "{left}");
    assert_eq!((&left["verdict"], &left["fault"]), (&"far_behind".into(), &"listener".into()), "{left}");
    let lag = left["lag_seconds"].as_f64().unwrap();
    let most = elapsed.as_secs_f64() + 0.5;
    assert!((1.5..most).contains(&lag), "the lag at the moment when its end was decided: {left}");
    assert!(left["unread_bytes"].as_u64() > Some(0) && left["unanswered_seconds"].as_f64() < Some(0.5), "{left}");
    // Why it was ended can be asked later: each change of its verdict is kept, with the limit that it crossed.
    let events = server.events();
    let of_frozen = events.iter().filter(|event| event["listener"]["name"] == "frozen");
    let changes: Vec<_> = of_frozen.filter(|event| event["verdict"].is_string()).collect();
    changes.iter().for_each(|event| assert_parts(event));
    let limit_of = |name: &str| changes.iter().find(|event| event["event"] == name).unwrap()["limit_seconds"].as_f64();
    assert_eq!([limit_of("fell_behind"), limit_of("fell_far_behind")], [Some(0.13), Some(0.38)]);
    server.wait_for_log("reason=\"idle\"");
    assert!(server.text("metrics").contains("aircheck_listeners_left_total{reason=\"idle\"} 1"));
    let row = server.row_when("reading", |_| true);
    assert!(row["lag_seconds"].as_f64() < Some(1.0), "{row}");
    server.row_when("slow", |row| row["lag_seconds"].as_f64() > Some(0.5));
}

/// A connection to a program in a namespace, prepared as that of a listener.
struct Connection {
    stream: TcpStream,
    program: Child,
    silence: Silence,
    /// The longest silence and the longest time without an acknowledgement that were seen.
    longest: Duration,
    longest_pause: Duration,
}

impl Connection {
    fn open(namespace: &Namespace, listener: &TcpListener) -> Self {
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let program = namespace.curl(&url, "/dev/null".as_ref()).spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.set_nonblocking(true).unwrap();
        prepare(&stream).unwrap();
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(GONE_TIMEOUT), "until it is a stream");
        outlast_pauses(&stream);
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), None);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (longest, longest_pause) = (Duration::ZERO, Duration::ZERO);
        Self { stream, program, silence: Silence::default(), longest, longest_pause }
    }

    /// Writes what the socket takes, up to 10 KB, and looks at it as the watch does.
    fn look(&mut self) {
        match self.stream.write(&[0; 10_000]) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            Ok(written) => assert!(written > 0),
        }
        let (info, now) = (tcp_info::state(self.stream.as_raw_fd()).unwrap(), Timestamp::now());
        self.silence.observe(&info, now);
        self.longest = self.longest.max(self.silence.span(now));
        self.longest_pause = self.longest_pause.max(info.since_ack);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn a_machine_answers_while_its_program_is_frozen_and_is_silent_when_its_link_is_down() {
    let Some(namespace) = or_skip(Namespace::new(0)) else { return };
    let listener = TcpListener::bind((namespace.address.as_str(), 0)).unwrap();
    let [mut reading, mut frozen] = [(); 2].map(|()| Connection::open(&namespace, &listener));
    signal(frozen.program.id(), "STOP");
    let mut look_for = |span: Duration| {
        let start = Instant::now();
        while start.elapsed() < span {
            [&mut reading, &mut frozen].into_iter().for_each(Connection::look);
            std::thread::sleep(Duration::from_millis(100));
        }
        let of = |connection: &Connection| (connection.silence, connection.longest, connection.longest_pause);
        (of(&reading), of(&frozen))
    };

    // The window is closed at once, and probed after 0.2, 0.4, 0.8, 1.6 and 3.2 s.
    let ((_, reading_silence, _), (_, frozen_silence, pause)) = look_for(Duration::from_secs(5));
    assert!(pause > Duration::from_secs(1), "its machine had to answer nothing for {pause:?}");
    assert!(frozen_silence < Duration::from_millis(900), "but it was silent for {frozen_silence:?}");
    assert!(reading_silence < Duration::from_millis(900), "a reading one was silent for {reading_silence:?}");

    namespace.set_link("down").unwrap();
    let down_at = Timestamp::now();
    // Two probes of the closed window go unanswered.
    let ((reading, ..), (frozen, ..)) = look_for(Duration::from_secs(13));
    let now = Timestamp::now();
    assert!(reading.span(now) > Duration::from_secs(12), "silent for {:?}", reading.span(now));
    assert!(frozen.span(now) > Duration::from_secs(4), "silent for {:?}", frozen.span(now));
    for (silence, name) in [(reading, "reading"), (frozen, "frozen")] {
        assert!(!silence.is_gone(now), "{name} is gone after {:?}", now.since(down_at));
        assert!(silence.is_gone(down_at + GONE_TIMEOUT), "{name} is not gone after a minute");
    }
}

#[test]
fn a_frozen_listener_stays_and_one_whose_link_is_down_is_ended_within_a_minute() {
    if !is_soak() {
        return;
    }
    let Some(namespace) = or_skip(Namespace::new(1)) else { return };
    let server = Server::start(&["--source", "tone:440", "--listen", &format!("{}:0", namespace.address)]);
    let directory = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let program =
            namespace.curl(&server.url(&format!("stream.wav?name={name}")), &directory.path().join(name)).spawn();
        server.row_when(name, |row| row["delivered"].as_u64().unwrap() > 20);
        program.unwrap()
    };
    let mut programs = ["paused", "reading", "frozen"].map(start);
    let here = Listener::start(&server.url("stream.wav?name=here"), &directory.path().join("here"));
    server.row_when("here", |row| row["delivered"].as_u64().unwrap() > 20);
    signal(programs[0].id(), "STOP");
    signal(programs[2].id(), "STOP");
    std::thread::sleep(LONG_PAUSE);
    assert_eq!(server.rows().len(), 4, "all stay, two of them paused for {LONG_PAUSE:?}");
    for name in ["paused", "frozen"] {
        // The encoder's log of packets is shorter than the pause.
        let row = server.row_when(name, |_| true);
        let (lag, unread) = (row["lag_seconds"].as_f64().unwrap(), row["unread_seconds"].as_f64().unwrap());
        assert!(lag > LONG_PAUSE.as_secs_f64() - 1.0 && unread > 0.5 && row["fault"] == "listener", "{row}");
    }
    signal(programs[0].id(), "CONT");
    let row = server.row_when("paused", |row| row["lag_seconds"].as_f64() < Some(0.2) && row["gaps"] == 1);
    assert_identity(&row);

    namespace.set_link("down").unwrap();
    let (down, down_at) = (Instant::now(), unix_seconds());
    std::thread::sleep(Duration::from_secs(55));
    // The probes of the frozen one come each 15 s, so its last answer may be as old when the link goes down.
    assert!(server.rows().len() >= 3, "the link was down for less than a minute");
    let left = ["paused", "reading", "frozen"].map(|name| left(&server, name));
    for left in &left {
        println!("{:?} {left}", down.elapsed());
        assert_gone_within(left, down_at, 5.0);
        assert_eq!((&left["reason"], &left["limit_seconds"]), (&"gone".into(), &60.0.into()), "{left}");
        assert!(left["unanswered_seconds"].as_f64() >= Some(45.0), "{left}");
        assert_parts(left);
    }
    let faults = left.each_ref().map(|left| left["fault"].as_str().unwrap());
    assert_eq!(faults, ["network", "network", "listener"]);
    server.wait_for_log("reason=\"gone\"");
    assert!(server.text("metrics").contains("aircheck_listeners_left_total{reason=\"gone\"} 3"));
    let row = server.row_when("here", |_| true);
    assert!(row["lost"] == 0 && row["lag_seconds"].as_f64() < Some(0.2), "{row}");
    drop(here);
    for program in &mut programs {
        program.kill().unwrap();
        program.wait().unwrap();
    }
}

#[test]
fn a_listener_without_sound_is_ended_within_a_minute_when_its_link_is_down() {
    if !is_soak() {
        return;
    }
    let Some(namespace) = or_skip(Namespace::new(2)) else { return };
    // Nothing comes from its stdin, which stays open, so nothing is sent after the head of the stream.
    let flags = ["--source", "stdin", "--listen", &format!("{}:0", namespace.address)];
    let server = Server::start_with(&flags, |command| command.stdin(Stdio::piped()));
    let directory = tempfile::tempdir().unwrap();
    let url = server.url("stream.wav?name=silent");
    let mut program = namespace.curl(&url, &directory.path().join("silent")).spawn().unwrap();
    server.row_when("silent", |row| row["socket_queued_bytes"] == 0);
    // Its machine answers the first question for a sign of life.
    std::thread::sleep(Duration::from_secs(40));
    assert_eq!(server.rows().len(), 1);
    namespace.set_link("down").unwrap();
    let (down, down_at) = (Instant::now(), unix_seconds());
    std::thread::sleep(Duration::from_secs(20));
    let left = left(&server, "silent");
    println!("{:?} {left}", down.elapsed());
    assert_gone_within(&left, down_at, 2.0);
    assert_eq!(left["reason"], "gone", "{left}");
    program.kill().unwrap();
    program.wait().unwrap();
}
