//! Accounting under chaos: listeners who come, go, freeze and trickle, on a machine that has too much to do. Whatever
//! they do, every account adds up at every look, no counter ever goes back, and nothing of them stays behind.
//!
//! A short round by default; with `AIRCHECK_SOAK=1`, as `make soak` runs it, 200 listeners for a minute.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Server, assert_identity, eventually, raw};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// What the paths and wishes of listeners are made of.
const PATHS: [&str; 5] =
    ["stream.wav?sample=f32le&", "stream.pcm?gaps=silence&", "stream.json?", "stream?format=sse&", "stream.wav?"];
const POLICIES: [&str; 4] = ["skip-to-live", "drop-newest", "latest", "disconnect"];
const WISHES: [&str; 5] = ["", "&max_lag=200ms", "&burst=2s", "&from=0", "&max_lag=100ms&burst=1s"];

/// Numbers that look random and are the same in every run (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.roll(most - least))
    }
}

/// Listens in one way or another until `deadline`, again and again.
async fn misbehave(address: SocketAddr, seed: u64, deadline: Instant, joined: Arc<AtomicU64>) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    while Instant::now() < deadline {
        let path = PATHS[dice.roll(5) as usize];
        let policy = POLICIES[dice.roll(4) as usize];
        let wish = WISHES[dice.roll(5) as usize];
        let request =
            format!("GET /{path}buffer=200ms&overflow={policy}{wish}&name=n{seed} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        // A server that ends it meanwhile, because of its policy, is no trouble.
        let _ = stream.write_all(request.as_bytes()).await;
        joined.fetch_add(1, Ordering::Relaxed);
        let (way, until) = (dice.roll(5), Instant::now() + dice.millis(50, 2500));
        let mut buffer = vec![0; 16 * 1024];
        while Instant::now() < until.min(deadline) {
            let pause = match way {
                // A good one.
                0 | 1 => Duration::ZERO,
                // One that trickles.
                2 => Duration::from_millis(20),
                // One that freezes now and then.
                3 if dice.roll(10) == 0 => dice.millis(100, 1500),
                3 => Duration::ZERO,
                // One that never reads.
                _ => Duration::from_millis(200),
            };
            sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            let read = match way {
                2 => &mut buffer[..300],
                4 => &mut [],
                _ => &mut buffer[..],
            };
            if !read.is_empty()
                && !matches!(timeout(Duration::from_millis(100), stream.read(read)).await, Ok(Ok(1..)) | Err(_))
            {
                break;
            }
        }
    }
}

