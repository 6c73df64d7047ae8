//! The addresses to listen on: whether they are free, and which machines can reach them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::directory::can_make_files;
use super::finding::{Area, Finding, Level};
use crate::app::RunError;
use crate::config::{HttpConfig, ListenAddress};

/// Longest wait for the program that listens on a taken address to say what it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Most bytes of its answer that are read: the status of an aircheck has some thousands.
const MAX_ANSWER_BYTES: usize = 1 << 16;

/// Bytes of the longest path of a Unix socket: unix(7), with the zero at its end.
const MAX_UNIX_PATH_BYTES: usize = 107;

/// Takes each address for an instant, as the service would. Of a Unix socket it looks at the place alone: its file would have to be
/// made and removed.
pub(super) fn check(config: &HttpConfig, takes_token: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, address) in config.listen.iter().enumerate() {
        findings.push(match address {
            _ if config.listen[..index].contains(address) && !is_any_port(address) => twice(address, "--listen"),
            ListenAddress::Tcp(address) => check_tcp(*address, takes_token),
            ListenAddress::Unix(path) => check_unix(path, config.unix_mode),
        });
    }
    if let Some(address) = config.admin_listen {
        let admin = ListenAddress::from(address);
        let is_taken = config.listen.contains(&admin) && !is_any_port(&admin);
        findings.push(if is_taken { twice(&admin, "--admin-listen") } else { check_admin(address) });
    }
    findings
}

fn is_any_port(address: &ListenAddress) -> bool {
    matches!(address, ListenAddress::Tcp(address) if address.port() == 0)
}

fn twice(address: &ListenAddress, flag: &str) -> Finding {
    Finding::fault(Area::Address, format!("{address} is named twice"), format!("choose another address with {flag}"))
}

/// The address for figures and changes.
fn check_admin(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => {
            let who = if address.ip().to_canonical().is_loopback() {
                "for this machine alone"
            } else {
                "for those who can reach it and have a token for them"
            };
            Finding::ok(Area::Address, format!("{} is free for figures and changes, {who}", shown(address)))
        }
        Err(error) => of_bind(address, &RunError::AdminListen { address, error }),
    }
}

/// The place of a Unix socket.
fn check_unix(path: &Path, mode: u32) -> Finding {
    let shown = format!("unix:{}", path.display());
    let fault =
        |why: &str, advice: &str| Finding::fault(Area::Address, format!("cannot listen on {shown}: {why}"), advice);
    if path.as_os_str().len() > MAX_UNIX_PATH_BYTES {
        return fault("its path has more than 107 bytes", "choose a shorter one");
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = parent.display();
    if !parent.is_dir() {
        return fault(
            &format!("there is no directory {directory}"),
            "make it for the service's user; RuntimeDirectory= of a unit makes one below /run",
        );
    }
    let is_there = fs::symlink_metadata(path);
    let what = match &is_there {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "can be made",
        Err(error) => return fault(&error.to_string(), "let this user reach the directory"),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return fault("another file is there, and no socket", "remove it, or choose another path");
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "was left behind by a program that has ended, and is made anew"
            }
            Ok(stream) => {
                let advice = "end it first, or choose another path with --listen";
                return if asks_like_aircheck(stream) {
                    Finding::fault(Area::Address, format!("an aircheck is on the air at {shown} already"), advice)
                } else {
                    fault("another program listens there", advice)
                };
            }
            Err(error) => return fault(&error.to_string(), "remove its file, or choose another path"),
        },
    };
    if !can_make_files(parent) {
        return fault(
            &format!("this user cannot make files in {directory}"),
            "give the directory to the service's user; RuntimeDirectory= of a unit makes one below /run",
        );
    }
    Finding::ok(Area::Address, format!("{shown} {what}, with the permissions {mode:o}"))
}

fn check_tcp(address: SocketAddr, takes_token: bool) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) if address.ip().to_canonical().is_loopback() => {
            Finding::ok(Area::Address, format!("{} is free, for this machine alone", shown(address)))
        }
        Ok(_) if takes_token => {
            Finding::ok(Area::Address, format!("{} is free, and open to those who have a token", shown(address)))
        }
        Ok(_) => Finding::note(
            Area::Address,
            format!("{} is free, and open: all who can reach it can listen, without a token", shown(address)),
            "to keep it to this machine, listen on 127.0.0.1; listeners that use a name of this machine need --allow-host",
        ),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_aircheck(address) => Finding::fault(
            Area::Address,
            format!("an aircheck is on the air at {address} already"),
            "end it first, or choose another address with --listen",
        ),
        Err(error) => of_bind(address, &RunError::Listen { address: address.into(), error }),
    }
}

/// Returns the finding of an address that cannot be taken.
fn of_bind(address: SocketAddr, error: &RunError) -> Finding {
    let finding = Finding::of_error(Area::Address, Level::Fault, &error.to_string());
    match error {
        RunError::Listen { error, .. } | RunError::AdminListen { error, .. }
            if error.kind() == io::ErrorKind::AddrInUse =>
        {
            finding.with_command(format!("ss --listening --tcp --processes 'sport = :{}'", address.port()))
        }
        _ => finding,
    }
}

/// Returns an address in words if its port is yet to be chosen.
fn shown(address: SocketAddr) -> String {
    match address.port() {
        0 => format!("a port of {}", address.ip()),
        _ => address.to_string(),
    }
}

/// Returns whether the program that listens on `address` answers like an aircheck.
fn is_aircheck(mut address: SocketAddr) -> bool {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    TcpStream::connect_timeout(&address, ANSWER_TIMEOUT).is_ok_and(asks_like_aircheck)
}

/// A connection that does not wait for ever.
trait Stream: Read + Write {
    fn set_timeouts(&self, timeout: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_timeouts(&self, timeout: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(timeout)).and_then(|()| self.set_read_timeout(Some(timeout)))
    }
}

impl Stream for UnixStream {
    fn set_timeouts(&self, timeout: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(timeout)).and_then(|()| self.set_read_timeout(Some(timeout)))
    }
}

/// Returns whether the program at the far end asks for a sign-in as an aircheck does.
fn asks_like_aircheck(mut stream: impl Stream) -> bool {
    let answer = session(&mut stream).unwrap_or_default();
    let text = String::from_utf8_lossy(&answer);
    // With HTTPS, it says so, and no more.
    text.starts_with("HTTP/1.")
        && (text.contains("\"takes_token\"") || text.contains("this port speaks HTTPS: use https://"))
}

fn session(stream: &mut impl Stream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    stream.set_timeouts(ANSWER_TIMEOUT)?;
    stream.write_all(b"GET /api/v1/session HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while answer.len() < MAX_ANSWER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would be none.
        stream.set_timeouts(left.max(Duration::from_millis(1)))?;
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
        }
    }
    Ok(answer)
}
