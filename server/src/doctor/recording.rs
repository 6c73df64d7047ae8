//! The recording: whether its directory can be written to, and how much sound the disk holds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aircheck_engine::Format;

use super::directory::{can_make_files, existing};
use super::finding::{Area, Finding, Level};
use super::source::Sound;
use crate::config::{RecordFormat, RecordKeep, RecordSplit, RecorderConfig, Size};
use crate::sink::recorder::{Recording, RecordingDirectory, coding, free_bytes};

/// Longest wait for this check, whatever the others have taken.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest file of a recording, whatever its length: 4 GiB.
const MAX_FILE_BYTES: u64 = 1 << 32;

/// Checks the directory and the disk. Makes no directory, and leaves no file behind.
pub(super) fn check(config: &RecorderConfig, sound: Option<Sound>, block: Duration) -> Vec<Finding> {
    let Some(directory) = &config.record else {
        return vec![Finding::ok(Area::Recording, "nothing is recorded (--record DIR would)")];
    };
    let mut findings = vec![match writable(directory) {
        Ok(text) => Finding::ok(Area::Recording, text),
        Err(why) => Finding::fault(
            Area::Recording,
            format!("cannot record to {}: {why}", directory.display()),
            "correct that, or choose another directory with --record",
        ),
    }];
    if let Some(sound) = sound {
        let format = Format::new(sound.rate_hz, sound.channels, block);
        if let Some(Err(error)) = format.ok().map(|format| Recording::check_format(config, format, sound.sample_bits)) {
            findings.push(Finding::of_error(Area::Recording, Level::Fault, &error.to_string()));
        } else if let Some(free) = free_bytes(&existing(&directory.join("file"))) {
            let kept = recorded_bytes(directory);
            findings.extend(room(config, free, kept, bytes_per_second(config.record_format, sound)));
        }
    }
    findings
}

/// Returns in words that files can be made in the directory, or the reason why they cannot.
fn writable(directory: &Path) -> Result<String, String> {
    let shown = directory.display();
    if !directory.exists() {
        // Not made here: a directory that root has made is closed to the service's own user.
        let parent = existing(directory);
        if !can_make_files(&parent) {
            return Err(format!("it is not there, and cannot be made in {}", parent.display()));
        }
        return Ok(format!("{shown} is not there yet, and can be made"));
    }
    RecordingDirectory::lock(directory).map_err(|error| error.to_string())?;
    Ok(format!("{shown} can be written to"))
}

/// Returns the bytes of all sound files and their lists in a directory.
fn recorded_bytes(directory: &Path) -> u64 {
    let is_recorded = |path: &Path| path.extension().is_some_and(|end| end == "wav" || end == "flac" || end == "jsonl");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| is_recorded(&entry.path())).filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Returns what a second of sound takes: in FLAC, what it takes at most.
fn bytes_per_second(format: RecordFormat, sound: Sound) -> u64 {
    u64::from(sound.rate_hz) * u64::from(sound.channels) * coding(format, sound.sample_bits).sample_bytes()
}

/// Compares what is free, and what old files take that will be deleted, with what is to be kept.
fn room(config: &RecorderConfig, free: u64, kept: u64, bytes_per_second: u64) -> Vec<Finding> {
    let reserve = config.record_reserve.map_or(0, |Size(bytes)| bytes);
    let left = free.saturating_sub(reserve);
    let least = if config.record_format == RecordFormat::Flac { "at least " } else { "" };
    let span = |bytes: u64| format!("{least}{}", Span(bytes / bytes_per_second.max(1)));
    let is_free = format!("{} are free, {} of them kept free (--record-reserve)", Bytes(free), Bytes(reserve));
    let mut findings = vec![if left == 0 {
        Finding::note(
            Area::Recording,
            format!("{is_free}: nothing is recorded until there is room"),
            "delete something, record to another disk, or lower --record-reserve",
        )
    } else {
        let rate = Bytes(bytes_per_second * 3600);
        Finding::ok(Area::Recording, format!("{is_free}: room for {} at {rate} an hour", span(left)))
    }];
    let capacity = left.saturating_add(kept);
    // Old files are deleted when a new one begins, and that one does not count against the bound.
    let file = match config.record_split {
        RecordSplit::Span(span) => span.as_secs().saturating_mul(bytes_per_second),
        RecordSplit::Bytes(bytes) => bytes,
    }
    .min(MAX_FILE_BYTES);
    for keep in &config.record_keep {
        let needed = match keep {
            RecordKeep::Age(age) => age.as_secs().saturating_mul(bytes_per_second),
            RecordKeep::Bytes(bytes) => *bytes,
        }
        .saturating_add(file);
        if needed > capacity {
            findings.push(Finding::note(
                Area::Recording,
                format!(
                    "--record-keep {keep} takes up to {} with the file that is being written, and {} are there: the disk is full \
                     before old files are deleted",
                    Bytes(needed),
                    Bytes(capacity)
                ),
                format!("keep less, such as --record-keep {}", suggestion(capacity)),
            ));
        }
    }
    if config.record_keep.is_empty() && left > 0 {
        findings.push(Finding::note(
            Area::Recording,
            "nothing deletes old files: when the disk is full, the recording stops",
            format!("keep less, such as --record-keep {}", suggestion(capacity)),
        ));
    }
    findings
}

