//! A microphone that is lost in every way and comes back, with a real sound server: listeners stay, and the hole is counted with
//! its true length.
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "common/process.rs"]
mod process;
#[path = "../../engine/tests/common/pulse.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod pulse;
#[path = "common/tone.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tone;

use std::io::{BufRead, BufReader, PipeWriter, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use common::{
    Listener, PRIORITY, Server, assert_identity, command_with_priority, curl, eventually, refused, signal, write_wav,
    write_wav_at,
};
use pulse::{Microphone, Player, PulseServer, VMIC, Way};
use serde_json::Value;

/// Samples above this are the tone.
const MIN_TONE: f64 = 0.1;
const BLOCK_SECONDS: f64 = 0.01;
/// Blocks for which the capture ring has room.
const RING_BLOCKS: u64 = 32;

/// A line of `/stream.json`.
#[derive(Clone, Copy, Debug)]
struct Line {
    at: Instant,
    first: u64,
    blocks: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silence,
    Tone,
    /// A gap because of the source.
    Hole,
    /// Any other gap.
    Gap,
}

/// A listener that notes what it hears.
struct Ear {
    curl: Child,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Ear {
    fn start(server: &Server) -> Self {
        let url = server.url("stream.json?buffer=10s&name=ear");
        let mut curl = curl(&[&url]).stdout(Stdio::piped()).spawn().unwrap();
        let text = BufReader::new(curl.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        thread::spawn(move || {
            for line in text.lines().map_while(Result::ok) {
                let at = Instant::now();
                let Ok(line) = serde_json::from_str::<Value>(&line) else { break };
                written.lock().unwrap().push(parse(&line, at));
            }
        });
        Self { curl, lines }
    }

    fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until it hears `kind` after `since`, and returns when.
    fn wait_for(&self, kind: Kind, since: Instant) -> Instant {
        eventually(&format!("{kind:?}"), || {
            let lines = self.lines.lock().unwrap();
            lines
                .iter()
                .rev()
                .take_while(|line| line.at >= since)
                .filter(|line| line.kind == kind)
                .last()
                .map(|line| line.at)
        })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

fn parse(line: &Value, at: Instant) -> Line {
    let gap = &line["gap"];
    if gap.is_object() {
        let kind = if gap["reason"] == "source" { Kind::Hole } else { Kind::Gap };
        return Line { at, first: gap["from"].as_u64().unwrap(), blocks: gap["blocks"].as_u64().unwrap(), kind };
    }
    let samples = line["samples"].as_array().unwrap();
    let is_tone = samples.iter().any(|sample| sample.as_f64().is_some_and(|sample| sample.abs() > MIN_TONE));
    let kind = if is_tone { Kind::Tone } else { Kind::Silence };
    Line { at, first: line["sequence"].as_u64().unwrap(), blocks: 1, kind }
}

/// A sound server, its player, the program under test and its listeners.
struct Scene {
    sound: PulseServer,
    player: Option<Player>,
    server: Server,
    ear: Ear,
    others: Vec<Listener>,
    folder: tempfile::TempDir,
    started_at: Instant,
    /// Blocks that the capture had lost before the listeners joined. They are in no listener's account.
    lost_before: u64,
    /// How often the source was lost before the loss under test: a sound server may stand still on a busy machine.
    losses_before: usize,
    _alone: MutexGuard<'static, ()>,
}

/// Scenes take turns: several sound servers whose sound comes in bursts leave two cores no time to take each block.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Waits for the end of other scenes. From then on this program, and all that it starts, runs at a real-time priority where the system permits
/// it. On a machine with a load of 30, ears and writers would be late otherwise, which would be measured, and encoders would skip blocks, which
/// is a gap beside that of the source.
fn alone() -> MutexGuard<'static, ()> {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut chrt = Command::new("chrt");
    chrt.args(["--rr", "--all-tasks", "--pid", "20", &std::process::id().to_string()]);
    let _ = chrt.stdout(Stdio::null()).stderr(Stdio::null()).status();
    alone
}

/// Returns the command of the program under test.
fn program(sound: &PulseServer, way: Way) -> Command {
    let mut command = sound.command(PRIORITY[0], way);
    command.args(&PRIORITY[1..]).arg(env!("CARGO_BIN_EXE_aircheck"));
    command
}

impl Scene {
    fn new(way: Way, flags: &[&str]) -> Self {
        let alone = alone();
        let sound = PulseServer::start();
        let player = tone::play(&sound);
        let program = program(&sound, way);
        let server = Server::launch(program, &[&["--source", "mic"], flags].concat(), |command| command);
        let mut scene = Self::of(alone, sound, server);
        scene.player = Some(player);
        scene.ear.wait_for(Kind::Tone, scene.started_at);
        // Half a second of healthy sound, to compare the time after the hole with.
        thread::sleep(Duration::from_millis(500));
        scene
    }

    fn of(alone: MutexGuard<'static, ()>, sound: PulseServer, server: Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = |name: &str, query: &str| {
            Listener::start(&server.url(&format!("{name}{query}")), &folder.path().join(name))
        };
        // A block that is lost while they join, as sound servers begin with a burst, would be in some of their accounts only.
        let (started_at, ear, others, lost_before) = eventually("listeners that join while nothing is lost", || {
            let lost_before = lost_beside_the_source(&server.json("api/v1/status")["capture"]);
            let started_at = Instant::now();
            let ear = Ear::start(&server);
            // The time until a loss is noticed is a gap, which a WAV leaves out otherwise.
            let others =
                vec![listen("stream.wav", "?gaps=silence"), listen("stream.opus", ""), listen("stream.flac", "")];
            // What was lost before them may still be ahead of them, behind as many blocks as the capture ring has.
            let is_past = |row: &Value| lost_before == 0 || row["offered"].as_u64() > Some(RING_BLOCKS);
            let rows = eventually("four listeners", || {
                Some(server.rows()).filter(|rows| rows.len() == 1 + others.len() && rows.iter().all(is_past))
            });
            let lost = lost_beside_the_source(&server.json("api/v1/status")["capture"]);
            let is_none_of_them = lost_before == 0 || rows.iter().all(|row| row["lost"] == 0);
            (lost == lost_before && is_none_of_them).then_some((started_at, ear, others, lost_before))
        });
        Self {
            sound,
            player: None,
            server,
            ear,
            others,
            folder,
            started_at,
            lost_before,
            losses_before: 0,
            _alone: alone,
        }
    }

    fn status(&self) -> Value {
        self.server.json("api/v1/status")
    }

    /// Waits until the source delivers, so that the next loss is the one under test.
    fn wait_for_source(&mut self) {
        self.losses_before = eventually("a source that delivers", || {
            let losses = self.count_in_log("source_lost");
            (self.status()["state"] == "live").then_some(losses)
        });
    }

    fn count_in_log(&self, event: &str) -> usize {
        self.server.log().matches(event).count()
    }

    fn metric(&self, name: &str) -> f64 {
        self.series(name, "")
    }

    /// Returns the value of the series with these labels behind that of the mount.
    fn series(&self, name: &str, labels: &str) -> f64 {
        let text = self.server.text("metrics");
        let series = format!("{name}{{mount=\"main\"{labels}}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&*series));
        value.unwrap_or_else(|| panic!("{series}in {text}")).parse().unwrap()
    }

    /// Waits until the loss is told, and asserts that everything tells it.
    fn assert_lost(&self, state: &str) {
        let status = eventually("the loss", || {
            let status = self.status();
            (status["state"] == state && status["source"]["failure"].is_string()).then_some(status)
        });
        assert!(status["source"]["lost_since"].is_number(), "{status}");
        assert_eq!(status["on_air"], false, "{status}");
        assert_eq!(self.metric("aircheck_capture_up"), 0.0);
        let (code, text) = self.server.ask(&[], "readyz");
        assert!(code == 503 && text.ends_with(state), "{text}");
        assert_eq!(self.server.ask(&[], "healthz").0, 200, "a new start would not help");
        self.server.wait_for_log("source_lost");
    }

    /// Asserts that each row counts the gap that goes on, and its length so far.
    fn assert_gap_grows(&self) {
        let gaps = || self.server.rows().into_iter().map(|row| (row["gaps"].as_u64(), row["gap_max_blocks"].as_u64()));
        let before: Vec<_> = gaps().collect();
        assert!(before.iter().all(|(gaps, _)| *gaps >= Some(1)), "{before:?}");
        eventually("gaps that grow", || {
            // A busy machine may have caused another gap before, which may be longer.
            let grows = |(before, after): (&(_, _), (_, _))| before.0 > Some(1) || after.1 > before.1;
            before.iter().zip(gaps()).all(grows).then_some(())
        });
    }

    /// Returns the bytes of each stream that has no notices so far.
    fn sizes(&self) -> [u64; 3] {
        ["stream.wav", "stream.opus", "stream.flac"]
            .map(|name| fs::metadata(self.folder.path().join(name)).map_or(0, |file| file.len()))
    }

    /// Returns which part of a core the program takes for 2 s.
    fn load(&self) -> f64 {
        process::load(self.server.pid(), Duration::from_secs(2))
    }

    /// Waits for the tone after the return of the device, and returns how long it took to the first block of the source and to the
    /// first of the tone.
    fn hear_again(&self, returned_at: Instant) -> (Duration, Duration) {
        let tone_at = self.ear.wait_for(Kind::Tone, returned_at);
        let lines = self.ear.lines();
        let is_sound = |line: &&Line| line.at >= returned_at && matches!(line.kind, Kind::Tone | Kind::Silence);
        let sound_at = lines.iter().find(is_sound).unwrap().at;
        (sound_at - returned_at, tone_at - returned_at)
    }

    /// Returns how many seconds later blocks come after the gaps of a kind than before them, by this test's own clock: a block
    /// comes as long after the start as its number says.
    fn drift(&self, lines: &[Line], kind: Kind) -> f64 {
        let first_hole = lines.iter().position(|line| line.kind == kind).unwrap();
        let last_hole = lines.iter().rposition(|line| line.kind == kind).unwrap();
        let earliest = |lines: &[Line]| {
            let after = |line: &Line| (line.at - self.started_at).as_secs_f64() - line.first as f64 * BLOCK_SECONDS;
            lines.iter().map(after).fold(f64::MAX, f64::min)
        };
        earliest(&lines[last_hole + 1..]) - earliest(&lines[..first_hole])
    }

    /// Asserts that nobody left, and that the hole has its true length in every account.
    fn assert_true_account(&mut self) {
        let status = eventually("the return", || {
            let status = self.status();
            (status["state"] == "live").then_some(status)
        });
        assert_eq!(status["source"]["failure"], Value::Null, "{status}");
        // What the device or the ring loses, on a busy machine, has the same reason for a listener, and may go on. So all counts have to be
        // of one moment.
        let (capture, lines, rows) = eventually("one count on all sides", || {
            let (capture, lines, rows) = (self.status()["capture"].clone(), self.ear.lines(), self.server.rows());
            let lost = capture["lost_source"].as_u64().unwrap() - capture["lost_in_bursts"].as_u64().unwrap()
                + lost_beside_the_source(&capture)
                - self.lost_before;
            let is_one = hole(&lines) == lost && rows.iter().all(|row| row["lost"] == lost);
            is_one.then_some((capture, lines, rows))
        });
        let mut next = lines[0].first;
        for line in &lines {
            assert_eq!(line.first, next, "sequence numbers go on: {line:?}");
            next += line.blocks;
            assert_ne!(line.kind, Kind::Gap, "{line:?}");
        }
        let lost = capture["lost_source"].as_u64().unwrap() - capture["lost_in_bursts"].as_u64().unwrap();
        let own = lost_beside_the_source(&capture) - self.lost_before;
        let hole = hole(&lines);
        // Another stream of the sound server has another latency, of up to its buffer. The earliest block tells, which a busy machine lets
        // through soon.
        let drift = eventually("blocks that come no later than before", || {
            Some(self.drift(&self.ear.lines(), Kind::Hole)).filter(|drift| *drift < 0.15)
        });
        println!("hole of {hole} blocks; blocks come {:.1} ms later after it than before", drift * 1000.0);
        assert!(drift > -0.15, "the hole is {drift} s too short");
        let down = self.metric("aircheck_capture_down_seconds_total");
        assert!((down - lost as f64 * BLOCK_SECONDS).abs() < 0.3, "down for {down} s, {lost} blocks lost");
        let told = self.series("aircheck_capture_lost_blocks_total", ",reason=\"source\"");
        assert_eq!(told, capture["lost_source"].as_f64().unwrap());
        assert_eq!(self.metric("aircheck_capture_up"), 1.0);
        assert_eq!(self.server.ask(&[], "readyz").0, 200);
        let losses = self.losses_before + 1;
        eventually("the return in the log", || (self.count_in_log("source_back") == losses).then_some(()));
        // Of several losses, the longest counts.
        let longest = if losses == 1 { lost } else { longest_hole(&lines) };
        assert_eq!(rows.len(), 1 + self.others.len(), "nobody left: {rows:?}");
        for row in &rows {
            assert_identity(row);
            assert!(row["gaps"] == losses || own > 0, "{row}");
            assert!(row["gap_max_blocks"].as_u64().unwrap() >= longest, "{row}");
        }
        eventually("listeners that are live", || {
            self.server.rows().iter().all(|row| row["lag_seconds"].as_f64() < Some(0.5)).then_some(())
        });
        assert_eq!(self.count_in_log("source_lost"), losses, "{}", self.server.log());
        // The sound system's library would write some lines of its own at each look for the device.
        assert!(!self.server.log().contains("ALSA lib"), "{}", self.server.log());
        // Silence came at its pace: the file is as long as the time.
        let channels = self.status()["format"]["channels"].as_u64().unwrap();
        let elapsed = self.started_at.elapsed().as_secs_f64();
        let bytes = fs::metadata(self.folder.path().join("stream.wav")).unwrap().len();
        let seconds = (bytes - 44) as f64 / (96_000 * channels) as f64;
        assert!((seconds - elapsed).abs() < 1.0, "{seconds} s of WAV in {elapsed} s");
    }
}

/// Returns the blocks that a listener was told to have lost because of the source.
fn hole(lines: &[Line]) -> u64 {
    lines.iter().filter(|line| line.kind == Kind::Hole).map(|line| line.blocks).sum()
}

/// Returns the blocks that a capture has lost although its source was there.
fn lost_beside_the_source(capture: &Value) -> u64 {
    ["lost_xrun", "lost_overflow", "lost_in_bursts"].map(|reason| capture[reason].as_u64().unwrap()).iter().sum()
}

/// Returns the blocks of the longest run of such losses.
fn longest_hole(lines: &[Line]) -> u64 {
    lines.chunk_by(|a, b| a.kind == b.kind).map(hole).max().unwrap_or(0)
}

/// A way to lose the microphone and to bring it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Killed,
    Ended,
    Frozen,
    Unloaded,
    Renamed,
    Reformatted,
    KilledBehindAlsa,
    FrozenBehindAlsa,
}

const CASES: [Case; 8] = [
    Case::Killed,
    Case::Ended,
    Case::Frozen,
    Case::Unloaded,
    Case::Renamed,
    Case::Reformatted,
    Case::KilledBehindAlsa,
    Case::FrozenBehindAlsa,
];

/// A microphone with another name, rate and number of channels.
const OTHER: Microphone = Microphone { name: "other", rate_hz: 44_100, channels: 2 };

impl Case {
    fn way(self) -> Way {
        if matches!(self, Self::KilledBehindAlsa | Self::FrozenBehindAlsa) { Way::Alsa } else { Way::Pulse }
    }

    fn lose(self, sound: &mut PulseServer) {
        match self {
            Self::Killed | Self::KilledBehindAlsa => sound.kill(),
            Self::Ended => {
                sound.signal("TERM");
                sound.wait();
            }
            Self::Frozen | Self::FrozenBehindAlsa => sound.signal("STOP"),
            Self::Unloaded | Self::Renamed | Self::Reformatted => sound.unload_microphone(),
        }
    }

    /// Brings the microphone back, and the player; returns when the microphone was there.
    fn bring_back(self, scene: &mut Scene) -> Instant {
        let sound = &mut scene.sound;
        let returned_at = match self {
            Self::Killed | Self::KilledBehindAlsa | Self::Ended => {
                sound.start_again(VMIC);
                Instant::now()
            }
            Self::Frozen | Self::FrozenBehindAlsa => {
                sound.signal("CONT");
                return Instant::now();
            }
            Self::Unloaded => {
                sound.load_microphone(VMIC);
                Instant::now()
            }
            Self::Renamed => {
                sound.load_microphone(Microphone { name: "renamed", ..VMIC });
                Instant::now()
            }
            Self::Reformatted => {
                sound.load_microphone(OTHER);
                Instant::now()
            }
        };
        scene.player = Some(tone::play_now(sound));
        returned_at
    }

    /// Loses the microphone for a while and brings it back.
    fn run(self, gone: Duration) -> (Scene, Outcome) {
        let mut scene = Scene::new(self.way(), &[]);
        let load_before = scene.load();
        scene.wait_for_source();
        self.lose(&mut scene.sound);
        let lost_at = Instant::now();
        scene.assert_lost("silent");
        let sizes = scene.sizes();
        let load = scene.load();
        for (before, after) in sizes.into_iter().zip(scene.sizes()) {
            // Compressed silence is small, but it comes.
            assert!(after > before, "silence comes in every format: {before} and then {after} bytes");
        }
        scene.assert_gap_grows();
        thread::sleep(gone.saturating_sub(lost_at.elapsed()));
        let returned_at = self.bring_back(&mut scene);
        let (sound, tone) = scene.hear_again(returned_at);
        let outcome = Outcome { sound, tone, load_before, load };
        println!("{self:?}: {outcome:?}");
        (scene, outcome)
    }

    fn check(self) {
        let (mut scene, outcome) = self.run(Duration::from_secs(3));
        // An error callback that spins takes a whole core more. A busy machine makes both figures uneven.
        assert!(outcome.load < outcome.load_before + 0.4, "it spins: {outcome:?}");
        scene.assert_true_account();
        assert_eq!(scene.metric("aircheck_capture_restarts_total"), 1.0 + scene.losses_before as f64);
        let name = match self {
            Self::Renamed => "renamed",
            Self::Reformatted => "other",
            // ALSA has its own name for the server.
            Self::KilledBehindAlsa | Self::FrozenBehindAlsa => "Default Audio Device",
            _ => "vmic",
        };
        assert_eq!(scene.status()["source"]["description"], format!("microphone “{name}”"));
    }
}

/// The outcome of one loss.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// Time from the return of the device to the first block of the source, and to the first of the tone.
    sound: Duration,
    tone: Duration,
    /// Parts of a core before the loss and after it.
    load_before: f64,
    load: f64,
}

/// The tests. `make test` runs them and the scripts of the page beside all others, because both mostly wait; it tells them by this name.
mod scenes {
    use super::*;

    /// Prints the table of docs/RELIABILITY.md. `RUNS` is the number of runs of each case, 20 by default; `CASES` names some cases,
    /// such as `Killed,KilledBehindAlsa`.
    #[test]
    #[ignore = "takes half an hour: a measurement"]
    fn measure_the_time_from_the_return_of_the_device_to_its_sound() {
        let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(20);
        let named = std::env::var("CASES").ok();
        let is_named =
            |case: &Case| named.as_ref().is_none_or(|named| named.split(',').any(|name| name == format!("{case:?}")));
        let mut table = String::new();
        for case in CASES.into_iter().filter(is_named) {
            let outcomes: Vec<_> =
                (0..runs).map(|run| case.run(Duration::from_millis(2500 + run % 7 * 500)).1).collect();
            let sorted = |value: fn(&Outcome) -> f64| {
                let mut values: Vec<_> = outcomes.iter().map(value).collect();
                values.sort_by(f64::total_cmp);
                move |part: f64| values[((values.len() - 1) as f64 * part).round() as usize]
            };
            let (sound, tone) = (sorted(|o| o.sound.as_secs_f64()), sorted(|o| o.tone.as_secs_f64()));
            let more = sorted(|o| 100.0 * (o.load - o.load_before));
            table += &format!(
                "| {case:?} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:+.1} | {:+.1} |\n",
                sound(0.0),
                sound(0.5),
                sound(0.9),
                sound(1.0),
                tone(0.5),
                tone(1.0),
                more(0.5),
                more(1.0)
            );
            println!("{table}");
        }
    }

    #[test]
    fn a_killed_sound_server_comes_back() {
        Case::Killed.check();
    }

    #[test]
    fn a_sound_server_that_ends_comes_back() {
        Case::Ended.check();
    }

    #[test]
    fn a_frozen_sound_server_comes_back() {
        Case::Frozen.check();
    }

    #[test]
    fn a_device_comes_back() {
        Case::Unloaded.check();
    }

    #[test]
    fn a_device_comes_back_under_another_name() {
        Case::Renamed.check();
    }

    #[test]
    fn a_device_comes_back_with_another_rate_and_other_channels() {
        Case::Reformatted.check();
    }

    /// libpulse deadlocks here in most runs: nothing reports the loss, and the stream's drop never returns.
    #[test]
    fn a_killed_sound_server_behind_alsa_comes_back() {
        Case::KilledBehindAlsa.check();
    }

    #[test]
    fn a_frozen_sound_server_behind_alsa_comes_back() {
        Case::FrozenBehindAlsa.check();
    }

    /// Too short to be a loss of the source. What was captured meanwhile comes all at once, which is more than the ring has room for, unless the
    /// dispatcher happens to make some in the middle of it.
    #[test]
    fn a_sound_server_that_stands_still_for_a_moment_is_told_as_the_cause() {
        let scene = Scene::new(Way::Alsa, &[]);
        let in_bursts = || scene.status()["capture"]["lost_in_bursts"].as_u64().unwrap();
        let before = in_bursts();
        let lost = eventually("a burst that has no room", || {
            scene.sound.freeze(Duration::from_millis(500));
            thread::sleep(Duration::from_millis(500));
            Some(in_bursts() - before).filter(|lost| *lost > 0)
        });
        println!("{lost} blocks are lost; {}", scene.status()["capture"]);
        scene.server.wait_for_log("xrun");
        eventually("one count on both sides", || {
            let lost = lost_beside_the_source(&scene.status()["capture"]) - scene.lost_before;
            (hole(&scene.ear.lines()) == lost).then_some(())
        });
        scene.server.rows().iter().for_each(assert_identity);
    }

    /// The microphone goes on while nothing of the program runs.
    #[test]
    fn a_server_that_was_stopped_for_ten_seconds_tells_its_true_hole() {
        const STOPPED: Duration = Duration::from_secs(10);

        let scene = Scene::new(Way::Pulse, &["--idle-timeout", "5s", "--max-lag", "5s"]);
        let pid = scene.server.pid();
        signal(pid, "STOP");
        thread::sleep(STOPPED);
        let continued_at = Instant::now();
        signal(pid, "CONT");
        scene.ear.wait_for(Kind::Tone, continued_at + Duration::from_secs(1));
        eventually("the return", || (scene.status()["state"] == "live").then_some(()));
        // After ten seconds of silence at once, it takes the server some time to know that all of it was read.
        let rows = eventually("listeners that are live", || {
            let rows = scene.server.rows();
            rows.iter().all(|row| row["lag_seconds"].as_f64() < Some(0.5)).then_some(rows)
        });
        assert_eq!(rows.len(), 1 + scene.others.len(), "nobody left: {rows:?}");
        rows.iter().for_each(assert_identity);
        let is_gap = |line: &&Line| matches!(line.kind, Kind::Hole | Kind::Gap);
        let blocks_told = |lines: &[Line]| lines.iter().filter(is_gap).map(|line| line.blocks).sum::<u64>();
        // A line and its account come one after the other.
        let (lines, told) = eventually("one count on both sides", || {
            let (row, lines) = (scene.server.row_when("ear", |_| true), scene.ear.lines());
            let told = blocks_told(&lines);
            (row["lost"] == told).then_some((lines, told))
        });
        let mut next = lines[0].first;
        for line in &lines {
            assert_eq!(line.first, next, "sequence numbers go on: {line:?}");
            next += line.blocks;
        }
        let first_gap = lines.iter().find(is_gap).unwrap();
        println!("{told} blocks are told as lost, the first {first_gap:?}; {}", scene.status()["capture"]);
        let silent = lines.iter().filter(|line| line.kind == Kind::Silence).count();
        let seconds = (told as f64 + silent as f64) * BLOCK_SECONDS;
        assert!(seconds < STOPPED.as_secs_f64() + 1.0, "{seconds} s are missing");
        let drift = scene.drift(&lines, first_gap.kind);
        println!("blocks come {:.1} ms later after it than before", drift * 1000.0);
        assert!(drift.abs() < 0.15, "the hole is {drift} s too short");
        assert_eq!(scene.server.ask(&[], "readyz").0, 200);
    }

    #[test]
    fn the_fallback_is_heard_and_marked_while_a_device_is_gone() {
        let recording = tempfile::tempdir().unwrap();
        let flags =
            ["--fallback", "tone:1000", "--fallback-after", "500ms", "--record", recording.path().to_str().unwrap()];
        let mut scene = Scene::new(Way::Pulse, &flags);
        scene.sound.kill();
        scene.assert_lost("fallback");
        assert_eq!(scene.metric("aircheck_fallback"), 1.0);
        let heard_at = scene.ear.wait_for(Kind::Tone, Instant::now());
        let returned_at = Case::Killed.bring_back(&mut scene);
        assert!(heard_at < returned_at);
        eventually("the source", || (scene.status()["state"] == "live").then_some(()));
        thread::sleep(Duration::from_secs(1));
        assert_eq!(scene.metric("aircheck_fallback"), 0.0);
        let capture = scene.status()["capture"].clone();
        let hole = hole(&scene.ear.lines());
        assert_eq!(capture["lost_source"], hole, "{capture}");
        // Half a second of silence, and the time that the new stream of the device takes is filled by the fallback.
        assert!((40..=60).contains(&hole), "{hole} blocks of silence");
        let fallback = capture["fallback"].as_f64().unwrap();
        assert_eq!(scene.metric("aircheck_capture_fallback_blocks_total"), fallback);
        let down = scene.metric("aircheck_capture_down_seconds_total");
        assert!(
            (down - (hole as f64 + fallback) * BLOCK_SECONDS).abs() < 0.1,
            "{down} s, {hole} and {fallback} blocks"
        );

        let events = scene.server.events();
        let order =
            [("source_lost", None), ("fallback", Some("begin")), ("fallback", Some("end")), ("source_back", None)];
        let places = order.map(|(name, state)| {
            let is_it = |event: &Value| event["event"] == name && event["state"].as_str() == state;
            events.iter().position(is_it).unwrap_or_else(|| panic!("{name} {state:?} in {events:?}"))
        });
        assert!(places.is_sorted(), "{events:?}");

        scene.server.terminate();
        assert_eq!(scene.server.wait().code(), Some(0));
        let sidecar = fs::read_dir(recording.path()).unwrap().map(|entry| entry.unwrap().path());
        let sidecar =
            sidecar.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "jsonl")).unwrap();
        let text = fs::read_to_string(sidecar).unwrap();
        let origins: Vec<_> = text
            .lines()
            .filter_map(|line| Some(serde_json::from_str::<Value>(line).unwrap()["origin"].as_str()?.to_owned()))
            .collect();
        assert_eq!(origins, ["missing", "fallback", "source"], "{text}");
    }

    #[test]
    fn a_server_waits_for_its_first_device() {
        let alone = alone();
        let mut sound = PulseServer::prepare();
        let program = program(&sound, Way::Pulse);
        let server = Server::launch(program, &["--source", "mic", "--wait-for-source"], |command| command);
        let mut scene = Scene::of(alone, PulseServer::prepare(), server);
        let status = scene.status();
        assert_eq!(
            (&status["format"]["rate_hz"], &status["format"]["channels"]),
            (&48_000.into(), &2.into()),
            "{status}"
        );
        scene.assert_lost("silent");
        scene.ear.wait_for(Kind::Hole, scene.started_at);
        sound.start_again(VMIC);
        let returned_at = Instant::now();
        scene.sound = sound;
        scene.player = Some(tone::play_now(&scene.sound));
        let (sound, tone) = scene.hear_again(returned_at);
        println!(
            "sound {} ms after the start of the sound server, the tone {} ms",
            sound.as_millis(),
            tone.as_millis()
        );
        let status = scene.status();
        assert_eq!(status["format"]["channels"], 2, "{status}");
        assert_eq!(status["state"], "live", "{status}");
        assert_eq!(scene.server.rows().len(), 4);
    }

    #[test]
    fn with_the_policy_end_every_stream_ends_in_order() {
        let mut scene = Scene::new(Way::Pulse, &["--on-source-loss", "end"]);
        scene.sound.kill();
        assert_eq!(scene.server.wait().code(), Some(1), "{}", scene.server.log());
        assert!(scene.server.log().contains("the source has failed: microphone"), "{}", scene.server.log());
        for listener in &mut scene.others {
            assert!(listener.wait().success(), "the stream ends with its last chunk");
        }
    }

    /// What a program does that writes to stdin.
    #[derive(Clone, Copy, Debug)]
    enum Writing {
        /// It writes each period of 10 ms when it is over.
        OnTime,
        /// Its source stands still.
        Paused,
        /// Its source goes on, and it cannot write. It writes everything afterwards, as fast as it can.
        HeldUp,
    }

    /// A program that writes a tone to a pipe, in mono. It ends when the sender is dropped.
    fn write_tone(mut pipe: PipeWriter) -> mpsc::Sender<Writing> {
        let (sender, orders) = mpsc::channel();
        let period: Vec<u8> =
            (0..480).map(|n| (8192.0 * (f64::from(n) * 0.1).sin()) as i16).flat_map(i16::to_le_bytes).collect();
        thread::spawn(move || {
            let (mut writing, mut due) = (Writing::OnTime, Instant::now());
            loop {
                match orders.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Ok(order) => writing = order,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => match writing {
                        Writing::OnTime => {
                            due += Duration::from_millis(10);
                            let _ = pipe.write_all(&period);
                        }
                        Writing::Paused => due += Duration::from_millis(10),
                        Writing::HeldUp => thread::sleep(Duration::from_millis(1)),
                    },
                }
            }
        });
        sender
    }

    /// Starts a scene whose source is a program that writes to stdin.
    fn with_stdin(flags: &[&str]) -> (Scene, mpsc::Sender<Writing>) {
        let alone = alone();
        let (reader, pipe) = std::io::pipe().unwrap();
        let flags = [&["--source", "stdin", "--channels", "1"], flags].concat();
        let server = Server::launch(command_with_priority(), &flags, |command| command.stdin(reader));
        let scene = Scene::of(alone, PulseServer::prepare(), server);
        let writer = write_tone(pipe);
        scene.ear.wait_for(Kind::Tone, scene.started_at);
        // The writer must be known for one that goes at the pace of its sound.
        thread::sleep(Duration::from_millis(2500));
        (scene, writer)
    }

    /// Stdin stands still for three seconds: silence comes at its pace in every format, and the hole is counted.
    fn check_stdin(interruption: Writing) {
        let (mut scene, writer) = with_stdin(&[]);
        writer.send(interruption).unwrap();
        scene.assert_lost("silent");
        let sizes = scene.sizes();
        thread::sleep(Duration::from_secs(2));
        for (before, after) in sizes.into_iter().zip(scene.sizes()) {
            assert!(after > before, "silence comes in every format: {before} and then {after} bytes");
        }
        writer.send(Writing::OnTime).unwrap();
        let returned_at = Instant::now();
        let (sound, tone) = scene.hear_again(returned_at);
        println!("{interruption:?}: the source after {} ms, the tone after {} ms", sound.as_millis(), tone.as_millis());
        assert!(tone < Duration::from_secs(2), "{tone:?}");
        // Late sound would come within this time.
        thread::sleep(Duration::from_secs(3));
        scene.assert_true_account();
        assert_eq!(scene.metric("aircheck_capture_restarts_total"), 0.0, "its pipe is never opened again");
        drop(writer);
        assert_eq!(scene.server.wait().code(), Some(0), "{}", scene.server.log());
        for listener in &mut scene.others {
            assert!(listener.wait().success(), "the stream ends with its last chunk");
        }
    }

    #[test]
    fn stdin_that_pauses_gives_silence_at_its_pace() {
        check_stdin(Writing::Paused);
    }

    #[test]
    fn stdin_that_was_held_up_is_on_time_afterwards() {
        check_stdin(Writing::HeldUp);
    }

    #[test]
    fn with_the_policy_end_a_pause_of_stdin_ends_every_stream() {
        let (mut scene, writer) = with_stdin(&["--on-source-loss", "end"]);
        writer.send(Writing::Paused).unwrap();
        assert_eq!(scene.server.wait().code(), Some(1), "{}", scene.server.log());
        assert!(scene.server.log().contains("the source has failed: nothing comes"), "{}", scene.server.log());
    }

    /// Its pipe is open, and nothing ever comes: silence is as long as the server has run.
    #[test]
    fn stdin_that_never_begins_gives_silence() {
        let _alone = alone();
        let (reader, pipe) = std::io::pipe().unwrap();
        let server = Server::start_with(&["--source", "stdin"], |command| command.stdin(reader));
        let started_at = Instant::now();
        let ear = Ear::start(&server);
        ear.wait_for(Kind::Hole, started_at);
        thread::sleep(Duration::from_secs(1));
        let lost = server.json("api/v1/status")["capture"]["lost_source"].as_f64().unwrap() * BLOCK_SECONDS;
        let elapsed = started_at.elapsed().as_secs_f64();
        assert!((lost - elapsed).abs() < 1.0, "{lost} s are lost in {elapsed} s");
        drop(pipe);
    }

    /// A file or a pipe that ends is over, unless there is a fallback.
    #[test]
    fn the_fallback_goes_on_after_a_file_and_after_stdin() {
        let folder = tempfile::tempdir().unwrap();
        let wav = write_wav(&folder.path().join("short.wav"), 1, vec![0; 24_000]);
        // Of another rate, which becomes that of the stream.
        let jingle = (0..22_050).map(|n| (8192.0 * (f64::from(n) * 0.3).sin()) as i16);
        let jingle = write_wav_at(22_050, &folder.path().join("jingle.wav"), 2, jingle.flat_map(|sample| [sample; 2]));
        for source in [&*wav, "stdin"] {
            let server = Server::start(&["--source", source, "--fallback", &jingle, "--fallback-after", "0s"]);
            let started_at = Instant::now();
            let ear = Ear::start(&server);
            ear.wait_for(Kind::Tone, started_at);
            let status = server.json("api/v1/status");
            assert_eq!(status["state"], "fallback", "{status}");
            assert_eq!(status["format"]["rate_hz"], 48_000, "{status}");
            assert!(status["capture"]["lost_source"].as_u64() < Some(200), "{status}");
            // It starts again at its end.
            thread::sleep(Duration::from_millis(1500));
            ear.wait_for(Kind::Tone, Instant::now());
        }
    }

    #[test]
    fn a_fallback_that_cannot_be_played_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let empty = write_wav(&folder.path().join("empty.wav"), 1, vec![]);
        for (fallback, reason) in [("wav:/nonexistent/f.wav", "cannot be opened"), (&*empty, "has no sound in it")] {
            let (code, text) = refused(&["--source", "tone:440", "--fallback", fallback]);
            assert_eq!(code, 1, "{text}");
            assert!(text.contains(&format!("fallback `{fallback}`: ")) && text.contains(reason), "{text}");
        }
    }

    /// The device is opened again while it is taken away, and before it has delivered anything.
    #[test]
    fn a_device_that_vanishes_while_it_is_opened_is_opened_again() {
        let mut scene = Scene::new(Way::Pulse, &[]);
        scene.sound.unload_microphone();
        scene.assert_lost("silent");
        for _ in 0..5 {
            scene.sound.load_microphone(VMIC);
            thread::sleep(Duration::from_millis(60));
            scene.sound.unload_microphone();
            thread::sleep(Duration::from_millis(350));
        }
        let returned_at = Case::Unloaded.bring_back(&mut scene);
        scene.ear.wait_for(Kind::Tone, returned_at);
        assert_eq!(scene.server.rows().len(), 4, "nobody left");
    }

    /// It is looked for twice a second, perhaps for days.
    #[test]
    fn a_device_that_stays_away_leaves_nothing_behind_at_each_look() {
        check_that_nothing_grows(|sound| sound.unload_microphone());
    }

    /// Calls into a frozen sound server do not return. There are no more than eight of them.
    #[test]
    fn a_sound_server_that_stays_frozen_leaves_no_file_behind_at_each_look() {
        check_that_nothing_grows(|sound| sound.signal("STOP"));
    }

    fn check_that_nothing_grows(lose: impl Fn(&mut PulseServer)) {
        let mut scene = Scene::new(Way::Pulse, &[]);
        let pid = scene.server.pid();
        let count = || (process::descriptors(pid), fs::read_dir(format!("/proc/{pid}/task")).unwrap().count());
        let (files, threads) = count();
        lose(&mut scene.sound);
        scene.assert_lost("silent");
        thread::sleep(Duration::from_secs(12));
        let (more_files, more_threads) = count();
        println!("{files} files and {threads} threads, later {more_files} and {more_threads}");
        // A connection of this test's own may be open.
        assert!(more_files <= files + 3, "{files} and then {more_files} files");
        assert!(more_threads <= threads + 8, "{threads} and then {more_threads} threads");
    }
}
