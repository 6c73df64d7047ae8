//! The sidecar of a segment: a file with one JSON object a line that describes the WAV beside it.

use std::io::{self, SeekFrom};

use aircheck_engine::{Format, Gap, Origin, Timestamp};
use serde_json::{Value, json};

use super::storage::StorageFile;

/// A gap with its note, which goes into one segment, or into several if its silence does not fit into one.
#[derive(Clone, Debug)]
pub(crate) struct GapNote {
    pub(crate) gap: Gap,
    /// When its first frame was due.
    pub(crate) at: Timestamp,
    /// The disk's error, if that is why the recorder's ring was full.
    pub(crate) error: Option<String>,
}

/// The description with which a segment starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentStart<'a> {
    pub(crate) format: Format,
    /// The name of the samples.
    pub(crate) sample: &'static str,
    /// The source in words.
    pub(crate) source: &'a str,
    /// Sequence number of the first block.
    pub(crate) first: u64,
    pub(crate) captured_at: Timestamp,
    /// Name of the file before this one.
    pub(crate) continues: Option<&'a str>,
}

/// The lines of one segment. Each line is written to the system at once, so that even if the program is
/// killed no sound is there without its line.
#[derive(Debug)]
pub(crate) struct Sidecar<F> {
    file: F,
    /// Bytes of complete lines.
    complete_bytes: u64,
}

impl<F: StorageFile> Sidecar<F> {
    /// Writes the first line: the format of the segment and its place in the stream.
    pub(crate) fn begin(file: F, start: SegmentStart<'_>) -> io::Result<Self> {
        let SegmentStart { format, sample, source, first, captured_at, continues } = start;
        let mut sidecar = Self { file, complete_bytes: 0 };
        sidecar.write_line(&json!({"recording": {
            "version": env!("CARGO_PKG_VERSION"),
            "source": source,
            "rate_hz": format.rate_hz(),
            "channels": format.channels(),
            "sample": sample,
            "block_frames": format.block_frames(),
            "first_sequence": first,
            "position": format.position(first),
            "captured_at": captured_at.unix_seconds(),
            "continues": continues,
        }}))?;
        Ok(sidecar)
    }

    /// Writes that `frames` frames from `frame` of the segment on are silence because of a gap; 0 if the gap is too long
    /// to be filled.
    pub(crate) fn gap(&mut self, note: &GapNote, frame: u64, frames: u64) -> io::Result<()> {
        let Gap { from, items: blocks, reason } = note.gap;
        let mut line = json!({
            "gap": {"from": from, "blocks": blocks, "reason": reason.label()},
            "frame": frame,
            "frames": frames,
            "at": note.at.unix_seconds(),
        });
        if let Some(error) = &note.error {
            line["error"] = json!(error);
        }
        self.write_line(&line)
    }

    /// Writes where the sound comes from, from `frame` of the segment on. A segment starts with the source.
    pub(crate) fn origin(&mut self, origin: Origin, sequence: u64, frame: u64, at: Timestamp) -> io::Result<()> {
        self.write_line(&json!({
            "origin": origin.label(),
            "sequence": sequence,
            "frame": frame,
            "at": at.unix_seconds(),
        }))
    }

    /// Writes when the frame `frame` of the segment was captured, so that a moment is found although the source's clock drifts.
    pub(crate) fn mark(&mut self, frame: u64, captured_at: Timestamp) -> io::Result<()> {
        self.write_line(&json!({"mark": {"frame": frame, "at": captured_at.unix_seconds()}}))
    }

    /// Writes why the segment ends, and how many frames of it count.
    pub(crate) fn end(&mut self, reason: &str, frames: u64, error: Option<&str>) -> io::Result<()> {
        let mut end = json!({"reason": reason, "frames": frames});
        if let Some(error) = error {
            end["error"] = json!(error);
        }
        self.write_line(&json!({"end": end}))
    }

    /// Waits until all lines are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write_line(&mut self, line: &Value) -> io::Result<()> {
        let text = format!("{line}\n");
        let written =
            self.file.seek(SeekFrom::Start(self.complete_bytes)).and_then(|_| self.file.write_all(text.as_bytes()));
        match written {
            Ok(()) => self.complete_bytes += text.len() as u64,
            // A full disk leaves half a line, which would spoil the next one. If cutting it off fails too, no line follows.
            Err(_) => drop(self.file.truncate(self.complete_bytes)),
        }
        written
    }
}
