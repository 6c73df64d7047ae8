//! What is kept of a recording, the room that it leaves on the disk, and the format of its files.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aircheck_api::span::{self, Short};

use super::notation::Notation;
use super::record_split::{bytes, format_bytes};
use super::value::ValueError;

/// Shortest age at which a file is deleted: the shortest length of a file.
const MIN_AGE: Duration = Duration::from_secs(1);
/// Smallest size of a recording: the smallest size of a file.
const MIN_BYTES: u64 = 1_000_000;
const DAY: u64 = 24 * 3600;

/// A bound of a recording: the oldest files are deleted that are beyond it.
///
/// ```
/// use aircheck_server::config::RecordKeep;
/// use std::time::Duration;
///
/// assert_eq!("30d".parse(), Ok(RecordKeep::Age(Duration::from_secs(30 * 24 * 3600))));
/// assert_eq!("500GB".parse(), Ok(RecordKeep::Bytes(500_000_000_000)));
/// assert!("0d".parse::<RecordKeep>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKeep {
    /// Files whose last sound is younger than this, at least 1 s.
    Age(Duration),
    /// The newest files of at most so many bytes in all, at least 1 MB.
    Bytes(u64),
}

impl fmt::Display for RecordKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Age(age) if age.subsec_nanos() == 0 && age.as_secs().is_multiple_of(DAY) => {
                write!(f, "{}d", age.as_secs() / DAY)
            }
            Self::Age(age) => Short(age).fmt(f),
            Self::Bytes(bytes) => format_bytes(bytes, f),
        }
    }
}

impl FromStr for RecordKeep {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        let (keep, fits) = match bytes(word) {
            Some(bytes) => (Self::Bytes(bytes), bytes >= MIN_BYTES),
            // The parser of durations takes `500M` for 500 months; the user means megabytes.
            None if word.ends_with('M') => return Err(ValueError::Form),
            None => {
                let age = span::parse(word).ok_or(ValueError::Form)?;
                (Self::Age(age), age >= MIN_AGE)
            }
        };
        if fits {
            return Ok(keep);
        }
        let advice = "to record nothing, leave --record out; to keep all, leave --record-keep out";
        Err(ValueError::Because(format!("must be at least 1s or 1MB, not {keep} ({advice})")))
    }
}

impl Notation for RecordKeep {
    type Value = Self;
    const TAKES: &str = "an age such as \"30d\" or a size such as \"500GB\"";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// A number of bytes, with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_bytes(self.0, f)
    }
}

impl Notation for Size {
    type Value = Self;
    const TAKES: &str = "a size such as \"1GB\"";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        bytes(text).filter(|bytes| *bytes > 0).map(Self).ok_or(ValueError::Form)
    }
}

/// The format of a recording's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// Floats as the source gave them.
    #[default]
    Wav,
    /// Integers of 16 or 24 bits, without loss for sources of so many bits, in half of the room or less.
    Flac,
}

impl RecordFormat {
    /// Returns its name, which is the ending of its files, too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Flac => "flac",
        }
    }
}

impl Notation for RecordFormat {
    type Value = Self;
    const TAKES: &str = "wav or flac";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for RecordFormat {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        [Self::Wav, Self::Flac].into_iter().find(|format| format.name() == text).ok_or(ValueError::Form)
    }
}
