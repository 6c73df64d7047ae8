//! A segment of a recording: one WAV or FLAC file with its sidecar.

use std::io::{self, BufWriter};

use aircheck_engine::{Format, Origin, Timestamp};
use hound::{SampleFormat, WavSpec, WavWriter};

use super::fail_stop::{FailStop, StopFlag};
use super::flac_writer::FlacWriter;
use super::sidecar::{GapNote, SegmentStart, Sidecar};
use super::storage::StorageFile;
use crate::config::RecordFormat;

/// Bytes before the samples in the header that hound writes for 32-bit samples: RIFF, an extensible `fmt ` and `data`.
pub(crate) const HEADER_BYTES: u64 = 68;
/// Most bytes of samples in a file: the size in the header has 32 bits and leaves out the first 8 bytes. hound does not
/// check that.
pub(crate) const MAX_DATA_BYTES: u64 = u32::MAX as u64 - (HEADER_BYTES - 8);
/// Samples are handed to the system in writes of this size: six a second at 48 kHz stereo.
const WRITE_BUFFER_BYTES: usize = 1 << 16;

/// Returns the bytes of a frame in a file. Samples are 32-bit floats, as in the engine: integers of up to 24 bits and
/// floats come out of the file bit for bit. Integers of 24 bits would take a quarter less room, but change samples that
/// are floats or beyond full scale.
pub(crate) const fn frame_bytes(format: Format) -> u64 {
    size_of::<f32>() as u64 * format.channels() as u64
}

/// How the samples of a recording are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Floats in WAV.
    Wav,
    /// Integers of so many bits in FLAC.
    Flac {
        /// 16 or 24.
        bits: u32,
    },
}

impl Coding {
    /// Returns the bytes of a sample: in FLAC, those that it takes at most.
    pub(crate) const fn sample_bytes(self) -> u64 {
        match self {
            Self::Wav => size_of::<f32>() as u64,
            Self::Flac { bits } => (bits / u8::BITS) as u64,
        }
    }

    /// Returns the format of the files.
    pub(crate) const fn format(self) -> RecordFormat {
        match self {
            Self::Wav => RecordFormat::Wav,
            Self::Flac { .. } => RecordFormat::Flac,
        }
    }

    /// Returns the name of the samples in sidecars.
    pub(crate) const fn sample(self) -> &'static str {
        match self {
            Self::Wav => "f32le",
            Self::Flac { bits: 16 } => "s16",
            Self::Flac { .. } => "s24",
        }
    }
}

/// The file of a segment.
enum SampleWriter<F: StorageFile> {
    Wav(WavWriter<BufWriter<FailStop<F>>>),
    Flac(Box<FlacWriter<F>>),
}

/// A segment that is being written. [Flushed](Self::flush) sound stays readable if the program is killed, and
/// [synced](Self::sync) sound stays if the power fails.
pub(crate) struct Segment<F: StorageFile> {
    samples: SampleWriter<F>,
    file: F,
    sidecar: Sidecar<F>,
    stop: StopFlag,
    format: Format,
    first: u64,
    room_blocks: u64,
    frames: u64,
    flushed_frames: u64,
    /// Bytes of the file when it was flushed.
    flushed_bytes: u64,
    synced_frames: u64,
    /// The frame whose capture time was noted last.
    marked_frame: u64,
    /// Whether a sync has failed, so that frames between synced and flushed may be lost.
    is_doubtful: bool,
}

impl<F: StorageFile> Segment<F> {
    /// Begins a segment of at most `max_blocks` blocks in two new files. The WAV is valid from here on.
    pub(crate) fn begin(
        file: F,
        sidecar: F,
        start: SegmentStart<'_>,
        coding: Coding,
        max_blocks: u64,
    ) -> io::Result<Self> {
        let SegmentStart { format, first, .. } = start;
        let spec = WavSpec {
            channels: format.channels(),
            sample_rate: format.rate_hz(),
            bits_per_sample: 32,
            sample_format: SampleFormat::Float,
        };
        let stop = StopFlag::default();
        let buffered = BufWriter::with_capacity(WRITE_BUFFER_BYTES, FailStop::new(file.clone(), stop.clone()));
        let samples = match coding {
            Coding::Wav => {
                let mut wav = WavWriter::new(buffered, spec).map_err(from_hound)?;
                wav.flush().map_err(from_hound)?;
                SampleWriter::Wav(wav)
            }
            Coding::Flac { bits } => SampleWriter::Flac(Box::new(FlacWriter::new(buffered, format, bits)?)),
        };
        let flushed_bytes = samples.bytes(0, format);
        Ok(Self {
            samples,
            flushed_bytes,
            file,
            sidecar: Sidecar::begin(sidecar, start)?,
            stop,
            format,
            first,
            room_blocks: max_blocks,
            frames: 0,
            flushed_frames: 0,
            synced_frames: 0,
            marked_frame: 0,
            is_doubtful: false,
        })
    }

    /// Returns the sequence number of its first block.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns how many more blocks fit.
    pub(crate) fn room_blocks(&self) -> u64 {
        self.room_blocks
    }

