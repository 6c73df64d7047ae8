//! The recorder's thread: from its ring to the segment writer, and through failures of the disk.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aircheck_api::{EventKind, EventState};
use aircheck_engine::{Block, Consumer, End, Head, Timestamp, TryRecvError};

use super::directory::RecordingDirectory;
use super::progress::SharedProgress;
use super::retention::Retention;
use super::segment_writer::SegmentWriter;

/// After this time without a block, all blocks so far are synced to the disk.
const IDLE_TIMEOUT: Duration = Duration::from_millis(500);
/// Time between two checks for the end of the stream while the disk fails.
const END_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Starts the thread. It ends with the stream; `head` is the stream's, to tell blocks that are missing then.
pub(crate) fn spawn(
    writer: SegmentWriter<RecordingDirectory>,
    consumer: Consumer<Block>,
    head: Head,
    progress: Arc<SharedProgress>,
    retention: Retention,
) -> io::Result<()> {
    let worker = Worker { writer, consumer, head, progress, retention, reported: Reported::default() };
    thread::Builder::new().name("recorder".into()).spawn(move || worker.run())?;
    Ok(())
}

struct Worker {
    writer: SegmentWriter<RecordingDirectory>,
    consumer: Consumer<Block>,
    head: Head,
    progress: Arc<SharedProgress>,
    retention: Retention,
    reported: Reported,
}

/// The state of the recording that was published as events.
#[derive(Debug, Default)]
struct Reported {
    files: u64,
    is_failing: bool,
    is_disk_full: bool,
}

impl Worker {
    fn run(mut self) {
        if let Some(end) = self.record() {
            self.writer.finish(end, Timestamp::now());
        }
        let recorded = self.writer.next_sequence();
        let missing = self.head.next().saturating_sub(recorded);
        if missing > 0 {
            tracing::error!("the recording is not complete: {missing} blocks from {recorded} on are missing");
        }
        self.publish();
    }

    /// Records until the stream ends; `None` if the disk fails then.
    fn record(&mut self) -> Option<End> {
        loop {
            let now = Timestamp::now();
            if let Some(retry_at) = self.writer.retry_at() {
                let has_ended = self.consumer.stats().end_reason().is_some();
                if !has_ended && now < retry_at {
                    thread::sleep(END_POLL_INTERVAL.min(retry_at.since(now)));
                } else if !self.writer.retry(now) && has_ended {
                    return None;
                }
                self.publish();
                continue;
            }
            match self.consumer.recv_timeout(IDLE_TIMEOUT) {
                Ok(delivery) => self.writer.record(delivery, Timestamp::now()),
                Err(TryRecvError::Empty) => self.writer.sync_idle(Timestamp::now()),
                Err(TryRecvError::Ended(end)) => return Some(end),
            }
            self.publish();
        }
    }

    fn publish(&mut self) {
        let progress = self.writer.progress();
        self.progress.publish(progress);
        let Reported { files, is_failing, is_disk_full } = self.reported;
        self.retention.look(progress.files != files, progress.is_disk_full, Timestamp::now());
        self.reported.files = progress.files;
        // An event of the disk says why the recording has stopped.
        let (fails, is_full) = (progress.failing.is_some() && !progress.is_disk_full, progress.is_disk_full);
        let state = |begins| if begins { EventState::Begin } else { EventState::End };
        if let Some(events) = self.progress.events()
            && (fails, is_full) != (is_failing, is_disk_full)
        {
            if fails != is_failing {
                let error = progress.failing.clone().filter(|_| fails);
                events.publish(None, EventKind::Recording { state: state(fails), error });
            }
            if is_full != is_disk_full {
                let free_bytes = progress.free_bytes.unwrap_or(0);
                events.publish(None, EventKind::Disk { state: state(is_full), free_bytes });
            }
            (self.reported.is_failing, self.reported.is_disk_full) = (fails, is_full);
        }
    }
}

impl Drop for Worker {
    /// Marks the recording as finished, also if the thread panics.
    fn drop(&mut self) {
        self.progress.finish(thread::panicking().then(|| "the recorder has crashed".to_owned()));
    }
}
