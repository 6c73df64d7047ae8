//! The server in a process of its own, and its answers.

use std::env;
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use aircheck_benches::{Cpu, Memory, request};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::time::sleep;

use crate::SERVER;
use crate::client::BLOCK;

/// So many that ticks of 10 ms show the processor time of one.
const SCRAPES: usize = 100;

/// A server in a process of its own, until this is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(wav: &Path) -> io::Result<Self> {
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

    /// Returns the processor time so far.
    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        Cpu::of(self.process.id())
    }

    pub(crate) fn memory(&self) -> io::Result<Memory> {
        Memory::of(self.process.id())
    }

    /// Returns the rows of `/api/v1/listeners`.
    pub(crate) async fn listeners(&self) -> io::Result<Vec<Value>> {
        let body = self.ask("GET", "/api/v1/listeners").await?;
        Ok(serde_json::from_str(&body)?)
    }

    pub(crate) async fn totals(&self) -> io::Result<Totals> {
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

    /// Measures reading the metrics. `cpu_share` is the share of a core that the listeners take, to be subtracted.
    pub(crate) async fn scrape(&self, cpu_share: f64) -> io::Result<Scrape> {
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

    /// Sends a request on a new connection. Returns the body of the response.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> io::Result<String> {
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

/// The cost of reading `/metrics` while the listeners run on the same machine.
pub(crate) struct Scrape {
    pub(crate) median_ms: f64,
    pub(crate) slowest_ms: f64,
    pub(crate) cpu_ms: f64,
    pub(crate) kib: f64,
}

/// Blocks of all listeners, from `/metrics`.
pub(crate) struct Totals {
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
    /// By any reason but the next.
    pub(crate) lost: u64,
    /// Queued when the listener went.
    pub(crate) left: u64,
}
