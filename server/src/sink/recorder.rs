//! A recording that can be trusted: WAV files in which every sample is where it belongs.
//!
//! The recorder is a consumer like any other, on a thread of its own. A block that it did not get becomes exactly as
//! much silence, and a line in the file beside the WAV, the sidecar, says where and why; so a sample's position in a
//! file, added to the file's own, is its position in the stream. What is lost, and what waits, is counted by the
//! consumer's [`Tally`]; nothing is counted anew here.
//!
//! A `reel` decides what goes into which `take`, a WAV with its `sidecar`, on a `shelf`, the directory. While the disk
//! fails, nothing is taken from the ring: it holds the sound for as long as it can, so that a new file goes on where
//! the last one ends, and after that counts what it has to refuse.
//!
//! What is absent: no sound waits for the recorder, and no file that exists is ever opened again, or written over.

mod complaint;
mod length;
mod name;
mod parts;
mod segment;
mod segment_writer;
mod sidecar;
mod storage;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod faults;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use aircheck_api::RecordingStatus;
use aircheck_engine::{
    Block, Consumer, End, Format, Head, Overflow, RecvError, Start, Stream, SubscribeError, SubscribeOptions, Tally,
    Timestamp,
};

use crate::config::RecordSplit;
use length::{block_bytes, take_blocks};
use segment_writer::Reel;
use storage::Directory;

/// The recorder's ring: what a disk may stand still, when it is busy with something else or wakes from its sleep, or
/// fail, before sound is lost. Of 48 kHz stereo that is 3.8 MB. The engine adds the history, because the recorder may
/// start there.
const BUFFER: Duration = Duration::from_secs(10);
/// After so long without a block, what there is is written.
const IDLE: Duration = Duration::from_millis(500);
/// While the disk fails, the end of the stream is looked for so often.
const FAILING_LOOK: Duration = Duration::from_millis(50);

/// Why nothing can be recorded to a directory.
#[derive(Debug, thiserror::Error)]
#[error("can't record to {}: {error}; choose another directory with --record", .path.display())]
pub struct RecordError {
    path: PathBuf,
    error: io::Error,
}

/// A directory to record to.
#[derive(Clone, Debug)]
pub struct Archive {
    directory: Directory,
    path: PathBuf,
}

impl Archive {
    /// Makes the directory at `path` if it is missing, for this user alone, and tries whether a file can be made in it.
    ///
    /// # Errors
    ///
    /// When one can't.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let directory = Directory::open(path).map_err(|error| RecordError { path: path.to_path_buf(), error })?;
        Ok(Self { directory, path: path.to_path_buf() })
    }
}

/// A recording that runs.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    format: Format,
    take_blocks: u64,
    tally: Arc<Tally>,
    shared: Arc<Shared>,
}

/// The part of the status that the recorder's thread knows.
#[derive(Clone, Debug, Default)]
struct Progress {
    file: Option<PathBuf>,
    files: u64,
    blocks: u64,
    bytes: u64,
    failing: Option<String>,
    /// Nothing more will be written.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    over: Condvar,
}

impl Recording {
    /// Records the blocks of `stream` from its first one on, until they end. `None` if they have ended already, as a
    /// very short file has; that is logged.
    ///
    /// # Errors
    ///
    /// When the system gives no more threads.
    pub fn start(archive: &Archive, split: RecordSplit, stream: &Stream) -> io::Result<Option<Self>> {
        let format = stream.format();
        let subscribed = stream.subscribe(SubscribeOptions {
            overflow: Overflow::DropNewest,
            buffer: format.blocks_in(BUFFER) as usize,
            start: Start::From(0),
        });
        let consumer = match subscribed {
            Ok(consumer) => consumer,
            Err(error @ (SubscribeError::Ended | SubscribeError::BlockOnLive)) => {
                tracing::error!("nothing is recorded: {error}");
                return Ok(None);
            }
        };
        let take_blocks = take_blocks(split, format);
        let reel = Reel::new(archive.directory.clone(), format, stream.description().to_owned(), take_blocks);
        let recording = Self {
            path: archive.path.clone(),
            format,
            take_blocks,
            tally: Arc::clone(consumer.tally()),
            shared: Arc::default(),
        };
        let recorder = Recorder { reel, consumer, head: stream.head().clone(), shared: Arc::clone(&recording.shared) };
        thread::Builder::new().name("recorder".into()).spawn(move || recorder.run())?;
        Ok(Some(recording))
    }

