//! Listeners by `aircheckctl load`, and the server's account while they listen.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aircheck_benches::thread_time;
use serde_json::Value;

use crate::Result;
use crate::ear::Ear;
use crate::server::Server;

/// Time for connections to settle after the last has come, and before the first goes.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);
/// The time that one listener is alone: longer than a loop of the sound, so that it hears a mark, and than the history of 10 s that an
/// encoder keeps, so that the memory that this takes is not counted as the listeners'.
const ALONE: Duration = Duration::from_secs(12);
/// How long all listeners may take to come, but for those that come at the least rate.
const RAMP_SECONDS: f64 = 5.0;
/// Fewest listeners that come in a second.
const MIN_RAMP: f64 = 200.0;
/// The share of listeners that may stay without a stream. Icecast keeps some waiting for longer than 10 s.
const MAX_WITHOUT_STREAM: f64 = 0.05;

/// The figures of one run. Times are in seconds, processor times are shares of a core.
#[derive(Clone, Debug)]
pub(crate) struct Listened {
    /// Listeners without a stream.
    pub(crate) missing: u64,
    /// Of all listeners together, beyond that with one: what delivery takes.
    pub(crate) delivery_cpu: f64,
    /// With one listener: capturing, encoding and metering.
    pub(crate) own_cpu: f64,
    pub(crate) load_cpu: f64,
    pub(crate) kib_per_listener: f64,
    pub(crate) first_byte_p50: f64,
    pub(crate) first_byte_p99: f64,
    /// The longest pause between two reads of any listener.
    pub(crate) longest_pause: f64,
    /// The median and the highest age of a page's oldest sound, when all of the page is there.
    pub(crate) ages: Option<[f64; 2]>,
    pub(crate) lost: Lost,
}

/// What did not come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lost {
    /// Blocks by their positions.
    Blocks(u64),
    /// Pages by the floor's own count.
    Pages(u64),
    /// Icecast tells none.
    Unknown,
}

/// What `aircheckctl load` takes.
pub(crate) struct Load<'a> {
    /// The program.
    pub(crate) ctl: &'a Path,
    /// The stream.
    pub(crate) url: &'a str,
    /// The certificate that it trusts.
    pub(crate) trusted: &'a Path,
}

/// Has `listeners` listen, besides the ear, which is alone before. `mark` is when a mark of the sound was captured.
pub(crate) fn measure(
    load: &Load<'_>,
    server: &Server,
    ear: &Ear,
    mark: f64,
    listeners: usize,
    window: Duration,
) -> Result<Listened> {
    let share =
        |since: Duration, now: Duration, start: Instant| (now - since).as_secs_f64() / start.elapsed().as_secs_f64();
    let (start, cpu) = (Instant::now(), server.cpu()?);
    sleep(ALONE);
    let own_cpu = share(cpu, server.cpu()?, start);
    let kib_with_one = server.anon_kib()?;

    let (rate, ramp) = Load::ramp(listeners);
    let mut all = load.command(listeners, rate, SETTLE + window + SETTLE).spawn()?;
    let load_time = |pid| thread_time(pid, |_| true).map_err(|error| format!("aircheckctl load has ended: {error}"));
    sleep(ramp + SETTLE);
    let (start, cpu, load_cpu) = (Instant::now(), server.cpu()?, load_time(all.id())?);
    sleep(window);
    let delivery_cpu = share(cpu, server.cpu()?, start) - own_cpu;
    let load_cpu = share(load_cpu, load_time(all.id())?, start);
    let kib = server.anon_kib()? - kib_with_one;
    let ages = ear.ages(mark, start);
    let Streams { count: streams, outcome } = Streams::of(&mut all, listeners)?;
    let healthy = &outcome["kinds"]["healthy"];
    let seconds = |measure: &str, name: &str| healthy[measure][name].as_f64().unwrap_or(f64::NAN);
    // As if all had one.
    let delivery_cpu = delivery_cpu * listeners as f64 / streams as f64;
    Ok(Listened {
        missing: (listeners as u64).saturating_sub(streams),
        delivery_cpu,
        own_cpu,
        load_cpu,
        kib_per_listener: kib / streams as f64,
        first_byte_p50: seconds("first_byte_seconds", "p50"),
        first_byte_p99: seconds("first_byte_seconds", "p99"),
        longest_pause: seconds("longest_pause_seconds", "max"),
        ages,
        lost: match (server.short_pages()?, healthy["blocks"].is_null(), healthy["lost"].as_u64()) {
            (Some(pages), ..) => Lost::Pages(pages),
            (None, false, Some(blocks)) => Lost::Blocks(blocks),
            _ => Lost::Unknown,
        },
    })
}

/// The end of a load.
pub(crate) struct Streams {
    /// Listeners that had a stream.
    pub(crate) count: u64,
    /// What the program says.
    pub(crate) outcome: Value,
}

impl Streams {
    /// Waits for the end of a load of so many listeners. Fails if too many had no stream.
    pub(crate) fn of(load: &mut Child, listeners: usize) -> Result<Self> {
        let outcome: Value = serde_json::from_reader(load.stdout.take().ok_or("no output")?)?;
        load.wait()?;
        let healthy = &outcome["kinds"]["healthy"];
        let number = |name: &str| healthy[name].as_u64().unwrap_or(0);
        let count = number("listeners").saturating_sub(number("broken"));
        let missing = (listeners as u64).saturating_sub(count);
        if missing as f64 > MAX_WITHOUT_STREAM * listeners as f64 {
            return Err(format!("{missing} of {listeners} had no stream: {}", outcome["verdict"]["text"]).into());
        }
        Ok(Self { count, outcome })
    }
}

impl Load<'_> {
    /// Returns how many listeners come in a second, and until when all have come.
    pub(crate) fn ramp(listeners: usize) -> (f64, Duration) {
        let rate = (listeners as f64 / RAMP_SECONDS).max(MIN_RAMP);
        (rate, Duration::from_secs_f64(listeners as f64 / rate))
    }

    pub(crate) fn command(&self, listeners: usize, rate: f64, span: Duration) -> Command {
        let mut command = Command::new(self.ctl);
        command.args(["load", self.url, "--json", "--ramp", &format!("{rate}/s")]);
        command.args(["--listeners", &listeners.to_string(), "--for", &format!("{}ms", span.as_millis())]);
        command.arg("--cacert").arg(self.trusted);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}
