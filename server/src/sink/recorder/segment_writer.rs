//! The distribution of a stream over segments, with its gaps, and through failures of the disk. Time is an argument.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::{Block, Delivery, End, EndReason, Format, Gap, Item, Loss, Origin, Timestamp};

use super::failure_log::FailureLog;
use super::index::{Entry, Index};
use super::name::stem;
use super::parts::{Part, Parts};
use super::progress::Progress;
use super::segment::{Coding, Segment, frame_bytes};
use super::sidecar::{GapNote, SegmentStart};
use super::storage::Storage;

/// Sound that may be lost if the program is killed. The documentation promises a second; half of it leaves time for a
/// thread that has to wait for a processor.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Sound that may be lost if the power fails: as long as ext4 waits before it writes its journal. Syncing every second
/// would be as much work again for a memory card. Parts that the disk has not confirmed are kept in memory.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// Time from a failure to the next attempt. The ring is ten times as long, so nothing is lost meanwhile.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Longest silence that is written for a gap, 23 MB at 48 kHz stereo. After a longer gap, such as the night in which a
/// machine was suspended, a new file begins; its name and sidecar have the position.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// Sound between two notes of the capture time. A device's clock is off by 0.02 % at most, so that a moment is found to within
/// 2 ms.
const MARK_INTERVAL: Duration = Duration::from_secs(10);
/// Names that are tried for a file: as many recordings can begin in the same directory, in the same second and at the
/// same block.
const MAX_NAMES: u32 = 100;

/// An error of the storage, with the file that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", .path.display())]
struct StorageError {
    path: PathBuf,
    error: io::Error,
}

/// Time between two looks at the room that is left on the disk.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);
/// Sound for which there must be room beyond the reserve before a recording that has stopped goes on, so that it does not
/// stop again at once.
const MIN_ROOM: Duration = Duration::from_secs(5);
/// Difference of two steps of the wall clock from which on a new file begins. Smaller ones leave a moment findable.
const MIN_STEP_NANOS: u64 = 1_000_000_000;

/// The rules by which a recording is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    /// Blocks of a full segment.
    pub(crate) segment_blocks: u64,
    /// The length whose multiples, since midnight UTC, segments do not cross.
    pub(crate) align: Option<Duration>,
    /// How samples are written.
    pub(crate) coding: Coding,
    /// Bytes that are left free on the disk.
    pub(crate) reserve_bytes: u64,
}

/// The writer of a recording: segment after segment, in one storage.
pub(crate) struct SegmentWriter<S: Storage> {
    storage: S,
    format: Format,
    source: String,
    rules: Rules,
    segment: Option<Segment<S::File>>,
    /// When the segment ends by the wall clock, in nanoseconds of Unix time.
    ends_at: u64,
    /// The step of the wall clock, in nanoseconds, when the segment began.
    step: i64,
    /// The first block that is left out, while the disk is nearly full, and when it was due.
    paused_from: Option<(u64, Timestamp)>,
    /// When the room on the disk was last looked at.
    looked_at: Option<Timestamp>,
    /// The segments that can be read, this one included.
    index: Arc<Index>,
    /// Name of the present or last segment, without its ending.
    stem: String,
    /// Name of the WAV file that the next segment continues.
    continues: Option<String>,
    /// Parts that the disk has not confirmed yet, to be written again if it fails: at most [`SYNC_INTERVAL`] and those
    /// that one failure left.
    parts: Parts,
    /// The sequence number after the last one that was written.
    next: u64,
    /// A gap that is too long to be filled and that the next segment notes first; kept until the disk has confirmed it.
    gap_before: Option<GapNote>,
    /// The time at which the next block is due, by the last one that came.
    due: Option<Timestamp>,
    flushed_at: Timestamp,
    synced_at: Timestamp,
    /// The time of the next attempt, after a failure.
    retry_at: Option<Timestamp>,
    /// The disk's last error, until the gap that it caused has come or it is clear that it caused none.
    last_error: Option<String>,
    failure_log: FailureLog,
    /// The origin of the sound that the segment's sidecar last named.
    origin: Origin,
    /// Bytes of samples in segments that have ended.
    bytes: u64,
    progress: Progress,
}

