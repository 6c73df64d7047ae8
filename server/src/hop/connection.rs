//! A connection to a NATS server, which is given up at the first failure.
//!
//! The client would connect again by itself, and then send what it has kept meanwhile, which is no longer live; requests that were on
//! their way would wait for answers that cannot come; and it would not say why it cannot connect. So each of its connections is used
//! once, and whoever has it makes another one.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::message::clock_subject;
use crate::config::NatsUrl;
use crate::one_line::one_line;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time between two pings: a server that is frozen is given up after two that are not answered.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Commands that wait for the connection, such as blocks to be published. Few, so that blocks wait where they are counted.
const COMMANDS: usize = 64;
/// How long to wait for the answer that the server has done everything so far.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
/// All refusals of what was asked at once come within this.
const REFUSALS_SPAN: Duration = Duration::from_millis(500);

/// A connection.
pub(crate) struct Connection {
    pub(crate) client: Client,
    signals: Arc<Signals>,
}

/// What the client has told of the connection.
#[derive(Debug, Default)]
struct Signals {
    /// Refusals of the server that were not taken yet.
    refusals: Mutex<Vec<String>>,
    slow: AtomicU64,
    /// Whether the connection was lost. The client may have made another one since.
    is_lost: AtomicBool,
    news: Notify,
}

/// What has happened to a connection.
#[derive(Debug)]
pub(crate) enum News {
    /// It is lost, or the server has ended it.
    Lost(String),
    /// The server refuses something, in its words.
    Refused(String),
    /// Messages have found the subscription full.
    Slow,
}

impl Connection {
    /// Connects to the first server that permits it. `messages` may wait in each subscription.
    ///
    /// # Errors
    ///
    /// Why that is not possible, in one line for people.
    pub(crate) async fn open(url: &NatsUrl, messages: usize) -> Result<Self, String> {
        let mut refusals = Vec::new();
        for server in url.servers() {
            match Self::open_at(server, url, messages).await {
                Ok(connection) => return Ok(connection),
                Err(why) => refusals.push(why),
            }
        }
        Err(refusals.join("; "))
    }

    async fn open_at(server: &str, url: &NatsUrl, messages: usize) -> Result<Self, String> {
        let signals = Arc::<Signals>::default();
        let noted = Arc::clone(&signals);
        let mut options = ConnectOptions::new()
            .name("aircheck")
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .client_capacity(COMMANDS)
            .subscription_capacity(messages)
            .max_reconnects(1)
            .ignore_discovered_servers()
            .require_tls(url.is_tls())
            .event_callback(move |event| {
                noted.note(&event);
                std::future::ready(())
            });
        match (url.user(), url.password()) {
            (Some(user), Some(password)) => options = options.user_and_password(user.to_owned(), password.to_owned()),
            (Some(token), None) => options = options.token(token.to_owned()),
            _ => {}
        }
        if let Some(file) = url.ca() {
            // The client would not say which file it cannot read.
            File::open(file).map_err(|error| unreadable("certificates", file, &error))?;
            options = options.add_root_certificates(file.clone());
        }
        if let Some(file) = url.credentials() {
            let with_file = options.credentials_file(file).await;
            options = with_file.map_err(|error| unreadable("credentials", file, &error))?;
        }
        let scheme = if url.is_tls() { "tls" } else { "nats" };
        let connecting = options.connect(format!("{scheme}://{server}"));
        let client = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(refusal(server, error.kind(), &error.to_string())),
            Err(_) => return Err(refusal(server, ConnectErrorKind::TimedOut, "")),
        };
        Ok(Self { client, signals })
    }

    /// Waits until the server has done everything that it was told so far, by a request about the clock. Where
    /// requests are not permitted, and where the server does not answer, that is only likely.
    ///
    /// # Errors
    ///
    /// When the server refuses something of `subject`.
    pub(crate) async fn confirm(&self, subject: &str) -> Result<(), String> {
        // Where the request is refused, that comes after the refusals of all before it.
        let refused = async {
            self.until(Self::has_refusals).await;
            sleep(REFUSALS_SPAN).await;
        };
        tokio::select! {
            _ = self.client.request(clock_subject(subject), "".into()) => {}
            () = refused => {}
            () = sleep(CONFIRM_TIMEOUT) => {}
        }
        match self.signals.take_refusal(|refusal| is_about(refusal, subject)) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Waits until something happens to the connection. If the future is dropped before it is ready, nothing is lost.
    pub(crate) async fn news(&self) -> News {
        loop {
            let news = self.signals.news.notified();
            if let Some(refusal) = self.signals.take_refusal(|_| true) {
                return News::Refused(refusal);
            }
            if self.signals.slow.swap(0, Ordering::AcqRel) > 0 {
                return News::Slow;
            }
            if !self.is_up() {
                return News::Lost("the connection is lost".to_owned());
            }
            news.await;
        }
    }

    /// Waits until the connection is lost. What else happens meanwhile remains to be told by [`Connection::news`].
    pub(crate) async fn lost(&self) {
        self.until(|connection| !connection.is_up()).await;
    }

    /// Waits until that is so of the connection. What happens to it meanwhile remains to be told by [`Connection::news`].
    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let news = self.signals.news.notified();
            if is_so(self) {
                return;
            }
            news.await;
        }
    }

    /// Returns whether the server has refused something that [`Connection::news`] has not told yet.
    pub(crate) fn has_refusals(&self) -> bool {
        !self.signals.refusals.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Returns whether the connection is there, and has always been.
    pub(crate) fn is_up(&self) -> bool {
        !self.signals.is_lost.load(Ordering::Acquire) && self.client.connection_state() == State::Connected
    }
}

