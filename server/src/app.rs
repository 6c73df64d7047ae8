//! The service: its start from a configuration, and its orderly end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aircheck_api::SourceKind;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::access::policy::{Access, has_listen};
use crate::access::scope::Scope;
use crate::audience::Running;
use crate::config::{Config, ListenAddress};
use crate::delivery::shards::Shards;
use crate::http;
use crate::http::Serves;
use crate::http::port::{Listening, Socket};
use crate::http::server::Server;
use crate::http::tls::{ServerTls, TlsError};
use crate::mounts::{ConfiguredMount, MountError, Mounts};
use crate::notify::Notifier;
use crate::on_air::{OnAir, named};
use crate::reload::{Hangup, Hangups, Reload};
use crate::service_manager::ServiceManager;

/// Open files besides those of listeners: connections of pages and tools, a recording, and the runtime's own.
pub(crate) const OTHER_FILES: u64 = 400;
/// Time between two checks of the sources for their end.
const END_INTERVAL: Duration = Duration::from_millis(20);

/// Time that the recordings and the publishers may take after the end of the sources. The whole stop may take 5 s, of which the sources
/// may have taken half a second.
const SINK_STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// Time that receivers of notifications may take to hear of the end of the service. It runs beside the stop, which may take
/// 5 s.
const LAST_NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(3);

/// The reason why the service could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address is not available.
    #[error("cannot listen on {address}: {} (choose another with --listen)", reason(.address, .error))]
    Listen {
        /// The configured address.
        address: ListenAddress,
        /// The system's error.
        error: io::Error,
    },
    /// A socket that the service manager has passed cannot be used.
    #[error(
        "cannot use a socket of the service manager: {0} (it must listen for streams: ListenStream= of the socket unit)"
    )]
    Inherited(#[source] io::Error),
    /// Other machines can reach a socket that the service manager has passed, and none needs a token.
    #[error(
        "other machines can reach {0}, which the service manager has passed, and no token is needed to listen: make one with \
         `aircheck token new --name NAME --scope listen`, or permit that with --insecure-public"
    )]
    Reachable(ListenAddress),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address for figures and changes is not available.
    #[error("cannot listen on {address}: {} (choose another with --admin-listen)", reason(&(*.address).into(), .error))]
    AdminListen {
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The only mount cannot go on the air.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The source ended by a failure.
    #[error("the source has failed: {0}")]
    Failed(String),
    /// The address cannot be announced.
    #[error("cannot write the address to stdout: {0}")]
    Announce(#[source] io::Error),
    /// The system refused something else, most likely a thread.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

impl RunError {
    /// Returns the exit code of the process: 2 for a setting that can't work, as for any wrong setting, and 1 for all else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Tls(_) | Self::Reachable(_)) { 2 } else { 1 }
    }
}

/// Serves until all sources have ended or the process receives SIGINT or SIGTERM. At SIGHUP it takes the tokens and mounts that
/// `reload` reads.
///
/// # Errors
///
/// When it can't start, or when the source ends by a failure. A stop by a signal is no error.
pub fn run(config: Config, reload: Option<Reload>) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, reload.map(Arc::new)));
    // A look-up of a receiver's name, or a file system that hangs, must not hold up the exit.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config, reload: Option<Arc<Reload>>) -> Result<(), RunError> {
    raise_file_limit();
    // Before anything else that lasts, so that a signal leads to an orderly stop however early it comes.
    let mut signals = Signals::listen()?;
    let max_listeners = config.http.max_listeners;
    // Before the source, so that no microphone is opened for nothing.
    let sockets = listen(&config).await?;
    let tls = ServerTls::load(&config.http)?;
    let admin = match config.http.admin_listen {
        Some(address) => {
            let bound = Socket::bind(&address.into(), config.http.unix_mode).await;
            let socket = bound.map_err(|error| RunError::AdminListen { address, error })?;
            Some(Listening::new(socket, tls.as_ref(), Serves::Admin))
        }
        None => None,
    };
    let serves = if admin.is_some() { Serves::Streams } else { Serves::All };
    let reachable = sockets.iter().map(Socket::address).find(ListenAddress::is_reachable);
    let mut listening: Vec<_> =
        sockets.into_iter().map(|socket| Listening::new(socket, tls.as_ref(), serves)).collect();
    let urls: Vec<_> = listening.iter().map(|listening| listening.url().to_owned()).collect();
    let shards = Shards::start()?;
    let mounts = Mounts::new(&config.mounts);
    let notifier = Notifier::start(&config.notify, &config.mounts);
    let access = Access::new(config.rules()).map_err(io::Error::other)?;
    let server = Server::new(config, access, Arc::clone(&mounts), Arc::clone(&shards), Arc::clone(&notifier));
    let on_air = OnAir::new(Arc::clone(&server));
    on_air.open_all()?;
    let audience = Running::start(server.reporting(), server.gathering(), server.listeners(), server.mounts());
    let (closing, closed) = oneshot::channel();
    server.set_urls(urls.clone());
    if let Some(admin) = admin {
        tracing::info!("figures and changes at {}", admin.url());
        listening.push(admin);
    }
    let mut serving = tokio::spawn(http::serve(listening, tls, Arc::clone(&server), async {
        // An error means that the sender is gone, which is a reason to stop as well.
        let _ = closed.await;
    }));
    announce(&mounts, reachable.as_ref(), &urls, server.access())?;
    let urls = urls.join(" and ");
    log_file_limit(max_listeners);
    let sources = sources(&mounts);
    notifier.begin(format!("the service has started: {sources}, at {urls}"));
    let mut manager = ServiceManager::new(Instant::now());
    manager.ready(&format!("on air: {sources}, {urls}"));
    let mut reloading = JoinSet::new();
    let end = tokio::select! {
        end = wait_for_end(&mounts, &mut signals, &mut manager, || {
            if let Some(reload) = reload.clone() {
                let on_air = Arc::clone(&on_air);
                // On its own, because a device may take a while.
                reloading.spawn(async move { reload.reload(&on_air).await });
            }
        }) => end,
        served = &mut serving => return served.map_err(|error| RunError::System(io::Error::other(error))),
    };
    // What happens from here on belongs to the end.
    reloading.abort_all();
    on_air.stop();
    let failure = mounts.failure();
    let words = end.words(failure.as_deref());
    let last = tokio::spawn(async move {
        tokio::join!(notifier.finish(words, LAST_NOTIFICATION_TIMEOUT), audience.finish());
    });
    manager.stopping();
    // The sources first: every listener gets the end, and the connections close by themselves.
    let stopping = Arc::clone(&mounts);
    tokio::task::spawn_blocking(move || stopping.stop()).await.map_err(io::Error::other)?;
    let deadline = Instant::now() + SINK_STOP_TIMEOUT;
    let _ = closing.send(());
    serving.await.map_err(io::Error::other)?;
    finish_sinks(mounts, deadline).await?;
    last.await.map_err(io::Error::other)?;
    match failure {
        Some(failure) if end == End::Source => Err(RunError::Failed(failure)),
        _ => Ok(()),
    }
}