impl<S: Storage> SegmentWriter<S> {
    /// Makes a writer for a recording of `source`. Nothing is written yet.
    pub(crate) fn new(storage: S, format: Format, source: String, rules: Rules) -> Self {
        Self {
            storage,
            format,
            source,
            rules,
            segment: None,
            ends_at: u64::MAX,
            step: 0,
            paused_from: None,
            looked_at: None,
            index: Arc::default(),
            stem: String::new(),
            continues: None,
            parts: Parts::default(),
            next: 0,
            gap_before: None,
            due: None,
            flushed_at: Timestamp::default(),
            synced_at: Timestamp::default(),
            retry_at: None,
            last_error: None,
            failure_log: FailureLog::default(),
            origin: Origin::Source,
            bytes: 0,
            progress: Progress::default(),
        }
    }

    /// Keeps `index` up to date with what is written.
    #[must_use]
    pub(crate) fn with_index(mut self, index: Arc<Index>) -> Self {
        self.index = index;
        self
    }

    /// Records a block, and before it the silence of the gap with which it came.
    pub(crate) fn record(&mut self, delivery: Delivery<Block>, now: Timestamp) {
        let Delivery { gap, lag_items, item } = delivery;
        // A gap while nothing is written is part of the one that is noted when the recording goes on.
        if let Some(gap) = gap.filter(|_| self.paused_from.is_none()) {
            let before_item = item.stamp.captured_at - self.format.span(self.format.position(gap.items));
            let at = self.due.unwrap_or(before_item);
            let note = GapNote { gap, at, error: self.take_cause(gap) };
            self.parts.push(Part::Gap { note, is_last: false });
        }
        if lag_items == 0 {
            // The ring is empty, so the disk's failure has caused no gap that is not noted by now.
            self.last_error = None;
        }
        self.due = Some(item.stamp.captured_at + self.format.block_span());
        self.look_at_room(item.stamp.sequence, item.stamp.captured_at, now);
        if self.paused_from.is_some() {
            self.progress.left_out += 1;
            return;
        }
        self.parts.push(Part::Sound(item));
        self.advance(now);
    }

    /// Stops the recording before `sequence`, which is due `at`, if the disk is nearly full, or goes on if there is room again.
    fn look_at_room(&mut self, sequence: u64, at: Timestamp, now: Timestamp) {
        if self.rules.reserve_bytes == 0 || self.looked_at.is_some_and(|looked_at| now.since(looked_at) < ROOM_INTERVAL)
        {
            return;
        }
        self.looked_at = Some(now);
        self.progress.free_bytes = self.storage.free_bytes();
        let Some(free) = self.progress.free_bytes else { return };
        let reserve = self.rules.reserve_bytes;
        let needed = reserve + self.format.blocks_in(MIN_ROOM) * self.format.position(1) * frame_bytes(self.format);
        match self.paused_from {
            None if free < reserve => {
                // What waits is written first.
                self.advance(now);
                if self.retry_at.is_some() {
                    return;
                }
                if let Err(error) = self.close("disk nearly full") {
                    self.fail(&error, now);
                    return;
                }
                self.paused_from = Some((sequence, at));
                self.progress.is_disk_full = true;
                self.progress.failing = Some(format!(
                    "the disk is nearly full: {:.1} MB are free, and {:.1} MB are reserved (make room, bound the recording \
                     with --record-keep, or change --record-reserve)",
                    free as f64 / 1e6,
                    reserve as f64 / 1e6
                ));
            }
            Some((from, at)) if free >= needed => {
                let gap = Gap { from, items: sequence - from, reason: Loss::Overflow };
                let error = Some("the disk was nearly full".to_owned());
                if gap.items > 0 {
                    self.parts.push(Part::Gap { note: GapNote { gap, at, error }, is_last: false });
                }
                self.paused_from = None;
                self.progress.is_disk_full = false;
                self.progress.failing = None;
            }
            _ => {}
        }
    }

