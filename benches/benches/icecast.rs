//! aircheck beside Icecast: the same bytes to as many listeners, on the same machine, in one run.
//!
//! aircheck encodes a looping WAV to Ogg Opus at 96 kbit/s (or serves it as PCM); what it serves is fed as it is to
//! Icecast, which passes it on. `aircheckctl load` listens to one and then to the other, so that both have the machine
//! to themselves, and counts first bytes and stalls. Processor time is `utime + stime` of `/proc/PID/stat` over the
//! window alone, when all have come; the same with one listener is what the server takes anyway, which in aircheck's
//! case is capturing, encoding and metering. Memory is `RssAnon` of the server, beyond what it has with one listener;
//! each row has a server of its own, because what an allocator keeps from one crowd serves the next. What the load tool
//! takes is shown, and in neither, and so is what feeds Icecast: another aircheck, which runs all the time.
//!
//! aircheck twice: sending each block as it is made, every 10 ms; and gathering them (`?gather=`), as is right for
//! players that buffer a second anyway. Icecast adds what its clients' queues hold to a listener's delay, and tells
//! nobody.
//!
//! `make bench-icecast` builds the programs, says where they are by `AIRCHECK_PROGRAM` and `AIRCHECKCTL_PROGRAM`, and
//! runs this. `-- --quick` takes fewer listeners and seconds.

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aircheck_benches::{Cpu, Memory, Steal, Table, Target, WAV_RATE_HZ, is_quick, write_wav};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What players that gather a second anyway may ask for: an eighth of a buffer of 4 s.
const GATHERED: &str = "?gather=500ms&buffer=4s";
/// For connections to settle after the last has come.
const SETTLE: Duration = Duration::from_secs(2);
/// How long one listener is alone.
const ALONE: Duration = Duration::from_secs(4);

fn main() -> Result<()> {
    let (Some(aircheck), Some(ctl)) = (std::env::var_os("AIRCHECK_PROGRAM"), std::env::var_os("AIRCHECKCTL_PROGRAM"))
    else {
        println!("icecast: `make bench-icecast` runs this; it takes the programs themselves");
        return Ok(());
    };
    let quick = is_quick();
    let window = Duration::from_secs(if quick { 3 } else { 10 });
    let crowds: &[usize] = if quick { &[20] } else { &[100, 300, 1000] };
    let directory = tempfile::tempdir()?;
    let (aircheck, ctl, steal) = (PathBuf::from(aircheck), PathBuf::from(ctl), Steal::now());
    let wav = directory.path().join("tone.wav");
    write_wav(&wav, 2, 4, chirps)?;
    let origin = Server::aircheck(&aircheck, &wav)?;
    let mut table = Table::new([
        "stream",
        "server",
        "listeners",
        "CPU s / listener-hour",
        "/ icecast",
        "target",
        "KiB a listener",
        "/ icecast",
        "target",
        "first byte p50 ms",
        "p99",
        "worst stall ms",
        "server CPU %",
        "with one",
        "load CPU %",
        "lost",
    ]);
    let mut growths = Vec::new();
    for (stream, path, crowds) in [("opus", "stream.opus", crowds), ("pcm", "stream.pcm", &crowds[..1])] {
        let mut first = [f64::NAN; 3];
        for &listeners in crowds {
            let mut of_icecast = None;
            for (number, name) in ["icecast", "aircheck", "aircheck, gathered"].into_iter().enumerate() {
                let (server, feed, url) = if number == 0 {
                    let icecast = Server::icecast(directory.path())?;
                    let url = icecast.url(stream);
                    (icecast, Some(Feed::start(&origin.url(path), &url, stream)?), url)
                } else {
                    let own = Server::aircheck(&aircheck, &wav)?;
                    let query = if number == 1 { "" } else { GATHERED };
                    let url = format!("{}{query}", own.url(path));
                    (own, None, url)
                };
                let seen = measure(&ctl, &server, &url, listeners, window)?;
                drop((feed, server));
                let cost = |seen: &Seen| 3600.0 * seen.server_cpu / (listeners as f64 * seen.seconds);
                let icecast = of_icecast.get_or_insert_with(|| seen.clone());
                let (ratio, memory) = (cost(&seen) / cost(icecast), seen.kib_a_listener / icecast.kib_a_listener);
                let is_judged = number > 0 && listeners == 1000 && stream == "opus";
                let judge = |most, ratio| if is_judged { Target::AtMost(most).verdict(ratio) } else { String::new() };
                let percent = |seconds: f64| format!("{:.0}", 100.0 * seconds / seen.seconds);
                let millis = |seconds: f64| format!("{:.1}", 1000.0 * seconds);
                table.row([
                    stream.to_owned(),
                    name.to_owned(),
                    listeners.to_string(),
                    format!("{:.2}", cost(&seen)),
                    format!("{ratio:.2}"),
                    judge(0.7, ratio),
                    format!("{:.1}", seen.kib_a_listener),
                    format!("{memory:.1}"),
                    judge(1.0, memory),
                    millis(seen.first_byte[0]),
                    millis(seen.first_byte[1]),
                    seen.worst_stall.map_or_else(|| "none".to_owned(), |stall| format!("{:.0}", 1000.0 * stall)),
                    percent(seen.server_cpu),
                    percent(seen.server_cpu_with_one),
                    percent(seen.load_cpu),
                    seen.lost.clone(),
                ]);
                if first[number].is_nan() {
                    first[number] = cost(&seen);
                } else if listeners == 1000 {
                    let growth = cost(&seen) / first[number];
                    let verdict = Target::AtMost(1.2).verdict(growth);
                    growths.push(format!("{stream}, {name}: one of 1000 costs {growth:.2} x one of 100: {verdict}"));
                }
            }
        }
    }
    println!("{table}");
    growths.iter().for_each(|growth| println!("{growth}"));
    println!("steal: {:.2} % of the time", steal.map_or(f64::NAN, Steal::percent_since));
    Ok(())
}

