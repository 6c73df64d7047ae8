//! What the server says of its listeners' lag equals what listeners of many paces have counted for themselves, also where
//! only their machines' acknowledgements tell it; and no program that reads everything is told to be behind. `make soak` looks at
//! such programs for an hour.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/receive_queues.rs"]
mod receive_queues;
#[path = "common/truth.rs"]
mod truth;
#[path = "common/wall_clock.rs"]
mod wall_clock;

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Listener, Server, eventually, signal, tls, write_wav_at};
use namespace::relay::Link;
use namespace::{Namespace, or_skip};
use receive_queues::{Pauses, ReceiveQueues};
use serde_json::Value;
use truth::counting_listener::{CountingListener, Pace, Paces, Rendition, Stream};
use truth::numbered::BLOCK_SECONDS;
use truth::{is_soak, scrape};
use wall_clock::WallClock;

/// The time in which each of the listeners below is looked at.
const SPAN: Duration = Duration::from_secs(15);
/// Rows are made four times a second at most. After this pause, they are made at once.
const SCRAPE_PAUSE: Duration = Duration::from_millis(270);
/// What the server cannot know beyond what was read since the look before: a page that was just read, and the delay of the
/// listener's thread.
const UNKNOWN_SECONDS: f64 = 0.25;
/// A listener whose lag is less than this, as at the look before, must not be accused.
const LIVE_SECONDS: f64 = 0.15;

/// So many seconds after a change, a quiet machine knows each lag that it can know.
const QUIET_SETTLES: f64 = 1.0;
/// Then it knows that of samples to two blocks and 20 ms, and that of pages to less than three.
const QUIET_ERROR_OF_SAMPLES: f64 = 2.0 * BLOCK_SECONDS + 0.02;
const QUIET_ERROR_OF_PAGES: f64 = 0.25;

const READS: Paces = &[(0.0, Pace::All)];
const NEVER: Paces = &[(0.0, Pace::Nothing)];
const FROZEN: Paces = &[(0.0, Pace::All), (3.0, Pace::Nothing), (11.0, Pace::All)];
const STAYS_FROZEN: Paces = &[(0.0, Pace::All), (3.0, Pace::Nothing)];
const BACK: Paces = &[(0.0, Pace::All), (3.0, Pace::Nothing), (8.0, Pace::All)];
const HALF: Paces = &[(0.0, Pace::All), (3.0, Pace::Part(0.5))];
const NINE_TENTHS: Paces = &[(0.0, Pace::All), (3.0, Pace::Part(0.9))];
const TICKS: Paces = &[(0.0, Pace::All), (3.0, Pace::Every(Duration::from_millis(100)))];
const LONG_TICKS: Paces = &[(0.0, Pace::All), (3.0, Pace::Every(Duration::from_millis(500)))];

/// A listener, and how well the server must know its lag.
struct Case {
    name: &'static str,
    rendition: Rendition,
    paces: Paces,
    /// Further parameters of its request.
    query: &'static str,
    receive_buffer: Option<usize>,
    /// The most by which the estimate may be wrong, in seconds, from so many seconds of sound after a change of the pace on.
    error: f64,
    settles: f64,
    /// The same in the long run, where the machine has nothing else to do, from [`QUIET_SETTLES`] on; infinite where `error` is all there is.
    quiet_error: f64,
    /// Whether unread sound leaves no trace for long, so that the estimate may be far too small. It must not be too large.
    is_hidden: bool,
}

const fn opus(name: &'static str, paces: Paces) -> Case {
    Case {
        name,
        rendition: Rendition::Opus,
        paces,
        query: "",
        receive_buffer: None,
        error: 0.35,
        settles: 1.5,
        quiet_error: QUIET_ERROR_OF_PAGES,
        is_hidden: false,
    }
}

const fn wav(name: &'static str, paces: Paces) -> Case {
    // Its position is its number of bytes, so nothing may be lost.
    Case {
        rendition: Rendition::Wav,
        query: "&overflow=drop-newest",
        quiet_error: QUIET_ERROR_OF_SAMPLES,
        ..opus(name, paces)
    }
}

const fn loosely(case: Case, error: f64, settles: f64) -> Case {
    Case { error, settles, quiet_error: f64::INFINITY, ..case }
}

const fn with_buffer(case: Case, receive_buffer: usize) -> Case {
    Case { receive_buffer: Some(receive_buffer), ..case }
}

const fn with_query(case: Case, query: &'static str) -> Case {
    Case { query, ..case }
}

const fn hidden(case: Case) -> Case {
    Case { is_hidden: true, ..case }
}

/// A program that answers pings. Two late answers in a row tell at which pace it reads.
const fn web_socket(name: &'static str, paces: Paces) -> Case {
    Case { rendition: Rendition::WebSocketOpus, ..opus(name, paces) }
}