/// Returns a size that leaves a tenth of `capacity` for others, as a setting takes it.
fn suggestion(capacity: u64) -> String {
    let bytes = capacity / 10 * 9;
    if bytes >= 1_000_000_000 {
        format!("{}GB", bytes / 1_000_000_000)
    } else {
        format!("{}MB", (bytes / 1_000_000).max(1))
    }
}

/// Shows bytes in the unit that people use for disks.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("0 GB"),
            bytes if bytes < 1_000_000_000 => write!(f, "{:.0} MB", bytes as f64 / 1e6),
            bytes if bytes < 100_000_000_000 => write!(f, "{:.1} GB", bytes as f64 / 1e9),
            bytes => write!(f, "{:.0} GB", bytes as f64 / 1e9),
        }
    }
}

/// Shows seconds in days, hours or minutes.
struct Span(u64);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            seconds if seconds >= 2 * 86_400 => write!(f, "{} days", seconds / 86_400),
            seconds if seconds >= 2 * 3600 => write!(f, "{} hours", seconds / 3600),
            seconds => write!(f, "{} minutes", seconds / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const STEREO: Sound = Sound { rate_hz: 48_000, channels: 2, sample_bits: None };
    const BLOCK: Duration = Duration::from_millis(10);

    fn recorder(directory: &Path) -> RecorderConfig {
        RecorderConfig { record: Some(directory.to_path_buf()), ..Config::default().first_mount().recorder.clone() }
    }

    fn texts(findings: &[Finding]) -> String {
        findings
            .iter()
            .map(|finding| finding.text(false))
            .collect::<String>()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_directory_is_tried_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let there = root.path().join("takes");
        let is_fault = |findings: &[Finding]| findings.iter().any(|finding| finding.level() == Level::Fault);
        let findings = check(&recorder(&there), Some(STEREO), BLOCK);
        assert!(!is_fault(&findings) && texts(&findings).contains("is not there yet, and can be made"), "{findings:?}");
        assert!(!there.exists());
        fs::create_dir(&there).unwrap();
        let findings = check(&recorder(&there), Some(STEREO), BLOCK);
        assert!(!is_fault(&findings) && texts(&findings).contains("can be written to"), "{findings:?}");
        assert_eq!(there.read_dir().unwrap().count(), 0);
        fs::write(there.join("file"), "").unwrap();
        assert!(is_fault(&check(&recorder(&there.join("file")), None, BLOCK)));
        let lock = crate::sink::recorder::RecordingDirectory::open(&there).unwrap();
        let findings = check(&recorder(&there), None, BLOCK);
        assert!(is_fault(&findings) && texts(&findings).contains("another aircheck records to it"), "{findings:?}");
        drop(lock);
    }

    #[test]
    fn room_is_told_in_days_of_the_format() {
        let mut config = recorder(Path::new("/takes"));
        // Stereo at 48 kHz takes 33.2 GB a day, and a gigabyte is kept free.
        let rate = bytes_per_second(config.record_format, STEREO);
        let said = |config: &RecorderConfig, free, kept| texts(&room(config, free, kept, rate));
        assert!(said(&config, 101_000_000_000, 0).contains("room for 3 days at 1.4 GB an hour"));
        assert!(said(&config, 101_000_000_000, 0).contains("--record-keep 90GB"));
        assert!(said(&config, 900_000_000, 0).contains("nothing is recorded until there is room"));
        config.record_keep = vec!["30d".parse().unwrap()];
        assert!(said(&config, 101_000_000_000, 0).contains(
            "--record-keep 30d takes up to 997 GB with the file that is being written, and 100 GB are there"
        ));
        assert_eq!(room(&config, 101_000_000_000, 900_000_000_000, rate).len(), 1, "old files make room");
        config.record_keep = vec!["99GB".parse().unwrap()];
        assert_eq!(room(&config, 101_500_000_000, 0, rate).len(), 1, "an hour fits beside it");
        assert!(said(&config, 101_000_000_000, 0).contains("before old files are deleted"), "an hour does not fit");
        config.record_split = "100MB".parse().unwrap();
        assert_eq!(room(&config, 101_000_000_000, 0, rate).len(), 1, "a file of 100 MB fits");
        config.record_format = RecordFormat::Flac;
        assert_eq!(bytes_per_second(config.record_format, STEREO), 288_000);
        assert!(said(&config, 101_000_000_000, 0).contains("at least"));
    }

    #[test]
    fn a_format_that_flac_cannot_hold_is_a_fault() {
        let root = tempfile::tempdir().unwrap();
        let config = RecorderConfig { record_format: RecordFormat::Flac, ..recorder(root.path()) };
        let findings = check(&config, Some(Sound { channels: 9, ..STEREO }), BLOCK);
        assert!(texts(&findings).contains("--record-format wav"), "{findings:?}");
        assert_eq!(findings.iter().filter(|finding| finding.level() == Level::Fault).count(), 1);
    }
}
