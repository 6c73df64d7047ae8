//! What of the sound goes into which file, whatever is missing and whatever the disk does. Time is an argument.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use aircheck_engine::{Block, Delivery, End, Format, Gap, Loss, Timestamp};

use super::Progress;
use super::complaint::Complaint;
use super::name::stem;
use super::parts::{Piece, Pieces};
use super::segment::{Take, frame_bytes};
use super::sidecar::{Beginning, GapNote};
use super::storage::Shelf;

/// What a kill may take, in sound and in time: half of the second that is promised, so that a thread that is kept
/// waiting keeps the promise too.
const FLUSH: Duration = Duration::from_millis(500);
/// What a loss of power may take: as long as ext4 waits before it writes its journal. Every second would be as much
/// work again for a memory card; and what the disk has not confirmed is kept in memory.
const SYNC: Duration = Duration::from_secs(5);
/// How long after a failure the next file is tried: often enough that nothing is lost meanwhile, because the ring is ten
/// times as long.
const RETRY: Duration = Duration::from_secs(1);
/// The longest silence that is written for a gap, 23 MB of 48 kHz stereo. After a longer gap, such as the night in which
/// a machine was frozen, a new file begins, whose name and sidecar say where.
const SILENCE_MOST: Duration = Duration::from_secs(60);
/// Names tried for a file: so many recordings can begin in the same directory, in the same second, at the same block.
const NAMES: u32 = 100;

/// Something that a file system said.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", .path.display())]
struct Fault {
    path: PathBuf,
    error: io::Error,
}

/// A recording: take after take, on one shelf.
pub(crate) struct Reel<S: Shelf> {
    shelf: S,
    format: Format,
    source: String,
    /// Blocks of a full take.
    take_blocks: u64,
    take: Option<Take<S::Medium>>,
    stem: String,
    /// The take before that.
    continues: Option<String>,
    /// What the disk has not confirmed yet, to be written again if it fails. At most [`SYNC`] and what one failure left.
    pieces: Pieces,
    /// One past the last sequence number that was written.
    next: u64,
    /// A gap too long to be filled before the next take, or before the present one until the disk has that.
    before: Option<GapNote>,
    /// When the next block is due, by the last one that came.
    due: Option<Timestamp>,
    flushed_at: Timestamp,
    synced_at: Timestamp,
    /// Something has failed; when to try again.
    retry_at: Option<Timestamp>,
    /// What the disk said, until it is clear what sound it has cost.
    blame: Option<String>,
    complaint: Complaint,
    /// Bytes of sound in takes that have ended.
    bytes: u64,
    progress: Progress,
}

impl<S: Shelf> Reel<S> {
    /// A recording of `source` that takes a new file after `take_blocks` blocks. Nothing is written yet.
    pub(crate) fn new(shelf: S, format: Format, source: String, take_blocks: u64) -> Self {
        Self {
            shelf,
            format,
            source,
            take_blocks,
            take: None,
            stem: String::new(),
            continues: None,
            pieces: Pieces::default(),
            next: 0,
            before: None,
            due: None,
            flushed_at: Timestamp::default(),
            synced_at: Timestamp::default(),
            retry_at: None,
            blame: None,
            complaint: Complaint::default(),
            bytes: 0,
            progress: Progress::default(),
        }
    }

    /// Records a block, and before it the silence of the gap that it came with.
    pub(crate) fn record(&mut self, delivery: Delivery<Block>, now: Timestamp) {
        let Delivery { gap, lag_items, item } = delivery;
        if let Some(gap) = gap {
            let before_item = item.stamp.captured_at - self.format.span(self.format.position(gap.blocks));
            let at = self.due.unwrap_or(before_item);
            let note = GapNote { gap, at, error: self.cause(gap) };
            self.pieces.push(Piece::Missing { note, is_last: false });
        }
        if lag_items == 0 {
            // All that waited has been taken: whatever the disk did before has cost no more than was told.
            self.blame = None;
        }
        self.due = Some(item.stamp.captured_at + self.format.block_span());
        self.pieces.push(Piece::Sound(item));
        self.advance(now);
    }

