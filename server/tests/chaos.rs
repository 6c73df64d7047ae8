//! Accounting under chaos: listeners join, leave, freeze and trickle on a machine that has too much to do. At every
//! moment all accounts add up, no counter goes back and the sound is in order; afterwards no thread, file or memory of a
//! listener stays behind.
//!
//! Short rounds by default; with `AIRCHECK_SOAK=1`, as `make soak` runs it, 200 listeners for a minute, twice.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/truth.rs"]
mod truth;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Server, TEST_TIMEOUT, assert_identity, curl, eventually, raw, signal};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use truth::client::{ChunkedResponse, SavedStream, get};
use truth::is_soak;
use truth::numbered::{self, Format, StreamParser};
use truth::scrape::Metrics;

const POLICIES: [&str; 4] = ["skip-to-live", "drop-newest", "latest", "disconnect"];
const QUERIES: [&str; 6] = ["", "&max_lag=200ms", "&burst=1s", "&from=0", "&max_lag=100ms&burst=500ms", "&gather=25ms"];
/// Short enough to be full before the first round, so that all rounds find the same.
const HISTORY: Duration = Duration::from_secs(1);
/// Listeners that are processes of their own and are stopped now and then.
const PROCESSES: u64 = 6;
/// Seconds of sound: more than any server here plays.
const SOUND: u32 = 240;
/// Listeners in a round of those that come and leave, one after the other.
const VISITORS: usize = 500;
const MEMORY_ROUNDS: usize = 12;
/// Rounds that first fill the memory allocator's own reserves.
const WARM_UP_ROUNDS: usize = 1;
/// Rounds of which the median is taken. From one round to the next, memory grows or shrinks by up to 400 KiB, because pieces
/// of other sizes are free each time.
const MEDIAN_ROUNDS: usize = 5;
/// The least leak that the medians show: 6 rounds with 256 bytes for each listener make 750 KiB. Without a leak, they were up
/// to 200 KiB apart.
const MAX_LEAK_BYTES: u64 = 128;
/// Two servers with all their listeners would be too much for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Pseudo-random numbers that are the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }

    /// Returns one of the first `formats` and a path for it with further parameters.
    fn request(&mut self, formats: usize) -> (Format, String) {
        let format = Format::ALL[self.below(formats as u64) as usize];
        let (policy, query) = (POLICIES[self.below(4) as usize], QUERIES[self.below(6) as usize]);
        let may_be_silent = !format.reports_gaps() && !query.contains("gather");
        let silence = if may_be_silent && self.below(2) == 0 { "&gaps=silence" } else { "" };
        let query = if format == Format::Ws { query.trim_start_matches("&gather=25ms") } else { query };
        (format, format.path(&format!("buffer=200ms&overflow={policy}{query}{silence}")))
    }
}

/// Listens repeatedly until `deadline`, each time with another behaviour, and checks the stream.
async fn misbehave(address: SocketAddr, seed: u64, deadline: Instant, joined: Arc<AtomicU64>) {
    let mut random = Random::new(seed);
    while Instant::now() < deadline {
        let (format, path) = random.request(Format::ALL.len());
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        // The server may end it meanwhile because of its policy.
        let fields = format.fields();
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
        let _ = stream.write_all(request.as_bytes()).await;
        joined.fetch_add(1, Ordering::Relaxed);
        let (way, until) = (random.below(5), deadline.min(Instant::now() + random.millis(50, 2500)));
        let (mut chunks, mut reading) = (ChunkedResponse::default(), StreamParser::new(format));
        let mut buffer = vec![0; 16 * 1024];
        while Instant::now() < until {
            let (pause, most) = match way {
                // It reads all.
                0 | 1 => (Duration::ZERO, buffer.len()),
                // It reads slowly.
                2 => (Duration::from_millis(20), 300),
                // It freezes now and then.
                3 if random.below(10) == 0 => (random.millis(100, 1500), buffer.len()),
                3 => (Duration::ZERO, buffer.len()),
                // It never reads.
                _ => (Duration::from_millis(200), 0),
            };
            sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            if most == 0 {
                continue;
            }
            match timeout(Duration::from_millis(100), stream.read(&mut buffer[..most])).await {
                Ok(Ok(bytes @ 1..)) => reading.push(&chunks.data(&buffer[..bytes])),
                Ok(_) => break,
                Err(_) => {}
            }
        }
    }
}

