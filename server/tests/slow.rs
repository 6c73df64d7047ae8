//! A listener that stands still shows up with the lag it has, comes back live, and takes nothing from the others.

mod common;

use std::time::{Duration, Instant};

use common::{Listener, Server, assert_identity, eventually, signal};

#[test]
fn a_frozen_listener_lags_is_counted_and_comes_back_live() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let frozen = Listener::start(&server.url("stream.wav?name=frozen"), &directory.path().join("frozen"));
    let healthy = Listener::start(&server.url("stream.wav?name=healthy"), &directory.path().join("healthy"));
    for name in ["frozen", "healthy"] {
        server.row_when(name, |row| row["delivered"].as_u64().unwrap() > 20);
    }

    signal(frozen.pid(), "STOP");
    let stopped_at = Instant::now();
    let mut most = 0.0_f64;
    while stopped_at.elapsed() < Duration::from_secs(5) {
        for row in server.rows() {
            assert_identity(&row);
            if row["name"] == "frozen" {
                let lag = row["lag_seconds"].as_f64().unwrap();
                // It has received at least what it had when it was stopped; nothing can be later than that.
                assert!(lag <= stopped_at.elapsed().as_secs_f64() + 1.0, "{row}");
                most = most.max(lag);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // What the listener's own kernel has taken in is out of the server's sight: up to some 200 KB, 2 s of this tone.
    assert!(most > 2.0, "5 s of standing still showed as {most} s of lag");
    signal(frozen.pid(), "CONT");

    let row = server
        .row_when("frozen", |row| row["lag_seconds"].as_f64().unwrap() < 0.2 && row["gaps"].as_u64().unwrap() > 0);
    assert_identity(&row);
    assert!(row["lost"].as_u64().unwrap() > 0, "{row}");
    assert_eq!(row["gaps"], 1, "one gap, then live: {row}");

    // Blocks lost at the capture, on a machine too busy for real time, are lost for everybody and not its fault.
    let captured: u64 = {
        let status = server.json("api/v1/status");
        status["capture"]["lost_overflow"].as_u64().unwrap()
    };
    let row = server.row_when("healthy", |_| true);
    assert_identity(&row);
    assert!(row["lost"].as_u64().unwrap() <= captured, "the healthy one lost on its own: {row}");
    drop(healthy);
    drop(frozen);
    eventually("an empty table", || server.rows().is_empty().then_some(()));
    let metrics = server.text("metrics");
    assert!(!metrics.contains("aircheck_listener_lag_seconds{"), "its series is gone with the listener");
}