    /// Syncs everything to the disk, because no block comes for a while.
    pub(crate) fn sync_idle(&mut self, now: Timestamp) {
        if self.segment.as_ref().is_some_and(|segment| segment.unsynced_frames() > 0)
            && let Err(error) = self.sync(now)
        {
            self.fail(&error, now);
        }
    }

    /// Returns the time of the next [`retry`](Self::retry) after a failure. Until then nothing should be recorded: the ring keeps
    /// waiting blocks, and counts those that it cannot hold.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Tries again after a failure, and returns whether it is over.
    pub(crate) fn retry(&mut self, now: Timestamp) -> bool {
        self.advance(now);
        self.retry_at.is_none()
    }

    /// Ends the recording in order, with the gap at its end.
    pub(crate) fn finish(&mut self, end: End, now: Timestamp) {
        if let Some(gap) = end.gap.filter(|_| self.paused_from.is_none()) {
            let at = self.due.unwrap_or(now);
            let note = GapNote { gap, at, error: self.take_cause(gap) };
            self.parts.push(Part::Gap { note, is_last: true });
        }
        // After a failure, there is one more attempt in a new file.
        for _ in 0..2 {
            self.advance(now);
            if self.retry_at.is_some() {
                continue;
            }
            // `failed` is the end of a file that could not be written.
            let reason = if end.reason == EndReason::Failed { "source_failed" } else { end.reason.label() };
            match self.close(reason) {
                Ok(()) => break,
                Err(error) => self.fail(&error, now),
            }
        }
    }

    /// Returns the sequence number after the last one that is in a file or noted as a gap.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Returns the progress of the recording.
    pub(crate) fn progress(&mut self) -> &Progress {
        self.progress.bytes = self.bytes + self.segment.as_ref().map_or(0, Segment::bytes);
        &self.progress
    }

    /// Takes the disk's last error, if the ring was full because of it.
    fn take_cause(&mut self, gap: Gap) -> Option<String> {
        if gap.reason == Loss::Overflow { self.last_error.take() } else { None }
    }

    /// Writes all waiting parts. A failure is over when they are written and flushed.
    fn advance(&mut self, now: Timestamp) {
        match self.write_all(now) {
            Ok(()) => self.recover(),
            Err(error) => self.fail(&error, now),
        }
    }

    fn write_all(&mut self, now: Timestamp) -> Result<(), StorageError> {
        while let Some(part) = self.parts.first_waiting().cloned() {
            self.write(&part)?;
            self.parts.mark_written();
        }
        let Some(segment) = &self.segment else { return Ok(()) };
        let is_due =
            |frames, since, limit| frames > 0 && (self.format.span(frames) >= limit || now.since(since) >= limit);
        if is_due(segment.unsynced_frames(), self.synced_at, SYNC_INTERVAL) {
            self.sync(now)
        } else if is_due(segment.unflushed_frames(), self.flushed_at, FLUSH_INTERVAL)
            || segment.has_empty_header()
            || self.retry_at.is_some()
        {
            self.flushed_at = now;
            self.with_segment(Segment::flush)?;
            self.note_readable();
            Ok(())
        } else {
            Ok(())
        }
    }