    /// Makes what there is safe, because nothing comes for a while.
    pub(crate) fn rest(&mut self, now: Timestamp) {
        if self.take.as_ref().is_some_and(|take| take.unsynced_frames() > 0)
            && let Err(fault) = self.sync(now)
        {
            self.fail(&fault, now);
        }
    }

    /// When to [`retry`](Self::retry). Until then nothing should be recorded: what waits in a ring is kept there, and
    /// what that can't hold is counted.
    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Tries again after a failure, and says whether it is over.
    pub(crate) fn retry(&mut self, now: Timestamp) -> bool {
        self.advance(now);
        self.retry_at.is_none()
    }

    /// Ends the recording in order, with what is missing at its end.
    pub(crate) fn finish(&mut self, end: End, now: Timestamp) {
        if let Some(gap) = end.gap {
            let at = self.due.unwrap_or(now);
            let note = GapNote { gap, at, error: self.cause(gap) };
            self.pieces.push(Piece::Missing { note, is_last: true });
        }
        // If it fails, once more in a new file.
        for _ in 0..2 {
            self.advance(now);
            if self.retry_at.is_some() {
                continue;
            }
            match self.close(end.reason.label()) {
                Ok(()) => break,
                Err(fault) => self.fail(&fault, now),
            }
        }
    }

    /// One past the last sequence number that is in a file or told as a gap.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// What there is to tell.
    pub(crate) fn progress(&mut self) -> &Progress {
        self.progress.bytes = self.bytes + self.take.as_ref().map_or(0, Take::bytes);
        &self.progress
    }

    /// What the disk said, if it is why the ring was full.
    fn cause(&mut self, gap: Gap) -> Option<String> {
        if gap.reason == Loss::Overflow { self.blame.take() } else { None }
    }

    /// Writes what waits. A failure that lasted is over when that is done and flushed.
    fn advance(&mut self, now: Timestamp) {
        match self.write_all(now) {
            Ok(()) => self.recover(),
            Err(fault) => self.fail(&fault, now),
        }
    }

    fn write_all(&mut self, now: Timestamp) -> Result<(), Fault> {
        while let Some(piece) = self.pieces.waiting().cloned() {
            self.write(&piece)?;
            self.pieces.wrote();
        }
        let Some(take) = &self.take else { return Ok(()) };
        let is_due =
            |frames, since, limit| frames > 0 && (self.format.span(frames) >= limit || now.since(since) >= limit);
        if is_due(take.unsynced_frames(), self.synced_at, SYNC) {
            self.sync(now)
        } else if is_due(take.unflushed_frames(), self.flushed_at, FLUSH)
            || take.is_unheard_of()
            || self.retry_at.is_some()
        {
            self.flushed_at = now;
            self.with_take(Take::flush)
        } else {
            Ok(())
        }
    }

    fn write(&mut self, piece: &Piece) -> Result<(), Fault> {
        match piece {
            Piece::Sound(item) => {
                self.make_room(item.stamp.sequence, item.stamp.captured_at)?;
                self.with_take(|take| take.write(item.samples()))?;
                self.progress.blocks += 1;
            }
            Piece::Missing { note, is_last }
                if self.format.span(self.format.position(note.gap.blocks)) > SILENCE_MOST =>
            {
                if *is_last {
                    self.make_room(note.gap.from, note.at)?;
                    self.with_take(|take| take.note(note))?;
                } else {
                    self.close("gap")?;
                    self.before = Some(note.clone());
                }
            }
            Piece::Missing { note, .. } => {
                let mut from = note.gap.from.max(self.next);
                while from < piece.end() {
                    let at = note.at + self.format.span(self.format.position(from - note.gap.from));
                    let blocks = self.make_room(from, at)?.min(piece.end() - from);
                    self.with_take(|take| take.write_silence(note, blocks))?;
                    from += blocks;
                    self.next = from;
                }
            }
        }
        self.next = piece.end();
        Ok(())
    }

    /// Makes sure that there is a take with room for the block `sequence`, and says for how many blocks from there.
    fn make_room(&mut self, sequence: u64, at: Timestamp) -> Result<u64, Fault> {
        if self.take.as_ref().is_some_and(|take| take.room_blocks() == 0) {
            self.close("split")?;
        }
        if self.take.is_none() {
            self.open(sequence, at)?;
        }
        Ok(self.take.as_ref().map_or(0, Take::room_blocks))
    }

