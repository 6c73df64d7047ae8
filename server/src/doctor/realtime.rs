//! Real-time priority of the capturing thread, and memory that stays in RAM: what the system grants, and by which limits.

use std::thread;
use std::time::{Duration, Instant};

use aircheck_engine::source::Tone;
use aircheck_engine::{RealtimeOutcome, Stream, StreamOptions};
use rustix::process::{Resource, getrlimit};

use super::finding::{Area, Finding, Level};

/// Longest wait until the capturing thread has asked, which it does first of all.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(2);
/// Where limits of users are set, for those who log in.
const LIMITS_FILE: &str = "/etc/security/limits.d/aircheck.conf";

/// Captures a tone for a moment, as the service captures its source, and tells what was granted.
pub(super) fn check() -> Vec<Finding> {
    let options = StreamOptions { history: Duration::ZERO, realtime: true, ..StreamOptions::default() };
    let stream = match Stream::start(Box::new(Tone::new(440.0)), options) {
        Ok(stream) => stream,
        Err(error) => return vec![Finding::of_error(Area::Realtime, Level::Fault, &error.to_string())],
    };
    let begin = Instant::now();
    let has_outcome = |outcome: &RealtimeOutcome| outcome.priority.is_some() || outcome.priority_refusal.is_some();
    while !has_outcome(&stream.capture().realtime().outcome()) && begin.elapsed() < OUTCOME_TIMEOUT {
        thread::sleep(Duration::from_millis(2));
    }
    let outcome = stream.capture().realtime().outcome();
    stream.stop();
    vec![
        priority(&outcome, getrlimit(Resource::Rtprio).current),
        memory(&outcome, getrlimit(Resource::Memlock).current),
    ]
}

/// `limit` is that of this process; `None` is no limit.
fn priority(outcome: &RealtimeOutcome, limit: Option<u64>) -> Finding {
    let limit_text = limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    match (&outcome.priority, &outcome.priority_refusal) {
        (Some(priority), _) => Finding::ok(
            Area::Realtime,
            format!("the capturing thread gets priority {priority} (RLIMIT_RTPRIO is {limit_text})"),
        ),
        (None, Some(refusal)) if limit != Some(0) => {
            Finding::of_error(Area::Realtime, Level::Note, &format!("no real-time priority: {refusal}"))
        }
        (None, _) => Finding::note(
            Area::Realtime,
            format!("no real-time priority: RLIMIT_RTPRIO is {limit_text}, so a busy machine may delay the sound"),
            format!(
                "the systemd unit has LimitRTPRIO=50; for programs that you start yourself, join the group audio, put this \
                 line into {LIMITS_FILE} and log in again:"
            ),
        )
        .with_command("@audio - rtprio 50"),
    }
}

/// `limit` is that of this process, in bytes; `None` is no limit.
fn memory(outcome: &RealtimeOutcome, limit: Option<u64>) -> Finding {
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    if outcome.lock_refusal.is_none() && outcome.locked_bytes > 0 {
        return Finding::ok(Area::Realtime, format!("its memory stays in RAM (RLIMIT_MEMLOCK is {limit})"));
    }
    Finding::note(
        Area::Realtime,
        format!("its memory may be swapped out: RLIMIT_MEMLOCK is {limit}"),
        format!("the systemd unit has LimitMEMLOCK=64M; for programs that you start yourself, in {LIMITS_FILE}:"),
    )
    .with_command("@audio - memlock 65536")
}
