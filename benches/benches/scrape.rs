//! The cost of watching a server by number of listeners, with criterion: one scrape of `/metrics`, and the list at
//! `/api/v1/listeners`.
//!
//! *Render* is making the text alone, on this thread; the others are whole requests on one connection that is kept open,
//! from the first byte sent to the last one received. The server is the library's own, in this process, with a tone
//! as its source. Its listeners are TCP connections of this process to `/stream.wav` that read all they get; a
//! measurement begins when each has got some sound. More join for each further number, up to 1024.
//!
//! Sound goes on all the while, because a request to a server that stands still would be too cheap: each listener's
//! packets are followed through the kernel at each request. But blocks are 100 ms long instead of 10, so that serving
//! 1024 listeners leaves most of two processors to the measurement. `listeners` has the cost for a server with less to
//! spare. The table at the end has the sizes of the answers, and the blocks that listeners lost.
//!
//! `-- render/64` measures only that case; a number of listeners without a wanted case is left out.

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{self, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aircheck_benches::{Arguments, Table, open_files, request};
use aircheck_server::access::policy::Access;
use aircheck_server::config::{Config, ListenAddress, SourceSpec};
use aircheck_server::delivery::shards::Shards;
use aircheck_server::http;
use aircheck_server::http::Serves;
use aircheck_server::http::port::{Listening, Socket};
use aircheck_server::http::server::Server;
use aircheck_server::mounts::Mounts;
use aircheck_server::notify::Notifier;
use aircheck_server::telemetry::metrics::Exposition;
use criterion::{BatchSize, BenchmarkId, Criterion};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const LISTENERS: [usize; 6] = [0, 1, 16, 64, 256, 1024];
const MAX_LISTENERS: usize = 1024;
/// The most listeners of a short run.
const QUICK_LISTENERS: usize = 64;
const BLOCK: Duration = Duration::from_millis(100);
const METRICS: &str = "/metrics";
const LIST: &str = "/api/v1/listeners";
/// The server makes the list four times a second at most.
const LIST_INTERVAL: Duration = Duration::from_millis(260);
/// The time that listeners may take to connect and to get their first sound.
const FIRST_SOUND_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for new listeners' first packets, and for values in their histograms.
const SETTLE: Duration = Duration::from_secs(1);
/// Files that this process has open besides the two ends of each listener's connection.
const OTHER_FILES: usize = 100;

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    let running = Running::start()?;
    // Not on the server's threads, where an answer would wait for the listeners' reads, too.
    let listening = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let arguments = Arguments::read();
    let is_wanted = |listeners: usize| {
        ["render", &format!("GET {METRICS}"), &format!("GET {LIST}")]
            .iter()
            .any(|what| arguments.wants(&format!("scrape/{what}/{listeners}")))
    };
    let max_listeners = if arguments.is_quick() { QUICK_LISTENERS } else { MAX_LISTENERS };
    let mut table = Table::new(["listeners", "/metrics, KiB", "/api/v1/listeners, KiB", "offered", "lost"]);
    let mut present = 0;
    for listeners in LISTENERS.into_iter().filter(|listeners| *listeners <= max_listeners && is_wanted(*listeners)) {
        if 2 * listeners + OTHER_FILES > open_files()? {
            println!("{listeners} listeners were left out, because `ulimit -n` is too low");
            break;
        }
        for _ in present..listeners {
            listening.spawn(listen(running.address));
        }
        present = listeners;
        listening.block_on(running.wait_for_sound(listeners))?;

        render(&mut criterion, &running.server, listeners);
        let metrics = answer(&mut criterion, running.address, METRICS, listeners)?;
        let list = answer(&mut criterion, running.address, LIST, listeners)?;
        assert_eq!(running.server.listeners().count(), listeners, "listeners stay");
        let (offered, lost) = running.account();
        let kib = |bytes: usize| format!("{:.1}", bytes as f64 / 1024.0);
        table.row([listeners.to_string(), kib(metrics), kib(list), offered.to_string(), lost.to_string()]);
    }
    criterion.final_summary();
    if LISTENERS.into_iter().any(is_wanted) {
        println!("{table}");
    }
    Ok(())
}

/// Times making the text, as the server makes it.
fn render(criterion: &mut Criterion, server: &Server, listeners: usize) {
    criterion.benchmark_group("scrape").bench_function(BenchmarkId::new("render", listeners), |bencher| {
        bencher.iter(|| server.render_metrics(Exposition::Prometheus));
    });
}

