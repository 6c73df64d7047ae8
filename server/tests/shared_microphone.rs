//! One microphone in several mounts: the sound server sees one recording, and each mount has all of the sound.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "../../engine/tests/common/pulse.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod pulse;
#[path = "common/tone.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tone;

use common::{Server, assert_identity, eventually, signal};
use pulse::{PulseServer, Way};

/// Returns how many streams record from the sound server.
fn recordings(sound: &PulseServer) -> usize {
    let output = sound.command("pactl", Way::Pulse).args(["list", "short", "source-outputs"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.contains("protocol-native")).count()
}

#[test]
fn one_microphone_in_two_mounts_is_recorded_once_until_the_last_one_leaves() {
    let mut sound = PulseServer::start();
    let _player = tone::play(&sound);
    let mount = |name: &str, source: &str, block: &str| {
        format!("[[mount]]\nname = '{name}'\nsource = '{source}'\nblock = '{block}'\n")
    };
    let file = sound.path("aircheck.toml");
    let both = mount("hall", "mic", "10ms") + &mount("studio", "mic:vmic", "20ms");
    std::fs::write(&file, &both).unwrap();
    let program = sound.command(env!("CARGO_BIN_EXE_aircheck"), Way::Pulse);
    let server = Server::launch(program, &["--config", file.to_str().unwrap()], |command| command);
    let is_live = |name: &str| {
        let row = server.json("api/v1/mounts").as_array().unwrap().iter().find(|row| row["name"] == name).cloned();
        row.is_some_and(|row| row["state"] == "live" && row["level"][0]["peak_dbfs"].as_f64() > Some(-20.0))
            .then_some(())
    };
    eventually("the tone in the hall", || is_live("hall"));
    eventually("the tone in the studio", || is_live("studio"));
    assert_eq!(recordings(&sound), 1, "one recording for both");

    // Each has a listener of its own.
    let _listeners = ["hall", "studio"].map(|name| {
        let url = server.url(&format!("mounts/{name}/stream.pcm?name={name}"));
        common::Listener::start(&url, &sound.path(name))
    });
    for name in ["hall", "studio"] {
        assert_identity(&server.row_when(name, |row| row["delivered"].as_u64() > Some(20)));
    }

    // The one that opened it leaves, and the other one goes on.
    std::fs::write(&file, mount("studio", "mic:vmic", "20ms")).unwrap();
    signal(server.pid(), "HUP");
    server.wait_for_log("the mount `hall` is removed");
    eventually("the end of the hall", || (server.json("api/v1/mounts").as_array().unwrap().len() == 1).then_some(()));
    let row = server.row_when("studio", |_| true);
    let before = row["delivered"].as_u64().unwrap();
    let row = server.row_when("studio", |row| row["delivered"].as_u64().unwrap() > before + 50);
    assert_eq!(row["lost"], 0, "{row}");
    assert_eq!(recordings(&sound), 1);

    // Lost and found again, it is still recorded once for both.
    std::fs::write(&file, &both).unwrap();
    signal(server.pid(), "HUP");
    eventually("the hall again", || is_live("hall"));
    assert_eq!(recordings(&sound), 1, "one that comes later takes a seat, too");
    sound.unload_microphone();
    let lost = || server.json("api/v1/mounts").as_array().unwrap().iter().all(|row| row["state"] == "silent");
    eventually("the loss in both", || lost().then_some(()));
    sound.load_microphone(pulse::VMIC);
    let _player = tone::play_now(&sound);
    eventually("the tone in the hall again", || is_live("hall"));
    eventually("the tone in the studio again", || is_live("studio"));
    assert_eq!(recordings(&sound), 1, "one recording for both again");
}
