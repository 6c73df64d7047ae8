//! The index of a recording: the segments in its directory, those of earlier runs included, by time and position.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aircheck_engine::Format;
use serde::Deserialize;

use super::directory::open_file;
use super::flac_reader::read_header;
use super::segment::HEADER_BYTES;
use crate::config::RecordFormat;

/// Longest first line of a sidecar that is read. Those that the recorder writes have some 400 bytes; the rest is room for
/// a long description of the source.
const MAX_LINE_BYTES: u64 = 16 << 10;

/// A segment in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without an ending.
    pub stem: String,
    /// The run of the server that recorded it: larger for later runs.
    pub run: u32,
    /// The format of its file.
    pub format: RecordFormat,
    /// Its sample rate.
    pub rate_hz: u32,
    /// Its channels.
    pub channels: u16,
    /// The position of its first frame in the stream of its run.
    pub position: u64,
    /// When its first frame was captured, in nanoseconds of Unix time.
    pub captured_at: u64,
    /// Its frames, as far as they can be read.
    pub frames: u64,
}

impl Entry {
    /// Returns whether its sound can be played in a stream of `format`.
    #[must_use]
    pub fn fits(&self, format: Format) -> bool {
        (self.rate_hz, self.channels) == (format.rate_hz(), format.channels())
    }

    /// Returns the position after its last frame.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + self.frames
    }

    /// Returns when the frame after its last one was due, in nanoseconds of Unix time.
    #[must_use]
    pub fn ended_at(&self) -> u64 {
        self.captured_at + nanos(self.frames, self.rate_hz)
    }
}

/// Returns the length of `frames` frames in nanoseconds.
pub(crate) fn nanos(frames: u64, rate_hz: u32) -> u64 {
    u64::try_from(u128::from(frames) * 1_000_000_000 / u128::from(rate_hz.max(1))).unwrap_or(u64::MAX)
}

/// The segments of a directory, in the order of their runs and positions. The recorder keeps it up to date.
#[derive(Debug, Default)]
pub struct Index {
    entries: Mutex<Vec<Entry>>,
    directory: PathBuf,
    /// The number of the run that records now.
    current_run: u32,
}