    fn write(&mut self, part: &Part) -> Result<(), StorageError> {
        match part {
            Part::Sound(item) => {
                let Item { stamp, .. } = **item;
                self.make_room(stamp.sequence, stamp.captured_at)?;
                let origin = item.origin();
                if origin != self.origin {
                    self.with_segment(|segment| segment.note_origin(origin, stamp.sequence, stamp.captured_at))?;
                    self.origin = origin;
                }
                let format = self.format;
                self.with_segment(|segment| {
                    if format.span(segment.unmarked_frames()) >= MARK_INTERVAL {
                        segment.mark(stamp.captured_at)?;
                    }
                    Ok(())
                })?;
                self.with_segment(|segment| segment.write(item.samples()))?;
                let is_missing = origin.loss().is_some();
                *(if is_missing { &mut self.progress.missing } else { &mut self.progress.blocks }) += 1;
            }
            Part::Gap { note, is_last } if self.format.span(self.format.position(note.gap.items)) > MAX_SILENCE => {
                if *is_last {
                    self.make_room(note.gap.from, note.at)?;
                    self.with_segment(|segment| segment.note(note))?;
                } else {
                    self.close("gap")?;
                    self.gap_before = Some(note.clone());
                }
            }
            Part::Gap { note, .. } => {
                let mut from = note.gap.from.max(self.next);
                while from < part.end() {
                    let at = note.at + self.format.span(self.format.position(from - note.gap.from));
                    let blocks = self.make_room(from, at)?.min(part.end() - from);
                    self.with_segment(|segment| segment.write_silence(note, blocks))?;
                    from += blocks;
                    self.next = from;
                }
            }
        }
        self.next = part.end();
        Ok(())
    }

    /// Makes sure that there is a segment with room for the block `sequence`, and returns for how many blocks.
    fn make_room(&mut self, sequence: u64, at: Timestamp) -> Result<u64, StorageError> {
        let unix = at.unix_nanos();
        if self.segment.as_ref().is_some_and(|segment| segment.room_blocks() == 0) || unix >= self.ends_at {
            self.close("split")?;
        }
        let step = unix as i64 - at.as_nanos() as i64;
        if step.abs_diff(self.step) >= MIN_STEP_NANOS {
            // The times of a file must rise with its sound.
            self.close("clock")?;
        }
        if self.segment.is_none() {
            self.step = step;
            self.ends_at = self.rules.align.map_or(u64::MAX, |align| next_multiple(unix, align));
            self.open(sequence, at)?;
        }
        let until_end = self.ends_at.saturating_sub(unix).div_ceil(self.format.block_span().as_nanos().max(1) as u64);
        Ok(self.segment.as_ref().map_or(0, Segment::room_blocks).min(until_end.max(1)))
    }