    /// The account of the recorder as a consumer.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What it has come to.
    #[must_use]
    pub fn status(&self) -> RecordingStatus {
        // In this order: what has been written was taken before.
        let Progress { file, files, blocks, bytes, failing, is_over } = self.shared.progress().clone();
        let account = self.tally.snapshot();
        let waiting = (account.delivered + account.queued).saturating_sub(blocks);
        let (abandoned, queued) = if is_over { (waiting, 0) } else { (0, waiting) };
        RecordingStatus {
            directory: self.path.clone(),
            file,
            files,
            blocks,
            lost: account.lost.total() + abandoned,
            queued,
            bytes,
            failing,
        }
    }

    /// Waits until everything is written after the end of the stream; false if it took longer than `patience`.
    #[must_use]
    pub fn finish(&self, patience: Duration) -> bool {
        let going = self.shared.progress();
        let waited = self.shared.over.wait_timeout_while(going, patience, |progress| !progress.is_over);
        waited.map_or_else(|error| error.into_inner().0.is_over, |(progress, _)| progress.is_over)
    }
}

impl fmt::Display for Recording {
    /// Where to, and how long a file is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.format.span(self.format.position(self.take_blocks));
        // Nobody plans by less than a second.
        let span = if span > Duration::from_secs(60) { Duration::from_secs(span.as_secs()) } else { span };
        let megabytes = (self.take_blocks * block_bytes(self.format)) as f64 / 1e6;
        let span = humantime::format_duration(span);
        write!(f, "{}, a new file every {span} ({megabytes:.1} MB)", self.path.display())
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The recorder's thread.
struct Recorder {
    reel: Reel<Directory>,
    consumer: Consumer<Block>,
    head: Head,
    shared: Arc<Shared>,
}

impl Recorder {
    fn run(mut self) {
        if let Some(end) = self.record() {
            self.reel.finish(end, Timestamp::now());
        }
        let recorded = self.reel.next();
        let abandoned = self.head.next().saturating_sub(recorded);
        if abandoned > 0 {
            tracing::error!("the recording is not complete: {abandoned} blocks from {recorded} on are missing");
        }
        self.publish();
    }

    /// Records until the end; `None` if the disk fails then.
    fn record(&mut self) -> Option<End> {
        loop {
            let now = Timestamp::now();
            if let Some(retry_at) = self.reel.retry_at() {
                let is_over = self.consumer.tally().end_reason().is_some();
                if !is_over && now < retry_at {
                    thread::sleep(FAILING_LOOK.min(retry_at.since(now)));
                } else if !self.reel.retry(now) && is_over {
                    return None;
                }
                self.publish();
                continue;
            }
            match self.consumer.recv_timeout(IDLE) {
                Ok(delivery) => self.reel.record(delivery, Timestamp::now()),
                Err(RecvError::Empty) => self.reel.rest(Timestamp::now()),
                Err(RecvError::Ended(end)) => return Some(end),
            }
            self.publish();
        }
    }

    fn publish(&mut self) {
        let progress = self.reel.progress().clone();
        *self.shared.progress() = progress;
    }
}

impl Drop for Recorder {
    /// Also if the thread panics: nobody waits for it then, and the status says that it is gone.
    fn drop(&mut self) {
        let mut progress = self.shared.progress();
        progress.is_over = true;
        if thread::panicking() {
            progress.failing = Some("the recorder has crashed".to_owned());
        }
        self.shared.over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use aircheck_engine::StreamOptions;
    use aircheck_engine::source::Tone;

    use super::*;

    #[test]
    fn it_begins_with_the_stream_and_not_when_it_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default()).unwrap();
        while stream.head().next() < 20 {
            thread::sleep(stream.format().block_span());
        }
        let archive = Archive::open(folder.path()).unwrap();
        let recording = Recording::start(&archive, "1h".parse().unwrap(), &stream).unwrap().unwrap();
        assert!(!recording.finish(Duration::ZERO), "it goes on until the stream ends");
        let head = stream.head().clone();
        stream.stop();
        assert!(recording.finish(Duration::from_secs(60)));
        let status = recording.status();
        assert_eq!((status.blocks, status.lost, status.queued), (head.next(), 0, 0));
        assert!(folder.path().read_dir().unwrap().any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str().unwrap().ends_with("Z-0000000000.wav")
        }));
        let again = Archive::open(folder.path()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 2, "nothing is left of the try: {again:?}");
    }
}
