//! The microphone of a real sound server: the sound that is played into it comes out at `/stream.wav`.

mod common;
#[path = "../../engine/tests/common/pulse.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod pulse;
#[path = "common/tone.rs"]
mod tone;

use std::io::Read;
use std::process::Stdio;

use common::{Server, curl, eventually, tone_and_rms};
use pulse::{PulseServer, Way};

#[test]
fn a_tone_played_to_the_microphone_is_heard_at_its_pitch_and_level() {
    let sound_server = PulseServer::start();
    let _player = tone::play(&sound_server);

    let program = sound_server.command(env!("CARGO_BIN_EXE_aircheck"), Way::Pulse);
    let server = Server::launch(program, &["--source", "auto"], |command| command);
    let status = server.json("api/v1/status");
    assert_eq!(status["source"]["kind"], "mic", "{status}");
    assert_eq!(status["format"]["rate_hz"], 48_000, "{status}");

    // On a busy machine the sound server may spoil single seconds; a fault of aircheck spoils all.
    let mut listener = curl(&[&server.url("stream.wav?sample=f32le")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut sound = listener.stdout.take().unwrap();
    sound.read_exact(&mut [0; 44]).unwrap();
    let mut second = vec![0; 4 * 48_000];
    eventually("a second of the tone", || {
        sound.read_exact(&mut second).unwrap();
        let samples: Vec<_> = second.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let (hz, rms) = tone_and_rms(&samples, 48_000, &[220.0, 430.0, 435.0, 440.0, 445.0, 450.0, 880.0]);
        let expected = tone::PEAK / std::f64::consts::SQRT_2;
        (hz == tone::HZ && (rms / expected - 1.0).abs() < 0.02).then_some(())
    });
    let _ = listener.kill();
    let _ = listener.wait();

    let level = server.json("api/v1/status")["level"][0].clone();
    let peak = level["peak_dbfs"].as_f64().unwrap();
    assert!((peak + 12.04).abs() < 0.5, "{level}");
}

#[test]
fn a_server_without_its_source_stops_in_order() {
    let mut sound_server = PulseServer::start();
    let program = sound_server.command(env!("CARGO_BIN_EXE_aircheck"), Way::Pulse);
    let mut server = Server::launch(program, &["--source", "mic"], |command| command);
    eventually("sound", || (server.json("api/v1/status")["state"] == "live").then_some(()));
    sound_server.kill();
    let status = eventually("silence", || {
        let status = server.json("api/v1/status");
        (status["state"] == "silent" && status["source"]["failure"].is_string()).then_some(status)
    });
    assert!(status["source"]["failure"].is_string(), "{status}");
    assert!(server.text("metrics").contains("aircheck_capture_up{mount=\"main\"} 0\n"));
    server.wait_for_log("source_lost");
    server.terminate();
    // The loss was logged when it came; an orderly stop after it is no failure.
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert_eq!(server.log().matches("source_lost").count(), 1, "{}", server.log());
}
