//! The page in a real browser: it plays live and comes back to live whatever happens, shows who listens and who lags,
//! and can disconnect them.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "../../engine/tests/common/pulse.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod pulse;
#[path = "common/tone.rs"]
mod tone;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{Listener, Server, eventually, signal};
use pulse::{PulseServer, Way};
use serde_json::{Value, json};

/// A headless Chromium that is told what to do over a pipe, in its DevTools protocol. One at a time: what is heard in
/// it is to be compared with what is sent, and a small machine can play only so much at once.
struct Browser {
    child: Child,
    commands: File,
    answers: BufReader<File>,
    session: Value,
    last_id: u64,
    _directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    fn open(url: &str) -> Self {
        let mut browser = Self::start();
        browser.go(url);
        browser
    }

    /// With an empty page.
    fn start() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let [commands, answers] = ["commands", "answers"].map(|name| directory.path().join(name));
        assert!(Command::new("mkfifo").args([&commands, &answers]).status().unwrap().success());
        // The browser reads commands from descriptor 3 and writes answers to 4; a shell puts the pipes there.
        let child = Command::new("sh")
            .args(["-c", "exec 3<\"$1\" 4>\"$2\"; shift 2; exec \"$@\"", "browser"])
            .args([&commands, &answers])
            .args(["chromium", "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-quic", "--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"])
            .args(["--autoplay-policy=document-user-activation-required", "--window-size=1280,900"])
            .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Each open waits for the other side.
        let commands = OpenOptions::new().write(true).open(commands).unwrap();
        let answers = BufReader::new(File::open(answers).unwrap());
        let mut browser =
            Self { child, commands, answers, session: Value::Null, last_id: 0, _directory: directory, _alone: alone };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].clone();
        browser.call("Page.enable", json!({}));
        browser
    }

    fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.until("typeof aircheck === 'object' && document.readyState === 'complete'");
    }

    /// Calls a method and returns its result.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut call = json!({ "id": self.last_id, "method": method, "params": params });
        if !self.session.is_null() {
            call["sessionId"] = self.session.clone();
        }
        write!(self.commands, "{call}\0").unwrap();
        loop {
            let mut message = Vec::new();
            self.answers.read_until(0, &mut message).unwrap();
            assert_eq!(message.pop(), Some(0), "the browser has ended");
            let message: Value = serde_json::from_slice(&message).unwrap();
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// The value of a JavaScript expression on the page.
    fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.call("Runtime.evaluate", params)["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    fn until(&mut self, expression: &str) {
        eventually(expression, || (self.value(expression) == true).then_some(()));
    }

    /// Runs a script of checks, which throws if one fails.
    fn check(&mut self, script: &str) {
        let params = json!({ "expression": format!("(async () => {{{script}}})()"), "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{}", result["exceptionDetails"]["exception"]["description"]);
    }

    /// Presses the mouse on an element, as a person would.
    fn press(&mut self, selector: &str) {
        let rectangle = format!("document.querySelector('{selector}').getBoundingClientRect().toJSON()");
        let rectangle = self.value(&rectangle);
        let middle =
            |from: &str, length: &str| rectangle[from].as_f64().unwrap() + rectangle[length].as_f64().unwrap() / 2.0;
        let (x, y) = (middle("x", "width"), middle("y", "height"));
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// Presses Play, and waits for the tone of [`tone::HZ`].
    fn play(&mut self) {
        // What a browser sets up for its first sound, the page has it set up before somebody presses.
        self.until("aircheck.live.node !== undefined");
        self.press("#play");
        self.until(TONE);
    }

    /// Waits until what is heard is the tone, and as close to live as a busy machine can be.
    fn until_live(&mut self) {
        self.until(&format!("{TONE} && aircheck.player.figures?.stages?.ear < {LIVE_SECONDS}"));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True while what comes out of the player is a tone of 440 Hz at -12 dBFS. Between two of its frequencies are 12 Hz.
const TONE: &str = "(({ rms, hz }) => Math.abs(rms - 0.177) < 0.01 && Math.abs(hz - 440) < 13)(aircheck.sound())";
/// Closer to live than the pauses are long that the tests make.
const LIVE_SECONDS: f64 = 0.8;
/// How long the tests keep the page from playing.
const PAUSE: Duration = Duration::from_secs(2);

/// A process and its descendants, which the kernel lists by thread.
fn family(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> =
        lists.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    [pid].into_iter().chain(children.into_iter().flat_map(family)).collect()
}

fn test_tone() -> Server {
    Server::start(&["--source", "tone:440"])
}

#[test]
fn it_plays_shows_who_listens_and_disconnects_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(); // first, for it may have to wait, and the tone does not last
    let sound_server = PulseServer::start();
    let _player = tone::play(&sound_server);
    let program = sound_server.command(env!("CARGO_BIN_EXE_aircheck"), Way::Pulse);
    let server = Server::launch(program, &["--source", "mic"], |command| command);
    browser.go(&server.url);
    browser.until("document.getElementById('state')?.textContent === 'ON AIR'");
    browser.until("document.getElementById('source').textContent.includes('icrophone')");

    browser.play();
    browser.until("document.getElementById('player-line').textContent === 'Live.'");
    browser.until("document.getElementById('rows').textContent.includes('page')");
    browser.until("document.getElementById('meters').textContent.includes('12.0')");
    browser.until("document.getElementById('ear').textContent.endsWith('ms')");
    let first = browser.value("aircheck.player.figures.first_sound_seconds").as_f64().unwrap();
    println!("from the press of Play to the first sound: {first:.3} s");

    // What the page works out is what it tells the server.
    let row = server.row_when("page", |row| row["latency_seconds"]["ear"]["p50"].is_f64());
    let told = row["latency_seconds"]["ear"]["max"].as_f64().unwrap();
    assert!((0.04..10.0).contains(&told), "heard {told} s after it was captured");
    let stages = browser.value("aircheck.player.figures.stages");
    println!("stages in seconds: {stages}");
    let [arrival, buffer, output, ear] =
        ["arrival", "buffer", "output", "ear"].map(|key| stages[key].as_f64().unwrap());
    assert!((arrival + buffer + output - ear).abs() < 1e-6 && arrival > 0.0 && output >= 0.0, "{stages}");

    browser.press("#play");
    eventually("the end of the page's stream", || server.rows().is_empty().then_some(()));
    browser.until("aircheck.live.context.state === 'suspended'");

    let hostile = "<img src=x onerror=document.title=1>";
    let url = server.url("stream.wav?name=%3Cimg%20src=x%20onerror=document.title=1%3E");
    let mut listener = Listener::start(&url, &directory.path().join("heard"));
    server.row_when(hostile, |_| true);
    browser.until("document.getElementById('rows').textContent.includes('onerror')");
    browser.value("document.querySelector('#rows button').click()");
    assert!(listener.wait().success());
    assert_ne!(browser.value("document.title"), "1");
}

#[test]
fn its_buffer_and_clock_keep_their_promises() {
    let server = test_tone();
    let mut browser = Browser::open(&server.url);
    browser.check(include_str!("page/clock.js"));
    browser.check(include_str!("page/playout.js"));
}

#[test]
fn it_comes_back_to_live_by_itself() {
    let server = test_tone();
    let mut browser = Browser::open(&server.url);
    browser.play();
    browser.until_live();

    // The browser takes the sound away for a while, as in a call.
    browser.value("aircheck.live.context.suspend()");
    std::thread::sleep(PAUSE);
    browser.value("aircheck.live.context.resume()");
    browser.until_live();
    assert_eq!(server.rows().len(), 1);

    // The machine sleeps, as far as the browser can tell.
    let processes = family(browser.child.id());
    processes.iter().for_each(|pid| signal(*pid, "STOP"));
    std::thread::sleep(PAUSE);
    processes.iter().for_each(|pid| signal(*pid, "CONT"));
    browser.until_live();

    // The connection is lost.
    let lost = server.row_when("page", |_| true)["id"].clone();
    let (status, _) = server.ask(&["--request", "DELETE"], &format!("api/v1/listeners/{lost}"));
    assert_eq!(status, 200);
    server.row_when("page", |row| row["id"] != lost);
    browser.until(&format!("aircheck.player.listener > {lost}"));
    browser.until_live();

    // So is the server, and there is another one later.
    let address = server.address.to_string();
    drop(server);
    browser.until("document.body.classList.contains('unreachable')");
    let server = Server::start(&["--source", "tone:440", "--listen", &address]);
    browser.until("!document.body.classList.contains('unreachable')");
    server.row_when("page", |row| row["delivered"].as_u64().unwrap() > 0);
    browser.until_live();
    browser.until("document.getElementById('player-line').textContent === 'Live.'");
}

#[test]
fn a_frozen_listener_is_seen_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = test_tone();
    let names = ["first", "second", "third"];
    let listeners = names
        .map(|name| Listener::start(&server.url(&format!("stream.wav?name={name}")), &directory.path().join(name)));
    for name in names {
        server.row_when(name, |_| true);
    }
    let mut browser = Browser::open(&server.url);
    browser.until("document.querySelectorAll('#rows tr').length === 3");

    signal(listeners[2].pid(), "STOP");
    let frozen_at = Instant::now();
    browser.until(
        "(([worst]) => worst.textContent.includes('third') && worst.className.includes('behind'))\
         (document.querySelectorAll('#rows tr'))",
    );
    println!("a frozen listener stood out after {:.1} s", frozen_at.elapsed().as_secs_f64());
    browser.until("document.querySelector('#rows tr .history path.line').getAttribute('d').includes('L')");
    signal(listeners[2].pid(), "CONT");
}

#[test]
fn it_says_when_the_sound_is_none_or_too_loud() {
    let directory = tempfile::tempdir().unwrap();
    let square = |name: &str, level: i16| {
        let path = directory.path().join(name);
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 48_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for frame in 0..48_000 {
            writer.write_sample(if frame / 50 % 2 == 0 { level } else { -level }).unwrap();
        }
        writer.finalize().unwrap();
        format!("wav:{}", path.display())
    };
    let shown = |browser: &mut Browser, badge: &str| {
        browser.until(&format!("document.getElementById('{badge}').checkVisibility()"));
    };
    let mut browser = Browser::start();

    let server = Server::start(&["--source", &square("loud", i16::MAX), "--loop"]);
    browser.go(&server.url);
    shown(&mut browser, "clipped");
    assert_eq!(browser.value("document.getElementById('silent').hidden"), true);

    let server = Server::start(&["--source", &square("quiet", 10), "--loop"]);
    browser.go(&server.url);
    shown(&mut browser, "silent");
    assert_eq!(browser.value("document.getElementById('clipped').hidden"), true);

    // A pipe that is open, and through which nothing comes.
    let server = Server::start_with(&["--source", "stdin"], |command| command.stdin(Stdio::piped()));
    browser.go(&server.url);
    shown(&mut browser, "gone");
}

#[test]
fn a_browser_that_can_not_play_live_says_so_and_plays() {
    let server = test_tone();
    let mut browser = Browser::start();
    let script = json!({ "source": "delete window.AudioWorkletNode" });
    browser.call("Page.addScriptToEvaluateOnNewDocument", script);
    browser.go(&server.url);
    browser.until("document.getElementById('obstacle').textContent.includes('AudioWorklet')");
    browser.press("#play");
    browser.until("document.getElementById('audio').currentTime > 1");
    browser.until("document.getElementById('player-line').textContent.includes('Opus')");
    server.row_when("page", |row| row["format"] == "opus");

    // Where Opus is not to be had, WAV will do.
    browser.press("#play");
    eventually("the end of the page's stream", || server.rows().is_empty().then_some(()));
    browser.value("HTMLMediaElement.prototype.canPlayType = (type) => type.includes('wav') ? 'maybe' : ''");
    browser.press("#play");
    browser.until("document.getElementById('audio').currentTime > 1");
    server.row_when("page", |row| row["format"] == "wav");
}
