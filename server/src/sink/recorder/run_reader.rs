//! The reader of one run of a recording: frames by their position, with gaps and capture times from the sidecars.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::directory::open_file;
use super::flac_reader::FlacReader;
use super::index::{Entry, Index, nanos};
use super::segment::HEADER_BYTES;
use crate::config::RecordFormat;

/// Bytes of a sidecar that are read. A day with a mark each 10 s has half a megabyte; the rest is room for notes of gaps.
const MAX_SIDECAR_BYTES: u64 = 64 << 20;

/// Reads the frames that one run of the server has recorded.
#[derive(Debug)]
pub struct RunReader {
    index: Arc<Index>,
    run: u32,
    open: Option<OpenSegment>,
}

/// The result of a look for a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Interleaved samples, and when the first of them was captured, in nanoseconds of Unix time.
    Sound(Vec<f32>, u64),
    /// No sound before this position: it was lost, or was not recorded.
    Hole(u64),
    /// Nothing from here on.
    Beyond,
}

/// A segment that is being read.
#[derive(Debug)]
struct OpenSegment {
    entry: Entry,
    file: Sound,
    notes: Notes,
}

/// The file of sound of a segment.
#[derive(Debug)]
enum Sound {
    Wav(File),
    Flac(Box<FlacReader>),
}

/// The lines of a sidecar that change while a segment grows.
#[derive(Debug, Default)]
struct Notes {
    /// The length of the sidecar when it was read.
    bytes: u64,
    /// Positions that are silence because of a gap.
    gaps: Vec<Range<u64>>,
    /// Positions, and when their frames were captured, in nanoseconds of Unix time.
    marks: Vec<(u64, u64)>,
}

/// A line of a sidecar. Those of gaps have `frame` and `frames`.
#[derive(Deserialize)]
struct Line {
    frame: Option<u64>,
    frames: Option<u64>,
    mark: Option<Mark>,
}

#[derive(Deserialize)]
struct Mark {
    frame: u64,
    at: f64,
}

impl RunReader {
    /// Makes a reader for a run of `index`.
    #[must_use]
    pub fn new(index: Arc<Index>, run: u32) -> Self {
        Self { index, run, open: None }
    }

    /// Returns the position of the frame in `entry` that was captured at `moment`, in nanoseconds of Unix time, or of its first
    /// one if `moment` is before that.
    ///
    /// # Errors
    ///
    /// When the segment cannot be read.
    pub fn position_at(&mut self, entry: &Entry, moment: u64) -> io::Result<u64> {
        let open = self.open(entry)?;
        let (position, at) = open.mark_before(|(_, at)| *at <= moment);
        let elapsed = u128::from(moment.saturating_sub(at));
        // The nearest frame: times in sidecars have microseconds.
        let frames = (elapsed * u128::from(entry.rate_hz) + 500_000_000) / 1_000_000_000;
        Ok((position + frames as u64).min(entry.end().saturating_sub(1)))
    }

    /// Reads `frames` frames from `position` on. Where the run ends before that, there are fewer.
    ///
    /// # Errors
    ///
    /// When the segment cannot be read. The error has the position after the segment.
    pub fn read(&mut self, position: u64, frames: u64) -> Result<Found, (io::Error, u64)> {
        let Some(entry) = self.index.at_or_after(self.run, position) else { return Ok(Found::Beyond) };
        if entry.position > position {
            return Ok(Found::Hole(entry.position));
        }
        let end = entry.end();
        let open = self.open(&entry).map_err(|error| (error, end))?;
        if let Some(gap) = open.notes.gaps.iter().find(|gap| gap.contains(&position)) {
            return Ok(Found::Hole(gap.end));
        }
        let captured_at = open.captured_at(position);
        let count = frames.min(end - position);
        let mut samples = open.samples(position, count).map_err(|error| (error, end))?;
        if count < frames
            && let Ok(Found::Sound(rest, _)) = self.read(end, frames - count)
        {
            samples.extend(rest);
        }
        Ok(Found::Sound(samples, captured_at))
    }

    fn open(&mut self, entry: &Entry) -> io::Result<&mut OpenSegment> {
        let sidecar = self.index.directory().join(format!("{}.jsonl", entry.stem));
        let open = match self.open.take() {
            Some(mut open) if open.entry.stem == entry.stem => {
                open.entry.frames = entry.frames;
                open
            }
            _ => {
                let path = self.index.directory().join(format!("{}.{}", entry.stem, entry.format.name()));
                let file = open_file(&path)?;
                let file = match entry.format {
                    RecordFormat::Wav => Sound::Wav(file),
                    RecordFormat::Flac => Sound::Flac(Box::new(FlacReader::new(file)?)),
                };
                OpenSegment { entry: entry.clone(), file, notes: Notes::default() }
            }
        };
        let open = self.open.insert(open);
        open.notes.follow(&sidecar, entry.position)?;
        Ok(open)
    }
}

impl OpenSegment {
    fn mark_before(&self, is_before: impl Fn(&(u64, u64)) -> bool) -> (u64, u64) {
        let first = (self.entry.position, self.entry.captured_at);
        self.notes.marks.iter().copied().rfind(|mark| is_before(mark)).unwrap_or(first)
    }

    fn captured_at(&self, position: u64) -> u64 {
        let (marked, at) = self.mark_before(|(marked, _)| *marked <= position);
        at.saturating_add(nanos(position - marked, self.entry.rate_hz))
    }

    fn samples(&mut self, position: u64, frames: u64) -> io::Result<Vec<f32>> {
        let file = match &mut self.file {
            Sound::Wav(file) => file,
            Sound::Flac(flac) => return flac.samples(position - self.entry.position, frames),
        };
        let frame_bytes = 4 * u64::from(self.entry.channels);
        let mut bytes = vec![0; (frames * frame_bytes) as usize];
        file.read_exact_at(&mut bytes, HEADER_BYTES + (position - self.entry.position) * frame_bytes)?;
        let (samples, _) = bytes.as_chunks::<4>();
        Ok(samples.iter().map(|sample| f32::from_le_bytes(*sample)).collect())
    }
}

impl Notes {
    /// Reads the sidecar of the segment that begins at `first`, if it has grown.
    fn follow(&mut self, sidecar: &Path, first: u64) -> io::Result<()> {
        let bytes = fs::metadata(sidecar)?.len();
        if bytes == self.bytes {
            return Ok(());
        }
        *self = Self { bytes, ..Self::default() };
        for line in BufReader::new(open_file(sidecar)?.take(MAX_SIDECAR_BYTES)).lines() {
            let Ok(line) = serde_json::from_str::<Line>(&line?) else { continue };
            // Positions beyond 64 bits come from damage.
            let position = |frame| first.checked_add(frame);
            if let (Some(start), Some(frames)) = (line.frame.and_then(position), line.frames)
                && let Some(end) = start.checked_add(frames)
            {
                self.gaps.push(start..end);
            }
            if let Some(Mark { frame, at }) = line.mark
                && let Some(position) = position(frame)
            {
                self.marks.push((position, (at * 1e9) as u64));
            }
        }
        Ok(())
    }
}
