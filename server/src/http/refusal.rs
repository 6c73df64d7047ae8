//! The answers to connections that no request is read from: there is no place, or they speak another protocol.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::http::reply::RETRY_AFTER;
use crate::http::transport::Transport;

/// How long the other side has to read the answer and close. Several round trips from one end of the world to the other.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that are read and thrown away meanwhile: more than any request's head.
const MAX_DRAIN_BYTES: usize = 64 * 1024;

/// Answers a connection with a complete 503, whatever it asks for, and closes it.
pub(super) async fn refuse(stream: Transport) {
    write_answer(&stream);
    close(stream).await;
}

/// Tells a client that speaks plain HTTP where TLS is spoken.
pub(super) async fn ask_for_https(stream: Transport, url: &str) {
    let body = format!(r#"{{"error":"this port speaks HTTPS: use {url}"}}"#);
    write(&stream, "400 Bad Request", "", &body);
    close(stream).await;
}

/// Tells a proxy that the header of its connection breaks the PROXY protocol.
pub(super) async fn refuse_header(stream: Transport, sentence: &str) {
    let body = format!(r#"{{"error":"{sentence}"}}"#);
    write(&stream, "400 Bad Request", "", &body);
    close(stream).await;
}

/// Tells a client that speaks TLS that this port does not. Its own library has the words for that.
pub(super) fn alert(stream: &Transport) {
    /// A record of TLS 1.0 with a fatal alert: `protocol_version` (RFC 8446, section 6).
    const ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

    let _ = SockRef::from(stream).send(&ALERT);
}

/// Closes a connection that was answered. What arrives meanwhile is read: bytes that are unread when a socket is closed make
/// the kernel reset the connection, and the other side loses the answer.
async fn close(mut stream: Transport) {
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
pub(super) fn write_answer(stream: &Transport) {
    let body = r#"{"error":"no place for another connection: close some, or try again later"}"#;
    write(stream, "503 Service Unavailable", &format!("Retry-After: {RETRY_AFTER}\r\n"), body);
}

/// Writes an answer without waiting. `fields` are header fields, each with its line's end.
fn write(stream: &Transport, status: &str, fields: &str, body: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    // The send buffer of a socket that has sent nothing is empty, and takes this at once, whether or
    // not the reactor has seen the socket yet.
    let _ = SockRef::from(stream).send(answer.as_bytes());
}
