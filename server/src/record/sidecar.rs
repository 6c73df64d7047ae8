//! The file beside a take that says what is in it: a JSON object a line.

use std::io::{self, SeekFrom};

use aircheck_engine::{Format, Gap, Timestamp};
use serde_json::{Value, json};

use super::shelf::Medium;

/// A gap as it is told, in this take and, if it does not fit, in the ones after it.
#[derive(Clone, Debug)]
pub(crate) struct GapNote {
    pub(crate) gap: Gap,
    /// When its first frame was due.
    pub(crate) at: Timestamp,
    /// What the disk said, if that was why nothing was taken.
    pub(crate) error: Option<String>,
}

/// What a take begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning<'a> {
    pub(crate) format: Format,
    /// The source, for people.
    pub(crate) source: &'a str,
    /// Sequence number of the first block.
    pub(crate) first: u64,
    pub(crate) captured_at: Timestamp,
    /// The file before this one.
    pub(crate) continues: Option<&'a str>,
}

/// The lines of one take. Each is handed to the system at once and whole, so that it is there before the sound is, also
/// if the program is killed.
#[derive(Debug)]
pub(crate) struct Sidecar<M> {
    medium: M,
    /// Bytes of whole lines.
    whole: u64,
}

impl<M: Medium> Sidecar<M> {
    pub(crate) fn begin(medium: M, beginning: Beginning<'_>) -> io::Result<Self> {
        let Beginning { format, source, first, captured_at, continues } = beginning;
        let mut sidecar = Self { medium, whole: 0 };
        sidecar.line(&json!({"recording": {
            "version": env!("CARGO_PKG_VERSION"),
            "source": source,
            "rate_hz": format.rate_hz(),
            "channels": format.channels(),
            "sample": "f32le",
            "block_frames": format.block_frames(),
            "first_sequence": first,
            "position": format.position(first),
            "captured_at": captured_at.unix_seconds(),
            "continues": continues,
        }}))?;
        Ok(sidecar)
    }

    /// Says that from `frame` of the take on, `frames` frames are silence because of a gap. None are if the gap is too
    /// long to be filled.
    pub(crate) fn gap(&mut self, note: &GapNote, frame: u64, frames: u64) -> io::Result<()> {
        let Gap { from, blocks, reason } = note.gap;
        let mut line = json!({
            "gap": {"from": from, "blocks": blocks, "reason": reason.label()},
            "frame": frame,
            "frames": frames,
            "at": note.at.unix_seconds(),
        });
        if let Some(error) = &note.error {
            line["error"] = json!(error);
        }
        self.line(&line)
    }

    /// Says why the take ends, and how many frames of it count.
    pub(crate) fn end(&mut self, reason: &str, frames: u64, error: Option<&str>) -> io::Result<()> {
        let mut end = json!({"reason": reason, "frames": frames});
        if let Some(error) = error {
            end["error"] = json!(error);
        }
        self.line(&json!({"end": end}))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.medium.sync()
    }

    fn line(&mut self, line: &Value) -> io::Result<()> {
        let text = format!("{line}\n");
        let written =
            self.medium.seek(SeekFrom::Start(self.whole)).and_then(|_| self.medium.write_all(text.as_bytes()));
        match written {
            Ok(()) => self.whole += text.len() as u64,
            // Half a line on a full disk would spoil the next one; if this fails too, it is the last.
            Err(_) => drop(self.medium.cut(self.whole)),
        }
        written
    }
}
