//! The accept loop: gives each connection a place and a task, until the server ends.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aircheck_engine::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::delivery::remote::Remote;
use crate::http::connection::{self, Refusals};
use crate::http::connections::{Connections, Limits};
use crate::http::port::{Listening, Port, Socket};
use crate::http::server::Server;
use crate::http::tls::{ServerTls, renewal};
use crate::http::transport::Transport;
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

/// Serves `server` on all of `listening` until `shutdown` resolves; then waits for the connections to end, a few seconds
/// at most. Takes renewed certificates of `tls` meanwhile. Streams end when the server's stream does, so that should have been
/// stopped by then.
pub async fn serve(
    listening: Vec<Listening>,
    tls: Option<Arc<ServerTls>>,
    server: Arc<Server>,
    shutdown: impl Future<Output = ()>,
) {
    // Every connection holds a receiver for as long as it is open.
    let (closing, open) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(watch(Arc::clone(server.mounts()), Arc::clone(server.listeners())));
    if let Some(tls) = tls {
        tasks.spawn(renewal::watch(tls));
    }
    let places = Connections::new(Limits::new(&server.config().http));
    let refusals = Refusals(Arc::new(Semaphore::new(MAX_DRAINING)));
    let mut accepting = JoinSet::new();
    for listening in listening {
        let acceptor = Acceptor {
            server: Arc::clone(&server),
            port: Arc::clone(&listening.port),
            connections: Arc::clone(&places),
            refusals: refusals.clone(),
            failures: Throttle::new(1, ACCEPT_LOG_INTERVAL),
            closing: open.clone(),
        };
        accepting.spawn(acceptor.run(listening.socket));
    }
    shutdown.await;
    accepting.shutdown().await;
    server.mounts().served().iter().for_each(|served| served.mount.events().finish());
    drop(open);
    // Fails if no connection is open.
    let _ = closing.send(true);
    if timeout(CLOSE_TIMEOUT, closing.closed()).await.is_err() {
        tracing::info!("closed connections of listeners that did not read the end of their streams");
    }
    tasks.abort_all();
}

/// Starts the connections of one address, and refuses those for which there is no place.
struct Acceptor {
    server: Arc<Server>,
    port: Arc<Port>,
    connections: Arc<Connections>,
    refusals: Refusals,
    failures: Throttle,
    closing: watch::Receiver<bool>,
}

impl Acceptor {
    async fn run(mut self, socket: Socket) {
        loop {
            match socket.accept().await {
                Ok((stream, remote)) => self.accept(stream, remote),
                Err(error) => self.fail(&error).await,
            }
        }
    }

    fn accept(&self, stream: Transport, remote: Remote) {
        let now = Instant::now();
        let place = if self.server.trusted_proxies().contain(remote.ip()) {
            self.connections.admit_proxy(now)
        } else {
            self.connections.admit(remote.ip(), now)
        };
        match place {
            Some(place) => {
                let (server, port, refusals) =
                    (Arc::clone(&self.server), Arc::clone(&self.port), self.refusals.clone());
                let closing = self.closing.clone();
                tokio::spawn(connection::serve(stream, remote, port, server, refusals, place, closing));
            }
            None => self.refusals.refuse(&self.server, &self.port, stream),
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
