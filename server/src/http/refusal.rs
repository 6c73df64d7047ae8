//! The answer to a connection for which there is no place.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::reply::RETRY_AFTER;

/// How long the other side has to read the answer and close. Several round trips from one end of the world to the other.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that are read and thrown away meanwhile: more than any request's head.
const MAX_DRAIN_BYTES: usize = 64 * 1024;

/// Answers a connection with a complete 503, whatever it asks for, and closes it. What arrives meanwhile is read: bytes
/// that are unread when a socket is closed make the kernel reset the connection, and the other side loses the answer.
pub(super) async fn refuse(mut stream: TcpStream) {
    write_answer(&stream);
    let draining = async {
        stream.shutdown().await?;
        let (mut buffer, mut drained) = ([0; 1024], 0);
        while drained < MAX_DRAIN_BYTES {
            match stream.read(&mut buffer).await? {
                0 => break,
                bytes => drained += bytes,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // The connection is closed next, whether it was drained or not.
    let _ = timeout(DRAIN_TIMEOUT, draining).await;
}

/// Writes the answer of [`refuse`] without waiting.
pub(super) fn write_answer(stream: &TcpStream) {
    let body = r#"{"error":"no place for another connection: close some, or try again later"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY_AFTER}\r\nContent-Type: application/json\r\n\
         Cache-Control: no-store\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // The send buffer of a socket that has sent nothing is empty, and takes this at once, whether or
    // not the reactor has seen the socket yet.
    let _ = SockRef::from(stream).send(answer.as_bytes());
}
