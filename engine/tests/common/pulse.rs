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

/// A running server. Sound played to its sink `mic_in` reaches the microphones `mic_in.monitor` and `vmic`, the default
/// one: mono, 48 kHz, 32-bit floats. Dropping it ends the server.
#[derive(Debug)]
pub(crate) struct PulseServer {
    directory: TempDir,
    process: Child,
}

impl PulseServer {
    /// Starts a server and waits until it answers.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("pulse").tempdir().expect("a directory for the sound server");
        let socket = directory.path().join("socket");
        let script = directory.path().join("mic.pa");
        let modules = [
            format!("module-native-protocol-unix auth-anonymous=1 socket={}", socket.display()),
            "module-null-sink sink_name=mic_in rate=48000 channels=1 channel_map=mono format=float32le norewinds=1"
                .to_owned(),
            "module-remap-source master=mic_in.monitor source_name=vmic".to_owned(),
        ];
        let loads = modules.iter().map(|module| format!("load-module {module}\n")).collect::<String>();
        fs::write(&script, loads + "set-default-sink mic_in\nset-default-source vmic\n").expect("its script");
        // Every client must present 256 bytes, even where none is authenticated. libpulse invents them, cpal does not.
        fs::write(directory.path().join("cookie"), [0; 256]).expect("its cookie");
        let log = File::create(directory.path().join("log")).expect("its log");
        let mut command = command_at(directory.path(), "pulseaudio", Way::Pulse);
        command
            .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--realtime=no", "-F"])
            .arg(&script)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = spawn(&mut command);
        let mut server = Self { directory, process };
        server.wait_until_ready();
        server
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
