//! 200 listeners of `/stream.wav` from the live pace on loopback: what they lose, and the server's CPU and memory.
//!
//! The server is the library's own `run`, in a process of its own (this program again, told by [`SERVER`]), so that
//! the system's account of it is of nothing else. It plays a 48 kHz stereo WAV in a loop at its defaults, but for the
//! history, which all listeners share: one second instead of ten, so that it is full before anything is measured.
//! The listeners are plain TCP connections of this process, all on one thread, which read, take the chunks apart and
//! count. After the window each is ended by `DELETE`, so that the server's final account, from `/metrics`, must match
//! what was received to the byte.
//!
//! CPU is `utime + stime` of `/proc/PID/stat`, in ticks of 10 ms, over the window alone. Memory is `/proc/PID/status`;
//! what is compared is `RssAnon`, because the program's own pages (the rest of `VmRSS`) come and go as the system
//! likes. Socket buffers are the kernel's and in neither. A second server with 1000 listeners makes the figure for one
//! listener precise; that it may be too many for the machine does not matter there.
//!
//! `AIRCHECK_BENCH_SECONDS` sets the window (10); `-- --quick` measures one second and leaves the second server out.

use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, iter};

use aircheck_benches::{Cpu, Memory, Table, Target, WAV_RATE_HZ, is_quick, open_files, request, write_wav};
use aircheck_server::app::run;
use aircheck_server::config::{Config, SourceSpec};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::time::sleep;

/// Set to a WAV file's path in the process that is to be the server.
const SERVER: &str = "AIRCHECK_BENCH_SERVER";
const BLOCK: Duration = Duration::from_millis(10);
/// Of 480 frames, two channels, two bytes.
const BLOCK_BYTES: u64 = 1920;
const WAV_HEADER_BYTES: u64 = 44;
const HISTORY: Duration = Duration::from_secs(1);
/// Until a server has its history filled, or listeners their rings and buffers touched once.
const SETTLE: Duration = Duration::from_secs(2);
const LISTENERS: usize = 200;
const MANY: usize = 1000;
/// For the listeners' sockets, in either process, other files come on top.
const OTHER_FILES: usize = 100;
/// Enough that the processor time of one can be told from ticks of 10 ms.
const SCRAPES: usize = 100;
const MEMORY: Target = Target::AtMost(64.0);

type Cell = [String; 2];