/// Times a request and its answer. Returns the length of the answer's body.
fn answer(criterion: &mut Criterion, address: SocketAddr, path: &str, listeners: usize) -> io::Result<usize> {
    let mut connection = KeptConnection::connect(address, path)?;
    let size = connection.ask()?;
    criterion.benchmark_group("scrape").bench_function(BenchmarkId::new(format!("GET {path}"), listeners), |bencher| {
        // An answer that comes at once: for another list so soon, the server would wait, which costs nothing.
        let pause = || std::thread::sleep(if path == LIST { LIST_INTERVAL } else { Duration::ZERO });
        bencher.iter_batched(pause, |()| connection.ask().expect("the server answers"), BatchSize::PerIteration);
    });
    Ok(size)
}

/// A connection that is kept open for the same request again and again.
struct KeptConnection {
    connection: BufReader<net::TcpStream>,
    request: String,
    line: String,
    body: Vec<u8>,
}

impl KeptConnection {
    fn connect(address: SocketAddr, path: &str) -> io::Result<Self> {
        let connection = net::TcpStream::connect(address)?;
        connection.set_nodelay(true)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        Ok(Self { connection: BufReader::new(connection), request, line: String::new(), body: Vec::new() })
    }

    /// Sends the request and reads the answer up to its end. Returns the length of its body.
    fn ask(&mut self) -> io::Result<usize> {
        self.connection.get_mut().write_all(self.request.as_bytes())?;
        if !self.head_line()?.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(self.line.clone()));
        }
        let mut length = 0;
        while !self.head_line()?.is_empty() {
            if let Some(("content-length", value)) = self.line.split_once(':') {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        self.body.resize(length, 0);
        self.connection.read_exact(&mut self.body)?;
        Ok(length)
    }

    /// Reads the next line of the head. The server writes names in lower case.
    fn head_line(&mut self) -> io::Result<&str> {
        self.line.clear();
        self.connection.read_line(&mut self.line)?;
        Ok(self.line.trim_end())
    }
}

/// A server in this process; it ends when this is dropped.
struct Running {
    address: SocketAddr,
    server: Arc<Server>,
    _runtime: Runtime,
}

impl Running {
    fn start() -> Result<Self> {
        let mut config = Config::default();
        config.mounts[0].capture.source = SourceSpec::Tone(440.0);
        config.mounts[0].capture.block = BLOCK;
        config.http.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()];
        config.http.max_listeners = MAX_LISTENERS;
        // All listeners come from this machine.
        config.http.max_connections_per_address = 2 * MAX_LISTENERS;
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let socket = runtime.block_on(Socket::bind(&config.http.listen[0], config.http.unix_mode))?;
        let ListenAddress::Tcp(address) = socket.address() else { unreachable!("it is an address of TCP") };
        let (shards, mounts) = (Shards::start()?, Mounts::new(&config.mounts));
        mounts.first().open(&shards)?;
        let access = Access::new(config.rules())?;
        let server =
            Server::new(config.clone(), access, mounts, shards, Notifier::start(&config.notify, &config.mounts));
        runtime.spawn(http::serve(
            vec![Listening::new(socket, None, Serves::All)],
            None,
            Arc::clone(&server),
            std::future::pending(),
        ));
        Ok(Self { address, server, _runtime: runtime })
    }

    /// Waits until so many listeners have got sound.
    async fn wait_for_sound(&self, listeners: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            let present = self.server.listeners().present();
            let hearing = present.iter().filter(|listener| listener.snapshot().delivered > 0).count();
            if hearing == listeners {
                break;
            }
            if begun.elapsed() > FIRST_SOUND_TIMEOUT {
                return Err(
                    format!("{hearing} of {listeners} listeners have sound after {FIRST_SOUND_TIMEOUT:?}").into()
                );
            }
            sleep(BLOCK).await;
        }
        sleep(SETTLE).await;
        Ok(())
    }

    /// Returns the blocks that listeners were offered and lost so far.
    fn account(&self) -> (u64, u64) {
        let totals = self.server.listeners().totals();
        totals
            .by_mount
            .values()
            .flat_map(|renditions| renditions.values())
            .fold((0, 0), |(offered, lost), of_one| (offered + of_one.offered, lost + of_one.lost.iter().sum::<u64>()))
    }
}

/// Listens until the server ends the stream, and drops the sound.
async fn listen(address: SocketAddr) -> io::Result<()> {
    let mut stream = request(address, "GET", "/stream.wav").await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}
