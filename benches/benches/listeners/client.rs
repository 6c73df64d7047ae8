//! A listener of `/stream.wav` that counts its blocks.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(crate) const BLOCK: Duration = Duration::from_millis(10);
/// Of 480 frames, two channels, two bytes.
pub(crate) const BLOCK_BYTES: u64 = 1920;
pub(crate) const WAV_HEADER_BYTES: u64 = 44;

/// The sound that a listener received.
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) first_at: Instant,
    pub(crate) last_at: Instant,
}

impl Received {
    /// Returns the blocks that came, less those that were due between the first and the last by this process's clock.
    pub(crate) fn ahead_of_clock(&self) -> i64 {
        let blocks = self.bytes.saturating_sub(WAV_HEADER_BYTES) / BLOCK_BYTES;
        let span = self.last_at.duration_since(self.first_at);
        blocks as i64 - 1 - (span.as_secs_f64() / BLOCK.as_secs_f64()).round() as i64
    }
}

/// Listens until the stream ends. A stream that breaks off is an error.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<Received> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    // Ends with the body or with this listener.
    tokio::spawn(connection);
    let request = Request::get("/stream.wav").header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    if response.status() != StatusCode::OK {
        return Err(io::Error::other(format!("/stream.wav: {}", response.status())));
    }
    let mut body = response.into_body();
    let now = Instant::now();
    let mut received = Received { bytes: 0, first_at: now, last_at: now };
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
        received.last_at = Instant::now();
        // The header may come some time before the first block.
        if received.bytes <= WAV_HEADER_BYTES {
            received.first_at = received.last_at;
        }
        received.bytes += data.len() as u64;
    }
    Ok(received)
}
