//! The task that tells of the listeners here, once a second, over one connection to NATS after the other.

use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::Timestamp;
use aircheck_engine::source::BackOff;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::report;
use super::reporting::Reporting;
use crate::delivery::listeners::Listeners;
use crate::hop::connection::{Connection, News, forbidden, is_about};

/// Time between two reports.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long NATS may take for one: the next is due then.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest pause between two tries to connect, so that an edge is missed for no longer than its figures are kept.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Reports on `listeners` until `closing` is true, and says then that there are none any more.
pub(super) async fn run(reporting: Arc<Reporting>, listeners: Arc<Listeners>, mut closing: watch::Receiver<bool>) {
    let reporter = Reporter { reporting, listeners };
    let mut back_off = BackOff::default();
    let mut was_connected = false;
    loop {
        let connected = tokio::select! {
            connected = reporter.connect() => connected,
            _ = closing.changed() => return,
        };
        let why = match connected {
            Ok(connection) => {
                reporter.reporting.connection.connected(was_connected);
                tracing::info!("reporting on listeners on {}", reporter.reporting.subject());
                (was_connected, back_off) = (true, BackOff::default());
                match reporter.report(&connection, &mut closing).await {
                    Some(why) => why,
                    None => return,
                }
            }
            Err(why) => why,
        };
        if reporter.reporting.connection.failed(&why) {
            let url = reporter.reporting.url();
            tracing::error!("cannot report on listeners at {url}: {why}; it is tried again");
        }
        back_off.lengthen();
        tokio::select! {
            () = sleep(back_off.pause().min(MAX_PAUSE)) => {}
            _ = closing.changed() => return,
        }
    }
}

struct Reporter {
    reporting: Arc<Reporting>,
    listeners: Arc<Listeners>,
}

impl Reporter {
    /// Connects, and finds out whether it is permitted to report: the server says so only of a message.
    async fn connect(&self) -> Result<Connection, String> {
        // It subscribes to nothing but answers.
        let connection = Connection::open(self.reporting.url(), 1).await?;
        self.send(&connection, false).await?;
        let confirmed = connection.confirm(&self.reporting.subject()).await;
        confirmed.map_err(|why| forbidden(self.reporting.url(), &why))?;
        Ok(connection)
    }

    /// Reports until the connection is lost, and returns why; `None` if the server ends.
    async fn report(&self, connection: &Connection, closing: &mut watch::Receiver<bool>) -> Option<String> {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one went with the question whether that is permitted.
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => if let Err(why) = self.send(connection, false).await {
                    return Some(why);
                },
                news = connection.news() => match news {
                    News::Lost(why) => return Some(why),
                    News::Refused(why) if is_about(&why, &self.reporting.subject()) => {
                        return Some(forbidden(self.reporting.url(), &why));
                    }
                    // The question after the first report, which is only for an answer.
                    News::Refused(_) | News::Slow => {}
                },
                _ = closing.changed() => {
                    if self.send(connection, true).await.is_ok() {
                        let _ = timeout(SEND_TIMEOUT, connection.client.flush()).await;
                    }
                    return None;
                }
            }
        }
    }

    /// Sends a report, which says that the server ends if it `is_last`. One that cannot be sent is not kept: the next one is newer.
    async fn send(&self, connection: &Connection, is_last: bool) -> Result<(), String> {
        let report = report::make(&self.listeners, self.reporting.run(), Timestamp::now(), is_last);
        let bytes = report::write(&report, connection.client.max_payload());
        let sending = connection.client.publish(self.reporting.subject(), bytes.into());
        match timeout(SEND_TIMEOUT, sending).await {
            Ok(Ok(())) => {
                self.reporting.count();
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("NATS takes no messages".to_owned()),
        }
    }
}
