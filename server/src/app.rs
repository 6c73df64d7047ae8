//! From a configuration to a running service, and its orderly end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aircheck_api::SourceKind;
use aircheck_engine::Stream;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::interval;

use crate::config::Config;
use crate::http;
use crate::http::server::{ServedMount, Server};
use crate::mount::Mount;
use crate::sink::recorder::{Archive, RecordError, Recording};
use crate::source::{self, OpenError};

/// How often the end of the source is looked for.
const END_LOOK: Duration = Duration::from_millis(20);
/// A failed source whose stream goes on for so many looks has left silence behind, which is worth a line.
const FAILED_LOOKS: u32 = 25;

/// How long after the stream's end the recorder is waited for: the whole end may take 5 s, of which the source may have
/// taken half of one.
const RECORD_PATIENCE: Duration = Duration::from_secs(4);

/// Why the service could not start, or why it ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {}; choose another with --listen", reason(.error))]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Nothing can be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// There is no sound.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The source failed while it ran.
    #[error("the source has failed: {0}")]
    Failed(String),
    /// Nobody can be told where it listens.
    #[error("can't write to stdout: {0}")]
    Announce(#[source] io::Error),
    /// The system refused something else: threads, mostly.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

/// Serves until the source ends or the process is told to end by SIGINT or SIGTERM.
///
/// # Errors
///
/// When it can't start, or when the source fails.
pub fn run(config: Config) -> Result<(), RunError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), RunError> {
    // First of all: whoever tells the process to end, however early, gets an orderly end.
    let mut signals = Signals::listen()?;
    let address = config.http.listen;
    // Before the source, so that no microphone is opened for nothing.
    let listener = TcpListener::bind(address).await.map_err(|error| RunError::Listen { address, error })?;
    let local = listener.local_addr()?;
    let archive = config.recorder.record.as_deref().map(Archive::open).transpose()?;
    let (stream, kind) = source::start(&config.capture)?;
    let recording = match archive {
        Some(archive) => Recording::start(&archive, config.recorder.record_split, &stream)?.map(Arc::new),
        None => None,
    };
    let capture = Arc::clone(stream.capture());
    let mount = ServedMount::new(Mount::new(&stream, kind)?, recording.clone(), &config);
    let server = Server::new(config, mount);
    let (closing, closed) = oneshot::channel();
    let mut serving = tokio::spawn(http::serve(listener, server, async {
        // An error means that the sender is gone, which is a reason to end as well.
        let _ = closed.await;
    }));
    announce(&stream, kind, local, recording.as_deref())?;
    tokio::select! {
        () = until_the_end(&stream, &mut signals) => {}
        served = &mut serving => return served.map_err(io::Error::other)?.map_err(RunError::System),
    }
    // The stream first: every listener gets its end, and the connections close by themselves.
    tokio::task::spawn_blocking(move || stream.stop()).await.map_err(io::Error::other)?;
    let stopped_at = Instant::now();
    let _ = closing.send(());
    serving.await.map_err(io::Error::other)??;
    if let Some(recording) = recording {
        finish(recording, RECORD_PATIENCE.saturating_sub(stopped_at.elapsed())).await?;
    }
    match capture.failure() {
        Some(failure) => Err(RunError::Failed(failure.to_owned())),
        None => Ok(()),
    }
}

/// The ways to tell the process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }
}

/// Waits for the source's end or a signal.
async fn until_the_end(stream: &Stream, signals: &mut Signals) {
    let mut looks = interval(END_LOOK);
    let mut looks_failed = 0;
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => tracing::info!("interrupted: ending every stream"),
            _ = signals.terminate.recv() => tracing::info!("told to end: ending every stream"),
            _ = looks.tick() => {
                if let Some(failure) = stream.capture().failure() {
                    looks_failed += 1;
                    // Where the failure ends the program, that is told once, at the end.
                    if looks_failed == FAILED_LOOKS {
                        tracing::error!("the source has failed, and there is silence: {failure}");
                    }
                }
                if !stream.is_finished() {
                    continue;
                }
                tracing::info!("the source has ended: ending every stream");
            }
        }
        return;
    }
}

/// Waits for the recorder, which has had its end since the stream's.
async fn finish(recording: Arc<Recording>, patience: Duration) -> io::Result<()> {
    let finished = tokio::task::spawn_blocking(move || recording.finish(patience)).await.map_err(io::Error::other)?;
    if !finished {
        tracing::error!("the recording is not complete: the disk is too slow");
    }
    Ok(())
}

fn announce(
    stream: &Stream,
    kind: SourceKind,
    local: SocketAddr,
    recording: Option<&Recording>,
) -> Result<(), RunError> {
    let format = stream.format();
    let channels = format.channels();
    tracing::info!("on air: {}, {} Hz, {channels} ch", stream.description(), format.rate_hz());
    if let Some(recording) = recording {
        tracing::info!("recording to {recording}");
    }
    if !local.ip().to_canonical().is_loopback() {
        let what = if kind == SourceKind::Mic { "THIS MICROPHONE" } else { "this stream" };
        tracing::warn!("NOT PRIVATE: anyone who can reach {local} can listen to {what}");
    }
    let mut out = io::stdout().lock();
    writeln!(out, "listening on http://{local}/").and_then(|()| out.flush()).map_err(RunError::Announce)
}

/// The system's reason for a failed bind, in words that help.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "the system does not permit it (ports below 1024 need a privilege)".to_owned()
        }
        _ => error.to_string(),
    }
}
