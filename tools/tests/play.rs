//! `aircheckctl listen --play` on a real sound server: the sound at its output's monitor, and the latency that the
//! server knows of the ear.

mod aircheck;
#[path = "../../engine/tests/common/pulse.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod pulse;

use std::f64::consts::{SQRT_2, TAU};
use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};

use aircheck::{Listening, Server, eventually, number, signal};
use hound::{SampleFormat, WavSpec, WavWriter};
use pulse::{PulseServer, Way};

const RATE_HZ: u32 = 48_000;
/// The level of `tone:`, -12 dBFS.
const PEAK: f64 = 0.25;
/// A quarter of a second: enough to tell tones 10 Hz apart. A stumble of a busy machine spoils one or another window, a
/// fault of ours spoils all.
const WINDOW_FRAMES: usize = RATE_HZ as usize / 4;

fn aircheckctl(sound_server: &PulseServer) -> Command {
    sound_server.command(env!("CARGO_BIN_EXE_aircheckctl"), Way::Pulse)
}

/// The sound that a sound server's output gets, ended when dropped.
struct Monitor {
    parec: Child,
    sound: ChildStdout,
}

impl Monitor {
    fn start(sound_server: &PulseServer) -> Self {
        let mut command = sound_server.command("parec", Way::Pulse);
        command.args(["--raw", "--format=float32le", "--rate=48000", "--channels=1", "--device=mic_in.monitor"]);
        command.args(["--latency-msec=50"]).stdout(Stdio::piped());
        let mut parec = command.spawn().expect("it needs pulseaudio-utils");
        let sound = parec.stdout.take().expect("its stdout");
        Self { parec, sound }
    }

    fn window(&mut self) -> Vec<f32> {
        let mut bytes = vec![0; 4 * WINDOW_FRAMES];
        self.sound.read_exact(&mut bytes).expect("it should go on");
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// Waits for the tone of 440 Hz, at its level.
    fn hear_tone(&mut self) {
        eventually("the tone", || {
            let window = self.window();
            let powers = [220.0, 420.0, 430.0, 440.0, 450.0, 460.0, 880.0].map(|hz| (power(&window, hz), hz));
            let (_, loudest_hz) = powers.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("some");
            let squares: f64 = window.iter().map(|sample| f64::from(*sample).powi(2)).sum();
            let rms = (squares / window.len() as f64).sqrt();
            (loudest_hz == 440.0 && (rms * SQRT_2 / PEAK - 1.0).abs() < 0.02).then_some(())
        });
    }

    fn hear_silence(&mut self) {
        eventually("silence", || self.window().iter().all(|sample| *sample == 0.0).then_some(()));
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.parec.kill();
        let _ = self.parec.wait();
    }
}

/// Returns the power of a tone in it.
fn power(samples: &[f32], hz: f64) -> f64 {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let phase = TAU * hz * n as f64 / f64::from(RATE_HZ);
        sine += f64::from(*sample) * phase.sin();
        cosine += f64::from(*sample) * phase.cos();
    }
    sine * sine + cosine * cosine
}

