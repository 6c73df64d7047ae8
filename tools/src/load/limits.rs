//! The number of connections that this process may have.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors for everything else: the API, a log, the runtime.
const RESERVE: u64 = 16;
/// How long a listener that leaves may stay beside the one that replaces it.
const DRAIN_SECONDS: f64 = 2.0;

/// Raises the limit for so many connections, of which `churn` are replaced in a second. Returns the old and the new
/// limit where the old one was too low.
///
/// # Errors
///
/// Says how many connections are possible.
pub(crate) fn make_room(listeners: u64, churn: f64) -> Result<Option<[u64; 2]>, String> {
    let mut limit = getrlimit(Resource::Nofile);
    let old = limit.current;
    // The operator sets the hard limit; the soft one only protects programs that use select().
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let open = std::fs::read_dir("/proc/self/fd").map_or(RESERVE, |entries| entries.count() as u64);
    let beside = open + RESERVE + (churn * DRAIN_SECONDS).ceil() as u64;
    match getrlimit(Resource::Nofile).current {
        Some(most) if listeners.saturating_add(beside) > most => {
            let fits = most.saturating_sub(beside);
            Err(format!(
                "--listeners {listeners} are too many: this process may open {most} files, room for {fits} listeners \
                 (write --listeners {fits}, raise the limit by ulimit -Hn, or run several of this program)"
            ))
        }
        new => Ok(old.filter(|&old| listeners.saturating_add(beside) > old).zip(new).map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_listeners_are_refused_with_the_number_that_fits() {
        make_room(1, 0.0).unwrap();
        if getrlimit(Resource::Nofile).maximum.is_some() {
            let why = make_room(u64::MAX, 0.0).unwrap_err();
            assert!(why.contains("write --listeners "), "{why}");
        }
    }
}