/// What one crowd showed.
#[derive(Clone)]
struct Seen {
    seconds: f64,
    server_cpu: f64,
    /// With one listener, in as many seconds.
    server_cpu_with_one: f64,
    load_cpu: f64,
    kib_a_listener: f64,
    first_byte: [f64; 2],
    /// In seconds; `None` where nobody waited for longer than `aircheckctl load` calls a stall.
    worst_stall: Option<f64>,
    lost: String,
}

fn measure(ctl: &Path, server: &Server, url: &str, listeners: usize, window: Duration) -> Result<Seen> {
    // Alone: what the server takes and holds that no listener adds to.
    let mut one = load(ctl, url, 1, SETTLE + ALONE + SETTLE).spawn()?;
    sleep(SETTLE);
    let (start, alone) = (Instant::now(), server.cpu()?);
    sleep(ALONE);
    let alone = (server.cpu()? - alone) / start.elapsed().as_secs_f64();
    let before = server.anon_kib()?;
    one.wait()?;

    let ramp = Duration::from_secs_f64(listeners as f64 / RAMP);
    let mut crowd = load(ctl, url, listeners, SETTLE + window + SETTLE).stdout(Stdio::piped()).spawn()?;
    sleep(ramp + SETTLE);
    let (start, server_cpu, load_cpu) = (Instant::now(), server.cpu()?, cpu(crowd.id())?);
    sleep(window);
    let (seconds, server_cpu) = (start.elapsed().as_secs_f64(), server.cpu()? - server_cpu);
    let load_cpu = cpu(crowd.id())? - load_cpu;
    let kib_a_listener = (server.anon_kib()? - before) / (listeners - 1).max(1) as f64;
    let output = crowd.stdout.take().ok_or("no output")?;
    let told: Value = serde_json::from_reader(output)?;
    crowd.wait()?;
    let healthy = &told["kinds"]["healthy"];
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let lost = match (&healthy["lost"], &healthy["blocks"]) {
        (Value::Number(lost), Value::Number(blocks)) => format!("{lost} of {blocks}"),
        _ => "not told".to_owned(),
    };
    Ok(Seen {
        seconds,
        server_cpu,
        server_cpu_with_one: alone * seconds,
        load_cpu,
        kib_a_listener,
        first_byte: [number(&healthy["first_byte_seconds"]["p50"]), number(&healthy["first_byte_seconds"]["p99"])],
        worst_stall: healthy["worst_stall_seconds"].as_f64(),
        lost,
    })
}

