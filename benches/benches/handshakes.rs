//! A flood of TLS handshakes, a thousand a second, and what it costs listeners.
//!
//! An aircheck with a tone and a certificate of its own (ECDSA, P-256) has 200 TLS listeners of Opus, by `aircheckctl load`,
//! which follows every position of every stream. Then other clients shake hands: 1000 are due in a second, at their moments,
//! whether the ones before are done or not. Each comes from one of 250 addresses, completes its handshake, without resumption, and
//! closes. That is done with TLS 1.3 and with TLS 1.2, for ten seconds each.
//!
//! The clients' half of each handshake runs on the same machine. Its processor time is in no figure of the server's, but if the
//! machine is too small for both, fewer are completed than were due, and the table says so.
//!
//! `make bench-handshakes` builds the programs, passes their paths in `AIRCHECK_PROGRAM` and `AIRCHECKCTL_PROGRAM`, and runs this.

#[path = "tls/mod.rs"]
mod tls;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use aircheck_benches::{Arguments, Program, Table, thread_time};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

use tls::Tls;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// As many as when ten thousand listeners come back within ten seconds, such as after a break of the line.
const PER_SECOND: u64 = 1000;
const SPAN: Duration = Duration::from_secs(10);
const QUICK_SPAN: Duration = Duration::from_secs(2);
const LISTENERS: u64 = 200;
/// The time until all listeners are there and rest.
const SETTLE: Duration = Duration::from_secs(4);
/// Clients that shake hands at a time. Most of them wait for the server.
const CLIENTS: usize = 32;
/// Addresses from which they come.
const ADDRESSES: u64 = 250;
/// The time that a handshake may take.
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let (Some(aircheck), Some(ctl)) = (std::env::var_os("AIRCHECK_PROGRAM"), std::env::var_os("AIRCHECKCTL_PROGRAM"))
    else {
        println!("handshakes: `make bench-handshakes` runs this, because it takes aircheck's programs");
        return Ok(());
    };
    let span = if Arguments::read().is_quick() { QUICK_SPAN } else { SPAN };
    let directory = tempfile::tempdir()?;
    let tls = Tls::make(directory.path())?;
    let mut command = Command::new(&aircheck);
    command.args(["--source", "tone:440", "--listen", "127.0.0.1:0"]);
    command.arg("--tls-cert").arg(&tls.certificate).arg("--tls-key").arg(&tls.key);
    let (server, address) = Program::announced(&mut command)?;
    let mut table = Table::new([
        "handshakes",
        "due in a second",
        "completed in a second",
        "failed",
        "the last one late by ms",
        "server CPU %",
        "listeners",
        "lost blocks",
        "longest pause ms",
    ]);
    for (name, versions) in [("none", None), ("TLS 1.3", Some(&TLS13)), ("TLS 1.2", Some(&TLS12))] {
        let listeners = listen(Path::new(&ctl), address, &tls, SETTLE + span + SETTLE)?;
        sleep(SETTLE);
        let time = || thread_time(server.0.id(), |_| true).map_err(|error| format!("the server has ended: {error}"));
        let (start, before) = (Instant::now(), time()?);
        let flood = match versions {
            Some(version) => Flood::run(&tls.client(&[version])?, address, span),
            None => {
                sleep(span);
                Flood::default()
            }
        };
        let (elapsed, spent) = (start.elapsed().as_secs_f64(), time()? - before);
        let healthy = outcome(listeners)?["kinds"]["healthy"].clone();
        let count = |key: &str| healthy[key].as_u64().map_or_else(|| "not known".to_owned(), |it| it.to_string());
        let pause = healthy["longest_pause_seconds"]["max"].as_f64().unwrap_or(f64::NAN);
        let due = if versions.is_some() { PER_SECOND } else { 0 };
        table.row([
            name.to_owned(),
            due.to_string(),
            format!("{:.0}", flood.completed as f64 / elapsed),
            flood.failed.to_string(),
            format!("{:.0}", 1e3 * flood.late.as_secs_f64()),
            format!("{:.1}", 100.0 * spent.as_secs_f64() / elapsed),
            count("listeners"),
            count("lost"),
            format!("{:.0}", 1e3 * pause),
        ]);
    }
    print!("{table}");
    Ok(())
}

/// What became of a flood.
#[derive(Default)]
struct Flood {
    completed: u64,
    failed: u64,
    /// How long after its moment the last one began.
    late: Duration,
}

impl Flood {
    /// Has clients shake hands, each at its moment or as soon as one of them is free.
    fn run(config: &Arc<ClientConfig>, address: SocketAddr, span: Duration) -> Self {
        let (next, completed, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let due = span.as_secs() * PER_SECOND;
        let start = Instant::now();
        let latest = thread::scope(|scope| {
            let client = || {
                let mut late = Duration::ZERO;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let moment = Duration::from_secs_f64(number as f64 / PER_SECOND as f64);
                    // A flood that the machine cannot carry ends with its span, too.
                    if number >= due || start.elapsed() >= span + TIMEOUT {
                        return late;
                    }
                    sleep(moment.saturating_sub(start.elapsed()));
                    late = start.elapsed().saturating_sub(moment);
                    let counter = if shake(config, address, number).is_ok() { &completed } else { &failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().filter_map(|client| client.join().ok()).max()
        });
        Self { completed: completed.into_inner(), failed: failed.into_inner(), late: latest.unwrap_or_default() }
    }
}

/// Connects from one of the addresses, and shakes hands.
fn shake(config: &Arc<ClientConfig>, address: SocketAddr, number: u64) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = Ipv4Addr::new(127, 0, 1, (number % ADDRESSES) as u8 + 1);
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&address.into())?;
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_nodelay(true)?;
    let mut client = ClientConnection::new(Arc::clone(config), ServerName::from(address.ip()))?;
    while client.is_handshaking() {
        client.complete_io(&mut socket)?;
    }
    client.send_close_notify();
    client.complete_io(&mut socket)?;
    Ok(())
}

/// Starts the listeners.
fn listen(ctl: &Path, address: SocketAddr, tls: &Tls, span: Duration) -> Result<Child> {
    let url = format!("https://{address}/");
    let (listeners, span) = (LISTENERS.to_string(), format!("{}ms", span.as_millis()));
    let mut command = Command::new(ctl);
    command.args(["load", &url, "--format", "opus", "--json", "--ramp", "200/s", "--listeners", &listeners]);
    command.args(["--for", &span]).arg("--cacert").arg(&tls.certificate);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
}

/// Waits for the listeners' end, and returns what they tell.
fn outcome(mut listeners: Child) -> Result<Value> {
    let outcome = serde_json::from_reader(listeners.stdout.take().ok_or("no output")?)?;
    listeners.wait()?;
    Ok(outcome)
}
