//! `aircheckctl load` against the real `aircheck`, over TCP: both count the same, losses of healthy listeners are told
//! apart from those of others, and a failure is one line.

mod aircheck;

use std::process::Command;
use std::time::Duration;

use aircheck::{Ended, Listening, Server, number, signal};
use serde_json::Value;

fn load(arguments: &[&str]) -> Listening {
    Listening::command("load", arguments)
}

/// Returns the object that `--json` prints; it must be all of stdout.
fn object(ended: &Ended) -> Value {
    serde_json::from_str(&ended.summary).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn assert_code(ended: &Ended, code: i32, words: &str) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let said = format!("{}{}", ended.summary, ended.notices);
    assert!(said.contains(words), "it should say {words:?}: {ended:?}");
}

/// All blocks that the server counts as delivered came. A block that is written at the moment in which its listener
/// leaves may come and not be counted: one for each listener that left.
fn assert_as_many(came: u64, delivered: u64, left: u64) {
    assert!((delivered..=delivered + left).contains(&came), "{came} came, {delivered} were delivered");
}

/// Checks a format with fifty listeners: the blocks that came are those that the server delivered.
fn fifty(format: &str, label: &str) -> Value {
    let server = Server::start(&["--source", "tone:440"]);
    let arguments =
        [&server.url(""), "--format", format, "--listeners", "50", "--ramp", "500/s", "--for", "2s", "--json"];
    let ended = load(&arguments).finish();
    let object = object(&ended);
    // A machine that stands still makes listeners lose, and that is told; then the rest of the figures still add up.
    let healthy = &object["kinds"]["healthy"];
    let lost = number(healthy, "lost");
    assert_eq!(ended.code, Some(if lost > 0 { 3 } else { 0 }), "{ended:?}");
    assert_eq!((number(healthy, "listeners"), number(&object, "compared_rows")), (50, 50), "{ended:?}");
    assert_eq!(object["disagreements"], Value::Array(vec![]), "{ended:?}");
    assert_eq!(number(healthy, "faulty"), 0, "{ended:?}");
    assert!(healthy["first_byte_seconds"]["p50"].as_f64().is_some_and(|seconds| seconds > 0.0), "{ended:?}");
    let format = format!(r#"format="{label}""#);
    aircheck::eventually("an empty table", || (server.ask("GET", "/api/v1/listeners").trim() == "[]").then_some(()));
    let delivered = server.metric("aircheck_delivered_blocks_total", &[&format]);
    assert!(delivered > 50, "{delivered}");
    if let Some(blocks) = healthy["blocks"].as_u64().filter(|_| label != "opus") {
        assert_as_many(blocks, delivered, 50);
    }
    object
}

#[test]
fn fifty_listeners_to_wav_get_what_the_server_delivers() {
    let object = fifty("wav", "wav");
    assert_eq!(object["kinds"]["healthy"]["latency_seconds"], Value::Null, "a WAV does not tell");
}

#[test]
fn fifty_listeners_to_json_get_what_the_server_delivers() {
    let latency = fifty("json", "json")["kinds"]["healthy"]["latency_seconds"]["p50"].as_f64();
    assert!(latency.is_some_and(|seconds| seconds > 0.0), "{latency:?}");
}

#[test]
fn fifty_listeners_to_events_get_what_the_server_delivers() {
    fifty("sse", "sse");
}

#[test]
fn fifty_listeners_to_the_websocket_get_what_the_server_delivers() {
    fifty("ws", "ws");
}

#[test]
fn positions_in_opus_and_bytes_of_flac_are_followed() {
    let object = fifty("opus", "opus");
    assert!(number(&object["kinds"]["healthy"], "blocks") > 50, "{object}");
    assert_eq!(fifty("flac", "flac")["kinds"]["healthy"]["blocks"], Value::Null);
}

#[test]
fn listeners_that_are_replaced_add_up_too() {
    let server = Server::start(&["--source", "tone:440"]);
    let arguments = [&server.websocket(""), "--listeners", "20", "--ramp", "500/s", "--churn", "20/s", "--for", "3s"];
    let ended = load(&[&arguments[..], &["--json"]].concat()).finish();
    let object = object(&ended);
    let healthy = &object["kinds"]["healthy"];
    let churned = number(&object, "churned");
    assert!(churned > 0, "{ended:?}");
    assert_eq!(number(healthy, "listeners"), 20 + churned, "{ended:?}");
    assert_eq!(object["disagreements"], Value::Array(vec![]), "{ended:?}");
    aircheck::eventually("an empty table", || (server.ask("GET", "/api/v1/listeners").trim() == "[]").then_some(()));
    let delivered = server.metric("aircheck_delivered_blocks_total", &[r#"format="ws""#]);
    assert_as_many(number(healthy, "blocks"), delivered, 20 + churned);
}

#[test]
fn losses_of_slow_and_frozen_listeners_are_no_failure() {
    let server = Server::start(&["--source", "tone:440"]);
    let url = server.url("?buffer=500ms");
    let loading = load(&[&url, "--listeners", "6", "--ramp", "500/s", "--slow", "1", "--frozen", "1", "--json"]);
    // The healthy ones are 1 to 4; then come the slow and the frozen one.
    for name in ["load-5", "load-6"] {
        // More than a busy machine makes a healthy listener lose.
        server.row_when(name, |row| number(row, "lost") > 300);
    }
    loading.signal("INT");
    let ended = loading.finish();
    let object = object(&ended);
    let [healthy, slow, frozen] = ["healthy", "slow", "frozen"].map(|kind| &object["kinds"][kind]);
    assert!(number(slow, "lost") > 0 && number(frozen, "lost") > 0, "{ended:?}");
    assert!(number(frozen, "bytes") < number(slow, "bytes"), "{ended:?}");
    assert!(number(slow, "bytes") < number(healthy, "bytes") / 4 * 9 / 10, "{ended:?}");
    assert_eq!(ended.code, Some(if number(healthy, "lost") > 0 { 3 } else { 0 }), "{ended:?}");
}

/// A part of the long run: the connection of one that reads nothing for more than a minute was once reset.
#[test]
fn frozen_listeners_stay_for_longer_than_a_minute() {
    if std::env::var_os("AIRCHECK_SOAK").is_none() {
        return;
    }
    let server = Server::start(&["--source", "tone:440"]);
    let arguments = ["--listeners", "4", "--ramp", "500/s", "--frozen", "2", "--for", "130s"];
    let loading = load(&[&[server.url("stream.opus").as_str()], &arguments[..]].concat());
    let ended = loading.finish_within(Duration::from_secs(180));
    let is_row = |line: &str| line.split_whitespace().take(2).eq(["frozen", "2"]);
    assert!(ended.code == Some(0) && ended.summary.lines().any(is_row), "{ended:?}");
    assert!(!ended.summary.contains("the server ended"), "{ended:?}");
}

#[test]
fn a_frozen_listener_that_the_server_ended_is_a_result() {
    let server = Server::start(&["--source", "tone:440"]);
    let loading = load(&[&server.url("?buffer=500ms"), "--listeners", "3", "--ramp", "500/s", "--frozen", "1"]);
    // The server ends a connection without acknowledgements after a minute; by the API it is quicker.
    let row = server.row_when("load-3", |row| number(row, "lost") > 100);
    server.ask("DELETE", &format!("/api/v1/listeners/{}", row["id"]));
    aircheck::eventually("its end", || (!server.ask("GET", "/api/v1/listeners").contains("load-3")).then_some(()));
    loading.signal("INT");
    let ended = loading.finish();
    // A machine that stands still makes healthy listeners lose, which is another failure.
    assert!(!ended.summary.contains("add up"), "{ended:?}");
    assert!(ended.summary.contains("frozen     the server ended 1 of them"), "{ended:?}");
    assert!(ended.code == Some(0) || ended.summary.contains("healthy listeners lost"), "{ended:?}");
}

#[test]
fn a_loss_of_a_healthy_listener_is_a_failure() {
    let server = Server::start(&["--source", "tone:440"]);
    let loading = load(&[&server.url("?buffer=200ms"), "--format", "json", "--listeners", "3", "--ramp", "500/s"]);
    server.row_when("load-3", |row| number(row, "delivered") > 20);
    // None of them reads until all have lost.
    loading.signal("STOP");
    for name in ["load-1", "load-2", "load-3"] {
        server.row_when(name, |row| number(row, "lost") > 0);
    }
    loading.signal("CONT");
    server.row_when("load-1", |row| number(row, "gaps") > 0 && number(row, "queued") == 0);
    loading.signal("INT");
    let ended = loading.finish();
    assert_code(&ended, 3, "failed: healthy listeners lost ");
    assert!(!ended.summary.contains("add up"), "{ended:?}");
}

#[test]
fn a_stream_that_ends_is_no_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("short.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).expect("a file");
    (0..3 * 48_000).for_each(|n| writer.write_sample((n % 100) as i16).expect("space for it"));
    writer.finalize().expect("space for it");
    let server = Server::start(&["--source", &format!("wav:{}", path.display())]);
    let ended =
        load(&[&server.url("?from=0&buffer=10s"), "--format", "json", "--listeners", "5", "--ramp", "500/s"]).finish();
    assert_code(&ended, 0, "5 healthy listeners got 1500 blocks and lost nothing; then the stream ended");
}

#[test]
fn a_server_that_dies_ends_the_run_with_the_table_so_far() {
    let server = Server::start(&["--source", "tone:440"]);
    let loading = load(&[&server.url(""), "--listeners", "10", "--ramp", "500/s", "--frozen", "2"]);
    server.row_when("load-10", |row| number(row, "delivered") > 20);
    signal(&server.child, "KILL");
    let ended = loading.finish();
    assert_code(&ended, 1, "failed: the server died after ");
    assert!(ended.summary.contains("healthy         8"), "{ended:?}");
    assert_eq!(ended.summary.matches("the server died").count(), 1, "{ended:?}");
}

#[test]
fn refusals_are_a_failure_only_if_all_are_refused() {
    let server = Server::start(&["--source", "tone:440", "--max-listeners", "3"]);
    let arguments = ["--listeners", "5", "--ramp", "500/s", "--for", "1s", "--json"];
    let ended = load(&[&[server.url("?buffer=10s").as_str()], &arguments[..]].concat()).finish();
    let object = object(&ended);
    assert_eq!((number(&object["refused"], "503"), number(&object["kinds"]["healthy"], "listeners")), (2, 3));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = load(&[&server.url("stream.opus?bitrate=1"), "--listeners", "4"]).finish();
    assert_code(&ended, 1, "the server refused all 4: bitrate: `1`");
}

#[test]
fn measurements_are_written_second_by_second() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run.hlog");
    let server = Server::start(&["--source", "tone:440"]);
    let file = path.to_str().expect("UTF-8");
    let ended = load(&[&server.websocket(""), "--listeners", "5", "--for", "2s", "--hlog", file]).finish();
    assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
    let log = aircheck_tools::report::log::Log::read(&path).expect("a log");
    let names: Vec<&str> = log.series.iter().map(|series| &*series.name).collect();
    assert_eq!(names, ["first_byte", "latency", "stall"]);
    assert_eq!(log.series[0].histogram.len(), 5);
    assert!(log.series[1].histogram.len() > 5 * 50, "{}", log.series[1].histogram.len());

    let ended = load(&[&server.websocket(""), "--for", "2s", "--hlog", "/nonexistent/run.hlog"]).finish();
    assert_code(&ended, 1, "cannot write /nonexistent/run.hlog: No such file");
}

#[test]
fn more_listeners_than_descriptors_is_wrong_usage_with_the_number_that_fits() {
    let program = env!("CARGO_BIN_EXE_aircheckctl");
    let shell = |limits: &str, listeners: &str| {
        let script = format!("{limits} exec {program} load 127.0.0.1:9 --listeners {listeners}");
        Command::new("sh").args(["-c", &script]).output().expect("a shell")
    };
    let output = shell("ulimit -Sn 50 && ulimit -Hn 100;", "200");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let fits = said.split("write --listeners ").nth(1).and_then(|rest| rest.split(',').next()).expect("a number");
    assert!(fits.parse::<u64>().is_ok_and(|fits| (51..100).contains(&fits)), "more than the soft limit has: {fits}");
    let output = shell("ulimit -Sn 50 && ulimit -Hn 100;", fits);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "so many fit, and no server is on that port: {said}");
    assert!(said.contains("cannot connect to 127.0.0.1:9"), "{said}");

    let server = Server::start(&["--source", "tone:440"]);
    let script = format!("ulimit -Sn 50; exec {program} load {} --listeners 60 --ramp 500/s --for 1s", server.url(""));
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("raised the limit of open files from 50 to "), "{said}");
}
