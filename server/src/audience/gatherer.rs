//! The task that takes the reports of edges, over one connection to NATS after the other, and tells of edges that come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aircheck_api::EventKind;
use aircheck_engine::Timestamp;
use aircheck_engine::source::BackOff;
use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::{Interval, interval, sleep};

use super::edges::{MAX_EDGES, Verdict};
use super::gathering::{Gathering, Outcome};
use super::report;
use crate::hop::connection::{Connection, News, forbidden, is_about};
use crate::mounts::Mounts;
use crate::one_line::one_line;

/// Messages that may wait in the subscription: those of half a second from as many edges as there can be. NATS bounds their length.
const MAX_WAITING: usize = 128;
/// Time between two looks for edges that have fallen silent.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Longest pause between two tries to connect.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The least time between two lines of the log about messages of the same kind that are left out.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Gathers until the future is dropped. Events go to the log of the first of `mounts`.
pub(super) async fn run(gathering: Arc<Gathering>, mounts: Arc<Mounts>) {
    let mut gatherer = Gatherer { gathering, mounts, looks: interval(LOOK_INTERVAL), told: BTreeMap::new() };
    let mut back_off = BackOff::default();
    let mut was_connected = false;
    loop {
        let connecting = subscribe(Arc::clone(&gatherer.gathering));
        let why = match gatherer.look_until(connecting).await {
            Ok((connection, messages)) => {
                gatherer.gathering.connection.connected(was_connected);
                tracing::info!("gathering listeners from {}", gatherer.gathering.url());
                (was_connected, back_off) = (true, BackOff::default());
                gatherer.receive(&connection, messages).await
            }
            Err(why) => why,
        };
        if gatherer.gathering.connection.failed(&why) {
            let url = gatherer.gathering.url();
            tracing::error!("no listeners are gathered from {url}: {why}; it is tried again");
        }
        back_off.lengthen();
        gatherer.look_until(sleep(back_off.pause().min(MAX_PAUSE))).await;
    }
}

struct Gatherer {
    gathering: Arc<Gathering>,
    mounts: Arc<Mounts>,
    looks: Interval,
    /// When messages of each kind were last told of.
    told: BTreeMap<&'static str, Timestamp>,
}

impl Gatherer {
    /// Waits for something else, and looks for silent edges meanwhile.
    async fn look_until<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                output = &mut other => return output,
                _ = self.looks.tick() => self.look(),
            }
        }
    }

    fn look(&self) {
        self.publish(self.gathering.look(Timestamp::now()));
    }

    /// Takes messages until the connection is lost, and returns why it is.
    async fn receive(&mut self, connection: &Connection, mut messages: Subscriber) -> String {
        let (url, subject) = (self.gathering.url().clone(), subject(&self.gathering));
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.take(&message),
                    None => return "the connection is lost".to_owned(),
                },
                _ = self.looks.tick() => self.look(),
                news = connection.news() => match news {
                    News::Lost(why) => return why,
                    News::Refused(why) if is_about(&why, &subject) => return forbidden(&url, &why),
                    // The question after the subscription, which is only for an answer.
                    News::Refused(_) => {}
                    News::Slow => {
                        self.gathering.count_slow();
                        self.tell("slow", || "this server is too slow for all reports: some are lost".to_owned());
                    }
                },
            }
        }
    }

    fn take(&mut self, message: &Message) {
        let name = message.subject.rsplit('.').next().unwrap_or_default();
        let read = report::read(&message.payload);
        let (outcome, events) = self.gathering.take(name, read, Timestamp::now());
        self.publish(events);
        let name = one_line(name);
        match outcome {
            Outcome::Reported(Verdict::Foreign { is_second: true }) => self.tell("foreign", || {
                format!("two servers report as `{name}`, and the second one is left out (give it another --report-as)")
            }),
            Outcome::Reported(Verdict::Full) => self.tell("full", || {
                format!("`{name}` is left out: {MAX_EDGES} edges report already (gather at several subjects)")
            }),
            Outcome::Refused(error) => self.tell("refused", || format!("a message of `{name}` is left out: {error}")),
            Outcome::Reported(_) | Outcome::Own => {}
        }
    }

    /// Publishes events in the log of the first mount, while that is on the air.
    fn publish(&self, events: Vec<EventKind>) {
        if events.is_empty() {
            return;
        }
        if let Ok(served) = self.mounts.first().served() {
            events.into_iter().for_each(|event| served.mount.events().publish(None, event));
        }
    }

    /// Logs a line, now and then for each kind.
    fn tell(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        let now = Timestamp::now();
        if self.told.get(kind).is_none_or(|told| now.since(*told) >= TELL_INTERVAL) {
            self.told.insert(kind, now);
            tracing::warn!("{}: {}", self.gathering.url(), text());
        }
    }
}

/// The subject of the reports of all edges.
fn subject(gathering: &Gathering) -> String {
    format!("{}.*", gathering.url().subject())
}

/// Connects and subscribes, and finds out whether that is permitted.
async fn subscribe(gathering: Arc<Gathering>) -> Result<(Connection, Subscriber), String> {
    let (url, subject) = (gathering.url(), subject(&gathering));
    let connection = Connection::open(url, MAX_WAITING).await?;
    let messages = connection.client.subscribe(subject.clone()).await.map_err(|error| error.to_string())?;
    connection.confirm(&subject).await.map_err(|why| forbidden(url, &why))?;
    Ok((connection, messages))
}