/// Returns the sources of all mounts in words.
fn sources(mounts: &Mounts) -> String {
    let all = mounts.all();
    let source = |mount: &Arc<ConfiguredMount>| match mount.served() {
        Ok(served) if all.len() == 1 => served.mount.description().to_owned(),
        Ok(served) => format!("{} ({})", mount.name(), served.mount.description()),
        Err(_) => format!("{} (not yet)", mount.name()),
    };
    all.iter().map(source).collect::<Vec<_>>().join(", ")
}

/// Returns the sockets that the service manager has passed, or else those of the configured addresses.
async fn listen(config: &Config) -> Result<Vec<Socket>, RunError> {
    let inherited = Socket::inherited().map_err(RunError::Inherited)?;
    let may_be_reached = config.http.insecure_public || config.rules().needs_token(&Scope::Listen(None));
    if let Some(address) =
        inherited.iter().map(Socket::address).find(|address| address.is_reachable() && !may_be_reached)
    {
        return Err(RunError::Reachable(address));
    }
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    let mut sockets = Vec::new();
    for address in &config.http.listen {
        let bound = Socket::bind(address, config.http.unix_mode).await;
        sockets.push(bound.map_err(|error| RunError::Listen { address: address.clone(), error })?);
    }
    Ok(sockets)
}

/// The signals that stop the process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Hangups,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: Hangups::listen()?,
        })
    }
}

/// The reason why the service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The source has ended, by itself or by a failure.
    Source,
    /// The process received SIGINT or SIGTERM, or its terminal was closed.
    Signal,
}

impl End {
    /// Returns the reason in words.
    fn words(self, failure: Option<&str>) -> String {
        match (self, failure) {
            (Self::Source, Some(failure)) => format!("the service ends: the source has failed: {failure}"),
            (Self::Source, None) => "the service ends: the source has ended".to_owned(),
            (Self::Signal, _) => "the service ends: it was told to stop".to_owned(),
        }
    }
}

