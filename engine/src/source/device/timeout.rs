//! A time limit for the sound system's calls, which have none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::error::DeviceError;

/// How long a sound server or a device may take to answer. Ready ones take milliseconds; an idle source hands over its
/// first sound after as much as 2 s (measured with PulseAudio's null sink).
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls that may hang at a time. A sound server that is frozen for a night is asked again and again; further calls are not
/// made until one of these returns.
const MAX_HANGING: usize = 8;

/// Calls that have not returned.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Counts a call until it is dropped.
struct Call;

impl Call {
    fn begin() -> Option<Self> {
        let permitted = |calls| (calls < MAX_HANGING).then_some(calls + 1);
        CALLS.fetch_update(Ordering::AcqRel, Ordering::Acquire, permitted).is_ok().then(|| Self)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs `call` on a thread of its own and waits for its result. If `what` does not answer in time, the thread is left
/// behind.
pub(super) fn with_timeout<T: Send + 'static>(
    what: &str,
    call: impl FnOnce() -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, DeviceError> {
    let unresponsive = || DeviceError::Unresponsive { what: what.to_owned() };
    let counted = Call::begin().ok_or_else(unresponsive)?;
    let (done, result) = mpsc::channel();
    thread::Builder::new()
        .name("sound-system".into())
        .spawn(move || {
            keep_alsa_quiet();
            // Fails if the time is over: the result is no longer needed then.
            let _ = done.send(call());
            drop(counted);
        })
        .map_err(|error| DeviceError::Refused { device: what.to_owned(), reason: error.to_string() })?;
    result.recv_timeout(ANSWER_TIMEOUT).map_err(|_| unresponsive())?
}

/// Keeps ALSA's library from writing to stderr in calls of this thread. It writes up to eight lines each time that it is
/// asked for a device that is gone, which is twice a second while a source is lost. The errors of the calls say what counts.
#[cfg(target_os = "linux")]
pub(super) fn keep_alsa_quiet() {
    // Without memory for its buffer, the lines are written.
    let _ = alsa::Output::local_error_handler();
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn keep_alsa_quiet() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound server may be frozen for a night, and is asked again and again.
    #[test]
    fn hanging_calls_are_bounded() {
        let (release, released) = mpsc::channel::<()>();
        let released = std::sync::Arc::new(std::sync::Mutex::new(released));
        let hanging: Vec<_> = (0..MAX_HANGING)
            .map(|_| {
                let released = std::sync::Arc::clone(&released);
                thread::spawn(move || {
                    with_timeout("server", move || {
                        // Ends when the sender is dropped.
                        let _ = released.lock().unwrap().recv();
                        Ok(())
                    })
                })
            })
            .collect();
        while CALLS.load(Ordering::Acquire) < MAX_HANGING {
            thread::yield_now();
        }
        // A call that waited for its turn would wait for ever, because the others end only below.
        let (made, is_made) = mpsc::channel();
        let refused = with_timeout("server", move || {
            let _ = made.send(());
            Ok(())
        });
        assert!(matches!(refused, Err(DeviceError::Unresponsive { .. })), "{refused:?}");
        assert!(is_made.recv().is_err(), "it was made all the same");
        drop(release);
        for call in hanging {
            call.join().unwrap().unwrap();
        }
        while CALLS.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
        with_timeout("server", || Ok(())).unwrap();
    }
}
