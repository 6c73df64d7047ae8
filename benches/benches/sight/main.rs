//! What a server sees of its listeners, beside the truth.
//!
//! The receivers are sockets of this process, a thread each, which know what they have read: Opus by the positions in its
//! pages, WAV by marks in its samples, FLAC by its frames' numbers. One more receiver of each stream is connected directly
//! and reads everything; the true lag of a receiver is how far it is behind that one. It is less than the lag by the
//! sound that gathers for a packet and by the direct way, so a reported lag may be larger by the length of a page before
//! it counts as an error.
//!
//! On each path, all receivers listen at the same time. They read everything for four seconds, and then what their name says.
//! The rows of `/api/v1/listeners` are read four times a second. A row is compared with the smallest and the largest lag while
//! it was made. The lower bound may be true of an earlier moment, because a server cannot know what was read since the last
//! acknowledgement: it is compared with the largest lag since then, which is the length of a page, the round trip, and
//! 60 ms.
//!
//! Paths but loopback are in network namespaces and need the rights of root; without them, they are skipped. `-- NAME` runs the
//! cases whose names contain it, such as `80 ms`, `stream.opus/16 KiB` or `/half`; `--trace` prints each sample.

#[path = "../../../server/tests/common/namespace.rs"]
mod namespace;
mod receiver;
mod report;
mod stream;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, thread};

use aircheck_api::TokenHash;
use aircheck_benches::{Arguments, Program, WAV_RATE_HZ, write_wav};
use aircheck_server::access::scope::Scope;
use aircheck_server::access::token::Token;
use aircheck_server::app::run;
use aircheck_server::config::{Config, SourceSpec};
use tokio::signal::unix::{SignalKind, signal};

use namespace::Namespace;
use namespace::relay::Link;
use receiver::{Reading, Receiver};
use report::{Report, Rows};
use stream::{STREAMS, Stream, mark};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The environment variables that make this program the server: the path of its WAV file, and its address.
const SERVER: &str = "AIRCHECK_BENCH_SERVER";
const SERVER_ADDRESS: &str = "AIRCHECK_BENCH_ADDRESS";
/// The token by which the rows are read.
const TOKEN: &str = "of the measurement";
/// All receivers of a path, and some.
const MAX_LISTENERS: usize = 500;
/// Seconds of sound: more than any server here plays.
const SOUND: u32 = 90;
/// The pause between two questions for the rows. The server makes them four times a second at most.
const ROWS_INTERVAL: Duration = Duration::from_millis(255);
/// The pause between two looks at the receivers' positions.
const POSITIONS_INTERVAL: Duration = Duration::from_millis(20);
/// Ends the measurement early.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// A way from the server to its listeners.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    Loopback,
    Ethernet,
    /// Ethernet through a [`Link`] of this round trip and jitter in ms, of this loss in per mille.
    Relayed(u64, u64, u64),
    /// A link of 1 Mbit/s.
    Narrow,
}

impl Path {
    const ALL: [Self; 7] = [
        Self::Loopback,
        Self::Ethernet,
        Self::Relayed(20, 0, 0),
        Self::Relayed(80, 0, 0),
        Self::Relayed(80, 10, 0),
        Self::Relayed(80, 0, 10),
        Self::Narrow,
    ];

    fn name(self) -> String {
        match self {
            Self::Loopback => "loopback".into(),
            Self::Ethernet => "Ethernet".into(),
            Self::Relayed(round_trip, 0, 0) => format!("{round_trip} ms"),
            Self::Relayed(round_trip, jitter, 0) => format!("{round_trip} ms, {jitter} ms of jitter"),
            Self::Relayed(round_trip, _, lost) => format!("{round_trip} ms, {} % lost", lost as f64 / 10.0),
            Self::Narrow => "1 Mbit/s".into(),
        }
    }

