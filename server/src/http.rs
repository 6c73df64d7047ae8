//! The HTTP server: its accept loop, and the way of a connection from its first byte to its last.

pub mod server;

mod api;
mod events;
mod guard;
mod query;
mod reply;
mod routes;
mod stream;
mod websocket;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::delivery::socket::tracked_stream::{TrackedSocket, TrackedStream};
use crate::http::server::Server;
use crate::telemetry::metrics::Refusal;
use crate::telemetry::watch::watch;

/// A request's head must be there within this time, also on a connection that is kept open for the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Header fields of a request: browsers send about 20.
const MAX_HEADERS: usize = 64;
/// Connections beside those of listeners: pages, scrapes, and those who have yet to say what they want.
const OTHER_CONNECTIONS: usize = 256;
/// hyper's read buffer: a head of this size holds what browsers and proxies send, several times. Its write buffer is
/// bounded by the bodies, which hand over one packet at a time.
const HEAD_BYTES: usize = 16 * 1024;
/// How long after the end of the stream connections may take to close: below the 5 s that are promised.
const CLOSING: Duration = Duration::from_secs(4);
/// After a failed accept: out of descriptors, most likely, and at once again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What a request knows of its connection.
#[derive(Debug)]
struct Connection {
    /// Where the server listens.
    local: SocketAddr,
    socket: Arc<TrackedSocket>,
    hang_up: Arc<Notify>,
    /// Both are held for as long as the connection is, also as a WebSocket: its place, and what the end waits for.
    _permit: OwnedSemaphorePermit,
    _open: watch::Receiver<bool>,
}

/// Serves `server` on `listener` until `shutdown` resolves; then waits for the connections to end, a few seconds
/// at most. Streams end when the server's stream does, so that should have been stopped by then.
///
/// # Errors
///
/// When the listening socket has no address.
pub async fn serve(listener: TcpListener, server: Arc<Server>, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let local = listener.local_addr()?;
    let connections = Arc::new(Semaphore::new(server.config().http.max_listeners + OTHER_CONNECTIONS));
    // Every connection holds a receiver for as long as it is open.
    let (closing, open) = watch::channel(false);
    let watching = tokio::spawn(watch(Arc::clone(&server.mount().mount), Arc::clone(server.listeners())));
    tokio::pin!(shutdown);
    loop {
        let (stream, remote) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("can't accept a connection: {error}");
                    sleep(ACCEPT_RETRY).await;
                    continue;
                }
            },
        };
        match Arc::clone(&connections).try_acquire_owned() {
            Ok(permit) => {
                let server = Arc::clone(&server);
                tokio::spawn(connection(stream, remote, local, server, open.clone(), permit));
            }
            Err(_) => {
                server.metrics().refuse(Refusal::Connections);
                turn_away(&stream);
            }
        }
    }
    drop(listener);
    server.mount().mount.events().finish();
    drop(open);
    // Nobody is there to be told if this fails.
    let _ = closing.send(true);
    if timeout(CLOSING, closing.closed()).await.is_err() {
        tracing::info!("hanging up on listeners who did not read the end of their streams");
    }
    watching.abort();
    Ok(())
}

/// One connection, with as many requests as it sends.
async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    local: SocketAddr,
    server: Arc<Server>,
    mut open: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) {
    // Fails only for somebody who is gone already.
    let Ok(stream) = TrackedStream::new(stream, remote) else { return };
    let hang_up = Arc::new(Notify::new());
    let about = Arc::new(Connection {
        local,
        socket: Arc::clone(stream.socket()),
        hang_up: Arc::clone(&hang_up),
        _permit: permit,
        _open: open.clone(),
    });
    let service = service_fn(move |mut request| {
        let reply = routes::answer(&server, &about, &mut request);
        async move { Ok::<_, std::convert::Infallible>(reply) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(serving);
    let ended = async {
        tokio::select! {
            result = &mut serving => return result,
            _ = open.wait_for(|closing| *closing) => serving.as_mut().graceful_shutdown(),
        }
        serving.await
    };
    tokio::select! {
        result = ended => {
            if let Err(error) = result {
                tracing::debug!(%remote, "connection ended: {error}");
            }
        }
        () = hang_up.notified() => tracing::info!(%remote, "hung up on a listener who did not read its end"),
    }
}

/// Tells somebody who is one too many, without waiting for what they would have asked.
fn turn_away(stream: &TcpStream) {
    const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Type: application/json\r\n\
        Content-Length: 36\r\nConnection: close\r\n\r\n{\"error\":\"too many connections now\"}";
    // A new socket's send buffer is empty; if it takes nothing all the same, the connection is closed anyway.
    let _ = stream.try_write(BUSY);
}