const CASES: [Case; 26] = [
    opus("opus-reads", READS),
    opus("opus-frozen", FROZEN),
    opus("opus-back", BACK),
    loosely(opus("opus-half", HALF), 1.25, 4.5),
    loosely(opus("opus-nine-tenths", NINE_TENTHS), 1.0, 4.5),
    opus("opus-ticks", TICKS),
    loosely(opus("opus-long-ticks", LONG_TICKS), 0.75, 1.5),
    loosely(opus("opus-never", NEVER), 0.35, 6.5),
    with_buffer(opus("opus-reads-16k", READS), 16_384),
    with_buffer(opus("opus-frozen-16k", FROZEN), 16_384),
    // Its window is wider than TCP can tell, so only many late acknowledgements show it, after some ten seconds. The bounds hold before.
    hidden(with_buffer(opus("opus-stays-frozen-4m", STAYS_FROZEN), 4_000_000)),
    // Small packets leave hardly a trace, but nothing false may be said of them.
    hidden(with_query(opus("opus-32k-frozen", STAYS_FROZEN), "&bitrate=32k")),
    with_query(opus("opus-32k-ticks", TICKS), "&bitrate=32k"),
    hidden(with_query(opus("opus-10ms-frozen", FROZEN), "&gather=0ms")),
    wav("wav-reads", READS),
    wav("wav-frozen", FROZEN),
    wav("wav-back", BACK),
    wav("wav-never", NEVER),
    loosely(wav("wav-half", HALF), 0.75, 1.5),
    with_buffer(wav("wav-frozen-16k", FROZEN), 16_384),
    Case { rendition: Rendition::WebSocket, ..opus("websocket-frozen", FROZEN) },
    web_socket("websocket-opus-reads", READS),
    web_socket("websocket-opus-frozen", FROZEN),
    web_socket("websocket-opus-back", BACK),
    loosely(web_socket("websocket-opus-half", HALF), 0.35, 4.5),
    loosely(web_socket("websocket-opus-nine-tenths", NINE_TENTHS), 0.35, 4.5),
];

/// The cases that are tried over TLS, too. The long run tries all.
const TLS_CASES: [&str; 6] =
    ["opus-never", "opus-frozen", "opus-frozen-16k", "wav-never", "wav-frozen", "wav-frozen-16k"];
/// Those that are known later over TLS, since these programs read 4 KiB at a time: until the first piece of memory is free, they look like
/// frozen ones. Here, that took 3.9 to 4.7 s at half pace, and 5.0 to 5.7 s at nine tenths. What a program holds of those 4 KiB, a third of a
/// second, is unread for the test and read for the server.
const SLOW_TLS_CASES: [Case; 2] =
    [loosely(opus("opus-half", HALF), 1.0, 5.5), loosely(opus("opus-nine-tenths", NINE_TENTHS), 0.75, 6.5)];

/// What the server said of a listener between two looks at the truth.
struct Look {
    row: Value,
    /// The least and the most that its lag can have been, in seconds.
    truth: (f64, f64),
    /// The most that the server can believe: its lag if it had read nothing since the look before.
    believed: f64,
    /// Whether it was live at the look before.
    was_live: bool,
    /// The live head, and where it was at the last change of the pace.
    live: u64,
    changed: u64,
    changes: usize,
}

impl Look {
    fn seconds(&self, key: &str) -> f64 {
        self.row[key].as_f64().unwrap()
    }

    /// Returns by how much the estimate is wrong.
    fn error(&self) -> f64 {
        let (least, most) = self.truth;
        let estimate = self.seconds("lag_seconds");
        (estimate - most).max(0.0) - (least - estimate).max(0.0)
    }

    /// Returns whether the lag is within the bounds that were said.
    fn is_within_bounds(&self) -> bool {
        self.seconds("lag_at_least_seconds") <= self.believed + UNKNOWN_SECONDS
            && self.seconds("lag_at_most_seconds") >= self.truth.0 - UNKNOWN_SECONDS
    }

    fn is_live(&self) -> bool {
        self.truth.1 < LIVE_SECONDS
    }

    /// Returns whether unread sound is the reason of a bad verdict, although there is hardly any.
    fn is_false_accusation(&self) -> bool {
        let is_accused = self.row["verdict"] != "ok" && self.seconds("unread_seconds") > 0.1;
        is_accused && self.is_live() && self.was_live
    }

    /// Returns by how much its estimate may be wrong, if it must be known yet.
    fn largest_error(&self, case: &Case) -> Option<f64> {
        let after = self.live.saturating_sub(self.changed) as f64 * BLOCK_SECONDS;
        let is_quiet = is_soak() && case.quiet_error.is_finite() && after >= QUIET_SETTLES;
        if is_quiet { Some(case.quiet_error) } else { (after >= case.settles).then_some(case.error) }
    }

    fn describe(&self) -> String {
        let figures = ["lag_at_least_seconds", "lag_seconds", "lag_at_most_seconds", "unread_seconds"];
        let [least, lag, most, unread] = figures.map(|key| self.seconds(key));
        let (true_least, true_most) = self.truth;
        let after = self.live.saturating_sub(self.changed) as f64 * BLOCK_SECONDS;
        format!(
            "{after:.2} s after change {}: {true_least:.2} to {true_most:.2} s are true, {least:.2} <= {lag:.2} <= {most:.2} \
             s are said, {unread:.2} unread, {}",
            self.changes, self.row["verdict"]
        )
    }
}

