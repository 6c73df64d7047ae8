//! A process in the books of the system: the time it ran, the memory it has, the files it may open.

use std::time::Duration;
use std::{fs, io};

/// Linux counts processor time for programs in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// In the program.
    pub user: f64,
    /// In the kernel, for it.
    pub system: f64,
}

impl Cpu {
    /// Returns the time that a process has taken so far.
    ///
    /// # Errors
    ///
    /// When there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the program's name in parentheses, which may hold anything; utime and stime are the
        // 14th and 15th field: proc_pid_stat(5).
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let mut seconds = || number(fields.next()).map(|ticks| ticks / TICKS_PER_SECOND);
        Ok(Self { user: seconds()?, system: seconds()? })
    }

    /// Returns the time taken since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }

    /// Returns both kinds together.
    #[must_use]
    pub fn total(self) -> f64 {
        self.user + self.system
    }
}

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Anonymous memory, which the program has allocated.
    pub anon_kib: f64,
    /// All resident memory, with pages of the program and of other files, which the system takes away and reads again.
    pub all_kib: f64,
}

impl Memory {
    /// Returns the memory that a process has now.
    ///
    /// # Errors
    ///
    /// When there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self { anon_kib: number_after(&status, "RssAnon:")?, all_kib: number_after(&status, "VmRSS:")? })
    }
}

/// Returns the number of files that this process, or one that it starts, may have open.
///
/// # Errors
///
/// When there is no `/proc`.
pub fn open_files() -> io::Result<usize> {
    Ok(number_after(&fs::read_to_string("/proc/self/limits")?, "Max open files")? as usize)
}

/// Returns the time that the threads of a process have run so far, in nanoseconds by the scheduler's account
/// (proc_pid_schedstat(5)). `counts` is given each thread's name. A thread that has ended is not in it any more.
///
/// # Errors
///
/// When there is no such process, or no `/proc`.
pub fn thread_time(pid: u32, counts: impl Fn(&str) -> bool) -> io::Result<Duration> {
    let mut nanos = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        // A thread may end between two readings.
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        let Ok(stat) = fs::read_to_string(task.join("schedstat")) else { continue };
        if counts(name.trim_end()) {
            nanos += number(stat.split_whitespace().next())?;
        }
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// Returns the number that follows `label` in a file of `/proc`.
fn number_after(text: &str, label: &str) -> io::Result<f64> {
    number(text.lines().find_map(|line| line.strip_prefix(label)).and_then(|rest| rest.split_whitespace().next()))
}

fn number(word: Option<&str>) -> io::Result<f64> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::other("a file of /proc has no number where one was expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let pid = std::process::id();
        assert!(Cpu::of(pid).expect("it runs").total() >= 0.0);
        let memory = Memory::of(pid).expect("it runs");
        assert!(memory.anon_kib > 0.0 && memory.all_kib >= memory.anon_kib, "{memory:?}");
        let all = thread_time(pid, |_| true).expect("it runs");
        assert!(all > Duration::ZERO && thread_time(pid, |_| false).expect("it runs") == Duration::ZERO);
        assert!(open_files().expect("it may open some") > 2);
    }
}