/// Starts processes, stops and continues them until `deadline`, and checks their streams.
fn stop_and_go(server_url: &str, directory: &Path, deadline: Instant) {
    let mut random = Random::new(0);
    let mut start = |number: u64| {
        // curl reads all formats but the WebSocket.
        let (format, path) = random.request(Format::ALL.len() - 1);
        let file = directory.join(number.to_string());
        let url = format!("{server_url}{path}");
        let process = curl(&["--output", file.to_str().unwrap(), &url]).stderr(Stdio::null()).spawn().unwrap();
        (process, SavedStream::new(file, format))
    };
    let mut processes: Vec<(Child, SavedStream)> = (0..PROCESSES).map(&mut start).collect();
    let mut random = Random::new(1);
    while Instant::now() < deadline {
        let (process, _) = &mut processes[random.below(PROCESSES) as usize];
        if process.try_wait().unwrap().is_none() {
            signal(process.id(), ["STOP", "CONT"][random.below(2) as usize]);
        }
        std::thread::sleep(random.millis(50, 300));
    }
    for (process, take) in &mut processes {
        // Fails if it was ended.
        let _ = process.kill();
        process.wait().unwrap();
        take.received();
    }
}

/// Asserts what must hold at every time, given an earlier scrape.
fn check(before: &Metrics, now: &Metrics) {
    for (series, value) in &before.0 {
        let name = series.split('{').next().unwrap();
        if ["_total", "_bucket", "_count", "_sum"].iter().any(|suffix| name.ends_with(suffix)) {
            let now = now.0.get(series).unwrap_or_else(|| panic!("{series} has disappeared"));
            assert!(now >= value, "{series} went back from {value} to {now}");
        }
    }
    for format in Format::ALL {
        let [offered, delivered, lost, _] = account(now, format);
        assert!(offered >= delivered + lost, "{format:?}: {offered} offered, {delivered} delivered, {lost} lost");
    }
}

/// Returns the blocks offered, delivered and lost, and the number of lags.
fn account(metrics: &Metrics, format: Format) -> [f64; 4] {
    let label = [&*format!("format=\"{}\"", format.label())];
    let names = ["offered_blocks_total", "delivered_blocks_total", "lost_blocks_total", "lag_seconds_count"];
    names.map(|name| metrics.sum(&format!("aircheck_{name}"), &label))
}

fn rows(address: SocketAddr) -> Vec<Value> {
    serde_json::from_str(&get(address, "api/v1/listeners")).unwrap()
}

/// How many threads and open files a process has.
#[derive(Clone, Copy, Debug)]
struct Resources {
    threads: usize,
    files: usize,
}

impl Resources {
    fn of(pid: u32) -> Self {
        let count = |directory: &str| std::fs::read_dir(format!("/proc/{pid}/{directory}")).unwrap().count();
        Self { threads: count("task"), files: count("fd") }
    }
}

/// The private memory of a process.
fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Starts two threads that use all processor time they get, until `calm` is set.
fn stress(calm: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let spin = |calm: Arc<AtomicBool>| move || while !calm.load(Ordering::Relaxed) {};
    (0..2).map(|_| std::thread::spawn(spin(Arc::clone(calm)))).collect()
}

/// Runs one round of chaos. Returns the metrics after all listeners have left, and an upper bound of their number.
fn round(server: &Server, listeners: u64, span: Duration, mut seen: Metrics) -> (Metrics, u64) {
    let address = server.address;
    let directory = tempfile::tempdir().unwrap();
    let deadline = Instant::now() + span;
    let (joined, calm) = (Arc::new(AtomicU64::new(0)), Arc::default());
    let stress = stress(&calm);
    let crowd = {
        let joined = Arc::clone(&joined);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let task = |seed| tokio::spawn(misbehave(address, seed, deadline, Arc::clone(&joined)));
                let tasks: Vec<_> = (1..=listeners).map(task).collect();
                for task in tasks {
                    task.await.unwrap();
                }
            });
        })
    };
    let processes = {
        let (url, directory) = (server.url.clone(), directory.path().to_owned());
        std::thread::spawn(move || stop_and_go(&url, &directory, deadline))
    };
    let (mut looks, mut random) = (0, Random::new(2));
    while Instant::now() < deadline {
        let now = Metrics::of(address);
        check(&seen, &now);
        seen = now;
        let rows = rows(address);
        rows.iter().for_each(assert_identity);
        if let Some(row) = rows.get(random.below(rows.len().max(1) as u64) as usize) {
            // Disconnects a listener, which may have left by now.
            let end = format!("DELETE /api/v1/listeners/{} HTTP/1.1\r\nHost: {address}\r\n", row["id"]);
            raw(address, format!("{end}Connection: close\r\n\r\n").as_bytes());
        }
        looks += 1;
    }
    crowd.join().unwrap();
    processes.join().unwrap();
    calm.store(true, Ordering::Relaxed);
    stress.into_iter().for_each(|thread| thread.join().unwrap());
    let joined = joined.load(Ordering::Relaxed);
    println!("{looks} looks at {joined} listeners, and {PROCESSES} in processes of their own");
    assert!(looks > 0 && joined > listeners);

    eventually("an empty table", || rows(address).is_empty().then_some(()));
    // A connection that was given up before the server took it joins and leaves even then, with a block in its queue between.
    let last = eventually("figures of a moment without listeners", || {
        let now = Metrics::of(address);
        (now.sum("aircheck_listeners", &[]) == 0.0).then_some(now)
    });
    check(&seen, &last);
    for format in Format::ALL {
        let [offered, delivered, lost, lags] = account(&last, format);
        assert_eq!(offered, delivered + lost, "{format:?}, after all have left");
        assert!(lags <= offered, "{format:?}: {lags} lags of {offered} blocks");
        assert!(delivered > 0.0 && lost > 0.0, "blocks of {format:?} were delivered and lost");
    }
    let left_over: Vec<_> = last.0.keys().filter(|series| series.starts_with("aircheck_listener_")).collect();
    assert!(left_over.is_empty(), "series stay behind: {left_over:?}");
    (last, joined + PROCESSES)
}

