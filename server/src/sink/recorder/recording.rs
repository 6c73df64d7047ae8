//! A running recording, as the rest of the server sees it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aircheck_api::RecordingStatus;
use aircheck_engine::{Format, OverflowPolicy, Start, Stats, Stream, SubscribeOptions};

use super::directory::RecordingDirectory;
use super::index::Index;
use super::length::{block_bytes, segment_blocks};
use super::progress::SharedProgress;
use super::retention::Retention;
use super::segment::Coding;
use super::segment_writer::{Rules, SegmentWriter};
use super::worker;
use crate::config::{RecordFormat, RecordSplit, RecorderConfig, Size};
use crate::mount::Mount;
use crate::rendition::codec::{CodecError, FlacEncoder};

/// Length of the recorder's ring: how long a disk can stall, because it is busy, wakes from its sleep or fails, before
/// sound is lost. At 48 kHz stereo it takes 3.8 MB. The engine adds the history, because the recorder may start there.
const RING_SPAN: Duration = Duration::from_secs(10);

/// A running recording.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    format: Format,
    segment_blocks: u64,
    reserve_bytes: u64,
    stats: Arc<Stats>,
    progress: Arc<SharedProgress>,
    index: Arc<Index>,
}

/// The samples of a stream cannot be recorded in the format that is configured.
#[derive(Debug, thiserror::Error)]
#[error("cannot record as FLAC: {0} (record as WAV with --record-format wav)")]
pub struct FormatError(#[from] CodecError);

/// Returns how samples are written that have so many bits, if they are integers.
pub(crate) fn coding(format: RecordFormat, sample_bits: Option<u16>) -> Coding {
    match format {
        RecordFormat::Wav => Coding::Wav,
        // Floats have no bits of their own, and 24 are beyond what is heard.
        RecordFormat::Flac => Coding::Flac { bits: if sample_bits.is_some_and(|bits| bits <= 16) { 16 } else { 24 } },
    }
}

impl Recording {
    /// Checks that `stream` can be recorded in the format of `config`.
    ///
    /// # Errors
    ///
    /// When it cannot: FLAC has no more than 8 channels, and not every rate and block length.
    pub fn check(config: &RecorderConfig, stream: &Stream) -> Result<(), FormatError> {
        Self::check_format(config, stream.format(), stream.sample_bits())
    }

    /// Checks the same of a stream that is not there yet.
    pub(crate) fn check_format(
        config: &RecorderConfig,
        format: Format,
        sample_bits: Option<u16>,
    ) -> Result<(), FormatError> {
        if let Coding::Flac { bits } = coding(config.record_format, sample_bits) {
            FlacEncoder::new(format, bits)?;
        }
        Ok(())
    }

    /// Records the blocks of `stream` from `start` on, until the stream ends. Returns `None` and logs an error if
    /// the stream has ended already, as that of a very short file has.
    ///
    /// # Errors
    ///
    /// When the system gives no more threads.
    pub fn start(
        directory: &RecordingDirectory,
        config: &RecorderConfig,
        stream: &Stream,
        start: Start,
    ) -> io::Result<Option<Self>> {
        let format = stream.format();
        let subscribed = stream.subscribe(SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: format.blocks_in(RING_SPAN) as usize,
            start,
            ..SubscribeOptions::default()
        });
        let consumer = match subscribed {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::error!("nothing is recorded: {error}");
                return Ok(None);
            }
        };
        let segment_blocks = segment_blocks(config.record_split, format);
        let align = match config.record_split {
            RecordSplit::Span(span) if config.record_align => Some(span),
            _ => None,
        };
        let reserve_bytes = config.record_reserve.map_or(0, |Size(bytes)| bytes);
        let coding = coding(config.record_format, stream.sample_bits());
        let rules = Rules { coding, segment_blocks, align, reserve_bytes };
        let recording = Self {
            path: directory.path().to_path_buf(),
            format,
            segment_blocks,
            reserve_bytes,
            stats: Arc::clone(consumer.stats()),
            progress: Arc::default(),
            index: Arc::new(Index::scan(directory.path())),
        };
        let writer = SegmentWriter::new(directory.clone(), format, stream.description().to_owned(), rules)
            .with_index(Arc::clone(&recording.index));
        let retention = Retention::new(Arc::clone(&recording.index), config.record_keep.clone());
        worker::spawn(writer, consumer, stream.head().clone(), Arc::clone(&recording.progress), retention)?;
        Ok(Some(recording))
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the free bytes of the disk at which the recording stops; 0 if it goes on until the disk is full.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Returns the bytes of so much sound, before any compression.
    #[must_use]
    pub fn bytes_of(&self, span: Duration) -> u64 {
        self.format.blocks_in(span).saturating_mul(block_bytes(self.format))
    }

    /// Returns the recorder's account as a consumer.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Returns the index of the directory.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Publishes events of the recording in the log of `mount`, which it records.
    pub fn report_to(&self, mount: &Arc<Mount>) {
        self.progress.report_to(Arc::clone(mount));
    }

    /// Returns whether sound is being written, so that what is not yet in a file soon will be.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        let (progress, is_finished) = self.progress.get();
        !is_finished && progress.failing.is_none()
    }

    /// Returns the state of the recording. Each block that was offered to it is among `blocks`, `lost` or `queued`.
    #[must_use]
    pub fn status(&self) -> RecordingStatus {
        // Progress is read first, so that the account has every block of it as delivered.
        let (progress, is_finished) = self.progress.get();
        let account = self.stats.snapshot();
        let waiting =
            (account.delivered + account.queued).saturating_sub(progress.blocks + progress.missing + progress.left_out);
        let (abandoned, queued) = if is_finished { (waiting, 0) } else { (0, waiting) };
        RecordingStatus {
            directory: self.path.clone(),
            file: progress.file,
            files: progress.files,
            blocks: progress.blocks,
            lost: account.lost.total() + progress.missing + progress.left_out + abandoned,
            queued,
            bytes: progress.bytes,
            free_bytes: progress.free_bytes,
            failing: progress.failing,
        }
    }

    /// Waits until everything is written after the end of the stream; returns false if that takes longer than `timeout`.
    #[must_use]
    pub fn finish(&self, timeout: Duration) -> bool {
        self.progress.wait_finished(timeout)
    }
}

