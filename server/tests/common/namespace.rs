//! A network namespace at the far end of a wire of its own. To make one takes the rights of root, and the programs `ip` and `tc`.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part of this")]

pub(crate) mod relay;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with a wire to it, gone when dropped.
pub(crate) struct Namespace {
    pub(crate) name: String,
    near: String,
    far: String,
    /// The near end's address.
    pub(crate) address: String,
    /// The far end's address.
    pub(crate) far_address: String,
}

impl Namespace {
    /// Makes a namespace at the far end of a wire; the error says what does not work. `index` tells it from the others of this
    /// process.
    pub(crate) fn new(index: usize) -> Result<Self, String> {
        let namespace = Self::unconnected(index)?;
        namespace.connect()?;
        namespace.set_addresses()?;
        Ok(namespace)
    }

    /// Makes another wire to the same namespace. Both are needed until the end.
    pub(crate) fn second_wire(&self, index: usize) -> Result<Self, String> {
        let wire = Self::named(index, self.name.clone());
        wire.connect()?;
        wire.set_up()?;
        Ok(wire)
    }

    /// Makes the namespace, without its wire.
    fn unconnected(index: usize) -> Result<Self, String> {
        let namespace = Self::named(index, format!("air{}n{index}", std::process::id()));
        run("ip", &["netns", "add", &namespace.name])?;
        Ok(namespace)
    }

    fn named(index: usize, name: String) -> Self {
        let number = std::process::id();
        let (near, far) = (format!("air{number}a{index}"), format!("air{number}b{index}"));
        // From the range for measurements between networks (RFC 2544), which no network uses.
        let network = format!("198.18.{}", number % 256);
        let address = |host: usize| format!("{network}.{}", 4 * index + host);
        Self { name, near, far, address: address(1), far_address: address(2) }
    }

    fn connect(&self) -> Result<(), String> {
        let (name, near, far) = (&self.name, &self.near, &self.far);
        run("ip", &["link", "add", near, "type", "veth", "peer", "name", far, "netns", name])
    }

    /// Gives both ends of the wire their addresses, and takes them up.
    fn set_addresses(&self) -> Result<(), String> {
        self.set_up()?;
        // The server's address may be that of another wire.
        run("ip", &["-netns", &self.name, "route", "add", "default", "via", &self.address])
    }

    fn set_up(&self) -> Result<(), String> {
        let network = |address: &str| format!("{address}/30");
        let (name, near, far) = (&self.name, &self.near, &self.far);
        run("ip", &["address", "add", &network(&self.address), "dev", near])?;
        run("ip", &["link", "set", near, "up"])?;
        run("ip", &["-netns", name, "address", "add", &network(&self.far_address), "dev", far])?;
        self.set_link("up")
    }

    /// Makes a namespace whose wire carries `bytes_per_second`.
    pub(crate) fn with_rate(index: usize, bytes_per_second: usize) -> Result<Self, String> {
        let namespace = Self::new(index)?;
        let rate = format!("{}bit", bytes_per_second * 8);
        // A bucket of two large packets, and a queue in which none is dropped: TCP would answer that with its own speed.
        let shape = ["root", "tbf", "rate", &rate, "burst", "4kb", "limit", "1mb"];
        run("tc", &[&["qdisc", "add", "dev", &namespace.near], &shape[..]].concat())?;
        Ok(namespace)
    }

    /// Takes the far end of the wire `up` or `down`.
    pub(crate) fn set_link(&self, state: &str) -> Result<(), String> {
        run("ip", &["-netns", &self.name, "link", "set", &self.far, state])
    }

    /// Limits what the wire carries from the namespace, in bytes a second, or lifts the limit.
    pub(crate) fn limit_from_far(&self, bytes_per_second: Option<usize>) -> Result<(), String> {
        limit(&["-netns", &self.name], &self.far, bytes_per_second)
    }

    /// Limits what it carries to the namespace.
    pub(crate) fn limit_to_far(&self, bytes_per_second: Option<usize>) -> Result<(), String> {
        limit(&[], &self.near, bytes_per_second)
    }

    /// Runs a program inside the namespace.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["netns", "exec", &self.name], arguments].concat())
    }

    /// Does something on a thread inside the namespace. Sockets that it opens stay there.
    pub(crate) fn inside<R: Send>(&self, act: impl FnOnce() -> R + Send) -> Result<R, String> {
        let enter = || {
            let namespace = File::open(format!("/run/netns/{}", self.name))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(std::io::Error::from)
        };
        let entered = || enter().map(|()| act()).map_err(|error| format!("{}: {error}", self.name));
        thread::scope(|scope| scope.spawn(entered).join()).map_err(|_| "it panicked".to_owned())?
    }

    /// Returns a command that reads `url` inside the namespace and writes what it receives to `file`.
    pub(crate) fn curl(&self, url: &str, file: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "curl", "--silent", "--no-buffer", "--output"]).arg(file).arg(url);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The wire goes with either of its ends.
        let _ = run("ip", &["link", "delete", &self.near]);
        let _ = run("ip", &["netns", "delete", &self.name]);
    }
}

/// Returns what was made. Without it, says that the test is skipped and why; under CI, where the variable `CI` is set, fails.
pub(crate) fn or_skip<T>(made: Result<T, String>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI must be able to make a network namespace: {reason}");
            // Not by `println!`, which shows nothing of a test that passes.
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "skipped: no network namespace can be made here: {reason}");
            None
        }
    }
}

fn limit(namespace: &[&str], device: &str, bytes_per_second: Option<usize>) -> Result<(), String> {
    let rate = bytes_per_second.map(|bytes| format!("{}bit", bytes * 8));
    let (action, shape) = match &rate {
        Some(rate) => ("add", &["tbf", "rate", rate, "burst", "4kb", "limit", "64kb"][..]),
        None => ("delete", &[][..]),
    };
    run("tc", &[namespace, &["qdisc", action, "dev", device, "root"], shape].concat())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let command = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", command()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", command(), String::from_utf8_lossy(&output.stderr).trim()))
}
