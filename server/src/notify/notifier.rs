//! The targets of notifications, and the way to all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aircheck_api::{LastNotification, MAIN_MOUNT, NotificationTarget};
use aircheck_engine::Timestamp;
use aircheck_notify::{Details, EventName, Notification, NotificationState};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::queue::TargetQueue;
use super::worker::{deliver, deliver_last};
use crate::config::NotifyConfig;

/// Tells events to all targets.
#[derive(Debug)]
pub struct Notifier {
    server: String,
    queues: Vec<Arc<TargetQueue>>,
    closing: watch::Sender<bool>,
    workers: Mutex<JoinSet<()>>,
    last: Mutex<Option<Arc<Notification>>>,
}

/// Notifications of all targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those that a receiver has taken.
    pub delivered: u64,
    /// Those that a receiver has refused.
    pub failed: u64,
    /// Those that were given up, because the queue was full or they were too old.
    pub dropped: u64,
    /// Tries that failed and are made again.
    pub retried: u64,
}

impl Notifier {
    /// Starts a worker for each target. There may be none.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[must_use]
    pub fn start(config: &NotifyConfig) -> Arc<Self> {
        // A receiver that is named twice is told once.
        let mut queues: Vec<Arc<TargetQueue>> = Vec::new();
        for target in &config.targets {
            if !queues.iter().any(|queue| queue.target == *target) {
                queues.push(Arc::new(TargetQueue::new(target.clone(), config.form)));
            }
        }
        let (closing, _) = watch::channel(false);
        let mut workers = JoinSet::new();
        for queue in &queues {
            workers.spawn(deliver(Arc::clone(queue), closing.subscribe()));
        }
        let server = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Arc::new(Self { server, queues, closing, workers: Mutex::new(workers), last: Mutex::default() })
    }

    /// Returns whether there are targets.
    #[must_use]
    pub fn has_targets(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Queues a notification on `mount` for all targets, if there are any. This never waits.
    pub fn tell(&self, mount: &str, event: EventName, state: NotificationState, text: String, details: Details) {
        if !self.has_targets() {
            return;
        }
        let now = Timestamp::now();
        let notification = self.notification(mount, event, state, text, details);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&notification));
        self.queues.iter().for_each(|queue| queue.push(Arc::clone(&notification), now));
    }

    /// Tells the start of the service.
    pub fn begin(&self, text: String) {
        self.tell(MAIN_MOUNT, EventName::Service, NotificationState::Begin, text, Details::new());
    }

    /// Tells the end of the service at once, delivers what else is queued as far as `limit` permits, and ends the workers.
    pub async fn finish(&self, text: String, limit: Duration) {
        if !self.has_targets() {
            return;
        }
        let notification =
            self.notification(MAIN_MOUNT, EventName::Service, NotificationState::End, text, Details::new());
        self.closing.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for queue in &self.queues {
            // Beside the queue: a worker may wait for a slow receiver.
            tasks.spawn(deliver_last(Arc::clone(queue), Arc::clone(&notification)));
        }
        if timeout(limit, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("the end is not told to all receivers of notifications: no time is left");
        }
    }

    /// Returns the account of each target.
    #[must_use]
    pub fn accounts(&self) -> Vec<NotificationTarget> {
        self.queues.iter().map(|queue| queue.account()).collect()
    }

    /// Returns the last notification, if there are targets.
    #[must_use]
    pub fn last(&self) -> Option<LastNotification> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(LastNotification {
            event: last.event.name().to_owned(),
            state: last.state.name().to_owned(),
            at: last.at,
            text: last.text.clone(),
        })
    }

    /// Returns the totals over all targets.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.accounts().iter().fold(Totals::default(), |sum, account| Totals {
            delivered: sum.delivered + account.delivered,
            failed: sum.failed + account.failed,
            dropped: sum.dropped + account.dropped,
            retried: sum.retried + account.retried,
        })
    }

    fn notification(
        &self,
        mount: &str,
        event: EventName,
        state: NotificationState,
        text: String,
        details: Details,
    ) -> Arc<Notification> {
        let (mount, server, at) = (mount.to_owned(), self.server.clone(), Timestamp::now().unix_seconds());
        Arc::new(Notification { event, state, mount, server, at, text, details })
    }
}
