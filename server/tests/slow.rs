//! A frozen listener has the lag that its own file proves, comes back live, and takes nothing from the others.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::time::Instant;

use common::{Listener, Server, assert_identity, eventually, signal};
use serde_json::Value;

/// Of `tone:440` as WAV: 10 ms at 48 kHz, mono, 16 bits.
const BLOCK_BYTES: u64 = 960;
const BLOCK_SECONDS: f64 = 0.01;
const WAV_HEADER_BYTES: u64 = 44;
/// How far a reported lag may be from the true one: two blocks that were read or not, and 20 ms.
const TOLERANCE_BLOCKS: f64 = 4.0;
/// How many blocks long the listener stands still: 5 s.
const STALL_BLOCKS: u64 = 500;
/// After how many its lag is known to that: 1 s. Before, it is not too large; two of its acknowledgements must be late, and the machine may
/// hold the server up that waits for them.
const KNOWN_BLOCKS: u64 = 100;

/// One past the number of the newest block.
fn head(server: &Server) -> u64 {
    server.json("api/v1/status")["head_sequence"].as_u64().unwrap() + 1
}

#[test]
fn a_frozen_listener_has_the_lag_that_its_file_proves_and_comes_back_live() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let file = directory.path().join("frozen");
    // From the first block on, so that the length of its file says which one it read last.
    let frozen = Listener::start(&server.url("stream.wav?name=frozen&from=0"), &file);
    let healthy = Listener::start(&server.url("stream.wav?name=healthy"), &directory.path().join("healthy"));
    for name in ["frozen", "healthy"] {
        server.row_when(name, |row| row["delivered"].as_u64().unwrap() > 20);
    }
    server.row_when("frozen", |row| row["lag_seconds"].as_f64().unwrap() < 0.1);

    signal(frozen.pid(), "STOP");
    let stopped_at = head(&server);
    let read = (std::fs::metadata(&file).unwrap().len() - WAV_HEADER_BYTES) / BLOCK_BYTES;
    assert!(read > 20 && read <= stopped_at, "{read} blocks read of {stopped_at}");
    let mut before = stopped_at;
    while before < stopped_at + STALL_BLOCKS {
        before = head(&server);
        let rows = server.rows();
        let after = head(&server);
        rows.iter().for_each(assert_identity);
        let row = rows.iter().find(|row| row["name"] == "frozen").unwrap();
        let lag = row["lag_seconds"].as_f64().unwrap() / BLOCK_SECONDS;
        let is_known = before >= stopped_at + KNOWN_BLOCKS;
        let least = if is_known { (before - read) as f64 - TOLERANCE_BLOCKS } else { 0.0 };
        let most = (after - read) as f64 + TOLERANCE_BLOCKS;
        assert!((least..=most).contains(&lag), "a lag of {lag} blocks, not {least} to {most}: {row}");
        // What is true lies between the bounds all the time.
        let [at_least, at_most] =
            ["least", "most"].map(|end| row[format!("lag_at_{end}_seconds")].as_f64().unwrap() / BLOCK_SECONDS);
        let due = (before - read) as f64 - TOLERANCE_BLOCKS;
        assert!(at_least <= most && at_most >= due, "{due} to {most} blocks are true of {row}");
    }
    signal(frozen.pid(), "CONT");

    let row = server
        .row_when("frozen", |row| row["lag_seconds"].as_f64().unwrap() < 0.2 && row["gaps"].as_u64().unwrap() > 0);
    assert_identity(&row);
    assert!(row["lost"].as_u64().unwrap() > 0, "{row}");
    assert_eq!(row["gaps"], 1, "one gap, then live: {row}");

    // Blocks lost at the capture, on a machine too busy for real time, are lost for every listener.
    let captured = server.json("api/v1/status")["capture"]["lost_overflow"].as_u64().unwrap();
    let row = server.row_when("healthy", |_| true);
    assert_identity(&row);
    assert!(row["lost"].as_u64().unwrap() <= captured, "the healthy listener lost blocks of its own: {row}");
    drop(healthy);
    drop(frozen);
    eventually("an empty table", || server.rows().is_empty().then_some(()));
    let metrics = server.text("metrics");
    assert!(!metrics.contains("aircheck_listener_lag_seconds{"), "its series is gone with the listener");
}

/// Bounds that are further apart are told. A listener that reads is tested once a second, with pages of 100 ms.
const APART_SECONDS: f64 = 1.5;

#[test]
fn a_row_tells_in_words_whether_its_listener_reads_and_what_it_will_hear_late() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let newest = || server.json("api/v1/status")["head_sequence"].as_u64();
    eventually("two seconds of sound", || (newest() > Some(200)).then_some(()));
    let started_at = Instant::now();
    let listener = Listener::start(&server.url("stream.opus?name=player"), &directory.path().join("player"));
    let number = |row: &Value, field: &str| row[field].as_f64().unwrap_or_else(|| panic!("{field} in {row}"));
    let reads = |row: &Value| row["state"] == "reads" && row["latency_seconds"]["read"]["p50"].is_number();
    // It can't be further behind than the block that it started with, however long the server has run.
    let row = server.row_when("player", |row| row["delivered"].as_u64() > Some(0));
    assert!(number(&row, "lag_at_most_seconds") < started_at.elapsed().as_secs_f64() + 0.2, "{row}");
    let row = server.row_when("player", reads);
    assert!(number(&row, "lag_at_most_seconds") - number(&row, "lag_at_least_seconds") <= APART_SECONDS, "{row}");
    assert_eq!((number(&row, "stale_seconds"), &row["verdict"]), (0.0, &Value::from("ok")), "{row}");
    // From capture to the acknowledgement of a page, on a machine that may be busy.
    let read = number(&row["latency_seconds"]["read"], "p50");
    assert!((0.000_1..1.0).contains(&read), "{row}");

    signal(listener.pid(), "STOP");
    let row = server.row_when("player", |row| number(row, "lag_seconds") > 6.0);
    let state = row["state"].as_str().unwrap();
    assert!(state.starts_with("has ") && state.contains("not read for "), "{row}");
    let seconds: f64 = state.split(' ').rev().nth(1).unwrap().parse().unwrap();
    let (lag, stale) = (number(&row, "lag_seconds"), number(&row, "stale_seconds"));
    assert!((lag - 2.0..=lag).contains(&seconds), "{row}");
    assert!((lag - 1.0..=lag).contains(&stale), "everything is in its machine: {row}");
    assert!(number(&row, "lag_at_least_seconds") <= lag && lag <= number(&row, "lag_at_most_seconds"), "{row}");
    let metrics = server.text("metrics");
    for bound in ["least", "most"] {
        assert!(
            metrics.contains(&format!("aircheck_listener_lag_at_{bound}_seconds{{mount=\"main\",listener=\"1\"")),
            "{metrics}"
        );
    }

    signal(listener.pid(), "CONT");
    let row = server.row_when("player", reads);
    assert_eq!(number(&row, "stale_seconds"), 0.0, "{row}");
}

#[test]
fn what_can_at_most_be_unread_is_no_latency() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--source", "tone:440"]);
    let _listener = Listener::start(&server.url("stream.wav?name=samples"), &directory.path().join("samples"));
    // Its packets are no tests, so that acknowledgements bound what it may hold, and prove nothing of a block.
    let row = server.row_when("samples", |row| {
        row["delivered"].as_u64() > Some(350) && row["lag_at_most_seconds"].as_f64() < Some(2.5)
    });
    let read = row["latency_seconds"]["read"]["p50"].as_f64();
    assert!(read.is_none_or(|read| read < 1.0), "{row}");
}
