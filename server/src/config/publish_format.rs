//! The form in which sound is published: `exact`, or `opus:128k`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::notation::Notation;
use super::value::ValueError;

/// The bitrate where none is given, which is that of listeners who choose none.
const DEFAULT_BPS: u32 = 96_000;
/// The bitrates that Opus is specified for (RFC 6716, section 2.1.1).
const BOUNDS_BPS: RangeInclusive<u32> = 6_000..=510_000;

/// The form in which sound is published for other servers.
///
/// ```
/// use aircheck_server::config::PublishFormat;
///
/// assert_eq!("exact".parse(), Ok(PublishFormat::Exact));
/// assert_eq!("opus".parse(), Ok(PublishFormat::Opus { bits_per_second: 96_000 }));
/// assert_eq!("opus:128k".parse(), Ok(PublishFormat::Opus { bits_per_second: 128_000 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFormat {
    /// Samples as they are, of 16 bits where the source has no more, and else as floats.
    Exact,
    /// Opus.
    Opus {
        /// About so many bits per second: the nearest bitrate that listeners can have, too.
        bits_per_second: u32,
    },
}

impl fmt::Display for PublishFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Opus { bits_per_second } if bits_per_second.is_multiple_of(1000) => {
                write!(f, "opus:{}k", bits_per_second / 1000)
            }
            Self::Opus { bits_per_second } => write!(f, "opus:{bits_per_second}"),
        }
    }
}

impl Notation for PublishFormat {
    type Value = Self;
    const TAKES: &str = "exact, opus, or opus with a bitrate such as opus:128k";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for PublishFormat {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        match word.split_once(':') {
            None if word == "exact" => Ok(Self::Exact),
            None if word == "opus" => Ok(Self::Opus { bits_per_second: DEFAULT_BPS }),
            Some(("opus", bitrate)) => {
                let bits_per_second = aircheck_api::bitrate::parse(bitrate).ok_or(ValueError::Form)?;
                if BOUNDS_BPS.contains(&bits_per_second) {
                    Ok(Self::Opus { bits_per_second })
                } else {
                    Err(ValueError::Because(format!("must have a bitrate from 6k to 510k, not {bitrate}")))
                }
            }
            _ => Err(ValueError::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_text_reads_back_and_what_is_wrong_is_refused() {
        for word in ["exact", "opus:6k", "opus:96k", "opus:510k", "opus:12345"] {
            assert_eq!(word.parse::<PublishFormat>().unwrap().to_string(), word);
        }
        for word in ["", "s16", "opus:", "opus:k", "opus:96kbit", "exact:96k", "mp3:96k", "opus:5000000k"] {
            assert_eq!(word.parse::<PublishFormat>(), Err(ValueError::Form), "{word}");
        }
        for word in ["opus:5k", "opus:511k", "opus:96"] {
            let error = word.parse::<PublishFormat>().unwrap_err().to_string();
            assert!(error.contains("from 6k to 510k"), "{error}");
        }
    }
}
