//! The page in a real browser: it plays the microphone, shows who listens, and can disconnect them.

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

use common::{Listener, Server, eventually};
use pulse::{PulseServer, Way};
use serde_json::{Value, json};

/// A headless Chromium that is told what to do over a pipe, in its DevTools protocol.
struct Browser {
    child: Child,
    commands: File,
    answers: BufReader<File>,
    session: Value,
    last_id: u64,
    _directory: tempfile::TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
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
            .args(["--autoplay-policy=no-user-gesture-required", "--window-size=1280,900"])
            .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Each open waits for the other side.
        let commands = OpenOptions::new().write(true).open(commands).unwrap();
        let answers = BufReader::new(File::open(answers).unwrap());
        let mut browser = Self { child, commands, answers, session: Value::Null, last_id: 0, _directory: directory };
        let target = browser.call("Target.createTarget", json!({ "url": url }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].clone();
        browser
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
        let params = json!({ "expression": expression, "returnByValue": true, "userGesture": true });
        self.call("Runtime.evaluate", params)["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    fn until(&mut self, expression: &str) {
        eventually(expression, || (self.value(expression) == true).then_some(()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_plays_shows_who_listens_and_disconnects_them() {
    let directory = tempfile::tempdir().unwrap();
    let sound_server = PulseServer::start();
    let _player = tone::play(&sound_server);
    let program = sound_server.command(env!("CARGO_BIN_EXE_aircheck"), Way::Pulse);
    let server = Server::launch(program, &["--source", "mic"], |command| command);
    let mut browser = Browser::open(&server.url);
    browser.until("document.getElementById('state')?.textContent === 'ON AIR'");
    browser.until("document.getElementById('source').textContent.includes('icrophone')");

    browser.value("document.getElementById('play').click()");
    browser.until("document.getElementById('audio').currentTime > 1");
    server.row_when("page", |row| row["delivered"].as_u64().unwrap() > 100);
    browser.until("document.getElementById('rows').textContent.includes('page')");
    browser.until("document.getElementById('meters').textContent.includes('12.0')");

    browser.value("document.getElementById('play').click()");
    eventually("the end of the page's stream", || server.rows().is_empty().then_some(()));

    let hostile = "<img src=x onerror=document.title=1>";
    let url = server.url("stream.wav?name=%3Cimg%20src=x%20onerror=document.title=1%3E");
    let mut listener = Listener::start(&url, &directory.path().join("heard"));
    server.row_when(hostile, |_| true);
    browser.until("document.getElementById('rows').textContent.includes('onerror')");
    browser.value("document.querySelector('#rows button').click()");
    assert!(listener.wait().success());
    assert_ne!(browser.value("document.title"), "1");
}
