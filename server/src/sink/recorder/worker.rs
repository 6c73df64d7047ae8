//! The recorder's thread: from its ring to the segment writer, and through failures of the disk.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aircheck_engine::{Block, Consumer, End, Head, RecvError, Timestamp};

use super::directory::RecordingDirectory;
use super::progress::SharedProgress;
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
) -> io::Result<()> {
    let worker = Worker { writer, consumer, head, progress };
    thread::Builder::new().name("recorder".into()).spawn(move || worker.run())?;
    Ok(())
}

struct Worker {
    writer: SegmentWriter<RecordingDirectory>,
    consumer: Consumer<Block>,
    head: Head,
    progress: Arc<SharedProgress>,
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
                let has_ended = self.consumer.tally().end_reason().is_some();
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
                Err(RecvError::Empty) => self.writer.sync_idle(Timestamp::now()),
                Err(RecvError::Ended(end)) => return Some(end),
            }
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.progress.publish(self.writer.progress());
    }
}

impl Drop for Worker {
    /// Marks the recording as finished, also if the thread panics.
    fn drop(&mut self) {
        self.progress.finish(thread::panicking().then(|| "the recorder has crashed".to_owned()));
    }
}
