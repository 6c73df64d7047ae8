//! The CPU time of processes, from Linux's /proc/PID/stat.

use std::fs;

use rustix::param::clock_ticks_per_second;

/// Returns the CPU seconds of a process so far, of all its threads together, if they can be read. `self` is this
/// process.
pub(crate) fn seconds(process: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(ticks(&stat)? as f64 / clock_ticks_per_second() as f64)
}

/// Reads user and system time, the 14th and 15th field. The second field, a name in brackets, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_is_no_obstacle() {
        let stat = "7 (a) R 1 2) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(300));
        assert!(seconds("self").is_some());
        assert_eq!(seconds("0"), None);
    }
}
