//! A request to a server over HTTP.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Sends a request on a new connection and returns that: the response can be read from it up to its end.
///
/// # Errors
///
/// When the connection is refused or breaks.
pub async fn request(address: SocketAddr, method: &str, path: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}