/// Waits for the end of all sources, or for a signal. Calls `reload` at each SIGHUP.
async fn wait_for_end(
    mounts: &Mounts,
    signals: &mut Signals,
    manager: &mut ServiceManager,
    mut reload: impl FnMut(),
) -> End {
    let mut checks = interval(END_INTERVAL);
    loop {
        let signal = tokio::select! {
            _ = signals.interrupt.recv() => "SIGINT",
            _ = signals.terminate.recv() => "SIGTERM",
            hangup = signals.hangup.next() => match hangup {
                Hangup::TerminalClosed => "SIGHUP of a closed terminal",
                Hangup::Reload => {
                    reload();
                    continue;
                }
            },
            _ = checks.tick() => {
                manager.feed(&mounts.dispatcher_turns(), Instant::now());
                if !mounts.are_finished() {
                    continue;
                }
                let which = if mounts.all().len() == 1 { "the source has" } else { "all sources have" };
                tracing::info!("{which} ended: ending every stream");
                return End::Source;
            }
        };
        tracing::info!("{signal} received: ending every stream");
        if let Some(failure) = mounts.failure() {
            tracing::error!("the source has failed: {failure}");
        }
        return End::Signal;
    }
}

/// Waits until all recordings are complete, and everything that is published has been sent, until `deadline` at most.
async fn finish_sinks(mounts: Arc<Mounts>, deadline: Instant) -> io::Result<()> {
    tokio::task::spawn_blocking(move || {
        for name in mounts.finish_recordings(deadline) {
            let of_mount = named(&name, mounts.all().len());
            tracing::error!("the recording{of_mount} is not complete: the disk is too slow (record to a faster one)");
        }
        for name in mounts.finish_publishing(deadline) {
            let of_mount = named(&name, mounts.all().len());
            tracing::error!(
                "the stream{of_mount} is not published to its end: NATS does not take it (look after its server)"
            );
        }
    })
    .await
    .map_err(io::Error::other)
}

fn announce(
    mounts: &Mounts,
    reachable: Option<&ListenAddress>,
    urls: &[String],
    access: &Access,
) -> Result<(), RunError> {
    let rules = access.rules();
    if rules.needs_token(&Scope::Listen(None)) {
        let names: Vec<_> = rules.tokens.iter().filter(|token| has_listen(token)).map(|token| &*token.name).collect();
        tracing::info!("listening takes a token: {}", names.join(", "));
    } else if let Some(local) = reachable {
        let is_microphone = mounts.served().iter().any(|served| served.mount.kind() == SourceKind::Mic);
        let what = if is_microphone { "THIS MICROPHONE" } else { "this stream" };
        tracing::warn!("NOT PRIVATE: every machine that can reach {local} can listen to {what}");
    }
    let mut out = io::stdout().lock();
    let mut lines = urls.iter().map(|url| format!("listening on {url}\n"));
    lines.try_for_each(|line| out.write_all(line.as_bytes())).and_then(|()| out.flush()).map_err(RunError::Announce)
}

/// Raises the limit of open files to what the system allows. Each connection is a file, and the usual soft limit of 1024
/// is below what 1000 listeners need.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If this is not permitted, the limit stays as it was, and is logged.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Logs how many files may be open, and whether that is enough for so many listeners.
fn log_file_limit(max_listeners: usize) {
    let Some(files) = getrlimit(Resource::Nofile).current else { return };
    let needed = max_listeners as u64 + OTHER_FILES;
    if files < needed {
        tracing::warn!(
            "{files} files may be open, and {max_listeners} listeners need {needed} (allow more: `ulimit -Hn`, or \
             LimitNOFILE= of the unit)"
        );
    } else {
        tracing::info!("up to {max_listeners} listeners: {files} files may be open");
    }
}

/// Returns the reason for a failed bind in words that help.
fn reason(address: &ListenAddress, error: &io::Error) -> String {
    let is_unix = matches!(address, ListenAddress::Unix(_));
    match error.kind() {
        io::ErrorKind::AddrInUse if is_unix => "another program listens there, or another file is there".to_owned(),
        io::ErrorKind::NotFound if is_unix => "there is no such directory".to_owned(),
        io::ErrorKind::PermissionDenied if is_unix => "this user cannot make files there".to_owned(),
        io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "the system does not permit it (ports below 1024 need a privilege)".to_owned()
        }
        _ => error.to_string(),
    }
}
