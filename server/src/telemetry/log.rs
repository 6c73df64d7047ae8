//! The process's log on standard error, which never waits for its reader.
//!
//! Lines go through a bounded queue to a thread of their own. A terminal that is held or a pipe without a reader
//! fills the queue. Further lines are dropped and counted, and their count precedes the next line that fits.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait for the reader of standard error. Lines of a burst that wait for a moment fit; 1000 of 200 bytes
/// are 200 KB.
const MAX_LINES: usize = 1000;

/// Lines of the process's log that were dropped. Static, because the log is.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many lines of the log were dropped since the start, because standard error was not read.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts the log with the filter of `RUST_LOG`, or at level `info`. Lines that wait are written when
/// the guard is dropped, as far as the reader takes them within a second.
pub fn init() -> WorkerGuard {
    let (log, guard) = BoundedLog::new(io::stderr(), MAX_LINES, &DROPPED);
    // What NATS' client tells of a connection is told by those who have it.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Held for as long as it takes to put a line into the queue.
        .with_writer(Mutex::new(log))
        .with_ansi(io::stderr().is_terminal())
        // A log that cannot be written, because its reader is gone or its disk is full, must not end the sound.
        .log_internal_errors(false)
        .with_target(false)
        .init();
    guard
}

/// Puts lines into the queue, and before them the number of those that are missing there.
#[derive(Debug)]
struct BoundedLog {
    queue: NonBlocking,
    /// Whatever did not fit into the queue.
    refused: ErrorCounter,
    /// All dropped lines.
    dropped: &'static AtomicU64,
    /// Dropped lines whose number is not in the queue yet.
    untold: u64,
}

impl BoundedLog {
    fn new(out: impl Write + Send + 'static, max_lines: usize, dropped: &'static AtomicU64) -> (Self, WorkerGuard) {
        let (queue, guard) = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(max_lines).finish(out);
        (Self { refused: queue.error_counter(), queue, dropped, untold: 0 }, guard)
    }

    /// Puts a line into the queue, and returns whether it fits. Never waits.
    fn put(&mut self, line: &[u8]) -> io::Result<bool> {
        let refused = self.refused.dropped_lines();
        self.queue.write_all(line)?;
        Ok(self.refused.dropped_lines() == refused)
    }
}

impl Write for BoundedLog {
    /// Takes a whole line. Never fails and never waits.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.untold > 0 {
            let notice = format!(" WARN {} log lines were dropped: standard error was not read\n", self.untold);
            if self.put(notice.as_bytes())? {
                self.untold = 0;
            }
        }
        if !self.put(line)? {
            self.untold += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queue.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// A reader that takes a line for each permit, and passes it on.
    struct SlowReader {
        allowed: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for SlowReader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(io::Error::other)?;
            self.written.send(String::from_utf8_lossy(line).into_owned()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_delays_nothing_and_gets_the_number_of_lines_it_missed() {
        let ((allow, allowed), (written, lines)) = (channel(), channel());
        let dropped: &AtomicU64 = Box::leak(Box::default());
        let (mut log, guard) = BoundedLog::new(SlowReader { allowed, written }, 4, dropped);
        for number in 0..100 {
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let dropped_at_first = dropped.load(Ordering::Relaxed);
        assert!(dropped_at_first > 90, "{dropped_at_first} of 100");
        // From here on it reads, and the number of dropped lines comes where they are missing.
        (0..1000).for_each(|_| allow.send(()).unwrap());
        let (mut read, mut missed, mut sent) = (0, 0, 100);
        while missed == 0 || read + missed < sent {
            log.write_all(b"one more\n").unwrap();
            sent += 1;
            while let Ok(line) = lines.recv_timeout(Duration::from_millis(100)) {
                let count =
                    line.strip_prefix(" WARN ").and_then(|notice| notice.split(' ').next()?.parse::<u64>().ok());
                count.map_or_else(|| read += 1, |count| missed += count);
            }
        }
        assert_eq!((read + missed, missed), (sent, dropped.load(Ordering::Relaxed)));
        drop(guard);
    }
}
