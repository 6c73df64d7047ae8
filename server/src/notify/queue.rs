//! The notifications that wait for one target, and the account of those that don't any more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aircheck_api::NotificationTarget;
use aircheck_engine::Timestamp;
use aircheck_notify::{Form, Notification, Outcome, Target};
use tokio::sync::Notify;

use crate::mount::throttle::Throttle;

/// Notifications that wait for a target: enough for an hour without it, at the rates at which events are told.
/// Each takes some 500 bytes.
const MAX_QUEUED: usize = 100;
/// A notification that could not be delivered for this long is given up: it would only alarm people about the past.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// Pause after the first failure in a row; each further one doubles it.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, so that a receiver that is back hears of the rest soon.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Longest pause that a receiver can ask for by `Retry-After`: a mistaken one must not silence it for ever.
const MAX_REQUESTED_PAUSE: Duration = Duration::from_secs(900);

/// A target, its queue and its account.
#[derive(Debug)]
pub(super) struct TargetQueue {
    pub(super) target: Target,
    pub(super) form: Form,
    state: Mutex<State>,
    /// Wakes the worker.
    pub(super) added: Notify,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Failures in a row.
    failures: u32,
    /// Whether one has been taken and is not settled.
    is_sending: bool,
    account: NotificationTarget,
    log: Throttle,
}

/// A notification, and when it was queued.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) notification: Arc<Notification>,
    queued_at: Timestamp,
}

impl TargetQueue {
    /// Makes an empty queue.
    pub(super) fn new(target: Target, form: Form) -> Self {
        let account = NotificationTarget {
            host: target.authority().to_owned(),
            form: form.name().to_owned(),
            ..NotificationTarget::default()
        };
        // A line for the first failures, and then one a minute.
        let log = Throttle::new(3, Duration::from_secs(60));
        let state = State { waiting: VecDeque::new(), failures: 0, is_sending: false, account, log };
        Self { target, form, state: Mutex::new(state), added: Notify::new() }
    }

    /// Adds a notification. If the queue is full, the oldest one is dropped and counted.
    pub(super) fn push(&self, notification: Arc<Notification>, now: Timestamp) {
        let mut state = self.state();
        if state.waiting.len() == MAX_QUEUED {
            state.waiting.pop_front();
            state.account.dropped += 1;
        }
        state.waiting.push_back(Waiting { notification, queued_at: now });
        drop(state);
        self.added.notify_one();
    }

    /// Takes the oldest notification. Those that are too old are given up.
    pub(super) fn pop(&self, now: Timestamp) -> Option<Waiting> {
        let mut state = self.state();
        while let Some(waiting) = state.waiting.pop_front() {
            if now.since(waiting.queued_at) < MAX_AGE {
                state.is_sending = true;
                return Some(waiting);
            }
            state.account.dropped += 1;
        }
        None
    }

    /// Counts the outcome of a notification that was taken. Returns the pause until the next try if it is to be tried again;
    /// then it waits at the front.
    pub(super) fn settle(&self, waiting: Waiting, outcome: &Outcome, now: Timestamp) -> Option<Duration> {
        let mut state = self.state();
        state.is_sending = false;
        let pause = state.record(&self.target, outcome, now);
        if pause.is_some() {
            if state.waiting.len() < MAX_QUEUED {
                state.waiting.push_front(waiting);
            } else {
                state.account.dropped += 1;
            }
        }
        pause
    }

    /// Counts the outcome of a notification that was never queued.
    pub(super) fn record(&self, outcome: &Outcome, now: Timestamp) -> Option<Duration> {
        self.state().record(&self.target, outcome, now)
    }

