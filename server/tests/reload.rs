//! SIGHUP from outside: mounts come, change and go while the others are heard without a break.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/truth.rs"]
mod truth;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use common::{Listener, Server, assert_identity, curl, eventually, signal, tone_and_rms, write_wav};
use truth::scrape::Metrics;

const TONES: [f64; 5] = [440.0, 550.0, 660.0, 770.0, 880.0];

/// A server and its file.
struct Served {
    directory: TempDir,
    server: Server,
}

impl Served {
    fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("aircheck.toml");
        std::fs::write(&file, text).unwrap();
        let server = Server::start(&["--config", file.to_str().unwrap()]);
        Self { directory, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the file anew, and has it read.
    fn reload(&self, text: &str) {
        std::fs::write(self.path("aircheck.toml"), text).unwrap();
        signal(self.server.pid(), "HUP");
    }

    /// Starts a listener of a mount, whose file has its name, and waits until it is heard. Returns its number, too.
    fn listen(&self, mount: &str) -> (Listener, u64) {
        let url = self.server.url(&format!("mounts/{mount}/stream.pcm?name={mount}"));
        let listener = Listener::start(&url, &self.path(mount));
        let row = self.server.row_when(mount, |row| row["delivered"].as_u64() > Some(10));
        (listener, row["id"].as_u64().unwrap())
    }

    /// Returns the tone in the last tenth of a second that a listener got.
    fn tone(&self, mount: &str) -> f64 {
        let bytes = std::fs::read(self.path(mount)).unwrap();
        let end = bytes.len() / 2 * 2;
        let samples: Vec<_> = bytes[end.saturating_sub(9600)..end]
            .chunks_exact(2)
            .map(|sample| f32::from(i16::from_le_bytes([sample[0], sample[1]])) / 32_768.0)
            .collect();
        let (hz, rms) = tone_and_rms(&samples, 48_000, &TONES);
        if rms > 0.01 { hz } else { 0.0 }
    }

    fn mount(&self, name: &str) -> Value {
        let mounts = self.server.json("api/v1/mounts");
        mounts.as_array().unwrap().iter().find(|mount| mount["name"] == name).cloned().unwrap_or_default()
    }
}

fn mount(name: &str, source: &str, rest: &str) -> String {
    format!("[[mount]]\nname = '{name}'\nsource = '{source}'\n{rest}\n")
}

/// Returns a file of two seconds of silence in so many channels.
fn silence(path: &Path, channels: u16) -> String {
    write_wav(path, channels, (0..96_000 * u32::from(channels)).map(|_| 0))
}

#[test]
fn mounts_come_change_and_go_while_the_others_are_heard() {
    let served = Served::start(
        &(mount("hall", "tone:440", "") + &mount("studio", "tone:880", "") + &mount("attic", "tone:550", "")),
    );
    let server = &served.server;
    let ((_hall, hall), (_studio, studio), (mut attic, _)) =
        (served.listen("hall"), served.listen("studio"), served.listen("attic"));
    let mut events =
        curl(&["--output", served.path("events").to_str().unwrap(), &server.url("api/v1/events?mount=attic")])
            .spawn()
            .unwrap();
    eventually("the connection for events", || served.path("events").exists().then_some(()));

    served.reload(
        &(mount("hall", "tone:440", "")
            + &mount("studio", "tone:660", "buffer = '3s'")
            + &mount("loft", "tone:770", "")),
    );
    for line in [
        "the mount `attic` is removed",
        "the mount `studio`: buffer is 3s, was 1s",
        "the mount `studio`: source is tone:660, was tone:880",
        "the mount `loft` is added: tone:770",
        "on air as loft: test tone of 770 Hz",
    ] {
        server.wait_for_log(line);
    }
    // The one that is gone: its listener has the whole of it, and an end.
    assert!(attic.wait().success(), "curl has got a complete answer");
    assert!(common::wait(&mut events).success(), "and so has the reader of events");
    let events = std::fs::read_to_string(served.path("events")).unwrap();
    assert!(events.contains("\"reason\":\"removed\"") && events.contains("\"lost\":0"), "{events}");
    let (_, answer) = server.ask(&[], "mounts/attic/stream.wav");
    assert!(answer.contains("there is no mount `attic`"), "{answer}");
    let metrics = server.text("metrics");
    assert!(metrics.contains("aircheck_listeners_left_total{reason=\"removed\"} 1"), "{metrics}");
    eventually("no series of the removed mount", || (!server.text("metrics").contains("\"attic\"")).then_some(()));
    // The one that is changed: the same listener hears the other source.
    let tone = || (served.tone("studio") == 660.0).then_some(());
    eventually("the other source", tone);
    let row = server.row_when("studio", |row| row["id"] == studio);
    assert_identity(&row);
    let lost = row["lost"].as_u64().unwrap();
    assert!((1..100).contains(&lost), "the blocks between the two sources: {row}");
    let of_source = Metrics::of(server.address)
        .sum("aircheck_lost_blocks_total", &["mount=\"studio\"", "format=\"pcm\"", "reason=\"source\""]);
    assert_eq!(of_source, lost as f64);
    let status = server.json("api/v1/status?mount=studio");
    assert_eq!(status["source"]["description"], "test tone of 660 Hz");
    assert_eq!(status["buffer_seconds"], 3.0);
    // The one that is new, and the one that is the same.
    let (_loft, _) = served.listen("loft");
    eventually("the new mount", || (served.tone("loft") == 770.0).then_some(()));
    let row = server.row_when("hall", |row| row["id"] == hall);
    assert_eq!(row["lost"], 0, "{row}");
    assert_eq!(served.tone("hall"), 440.0);
    let log = server.log();
    assert!(!log.contains("the mount `hall`") && log.matches("on air as hall").count() == 1, "{log}");
}

#[test]
fn a_mount_whose_sound_gets_another_format_ends_its_listeners_and_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (mono, stereo) =
        (silence(&directory.path().join("mono.wav"), 1), silence(&directory.path().join("stereo.wav"), 2));
    let looped = |source: &str| mount("hall", source, "loop = true") + &mount("studio", "tone:880", "");
    let served = Served::start(&looped(&mono));
    let (mut hall, _) = served.listen("hall");
    let (_studio, studio) = served.listen("studio");
    served.reload(&looped(&stereo));
    assert!(hall.wait().success());
    let channels = || served.mount("hall")["format"]["channels"].as_u64().filter(|channels| *channels == 2);
    eventually("the mount with two channels", channels);
    let metrics = Metrics::of(served.server.address);
    assert_eq!(metrics.sum("aircheck_listeners_left_total", &["reason=\"removed\""]), 1.0);
    let row = served.server.row_when("studio", |row| row["id"] == studio);
    assert_eq!(row["lost"], 0, "{row}");
}

