//! A contender in a process of its own.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use aircheck_benches::{Memory, Program, thread_time};

use crate::Result;
use crate::case::Case;
use crate::floor;
use crate::tls::Tls;

/// The time that Icecast may take to open its port.
const START_TIMEOUT: Duration = Duration::from_secs(5);
const START_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A server that ends when it is dropped.
pub(crate) struct Server {
    process: Program,
    /// Where its listeners come.
    address: SocketAddr,
    /// Where Icecast's source comes, always without TLS.
    source: SocketAddr,
    is_secure: bool,
    /// The only thread whose processor time counts, if not all do.
    thread: Option<&'static str>,
}

impl Server {
    /// Starts an aircheck that plays `wav` in a loop, with TLS if there is some.
    pub(crate) fn aircheck(program: &Path, wav: &Path, tls: Option<&Tls>) -> Result<Self> {
        let source = format!("wav:{}", wav.display());
        let mut command = Command::new(program);
        command.args(["--source", &source, "--loop", "--listen", "127.0.0.1:0"]);
        // All listeners come from this machine.
        command.args(["--max-listeners", "6000", "--max-connections-per-address", "12000"]);
        if let Some(tls) = tls {
            command.arg("--tls-cert").arg(&tls.certificate).arg("--tls-key").arg(&tls.key);
        }
        Ok(Self { is_secure: tls.is_some(), ..Self::announced(&mut command, None)? })
    }

    /// Starts the floor for a case, this program again.
    pub(crate) fn floor(case: &Case, origin: &Self) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let Case { stream, page, .. } = case;
        command.env(floor::ORDER, format!("{} {} {}", stream.name(), page.as_millis(), origin.address));
        Self::announced(&mut command, Some(floor::SENDER))
    }

    /// Starts a server that prints its address.
    fn announced(command: &mut Command, thread: Option<&'static str>) -> Result<Self> {
        let (process, address) = Program::announced(command)?;
        Ok(Self { process, address, source: address, is_secure: false, thread })
    }

    /// Starts an Icecast with its own defaults but for the number of clients, and without a burst: it would start its
    /// listeners with sound that is seconds old. Its listeners come by TLS if there is some, and its source without.
    pub(crate) fn icecast(directory: &Path, tls: Option<&Tls>) -> Result<Self> {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
        let (source, address) = (free()?, free()?);
        let socket = |address: SocketAddr, is_secure: bool| {
            format!(
                "<listen-socket><port>{}</port><bind-address>127.0.0.1</bind-address><ssl>{}</ssl></listen-socket>",
                address.port(),
                u8::from(is_secure)
            )
        };
        let sockets = socket(source, false) + &socket(address, tls.is_some());
        let certificate = tls.map(|tls| format!("<ssl-certificate>{}</ssl-certificate>", tls.both.display()));
        let logs = directory.join("icecast");
        fs::create_dir_all(&logs)?;
        let config = directory.join("icecast.xml");
        // It refuses to run as root, and so is told to change to another account.
        fs::write(
            &config,
            format!(
                "<icecast><limits><clients>6000</clients><sources>4</sources>\
                 <burst-on-connect>0</burst-on-connect><burst-size>0</burst-size></limits>\
                 <authentication><source-password>source</source-password><admin-password>admin</admin-password>\
                 </authentication><hostname>localhost</hostname>\
                 {sockets}<paths>{certificate}<logdir>{logs}</logdir><webroot>/usr/share/icecast2/web</webroot>\
                 <adminroot>/usr/share/icecast2/admin</adminroot></paths>\
                 <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>\
                 <security><chroot>0</chroot><changeowner><user>nobody</user><group>nogroup</group></changeowner>\
                 </security></icecast>",
                certificate = certificate.unwrap_or_default(),
                logs = logs.display()
            ),
        )?;
        for path in [directory, &logs] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        }
        let mut command = Command::new("icecast2");
        if let Some(tls) = tls {
            command.env("OPENSSL_CONF", &tls.openssl);
        }
        let process = command
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("icecast2 does not start: {error} (Debian's package is icecast2)"))?;
        let server = Self { process: Program(process), address, source, is_secure: tls.is_some(), thread: None };
        for _ in 0..START_TIMEOUT.as_millis() / START_POLL_INTERVAL.as_millis() {
            if TcpStream::connect(server.address).is_ok() {
                return Ok(server);
            }
            sleep(START_POLL_INTERVAL);
        }
        Err("icecast2 does not open its port".into())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of Icecast's source.
    pub(crate) fn source(&self) -> SocketAddr {
        self.source
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http{}://{}/{path}", if self.is_secure { "s" } else { "" }, self.address)
    }

    /// Returns the processor time so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let time = thread_time(self.pid(), |name| self.thread.is_none_or(|thread| thread == name));
        time.map_err(|error| format!("the server has ended: {error}").into())
    }

    pub(crate) fn anon_kib(&self) -> io::Result<f64> {
        Ok(Memory::of(self.pid())?.anon_kib)
    }

    /// Returns how often the floor left a part of a page out, if this is the floor.
    pub(crate) fn short_pages(&self) -> Result<Option<u64>> {
        if self.thread.is_none() {
            return Ok(None);
        }
        let mut connection = TcpStream::connect(self.address)?;
        connection.write_all(b"GET /short HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(Some(answer.rsplit("\r\n").next().unwrap_or_default().parse()?))
    }
}
