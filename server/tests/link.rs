//! Listeners behind slow links: each in a network namespace at the other end of a wire that carries half of what it should
//! get. The server reports their true lag, and the network as its cause.
//!
//! Without the right to make a namespace, which root has, the test is skipped and says so; under CI it fails.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/truth.rs"]
mod truth;

use std::time::Duration;

use common::{Server, command_with_priority};
use namespace::{Namespace, or_skip};
use truth::numbered::{self, Format};
use truth::slow_listener::Role;
use truth::{LagCheck, is_soak};

/// After this long the server is sure of the cause.
const CLEAR: Duration = Duration::from_millis(1500);

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
    let wires: Result<Vec<_>, _> = (0..roles.len()).map(|index| Namespace::with_rate(index, carries)).collect();
    let Some(wires) = or_skip(wires) else { return };
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