/// Listeners that come in a second.
const RAMP: f64 = 200.0;

fn load(ctl: &Path, url: &str, listeners: usize, span: Duration) -> Command {
    let mut command = Command::new(ctl);
    command.args(["load", url, "--json", "--ramp", &format!("{RAMP}/s")]);
    command.args(["--listeners", &listeners.to_string(), "--for", &format!("{}s", span.as_secs())]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A server in a process of its own, ended when dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn aircheck(program: &Path, wav: &Path) -> Result<Self> {
        let source = format!("wav:{}", wav.display());
        let mut process = Command::new(program)
            .args(["--source", &source, "--loop", "--listen", "127.0.0.1:0", "--max-listeners", "1100"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let url = line.trim().strip_prefix("listening on ").ok_or("aircheck did not start")?.to_owned();
        Ok(Self { process, url })
    }

    fn icecast(directory: &Path) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let logs = directory.join("icecast");
        fs::create_dir_all(&logs)?;
        let config = directory.join("icecast.xml");
        // Its own defaults, but for the number of clients. It does not run as root, and so must be somebody else.
        fs::write(
            &config,
            format!(
                "<icecast><limits><clients>1200</clients><sources>4</sources></limits>\
                 <authentication><source-password>source</source-password><admin-password>admin</admin-password>\
                 </authentication><hostname>localhost</hostname>\
                 <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>\
                 <paths><logdir>{logs}</logdir><webroot>/usr/share/icecast2/web</webroot>\
                 <adminroot>/usr/share/icecast2/admin</adminroot></paths>\
                 <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>\
                 <security><chroot>0</chroot><changeowner><user>nobody</user><group>nogroup</group></changeowner>\
                 </security></icecast>",
                logs = logs.display()
            ),
        )?;
        open_to_all(directory)?;
        open_to_all(&logs)?;
        let process = Command::new("icecast2")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("icecast2 does not run ({error}): Debian's package is icecast2"))?;
        let server = Self { process, url: format!("http://127.0.0.1:{port}/") };
        for _ in 0..100 {
            if std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(server);
            }
            sleep(Duration::from_millis(50));
        }
        Err("icecast2 did not start".into())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn cpu(&self) -> Result<f64> {
        cpu(self.process.id())
    }

    fn anon_kib(&self) -> Result<f64> {
        Ok(Memory::of(self.process.id())?.anon_kib)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What aircheck serves, given to Icecast as a source, by two curls.
struct Feed(Child, Child);

impl Feed {
    fn start(from: &str, to: &str, stream: &str) -> Result<Self> {
        let mut listener =
            Command::new("curl").args(["-sN", from]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let content_type = if stream == "opus" { "application/ogg" } else { "application/octet-stream" };
        let source = Command::new("curl")
            .args(["-sN", "-T", "-", "-u", "source:source", "-H", &format!("Content-Type: {content_type}"), to])
            .stdin(listener.stdout.take().ok_or("no output")?)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Icecast has a mount once its source has sent something.
        sleep(SETTLE);
        Ok(Self(listener, source))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        for process in [&mut self.0, &mut self.1] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Processor time of a process in seconds.
fn cpu(pid: u32) -> Result<f64> {
    Ok(Cpu::of(pid)?.total())
}

fn open_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o777))?)
}

/// Chirps in stereo: something for a codec to do.
fn chirps(frame: u32, channel: u16) -> f64 {
    let t = f64::from(frame) / f64::from(WAV_RATE_HZ);
    let hz = if channel == 0 { 440.0 } else { 660.0 };
    0.25 * (std::f64::consts::TAU * t * (hz + 300.0 * t)).sin()
}
