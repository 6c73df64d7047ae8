//! The targets of notifications, and the way to all of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use aircheck_api::{LastNotification, MAIN_MOUNT, NotificationTarget};
use aircheck_engine::Timestamp;
use aircheck_notify::{Details, EventName, Form, Notification, NotificationState, Target};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::queue::TargetQueue;
use super::worker::{deliver, deliver_last};
use crate::config::{MountConfig, NotifyConfig};

/// Tells events to all targets.
#[derive(Debug)]
pub struct Notifier {
    server: String,
    receivers: RwLock<Vec<Receiver>>,
    form: Form,
    closing: watch::Sender<bool>,
    workers: Mutex<JoinSet<()>>,
    last: Mutex<Option<Arc<Notification>>>,
}

/// A receiver, and what it is told of. One that is told of nothing any more keeps its account, because counts never fall.
#[derive(Debug)]
struct Receiver {
    queue: Arc<TargetQueue>,
    /// Whether it is one of the server's, which are told of the service and of every mount.
    is_of_server: bool,
    /// The mounts whose own receiver it is.
    mounts: BTreeSet<String>,
}

impl Receiver {
    fn is_told_of(&self, mount: &str) -> bool {
        self.is_of_server || self.mounts.contains(mount)
    }
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
    /// Starts a worker for each target, of the server and of these mounts. There may be none.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[must_use]
    pub fn start(config: &NotifyConfig, mounts: &[MountConfig]) -> Arc<Self> {
        let (closing, _) = watch::channel(false);
        let server = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let notifier = Self {
            server,
            receivers: RwLock::default(),
            form: config.form,
            closing,
            workers: Mutex::default(),
            last: Mutex::default(),
        };
        for target in &config.targets {
            notifier.with_receiver(target, |receiver| receiver.is_of_server = true);
        }
        notifier.set_receivers_of(mounts);
        Arc::new(notifier)
    }

    /// Takes the receivers that these mounts have for themselves, in place of those of all mounts before.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn set_receivers_of(&self, mounts: &[MountConfig]) {
        let mut receivers = self.receivers.write().unwrap_or_else(PoisonError::into_inner);
        receivers.iter_mut().for_each(|receiver| receiver.mounts.clear());
        drop(receivers);
        for mount in mounts {
            for target in &mount.notify {
                self.with_receiver(target, |receiver| _ = receiver.mounts.insert(mount.name.clone()));
            }
        }
    }

    /// Changes the receiver at `target`, which is added if it is new. One that is named twice is told once.
    fn with_receiver(&self, target: &Target, change: impl FnOnce(&mut Receiver)) {
        let mut receivers = self.receivers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = receivers.iter_mut().find(|receiver| receiver.queue.target == *target) {
            return change(receiver);
        }
        let queue = Arc::new(TargetQueue::new(target.clone(), self.form));
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.spawn(deliver(Arc::clone(&queue), self.closing.subscribe()));
        let mut receiver = Receiver { queue, is_of_server: false, mounts: BTreeSet::new() };
        change(&mut receiver);
        receivers.push(receiver);
    }

    /// Returns whether there is a receiver that is told of this mount.
    #[must_use]
    pub fn has_receiver_of(&self, mount: &str) -> bool {
        self.receivers().iter().any(|receiver| receiver.is_told_of(mount))
    }

    /// Queues a notification on `mount` for all of its receivers, if there are any. This never waits.
    pub fn tell(&self, mount: &str, event: EventName, state: NotificationState, text: String, details: Details) {
        self.tell_those(|receiver| receiver.is_told_of(mount), mount, (event, state, text, details));
    }

    fn tell_those(
        &self,
        is_told: impl Fn(&Receiver) -> bool,
        mount: &str,
        (event, state, text, details): (EventName, NotificationState, String, Details),
    ) {
        let receivers = self.receivers();
        let mut told = receivers.iter().filter(|receiver| is_told(receiver)).peekable();
        if told.peek().is_none() {
            return;
        }
        let now = Timestamp::now();
        let notification = self.notification(mount, event, state, text, details);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&notification));
        told.for_each(|receiver| receiver.queue.push(Arc::clone(&notification), now));
    }

    /// Tells the start of the service to the receivers of the server.
    pub fn begin(&self, text: String) {
        let begin = (EventName::Service, NotificationState::Begin, text, Details::new());
        self.tell_those(|receiver| receiver.is_of_server, MAIN_MOUNT, begin);
    }

    /// Tells the end of the service at once, delivers what else is queued as far as `limit` permits, and ends the workers.
    pub async fn finish(&self, text: String, limit: Duration) {
        let notification =
            self.notification(MAIN_MOUNT, EventName::Service, NotificationState::End, text, Details::new());
        self.closing.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for receiver in self.receivers().iter().filter(|receiver| receiver.is_of_server) {
            // Beside the queue: a worker may wait for a slow receiver.
            tasks.spawn(deliver_last(Arc::clone(&receiver.queue), Arc::clone(&notification)));
        }
        if timeout(limit, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("the end is not told to all receivers of notifications: no time is left");
        }
    }

    /// Returns the account of each receiver that is told of this mount.
    #[must_use]
    pub fn accounts(&self, mount: &str) -> Vec<NotificationTarget> {
        let receivers = self.receivers();
        receivers
            .iter()
            .filter(|receiver| receiver.is_told_of(mount))
            .map(|receiver| receiver.queue.account())
            .collect()
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
        let receivers = self.receivers();
        receivers.iter().map(|receiver| receiver.queue.account()).fold(Totals::default(), |sum, account| Totals {
            delivered: sum.delivered + account.delivered,
            failed: sum.failed + account.failed,
            dropped: sum.dropped + account.dropped,
            retried: sum.retried + account.retried,
        })
    }

    fn receivers(&self) -> RwLockReadGuard<'_, Vec<Receiver>> {
        self.receivers.read().unwrap_or_else(PoisonError::into_inner)
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
