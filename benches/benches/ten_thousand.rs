//! Ten thousand listeners of `/stream.opus` at its default settings, and what is promised of them.
//!
//! A release aircheck plays a tone; `aircheckctl load` is the listeners, 1000 of whom come in a second. First there is one
//! listener, then a thousand, then ten thousand, each with a server of its own. The cost of a listener is the server's
//! processor time (`/proc/PID/task/*/schedstat`) beyond that with one listener, which is capturing and encoding. The
//! ten thousand listen for a minute: for a third of it undisturbed, and then while the table and the metrics are asked
//! for. Last, SIGTERM ends the server while all of them listen.
//!
//! It prints each promise with what was measured, and fails with a sentence for each that is broken.
//!
//! `make bench-10k` builds the programs and passes their paths in `AIRCHECK_PROGRAM` and `AIRCHECKCTL_PROGRAM`.
//! `-- --quick` has 1000 listeners for a few seconds instead, to see that it runs.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aircheck_benches::{Arguments, Memory, Program, Steal, thread_time};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Listeners that come in a second.
const RAMP: usize = 1000;
/// Time for connections to settle after the last has come.
const SETTLE: Duration = Duration::from_secs(3);
/// The time over which a few listeners are measured.
const FEW_WINDOW: Duration = Duration::from_secs(10);
/// The pause between two questions for the table and the metrics.
const QUESTION_INTERVAL: Duration = Duration::from_secs(2);
/// The time for which `aircheckctl load` may look for the rest of its streams.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The time after which a server that does not end is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_FIRST_BYTE: f64 = 1.0;
const MAX_TABLE: f64 = 0.05;
const MAX_SCRAPE: f64 = 0.1;
const MAX_MEMORY_MB: f64 = 60.0;
const MAX_STOP: f64 = 5.0;
/// The cost of one listener of many, as a multiple of one of few.
const MAX_GROWTH: f64 = 1.2;

fn main() -> Result<ExitCode> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(aircheck), Some(ctl)) = (path("AIRCHECK_PROGRAM"), path("AIRCHECKCTL_PROGRAM")) else {
        println!("ten_thousand: `make bench-10k` runs this, because it takes aircheck's programs");
        return Ok(ExitCode::SUCCESS);
    };
    let is_quick = Arguments::read().is_quick();
    let (few, many, window) = if is_quick { (100, 1000, 6) } else { (1000, 10_000, 60) };
    let (window, steal) = (Duration::from_secs(window), Steal::now());
    let programs = Programs { aircheck, ctl };
    let one = programs.cost(1)?;
    eprintln!("one listener: {:.2} % of a core", 100.0 * one);
    let few_cost = (programs.cost(few)? - one) / (few - 1) as f64;
    eprintln!("one of {few}: {:.2} us of processor time a second", 1e6 * few_cost);
    let measured = programs.run_many(many, window)?;
    let many_cost = (measured.cpu - one) / (many - 1) as f64;
    let steal = steal.map_or(f64::NAN, Steal::percent_since);
    println!(
        "{many} listeners: the server takes {:.1} % of a core, with one {:.1} %; load takes {:.1} %; steal {steal:.2} %",
        100.0 * measured.cpu,
        100.0 * one,
        100.0 * measured.load_cpu
    );
    let broken = promises(&measured, many, few, many_cost / few_cost);
    if let (true, Some(verdict)) = (broken > 0, measured.outcome["verdict"]["text"].as_str()) {
        println!("aircheckctl load says: {verdict}");
    }
    println!(
        "{}",
        if broken == 0 { "all promises are kept".to_owned() } else { format!("{broken} promises are broken") }
    );
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints each promise, and returns how many are broken.
fn promises(seen: &Measured, many: usize, few: usize, growth: f64) -> usize {
    let healthy = &seen.outcome["kinds"]["healthy"];
    let count = |name: &str| healthy[name].as_u64().unwrap_or(0) as usize;
    let first_byte = healthy["first_byte_seconds"]["p99"].as_f64().unwrap_or(f64::NAN);
    let (lost, refused) = (count("lost"), seen.outcome["refused"].as_object().map_or(0, serde_json::Map::len));
    let ms = |seconds: f64| format!("{:.1} ms", 1000.0 * seconds);
    let all_listened = seen.listening == many && count("listeners") == many && refused == 0;
    let promises = [
        (all_listened, "all have a stream", format!("{} of {many}", count("listeners").min(seen.listening))),
        (
            lost == 0 && seen.lost_by_metrics == 0.0 && count("faulty") + count("malformed") == 0,
            "nothing is lost",
            format!("{lost} blocks by the streams, {} by the server's count", seen.lost_by_metrics),
        ),
        (first_byte <= MAX_FIRST_BYTE, "first bytes come within 1 s (p99)", ms(first_byte)),
        (seen.table <= MAX_TABLE, "the table's worst 100 come within 50 ms", ms(seen.table)),
        (seen.scrape <= MAX_SCRAPE, "a scrape takes at most 100 ms", ms(seen.scrape)),
        (
            seen.memory_mb <= MAX_MEMORY_MB,
            "the server's resident memory is at most 60 MB",
            format!("{:.1} MB, of which it has allocated {:.1}", seen.memory_mb, seen.allocated_mb),
        ),
        (seen.stop <= MAX_STOP, "SIGTERM ends the server within 5 s", format!("{:.2} s", seen.stop)),
        (
            count("finished") == many,
            "each stream ends with its last page and chunk",
            format!("{} of {many}", count("finished")),
        ),
        (
            // A server that loses saves processor time.
            growth <= MAX_GROWTH && lost == 0,
            "a listener costs at most 1.2 x as much as among few",
            format!("{growth:.2} x that of one among {few}"),
        ),
    ];
    for (is_kept, promise, measured) in &promises {
        println!("{}  {promise}: {measured}", if *is_kept { "kept  " } else { "BROKEN" });
    }
    promises.iter().filter(|(is_kept, ..)| !is_kept).count()
}

