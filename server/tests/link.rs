//! Listeners behind slow links: each in a network namespace at the other end of a wire that carries half of what it should
//! get. The server reports their true lag, and the network as its cause.
//!
//! The test needs the right to make a namespace, which root has, and the programs `ip` and `tc`. Without them it is
//! skipped, and says so; under CI, where the variable `CI` is set, it fails.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/truth.rs"]
mod truth;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Server, command_with_priority};
use truth::numbered::{self, Format};
use truth::slow_listener::Role;
use truth::{LagCheck, is_soak};

/// After this long the server is sure of the cause.
const CLEAR: Duration = Duration::from_millis(1500);

/// A network namespace with a wire to it, gone when dropped.
struct Namespace {
    name: String,
    near: String,
    /// The near end's address.
    address: String,
}

impl Namespace {
    /// Makes a namespace at the far end of a wire that carries `bytes_per_second`; the error says what does not work.
    /// `index` tells it from the others of this process.
    fn new(index: usize, bytes_per_second: usize) -> Result<Self, String> {
        let number = std::process::id();
        let (near, far) = (format!("air{number}a{index}"), format!("air{number}b{index}"));
        // From the range for measurements between networks (RFC 2544), which no network uses.
        let address = |host: usize| format!("198.18.{}.{}", number % 256, 4 * index + host);
        let namespace = Self { name: format!("air{number}n{index}"), near, address: address(1) };
        let name = &namespace.name;
        run("ip", &["netns", "add", name])?;
        run("ip", &["link", "add", &namespace.near, "type", "veth", "peer", "name", &far, "netns", name])?;
        run("ip", &["address", "add", &format!("{}/30", address(1)), "dev", &namespace.near])?;
        run("ip", &["link", "set", &namespace.near, "up"])?;
        run("ip", &["-netns", name, "address", "add", &format!("{}/30", address(2)), "dev", &far])?;
        run("ip", &["-netns", name, "link", "set", &far, "up"])?;
        // The server's address may be that of another wire.
        run("ip", &["-netns", name, "route", "add", "default", "via", &address(1)])?;
        let rate = format!("{}bit", bytes_per_second * 8);
        // A bucket of two large packets, and a queue in which none is dropped: TCP would answer that with its own speed.
        run(
            "tc",
            &["qdisc", "add", "dev", &namespace.near, "root", "tbf", "rate", &rate, "burst", "4kb", "limit", "1mb"],
        )?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The wire goes with either of its ends.
        let _ = run("ip", &["link", "delete", &self.near]);
        let _ = run("ip", &["netns", "delete", &self.name]);
    }
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

#[test]
fn the_fault_of_a_slow_link_is_the_network_and_its_lag_is_true() {
    let roles = ["skip-to-live", "drop-newest"].map(|overflow| Role {
        format: Format::Pcm,
        overflow,
        suffix: "-link",
        query: "buffer=500ms",
    });
    // Each has a wire of its own, for half of what it should get. On a common one, the packets of one would wait behind a
    // long burst of the other, and with them the acknowledgements that tell what the listener has read.
    let carries = 50 * Format::Pcm.block_bytes();
    let wires: Result<Vec<_>, _> = (0..roles.len()).map(|index| Namespace::new(index, carries)).collect();
    let wires = match wires {
        Ok(wires) => wires,
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI must be able to make a slow link: {reason}");
            // Not by `println!`, which shows nothing of a test that passes.
            writeln!(std::io::stderr(), "skipped: no slow link can be made here: {reason}").unwrap();
            return;
        }
    };
    let span = Duration::from_secs(if is_soak() { 60 } else { 8 });
    let directory = tempfile::tempdir().unwrap();
    let source = numbered::source(directory.path(), 120);
    // Server and listeners run ahead of other programs, so that nothing but the link is slow, also on a loaded machine.
    let flags = ["--source", &source, "--listen", &format!("{}:0", wires[0].address)];
    let server = Server::launch(command_with_priority(), &flags, |command| command);
    let mut check = LagCheck::new(&server, 10);
    let begin = |(role, wire): (&Role, &Namespace)| role.curl_within(&wire.name, &server, directory.path());
    check.slow = roles.iter().zip(&wires).map(begin).collect();
    let mut network_faults = 0;
    check.scrape_for(span, |_, scrape, elapsed| {
        for role in roles.iter().filter(|_| elapsed > CLEAR) {
            let row = &scrape.rows[&role.name()];
            assert!(row["fault"].is_null() || row["fault"] == "network", "{row}");
            network_faults += u32::from(row["fault"] == "network");
        }
    });
    assert!(network_faults > 0, "no listener was ever behind");
    for index in 0..roles.len() {
        check.disconnect(&server, index);
    }
    check.finish();
}
