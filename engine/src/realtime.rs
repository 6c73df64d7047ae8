//! Real-time priority of the capturing thread, and memory that stays in RAM, as far as the system permits them.
//!
//! Neither is needed: without them, a busy machine may delay the capture, and what is lost by that is counted. The outcome
//! is kept for the status of the service, with the reason where the system refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Priority of the capturing thread: in the middle of Linux's 1 to 99, above the interrupt threads of nothing, and equal to
/// what `LimitRTPRIO=` of the service's unit permits.
#[cfg(target_os = "linux")]
const PRIORITY: u8 = 50;

/// The outcome of the requests for real time, shared with every thread that watches the capture.
#[derive(Debug, Default)]
pub struct Realtime {
    is_wanted: AtomicBool,
    outcome: Mutex<RealtimeOutcome>,
}

/// What the system has granted to a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RealtimeOutcome {
    /// The real-time priority of the capturing thread; `None` if it has none.
    pub priority: Option<u8>,
    /// The reason why it has none; `None` if it has one, or has not requested one.
    pub priority_refusal: Option<String>,
    /// Bytes of the capture ring that stay in RAM.
    pub locked_bytes: usize,
    /// The reason why they don't; `None` if they do, or if that was not requested.
    pub lock_refusal: Option<String>,
}

impl Realtime {
    /// Returns what the system has granted.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// // It was not requested.
    /// assert_eq!(stream.capture().realtime().outcome().priority, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn outcome(&self) -> RealtimeOutcome {
        self.state().clone()
    }

    /// Has the capture ask for real time when it starts.
    pub(crate) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
    }

    /// Gives the calling thread a real-time priority if that is wanted and permitted. Threads that it starts inherit it.
    pub(crate) fn promote_current_thread(&self) {
        self.promote(current_thread());
    }

    /// Does the same for another thread of this process, which must not have ended. So a callback needs no system call.
    pub(crate) fn promote(&self, thread: ThreadId) {
        if self.is_wanted.load(Ordering::Acquire) {
            let (priority, refusal) = match promote(thread) {
                Ok(priority) => (Some(priority), None),
                Err(refusal) => (None, Some(refusal)),
            };
            let mut state = self.state();
            (state.priority, state.priority_refusal) = (priority, refusal);
        }
    }

    /// Keeps `memory` in RAM if that is wanted and permitted.
    pub(crate) fn lock<T>(&self, memory: &mut [T]) {
        if self.is_wanted.load(Ordering::Acquire) && !memory.is_empty() {
            let locked = lock(memory);
            let mut state = self.state();
            match locked {
                Ok(()) => state.locked_bytes += size_of_val(memory),
                Err(refusal) => state.lock_refusal = Some(refusal),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, RealtimeOutcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's handle of a thread.
#[cfg(target_os = "linux")]
pub(crate) type ThreadId = thread_priority::ThreadId;
#[cfg(not(target_os = "linux"))]
pub(crate) type ThreadId = usize;

/// Returns the handle of the calling thread, without a system call. It is never zero.
#[cfg(target_os = "linux")]
pub(crate) fn current_thread() -> ThreadId {
    thread_priority::thread_native_id()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn current_thread() -> ThreadId {
    1
}

#[cfg(target_os = "linux")]
fn promote(thread: ThreadId) -> Result<u8, String> {
    use rustix::process::{Resource, getrlimit};
    use thread_priority::{
        RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
        set_thread_priority_and_policy,
    };

    // Round robin: if a dead device's thread spins, threads of equal priority still get their turn.
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    let set = |priority| set_thread_priority_and_policy(thread, ThreadPriority::Crossplatform(priority), policy);
    let try_at = |priority: u8| {
        let value = ThreadPriorityValue::try_from(priority).map_err(|error| error.to_string())?;
        set(value).map(|()| priority).map_err(|error| error.to_string())
    };
    // Privileged processes get it whatever their limit is, others up to their limit.
    try_at(PRIORITY).or_else(|error| {
        let limit = getrlimit(Resource::Rtprio).current.unwrap_or(PRIORITY.into()).min(PRIORITY.into()) as u8;
        if limit == 0 {
            return Err(format!(
                "the system permits none: {error} (LimitRTPRIO={PRIORITY} of the unit, or `ulimit -r`)"
            ));
        }
        try_at(limit).map_err(|error| format!("the system refuses it: {error} (see its control groups)"))
    })
}

#[cfg(not(target_os = "linux"))]
fn promote(_: ThreadId) -> Result<u8, String> {
    Err("only on Linux".to_owned())
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "mlock takes a pointer; the memory is a slice of ours")]
fn lock<T>(memory: &mut [T]) -> Result<(), String> {
    // SAFETY: the range is that of a slice. Locking changes no byte, and ends with the mapping.
    let locked = unsafe { rustix::mm::mlock(memory.as_mut_ptr().cast(), size_of_val(memory)) };
    locked.map_err(|error| {
        let kib = size_of_val(memory).div_ceil(1024);
        format!("the system refuses {kib} KiB: {error} (LimitMEMLOCK= of the unit, or `ulimit -l`)")
    })
}

#[cfg(not(target_os = "linux"))]
fn lock<T>(_: &mut [T]) -> Result<(), String> {
    Err("only on Linux".to_owned())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::thread;

    use super::*;

    /// Returns the real-time priority and the scheduling policy of the calling thread: 2 is SCHED_RR.
    fn policy() -> [u8; 2] {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The fields follow the name, which ends with the last parenthesis; these are the 40th and the 41st of all.
        let mut fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(37);
        [fields.next().unwrap().parse().unwrap(), fields.next().unwrap().parse().unwrap()]
    }

    #[test]
    fn a_thread_has_real_time_or_a_reason_why_not() {
        thread::spawn(|| {
            // That of this program, which may run at any.
            let before = policy();
            let realtime = Realtime::default();
            realtime.promote_current_thread();
            assert_eq!((realtime.outcome(), policy()), (RealtimeOutcome::default(), before), "not wanted");
            realtime.want();
            realtime.promote_current_thread();
            let outcome = realtime.outcome();
            assert_eq!(outcome.priority.is_some(), outcome.priority_refusal.is_none(), "{outcome:?}");
            let inherited = thread::spawn(policy).join().unwrap();
            assert_eq!(inherited, outcome.priority.map_or(before, |priority| [priority, 2]), "{outcome:?}");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn memory_is_locked_or_there_is_a_reason_why_not() {
        let (realtime, mut memory) = (Realtime::default(), vec![0_u32; 10_000]);
        realtime.want();
        realtime.lock(&mut memory);
        let outcome = realtime.outcome();
        assert_eq!(outcome.locked_bytes == 40_000, outcome.lock_refusal.is_none(), "{outcome:?}");
    }
}