/// The programs under test.
struct Programs {
    aircheck: PathBuf,
    ctl: PathBuf,
}

/// What was measured of ten thousand. Times are in seconds, processor times are shares of a core.
struct Measured {
    cpu: f64,
    load_cpu: f64,
    /// Listeners by the server's count, when all should have come.
    listening: usize,
    lost_by_metrics: f64,
    /// The longest of several.
    table: f64,
    scrape: f64,
    /// The most resident memory.
    memory_mb: f64,
    /// The same without pages of the program itself.
    allocated_mb: f64,
    /// From SIGTERM until the server had ended.
    stop: f64,
    /// The object of `aircheckctl load --json`.
    outcome: Value,
}

impl Programs {
    /// Returns the server's processor time with so many listeners.
    fn cost(&self, listeners: usize) -> Result<f64> {
        let server = Server::start(self)?;
        let _load = Program(server.load(self, listeners)?);
        sleep(Duration::from_secs_f64(listeners as f64 / RAMP as f64) + SETTLE);
        server.check_listening(listeners)?;
        let (start, cpu) = (Instant::now(), server.cpu()?);
        sleep(FEW_WINDOW);
        Ok((server.cpu()? - cpu).as_secs_f64() / start.elapsed().as_secs_f64())
    }

    fn run_many(&self, listeners: usize, window: Duration) -> Result<Measured> {
        let mut server = Server::start(self)?;
        let mut load = Program(server.load(self, listeners)?);
        sleep(Duration::from_secs_f64(listeners as f64 / RAMP as f64) + SETTLE);
        let listening = server.listening()?;
        let load_time = || thread_time(load.0.id(), |_| true).map_err(|error| format!("the load has ended: {error}"));
        let (start, cpu, load_cpu) = (Instant::now(), server.cpu()?, load_time()?);
        sleep(window / 3);
        let share = |spent: Duration| spent.as_secs_f64() / start.elapsed().as_secs_f64();
        let (cpu, load_cpu) = (share(server.cpu()? - cpu), share(load_time()? - load_cpu));
        let (mut table, mut scrape, mut memory) = (0.0_f64, 0.0_f64, [0.0_f64; 2]);
        while start.elapsed() < window {
            table = table.max(server.get("/api/v1/listeners?limit=100&sort=lag")?.1.as_secs_f64());
            scrape = scrape.max(server.get("/metrics")?.1.as_secs_f64());
            let Memory { all_kib, anon_kib } = Memory::of(server.process.0.id())?;
            memory = [memory[0].max(all_kib), memory[1].max(anon_kib)];
            sleep(QUESTION_INTERVAL);
        }
        let lost_by_metrics = server.metric("aircheck_lost_blocks_total")?;
        let stop = server.stop()?.as_secs_f64();
        let mut stdout = load.0.stdout.take().ok_or("no output")?;
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let deadline = Instant::now() + LOAD_TIMEOUT;
        while !reading.is_finished() && Instant::now() < deadline {
            sleep(Duration::from_millis(50));
        }
        if !reading.is_finished() {
            // The table so far is better than none.
            signal(&load.0, "INT")?;
        }
        let text = reading.join().map_err(|_| "the reader of the load's output failed")??;
        let outcome = serde_json::from_str(&text).map_err(|error| format!("no result of the load: {error}"))?;
        let [memory_mb, allocated_mb] = memory.map(|kib| kib * 1024.0 / 1e6);
        Ok(Measured {
            cpu,
            load_cpu,
            listening,
            lost_by_metrics,
            table,
            scrape,
            memory_mb,
            allocated_mb,
            stop,
            outcome,
        })
    }
}

