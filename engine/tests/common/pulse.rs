//! A sound server for one test, with a microphone that records the sound played to it. It needs no sound card, affects no
//! other server, and changes nothing outside of its own directory.
//!
//! Programs reach it only with the environment of [`PulseServer::command`]. So a test that records runs the recording part
//! in a child process: see [`PulseServer::rerun`].

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use tempfile::TempDir;

/// Environment variable that marks a child process.
const MARKER: &str = "AIRCHECK_TEST_INSIDE_PULSE";
/// Runs the words that follow at a real-time priority, if the system permits it. A sound server that gets no time for a second, as on
/// a machine with a load of 15, hands over nothing and then a burst: a loss that the test has not made.
const AHEAD: &str = "chrt --rr --pid 20 $$ 2>/dev/null; exec \"$0\" \"$@\"";
/// How long the server may take to answer. It takes 0.12 s on an idle machine.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns whether this process is a child of [`PulseServer::rerun`].
pub(crate) fn is_inside() -> bool {
    env::var_os(MARKER).is_some()
}

/// The host of cpal by which a child reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// cpal's own client of the server.
    Pulse,
    /// ALSA's plug-in, which uses libpulse.
    Alsa,
}

/// The microphone of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Microphone {
    pub(crate) name: &'static str,
    pub(crate) rate_hz: u32,
    pub(crate) channels: u16,
}

/// The microphone that a server has unless a test says otherwise.
pub(crate) const VMIC: Microphone = Microphone { name: "vmic", rate_hz: 48_000, channels: 1 };

impl Microphone {
    /// Returns the modules that make it, with their arguments.
    fn modules(self) -> [Vec<String>; 2] {
        let Self { name, rate_hz, channels } = self;
        let map = if channels == 1 { "mono" } else { "front-left,front-right" };
        let words = |line: String| line.split_whitespace().map(str::to_owned).collect();
        [
            words(format!(
                "module-null-sink sink_name=mic_in rate={rate_hz} channels={channels} channel_map={map} \
                 format=float32le norewinds=1"
            )),
            words(format!(
                "module-remap-source master=mic_in.monitor source_name={name} \
                 source_properties=device.description={name}"
            )),
        ]
    }
}

/// A running server. Sound played to its sink `mic_in` reaches the microphones `mic_in.monitor` and `vmic`, the default
/// one: mono, 48 kHz, 32-bit floats. Dropping it ends the server.
#[derive(Debug)]
pub(crate) struct PulseServer {
    directory: TempDir,
    process: Child,
    /// Numbers of the modules that make the microphone, if they were loaded after the start.
    modules: Vec<String>,
}

impl PulseServer {
    /// Starts a server and waits until it answers.
    pub(crate) fn start() -> Self {
        let mut server = Self::prepare();
        server.start_again(VMIC);
        server
    }

    /// Makes the directory of a server that is not running.
    pub(crate) fn prepare() -> Self {
        let directory = tempfile::Builder::new().prefix("pulse").tempdir().expect("a directory for the sound server");
        // Every client must present 256 bytes, even where none is authenticated. libpulse invents them, cpal does not.
        fs::write(directory.path().join("cookie"), [0; 256]).expect("its cookie");
        let mut process = Command::new("true").spawn().expect("a process that ends");
        let _ = process.wait();
        Self { directory, process, modules: Vec::new() }
    }

    /// Starts the server, which is not running, and waits until it answers. The microphone is there before it answers.
    pub(crate) fn start_again(&mut self, microphone: Microphone) {
        let directory = &self.directory;
        let socket = directory.path().join("socket");
        let script = directory.path().join("mic.pa");
        let mut loads = String::new();
        for module in microphone.modules() {
            loads += &format!("load-module {}\n", module.join(" "));
        }
        loads += &format!("set-default-sink mic_in\nset-default-source {}\n", microphone.name);
        loads += &format!("load-module module-native-protocol-unix auth-anonymous=1 socket={}\n", socket.display());
        fs::write(&script, loads).expect("its script");
        let log = File::create(directory.path().join("log")).expect("its log");
        let mut command = command_at(directory.path(), "sh", Way::Pulse);
        command
            .args(["-c", AHEAD, "pulseaudio"])
            .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--realtime=no", "-F"])
            .arg(&script)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = spawn(&mut command);
        self.modules.clear();
        self.wait_until_ready();
    }

