//! Listeners and connections that behave badly for as long as they can, beside healthy listeners, which lose nothing: garbage
//! without an end, one byte a second, thousands of connections a minute, and machines that vanish without a word.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/process.rs"]
mod process;
#[path = "common/truth.rs"]
mod truth;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{Listener, Server, TEST_TIMEOUT, assert_identity, command_with_priority, connect_from, eventually};
use namespace::{Namespace, or_skip};
use process::{descriptors, load, resident_kib};
use socket2::Socket;
use truth::client::{self, Client};
use truth::healthy::Healthy;
use truth::numbered::{self, Format};
use truth::scrape;

/// Tests take turns: each has much to do, and some look at the processor time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A server, and healthy listeners that must lose nothing.
struct Scene {
    server: Server,
    healthy: Healthy,
    _directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    fn start(flags: &[&str]) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let source = numbered::source(directory.path(), 200);
        // With priority: a machine that gives the server no time for a second takes sound from every listener.
        let flags = [&["--source", &source], flags].concat();
        let server = Server::launch(command_with_priority(), &flags, |command| command);
        let healthy = Healthy::start(&server, "buffer=5s");
        Self { server, healthy, _directory: directory, _alone: alone }
    }

    /// Waits until only the healthy listeners and so many descriptors are left.
    fn wait_for_release(&self, descriptors_before: usize) {
        let start = Instant::now();
        loop {
            let (rows, files) = (scrape::rows(self.server.figures_address()).len(), descriptors(self.server.pid()));
            if rows == self.healthy.clients.len() && files <= descriptors_before {
                return;
            }
            assert!(
                start.elapsed() < 2 * TEST_TIMEOUT,
                "{rows} listeners and {files} of {descriptors_before} descriptors"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns how many descriptors the server has while nothing changes.
    fn settled_descriptors(&self) -> usize {
        let mut before = 0;
        eventually("settled descriptors", || {
            std::thread::sleep(Duration::from_millis(100));
            let now = descriptors(self.server.pid());
            (std::mem::replace(&mut before, now) == now).then_some(now)
        })
    }
}

/// Returns a request for a stream.
fn request(path: &str, format: Format) -> String {
    format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", format.fields())
}

/// Returns a WebSocket frame as a client sends it, with a mask of zeros.
fn client_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// A listener that sends the same bytes again and again and reads all that it gets. It connects again when it is closed.
struct Noise {
    is_over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Noise {
    fn start(address: SocketAddr, head: String, bytes: Vec<u8>) -> Self {
        let (is_over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                Self::send_until_closed(address, &head, &bytes, &over, &count);
                // A client without any pause would only show how fast connections come.
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { is_over, sent, thread }
    }

    fn send_until_closed(address: SocketAddr, head: &str, bytes: &[u8], over: &Arc<AtomicBool>, count: &AtomicU64) {
        // Fails if the test has failed and the server is gone.
        let Ok(mut stream) = TcpStream::connect(address) else { return };
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut reader = stream.try_clone().unwrap();
        reader.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let is_over = Arc::clone(over);
        let reading = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !is_over.load(Ordering::Relaxed) {
                match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Err(error) if !is_timeout(&error) => break,
                    _ => {}
                }
            }
        });
        let mut failed = stream.write_all(head.as_bytes()).is_err();
        while !failed && !over.load(Ordering::Relaxed) && !reading.is_finished() {
            match stream.write(bytes) {
                Ok(written) => drop(count.fetch_add(written as u64, Ordering::Relaxed)),
                Err(error) => failed = !is_timeout(&error),
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
        reading.join().unwrap();
    }

    /// Ends it, and returns how many bytes the server has taken.
    fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Kinds of noise that a listener may make, and stay.
const STAYS: [&str; 4] =
    ["bytes after a request for a stream", "pings", "questions for the time", "messages that mean nothing"];
/// What the server may take of one listener, in bytes a second. It was 0.7 MB/s, most of them in the kernels' buffers.
const MAX_INPUT_RATE: f64 = 4e6;
/// How long garbage is sent.
const NOISE: Duration = Duration::from_secs(6);

#[test]
fn garbage_without_an_end_costs_healthy_listeners_nothing() {
    // So much for encoders, too: a busy machine has let them stand still for 1.6 s.
    let scene = Scene::start(&["--buffer", "5s"]);
    let (server, address) = (&scene.server, scene.server.address);
    let garbage =
        || -> Vec<u8> { (0..1 << 16).map(|n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect() };
    let stream = |name: &str| request(&format!("stream.pcm?name={name}"), Format::Pcm);
    let websocket = |name: &str| request(&format!("stream?payload=opus&name={name}"), Format::Ws);
    let frames = |kind, payload: &[u8]| client_frame(kind, payload).repeat(500);
    let before = scene.settled_descriptors();
    let (load_before, memory_before) = (load(server.pid(), Duration::from_secs(1)), resident_kib(server.pid()));
    let noise = [
        ("bytes after a request for a stream", stream("bytes"), garbage()),
        ("bytes in place of messages", websocket("no-messages"), garbage()),
        ("pings", websocket("pings"), frames(0x89, &[7; 100])),
        ("questions for the time", websocket("questions"), frames(0x81, br#"{"clock":7}"#)),
        ("messages that mean nothing", websocket("nonsense"), frames(0x81, br#"{"nonsense":[1,2,3]}"#)),
        ("pieces of one message", websocket("pieces"), frames(0x01, b"[")),
        ("bytes in place of a request", String::new(), garbage()),
        ("requests", String::new(), b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100)),
        ("a head without an end", "GET / HTTP/1.1\r\n".to_owned(), b"X: x\r\n".repeat(100)),
    ]
    .map(|(what, head, bytes)| (what, Noise::start(address, head, bytes)));
    let started_at = Instant::now();
    let load_during = load(server.pid(), NOISE);
    scene.healthy.assert_nothing_lost();
    let rows = scrape::rows(address);
    for name in ["bytes", "pings", "questions", "nonsense"] {
        assert!(rows.contains_key(name), "what {name} sends is no reason to end it: {:?}", rows.keys());
    }
    let sent_for = started_at.elapsed().as_secs_f64();
    for (what, noise) in noise {
        let rate = noise.stop() as f64 / sent_for;
        println!("{what}: {:.0} KB/s", rate / 1000.0);
        // A connection that is closed has buffers in kernels, which take more.
        assert!(!STAYS.contains(&what) || rate < MAX_INPUT_RATE, "{what}: {rate} bytes a second are taken");
    }
    let memory = resident_kib(server.pid());
    println!("{load_before:.2} of a core before, {load_during:.2} during; {memory_before} KiB before, {memory} after");
    scene.wait_for_release(before);
    scene.healthy.assert_nothing_lost();
    assert!(memory < memory_before + 32 * 1024, "{memory_before} and then {memory} KiB");
}

/// How long each of these reads one byte a second.
const SLOW_READS: usize = 12;

#[test]
fn readers_of_one_byte_a_second_stay_with_a_true_account_and_delay_no_end() {
    let mut scene = Scene::start(&[]);
    let address = scene.server.address;
    let memory_before = resident_kib(scene.server.pid());
    let paths = ["stream.wav?", "stream.pcm?", "stream.json?", "stream?format=sse&", "stream.flac?", "stream.opus?"];
    // Room for more than an encoder is late on a busy machine: a listener that skips its first sound never has it to come.
    let buffer = "buffer=5s";
    let connecting_at = Instant::now();
    let mut streams: Vec<_> = (0..paths.len() * 5)
        .map(|number| {
            let mut stream = client::connect(address, Some(4096)).unwrap();
            let path = format!("{}{buffer}&name=slow-{number}", paths[number % paths.len()]);
            stream.write_all(request(&path, Format::Pcm).as_bytes()).unwrap();
            stream
        })
        .collect();
    eventually("all of them", || {
        let rows = scrape::rows(address);
        (0..streams.len()).all(|number| rows.contains_key(&format!("slow-{number}"))).then_some(())
    });
    let joined_at = Instant::now();
    for _ in 0..SLOW_READS {
        std::thread::sleep(Duration::from_secs(1));
        streams.iter_mut().for_each(|stream| stream.read_exact(&mut [0]).unwrap());
    }
    let (least, rows) = (joined_at.elapsed().as_secs_f64(), scrape::rows(address));
    let most = connecting_at.elapsed().as_secs_f64();
    for number in 0..streams.len() {
        let row = &rows[&format!("slow-{number}")];
        assert_identity(row);
        // They have read a part of the head, so all sound since their start is theirs to come.
        let lag = row["lag_seconds"].as_f64().unwrap();
        assert!((least - 1.5..most + 0.5).contains(&lag), "{least} to {most} s: {row}");
        assert_eq!((&row["verdict"], &row["fault"]), (&"far_behind".into(), &"listener".into()), "{row}");
    }
    let memory = resident_kib(scene.server.pid());
    println!("{} readers, {memory_before} KiB before, {memory} KiB with them", streams.len());
    // Rings hold handles of shared packets.
    assert!(memory < memory_before + 32 * 1024, "{memory_before} and then {memory} KiB");
    scene.healthy.assert_nothing_lost();
    let terminated_at = Instant::now();
    scene.server.terminate();
    assert_eq!(scene.server.wait().code(), Some(0));
    assert!(terminated_at.elapsed() < Duration::from_secs(5), "{:?}", terminated_at.elapsed());
    assert!(scene.healthy.clients.iter_mut().all(Client::wait), "the others get the end of their streams");
}

/// Connects from an address and in a way that depend on `number`, and leaves. Returns whether a listener has joined.
fn visit(address: SocketAddr, number: usize) -> bool {
    let from = Ipv4Addr::new(127, 0, (number / 200 % 200) as u8, (2 + number % 200) as u8);
    let mut stream = connect_from(from, address);
    let mut ask = |path: &str, format: Format, bytes: &mut [u8]| {
        stream.write_all(request(path, format).as_bytes()).unwrap();
        stream.read_exact(bytes).unwrap();
        assert_eq!(&bytes[..9], b"HTTP/1.1 ", "{}", bytes.escape_ascii());
    };
    // The first bytes of an answer, and of sound after it.
    let (mut head, mut sound) = ([0; 12], [0; 3000]);
    match number % 6 {
        0 => ask("stream.wav?name=visitor", Format::Wav, &mut sound),
        1 => ask("stream.opus?name=visitor", Format::Pcm, &mut head),
        2 => ask("stream?payload=s16&name=visitor", Format::Ws, &mut sound),
        3 => ask("healthz", Format::Pcm, &mut head),
        4 => stream.write_all(b"GET /stream.wav HTTP/1.1\r\nHo").unwrap(),
        _ => {}
    }
    if number % 12 >= 6 {
        // By a reset.
        Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    number % 6 < 3
}

/// Lets so many connections come, 167 a second, and checks that nobody is disturbed and nothing stays.
fn check_connections(connections: usize) {
    const PACE: Duration = Duration::from_millis(6);

    let scene = Scene::start(&[]);
    let address = scene.server.address;
    // What is allocated once is allocated by the first.
    (0..200).for_each(|number| {
        visit(address, number);
    });
    std::thread::sleep(Duration::from_secs(1));
    let (before, memory_before) = (scene.settled_descriptors(), resident_kib(scene.server.pid()));
    let left = || scrape::Metrics::of(address).sum("aircheck_listeners_left_total", &[]) as usize;
    let left_before = left();
    let start = Instant::now();
    let mut joined = 0;
    for number in 0..connections {
        std::thread::sleep((start + PACE * number as u32).saturating_duration_since(Instant::now()));
        joined += usize::from(visit(address, number));
    }
    let took = start.elapsed();
    scene.healthy.assert_nothing_lost();
    scene.wait_for_release(before);
    let memory = resident_kib(scene.server.pid());
    println!("{connections} connections in {took:?}; {memory_before} KiB before, {memory} KiB after");
    assert_eq!(left() - left_before, joined, "each listener that came has left");
    let refused = scrape::Metrics::of(address).sum("aircheck_listeners_refused_total", &[]);
    assert_eq!(refused, 0.0, "nobody was refused");
    assert!(memory < memory_before + 16 * 1024, "{memory_before} and then {memory} KiB");
}

#[test]
fn a_thousand_connections_at_ten_thousand_a_minute_disturb_no_listener() {
    check_connections(1000);
}

#[test]
#[ignore = "takes a minute: `make soak`"]
fn ten_thousand_connections_in_a_minute_disturb_no_listener() {
    check_connections(10_000);
}

/// Opens connections from inside the namespace, sends `bytes` on each, and keeps them open. Each is a program's.
fn connect_from_afar(namespace: &Namespace, server: &Server, count: usize, bytes: &str) -> Vec<Listener> {
    let (host, port) = (server.address.ip(), server.address.port());
    let script = format!("exec 3<>/dev/tcp/{host}/{port} && printf \"$0\" >&3 && exec cat <&3");
    let connect = |_| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace.name, "bash", "-c", &script, bytes]);
        Listener::of(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
    };
    (0..count).map(connect).collect()
}

/// Connections of each kind.
const OF_EACH: usize = 8;

/// Connections whose machine vanishes without a word give back what they have. With `listens`, some of them are listeners.
fn check_half_open(index: usize, listens: bool) {
    let Some(namespace) = or_skip(Namespace::new(index)) else { return };
    let scene = Scene::start(&["--listen", &format!("{}:0", namespace.address)]);
    let server = &scene.server;
    let before = scene.settled_descriptors();
    let get = |path: &str| format!("GET /{path} HTTP/1.1\\r\\nHost: {}\\r\\n\\r\\n", server.address);
    let mut requests = vec![String::new(), "GET /stream.wav HTT".to_owned(), get("healthz")];
    if listens {
        requests.extend([get("stream.wav?name=wav"), get("stream.opus?name=opus"), get("stream.json?name=json")]);
    }
    let distant: Vec<_> = requests.iter().map(|bytes| connect_from_afar(&namespace, server, OF_EACH, bytes)).collect();
    eventually("all connections", || (descriptors(server.pid()) >= before + OF_EACH * requests.len()).then_some(()));
    namespace.set_link("down").unwrap();
    // They end, but nobody hears of it.
    drop(distant);
    let down_at = Instant::now();
    scene.wait_for_release(before);
    println!("all are gone after {:?}", down_at.elapsed());
    scene.healthy.assert_nothing_lost();
}

#[test]
fn half_open_connections_without_a_request_give_back_their_descriptors() {
    check_half_open(3, false);
}

#[test]
#[ignore = "takes a minute: `make soak`"]
fn half_open_listeners_give_back_their_descriptors() {
    check_half_open(4, true);
}
