//! A time limit for tests of code that might hang.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Ends a test that hangs. No passing test comes near it.
const HANG_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs `work` on a thread of its own, and fails if it does not end.
pub(crate) fn ends<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, ended) = mpsc::channel();
    let worker = thread::spawn(move || {
        let result = work();
        let _ = done.send(());
        result
    });
    assert_ne!(ended.recv_timeout(HANG_TIMEOUT), Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