    /// Unloads the microphone and the sink behind it.
    pub(crate) fn unload_microphone(&mut self) {
        if self.modules.is_empty() {
            self.modules = vec!["module-remap-source".to_owned(), "module-null-sink".to_owned()];
        }
        for module in std::mem::take(&mut self.modules) {
            self.pactl(&["unload-module", &module]);
        }
    }

    /// Loads a microphone into the running server, and makes it the default one.
    pub(crate) fn load_microphone(&mut self, microphone: Microphone) {
        for module in microphone.modules() {
            let words: Vec<_> = module.iter().map(String::as_str).collect();
            let number = self.pactl(&[&["load-module"], &words[..]].concat());
            self.modules.insert(0, number.trim().to_owned());
        }
        self.pactl(&["set-default-sink", "mic_in"]);
        self.pactl(&["set-default-source", microphone.name]);
    }

    fn pactl(&self, arguments: &[&str]) -> String {
        let output = self.command("pactl", Way::Pulse).args(arguments).output().expect("pactl");
        assert!(output.status.success(), "pactl {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Sends the server a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill");
        assert!(status.success());
    }

    /// Stops the server for `span` and has it go on, ahead of other programs, so that it is not stopped for longer.
    pub(crate) fn freeze(&self, span: Duration) {
        let pid = self.process.id();
        let script = format!("kill -STOP {pid}; sleep {}; kill -CONT {pid}", span.as_secs_f64());
        let status = Command::new("sh").args(["-c", AHEAD, "sh", "-c", &script]).status().expect("sh");
        assert!(status.success());
    }

    /// Waits for the end of the server, which was sent a signal.
    pub(crate) fn wait(&mut self) {
        let _ = self.process.wait();
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let mut info = self.command("pactl", Way::Pulse);
            let mut asking = spawn(info.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
            if asking.wait().is_ok_and(|status| status.success()) {
                return;
            }
            let ended = self.process.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                panic!("the sound server for this test does not start; its log:\n{log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Creates a command whose process finds this server, and only this one.
    pub(crate) fn command(&self, program: impl AsRef<Path>, way: Way) -> Command {
        command_at(self.directory.path(), program.as_ref(), way)
    }

    /// Creates a command that runs `test` of this test program, with [`is_inside`] true.
    pub(crate) fn rerun(&self, test: &str, way: Way) -> Command {
        let program = env::current_exe().expect("the path of this test");
        let mut command = self.command(program, way);
        command.args([test, "--exact", "--nocapture"]).env(MARKER, "1");
        command
    }

    /// Plays a WAV file to the microphones until the player is dropped or the file ends.
    pub(crate) fn play(&self, file: &Path) -> Player {
        let mut command = self.command("paplay", Way::Pulse);
        command.arg("--latency-msec=500").arg(file).stdin(Stdio::null());
        Player(spawn(&mut command))
    }

    /// Returns a path in the server's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Ends the server at once, as a crash would: its socket file stays.
    pub(crate) fn kill(&mut self) {
        end(&mut self.process);
    }
}

impl Drop for PulseServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that plays.
#[derive(Debug)]
pub(crate) struct Player(Child);

impl Drop for Player {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

fn command_at(directory: &Path, program: impl AsRef<Path>, way: Way) -> Command {
    let mut command = Command::new(program.as_ref());
    let socket = directory.join("socket").display().to_string();
    // cpal's client wants `unix:` before the path; libpulse takes both.
    let server = if way == Way::Pulse { format!("unix:{socket}") } else { socket };
    command
        .env("PULSE_SERVER", server)
        .env("PULSE_RUNTIME_PATH", directory.join("run"))
        .env("XDG_RUNTIME_DIR", directory)
        .env("XDG_CONFIG_HOME", directory)
        .env("HOME", directory)
        .env("PULSE_COOKIE", directory.join("cookie"))
        .env_remove("PULSE_SOURCE")
        .env_remove("PULSE_SINK");
    command
}

fn spawn(command: &mut Command) -> Child {
    match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => panic!(
            "this test needs {:?}: apt-get install -y --no-install-recommends pulseaudio pulseaudio-utils",
            command.get_program()
        ),
        Err(error) => panic!("{:?} does not start: {error}", command.get_program()),
    }
}

fn end(child: &mut Child) {
    // Fails if it has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