    /// Begins a segment under the first name that is free.
    fn open(&mut self, first: u64, captured_at: Timestamp) -> Result<(), StorageError> {
        let name = stem(captured_at, first);
        let mut exists = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 1..=MAX_NAMES {
            // An underscore sorts after the dot that follows the name without a number.
            let stem = if number == 1 { name.clone() } else { format!("{name}_{number}") };
            match self.begin(&stem, first, captured_at) {
                Ok(segment) => {
                    let path = self.storage.path(&self.file_name(&stem));
                    tracing::debug!("recording to {}", path.display());
                    self.progress.file = Some(path);
                    self.segment = Some(segment);
                    self.origin = Origin::Source;
                    self.stem = stem;
                    self.progress.files += 1;
                    self.index.begin(Entry {
                        stem: self.stem.clone(),
                        run: 0,
                        format: self.rules.coding.format(),
                        rate_hz: self.format.rate_hz(),
                        channels: self.format.channels(),
                        position: self.format.position(first),
                        captured_at: captured_at.unix_nanos(),
                        frames: 0,
                    });
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => exists = error,
                Err(error) => return Err(StorageError { path: self.storage.path(&self.file_name(&stem)), error }),
            }
        }
        Err(StorageError { path: self.storage.path(&self.file_name(&name)), error: exists })
    }

    /// Makes the two files of a segment, or neither.
    fn begin(&mut self, stem: &str, first: u64, captured_at: Timestamp) -> io::Result<Segment<S::File>> {
        let file = self.storage.create(&self.file_name(stem))?;
        let sidecar = self.storage.create(&jsonl(stem)).inspect_err(|_| self.storage.remove(&self.file_name(stem)))?;
        let continues = self.continues.as_deref();
        let start = SegmentStart {
            format: self.format,
            sample: self.rules.coding.sample(),
            source: &self.source,
            first,
            captured_at,
            continues,
        };
        let begun = Segment::begin(file, sidecar, start, self.rules.coding, self.rules.segment_blocks).and_then(
            |mut segment| {
                self.gap_before.iter().try_for_each(|note| segment.note(note))?;
                Ok(segment)
            },
        );
        begun.inspect_err(|_| {
            self.storage.remove(&self.file_name(stem));
            self.storage.remove(&jsonl(stem));
        })
    }

    fn sync(&mut self, now: Timestamp) -> Result<(), StorageError> {
        self.with_segment(Segment::sync)?;
        self.note_readable();
        (self.flushed_at, self.synced_at) = (now, now);
        self.gap_before = None;
        self.parts.confirm(self.next);
        Ok(())
    }

    /// Ends the segment, if there is one.
    fn close(&mut self, reason: &str) -> Result<(), StorageError> {
        if self.segment.is_some() {
            self.with_segment(|segment| segment.close(reason))?;
            self.note_readable();
            self.bytes += self.segment.take().map_or(0, |segment| segment.bytes());
            self.progress.file = None;
            self.continues = Some(self.file_name(&self.stem));
            self.gap_before = None;
            self.parts.confirm(self.next);
        }
        Ok(())
    }

    /// Returns the name of a segment's file of sound.
    fn file_name(&self, stem: &str) -> String {
        format!("{stem}.{}", self.rules.coding.format().name())
    }

    /// Tells the index how much of the segment can be read.
    fn note_readable(&self) {
        if let Some(segment) = &self.segment {
            self.index.set_frames(&self.stem, segment.flushed_frames());
        }
    }

    fn with_segment(&mut self, act: impl FnOnce(&mut Segment<S::File>) -> io::Result<()>) -> Result<(), StorageError> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        act(segment).map_err(|error| StorageError { path: self.storage.path(&self.file_name(&self.stem)), error })
    }

    /// Goes back to the last frame that the disk is known to have. Everything after it is written again, to a new segment.
    fn fail(&mut self, error: &StorageError, now: Timestamp) {
        let error = error.to_string();
        if let Some(segment) = self.segment.take() {
            self.progress.file = None;
            let first = segment.first();
            let left = segment.abandon(&error);
            let good_frames = left.unwrap_or(0);
            self.next = first + good_frames.div_ceil(u64::from(self.format.block_frames()));
            self.bytes += good_frames * frame_bytes(self.format);
            if good_frames > 0 {
                self.gap_before = None;
            }
            if left.is_some() {
                self.continues = Some(self.file_name(&self.stem));
                self.index.set_frames(&self.stem, good_frames);
            } else {
                self.index.remove(&self.stem);
                self.storage.remove(&self.file_name(&self.stem));
                self.storage.remove(&jsonl(&self.stem));
                self.progress.files -= 1;
            }
        }
        let (sound, missing) = self.parts.rewind(self.next);
        self.progress.blocks -= sound;
        self.progress.missing -= missing;
        self.failure_log.failed(&error, now);
        self.last_error = Some(error.clone());
        self.progress.failing = Some(error);
        self.retry_at = Some(now + RETRY_INTERVAL);
    }

    fn recover(&mut self) {
        self.progress.failing = None;
        if self.retry_at.take().is_some() {
            self.failure_log.recovered(&self.storage.path(&self.file_name(&self.stem)));
        }
    }
}

/// Returns the next multiple of `align` after `unix`, both since midnight UTC of 1 January 1970.
fn next_multiple(unix: u64, align: Duration) -> u64 {
    let align = u64::try_from(align.as_nanos()).unwrap_or(u64::MAX).max(1);
    (unix / align + 1).saturating_mul(align)
}

fn jsonl(stem: &str) -> String {
    format!("{stem}.jsonl")
}
