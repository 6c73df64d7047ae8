//! A document that is made at most once in an interval, and shared by all that read it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aircheck_engine::Timestamp;
use tokio::time::sleep;

/// The last version of a document. It is made only when it is read.
pub struct Shared<T> {
    interval: Duration,
    last: Mutex<Option<Version<T>>>,
}

/// A document, and when it was begun to be made.
struct Version<T> {
    made_at: Instant,
    document: Arc<T>,
}

impl<T> Shared<T> {
    /// Shares a document that is made at most once in `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: Mutex::new(None) }
    }

    /// Returns a version that was made after the call. If the last one was made a moment ago, this waits for the next one,
    /// which `make` makes unless another caller does.
    pub async fn fresh(&self, make: impl Fn(Timestamp) -> T) -> Arc<T> {
        let called_at = Instant::now();
        loop {
            let wait = {
                let mut last = self.last();
                let now = Instant::now();
                match &*last {
                    Some(Version { made_at, document }) if *made_at > called_at => return Arc::clone(document),
                    Some(Version { made_at, .. }) if now.duration_since(*made_at) < self.interval => {
                        self.interval - now.duration_since(*made_at)
                    }
                    _ => return Version::replace(&mut last, now, &make),
                }
            };
            sleep(wait).await;
        }
    }

    /// Returns a version that is younger than the interval, without waiting.
    pub fn recent(&self, make: impl Fn(Timestamp) -> T) -> Arc<T> {
        let mut last = self.last();
        let now = Instant::now();
        match &*last {
            Some(Version { made_at, document }) if now.duration_since(*made_at) < self.interval => Arc::clone(document),
            _ => Version::replace(&mut last, now, &make),
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Version<T>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Version<T> {
    fn replace(last: &mut Option<Self>, now: Instant, make: &impl Fn(Timestamp) -> T) -> Arc<T> {
        let document = Arc::new(make(Timestamp::now()));
        *last = Some(Self { made_at: now, document: Arc::clone(&document) });
        document
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("interval", &self.interval).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Makes the numbers 1, 2, 3 and so on.
    fn counter() -> impl Fn(Timestamp) -> u32 {
        let made = AtomicU32::new(0);
        move |_| made.fetch_add(1, Ordering::Relaxed) + 1
    }

    #[test]
    fn a_recent_version_is_used_again() {
        let (shared, make) = (Shared::new(Duration::from_secs(3600)), counter());
        assert_eq!((*shared.recent(&make), *shared.recent(&make)), (1, 1));
        let (shared, make) = (Shared::new(Duration::ZERO), counter());
        assert_eq!((*shared.recent(&make), *shared.recent(&make)), (1, 2));
    }

    #[tokio::test]
    async fn a_fresh_version_is_never_older_than_the_call_and_all_that_wait_share_it() {
        let (shared, make) = (Shared::new(Duration::from_millis(50)), counter());
        let begun = std::time::Instant::now();
        assert_eq!(*shared.fresh(&make).await, 1, "at once");
        let (one, two, three) = tokio::join!(shared.fresh(&make), shared.fresh(&make), shared.fresh(&make));
        assert_eq!((*one, *two, *three), (2, 2, 2));
        assert_eq!(*shared.fresh(&make).await, 3);
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    }
}