    fn namespace(self, index: usize) -> std::result::Result<Option<Namespace>, String> {
        let millis = Duration::from_millis;
        let link = match self {
            Self::Loopback => return Ok(None),
            Self::Ethernet => return Namespace::new(index).map(Some),
            Self::Relayed(round_trip, jitter, lost_per_mille) => {
                Link { round_trip: millis(round_trip), jitter: millis(jitter), lost_per_mille, bytes_per_second: None }
            }
            Self::Narrow => Link { bytes_per_second: Some(125_000), ..Link::default() },
        };
        Namespace::with_link(index, link).map(Some)
    }

    /// Returns the longest time there and back.
    fn round_trip(self) -> Duration {
        match self {
            Self::Relayed(round_trip, jitter, _) => Duration::from_millis(round_trip + 2 * jitter),
            Self::Loopback | Self::Ethernet | Self::Narrow => Duration::ZERO,
        }
    }

    /// Returns the cases on this path.
    fn cases(self) -> Vec<Case> {
        let case = |stream, buffer, reading| Case { path: self, stream, buffer, reading };
        let mut cases = Vec::new();
        for stream in &STREAMS {
            let is_usual = stream.name == "stream.opus";
            // Six listeners of Opus are what a link of 1 Mbit/s carries.
            if self == Self::Narrow && !is_usual {
                continue;
            }
            cases.extend(Reading::ALL.map(|reading| case(stream, Buffer::Default, reading)));
            if self != Self::Narrow && (is_usual || stream.name == "stream.wav") {
                let buffers = [Buffer::Small, Buffer::Large].into_iter();
                let of = |buffer| Reading::ALL.into_iter().map(move |reading| case(stream, buffer, reading));
                cases.extend(buffers.flat_map(of));
            }
        }
        cases
    }
}

/// The receive buffer that a program sets before it connects.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Buffer {
    Small,
    Default,
    Large,
}

impl Buffer {
    fn bytes(self) -> Option<usize> {
        match self {
            Self::Small => Some(16 << 10),
            Self::Default => None,
            Self::Large => Some(4 << 20),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Small => "16 KiB",
            Self::Default => "default",
            Self::Large => "4 MB",
        }
    }
}

/// One receiver.
#[derive(Clone, Copy, Debug)]
struct Case {
    path: Path,
    stream: &'static Stream,
    buffer: Buffer,
    reading: Reading,
}

impl Case {
    fn name(&self) -> String {
        format!("{}/{}/{}/{}", self.path.name(), self.stream.name, self.buffer.name(), self.reading.name())
    }
}

/// How long each path is measured.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// When receivers begin to do what their name says.
    change: Duration,
    /// When those that come back do.
    back: Duration,
    end: Duration,
}

fn main() -> Result<()> {
    if let (Some(wav), Ok(address)) = (env::var_os(SERVER), env::var(SERVER_ADDRESS)) {
        return serve(wav.into(), address.parse()?);
    }
    let arguments = Arguments::read();
    let is_trace = env::args().any(|word| word == "--trace");
    let seconds = |change, back, end| {
        let [change, back, end] = [change, back, end].map(Duration::from_secs);
        Times { change, back, end }
    };
    let (paths, times) = match arguments.is_quick() {
        true => (&Path::ALL[..1], seconds(1, 2, 3)),
        false => (&Path::ALL[..], seconds(4, 12, 24)),
    };
    let cases = arguments.choose(paths.iter().flat_map(|path| path.cases()), Case::name);
    let directory = tempfile::tempdir()?;
    let wav = directory.path().join("marked.wav");
    write_wav(&wav, 1, SOUND, sample)?;
    stop_on_signal();
    println!("{}", report::EXPLANATION);
    for (index, path) in paths.iter().enumerate() {
        let cases: Vec<Case> = cases.iter().filter(|case| case.path == *path).copied().collect();
        if cases.is_empty() || STOPPED.load(Relaxed) {
            continue;
        }
        let namespace = match path.namespace(index) {
            Ok(namespace) => namespace,
            Err(reason) => {
                println!("{}: skipped, because it takes the rights of root: {reason}\n", path.name());
                continue;
            }
        };
        println!("{}", measure(&cases, namespace.as_ref(), &wav, times, is_trace)?);
    }
    Ok(())
}