impl Signals {
    fn note(&self, event: &Event) {
        match event {
            Event::SlowConsumer(_) => {
                self.slow.fetch_add(1, Ordering::AcqRel);
            }
            Event::Disconnected | Event::Closed => self.is_lost.store(true, Ordering::Release),
            Event::ServerError(ServerError::Other(refusal)) => {
                self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(one_line(refusal));
            }
            Event::ServerError(error) => {
                self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(one_line(&error.to_string()));
            }
            _ => {}
        }
        self.news.notify_one();
    }

    fn take_refusal(&self, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let at = refusals.iter().position(|refusal| is_wanted(refusal))?;
        Some(refusals.remove(at))
    }
}

/// Says why a file cannot be read, and what would work.
fn unreadable(what: &str, file: &Path, error: &io::Error) -> String {
    format!("cannot read the {what} in {}: {error} (correct the path or its permissions)", file.display())
}

/// Says why a connection cannot be made, and what would work.
fn refusal(server: &str, kind: ConnectErrorKind, error: &str) -> String {
    match kind {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            format!(
                "the NATS server at {server} refuses these credentials (correct user and password, token or ?credentials=FILE)"
            )
        }
        ConnectErrorKind::TimedOut => {
            format!("the NATS server at {server} does not answer (start it there, or correct host and port)")
        }
        ConnectErrorKind::Dns => format!("there is no host {server} (correct it)"),
        // The client tells of a certificate, and of a server without TLS, as of a failure to read.
        _ if kind == ConnectErrorKind::Tls || error.contains("certificate") || error.contains("corrupt message") => {
            format!(
                "cannot encrypt the connection to {server}: {} (correct its certificate, give ?ca=FILE, or use nats:// if the server \
                 has no TLS)",
                one_line(error)
            )
        }
        _ => format!(
            "cannot connect to NATS at {server}: {} (start a NATS server there, or correct host and port)",
            one_line(error)
        ),
    }
}

/// Returns whether the server refuses something of this subject, and not of one below it.
pub(crate) fn is_about(refusal: &str, subject: &str) -> bool {
    refusal.contains(&format!("\"{subject}\""))
}

/// Says what a server refuses, and what would work.
pub(crate) fn forbidden(url: &NatsUrl, refusal: &str) -> String {
    format!("NATS refuses: {refusal} (permit that to the user at {})", url.authority())
}
