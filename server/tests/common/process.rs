//! What a process uses, as the system counts it.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Ticks of a second in `/proc`. All of Linux's architectures have this many.
const TICKS: f64 = 100.0;

/// Returns the processor time that a process has used.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the process comes before the last parenthesis, and may contain anything.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

/// Returns which part of a core a process takes during `span`.
pub(crate) fn load(pid: u32, span: Duration) -> f64 {
    let (before, start) = (cpu_seconds(pid), Instant::now());
    std::thread::sleep(span);
    (cpu_seconds(pid) - before) / start.elapsed().as_secs_f64()
}

/// Returns the memory of a process that is in RAM.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Returns how many descriptors a process has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Lets this process have as many files as the system allows.
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
