//! A check that runs on a thread of its own, because it may hang.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

/// The result of a check, when it is there.
#[derive(Debug)]
pub(super) struct Pending<T>(Receiver<T>);

impl<T: Send + 'static> Pending<T> {
    /// Starts a check.
    pub(super) fn start(check: impl FnOnce() -> T + Send + 'static) -> Self {
        let (done, result) = mpsc::channel();
        // Without a thread, the result never comes, and that is reported as such.
        let _ = thread::Builder::new().name("check".into()).spawn(move || {
            // Fails if the result is no longer waited for.
            let _ = done.send(check());
        });
        Self(result)
    }

    /// Waits for the result; `None` if it is not there at `deadline`, or if the check has crashed. A check that hangs is left
    /// behind, and ends with the process.
    pub(super) fn wait(self, deadline: Instant) -> Option<T> {
        self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_check_that_hangs_is_not_waited_for() {
        let (release, released) = mpsc::channel::<()>();
        let begin = Instant::now();
        let hanging = Pending::start(move || released.recv());
        assert!(hanging.wait(begin + Duration::from_millis(50)).is_none());
        assert!(begin.elapsed() < Duration::from_secs(10));
        drop(release);
        assert_eq!(Pending::start(|| 5).wait(Instant::now() + Duration::from_secs(60)), Some(5));
    }
}