    /// Returns the bytes of its samples, buffered ones included: of FLAC, those in the file.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.samples {
            SampleWriter::Wav(_) => self.frames * frame_bytes(self.format),
            SampleWriter::Flac(flac) => flac.bytes(),
        }
    }

    /// Returns how many frames would be lost if the program were killed.
    pub(crate) fn unflushed_frames(&self) -> u64 {
        self.frames - self.flushed_frames
    }

    /// Returns how many frames would be lost if the power failed.
    pub(crate) fn unsynced_frames(&self) -> u64 {
        self.frames - self.synced_frames
    }

    /// Returns how many frames can be read by others.
    pub(crate) fn flushed_frames(&self) -> u64 {
        self.flushed_frames
    }

    /// Returns how many frames there are since the last one whose capture time was noted.
    pub(crate) fn unmarked_frames(&self) -> u64 {
        self.frames - self.marked_frame
    }

    /// Notes when the next frame was captured.
    pub(crate) fn mark(&mut self, captured_at: Timestamp) -> io::Result<()> {
        self.marked_frame = self.frames;
        self.sidecar.mark(self.frames, captured_at)
    }

    /// Returns whether it has sound, but its header still says 0, which some programs take for an unknown length.
    pub(crate) fn has_empty_header(&self) -> bool {
        self.flushed_frames == 0 && self.frames > 0
    }

    /// Appends the samples of a block.
    pub(crate) fn write(&mut self, samples: &[f32]) -> io::Result<()> {
        let frames = samples.len() as u64 / u64::from(self.format.channels());
        self.samples.write(samples, frames)?;
        self.frames += frames;
        self.room_blocks -= 1;
        Ok(())
    }

    /// Notes a gap, and appends `blocks` blocks of silence for it.
    pub(crate) fn write_silence(&mut self, note: &GapNote, blocks: u64) -> io::Result<()> {
        let frames = self.format.position(blocks);
        self.sidecar.gap(note, self.frames, frames)?;
        let silence = vec![0.0; self.format.block_samples()];
        for _ in 0..blocks {
            self.samples.write(&silence, self.format.position(1))?;
        }
        self.frames += frames;
        self.room_blocks -= blocks;
        Ok(())
    }

    /// Notes that the sound comes from `origin` from here on, with the block `sequence`.
    pub(crate) fn note_origin(&mut self, origin: Origin, sequence: u64, at: Timestamp) -> io::Result<()> {
        self.sidecar.origin(origin, sequence, self.frames, at)
    }

    /// Notes a gap that is too long to be filled with silence.
    pub(crate) fn note(&mut self, note: &GapNote) -> io::Result<()> {
        self.sidecar.gap(note, self.frames, 0)
    }

    /// Hands everything to the system, and updates the length in the header.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.samples {
            SampleWriter::Wav(wav) => wav.flush().map_err(from_hound)?,
            SampleWriter::Flac(flac) => flac.flush()?,
        }
        self.flushed_frames = self.frames;
        self.flushed_bytes = self.samples.bytes(self.frames, self.format);
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        // The system reports a failed write to the disk once, and the data may be gone then.
        self.is_doubtful = true;
        self.sync_files()?;
        self.is_doubtful = false;
        self.synced_frames = self.flushed_frames;
        Ok(())
    }

    /// Syncs the sidecar before the WAV, so that no silence is on the disk without its reason.
    fn sync_files(&self) -> io::Result<()> {
        self.sidecar.sync()?;
        self.file.sync()
    }

    /// Ends the segment in order. If that fails, [`abandon`](Self::abandon) it.
    pub(crate) fn close(&mut self, reason: &str) -> io::Result<()> {
        self.sync()?;
        self.sidecar.end(reason, self.frames, None)?;
        self.sidecar.sync()
    }

    /// Ends the segment after a failure, and returns how many of its frames count: the flushed ones, after which the
    /// file is cut off, or the synced ones if the disk does not confirm the flushed ones. Returns `None` if the files
    /// hold nothing.
    pub(crate) fn abandon(mut self, error: &str) -> Option<u64> {
        if !self.is_doubtful {
            // If this fails, the length in the header still says which frames count.
            let _ = self.file.truncate(self.flushed_bytes);
            self.is_doubtful = self.flushed_frames > 0 && self.sync_files().is_err();
        }
        let good_frames = if self.is_doubtful { self.synced_frames } else { self.flushed_frames };
        // A full disk may have no room for this line; the length in the header says the same.
        let _ = self.sidecar.end("failed", good_frames, Some(error)).and_then(|()| self.sidecar.sync());
        (good_frames > 0 || self.is_doubtful).then_some(good_frames)
    }
}

impl<F: StorageFile> SampleWriter<F> {
    fn write(&mut self, samples: &[f32], frames: u64) -> io::Result<()> {
        match self {
            Self::Wav(wav) => samples.iter().try_for_each(|sample| wav.write_sample(*sample)).map_err(from_hound),
            Self::Flac(flac) => flac.write(samples, frames),
        }
    }

    /// Returns the length of the file with `frames` frames, buffered ones included.
    fn bytes(&self, frames: u64, format: Format) -> u64 {
        match self {
            Self::Wav(_) => HEADER_BYTES + frames * frame_bytes(format),
            Self::Flac(flac) => flac.bytes(),
        }
    }
}

/// Keeps hound from writing its buffer and the header once more when it is dropped. In order, everything is written by
/// then; after a failure, those samples go to another file.
impl<F: StorageFile> Drop for Segment<F> {
    fn drop(&mut self) {
        self.stop.set();
    }
}

fn from_hound(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}
