//! The process's log on standard error, which never waits for its reader.
//!
//! Lines go through a bounded queue to a thread of their own. A terminal that is held or a pipe without a reader
//! fills the queue. Further lines are dropped and counted, and their count precedes the next line that fits.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the reader of standard error. Lines of a burst that wait for a moment fit; 1000 of 200 bytes
/// are 200 KB.
const MAX_LINES: usize = 1000;
/// Longest wait at the end of the process for the lines that are still in the queue.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two tries to tell the writing thread of the end, while the queue is full.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// Lines of the process's log that were dropped. Static, because the log is.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many lines of the log were dropped since the start, because standard error was not read.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts the log with the filter of `RUST_LOG`, or at level `info`. Lines that wait are written when
/// the guard is dropped, as far as the reader takes them within a second.
#[must_use = "without the guard, the last lines are not written"]
pub fn init() -> LogGuard {
    let (log, guard) = bounded(io::stderr(), MAX_LINES, &DROPPED);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log)
        .with_ansi(io::stderr().is_terminal())
        // A log that cannot be written, because its reader is gone or its disk is full, must not end the sound.
        .log_internal_errors(false)
        .with_target(false)
        .init();
    guard
}

fn bounded(
    mut out: impl Write + Send + 'static,
    max_lines: usize,
    dropped: &'static AtomicU64,
) -> (BoundedLog, LogGuard) {
    let (queue, entries) = sync_channel(max_lines);
    let untold = Arc::new(AtomicU64::new(0));
    let log = BoundedLog { queue: queue.clone(), dropped, untold: Arc::clone(&untold) };
    let (writing, written) = channel();
    let spawned = thread::Builder::new().name("log".into()).spawn(move || {
        for entry in entries {
            let line = match entry {
                Entry::Line(line) => line,
                Entry::End => break,
            };
            // Nothing can be done if it fails.
            let _ = out.write_all(&line);
        }
        let missed = untold.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let _ = out.write_all(notice(missed).as_bytes());
        }
        drop(writing);
    });
    // Without a thread, there is no log, and each line counts as dropped.
    drop(spawned);
    (log, LogGuard { queue, written })
}

fn notice(missed: u64) -> String {
    format!(" WARN {missed} log lines were dropped: standard error was not read\n")
}

/// What the writing thread gets.
enum Entry {
    Line(Vec<u8>),
    End,
}

/// Puts lines into the queue, and before them the number of dropped ones.
#[derive(Debug)]
struct BoundedLog {
    queue: SyncSender<Entry>,
    /// All dropped lines.
    dropped: &'static AtomicU64,
    /// Dropped lines whose number is not in the queue yet.
    untold: Arc<AtomicU64>,
}

impl BoundedLog {
    /// Puts a line into the queue if it fits. Never waits.
    fn put(&self, line: Vec<u8>) -> bool {
        self.queue.try_send(Entry::Line(line)).is_ok()
    }
}

impl Write for &BoundedLog {
    /// Takes a whole line. Never fails and never waits.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let missed = self.untold.swap(0, Ordering::Relaxed);
        if missed > 0 && !self.put(notice(missed).into_bytes()) {
            self.untold.fetch_add(missed, Ordering::Relaxed);
        }
        if !self.put(line.to_vec()) {
            self.untold.fetch_add(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BoundedLog {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// Writes the lines that wait when it is dropped.
#[derive(Debug)]
pub struct LogGuard {
    queue: SyncSender<Entry>,
    /// Disconnected when the writing thread has ended.
    written: Receiver<()>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let deadline = Instant::now() + END_TIMEOUT;
        while self.queue.try_send(Entry::End).is_err() && Instant::now() < deadline {
            thread::sleep(END_INTERVAL);
        }
        let _ = self.written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

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

    /// A log of four lines, its slow reader, and the count of its dropped lines.
    fn slow() -> (BoundedLog, LogGuard, Sender<()>, Receiver<String>, &'static AtomicU64) {
        let ((allow, allowed), (written, lines)) = (channel(), channel());
        let dropped: &AtomicU64 = Box::leak(Box::default());
        let (log, guard) = bounded(SlowReader { allowed, written }, 4, dropped);
        (log, guard, allow, lines, dropped)
    }

    /// Returns how many lines were read, and how many are said to be missed.
    fn counted(lines: impl Iterator<Item = String>) -> (u64, u64) {
        lines.fold((0, 0), |(read, missed), line| {
            let count = line.strip_prefix(" WARN ").and_then(|notice| notice.split(' ').next()?.parse::<u64>().ok());
            count.map_or((read + 1, missed), |count| (read, missed + count))
        })
    }

    #[test]
    fn a_reader_that_stands_still_delays_nothing_and_gets_the_number_of_lines_it_missed() {
        let (log, guard, allow, lines, dropped) = slow();
        for number in 0..100 {
            (&log).write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert!((95..=96).contains(&dropped.load(Ordering::Relaxed)), "{dropped:?}: one may be with the reader");
        // From here on it reads.
        (0..1000).for_each(|_| allow.send(()).unwrap());
        let mut all: Vec<String> = (0..3).map(|_| lines.recv().unwrap()).collect();
        (&log).write_all(b"one more\n").unwrap();
        drop(guard);
        all.extend(lines.try_iter());
        assert_eq!(
            counted(all.iter().cloned()),
            (101 - dropped.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed))
        );
        let place = all.iter().position(|line| line.starts_with(" WARN ")).unwrap();
        assert_eq!(all[place + 1], "one more\n", "the notice is where the lines are missing");
    }

    #[test]
    fn threads_that_write_beside_a_slow_reader_have_each_missed_line_counted_once() {
        let (log, guard, allow, lines, dropped) = slow();
        const LINES: u64 = 2000;
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..LINES).for_each(|_| (&log).write_all(b"line\n").unwrap()));
            }
            // The queue is full, or nearly so, all the time.
            scope.spawn(|| (0..500).for_each(|_| allow.send(()).unwrap()));
        });
        (0..4 * LINES).for_each(|_| allow.send(()).unwrap());
        drop(guard);
        let (read, missed) = counted(lines.try_iter());
        assert_eq!((read + missed, missed), (4 * LINES, dropped.load(Ordering::Relaxed)));
    }

    #[test]
    fn a_reader_that_is_gone_for_good_delays_the_end_by_a_second() {
        let (log, guard, _allow, _lines, _) = slow();
        (0..10).for_each(|_| (&log).write_all(b"line\n").unwrap());
        let begin = Instant::now();
        drop(guard);
        assert!((END_TIMEOUT..10 * END_TIMEOUT).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    }
}