    /// Returns the account.
    pub(super) fn account(&self) -> NotificationTarget {
        let state = self.state();
        let queued = state.waiting.len() as u64 + u64::from(state.is_sending);
        NotificationTarget { queued, ..state.account.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, target: &Target, outcome: &Outcome, now: Timestamp) -> Option<Duration> {
        let (why, pause) = match outcome {
            Outcome::Delivered { .. } => {
                if self.failures > 0 {
                    tracing::info!("{target} takes notifications again");
                }
                self.failures = 0;
                self.account.delivered += 1;
                self.account.delivered_at = Some(now.unix_seconds());
                self.account.retry_at = None;
                return None;
            }
            // Another notification may be taken, so this is none of the failures in a row.
            Outcome::Refused { why } => {
                self.account.failed += 1;
                (why, None)
            }
            Outcome::Retry { why, after } => {
                self.failures = self.failures.saturating_add(1);
                self.account.retried += 1;
                let pause = after.map_or_else(|| pause(self.failures), |after| after.min(MAX_REQUESTED_PAUSE));
                (why, Some(pause.max(MIN_PAUSE)))
            }
        };
        if let Some(withheld) = self.log.pass(now) {
            let further = if withheld > 0 { format!(" ({withheld} more failures)") } else { String::new() };
            tracing::warn!("cannot notify {target}: {why}{further}");
        }
        self.account.last_error = Some(why.clone());
        self.account.last_error_at = Some(now.unix_seconds());
        self.account.retry_at = pause.map(|pause| (now + pause).unix_seconds());
        pause
    }
}

/// Returns the pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.checked_pow(failures.saturating_sub(1)).and_then(|times| MIN_PAUSE.checked_mul(times));
    doubled.map_or(MAX_PAUSE, |pause| pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use aircheck_notify::{Details, EventName, NotificationState};

    use super::*;

    fn queue() -> TargetQueue {
        TargetQueue::new("http://h/secret".parse().unwrap(), Form::Json)
    }

    fn notification(number: usize) -> Arc<Notification> {
        Arc::new(Notification {
            event: EventName::Test,
            state: NotificationState::Begin,
            mount: aircheck_api::MAIN_MOUNT.into(),
            server: "studio".into(),
            at: 0.0,
            text: number.to_string(),
            details: Details::new(),
        })
    }

    fn retry(after: Option<u64>) -> Outcome {
        Outcome::Retry { why: "HTTP 503".into(), after: after.map(Duration::from_secs) }
    }

    #[test]
    fn a_full_queue_drops_its_oldest() {
        let (queue, now) = (queue(), Timestamp::now());
        (0..MAX_QUEUED + 3).for_each(|number| queue.push(notification(number), now));
        assert_eq!((queue.account().queued, queue.account().dropped), (MAX_QUEUED as u64, 3));
        let oldest = queue.pop(now).unwrap();
        assert_eq!(oldest.notification.text, "3");
        assert_eq!(queue.account().queued, MAX_QUEUED as u64, "it counts as queued while it is sent");
        queue.push(notification(1000), now);
        queue.settle(oldest, &retry(None), now);
        assert_eq!((queue.account().queued, queue.account().dropped), (MAX_QUEUED as u64, 4));
        assert_eq!(queue.pop(now).unwrap().notification.text, "4", "the one that was sent was the oldest");
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_again_after_a_success() {
        let (queue, now) = (queue(), Timestamp::now());
        let mut pauses = Vec::new();
        queue.push(notification(0), now);
        for _ in 0..40 {
            let waiting = queue.pop(now).unwrap();
            pauses.push(queue.settle(waiting, &retry(None), now).unwrap().as_secs());
        }
        assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(pauses[39], 300);
        let waiting = queue.pop(now).unwrap();
        assert_eq!(queue.settle(waiting, &Outcome::Delivered { status: 200 }, now), None);
        assert_eq!(queue.record(&retry(None), now), Some(MIN_PAUSE));
        let account = queue.account();
        assert_eq!((account.delivered, account.retried, account.queued), (1, 41, 0));
        assert_eq!(account.last_error.as_deref(), Some("HTTP 503"));
    }

    #[test]
    fn a_receiver_s_wish_is_heeded_within_bounds() {
        let (queue, now) = (queue(), Timestamp::now());
        for (asked, granted) in [(0, MIN_PAUSE), (7, Duration::from_secs(7)), (1_000_000, MAX_REQUESTED_PAUSE)] {
            assert_eq!(queue.record(&retry(Some(asked)), now), Some(granted));
        }
    }

    #[test]
    fn what_is_refused_or_too_old_is_given_up() {
        let (queue, now) = (queue(), Timestamp::now());
        queue.push(notification(0), now);
        queue.push(notification(1), now + Duration::from_secs(1));
        let waiting = queue.pop(now).unwrap();
        assert_eq!(queue.settle(waiting, &Outcome::Refused { why: "HTTP 404".into() }, now), None);
        assert!(queue.pop(now + MAX_AGE + Duration::from_secs(1)).is_none());
        let account = queue.account();
        assert_eq!((account.failed, account.dropped, account.queued), (1, 1, 0));
    }
}
