//! Starts the real program for a test, sends requests to it with curl, and ends it by its process id.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

pub(crate) mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// The limit of every wait. Nothing takes as long, however loaded the machine is.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the command that follows ahead of other programs. Root may do that; others get a warning.
pub(crate) const PRIORITY: [&str; 3] = ["nice", "-n", "-10"];

/// A running `aircheck`, ended when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    /// Where figures are, if not at `url`.
    figures: Option<String>,
    log: std::path::PathBuf,
    /// Kept open: further addresses are printed after the first.
    _stdout: BufReader<ChildStdout>,
    /// Kept for the log.
    _directory: tempfile::TempDir,
}

impl Server {
    /// Starts it with `flags` on a free port and waits until it listens.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, |command| command)
    }

    /// Starts it like [`start`](Self::start), after `prepare` has changed the command: its environment, its stdin.
    pub(crate) fn start_with(flags: &[&str], prepare: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        Self::launch(command(), flags, prepare)
    }

    /// Starts it like [`start_with`](Self::start_with), from a command that has an environment already.
    pub(crate) fn launch(
        mut command: Command,
        flags: &[&str],
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        command.args(flags);
        let listen = flags.iter().position(|flag| *flag == "--listen").and_then(|at| flags.get(at + 1));
        let listen = listen.copied().unwrap_or("127.0.0.1:0");
        if !flags.contains(&"--listen") {
            command.args(["--listen", listen]);
        }
        let is_public = !listen.starts_with("127.");
        if is_public && !flags.contains(&"--config") {
            command.arg("--insecure-public");
        }
        // This machine reads figures on loopback.
        let has_figures = is_public && !listen.starts_with("0.") && !flags.contains(&"--config");
        if has_figures {
            command.args(["--admin-listen", "127.0.0.1:0"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
        let mut child = prepare(&mut command).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let Some(url) = line.strip_prefix("listening on ") else {
            let status = child.wait().unwrap();
            panic!("it did not start, {status}: {}", std::fs::read_to_string(&log).unwrap());
        };
        let url = url.trim().to_owned();
        let address = address_of(&url);
        if let Some(at) = flags.iter().position(|flag| *flag == "--tls-cert") {
            tls::note(address, Path::new(flags[at + 1]));
        }
        let figures = has_figures.then(|| {
            let written = || {
                std::fs::read_to_string(&log)
                    .unwrap()
                    .split_once("figures and changes at ")
                    .map(|(_, url)| url.lines().next().unwrap_or_default().to_owned())
            };
            eventually("the address of the figures", || written().filter(|url| url.ends_with('/')))
        });
        Self { child, url, address, figures, log, _stdout: stdout, _directory: directory }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        let is_figure = path.starts_with("api/") || path.starts_with("metrics");
        let url = self.figures.as_ref().filter(|_| is_figure).unwrap_or(&self.url);
        format!("{url}{path}")
    }

    /// Returns the address at which this machine reads figures.
    pub(crate) fn figures_address(&self) -> SocketAddr {
        let url = self.figures.as_ref().unwrap_or(&self.url);
        address_of(url)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its log so far. Lines are written a moment after their event.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until its log contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    /// Returns the JSON at `path`.
    pub(crate) fn json(&self, path: &str) -> Value {
        let output = curl(&["--fail", &self.url(path)]).output().unwrap();
        assert!(output.status.success(), "{path}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Returns the text at `path`.
    pub(crate) fn text(&self, path: &str) -> String {
        let output = curl(&["--fail", &self.url(path)]).output().unwrap();
        assert!(output.status.success(), "{path}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Requests `path` with further arguments of curl; returns the status code and the whole response, head and body.
    pub(crate) fn ask(&self, arguments: &[&str], path: &str) -> (u16, String) {
        let url = self.url(path);
        let output = curl(&[&["--include", "--max-time", "30"], arguments, &[&url]].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, text)
    }

    /// Returns the rows of all listeners.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.json("api/v1/listeners").as_array().unwrap().clone()
    }

    /// Returns the events of the main mount so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let most = TEST_TIMEOUT.as_secs().to_string();
        let arguments = ["--max-time", &most, &self.url("api/v1/events?from=0")];
        let mut listener = Listener::of(curl(&arguments).stdout(Stdio::piped()));
        let mut events = Vec::new();
        for line in BufReader::new(listener.child.stdout.take().unwrap()).lines().map(Result::unwrap) {
            // After the last event that there is, a comment shows that the connection works.
            if line == ":" {
                return events;
            }
            events.extend(line.strip_prefix("data: ").map(|event| serde_json::from_str::<Value>(event).unwrap()));
        }
        panic!("the events end after {events:?}");
    }

    /// Waits for a row of the listener called `name` that meets `condition`, and returns it.
    pub(crate) fn row_when(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("a row for {name}"), || {
            self.rows().into_iter().find(|row| row["name"] == name && condition(row))
        })
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if std::thread::panicking()
                && let Ok(answer) = curl(&["--insecure", "--max-time", "2", &self.url("api/v1/status")]).output()
            {
                eprintln!("the server's status: {}", String::from_utf8_lossy(&answer.stdout));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// Returns the address in a URL.
fn address_of(url: &str) -> SocketAddr {
    url.split("://").nth(1).unwrap().trim_end_matches('/').parse().unwrap()
}

/// Returns a command of the program without any settings from outside the test.
pub(crate) fn command() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_aircheck")))
}

/// Connects from this address of the machine: each is another client.
pub(crate) fn connect_from(from: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.into()
}

/// Returns the same command with [`PRIORITY`].
pub(crate) fn command_with_priority() -> Command {
    command_behind(&PRIORITY)
}

/// Returns this command with [`PRIORITY`].
pub(crate) fn with_priority(command: &Command) -> Command {
    let mut prioritized = Command::new(PRIORITY[0]);
    prioritized.args(&PRIORITY[1..]).arg(command.get_program()).args(command.get_args());
    prioritized.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    prioritized
}

/// Returns the same command behind the words of a program that runs it: a shell that sets limits, or one in a namespace.
pub(crate) fn command_behind(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_aircheck"));
    without_settings(command)
}

/// Returns whether this test may mount a disk, in a namespace of its own. Says so if not.
pub(crate) fn may_mount() -> bool {
    let may = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        eprintln!("skipped: no right to mount a disk");
    }
    may
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AIRCHECK_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    // Not the sound server of this machine.
    command.env("PULSE_SERVER", "unix:/nonexistent/pulse.sock").env("NO_COLOR", "1");
    command
}

/// Runs the program with arguments that it should refuse, and returns its exit code and its stderr. Without `--listen`
/// it would take a free port: an aircheck on the default one is not in the way.
pub(crate) fn refused(arguments: &[&str]) -> (i32, String) {
    let mut command = command();
    command.env("AIRCHECK_LISTEN", "127.0.0.1:0");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

pub(crate) fn curl(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--no-buffer"]).args(arguments).stdin(Stdio::null());
    if let Some(certificate) = arguments.iter().find_map(|argument| tls::certificate_of_url(argument)) {
        command.arg("--cacert").arg(certificate);
    }
    command
}

/// A listener in a process of its own, ended when dropped.
pub(crate) struct Listener {
    child: Child,
}

impl Listener {
    /// Starts it; it writes what it receives to `file`.
    pub(crate) fn start(url: &str, file: &Path) -> Self {
        let output = file.to_str().unwrap();
        Self::of(curl(&["--output", output, url]).stderr(Stdio::null()))
    }

    /// Starts it from a command.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that a test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Waits for the end of a child.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    eventually("the end of a process", || child.try_wait().unwrap())
}

/// Writes a segment of so many seconds from the beginning of 2020 on, as the recorder does, and returns its sound.
pub(crate) fn write_segment(directory: &Path, stem: &str, seconds: u32) -> Vec<u8> {
    let start = serde_json::json!({"recording": {"rate_hz": 48_000, "channels": 1, "position": 0,
        "captured_at": 1_577_836_800.0, "continues": null}});
    std::fs::write(directory.join(format!("{stem}.jsonl")), format!("{start}\n")).unwrap();
    let bytes = seconds * 192_000;
    let mut wav = [&b"RIFF"[..], &[0; 56], b"data", &bytes.to_le_bytes()].concat();
    wav.extend(0.5_f32.to_le_bytes().repeat(bytes as usize / 4));
    std::fs::write(directory.join(format!("{stem}.wav")), &wav).unwrap();
    wav
}

/// Returns so many samples of noise, of a simple generator: no two places are alike.
pub(crate) fn noise(samples: u32) -> Vec<i16> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i16
    };
    (0..samples).map(|_| next()).collect()
}

/// Writes a WAV file of interleaved samples of 16 bits at 48 kHz, and returns it as a source.
pub(crate) fn write_wav(path: &Path, channels: u16, samples: impl IntoIterator<Item = i16>) -> String {
    write_wav_at(48_000, path, channels, samples)
}

/// Writes the same at `sample_rate`.
pub(crate) fn write_wav_at(
    sample_rate: u32,
    path: &Path,
    channels: u16,
    samples: impl IntoIterator<Item = i16>,
) -> String {
    let spec = hound::WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    samples.into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    format!("wav:{}", path.display())
}

/// Calls `ask` until it returns a value; fails after [`TEST_TIMEOUT`].
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < TEST_TIMEOUT, "timeout while waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends `bytes` on a connection of their own and returns all that the server answers until it closes the connection.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset also ends the answer.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Asserts that `offered = delivered + lost + queued` in a row.
pub(crate) fn assert_identity(row: &Value) {
    let count = |key: &str| row[key].as_u64().unwrap();
    assert_eq!(count("offered"), count("delivered") + count("lost") + count("queued"), "{row}");
}

/// Returns the strongest tone of `samples` among `candidates` Hz, by Goertzel's algorithm, and the RMS.
pub(crate) fn tone_and_rms(samples: &[f32], rate_hz: u32, candidates: &[f64]) -> (f64, f64) {
    let power = |hz: f64| {
        let coefficient = 2.0 * (std::f64::consts::TAU * hz / f64::from(rate_hz)).cos();
        let (mut previous, mut before) = (0.0, 0.0);
        for sample in samples {
            let next = f64::from(*sample) + coefficient * previous - before;
            (before, previous) = (previous, next);
        }
        previous * previous + before * before - coefficient * previous * before
    };
    let strongest = candidates.iter().copied().max_by(|a, b| power(*a).total_cmp(&power(*b))).unwrap();
    let square_sum: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (strongest, (square_sum / samples.len() as f64).sqrt())
}