/// Sets [`STOPPED`] at Ctrl-C and at SIGTERM, so that namespaces are deleted before the end.
fn stop_on_signal() {
    thread::spawn(|| -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminated = signal(SignalKind::terminate())?;
            tokio::select! {
                result = tokio::signal::ctrl_c() => result?,
                _ = terminated.recv() => {}
            }
            STOPPED.store(true, Relaxed);
            Ok(())
        })
    });
}

/// Returns a sample of the source: noise and a tone, and in each block its number.
fn sample(frame: u32, _channel: u16) -> f64 {
    if let Some(marked) = mark(frame) {
        return marked;
    }
    let noise =
        f64::from(frame.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 16) / 65_536.0;
    0.02 * (noise - 0.5) + 0.2 * (f64::from(frame) * 440.0 / f64::from(WAV_RATE_HZ) * std::f64::consts::TAU).sin()
}

fn serve(wav: PathBuf, address: IpAddr) -> Result<()> {
    let mut config = Config::default();
    config.mounts[0].capture.source = SourceSpec::Wav(wav);
    config.http.listen = vec![SocketAddr::from((address, 0)).into()];
    // The rows are read at the same address, which is not loopback.
    config.http.insecure_public = true;
    let scopes = vec![Scope::Stats];
    config.tokens = vec![Arc::new(Token { name: "sight".to_owned(), hash: TokenHash::of(TOKEN), scopes })];
    config.http.max_listeners = MAX_LISTENERS;
    config.http.max_connections_per_address = MAX_LISTENERS;
    Ok(run(config, None)?)
}

/// Measures all cases of one path at the same time.
fn measure(
    cases: &[Case],
    namespace: Option<&Namespace>,
    wav: &FilePath,
    times: Times,
    is_trace: bool,
) -> Result<Report> {
    let address = namespace.map_or("127.0.0.1", |namespace| namespace.address.as_str());
    let mut command = Command::new(env::current_exe()?);
    let (_server, address) = Program::announced(command.env(SERVER, wav).env(SERVER_ADDRESS, address))?;
    let mut streams: Vec<&Stream> = cases.iter().map(|case| case.stream).collect();
    streams.sort_by_key(|stream| stream.name);
    streams.dedup_by_key(|stream| stream.name);
    let direct: Vec<Receiver> = streams.iter().map(|stream| Receiver::direct(address, stream)).collect();
    // So that their position is known when the others come.
    sleep(Duration::from_millis(500));
    let started = Instant::now();
    let receivers: Vec<Receiver> = cases
        .iter()
        .enumerate()
        .map(|(index, case)| {
            let reference = streams.iter().position(|stream| stream.name == case.stream.name).unwrap_or_default();
            let name = format!("case-{index}");
            Receiver::start(address, case, &name, &direct[reference], namespace, started, times)
        })
        .collect();
    let mut report = Report::new(cases, &streams, times, is_trace);
    thread::scope(|scope| -> Result<()> {
        let rows = scope.spawn(|| -> Result<Vec<Rows>> {
            let mut all = Vec::new();
            while started.elapsed() < times.end && !STOPPED.load(Relaxed) {
                let asked = Instant::now();
                all.push(Rows::read(address, started)?);
                sleep(ROWS_INTERVAL.saturating_sub(asked.elapsed()));
            }
            Ok(all)
        });
        while !rows.is_finished() {
            report.note(started.elapsed(), &receivers, &direct);
            sleep(POSITIONS_INTERVAL);
        }
        report.rows = rows.join().map_err(|_| "the thread that reads rows has panicked")??;
        Ok(())
    })?;
    Ok(report)
}