#[test]
fn a_tone_is_heard_at_its_pitch_and_level_and_the_server_knows_when() {
    let sound_server = PulseServer::start();
    let mut monitor = Monitor::start(&sound_server);
    let server = Server::start(&["--source", "tone:440"]);
    let address = format!("{}/?name=ear", server.authority);
    let listening = Listening::launch(aircheckctl(&sound_server), &[&address, "--play"]);
    monitor.hear_tone();

    let row = server.row_when("ear", |row| row["latency_seconds"]["ear"]["p50"].is_number());
    assert_eq!(row["format"], "ws", "{row}");
    let ear = row["latency_seconds"]["ear"]["p50"].as_f64().expect("seconds");
    // A block has to be captured, and then waits; how late a busy machine makes it has no bound.
    assert!(ear > 0.03, "{row}");
    eventually("the ear among the metrics", || {
        let text = server.ask("GET", "/metrics");
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix(r#"aircheck_latency_seconds_count{mount="main",stage="ear"} "#));
        count.and_then(|count| count.parse::<u64>().ok()).filter(|count| *count > 0)
    });

    listening.signal("INT");
    let ended = listening.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in [" on ", "late ", "from capture to the loudspeaker p50"] {
        assert!(ended.summary.contains(words), "{words}: {ended:?}");
    }
    assert!(!ended.notices.contains("reports an error"), "the server takes every report: {ended:?}");
    monitor.hear_silence();
}

#[test]
fn late_sound_is_silence_and_is_counted() {
    let sound_server = PulseServer::start();
    let mut monitor = Monitor::start(&sound_server);
    let server = Server::start(&["--source", "tone:440"]);
    let flags = [&server.websocket("?name=dry"), "--play", "--play-buffer", "100ms"];
    let listening = Listening::launch(aircheckctl(&sound_server), &flags);
    monitor.hear_tone();
    signal(&server.child, "STOP");
    monitor.hear_silence();
    signal(&server.child, "CONT");
    monitor.hear_tone();
    let row = server.row_when("dry", |row| number(row, "delivered") > 0);
    assert_eq!(row["name"], "dry");
    listening.signal("INT");
    let ended = listening.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let late = ended.count("played", "time");
    assert!(late.is_some_and(|late| late >= 1), "{ended:?}");
}

#[test]
fn another_rate_is_heard_at_its_pitch_recorded_untouched_and_played_to_its_end() {
    const SOURCE_HZ: u32 = 44_100;
    let sound_server = PulseServer::start();
    let file = sound_server.path("tone.wav");
    let spec = WavSpec { channels: 2, sample_rate: SOURCE_HZ, bits_per_sample: 32, sample_format: SampleFormat::Float };
    let mut writer = WavWriter::create(&file, spec).expect("a file");
    let sample = |n: u32| (PEAK * (TAU * 440.0 * f64::from(n) / f64::from(SOURCE_HZ)).sin()) as f32;
    for n in 0..30 * SOURCE_HZ {
        (0..2).for_each(|_| writer.write_sample(sample(n)).expect("space for it"));
    }
    writer.finalize().expect("space for it");
    let mut monitor = Monitor::start(&sound_server);
    let server = Server::start(&["--source", &format!("wav:{}", file.display()), "--loop"]);
    let take = sound_server.path("take.wav");
    let flags = [&server.websocket("?from=0"), "--play", "-o", take.to_str().expect("UTF-8")];
    let listening = Listening::launch(aircheckctl(&sound_server), &flags);
    monitor.hear_tone();
    signal(&server.child, "INT");
    let ended = listening.finish();
    assert_eq!(ended.code, Some(0), "a proper end: {ended:?}");
    let mut taken = hound::WavReader::open(take).expect("a WAV");
    assert_eq!(taken.spec().sample_rate, SOURCE_HZ);
    assert!(taken.duration() > SOURCE_HZ / 4, "{ended:?}");
    if ended.summary.contains("lost      nothing") {
        let mut expected = (0..30 * SOURCE_HZ).cycle().flat_map(|n| [sample(n); 2]);
        assert!(taken.samples::<f32>().all(|sample| Some(sample.expect("whole samples")) == expected.next()));
    }
}

#[test]
fn a_sound_server_that_dies_ends_it_with_one_line() {
    let mut sound_server = PulseServer::start();
    let server = Server::start(&["--source", "tone:440"]);
    let listening = Listening::launch(aircheckctl(&sound_server), &[&server.websocket("?name=x"), "--play"]);
    server.row_when("x", |row| row["latency_seconds"]["ear"]["p50"].is_number());
    sound_server.kill();
    let ended = listening.finish();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.notices.contains("aircheckctl: cannot play on "), "{ended:?}");
    assert!(ended.notices.contains("is gone"), "{ended:?}");
}

#[test]
fn without_an_output_device_it_fails_before_it_listens() {
    let server = Server::start(&["--source", "tone:440"]);
    let directory = tempfile::tempdir().expect("a directory");
    let nothing = directory.path().join("nothing");
    std::fs::write(&nothing, "").expect("a file");
    // No sound server, and an ALSA that knows of no card, whatever this machine has.
    let mut command = Command::new(env!("CARGO_BIN_EXE_aircheckctl"));
    command.env("PULSE_SERVER", format!("unix:{}", directory.path().join("none").display()));
    command.env("XDG_RUNTIME_DIR", directory.path()).env("HOME", directory.path()).env("ALSA_CONFIG_PATH", &nothing);
    let ended = Listening::launch(command, &[&server.websocket(""), "--play"]).finish();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let complaints: Vec<&str> = ended.notices.lines().filter(|line| line.starts_with("aircheckctl: ")).collect();
    assert_eq!(complaints.len(), 1, "{ended:?}");
    assert!(complaints[0].contains("no audio output device: ") && complaints[0].contains("--play"), "{ended:?}");
    assert_eq!(ended.summary, "", "nothing was listened to");
}
