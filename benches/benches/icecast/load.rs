//! Listeners by `aircheckctl load`, and the server's account while they listen.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aircheck_benches::thread_time;
use serde_json::Value;

use crate::Result;
use crate::server::Server;

/// Time for connections to settle after the last has come, and before the first goes.
const SETTLE: Duration = Duration::from_secs(2);
/// The time that one listener is alone.
const ALONE: Duration = Duration::from_secs(3);
/// Listeners that come in a second.
const RAMP: f64 = 200.0;

/// The figures of one case. Times are in seconds, processor times are shares of a core.
#[derive(Clone, Debug)]
pub(crate) struct Listened {
    pub(crate) server_cpu: f64,
    /// With one listener.
    pub(crate) server_cpu_with_one: f64,
    pub(crate) load_cpu: f64,
    pub(crate) kib_per_listener: f64,
    pub(crate) first_byte_p50: f64,
    pub(crate) first_byte_max: f64,
    /// `None` where no listener waited for longer than `aircheckctl load` calls a stall.
    pub(crate) worst_stall: Option<f64>,
    pub(crate) lost: String,
}

/// Has one listener, and then `listeners`, listen at `url`.
pub(crate) fn measure(ctl: &Path, server: &Server, url: &str, listeners: usize, window: Duration) -> Result<Listened> {
    let share =
        |since: Duration, now: Duration, start: Instant| (now - since).as_secs_f64() / start.elapsed().as_secs_f64();
    let mut one = load(ctl, url, 1, SETTLE + ALONE + SETTLE).spawn()?;
    sleep(SETTLE);
    let (start, cpu) = (Instant::now(), server.cpu()?);
    sleep(ALONE);
    let server_cpu_with_one = share(cpu, server.cpu()?, start);
    let kib_with_one = server.anon_kib()?;
    one.wait()?;

    let ramp = Duration::from_secs_f64(listeners as f64 / RAMP);
    let mut all = load(ctl, url, listeners, ramp + SETTLE + window + SETTLE).stdout(Stdio::piped()).spawn()?;
    let load_time = |pid| thread_time(pid, |_| true).map_err(|error| format!("aircheckctl load has ended: {error}"));
    sleep(ramp + SETTLE);
    let (start, cpu, load_cpu) = (Instant::now(), server.cpu()?, load_time(all.id())?);
    sleep(window);
    let server_cpu = share(cpu, server.cpu()?, start);
    let load_cpu = share(load_cpu, load_time(all.id())?, start);
    let kib_per_listener = (server.anon_kib()? - kib_with_one) / (listeners - 1).max(1) as f64;
    let outcome: Value = serde_json::from_reader(all.stdout.take().ok_or("no output")?)?;
    all.wait()?;

    let healthy = &outcome["kinds"]["healthy"];
    let first_byte = |name: &str| healthy["first_byte_seconds"][name].as_f64().unwrap_or(f64::NAN);
    if healthy["listeners"].as_u64() != Some(listeners as u64) || healthy["failed"].as_u64() != Some(0) {
        return Err(format!("not all listeners had a stream: {outcome}").into());
    }
    Ok(Listened {
        server_cpu,
        server_cpu_with_one,
        load_cpu,
        kib_per_listener,
        first_byte_p50: first_byte("p50"),
        first_byte_max: first_byte("max"),
        worst_stall: healthy["worst_stall_seconds"].as_f64(),
        lost: lost(healthy, server.short_pages()?),
    })
}

/// Returns the losses in words: by sequence numbers, or by the floor's own count. Icecast's are not known.
fn lost(healthy: &Value, short_pages: Option<u64>) -> String {
    match (&healthy["lost"], &healthy["blocks"], short_pages) {
        (_, _, Some(pages)) => format!("{pages} pages"),
        (Value::Number(lost), Value::Number(blocks), None) => format!("{lost} of {blocks}"),
        _ => "not known".to_owned(),
    }
}

fn load(ctl: &Path, url: &str, listeners: usize, span: Duration) -> Command {
    let mut command = Command::new(ctl);
    command.args(["load", url, "--json", "--ramp", &format!("{RAMP}/s")]);
    command.args(["--listeners", &listeners.to_string(), "--for", &format!("{}ms", span.as_millis())]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
