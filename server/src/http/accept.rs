//! The accept loop: gives each connection a place and a task, until the server ends.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aircheck_engine::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::http::connection::{self, Address, Refusals};
use crate::http::connections::{Connections, Limits};
use crate::http::context::Serves;
use crate::http::server::Server;
use crate::mount::throttle::Throttle;
use crate::telemetry::watch::watch;

/// How long after the end of the stream connections may take to close: below the 5 s that are promised.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause after an accept for which the system lacked a file descriptor or memory.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// A log line about failed accepts at most this often, with the number of those before it.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Refused connections that are drained at a time. Beyond it, they are closed at once, and may lose their answer.
const MAX_DRAINING: usize = 256;

/// Serves `server` on `listener` until `shutdown` resolves; then waits for the connections to end, a few seconds
/// at most. With `admin`, figures and changes are served there, and only there. Streams end when the server's stream does, so that should have been stopped by then.
///
/// # Errors
///
/// When the listening socket has no address.
pub async fn serve(
    listener: TcpListener,
    admin: Option<TcpListener>,
    server: Arc<Server>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let local = listener.local_addr()?;
    // Every connection holds a receiver for as long as it is open.
    let (closing, open) = watch::channel(false);
    let mounts = server.mounts().iter().map(|served| Arc::clone(&served.mount)).collect();
    let watching = tokio::spawn(watch(mounts, Arc::clone(server.listeners())));
    let mut acceptor = Acceptor::new(Arc::clone(&server), local);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => {
                acceptor.take(accepted, if admin.is_some() { Serves::Streams } else { Serves::All }, &open).await;
            }
            accepted = accept_on(admin.as_ref()) => acceptor.take(accepted, Serves::Admin, &open).await,
        }
    }
    drop((listener, admin, acceptor));
    server.mounts().iter().for_each(|served| served.mount.events().finish());
    drop(open);
    // Fails if no connection is open.
    let _ = closing.send(true);
    if timeout(CLOSE_TIMEOUT, closing.closed()).await.is_err() {
        tracing::info!("closed connections of listeners that did not read the end of their streams");
    }
    watching.abort();
    Ok(())
}

/// Accepts a connection on an address that need not be there.
async fn accept_on(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => pending().await,
    }
}

/// Starts connections, and refuses those for which there is no place.
struct Acceptor {
    server: Arc<Server>,
    local: SocketAddr,
    connections: Arc<Connections>,
    refusals: Refusals,
    failures: Throttle,
}

impl Acceptor {
    fn new(server: Arc<Server>, local: SocketAddr) -> Self {
        let limits = Limits::new(&server.config().http);
        let refusals = Refusals(Arc::new(Semaphore::new(MAX_DRAINING)));
        let failures = Throttle::new(1, ACCEPT_LOG_INTERVAL);
        Self { server, local, connections: Connections::new(limits), refusals, failures }
    }

    async fn take(
        &mut self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        serves: Serves,
        closing: &watch::Receiver<bool>,
    ) {
        match accepted {
            Ok((stream, remote)) => self.accept(stream, remote, serves, closing.clone()),
            Err(error) => self.fail(&error).await,
        }
    }

    fn accept(&mut self, stream: TcpStream, remote: SocketAddr, serves: Serves, closing: watch::Receiver<bool>) {
        match self.connections.admit(remote.ip(), Instant::now()) {
            Some(place) => {
                let (server, local, refusals) = (Arc::clone(&self.server), self.local, self.refusals.clone());
                let address = Address { local, remote, serves };
                tokio::spawn(connection::serve(stream, address, server, refusals, place, closing));
            }
            None => {
                self.refusals.refuse(&self.server, stream);
            }
        }
    }

    /// Logs a failed accept. Where the system lacks something, an idle connection gives back what it has of it, and the
    /// next accept comes after a pause. Otherwise it is the connection that failed, and the next one may be sound.
    async fn fail(&mut self, error: &io::Error) {
        let is_shortage = is_shortage(error);
        if let Some(withheld) = self.failures.pass(Timestamp::now()) {
            let advice =
                if is_shortage { " (allow more open files: `ulimit -n`, or LimitNOFILE= of the unit)" } else { "" };
            tracing::warn!(withheld, "cannot accept a connection: {error}{advice}");
        }
        if is_shortage {
            self.connections.evict_one(Instant::now());
            sleep(ACCEPT_RETRY_INTERVAL).await;
        }
    }
}

/// Returns whether the system lacks file descriptors or memory. All other errors of accept(2) are those of the one
/// connection.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}