#[test]
fn a_file_that_is_wrong_and_a_source_that_cannot_be_opened_change_nothing() {
    let served = Served::start(&(mount("hall", "tone:440", "") + &mount("studio", "tone:880", "")));
    let (_hall, hall) = served.listen("hall");
    let (_studio, studio) = served.listen("studio");
    let is_as_before = || {
        for (mount, id, hz) in [("hall", hall, 440.0), ("studio", studio, 880.0)] {
            let row = served.server.row_when(mount, |row| row["id"] == id);
            assert_eq!(row["lost"], 0, "{row}");
            assert_eq!(served.tone(mount), hz);
        }
    };
    // Refused whole, although its first mount is right.
    served.reload(&(mount("hall", "tone:660", "") + &mount("a/b", "tone:880", "")));
    served.server.wait_for_log("nothing is changed, because the settings are wrong: ");
    served.server.wait_for_log("`mount` number 2: `name` must be up to 32 letters");
    is_as_before();
    served.reload(
        &(mount("hall", "wav:/nonexistent.wav", "")
            + &mount("studio", "tone:880", "")
            + &mount("loft", "tone:550", "")),
    );
    served.server.wait_for_log("the mount `hall` stays as it was: source `wav`: ");
    eventually("the new mount", || (served.mount("loft")["state"] == "live").then_some(()));
    is_as_before();
    // It is tried again with the next one.
    served.reload(&(mount("hall", "tone:660", "") + &mount("studio", "tone:880", "")));
    served.server.wait_for_log("the mount `hall`: source is tone:660, was tone:440");
    eventually("the other source", || (served.tone("hall") == 660.0).then_some(()));
}

#[test]
fn a_recording_that_goes_elsewhere_goes_on_without_a_hole() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
    let recorded = |to: &Path| mount("hall", "tone:440", &format!("record = '{}'", to.display()));
    let served = Served::start(&recorded(&one));
    let (_hall, hall) = served.listen("hall");
    served.reload(&recorded(&two));
    let status = eventually("the other recording", || {
        let recording = served.server.json("api/v1/status")["recording"].clone();
        (recording["directory"] == two.to_str().unwrap() && recording["blocks"].as_u64() > Some(20))
            .then_some(recording)
    });
    assert_eq!(status["lost"], 0, "{status}");
    let lines = |directory: &Path| {
        let sidecar = |path: PathBuf| path.extension().is_some_and(|it| it == "jsonl").then_some(path);
        let path = std::fs::read_dir(directory).unwrap().find_map(|entry| sidecar(entry.unwrap().path())).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let (of_one, of_two) = (lines(&one), lines(&two));
    let first = |lines: &[Value]| lines[0]["recording"]["first_sequence"].as_u64().unwrap();
    let frames = of_one.last().unwrap()["end"]["frames"].as_u64().unwrap();
    assert_eq!(first(&of_two), first(&of_one) + frames / 480, "{of_one:?} {of_two:?}");
    // A fallback that is not there changes nothing, the recording neither.
    let three = directory.path().join("three");
    served.reload(&(recorded(&three) + "fallback = 'wav:/nonexistent.wav'\n"));
    served.server.wait_for_log("the mount `hall` stays as it was: ");
    let recording = served.server.json("api/v1/status")["recording"].clone();
    assert_eq!(recording["directory"], two.to_str().unwrap());
    let row = served.server.row_when("hall", |row| row["id"] == hall);
    assert_eq!(row["lost"], 0, "{row}");
}
