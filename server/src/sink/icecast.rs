//! The way to a mount of an Icecast server: a connection that takes sound, or the reason why there is none.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::PushTarget;
use crate::one_line::one_line;

/// Time for the connection, and again for the server's answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 8 * 1024;

/// The reason why a server takes no sound.
#[derive(Debug, thiserror::Error)]
pub enum IcecastError {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// Nothing is answered in time, or nothing that is understood.
    #[error("the server does not answer as an Icecast does: {0}")]
    Answer(String),
    /// The user or the password is wrong.
    #[error("the server refuses the password (give that of its source clients)")]
    Password,
    /// The mount has a source already, or the server has too many.
    #[error("the server refuses the mount: {0} (end its other source, or choose another mount)")]
    Refused(String),
}

/// Connects to the mount, and begins a stream of this media type that never ends. `name` is what the server shows of it.
///
/// # Errors
///
/// When the server cannot be reached, or does not want it.
pub async fn connect(
    target: &PushTarget,
    media_type: &str,
    name: &str,
) -> Result<(TcpStream, SocketAddr), IcecastError> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "nothing comes within 5 s");
    let address = (target.host.trim_start_matches('[').trim_end_matches(']'), target.port);
    let connected = timeout(TIMEOUT, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(late()));
    let mut stream = connected.map_err(IcecastError::Connect)?;
    let remote = stream.peer_addr().map_err(IcecastError::Connect)?;
    let PushTarget { host, port, user, password, path } = target;
    let login = STANDARD.encode(format!("{user}:{password}"));
    let version = env!("CARGO_PKG_VERSION");
    let name = one_line(name);
    // Without a length and without chunks, as Icecast 2.4 takes it. A relay lists what is public in directories.
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Basic {login}\r\nUser-Agent: aircheck/{version}\r\n\
         Content-Type: {media_type}\r\nIce-Public: 0\r\nIce-Name: {name}\r\nExpect: 100-continue\r\n\r\n"
    );
    let answer = timeout(TIMEOUT, ask(&mut stream, &request)).await.unwrap_or_else(|_| Err(late()));
    let answer = answer.map_err(|error| IcecastError::Answer(error.to_string()))?;
    let line = one_line(answer.lines().next().unwrap_or_default());
    match line.split(' ').nth(1) {
        Some("100" | "200") => Ok((stream, remote)),
        Some("401") => Err(IcecastError::Password),
        Some(code) if code.len() == 3 => Err(IcecastError::Refused(line)),
        _ => Err(IcecastError::Answer(format!("“{line}”"))),
    }
}

/// Sends a request and reads the head of the answer.
async fn ask(stream: &mut TcpStream, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closes the connection"));
        }
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(io::Error::other("its answer does not end"));
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
