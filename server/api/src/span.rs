//! Spans as people write them: `10ms`, `1s`, `2m`.

use std::fmt;
use std::time::Duration;

/// The form of a span, for messages: `must be {TAKES}`.
pub const TAKES: &str = "a duration such as \"10ms\"";

/// Reads a span of up to 584 years, which are the nanoseconds of 64 bits: a number and its unit, or several in a row.
///
/// ```
/// use aircheck_api::span::parse;
/// use std::time::Duration;
///
/// assert_eq!(parse("10ms"), Some(Duration::from_millis(10)));
/// assert_eq!(parse("1m 30s"), Some(Duration::from_secs(90)));
/// assert_eq!(parse("10"), None, "ten of what?");
/// ```
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok().filter(|span| u64::try_from(span.as_nanos()).is_ok())
}

/// Shows a span in the shortest form that loses nothing: in days, minutes, seconds or less, whichever is the largest that it is a
/// whole number of. [`parse`] reads it back.
///
/// ```
/// use aircheck_api::span::Short;
/// use std::time::Duration;
///
/// assert_eq!(Short(Duration::from_millis(10)).to_string(), "10ms");
/// assert_eq!(Short(Duration::from_millis(1500)).to_string(), "1500ms");
/// assert_eq!(Short(Duration::from_secs(120)).to_string(), "2m");
/// assert_eq!(Short(Duration::from_secs(86_400)).to_string(), "1d");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let units = [
            ("d", 86_400_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1000),
            ("ns", 1),
        ];
        match units.into_iter().find(|(_, unit_nanos)| nanos.is_multiple_of(*unit_nanos)) {
            Some((unit, unit_nanos)) => write!(f, "{}{unit}", nanos / unit_nanos),
            None => Ok(()), // Every number is a whole number of nanoseconds.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_and_reads_back() {
        let shown = [
            (0, "0s"),
            (1, "1ns"),
            (500_000, "500us"),
            (10_000_000, "10ms"),
            (1_500_000_000, "1500ms"),
            (60_000_000_000, "1m"),
            (90_000_000_000, "90s"),
            (3_600_000_000_000, "60m"),
            (129_600_000_000_000, "2160m"),
            (259_200_000_000_000, "3d"),
        ];
        for (nanos, text) in shown {
            let span = Duration::from_nanos(nanos);
            assert_eq!(Short(span).to_string(), text);
            assert_eq!(parse(text), Some(span));
        }
    }

    #[test]
    fn what_has_no_unit_or_no_number_is_no_span() {
        for text in ["", "10", "ms", "-1s", "1 fortnight", "99999999999999999999s", "585y"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