/// Asserts that all have left: the id of the next listener is one more than the number that have left.
fn check_all_left(server: &Server, most: u64) {
    let client = truth::client::Client::start(server.address, Format::Pcm, "name=next");
    let id = server.row_when("next", |_| true)["id"].as_u64().unwrap();
    // A connection that was given up may have joined only just.
    let left = eventually("the end of all before it", || {
        let left = Metrics::of(server.address).sum("aircheck_listeners_left_total", &[]);
        (left == (id - 1) as f64).then_some(left)
    });
    assert!(left <= most as f64, "{left} left, of {most}");
    drop(client);
    eventually("an empty table", || rows(server.address).is_empty().then_some(()));
}

#[test]
fn every_account_adds_up_and_no_thread_or_file_stays_behind() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (listeners, span) = if is_soak() { (200, Duration::from_secs(60)) } else { (100, Duration::from_secs(5)) };
    let directory = tempfile::tempdir().unwrap();
    let (server, resources) = server_with_full_history(directory.path());
    let (seen, joined) = round(&server, listeners, span, Metrics::default());
    let (_, joined_again) = round(&server, listeners, span, seen);
    check_all_left(&server, joined + joined_again);
    wait_for_release(&server, resources);
}

#[test]
fn listeners_that_have_left_keep_no_memory() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let (server, resources) = server_with_full_history(directory.path());
    let visit = |number: usize| {
        let format = Format::ALL[number % Format::ALL.len()];
        let fields = format.fields();
        let path = format.path("buffer=200ms&name=visitor");
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", server.address).unwrap();
        // The listener is registered before its response begins.
        stream.read_exact(&mut [0; 12]).unwrap();
    };
    let kib_after_round = |_| {
        (0..VISITORS).for_each(visit);
        eventually("an empty table", || rows(server.address).is_empty().then_some(()));
        memory_kib(server.pid())
    };
    let kib: Vec<u64> = (0..MEMORY_ROUNDS).map(kib_after_round).collect();
    println!("memory: {kib:?} KiB after each round of {VISITORS} listeners");
    let kib = &kib[WARM_UP_ROUNDS..];
    let medians = median(&kib[kib.len() - MEDIAN_ROUNDS..]).saturating_sub(median(&kib[..MEDIAN_ROUNDS]));
    let over_all = medians * 1024 / ((kib.len() - MEDIAN_ROUNDS) * VISITORS) as u64;
    let growth: Vec<u64> = kib.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let in_each = median(&growth) * 1024 / VISITORS as u64;
    // A leak is both. What the server allocates once, for something else, is a step between two rounds.
    let leak = over_all.min(in_each);
    assert!(leak < MAX_LEAK_BYTES, "each listener leaves {leak} bytes behind: {kib:?} KiB");
    wait_for_release(&server, resources);
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// A server whose history is full and that has no connection but those it always has, and its threads and files.
fn server_with_full_history(directory: &Path) -> (Server, Resources) {
    let source = numbered::source(directory, SOUND);
    let history = format!("{}s", HISTORY.as_secs());
    // With one arena and no padding, the memory allocator's reserves hide little of a leak.
    let server = Server::start_with(&["--source", &source, "--history", &history], |command| {
        command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TOP_PAD_", "0")
    });
    eventually("a full history", || (truth::scrape::head(server.address) > 150).then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    let resources = Resources::of(server.pid());
    (server, resources)
}

/// Waits until the server has no more threads and files than `before`: encoders end a moment after their last listener,
/// and sockets are closed a moment after they are left.
fn wait_for_release(server: &Server, before: Resources) {
    let start = Instant::now();
    loop {
        let now = Resources::of(server.pid());
        if now.threads <= before.threads && now.files <= before.files {
            break;
        }
        assert!(start.elapsed() < TEST_TIMEOUT, "something stays behind: {now:?}, and {before:?} at first");
        std::thread::sleep(Duration::from_millis(20));
    }
}
