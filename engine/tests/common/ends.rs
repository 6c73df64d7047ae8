//! A guard for tests of things that might hang.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Only to end a test that hangs; no test passes or fails by how long it takes.
const HANG_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs `work` on a thread of its own and fails when it does not come to an end.
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
