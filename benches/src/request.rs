//! Asking a server over HTTP.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Sends a request on a connection of its own, from which the response can be read up to its end.
///
/// # Errors
///
/// When nobody listens there, or he hangs up.
pub async fn request(address: SocketAddr, method: &str, path: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}
