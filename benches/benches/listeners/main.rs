//! 200 listeners of `/stream.wav` at the live pace on loopback: their losses, and the server's CPU and memory.
//!
//! The server is the library's own `run`, in a process of its own (this program again, with [`SERVER`] set), so that
//! the system's account of the process is of the server alone. It plays a 48 kHz stereo WAV in a loop. Its settings are
//! the defaults, but for the history, which all listeners share: one second instead of ten, so that it is full before
//! anything is measured. The listeners are connections of this process, of hyper, all on one thread, which count the bytes
//! that they receive. After the window each is ended by `DELETE`, so that the server's final account, from `/metrics`,
//! must match the received bytes exactly.
//!
//! CPU is `utime + stime` of `/proc/PID/stat`, in ticks of 10 ms, over the window alone. Memory is `/proc/PID/status`;
//! `RssAnon` is compared, because the system takes the program's own pages (the rest of `VmRSS`) away and reads them
//! again. Socket buffers are the kernel's and in neither. A second server with 1000 listeners makes the memory of one
//! listener precise; they may be too many for the machine, which does not matter for that figure.
//!
//! `AIRCHECK_BENCH_SECONDS` sets the window (10); `-- 200` measures only that number of listeners; `-- --quick` measures
//! 20 for a second.

mod client;
mod measured;
mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, io, iter};

use aircheck_benches::{Arguments, Table, WAV_RATE_HZ, open_files, write_wav};
use aircheck_server::app::run;
use aircheck_server::config::{Config, SourceSpec};
use tokio::time::sleep;

use client::listen;
use measured::{Cell, Measured};
use server::Server;

/// The environment variable that makes this program the server; its value is the path of the WAV file.
const SERVER: &str = "AIRCHECK_BENCH_SERVER";
const HISTORY: Duration = Duration::from_secs(1);
/// Time for a server to fill its history, or for listeners to use their rings and buffers once.
const SETTLE: Duration = Duration::from_secs(2);
const LISTENERS: usize = 200;
const MANY_LISTENERS: usize = 1000;
/// The number of listeners of a short run.
const QUICK_LISTENERS: usize = 20;
/// Files that either process has open besides the listeners' sockets.
const OTHER_FILES: usize = 100;

fn main() -> io::Result<()> {
    if let Some(wav) = env::var_os(SERVER) {
        return serve(wav.into());
    }
    let arguments = Arguments::read();
    let seconds = env::var("AIRCHECK_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let window = seconds.unwrap_or(10.0);
    let phases = if arguments.is_quick() {
        vec![(QUICK_LISTENERS, 1.0)]
    } else {
        vec![(LISTENERS, window), (MANY_LISTENERS, window / 2.0)]
    };
    let max_listeners = open_files()?.saturating_sub(OTHER_FILES);
    let mut phases = arguments.choose(phases, |(listeners, _)| listeners.to_string());
    phases.retain(|(listeners, _)| {
        let fits = *listeners <= max_listeners;
        if !fits {
            println!("{listeners} listeners were left out, because `ulimit -n` is too low");
        }
        fits
    });
    if phases.is_empty() {
        return Ok(());
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
    let mut table = Table::new(["measure", "", "target", "", "target"]);
    for (row, label) in Measured::LABELS.into_iter().enumerate() {
        let cells = results.iter().flat_map(|cells| cells[row].clone());
        table.row(iter::once(label.to_owned()).chain(cells));
    }
    println!("{table}");
    Ok(())
}

/// Runs the server until it is killed.
fn serve(wav: PathBuf) -> io::Result<()> {
    let mut config = Config::default();
    config.mounts[0].capture.source = SourceSpec::Wav(wav);
    config.mounts[0].capture.looped = true;
    config.mounts[0].capture.history = HISTORY;
    config.http.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()];
    config.http.max_listeners = MANY_LISTENERS;
    // All listeners come from this machine.
    config.http.max_connections_per_address = 2 * MANY_LISTENERS;
    run(config, None).map_err(io::Error::other)
}

/// Measures one server with so many listeners, from its start to its end.
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
    // A connection ends before its listener leaves the list, and only then is memory given back.
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

/// A tone, of another pitch on each side.
fn tone(frame: u32, channel: u16) -> f64 {
    let hz = if channel == 0 { 440.0 } else { 660.0 };
    0.25 * (std::f64::consts::TAU * hz * f64::from(frame) / f64::from(WAV_RATE_HZ)).sin()
}
