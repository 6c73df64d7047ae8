//! The address to listen on: whether it is free, and which machines can reach it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::finding::{Area, Finding, Level};
use crate::app::RunError;
use crate::config::ListenAddress;

/// Longest wait for the program that listens on a taken address to say what it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Most bytes of its answer that are read: the status of an aircheck has some thousands.
const MAX_ANSWER_BYTES: usize = 1 << 16;

/// Takes each address for an instant, as the service would. A Unix socket's is not taken: its file would have to be removed.
pub(super) fn check(addresses: &[ListenAddress], takes_token: bool) -> Vec<Finding> {
    let tcp = addresses.iter().filter_map(|address| match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    });
    tcp.map(|address| check_tcp(address, takes_token)).collect()
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
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && is_aircheck(address) => Finding::fault(
            Area::Address,
            format!("an aircheck is on the air at {address} already"),
            "end it first, or choose another address with --listen",
        ),
        Err(error) => {
            let is_taken = error.kind() == std::io::ErrorKind::AddrInUse;
            let error = RunError::Listen { address: address.into(), error }.to_string();
            let finding = Finding::of_error(Area::Address, Level::Fault, &error);
            if is_taken {
                finding.with_command(format!("ss --listening --tcp --processes 'sport = :{}'", address.port()))
            } else {
                finding
            }
        }
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
    let answer = session(address).unwrap_or_default();
    answer.starts_with(b"HTTP/1.") && String::from_utf8_lossy(&answer).contains("\"takes_token\"")
}

fn session(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(b"GET /api/v1/session HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while answer.len() < MAX_ANSWER_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would be none.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
        }
    }
    Ok(answer)
}