/// A running aircheck.
struct Server {
    process: Program,
    address: SocketAddr,
}

impl Server {
    fn start(programs: &Programs) -> Result<Self> {
        let mut command = Command::new(&programs.aircheck);
        command.args(["--source", "tone:440", "--listen", "127.0.0.1:0", "--max-listeners", "11000"]);
        // All come from this machine, and count until they have a stream.
        command.args(["--max-connections-per-address", "11000"]);
        let (process, address) = Program::announced(&mut command)?;
        Ok(Self { process, address })
    }

    /// Has so many listen until the stream ends.
    fn load(&self, programs: &Programs, listeners: usize) -> Result<Child> {
        let url = format!("http://{}/stream.opus", self.address);
        let (listeners, ramp) = (listeners.to_string(), format!("{RAMP}/s"));
        Ok(Command::new(&programs.ctl)
            .args(["load", &url, "--json", "--listeners", &listeners, "--ramp", &ramp])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?)
    }

    fn cpu(&self) -> Result<Duration> {
        thread_time(self.process.0.id(), |_| true).map_err(|error| format!("the server has ended: {error}").into())
    }

    /// Asks for a path. Returns the body and the time until all of it was there.
    fn get(&self, path: &str) -> Result<(String, Duration)> {
        let start = Instant::now();
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(connection, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 200") {
            return Err(format!("{path}: {}", answer.lines().next().unwrap_or("no answer")).into());
        }
        Ok((answer, start.elapsed()))
    }

    /// Returns the sum of a metric over all labels.
    fn metric(&self, name: &str) -> Result<f64> {
        let (answer, _) = self.get("/metrics")?;
        let lines = answer
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' ')));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    fn listening(&self) -> Result<usize> {
        Ok(self.metric("aircheck_listeners")? as usize)
    }

    fn check_listening(&self, listeners: usize) -> Result<()> {
        match self.listening()? {
            listening if listening == listeners => Ok(()),
            listening => Err(format!("only {listening} of {listeners} listeners have a stream").into()),
        }
    }

    /// Ends it by SIGTERM. Returns how long that took.
    fn stop(&mut self) -> Result<Duration> {
        let start = Instant::now();
        signal(&self.process.0, "TERM")?;
        while self.process.0.try_wait()?.is_none() && start.elapsed() < STOP_TIMEOUT {
            sleep(Duration::from_millis(10));
        }
        Ok(start.elapsed())
    }
}

fn signal(process: &Child, name: &str) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status()?;
    if status.success() { Ok(()) } else { Err(format!("cannot send SIG{name}").into()) }
}
