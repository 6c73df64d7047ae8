//! A listener behind a slow link: a network namespace of its own, at the other end of a wire that carries half of what
//! it should. The server says how late it is, and that the network is to blame.
//!
//! It takes the right to make a namespace, which root has, and the programs `ip` and `tc`; without them it says so, and
//! proves nothing.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/truth.rs"]
mod truth;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::Server;
use truth::numbered::{self, Format};
use truth::subject::Role;
use truth::{Scene, is_soak};

/// After this, it is clear what keeps the sound.
const CLEAR: Duration = Duration::from_millis(1500);

/// A network namespace with a wire to it, gone when dropped.
struct Namespace {
    name: String,
    near: String,
    /// The near end's address.
    address: String,
}

impl Namespace {
    /// A namespace at the far end of a wire that carries so many bytes per second; what does not work, if it can't be
    /// had here.
    fn new(bytes_per_second: usize) -> Result<Self, String> {
        let number = std::process::id();
        let (near, far) = (format!("air{number}a"), format!("air{number}b"));
        // A range for measurements between networks (RFC 2544), so nobody's own.
        let subnet = format!("198.18.{}", number % 256);
        let namespace = Self { name: format!("air{number}"), near, address: format!("{subnet}.1") };
        let name = &namespace.name;
        run("ip", &["netns", "add", name])?;
        run("ip", &["link", "add", &namespace.near, "type", "veth", "peer", "name", &far, "netns", name])?;
        run("ip", &["address", "add", &format!("{subnet}.1/30"), "dev", &namespace.near])?;
        run("ip", &["link", "set", &namespace.near, "up"])?;
        run("ip", &["-netns", name, "address", "add", &format!("{subnet}.2/30"), "dev", &far])?;
        run("ip", &["-netns", name, "link", "set", &far, "up"])?;
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
    let what = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", what()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim()))
}

#[test]
fn a_slow_link_is_told_from_a_slow_listener_and_its_lag_is_true() {
    let roles = ["skip-to-live", "drop-newest"].map(|overflow| Role {
        format: Format::Pcm,
        overflow,
        suffix: "-link",
        query: "buffer=500ms",
    });
    // Half of what both of them should get.
    let carries = roles.len() * 50 * Format::Pcm.block_bytes();
    let namespace = match Namespace::new(carries) {
        Ok(namespace) => namespace,
        Err(reason) => {
            println!("no slow link here, so nothing is proven of one: {reason}");
            return;
        }
    };
    let span = Duration::from_secs(if is_soak() { 60 } else { 8 });
    let directory = tempfile::tempdir().unwrap();
    let source = numbered::source(directory.path(), 120);
    let server = Server::start(&["--source", &source, "--listen", &format!("{}:0", namespace.address)]);
    let mut scene = Scene::new(&server, 10);
    scene.subjects = roles.iter().map(|role| role.curl_within(&namespace.name, &server, directory.path())).collect();
    let mut blamed = 0;
    scene.scrape_for(span, |_, scrape, elapsed| {
        for role in roles.iter().filter(|_| elapsed > CLEAR) {
            let row = &scrape.rows[&role.name()];
            assert!(row["fault"].is_null() || row["fault"] == "network", "{row}");
            blamed += u32::from(row["fault"] == "network");
        }
    });
    assert!(blamed > 0, "nobody was ever behind");
    for index in 0..roles.len() {
        scene.dismiss(&server, index);
    }
    scene.finish();
}