#[test]
fn the_reported_lag_is_what_listeners_of_many_paces_have_counted() {
    compare(&[], None, &CASES.iter().collect::<Vec<_>>());
}

#[test]
fn the_reported_lag_over_tls_is_what_listeners_of_many_paces_have_counted() {
    let is_slow = |case: &Case| SLOW_TLS_CASES.iter().any(|slow| slow.name == case.name);
    let cases: Vec<_> = if is_soak() {
        CASES.iter().filter(|case| !is_slow(case)).chain(&SLOW_TLS_CASES).collect()
    } else {
        CASES.iter().filter(|case| TLS_CASES.contains(&case.name)).collect()
    };
    compare(&tls::flags(), None, &cases);
}

/// The cases over a long path: what is on its way is late, too, and acknowledgements tell of what was read a while ago.
const FAR_CASES: [Case; 8] = [
    loosely(opus("opus-reads", READS), 0.8, 3.0),
    loosely(opus("opus-frozen", FROZEN), 0.8, 3.0),
    loosely(opus("opus-back", BACK), 0.8, 3.0),
    loosely(opus("opus-ticks", TICKS), 0.8, 3.0),
    loosely(wav("wav-reads", READS), 0.6, 3.0),
    loosely(wav("wav-frozen", FROZEN), 0.6, 3.0),
    loosely(wav("wav-back", BACK), 0.6, 3.0),
    loosely(wav("wav-never", NEVER), 0.6, 3.0),
];
/// Those over a link of 1 Mbit/s. Its queue makes a program that reads look like one that does not, so that a frozen one may be noticed late.
const NARROW_CASES: [Case; 5] = [
    loosely(opus("opus-reads", READS), 0.6, 3.0),
    hidden(loosely(opus("opus-frozen", FROZEN), 0.8, 3.0)),
    hidden(loosely(opus("opus-back", BACK), 0.8, 3.0)),
    loosely(opus("opus-ticks", TICKS), 0.6, 3.0),
    hidden(loosely(opus("opus-never", NEVER), 0.8, 6.5)),
];

#[test]
fn the_reported_lag_over_links_is_what_listeners_of_many_paces_have_counted() {
    if !is_soak() {
        return;
    }
    let millis = Duration::from_millis;
    let links = [
        (Link { round_trip: millis(80), jitter: millis(10), ..Link::default() }, &FAR_CASES[..]),
        (Link { bytes_per_second: Some(125_000), ..Link::default() }, &NARROW_CASES),
    ];
    for (index, (link, cases)) in links.into_iter().enumerate() {
        let Some(namespace) = or_skip(Namespace::with_link(index, link)) else { return };
        compare(&[], Some(&namespace), &cases.iter().collect::<Vec<_>>());
    }
}