fn main() -> io::Result<()> {
    if let Some(wav) = env::var_os(SERVER) {
        return serve(wav.into());
    }
    let quick = is_quick();
    let seconds = env::var("AIRCHECK_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let window = if quick { 1.0 } else { seconds.unwrap_or(10.0) };
    let mut phases = vec![(LISTENERS, window)];
    if !quick && open_files()? >= MANY + OTHER_FILES {
        phases.push((MANY, window / 2.0));
    }

    let directory = tempfile::tempdir()?;
    let wav = directory.path().join("tone.wav");
    write_wav(&wav, 2, 2, tone).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut results = Vec::new();
    for &(listeners, seconds) in &phases {
        results.push(runtime.block_on(measure(&wav, listeners, Duration::from_secs_f64(seconds)))?);
    }
    println!("listeners of /stream.wav on loopback: 48 kHz stereo s16le in blocks of 10 ms, default buffer\n");
    let mut table = Table::new(["what", "", "target", "", "target"]);
    for (row, label) in Measured::LABELS.into_iter().enumerate() {
        let cells = results.iter().flat_map(|cells| cells[row].clone());
        table.row(iter::once(label.to_owned()).chain(cells));
    }
    println!("{table}");
    if phases.len() == 1 {
        println!("{MANY} listeners were left out: by --quick, or because `ulimit -n` is too low");
    }
    Ok(())
}

/// The server's side: runs until it is killed.
fn serve(wav: PathBuf) -> io::Result<()> {
    let mut config = Config::default();
    config.capture.source = SourceSpec::Wav(wav);
    config.capture.looped = true;
    config.capture.history = HISTORY;
    config.http.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.http.max_listeners = MANY;
    // All of them come from this machine.
    config.http.max_connections_per_address = 2 * MANY;
    run(config).map_err(io::Error::other)
}

/// One server with so many listeners, from its start to its end.
async fn measure(wav: &Path, listeners: usize, window: Duration) -> io::Result<Vec<Cell>> {
    let server = Server::start(wav)?;
    sleep(SETTLE).await;
    let before = server.memory()?;
    let mut clients = vec![tokio::spawn(listen(server.address))];
    sleep(SETTLE).await;
    let with_one = server.memory()?;
    clients.extend((1..listeners).map(|_| tokio::spawn(listen(server.address))));
    sleep(SETTLE).await;

    let (start, cpu) = (Instant::now(), server.cpu()?);
    sleep(window).await;
    let (elapsed, cpu) = (start.elapsed(), server.cpu()?.since(cpu));
    let rows = server.listeners().await?;
    let with_all = server.memory()?;
    let scrape = server.scrape(cpu.total() / elapsed.as_secs_f64()).await?;

    for row in &rows {
        server.ask("DELETE", &format!("/api/v1/listeners/{}", row["id"])).await?;
    }
    let mut received = Vec::new();
    for client in clients {
        received.push(client.await.map_err(io::Error::other)??);
    }
    // A connection's end and its removal from the list are not the same moment; then memory is given back.
    sleep(SETTLE).await;
    let totals = server.totals().await?;
    let after = server.memory()?;
    let next: Vec<_> = (0..listeners).map(|_| tokio::spawn(listen(server.address))).collect();
    sleep(SETTLE).await;
    let again = server.memory()?;
    next.iter().for_each(|client| client.abort());
    Ok(Measured { listeners, elapsed, cpu, scrape, rows, received, totals, before, with_one, with_all, after, again }
        .cells())
}

/// Everything known of one server and its listeners.
struct Measured {
    listeners: usize,
    elapsed: Duration,
    cpu: Cpu,
    scrape: Scrape,
    rows: Vec<Value>,
    received: Vec<Received>,
    totals: Totals,
    before: Memory,
    with_one: Memory,
    with_all: Memory,
    after: Memory,
    again: Memory,
}

impl Measured {
    const LABELS: [&str; 25] = [
        "listeners",
        "window, s",
        "blocks offered",
        "blocks delivered",
        "blocks lost",
        "blocks left queued at the end",
        "accounts that don't add up",
        "bytes received - bytes of blocks delivered",
        "fewest blocks of a client - blocks by its clock",
        "lag p99 of the worst listener, ms",
        "lag max of the worst listener, ms",
        "stage queue, p99 of the worst listener, ms",
        "server CPU, % of one core",
        "  of it in the kernel, %",
        "  us per listener and block",
        "a scrape of /metrics, median and slowest, ms",
        "  server CPU beyond that of the listeners, ms",
        "  size, KiB",
        "memory before any listener, KiB (VmRSS)",
        "  with one, KiB",
        "  with all, KiB",
        "  per listener, KiB",
        "  after all left, KiB",
        "  when as many have come again, KiB",
        "  per listener then, KiB",
    ];

    /// A value and what it ought to be for each of [`LABELS`](Self::LABELS). No loss is asked of 200 listeners only.
    fn cells(&self) -> Vec<Cell> {
        let totals = &self.totals;
        let nothing = |count: u64| match (count, self.listeners) {
            (0, _) => "0 met".to_owned(),
            (_, LISTENERS) => "0 MISSED".to_owned(),
            _ => String::new(),
        };
        let always_nothing = |difference: i64| if difference == 0 { "0 met" } else { "0 MISSED" }.to_owned();
        let plain = |value: String| [value, String::new()];
        let worst_ms = |of: fn(&Value) -> &Value| {
            let seconds = self.rows.iter().filter_map(|row| of(row).as_f64()).fold(0.0, f64::max);
            plain(format!("{:.1}", seconds * 1000.0))
        };
        let wrong = self.rows.iter().filter(|row| !adds_up(row)).count()
            + usize::from(totals.offered != totals.delivered + totals.lost + totals.left)
            + self.listeners.abs_diff(self.rows.len());
        let bytes: u64 = self.received.iter().map(|received| received.bytes).sum();
        let expected = self.listeners as u64 * WAV_HEADER_BYTES + totals.delivered * BLOCK_BYTES;
        let unmatched = bytes as i64 - expected as i64;
        let fewest = self.received.iter().map(Received::ahead_of_clock).min().unwrap_or(0);
        let blocks = self.elapsed.as_secs_f64() / BLOCK.as_secs_f64() * self.listeners as f64;
        let per_listener = |memory: Memory| (memory.anon_kib - self.before.anon_kib) / self.listeners as f64;
        let (first, then) = (per_listener(self.with_all), per_listener(self.again));
        let further = (self.with_all.anon_kib - self.with_one.anon_kib) / (self.listeners - 1) as f64;
        vec![
            plain(self.listeners.to_string()),
            plain(format!("{:.1}", self.elapsed.as_secs_f64())),
            plain(totals.offered.to_string()),
            plain(totals.delivered.to_string()),
            [totals.lost.to_string(), nothing(totals.lost)],
            plain(totals.left.to_string()),
            [wrong.to_string(), always_nothing(wrong as i64)],
            [unmatched.to_string(), always_nothing(unmatched)],
            plain(format!("{fewest:+}")),
            worst_ms(|row| &row["lag_p99_seconds"]),
            worst_ms(|row| &row["lag_max_seconds"]),
            worst_ms(|row| &row["latency_seconds"]["queue"]["p99"]),
            plain(format!("{:.1}", 100.0 * self.cpu.total() / self.elapsed.as_secs_f64())),
            plain(format!("{:.0}", 100.0 * self.cpu.system / self.cpu.total())),
            plain(format!("{:.2}", 1e6 * self.cpu.total() / blocks)),
            plain(format!("{:.1}, {:.1}", self.scrape.median_ms, self.scrape.slowest_ms)),
            plain(format!("{:.1}", self.scrape.cpu_ms)),
            plain(format!("{:.0}", self.scrape.kib)),
            plain(kib(self.before)),
            plain(kib(self.with_one)),
            plain(kib(self.with_all)),
            [format!("{first:.1}, further ones {further:.1}"), MEMORY.verdict(first)],
            plain(kib(self.after)),
            plain(kib(self.again)),
            [format!("{then:.1}"), MEMORY.verdict(then)],
        ]
    }
}

/// Both figures of it.
fn kib(memory: Memory) -> String {
    format!("{} ({})", memory.anon_kib, memory.all_kib)
}

/// Whether `offered = delivered + lost + queued` in a row of `/api/v1/listeners`.
fn adds_up(row: &Value) -> bool {
    let count = |name: &str| row[name].as_u64().unwrap_or(u64::MAX / 4);
    count("offered") == count("delivered") + count("lost") + count("queued")
}

/// A server in a process of its own, until this is dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(wav: &Path) -> io::Result<Self> {
        let mut process = Command::new(env::current_exe()?).env(SERVER, wav).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let mut server = Self { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let address = line.trim().strip_prefix("listening on http://").map(|url| url.trim_end_matches('/'));
        server.address = address.and_then(|address| address.parse().ok()).ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(server)
    }

    /// Processor time so far.
    fn cpu(&self) -> io::Result<Cpu> {
        Cpu::of(self.process.id())
    }

    fn memory(&self) -> io::Result<Memory> {
        Memory::of(self.process.id())
    }

    /// The rows of `/api/v1/listeners`.
    async fn listeners(&self) -> io::Result<Vec<Value>> {
        let body = self.ask("GET", "/api/v1/listeners").await?;
        Ok(serde_json::from_str(&body)?)
    }

    async fn totals(&self) -> io::Result<Totals> {
        let text = self.ask("GET", "/metrics").await?;
        let sum = |name: &str, with: &dyn Fn(&str) -> bool| {
            let values = text.lines().filter(|line| line.starts_with(name) && line.contains("\"wav\"") && with(line));
            values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        let left = |line: &str| line.contains("reason=\"left\"");
        Ok(Totals {
            offered: sum("aircheck_offered_blocks_total", &|_| true),
            delivered: sum("aircheck_delivered_blocks_total", &|_| true),
            lost: sum("aircheck_lost_blocks_total", &|line| !left(line)),
            left: sum("aircheck_lost_blocks_total", &left),
        })
    }

    /// What it costs to read the metrics, on top of `cpu_share` of a core for the listeners.
    async fn scrape(&self, cpu_share: f64) -> io::Result<Scrape> {
        let (start, cpu) = (Instant::now(), self.cpu()?);
        let mut spans = Vec::new();
        let mut bytes = 0;
        for _ in 0..SCRAPES {
            let begun = Instant::now();
            bytes = self.ask("GET", "/metrics").await?.len();
            spans.push(begun.elapsed().as_secs_f64() * 1000.0);
            sleep(BLOCK).await;
        }
        let cpu = self.cpu()?.since(cpu).total() - cpu_share * start.elapsed().as_secs_f64();
        spans.sort_by(f64::total_cmp);
        Ok(Scrape {
            median_ms: spans[SCRAPES / 2],
            slowest_ms: spans[SCRAPES - 1],
            cpu_ms: cpu * 1000.0 / SCRAPES as f64,
            kib: bytes as f64 / 1024.0,
        })
    }

    /// The body of the response to a request on a connection of its own.
    async fn ask(&self, method: &str, path: &str) -> io::Result<String> {
        let mut stream = request(self.address, method, path).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        match response.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 2") => Ok(body.to_owned()),
            _ => Err(io::Error::other(format!("{method} {path}: {response}"))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reading `/metrics`, the clients being busy on the same machine.
struct Scrape {
    median_ms: f64,
    slowest_ms: f64,
    cpu_ms: f64,
    kib: f64,
}

/// Blocks of all listeners, from `/metrics`.
struct Totals {
    offered: u64,
    delivered: u64,
    /// By any reason but the next.
    lost: u64,
    /// Queued when the listener went.
    left: u64,
}

/// What a listener got.
struct Received {
    bytes: u64,
    first_at: Instant,
    last_at: Instant,
}

impl Received {
    /// Blocks that came beyond those due between the first and the last by this process's clock.
    fn ahead_of_clock(&self) -> i64 {
        let blocks = self.bytes.saturating_sub(WAV_HEADER_BYTES) / BLOCK_BYTES;
        let span = self.last_at.duration_since(self.first_at);
        blocks as i64 - 1 - (span.as_secs_f64() / BLOCK.as_secs_f64()).round() as i64
    }
}

/// Listens until the stream ends.
async fn listen(address: SocketAddr) -> io::Result<Received> {
    let mut stream = request(address, "GET", "/stream.wav").await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
    }
    let mut chunks = Chunks::default();
    let mut buffer = [0; 8192];
    let now = Instant::now();
    let mut received = Received { bytes: 0, first_at: now, last_at: now };
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return if chunks.ended { Ok(received) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let data = chunks.data_in(&buffer[..read]);
        if data > 0 {
            received.last_at = Instant::now();
        }
        // The header may come some time before the first block.
        if received.bytes <= WAV_HEADER_BYTES {
            received.first_at = received.last_at;
        }
        received.bytes += data;
    }
}

/// Where a body in HTTP/1.1 chunks stands: RFC 9112, section 7.1, without extensions and trailers.
#[derive(Default)]
struct Chunks {
    /// Bytes of the current chunk that are to come.
    left: usize,
    /// The length that is being read, in hexadecimal digits.
    length: Option<usize>,
    ended: bool,
}

impl Chunks {
    /// How many bytes of data there are in the next `bytes`.
    fn data_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut data = 0;
        while let Some(&byte) = bytes.first() {
            let mut taken = 1;
            if self.left > 0 {
                taken = self.left.min(bytes.len());
                self.left -= taken;
                data += taken as u64;
            } else if let Some(digit) = char::from(byte).to_digit(16) {
                self.length = Some(self.length.unwrap_or(0) * 16 + digit as usize);
            } else if byte == b'\n'
                && let Some(length) = self.length.take()
            {
                self.left = length;
                self.ended = length == 0;
            }
            bytes = &bytes[taken..];
        }
        data
    }
}

/// A tone, another one on each side.
fn tone(frame: u32, channel: u16) -> f64 {
    let hz = if channel == 0 { 440.0 } else { 660.0 };
    0.25 * (std::f64::consts::TAU * hz * f64::from(frame) / f64::from(WAV_RATE_HZ)).sin()
}
