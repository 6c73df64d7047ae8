//! A tone that is played into a microphone.
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::f64::consts::TAU;
use std::time::Duration;

use crate::common::write_wav;
use crate::pulse::{Player, PulseServer};

pub(crate) const HZ: f64 = 440.0;
/// -12 dBFS.
pub(crate) const PEAK: f64 = 0.25;
/// The null sink renders 2 s ahead until a player with a short latency connects.
const PLAYER_SETTLES: Duration = Duration::from_millis(2500);

/// Plays the tone to the sound server's microphones for a minute, which is longer than any test takes.
pub(crate) fn play(server: &PulseServer) -> Player {
    let player = play_now(server);
    std::thread::sleep(PLAYER_SETTLES);
    player
}

/// Begins to play the tone, and does not wait until it is heard.
pub(crate) fn play_now(server: &PulseServer) -> Player {
    let file = server.path("tone.wav");
    let sample = |n: u32| PEAK * (TAU * HZ * f64::from(n) / 48_000.0).sin();
    write_wav(&file, 1, (0..60 * 48_000).map(|n| (sample(n) * 32_767.0).round() as i16));
    server.play(&file)
}
