//! One WAV file of a recording, with its sidecar.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aircheck_engine::Format;
use hound::{SampleFormat, WavSpec, WavWriter};

use super::sidecar::{Beginning, GapNote, Sidecar};
use super::storage::Medium;

/// Bytes before the samples in what hound writes for 32-bit samples: RIFF, an extensible `fmt ` and `data`.
pub(crate) const HEADER_BYTES: u64 = 68;
/// Most bytes of samples: the size of all but the first 8 bytes must fit into 32 bits. hound does not look.
pub(crate) const DATA_BYTES_MOST: u64 = u32::MAX as u64 - (HEADER_BYTES - 8);
/// Handed to the system in portions of this size: six a second of 48 kHz stereo.
const PORTION: usize = 1 << 16;

/// Bytes of a frame in a take. Samples are 32-bit floats, because that is what the engine has: integers of up to 24
/// bits and floats of any size come out of the file bit for bit. 24-bit integers would take a quarter less room and
/// change whatever is a float, or beyond full scale.
pub(crate) const fn frame_bytes(format: Format) -> u64 {
    size_of::<f32>() as u64 * format.channels() as u64
}

/// A file that is being recorded. What is [flushed](Self::flush) stays readable if the program is killed, what is
/// [synced](Self::sync) stays if the power fails.
pub(crate) struct Take<M: Medium> {
    wav: WavWriter<BufWriter<Guard<M>>>,
    medium: M,
    sidecar: Sidecar<M>,
    broken: Arc<AtomicBool>,
    format: Format,
    first: u64,
    room_blocks: u64,
    frames: u64,
    flushed_frames: u64,
    synced_frames: u64,
    /// The disk has not confirmed what is between synced and flushed, and won't.
    is_doubtful: bool,
}

impl<M: Medium> Take<M> {
    /// Begins a take of at most `most_blocks` blocks in two new files. The WAV is a valid one from here on.
    pub(crate) fn begin(medium: M, sidecar: M, beginning: Beginning<'_>, most_blocks: u64) -> io::Result<Self> {
        let Beginning { format, first, .. } = beginning;
        let spec = WavSpec {
            channels: format.channels(),
            sample_rate: format.rate_hz(),
            bits_per_sample: 32,
            sample_format: SampleFormat::Float,
        };
        let broken = Arc::new(AtomicBool::new(false));
        let guard = Guard { medium: medium.clone(), broken: Arc::clone(&broken) };
        let mut wav = WavWriter::new(BufWriter::with_capacity(PORTION, guard), spec).map_err(of_hound)?;
        wav.flush().map_err(of_hound)?;
        Ok(Self {
            wav,
            medium,
            sidecar: Sidecar::begin(sidecar, beginning)?,
            broken,
            format,
            first,
            room_blocks: most_blocks,
            frames: 0,
            flushed_frames: 0,
            synced_frames: 0,
            is_doubtful: false,
        })
    }

    /// Sequence number of its first block.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// How many more blocks fit.
    pub(crate) fn room_blocks(&self) -> u64 {
        self.room_blocks
    }

    /// Bytes of its samples, written or about to be.
    pub(crate) fn bytes(&self) -> u64 {
        self.frames * frame_bytes(self.format)
    }

    /// Frames that a kill would take.
    pub(crate) fn unflushed_frames(&self) -> u64 {
        self.frames - self.flushed_frames
    }

    /// Whether its header still says that nothing is in it, which some programs take for a length that is not known.
    pub(crate) fn is_unheard_of(&self) -> bool {
        self.flushed_frames == 0 && self.frames > 0
    }

    /// Frames that a loss of power would take.
    pub(crate) fn unsynced_frames(&self) -> u64 {
        self.frames - self.synced_frames
    }

    /// Appends a block.
    pub(crate) fn write(&mut self, samples: &[f32]) -> io::Result<()> {
        for sample in samples {
            self.wav.write_sample(*sample).map_err(of_hound)?;
        }
        self.frames += samples.len() as u64 / u64::from(self.format.channels());
        self.room_blocks -= 1;
        Ok(())
    }

    /// Says that blocks are missing, and appends as much silence.
    pub(crate) fn write_silence(&mut self, note: &GapNote, blocks: u64) -> io::Result<()> {
        let frames = self.format.position(blocks);
        self.sidecar.gap(note, self.frames, frames)?;
        for _ in 0..frames * u64::from(self.format.channels()) {
            self.wav.write_sample(0.0_f32).map_err(of_hound)?;
        }
        self.frames += frames;
        self.room_blocks -= blocks;
        Ok(())
    }

    /// Says that blocks are missing here that are too many to be silence.
    pub(crate) fn note(&mut self, note: &GapNote) -> io::Result<()> {
        self.sidecar.gap(note, self.frames, 0)
    }

    /// Hands everything to the system, and brings the header up to date.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.wav.flush().map_err(of_hound)?;
        self.flushed_frames = self.frames;
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        // An error of the disk itself is told here or never, and what it was about may be gone.
        self.is_doubtful = true;
        self.confirm()?;
        self.is_doubtful = false;
        self.synced_frames = self.flushed_frames;
        Ok(())
    }

    /// Waits for the disk: for what is said of gaps before their silence, so that there is none without a reason.
    fn confirm(&self) -> io::Result<()> {
        self.sidecar.sync()?;
        self.medium.sync()
    }

    /// Ends it in order. If that fails, [`abandon`](Self::abandon) it.
    pub(crate) fn close(&mut self, reason: &str) -> io::Result<()> {
        self.sync()?;
        self.sidecar.end(reason, self.frames, None)?;
        self.sidecar.sync()
    }

    /// Ends it after something failed, and says how many of its frames count: those that were flushed, after which it
    /// is cut off, or if the disk does not confirm these, those that were synced. `None` if there is nothing in it.
    pub(crate) fn abandon(mut self, error: &str) -> Option<u64> {
        if !self.is_doubtful {
            // If it can't be cut off: the header counts only what was flushed.
            let _ = self.medium.cut(HEADER_BYTES + self.flushed_frames * frame_bytes(self.format));
            self.is_doubtful = self.flushed_frames > 0 && self.confirm().is_err();
        }
        let good_frames = if self.is_doubtful { self.synced_frames } else { self.flushed_frames };
        // Best effort: on a full disk there may be no room for it, and then the header says it.
        let _ = self.sidecar.end("failed", good_frames, Some(error)).and_then(|()| self.sidecar.sync());
        (good_frames > 0 || self.is_doubtful).then_some(good_frames)
    }
}

/// hound writes what it has, and the header once more, when it is dropped. After a failure that would count again what
/// goes to another file; otherwise, there is nothing to write.
impl<M: Medium> Drop for Take<M> {
    fn drop(&mut self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

/// Passes on what is written until something has failed: half of a frame would spoil the file.
struct Guard<M> {
    medium: M,
    broken: Arc<AtomicBool>,
}

impl<M> Guard<M> {
    fn check<T>(&mut self, act: impl FnOnce(&mut M) -> io::Result<T>) -> io::Result<T> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("an earlier write has failed"));
        }
        let result = act(&mut self.medium);
        if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.broken.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<M: Medium> Write for Guard<M> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check(|medium| medium.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check(Write::flush)
    }
}

impl<M: Medium> Seek for Guard<M> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.check(|medium| medium.seek(to))
    }
}

fn of_hound(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}