    fn open(&mut self, first: u64, captured_at: Timestamp) -> Result<(), Fault> {
        let name = stem(captured_at, first);
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 1..=NAMES {
            // An underscore sorts after the dot of the name without one.
            let stem = if number == 1 { name.clone() } else { format!("{name}_{number}") };
            match self.begin(&stem, first, captured_at) {
                Ok(take) => {
                    let path = self.shelf.path(&wav(&stem));
                    tracing::debug!("recording to {}", path.display());
                    self.progress.file = Some(path);
                    self.take = Some(take);
                    self.stem = stem;
                    self.progress.files += 1;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(Fault { path: self.shelf.path(&wav(&stem)), error }),
            }
        }
        Err(Fault { path: self.shelf.path(&wav(&name)), error: taken })
    }

    /// Makes the two files of a take, or neither.
    fn begin(&mut self, stem: &str, first: u64, captured_at: Timestamp) -> io::Result<Take<S::Medium>> {
        let medium = self.shelf.create(&wav(stem))?;
        let sidecar = self.shelf.create(&jsonl(stem)).inspect_err(|_| self.shelf.remove(&wav(stem)))?;
        let continues = self.continues.as_deref();
        let beginning = Beginning { format: self.format, source: &self.source, first, captured_at, continues };
        let begun = Take::begin(medium, sidecar, beginning, self.take_blocks).and_then(|mut take| {
            self.before.iter().try_for_each(|note| take.note(note))?;
            Ok(take)
        });
        begun.inspect_err(|_| {
            self.shelf.remove(&wav(stem));
            self.shelf.remove(&jsonl(stem));
        })
    }

    fn sync(&mut self, now: Timestamp) -> Result<(), Fault> {
        self.with_take(Take::sync)?;
        (self.flushed_at, self.synced_at) = (now, now);
        self.before = None;
        self.pieces.forget(self.next);
        Ok(())
    }

    /// Ends the take, if there is one.
    fn close(&mut self, reason: &str) -> Result<(), Fault> {
        if self.take.is_some() {
            self.with_take(|take| take.close(reason))?;
            self.bytes += self.take.take().map_or(0, |take| take.bytes());
            self.progress.file = None;
            self.continues = Some(wav(&self.stem));
            self.before = None;
            self.pieces.forget(self.next);
        }
        Ok(())
    }

    fn with_take(&mut self, act: impl FnOnce(&mut Take<S::Medium>) -> io::Result<()>) -> Result<(), Fault> {
        let Some(take) = &mut self.take else { return Ok(()) };
        act(take).map_err(|error| Fault { path: self.shelf.path(&wav(&self.stem)), error })
    }

    /// Goes back to what is safe. All after that is written again, to another file.
    fn fail(&mut self, fault: &Fault, now: Timestamp) {
        let error = fault.to_string();
        if let Some(take) = self.take.take() {
            self.progress.file = None;
            let first = take.first();
            let left = take.abandon(&error);
            let good_frames = left.unwrap_or(0);
            self.next = first + good_frames.div_ceil(u64::from(self.format.block_frames()));
            self.bytes += good_frames * frame_bytes(self.format);
            if good_frames > 0 {
                self.before = None;
            }
            if left.is_some() {
                self.continues = Some(wav(&self.stem));
            } else {
                self.shelf.remove(&wav(&self.stem));
                self.shelf.remove(&jsonl(&self.stem));
                self.progress.files -= 1;
            }
        }
        self.progress.blocks -= self.pieces.rewind(self.next);
        self.complaint.failed(&error, now);
        self.blame = Some(error.clone());
        self.progress.failing = Some(error);
        self.retry_at = Some(now + RETRY);
    }

    fn recover(&mut self) {
        self.progress.failing = None;
        if self.retry_at.take().is_some() {
            self.complaint.over(&self.shelf.path(&wav(&self.stem)));
        }
    }
}

fn wav(stem: &str) -> String {
    format!("{stem}.wav")
}

fn jsonl(stem: &str) -> String {
    format!("{stem}.jsonl")
}
