//! A time limit for the sound system's calls, which have none.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::error::DeviceError;

/// How long a sound server or a device may take to answer. Ready ones take milliseconds; an idle source hands over its
/// first sound after as much as 2 s (measured with PulseAudio's null sink).
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `call` on a thread of its own and waits for its result. If `what` does not answer in time, the thread is left
/// behind.
pub(super) fn with_timeout<T: Send + 'static>(
    what: &str,
    call: impl FnOnce() -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, DeviceError> {
    let (done, result) = mpsc::channel();
    thread::Builder::new()
        .name("sound-system".into())
        .spawn(move || {
            // Fails if the time is over: the result is no longer needed then.
            let _ = done.send(call());
        })
        .map_err(|error| DeviceError::Refused { device: what.to_owned(), reason: error.to_string() })?;
    let unresponsive = |_| DeviceError::Unresponsive { what: what.to_owned() };
    result.recv_timeout(ANSWER_TIMEOUT).map_err(unresponsive)?
}
