//! What is heard while the source is lost, as users write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::notation::Notation;
use super::source::SourceSpec;
use super::value::ValueError;

/// The policy for a lost source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPolicy {
    /// Silence until the source is back.
    Silence,
    /// The fallback until the source is back.
    Fallback,
    /// The end of every stream.
    End,
}

impl fmt::Display for LossPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silence => "silence",
            Self::Fallback => "fallback",
            Self::End => "end",
        })
    }
}

impl FromStr for LossPolicy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::read(text)
    }
}

impl Notation for LossPolicy {
    type Value = Self;
    const TAKES: &str = "silence, fallback or end";

    fn read(text: &str) -> Result<Self, ValueError> {
        match text {
            "silence" => Ok(Self::Silence),
            "fallback" => Ok(Self::Fallback),
            "end" => Ok(Self::End),
            _ => Err(ValueError::Form),
        }
    }
}

/// The sound that is heard instead of a lost source.
#[derive(Clone, Debug, PartialEq)]
pub enum FallbackSpec {
    /// A WAV file, again and again.
    Wav(PathBuf),
    /// A test tone of this many Hz.
    Tone(f64),
    /// The built-in demo sound.
    Demo,
}

impl fmt::Display for FallbackSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wav(path) => write!(f, "wav:{}", path.display()),
            Self::Tone(hz) => write!(f, "tone:{hz}"),
            Self::Demo => f.write_str("demo"),
        }
    }
}

impl FromStr for FallbackSpec {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::read(text)
    }
}

impl Notation for FallbackSpec {
    type Value = Self;
    const TAKES: &str = "wav:PATH, tone:HZ or demo";

    fn read(text: &str) -> Result<Self, ValueError> {
        if text == "demo" {
            return Ok(Self::Demo);
        }
        match text.parse::<SourceSpec>()? {
            SourceSpec::Wav(path) => Ok(Self::Wav(path)),
            SourceSpec::Tone(hz) => Ok(Self::Tone(hz)),
            _ => Err(ValueError::Form),
        }
    }
}