/// Compares what a server with these flags says of the listeners of `cases`, at the far end of a link if there is one, with what they have
/// counted.
fn compare(flags: &[String], link: Option<&Namespace>, cases: &[&Case]) {
    let listen = link.map(|link| format!("{}:0", link.address));
    let flags = flags.iter().map(String::as_str).chain(["--source", "tone:440"]);
    let flags: Vec<_> = flags.chain(listen.iter().flat_map(|address| ["--listen", address])).collect();
    let server = Server::start(&flags);
    let (address, figures) = (server.address, server.figures_address());
    let live = Stream::start_from(scrape::head(figures), address, Rendition::Wav, "name=live", None);
    let mut live = live.without_waiting();
    let start = live.drain();
    let listeners: Vec<_> = cases
        .iter()
        .map(|case| {
            let query = format!("name={}{}", case.name, case.query);
            let open = |head| Stream::start_from(head, address, case.rendition, &query, case.receive_buffer);
            let head = scrape::head(figures);
            let stream = link.map_or_else(|| open(head), |link| link.inside(|| open(head)).unwrap());
            CountingListener::start(stream, case.paces)
        })
        .collect();
    let mut looks: Vec<Vec<Look>> = cases.iter().map(|_| Vec::new()).collect();
    let mut earlier = vec![start; cases.len()];
    let mut changed = vec![(0, live.drain()); cases.len()];
    while (live.drain() - start) as f64 * BLOCK_SECONDS < SPAN.as_secs_f64() {
        std::thread::sleep(SCRAPE_PAUSE);
        let changes: Vec<_> = listeners.iter().map(CountingListener::changes).collect();
        let before: Vec<_> = listeners.iter().map(CountingListener::next).collect();
        let live_before = live.drain();
        let mut rows = scrape::rows(figures);
        let live_after = live.drain();
        for (index, case) in cases.iter().enumerate() {
            let Some(row) = rows.remove(case.name) else { continue };
            if changed[index].0 != changes[index] {
                changed[index] = (changes[index], live_before);
            }
            let lag = |live: u64, next: u64| live.saturating_sub(next) as f64 * BLOCK_SECONDS;
            let was_live = looks[index].last().is_some_and(Look::is_live);
            let look_before = std::mem::replace(&mut earlier[index], before[index]);
            looks[index].push(Look {
                row,
                truth: (lag(live_before, listeners[index].next()), lag(live_after, before[index])),
                believed: lag(live_after, look_before),
                was_live,
                live: live_before,
                changed: changed[index].1,
                changes: changes[index],
            });
        }
    }
    let mut wrong = Vec::new();
    println!("{:>26} {:>6} {:>16} {:>8} {:>11}", "listener", "looks", "estimate's error", "unbound", "accusations");
    for (case, looks) in cases.iter().zip(&looks) {
        assert!(looks.len() > 20, "{} looks at {}", looks.len(), case.name);
        let errors = looks.iter().filter(|look| look.largest_error(case).is_some()).map(Look::error);
        let (least, most) = errors.fold((0.0, 0.0), |(least, most), error: f64| (error.min(least), error.max(most)));
        let is_wrong = |look: &&Look| {
            let (error, is_hidden) = (look.error(), case.is_hidden);
            look.largest_error(case).is_some_and(|most| error > most || (error < -most && !is_hidden))
        };
        let bad: [Vec<_>; 3] = [
            looks.iter().filter(|look| !look.is_within_bounds()).collect(),
            looks.iter().filter(|look| look.is_false_accusation()).collect(),
            looks.iter().filter(is_wrong).collect(),
        ];
        let [unbound, accused, _] = &bad;
        println!(
            "{:>26} {:>6} {least:>7.2} {most:>8.2} {:>8} {:>11}",
            case.name,
            looks.len(),
            unbound.len(),
            accused.len()
        );
        for (looks, what) in bad.iter().zip(["out of its bounds", "accused", "wrong"]) {
            wrong.extend(looks.iter().map(|look| format!("{} {what}: {}", case.name, look.describe())));
        }
    }
    assert!(wrong.is_empty(), "{} reports are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Requests of programs that read everything.
const HEALTHY: [&str; 15] = [
    "stream.opus",
    "stream.opus?burst=2s",
    "stream.opus?gather=0ms",
    "stream.opus?gather=500ms&buffer=4s",
    "stream.opus?bitrate=32k",
    "stream.opus?bitrate=128k",
    "stream.wav",
    "stream.wav?burst=2s",
    "stream.wav?gather=50ms",
    "stream.flac",
    "stream.flac?burst=2s",
    "stream.flac?gather=100ms",
    "stream.mp3",
    "stream.json",
    "stream?format=sse",
];
/// What a WebSocket is asked for.
const WEB_SOCKET: &str = "stream?payload=opus";
/// One with a limit of lag, in the long run, where the machine has nothing else to do: it gets nearly everything then.
const LIMITED: &str = "stream.flac?max_lag=200ms";
/// What players play of them. They decode, which takes time.
const PLAYED: [&str; 3] = ["stream.opus", "stream.wav", "stream.flac"];
/// The long run takes an hour, or as long as this variable says for each of four sources.
const SOAK_SECONDS: &str = "AIRCHECK_SOAK_SECONDS";

/// Returns sources of several rates and channel counts.
fn sources(directory: &Path) -> [String; 4] {
    let tone =
        |rate: u32| (0..4 * rate).map(move |n| ((TAU * 440.0 * f64::from(n) / f64::from(rate)).sin() * 8e3) as i16);
    let noise = (0..8 * 48_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50) as i16);
    [
        "tone:440".to_owned(),
        write_wav_at(44_100, &directory.join("44100-mono.wav"), 1, tone(44_100)),
        write_wav_at(48_000, &directory.join("48000-stereo.wav"), 2, noise),
        write_wav_at(8_000, &directory.join("8000-mono.wav"), 1, tone(8_000)),
    ]
}

#[test]
fn programs_that_read_everything_are_never_accused() {
    let soak_seconds = std::env::var(SOAK_SECONDS).map_or(900, |seconds| seconds.parse().unwrap());
    let span = Duration::from_secs(if is_soak() { soak_seconds } else { 5 });
    let directory = tempfile::tempdir().unwrap();
    let own = [std::process::id()];
    let pauses = Pauses::watch(own.to_vec());
    let mut accused = Vec::new();
    for source in sources(directory.path()) {
        let flags = ["--source", &source, "--loop"];
        let server = Server::start(if source.starts_with("wav:") { &flags } else { &flags[..2] });
        let url = |path: &str, program: &str| {
            let separator = if path.contains('?') { '&' } else { '?' };
            server.url(&format!("{path}{separator}name={program}%20{}", path.replace(['?', '&', '='], "%20")))
        };
        let ffmpeg = |path: &&str| {
            let mut command = Command::new("ffmpeg");
            command.args(["-v", "quiet", "-nostdin", "-i", &url(path, "ffmpeg"), "-f", "null", "-"]);
            Listener::of(command.stdin(Stdio::null()))
        };
        let curl = |path: &str| Listener::start(&url(path, "curl"), Path::new("/dev/null"));
        let curls = HEALTHY.iter().map(|path| curl(path)).chain(is_soak().then(|| curl(LIMITED)));
        let mpv = |path: &&str| {
            let mut command = Command::new("mpv");
            command.args(["--no-config", "--no-video", "--ao=null", "--really-quiet", &url(path, "mpv")]);
            Listener::of(command.stdin(Stdio::null()))
        };
        let chromium = |path: &&str| {
            let mut command = Command::new("chromium");
            command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"]);
            command.arg("--autoplay-policy=no-user-gesture-required");
            let profile = directory.path().join(format!("{path}{}", source.len()));
            command.arg(format!("--user-data-dir={}", profile.display()));
            Listener::of(command.arg(url(path, "chromium")).stdin(Stdio::null()).stdout(Stdio::null()))
        };
        let mut programs: Vec<_> = curls.chain(PLAYED.iter().map(ffmpeg)).collect();
        let (mut web_socket, _) = tungstenite::connect(url(WEB_SOCKET, "websocket").replace("http:", "ws:")).unwrap();
        // It answers pings, as each library does. The end of the server is that of its stream.
        let reader = std::thread::spawn(move || while web_socket.read().is_ok() {});
        if is_soak() {
            programs.extend(PLAYED.iter().map(mpv).chain(PLAYED.iter().map(chromium)));
        }
        let count = programs.len() + 1;
        eventually("a row of each program", || (server.rows().len() >= count).then_some(()));
        let (mut looks, mut seen, start) = (0, BTreeMap::new(), Instant::now());
        while start.elapsed() < span || looks < 10 * count {
            std::thread::sleep(SCRAPE_PAUSE);
            let before = ReceiveQueues::now(&own);
            let rows = server.rows();
            let after = ReceiveQueues::now(&own);
            for row in &rows {
                let seconds = |key: &str| row[key].as_f64().unwrap();
                let elsewhere = seconds("undelivered_seconds") + seconds("socket_queued_seconds");
                let is_accused = row["verdict"] != "ok" && seconds("unread_seconds") > elsewhere;
                let program = row["name"].as_str().unwrap().split(' ').next().unwrap();
                *seen.entry(program.to_owned()).or_insert(0) += 1;
                // A program that the machine did not let read for a while is accused rightly, until its next packets show that it reads.
                let remote = row["remote"].as_str().unwrap();
                let has_read = before.is_read(remote) && after.is_read(remote) && !pauses.was_late(remote);
                looks += 1;
                if is_accused && has_read {
                    accused.push(format!("of {source} after {:?}: {row}", start.elapsed()));
                }
            }
        }
        println!(
            "{looks} looks at {count} programs that read {source}, {seen:?}; false accusations so far: {accused:#?}"
        );
        if is_soak() {
            let limited = server.row_when(&format!("curl {}", LIMITED.replace(['?', '='], " ")), |_| true);
            assert!(
                limited["lost"].as_u64().unwrap() * 10 < limited["offered"].as_u64().unwrap(),
                "{source}: {limited}"
            );
        }
        drop(server);
        reader.join().unwrap();
    }
    assert!(accused.is_empty(), "{} false accusations:\n{}", accused.len(), accused.join("\n"));
}

#[test]
fn max_lag_acts_on_a_frozen_listener_of_opus_before_it_holds_four_seconds() {
    /// Sound that is read, and the most that may be held then, in blocks.
    const READ: u64 = 300;
    const MOST_HELD: u64 = 400;
    /// A machine that lets them read nothing for so long may make the server believe that they are at their limit, which is twice as much.
    const MIN_PAUSE: Duration = Duration::from_millis(500);
    let server = Server::start(&["--source", "tone:440"]);
    let start = |query: &str| Stream::start(server.address, Rendition::Opus, query, None).without_waiting();
    let read = |stream: &mut Stream| stream.drain() - stream.first();
    let (mut skipped, mut ended, [at_skipped, at_ended]) = eventually("listeners that read without a pause", || {
        let mut skipped = start("name=skipped&max_lag=1s");
        let mut ended = start("name=ended&max_lag=1s&overflow=disconnect");
        let (mut before, mut read_at, mut pause) = ([0; 2], Instant::now(), Duration::ZERO);
        loop {
            let now = Instant::now();
            let read = [read(&mut skipped), read(&mut ended)];
            pause = pause.max(read_at.elapsed());
            if skipped.gap().is_some() || ended.has_ended() {
                assert!(pause > MIN_PAUSE, "while they read everything, {pause:?} apart at most");
                return None;
            }
            if read[0].min(read[1]) >= READ {
                return Some((skipped, ended, read));
            }
            if read[0] > before[0] && read[1] > before[1] {
                (before, read_at) = (read, now);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    // Neither reads anything from here on.
    server.row_when("skipped", |row| row["lost"].as_u64() > Some(0));
    eventually("its end", || server.rows().iter().all(|row| row["name"] != "ended").then_some(()));
    server.wait_for_log("reason=\"max_lag\"");
    // What it was ended for can be asked later. There may be others of that name, which were not read without a pause.
    let events = server.events();
    let id = events
        .iter()
        .filter(|event| event["listener"]["name"] == "ended")
        .map(|event| &event["listener"]["id"])
        .next_back();
    let kept = |kind: &str| {
        let is_asked = |event: &&Value| event["event"] == kind && id == Some(&event["listener"]["id"]);
        events.iter().find(is_asked).unwrap_or_else(|| panic!("no {kind}: {events:?}"))
    };
    assert_eq!(kept("left")["reason"], "max_lag");
    for kind in ["fell_behind", "fell_far_behind", "left"] {
        let event = kept(kind);
        let seconds = |key: &str| event[key].as_f64().unwrap_or_else(|| panic!("no {key}: {event}"));
        let lag = seconds("lag_seconds");
        assert!(seconds("lag_at_least_seconds") <= lag && lag <= seconds("lag_at_most_seconds"), "{event}");
        assert!(lag >= seconds("limit_seconds"), "{event}");
        // A machine that does not let the server run for a while is the cause itself.
        let words = match event["fault"].as_str() {
            Some("listener") => ["not read for ", " late"],
            Some("server") => ["waits in this server", "waits in this server"],
            _ => panic!("the cause is at the listener: {event}"),
        };
        assert!(
            words.iter().any(|words| event["state"].as_str().is_some_and(|state| state.contains(words))),
            "{event}"
        );
    }
    let gap = eventually("the gap", || {
        skipped.drain();
        skipped.gap()
    });
    let end = eventually("the end", || {
        let end = read(&mut ended);
        ended.has_ended().then_some(end)
    });
    let held = [gap - skipped.first() - at_skipped, end - at_ended];
    println!("blocks held: {held:?}");
    assert!(held.iter().all(|held| *held <= MOST_HELD), "{held:?}");
}

/// Seconds of the wall clock beside the right time.
const CLOCK_STEPS: [i64; 4] = [86_400, 0, -86_400, 0];
/// A busy machine may make an estimate too small by so much. A step would do so by a day, or to nothing.
const BUSY_SECONDS: f64 = 2.0;

#[test]
fn a_wall_clock_that_is_set_does_not_move_what_is_known_of_a_frozen_listener() {
    let Some(clock) = WallClock::new() else { return };
    let server = Server::start_with(&["--source", "tone:440"], |command| clock.give_to(command));
    let query = "name=frozen&max_lag=1m&buffer=10s";
    let mut stream = Stream::start(server.address, Rendition::Opus, query, None).without_waiting();
    eventually("three seconds of sound", || (stream.drain() > stream.first() + 300).then_some(()));
    // It reads nothing from here on.
    let next = stream.drain();
    let lag_between = |read: u64, head: u64| (head - read) as f64 * BLOCK_SECONDS;
    let lag = |head| lag_between(next, head);
    server.row_when("frozen", |row| row["lag_seconds"].as_f64() > Some(1.5));
    for step in CLOCK_STEPS {
        clock.set(step);
        // The server compares its clocks once a second.
        eventually("the new time", || {
            let now = server.json("api/v1/status")["now"].as_f64().unwrap();
            ((unix_seconds() + step as f64 - now).abs() < 60.0).then_some(())
        });
        let least = lag(scrape::head(server.address));
        let row = scrape::rows(server.address).remove("frozen").expect("a listener that no step has ended");
        let most = lag(scrape::head(server.address));
        let truth = format!("{least} to {most} s are true after {step}");
        let [at_least, estimate, at_most, stale] =
            ["lag_at_least_seconds", "lag_seconds", "lag_at_most_seconds", "stale_seconds"]
                .map(|key| row[key].as_f64().unwrap());
        assert!(at_least < most + UNKNOWN_SECONDS && at_most > least - UNKNOWN_SECONDS, "{truth}: {row}");
        for told in [estimate, stale] {
            // Where that machine has let nothing be proven, it may have read nothing since its start.
            let since_start = most + lag_between(stream.first(), next);
            assert!((least - BUSY_SECONDS..since_start + UNKNOWN_SECONDS).contains(&told), "{truth}: {row}");
        }
    }
}

fn unix_seconds() -> f64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

/// Returns the least and the most that a program lags which stopped to read within `stopped`, in rows that were made within `made`.
fn true_lag(stopped: (Instant, Instant), made: (Instant, Instant)) -> (f64, f64) {
    let lag = |stopped: Instant, made: Instant| made.saturating_duration_since(stopped).as_secs_f64();
    (lag(stopped.1, made.0), lag(stopped.0, made.1))
}

/// Streams whose packets of 10 ms are so short that they leave no trace in a receive window, with the time after which a program
/// that stops reading them is known to be frozen.
const SHORT_PACKETS: [(&str, f64); 2] = [("stream.flac", 3.0), ("stream.wav", 7.0)];
/// What may be unread of a program that reads everything, because the last test was so long ago.
const TEST_SECONDS: f64 = 2.0;
/// The program may have stopped at any time between two tests.
const BETWEEN_TESTS_SECONDS: f64 = 1.0;

#[test]
fn a_frozen_listener_of_short_packets_is_noticed_and_held_sound_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let tone = (0..4 * 8_000).map(|n| ((TAU * 440.0 * f64::from(n) / 8e3).sin() * 8e3) as i16);
    let slow = write_wav_at(8_000, &directory.path().join("8000-mono.wav"), 1, tone);
    let own = [std::process::id()];
    let pauses = Pauses::watch(own.to_vec());
    for ((path, settles), flags) in
        SHORT_PACKETS.iter().zip([&["--source", "tone:440"][..], &["--source", &slow, "--loop"]])
    {
        let server = Server::start(flags);
        let start = |name: &str| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            let request =
                format!("GET /{path}?name={name}&max_lag=1m&buffer=10s HTTP/1.0\r\nHost: {}\r\n\r\n", server.address);
            stream.write_all(request.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            stream
        };
        let (mut reads, mut frozen) = (start("reads"), start("frozen"));
        let [reads_at, frozen_at] = [&reads, &frozen].map(|stream| stream.local_addr().unwrap().to_string());
        // The end of the server is that of its stream.
        let reader = std::thread::spawn(move || while !matches!(reads.read(&mut [0; 1 << 16]), Ok(0)) {});
        let mut bytes = vec![0; 1 << 20];
        let begin = Instant::now();
        // What is known of it when it freezes must not be of a pause before.
        let stopped = loop {
            let before = Instant::now();
            // Fails if nothing has come.
            let _ = frozen.read(&mut bytes);
            if begin.elapsed() > Duration::from_secs(4) && !pauses.was_late(&frozen_at) {
                break (before, Instant::now());
            }
        };
        let mut bounds: [f64; 2] = [0.0; 2];
        while stopped.1.elapsed().as_secs_f64() < settles + 3.0 {
            std::thread::sleep(SCRAPE_PAUSE);
            let (begun, before) = (Instant::now(), ReceiveQueues::now(&own));
            let mut rows = scrape::rows(server.address);
            let (after, ended) = (ReceiveQueues::now(&own), Instant::now());
            let [live, late] = ["reads", "frozen"].map(|name| rows.remove(name).unwrap());
            let seconds = |row: &Value, key: &str| row[key].as_f64().unwrap();
            assert_eq!(live["lost"], 0, "{path}: {live}");
            common::assert_identity(&live);
            // What its thread has not read, because the machine did not let it, is truly unread.
            if before.is_read(&reads_at) && after.is_read(&reads_at) && !pauses.was_late(&reads_at) {
                assert_eq!(live["verdict"], "ok", "{path}: {live}");
                assert!(seconds(&live, "lag_at_most_seconds") < TEST_SECONDS, "{path}: {live}");
            }
            let (least, most) = true_lag(stopped, (begun, ended));
            let truth = format!("{path} after {least} to {most}");
            assert!(seconds(&late, "lag_at_least_seconds") < most + UNKNOWN_SECONDS, "{truth}: {late}");
            assert!(seconds(&late, "lag_at_most_seconds") > least - UNKNOWN_SECONDS, "{truth}: {late}");
            if least > *settles {
                let estimate = seconds(&late, "lag_seconds");
                let error = (estimate - most).max(0.0) - (least - estimate).max(0.0);
                bounds = [bounds[0].min(error), bounds[1].max(error)];
                assert!(error.abs() < BETWEEN_TESTS_SECONDS, "{truth}: {late}");
            }
        }
        drop(server);
        reader.join().unwrap();
        println!("{path}: the estimate's error was {bounds:.2?} s");
    }
}

/// What is done to a namespace, by a shell in it, and further arguments of the programs there. `SERVER` stands for the server's address,
/// and `VIA` for the way there.
const STRANGE: [(&str, &str, &[&str]); 5] = [
    ("no-time-stamps", "echo 0 > /proc/sys/net/ipv4/tcp_timestamps", &[]),
    ("no-window-scale", "echo 0 > /proc/sys/net/ipv4/tcp_window_scaling", &[]),
    ("window-scale-14", "echo '4096 131072 1073741823' > /proc/sys/net/ipv4/tcp_rmem", &[]),
    // It acknowledges each segment at once, read or not.
    (QUICK, "ip route add SERVER/32 via VIA quickack 1", &[]),
    // It asks whether the server is there when nothing has come for a second: while its program is stopped, and its buffer is full.
    ("keep-alive", "echo '4096 65536 65536' > /proc/sys/net/ipv4/tcp_rmem", &["--keepalive-time", "1"]),
];
const QUICK: &str = "quick";
/// Seconds after which the programs that are to freeze are stopped, and until the end.
const STOPPED_AFTER: f64 = 5.0;
const STRANGE_SPAN: f64 = 12.0;
/// The programs in each namespace.
const KINDS: [(&str, &str); 4] = [("reads", "opus"), ("reads", "wav"), ("stops", "opus"), ("stops", "wav")];

/// Returns the names of those of [`STRANGE`] that show in a namespace: in the options of all its connections, as they were agreed on, and
/// in what its kernel has counted until some of its programs had been stopped for seconds.
fn strange_signs(namespace: &Namespace) -> Vec<&'static str> {
    let said = |program: &[&str]| {
        let command = [&["netns", "exec", &namespace.name], program].concat();
        String::from_utf8(Command::new("ip").args(command).output().unwrap().stdout).unwrap()
    };
    let connections = said(&["ss", "--tcp", "--info", "--options", "--numeric", "--no-header", "--oneline"]);
    let all = |holds: &dyn Fn(&[&str]) -> bool| {
        connections.lines().all(|line| holds(&line.split_whitespace().collect::<Vec<_>>()))
    };
    assert_eq!(connections.lines().count(), KINDS.len(), "{}: {connections}", namespace.name);
    // Of this connection's two scales, that of its machine comes last.
    let scale = |words: &[&str]| {
        words.iter().find_map(|word| word.strip_prefix("wscale:")).map(|scales| scales.ends_with(",14"))
    };
    let counted = |name: &str| {
        let counters = said(&["nstat", "--zeros", "--noupdate", "--ignore", name]);
        let line = counters.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {counters}"));
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let shows = [
        all(&|words| !words.contains(&"ts")),
        all(&|words| scale(words).is_none()),
        all(&|words| scale(words) == Some(true)),
        counted("TcpExtDelayedACKs") == 0,
        counted("TcpExtTCPKeepAlive") > 0,
    ];
    STRANGE.iter().zip(shows).filter(|(_, shows)| *shows).map(|((name, ..), _)| *name).collect()
}

#[test]
fn machines_with_a_strange_tcp_widen_the_bounds_and_are_not_accused() {
    let made: Result<Vec<_>, _> = (0..=STRANGE.len()).map(Namespace::new).collect();
    let Some(mut namespaces) = or_skip(made) else { return };
    let own = namespaces.remove(0);
    let server = Server::start(&["--source", "tone:440", "--listen", &format!("{}:0", own.address)]);
    let directory = tempfile::tempdir().unwrap();
    let mut programs = Vec::new();
    for (namespace, (name, setting, arguments)) in namespaces.iter().zip(STRANGE) {
        let setting = setting.replace("SERVER", &own.address).replace("VIA", &namespace.address);
        let done = Command::new("ip").args(["netns", "exec", &namespace.name, "sh", "-c", &setting]).status().unwrap();
        assert!(done.success(), "{setting}");
        for (kind, rendition) in KINDS {
            let name = format!("{name}-{rendition}-{kind}");
            let file = directory.path().join(&name);
            let url = server.url(&format!("stream.{rendition}?name={name}&max_lag=1m&buffer=10s"));
            programs.push((name, Listener::of(namespace.curl(&url, &file).args(arguments))));
        }
    }
    let rows = eventually("listeners", || Some(server.rows()).filter(|rows| rows.len() == programs.len()));
    // Those of a namespace follow each other.
    let processes: Vec<_> = programs.chunks(programs.len() / STRANGE.len()).map(|of_one| of_one[0].1.pid()).collect();
    let pauses = Pauses::watch(processes.clone());
    let has_read = |queues: &ReceiveQueues, row: &Value| {
        let remote = row["remote"].as_str().unwrap();
        queues.is_read(remote) && !pauses.was_late(remote)
    };
    let start = Instant::now();
    let (mut stopped, mut wrong, mut looks) = (BTreeMap::new(), Vec::new(), 0);
    while start.elapsed().as_secs_f64() < STRANGE_SPAN {
        std::thread::sleep(SCRAPE_PAUSE);
        if stopped.is_empty() && start.elapsed().as_secs_f64() > STOPPED_AFTER {
            for (name, program) in programs.iter().filter(|(name, _)| name.ends_with("stops")) {
                let row = rows.iter().find(|row| row["name"] == *name).unwrap();
                // It reads everything until it is stopped.
                let read_at = eventually("a program that has read everything", || {
                    let now = Instant::now();
                    has_read(&ReceiveQueues::now(&processes), row).then_some(now)
                });
                signal(program.pid(), "STOP");
                stopped.insert(name.as_str(), (read_at, Instant::now()));
            }
        }
        let (begun, before) = (Instant::now(), ReceiveQueues::now(&processes));
        let rows = server.rows();
        let (after, ended) = (ReceiveQueues::now(&processes), Instant::now());
        assert_eq!(rows.len(), programs.len(), "no listener has left or was ended");
        for row in &rows {
            let seconds = |key: &str| row[key].as_f64().unwrap();
            let name = row["name"].as_str().unwrap();
            let stop = stopped.get(name);
            let is_live = stop.is_none();
            // What a program has not read that the machine did not let read is truly unread.
            if is_live && !(has_read(&before, row) && has_read(&after, row)) {
                continue;
            }
            // What a busy machine leaves in the server or on its way is late, too.
            let elsewhere = seconds("undelivered_seconds") + seconds("socket_queued_seconds");
            let (least, most) = stop.map_or((0.0, elsewhere), |stop| true_lag(*stop, (begun, ended)));
            // A machine that acknowledges at once and offers the same window says that all is read.
            let can_tell = !name.starts_with(QUICK);
            let is_right = seconds("lag_at_least_seconds") <= most + UNKNOWN_SECONDS + 0.1
                && (!can_tell || seconds("lag_at_most_seconds") >= least - UNKNOWN_SECONDS)
                && !(is_live && seconds("unread_seconds") > LIVE_SECONDS + 0.1);
            looks += 1;
            if !is_right {
                wrong.push(format!("{least:.1} to {most:.1} s are true of {row}"));
            }
        }
    }
    println!("{looks} looks at {} programs", programs.len());
    for (namespace, (name, ..)) in namespaces.iter().zip(STRANGE) {
        // A setting without an effect proves nothing, and nor does one that has more.
        let what = format!("{name}, and nothing else, to show in its namespace");
        eventually(&what, || (strange_signs(namespace) == [name]).then_some(()));
    }
    assert!(wrong.is_empty(), "{} of {looks} looks are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
