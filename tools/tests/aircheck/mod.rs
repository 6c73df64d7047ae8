//! The real `aircheck` on a port of its own, and the real `aircheckctl` against it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Far more than anything here takes on a loaded machine: a hang must fail, not stop the run.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the server's program: that of `AIRCHECK_PROGRAM`, or else a fresh build beside `aircheckctl`. A build that
/// has nothing to do takes less than a second, and a stale program would test nothing.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(program) = std::env::var_os("AIRCHECK_PROGRAM") {
            return program.into();
        }
        let program = Path::new(env!("CARGO_BIN_EXE_aircheckctl")).with_file_name("aircheck");
        let profile_directory = program.parent().expect("the profile's directory");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "aircheck-server", "--bin", "aircheck"]);
        build.arg("--target-dir").arg(profile_directory.parent().expect("the target directory"));
        if profile_directory.ends_with("release") {
            build.arg("--release");
        }
        let output = build.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo should start");
        assert!(output.status.success(), "the server should build: {}", String::from_utf8_lossy(&output.stderr));
        program
    })
}

/// A running `aircheck` on a port of its own, ended when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// `HOST:PORT`.
    pub(crate) authority: String,
    directory: TempDir,
}

impl Server {
    /// Starts the server, and waits until it listens.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", flags)
    }

    /// Starts it at an address where one was before.
    pub(crate) fn start_at(address: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let log = File::create(directory.path().join("log")).expect("its log");
        let mut command = Command::new(program());
        // No settings but those of the test.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AIRCHECK_")) {
            command.env_remove(name);
        }
        // The certificate of `--tls-self-signed` is kept below.
        command.env_remove("STATE_DIRECTORY").env("XDG_DATA_HOME", directory.path());
        command.args(["--listen", address]).args(flags);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().expect("it should start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its stdout")).read_line(&mut line).expect("UTF-8");
        // Made before the line is read, so that a wrong one shows the log and ends the process.
        let mut server = Self { child, authority: String::new(), directory };
        let url = line.trim().strip_prefix("listening on ").expect("it should say where it listens");
        let (_, authority) = url.split_once("://").expect("a URL");
        server.authority = authority.trim_end_matches('/').to_owned();
        server
    }

    pub(crate) fn url(&self, query: &str) -> String {
        format!("http://{}/{query}", self.authority)
    }

    pub(crate) fn websocket(&self, query: &str) -> String {
        format!("ws://{}/{query}", self.authority)
    }

    /// Returns the file with the certificate of `--tls-self-signed`.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.path().join("aircheck/tls-self-signed.pem")
    }

    /// Returns its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("its log")
    }

    /// Returns the answer to a request without a body.
    pub(crate) fn ask(&self, method: &str, path: &str) -> String {
        let mut tcp = TcpStream::connect(&self.authority).expect("a connection");
        tcp.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.authority);
        tcp.write_all(request.as_bytes()).expect("it should take a request");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).expect("it should answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 "), "{method} {path}: {answer}");
        body.to_owned()
    }

    /// Returns the row of the listener called `name`, once there is one that fulfils `condition`.
    pub(crate) fn row_when(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("the row for {name}"), || {
            let rows: Vec<Value> = serde_json::from_str(&self.ask("GET", "/api/v1/listeners")).expect("rows");
            let row = rows.into_iter().find(|row| row["name"] == name);
            row.inspect(assert_identity).filter(|row| condition(row))
        })
    }

    /// Returns the sum of a metric's series that have all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.ask("GET", "/metrics");
        let series = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        let fitting = series.filter(|(given, _)| labels.iter().all(|label| given.contains(label)));
        fitting.map(|(_, value)| value.parse::<u64>().expect("a count")).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "the server's log:\n{}",
                fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
        }
    }
}

/// A running `aircheckctl`, ended when dropped.
pub(crate) struct Listening(Option<Child>);

impl Listening {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_aircheckctl")), arguments)
    }

    /// Starts another command than `listen`.
    pub(crate) fn command(name: &str, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_aircheckctl")), name, arguments)
    }

    /// Starts `listen` with an environment of its own.
    pub(crate) fn launch(command: Command, arguments: &[&str]) -> Self {
        Self::spawn(command, "listen", arguments)
    }

    fn spawn(mut command: Command, name: &str, arguments: &[&str]) -> Self {
        command.arg(name).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().expect("it should start")))
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.0.as_ref().expect("it runs"), name);
    }

    pub(crate) fn finish(self) -> Ended {
        self.finish_within(TIMEOUT)
    }

    pub(crate) fn finish_within(mut self, timeout: Duration) -> Ended {
        let child = self.0.take().expect("it runs");
        let (done, ended) = mpsc::channel();
        thread::spawn(move || done.send(child.wait_with_output()));
        let Output { status, stdout, stderr } = ended.recv_timeout(timeout).expect("its end").expect("its output");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: status.code(), summary: text(stdout), notices: text(stderr) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) summary: String,
    pub(crate) notices: String,
}

impl Ended {
    /// Returns the number before `noun` in the summary's line called `line`, if it is there.
    pub(crate) fn count(&self, line: &str, noun: &str) -> Option<u64> {
        let line = self.summary.lines().find_map(|text| text.strip_prefix(line))?;
        let words: Vec<&str> = line.split([' ', ',', ':']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| word.trim_end_matches('s') == noun)?;
        words[at.checked_sub(1)?].parse().ok()
    }
}

/// Sends a signal, by its name without SIG.
pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill").success());
}

/// Repeats a question until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < TIMEOUT, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().expect("a count")
}

pub(crate) fn assert_identity(row: &Value) {
    let parts = number(row, "delivered") + number(row, "lost") + number(row, "queued");
    assert_eq!(number(row, "offered"), parts, "{row}");
}