/// The samples of `/metrics`: series to value.
fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let response = String::from_utf8(raw(address, request.as_bytes())).unwrap();
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    let samples = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| {
            // A listener's name has no space in it here.
            let (series, value) = line.split_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn rows(address: SocketAddr) -> Vec<Value> {
    let request = format!("GET /api/v1/listeners HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let response = String::from_utf8(raw(address, request.as_bytes())).unwrap();
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

/// The sum of a metric's samples of one format.
fn sum(samples: &BTreeMap<String, f64>, name: &str, format: &str) -> f64 {
    let of_format = |series: &str| series.starts_with(name) && series.contains(&format!("format=\"{format}\""));
    samples.iter().filter(|(series, _)| of_format(series)).map(|(_, value)| value).sum()
}

const FORMATS: [&str; 4] = ["wav", "pcm", "json", "sse"];

/// What must hold at every moment, given what was seen before.
fn check(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) {
    for (series, value) in before {
        let name = series.split('{').next().unwrap();
        let counts = ["_total", "_bucket", "_count", "_sum"].iter().any(|suffix| name.ends_with(suffix));
        if counts {
            let now = now.get(series).unwrap_or_else(|| panic!("{series} is gone"));
            assert!(now >= value, "{series} went back from {value} to {now}");
        }
    }
    for format in FORMATS {
        let [offered, delivered, lost] =
            ["aircheck_offered_blocks_total", "aircheck_delivered_blocks_total", "aircheck_lost_blocks_total"]
                .map(|name| sum(now, name, format));
        assert!(offered >= delivered + lost, "{format}: {offered} offered, {delivered} delivered, {lost} lost");
    }
}

/// What a process holds: threads, open files, and memory of its own in KiB.
fn holdings(pid: u32) -> (usize, usize, u64) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    (count("task"), count("fd"), line.trim().trim_end_matches(" kB").parse().unwrap())
}

/// One round of chaos; what the metrics are when everybody is gone.
fn round(server: &Server, listeners: u64, span: Duration, mut seen: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let address = server.address;
    let deadline = Instant::now() + span;
    let joined = Arc::new(AtomicU64::new(0));
    let calm = Arc::new(AtomicBool::new(false));
    // Two that take what processor time they can get.
    let stress: Vec<_> = (0..2)
        .map(|_| {
            let calm = Arc::clone(&calm);
            std::thread::spawn(move || while !calm.load(Ordering::Relaxed) {})
        })
        .collect();
    let crowd = {
        let joined = Arc::clone(&joined);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let tasks: Vec<_> = (1..=listeners)
                    .map(|seed| tokio::spawn(misbehave(address, seed, deadline, Arc::clone(&joined))))
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
            });
        })
    };
    let mut looks = 0;
    while Instant::now() < deadline {
        let now = scrape(address);
        check(&seen, &now);
        seen = now;
        rows(address).iter().for_each(assert_identity);
        looks += 1;
    }
    crowd.join().unwrap();
    calm.store(true, Ordering::Relaxed);
    stress.into_iter().for_each(|thread| thread.join().unwrap());
    println!("{looks} looks at {} listeners", joined.load(Ordering::Relaxed));
    assert!(looks > 0 && joined.load(Ordering::Relaxed) > listeners);

    eventually("an empty table", || rows(address).is_empty().then_some(()));
    let last = scrape(address);
    check(&seen, &last);
    for format in FORMATS {
        let offered = sum(&last, "aircheck_offered_blocks_total", format);
        let delivered = sum(&last, "aircheck_delivered_blocks_total", format);
        let lost = sum(&last, "aircheck_lost_blocks_total", format);
        assert_eq!(offered, delivered + lost, "{format}, all being gone");
        assert!(offered > 0.0, "somebody listened to {format}");
    }
    assert!(!last.keys().any(|series| series.starts_with("aircheck_listener_")), "a series stays behind: {last:?}");
    let joins: f64 = last
        .iter()
        .filter(|(series, _)| series.starts_with("aircheck_listeners_left_total"))
        .map(|(_, count)| count)
        .sum();
    assert!(joins > 0.0);
    last
}

#[test]
fn every_account_adds_up_and_nothing_stays_behind() {
    let soak = std::env::var_os("AIRCHECK_SOAK").is_some();
    let (listeners, span) = if soak { (200, Duration::from_secs(60)) } else { (100, Duration::from_secs(5)) };
    let server = Server::start(&["--source", "tone:440"]);
    let (threads, files, _) = holdings(server.pid());
    let seen = round(&server, listeners, span, BTreeMap::new());
    let after_one = holdings(server.pid());
    round(&server, listeners, span, seen);
    // Encoders end a moment after their last listener, and sockets are closed a moment after they are left.
    eventually("the end of every thread and socket", || {
        let (now_threads, now_files, _) = holdings(server.pid());
        (now_threads <= threads && now_files <= files).then_some(())
    });
    // glibc keeps what it was given for the next one who asks; what grows with every round is a leak. Listeners of one
    // round hold 60 KiB each.
    let (grown, most) = (holdings(server.pid()).2.saturating_sub(after_one.2), 8 * 1024 + after_one.2 / 4);
    assert!(grown <= most, "{grown} KiB more after the second round, with {} after the first", after_one.2);
}
