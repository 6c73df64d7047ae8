//! The process's log on standard error, which never waits for its reader.
//!
//! Lines go through a bounded queue to a thread of their own. A terminal that is held or a pipe without a reader
//! fills the queue. Further lines are dropped and counted, and their count precedes the next line that fits.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the reader of standard error. Lines of a burst that wait for a moment fit; 1000 of 200 bytes
/// are 200 KB.
const MAX_LINES: usize = 1000;

/// Starts the log with the filter of `RUST_LOG`, or at level `info`. Lines that wait are written when
/// the guard is dropped, as far as the reader takes them within a second.
pub fn init() -> WorkerGuard {
    let (writer, guard) = bounded(io::stderr(), MAX_LINES);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal())
        // A log that cannot be written, because its reader is gone or its disk is full, must not end the sound.
        .log_internal_errors(false)
        .with_target(false)
        .init();
    guard
}

fn bounded(out: impl Write + Send + 'static, max_lines: usize) -> (BoundedLog, WorkerGuard) {
    let (queue, guard) = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(max_lines).finish(out);
    let dropped = queue.error_counter();
    (BoundedLog { queue, dropped, reported: Arc::default() }, guard)
}

/// Puts lines into the queue, and before them the number of dropped ones.
#[derive(Clone, Debug)]
struct BoundedLog {
    queue: NonBlocking,
    dropped: ErrorCounter,
    /// Dropped lines whose count is in the queue or was written.
    reported: Arc<AtomicUsize>,
}

impl Write for BoundedLog {
    /// Never fails and never waits.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (dropped, reported) = (self.dropped.dropped_lines(), self.reported.load(Ordering::Relaxed));
        if dropped > reported {
            let new = dropped - reported;
            let notice = format!(" WARN {new} log lines were dropped: standard error was not read\n");
            self.queue.write_all(notice.as_bytes())?;
            if self.dropped.dropped_lines() == dropped {
                self.reported.store(dropped, Ordering::Relaxed);
            } else {
                // The queue is still full. The notice itself is no line of the log.
                self.reported.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queue.flush()
    }
}

impl<'a> MakeWriter<'a> for BoundedLog {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
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
        let (mut log, guard) = bounded(SlowReader { allowed, written }, 4);
        for number in 0..100 {
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        // From here on it reads, and each further line follows the count of the lines dropped before it.
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
        assert_eq!(read + missed, sent);
        assert!(missed > 90, "{missed} of {sent}");
        drop(guard);
    }
}