impl Index {
    /// Reads the sidecars in `directory`. Files that the recorder has not made, or that are damaged, are left out.
    #[must_use]
    pub fn scan(directory: &Path) -> Self {
        let mut found = Vec::new();
        for file in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = file.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| stem.starts_with("aircheck-"));
            if let (Some(stem), true) = (stem, path.extension().is_some_and(|extension| extension == "jsonl"))
                && let Some(entry) = read(directory, stem)
            {
                found.push(entry);
            }
        }
        found.sort_by(|(a, _), (b, _)| (a.captured_at, &a.stem).cmp(&(b.captured_at, &b.stem)));
        // A segment that continues another belongs to its run, also where the clock was set back between them.
        let mut predecessors: HashMap<String, Option<String>> = HashMap::new();
        for (entry, continues) in &found {
            let before =
                continues.as_deref().map(|name| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned());
            predecessors.insert(entry.stem.clone(), before);
        }
        let mut entries: Vec<Entry> = found.into_iter().map(|(entry, _)| entry).collect();
        let current_run = number_runs(&mut entries, &predecessors);
        entries.sort_by_key(|entry| (entry.run, entry.position));
        Self { entries: Mutex::new(entries), directory: directory.to_owned(), current_run }
    }

    /// Returns the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the number of the run that records now.
    #[must_use]
    pub fn current_run(&self) -> u32 {
        self.current_run
    }

    /// Returns all segments.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// Adds the segment that the present run begins.
    pub(crate) fn begin(&self, entry: Entry) {
        self.lock().push(Entry { run: self.current_run, ..entry });
    }

    /// Sets how many frames of a segment can be read.
    pub(crate) fn set_frames(&self, stem: &str, frames: u64) {
        if let Some(entry) = self.lock().iter_mut().rev().find(|entry| entry.stem == stem) {
            entry.frames = frames;
        }
    }

    /// Removes a segment, because its files are gone.
    pub(crate) fn remove(&self, stem: &str) {
        self.lock().retain(|entry| entry.stem != stem);
    }

    /// Returns the segment of `run` that has the frame at `position`. If there is none, returns the next one.
    #[must_use]
    pub fn at_or_after(&self, run: u32, position: u64) -> Option<Entry> {
        let entries = self.lock();
        let of_run = || entries.iter().filter(|entry| entry.run == run && entry.end() > position);
        // Where a failed disk left a part twice, the later file has it in full.
        let with_it = of_run().rfind(|entry| entry.position <= position);
        with_it.or_else(|| of_run().min_by_key(|entry| entry.position)).cloned()
    }

    /// Returns run and position of the first segment that was recorded at or after `moment`, in nanoseconds of Unix time, or of
    /// the frame of that moment. Only segments that fit `format` count.
    #[must_use]
    pub fn find(&self, moment: u64, format: Format) -> Option<Entry> {
        let entries = self.lock();
        let fitting =
            || entries.iter().filter(|entry| entry.fits(format) && entry.frames > 0 && entry.ended_at() > moment);
        let with_it = fitting().rfind(|entry| entry.captured_at <= moment);
        with_it.or_else(|| fitting().min_by_key(|entry| entry.captured_at)).cloned()
    }

    /// Returns when the first recorded frame that fits `format` was captured, in nanoseconds of Unix time.
    #[must_use]
    pub fn begins_at(&self, format: Format) -> Option<u64> {
        self.lock().iter().filter(|entry| entry.fits(format) && entry.frames > 0).map(|entry| entry.captured_at).min()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each segment the number of its run, in the order in which the first segments of runs come. Returns the number of runs.
/// Each segment is visited once or twice, however long its run is.
fn number_runs(entries: &mut [Entry], predecessors: &HashMap<String, Option<String>>) -> u32 {
    let mut runs: HashMap<&str, u32> = HashMap::new();
    let mut count = 0;
    for entry in entries {
        // Back to the first segment of the run, or to one whose run is known.
        let Some((mut stem, _)) = predecessors.get_key_value(&entry.stem) else { continue };
        let mut visited = vec![stem.as_str()];
        while !runs.contains_key(stem.as_str())
            && let Some(Some(before)) = predecessors.get(stem)
            && let Some((before, _)) = predecessors.get_key_value(before)
            // Damaged sidecars may form a circle.
            && visited.len() <= predecessors.len()
        {
            stem = before;
            visited.push(stem);
        }
        entry.run = *runs.entry(stem).or_insert_with(|| {
            count += 1;
            count - 1
        });
        runs.extend(visited.into_iter().map(|stem| (stem, entry.run)));
    }
    count
}

#[derive(Deserialize)]
struct FirstLine {
    recording: Start,
}

#[derive(Deserialize)]
struct Start {
    rate_hz: u32,
    channels: u16,
    position: u64,
    captured_at: f64,
    continues: Option<String>,
}

/// Reads a segment's entry, and the name of the file that it continues.
fn read(directory: &Path, stem: &str) -> Option<(Entry, Option<String>)> {
    let mut line = String::new();
    let sidecar = open_file(&directory.join(format!("{stem}.jsonl"))).ok()?;
    BufReader::new(sidecar).take(MAX_LINE_BYTES).read_line(&mut line).ok()?;
    let Start { rate_hz, channels, position, captured_at, continues } =
        serde_json::from_str::<FirstLine>(&line).ok()?.recording;
    let captured_at = u64::try_from(Duration::try_from_secs_f64(captured_at).ok()?.as_nanos()).ok()?;
    if rate_hz == 0 || channels == 0 {
        return None;
    }
    let (format, frames) = [RecordFormat::Wav, RecordFormat::Flac].into_iter().find_map(|format| {
        let path = directory.join(format!("{stem}.{}", format.name()));
        let frames = match format {
            RecordFormat::Wav => wav_frames(&path, channels)?,
            RecordFormat::Flac => read_header(&open_file(&path).ok()?).ok()?.3,
        };
        Some((format, frames))
    })?;
    // Only damage makes them so large.
    position.checked_add(frames)?;
    captured_at.checked_add(nanos(frames, rate_hz))?;
    let entry = Entry { stem: stem.to_owned(), run: 0, format, rate_hz, channels, position, captured_at, frames };
    Some((entry, continues))
}

/// Returns how many frames the header of a WAV file of the recorder counts, as far as the file has them.
fn wav_frames(path: &Path, channels: u16) -> Option<u64> {
    let mut header = [0; HEADER_BYTES as usize];
    let mut file = open_file(path).ok()?;
    file.read_exact(&mut header).ok()?;
    let (start, length) = header.split_last_chunk::<4>()?;
    if !start.starts_with(b"RIFF") || !start.ends_with(b"data") {
        return None;
    }
    let bytes = u64::from(u32::from_le_bytes(*length)).min(file.metadata().ok()?.len().saturating_sub(HEADER_BYTES));
    Some(bytes / (4 * u64::from(channels)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const RATE_HZ: u32 = 48_000;

    fn format() -> Format {
        Format::new(RATE_HZ, 2, Duration::from_millis(10)).unwrap()
    }

    fn entry(stem: &str, run: u32, position_seconds: u64, at_seconds: u64, seconds: u64) -> Entry {
        Entry {
            stem: stem.to_owned(),
            run,
            format: RecordFormat::Wav,
            rate_hz: RATE_HZ,
            channels: 2,
            position: position_seconds * u64::from(RATE_HZ),
            captured_at: at_seconds * SECOND,
            frames: seconds * u64::from(RATE_HZ),
        }
    }

    fn index(entries: Vec<Entry>) -> Index {
        Index { entries: Mutex::new(entries), directory: PathBuf::new(), current_run: 2 }
    }

    /// Two files of one run with a hole of 10 s between them, and a second run.
    fn with_a_hole() -> Index {
        index(vec![entry("a", 0, 0, 100, 10), entry("b", 0, 20, 120, 10), entry("c", 1, 0, 200, 10)])
    }

    #[test]
    fn a_moment_is_in_its_segment_or_in_the_next_one() {
        let index = with_a_hole();
        let found = |second: u64| index.find(second * SECOND, format()).map(|entry| entry.stem);
        assert_eq!(found(50).as_deref(), Some("a"), "before the first");
        assert_eq!(found(109).as_deref(), Some("a"));
        assert_eq!(found(110).as_deref(), Some("b"), "in a hole");
        assert_eq!(found(150).as_deref(), Some("c"), "between two runs");
        assert_eq!(found(209).as_deref(), Some("c"));
        assert_eq!(found(210), None, "after the last");
        assert_eq!(index.begins_at(format()), Some(100 * SECOND));
    }

    #[test]
    fn segments_of_another_format_and_empty_ones_are_not_found() {
        let mut other = entry("other", 0, 0, 10, 10);
        other.rate_hz = 44_100;
        let index = index(vec![other, entry("empty", 1, 0, 20, 0), entry("a", 1, 0, 30, 10)]);
        assert_eq!(index.find(10 * SECOND, format()).unwrap().stem, "a");
        assert_eq!(index.begins_at(format()), Some(30 * SECOND));
    }

    #[test]
    fn of_a_part_that_is_there_twice_the_later_file_counts() {
        let index = index(vec![entry("failed", 0, 0, 100, 10), entry("whole", 0, 5, 105, 10)]);
        let position = |second: u64| second * u64::from(RATE_HZ);
        assert_eq!(index.at_or_after(0, position(4)).unwrap().stem, "failed");
        assert_eq!(index.at_or_after(0, position(6)).unwrap().stem, "whole");
        assert_eq!(index.at_or_after(0, position(15)), None);
        index.remove("whole");
        assert_eq!(index.at_or_after(0, position(6)).unwrap().stem, "failed");
    }

    /// Writes a sidecar, and a WAV of a second.
    fn write(directory: &Path, stem: &str, at_seconds: u64, continues: Option<&str>) {
        let start = serde_json::json!({"recording": {"rate_hz": 48_000, "channels": 2, "position": 0,
            "captured_at": at_seconds, "continues": continues.map(|stem| format!("{stem}.wav"))}});
        fs::write(directory.join(format!("{stem}.jsonl")), format!("{start}\n")).unwrap();
        let mut wav = vec![0; HEADER_BYTES as usize];
        wav[..4].copy_from_slice(b"RIFF");
        let end = wav.len();
        wav[end - 8..end - 4].copy_from_slice(b"data");
        wav[end - 4..].copy_from_slice(&384_000_u32.to_le_bytes());
        wav.resize(end + 384_000, 0);
        fs::write(directory.join(format!("{stem}.wav")), wav).unwrap();
    }

    #[test]
    fn segments_that_continue_another_are_of_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        write(directory, "aircheck-1", 1000, None);
        write(directory, "aircheck-2", 2000, Some("aircheck-1"));
        // The clock was set back before this one.
        write(directory, "aircheck-3", 500, Some("aircheck-2"));
        write(directory, "aircheck-4", 3000, None);
        // Its predecessor was deleted for its age.
        write(directory, "aircheck-5", 100, Some("aircheck-0"));
        // A circle, which only damage makes.
        write(directory, "aircheck-6", 4000, Some("aircheck-7"));
        write(directory, "aircheck-7", 4001, Some("aircheck-6"));
        fs::write(directory.join("aircheck-8.jsonl"), "{").unwrap();
        fs::write(directory.join("notes.jsonl"), "{}").unwrap();
        let index = Index::scan(directory);
        let entries = index.entries();
        assert_eq!(entries.len(), 7, "{entries:?}");
        let run = |stem: &str| entries.iter().find(|entry| entry.stem == stem).unwrap().run;
        assert_eq!((run("aircheck-1"), run("aircheck-2")), (run("aircheck-3"), run("aircheck-3")));
        assert_eq!([run("aircheck-5"), run("aircheck-1"), run("aircheck-4")], [0, 1, 2]);
        assert_eq!(run("aircheck-6"), run("aircheck-7"));
        assert_eq!(index.current_run(), 4);
        assert!(entries.iter().all(|entry| entry.frames == 48_000), "{entries:?}");
    }

    /// A year of files of a minute, in one run.
    #[test]
    fn a_long_run_is_numbered_in_a_moment() {
        let stems: Vec<String> = (0..500_000).map(|number| format!("{number:07}")).collect();
        let mut entries: Vec<Entry> = stems.iter().map(|stem| entry(stem, 9, 0, 0, 1)).collect();
        let before = |number: usize| number.checked_sub(1).map(|before| stems[before].clone());
        let predecessors = stems.iter().enumerate().map(|(number, stem)| (stem.clone(), before(number))).collect();
        let start = std::time::Instant::now();
        assert_eq!(number_runs(&mut entries, &predecessors), 1);
        assert!(entries.iter().all(|entry| entry.run == 0));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