impl fmt::Display for Recording {
    /// Writes the directory, and the length and size of a full file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.format.span(self.format.position(self.segment_blocks));
        // Fractions of a second mean nothing in a length of more than a minute.
        let span = if span > Duration::from_secs(60) { Duration::from_secs(span.as_secs()) } else { span };
        let megabytes = (self.segment_blocks * block_bytes(self.format)) as f64 / 1e6;
        let span = humantime::format_duration(span);
        write!(f, "{}, a new file every {span} ({megabytes:.1} MB)", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use aircheck_engine::StreamOptions;
    use aircheck_engine::source::Tone;

    use crate::config::Config;

    use super::*;

    #[test]
    fn a_recording_that_starts_late_has_the_stream_from_its_first_block() {
        let folder = tempfile::tempdir().unwrap();
        let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default()).unwrap();
        while stream.head().next() < 20 {
            thread::sleep(stream.format().block_span());
        }
        let directory = RecordingDirectory::open(folder.path()).unwrap();
        let recording =
            Recording::start(&directory, &Config::default().first_mount().recorder, &stream, Start::From(0))
                .unwrap()
                .unwrap();
        assert!(!recording.finish(Duration::ZERO), "it runs until the stream ends");
        let head = stream.head().clone();
        stream.stop();
        assert!(recording.finish(Duration::from_secs(60)));
        let status = recording.status();
        assert_eq!((status.blocks, status.lost, status.queued), (head.next(), 0, 0));
        assert!(folder.path().read_dir().unwrap().any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str().unwrap().ends_with("Z-0000000000.wav")
        }));
        assert_eq!(folder.path().read_dir().unwrap().count(), 2, "the file and its sidecar");
    }
}
