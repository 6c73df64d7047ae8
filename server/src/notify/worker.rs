//! The task that delivers a target's notifications, one at a time and in their order.

use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::Timestamp;
use aircheck_notify::{Notification, post};
use tokio::sync::watch;
use tokio::time::sleep;

use super::queue::TargetQueue;

/// Pause between two tries of the last notification, for which there is little time.
const LAST_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Delivers what is queued until `closing` is true and the queue is empty. From then on, no pause is kept but a short one.
pub(super) async fn deliver(queue: Arc<TargetQueue>, mut closing: watch::Receiver<bool>) {
    loop {
        let Some(waiting) = queue.pop(Timestamp::now()) else {
            if *closing.borrow() {
                return;
            }
            tokio::select! {
                () = queue.added.notified() => {}
                _ = closing.changed() => {}
            }
            continue;
        };
        let outcome = post(&queue.target, queue.form, &waiting.notification).await;
        let Some(pause) = queue.settle(waiting, &outcome, Timestamp::now()) else { continue };
        if *closing.borrow() {
            sleep(LAST_RETRY_INTERVAL).await;
        } else {
            tokio::select! {
                () = sleep(pause) => {}
                _ = closing.changed() => {}
            }
        }
    }
}

/// Delivers the last notification, without waiting for the queue, until that works or is refused.
pub(super) async fn deliver_last(queue: Arc<TargetQueue>, notification: Arc<Notification>) {
    loop {
        let outcome = post(&queue.target, queue.form, &notification).await;
        if queue.record(&outcome, Timestamp::now()).is_none() {
            return;
        }
        sleep(LAST_RETRY_INTERVAL).await;
    }
}
