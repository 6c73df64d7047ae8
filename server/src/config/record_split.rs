//! The length or size of a recording's files: `1h`, or `500MB`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use aircheck_api::span::{self, Short};

use super::notation::Notation;
use super::value::ValueError;

/// Bounds of a length. Headers are brought up to date once a second, so a shorter file would be closed before that. A day
/// is more than a WAV file holds at any usual rate.
const SPAN_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// Bounds of a size: a few seconds of stereo, and the 32 bits of a size in a WAV file.
const BYTES_BOUNDS: RangeInclusive<u64> = 1_000_000..=1 << 32;
/// Units of a size; one is shown in the first that it is a whole number of.
const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

/// The point at which a recording goes on in a new file.
///
/// ```
/// use aircheck_server::config::RecordSplit;
/// use std::time::Duration;
///
/// assert_eq!("90m".parse(), Ok(RecordSplit::Span(Duration::from_secs(5400))));
/// assert_eq!("500MB".parse(), Ok(RecordSplit::Bytes(500_000_000)));
/// assert_eq!(RecordSplit::Bytes(1 << 30).to_string(), "1GiB");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordSplit {
    /// After this length of sound, 1 s to 24 h, but before the file is larger than 4 GiB.
    Span(Duration),
    /// Before the file is larger than this many bytes: 1 MB to 4 GiB.
    Bytes(u64),
}

impl fmt::Display for RecordSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Span(span) if span.subsec_nanos() == 0 && span.as_secs().is_multiple_of(3600) => {
                write!(f, "{}h", span.as_secs() / 3600)
            }
            Self::Span(span) => Short(span).fmt(f),
            Self::Bytes(bytes) => format_bytes(bytes, f),
        }
    }
}

impl Notation for RecordSplit {
    type Value = Self;
    const TAKES: &str = "a length such as \"1h\" or a size such as \"500MB\"";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for RecordSplit {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        let (split, fits, bounds) = match bytes(word) {
            Some(bytes) => (Self::Bytes(bytes), BYTES_BOUNDS.contains(&bytes), "1MB to 4GiB"),
            // The parser of durations takes `500M` for 500 months; the user means megabytes.
            None if word.ends_with('M') => return Err(ValueError::Form),
            None => {
                let span = span::parse(word).ok_or(ValueError::Form)?;
                (Self::Span(span), SPAN_BOUNDS.contains(&span), "1s to 24h")
            }
        };
        if fits { Ok(split) } else { Err(ValueError::Because(format!("must be from {bounds}, not {split}"))) }
    }
}

/// Writes a size in the first of [`UNITS`] that it is a whole number of.
pub(super) fn format_bytes(bytes: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match UNITS.into_iter().find(|(_, unit_bytes)| bytes > 0 && bytes.is_multiple_of(*unit_bytes)) {
        Some((unit, unit_bytes)) => write!(f, "{}{unit}", bytes / unit_bytes),
        None => write!(f, "{}kB", bytes as f64 / 1e3),
    }
}

/// Reads a whole number with a unit of [`UNITS`], in upper or lower case.
pub(super) fn bytes(word: &str) -> Option<u64> {
    let word = word.to_ascii_lowercase();
    let (number, unit_bytes) =
        UNITS.into_iter().find_map(|(unit, bytes)| Some((word.strip_suffix(&unit.to_ascii_lowercase())?, bytes)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(unit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_text_is_short_and_reads_back() {
        for word in ["1s", "1500ms", "90m", "1h", "24h", "1MB", "1500kB", "500MB", "500MiB", "1025KiB", "4GB", "4GiB"] {
            let split: RecordSplit = word.parse().unwrap();
            assert_eq!(split.to_string(), word);
        }
        assert_eq!("2 gib".parse(), Ok(RecordSplit::Bytes(2 << 30)));
        assert_eq!("1h 30m".parse::<RecordSplit>().unwrap().to_string(), "90m");
    }
}
