//! Moments as people write them: `2026-11-27T14:03:00Z`, or `2026-11-27T15:03:00+01:00`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The form of a moment, for messages: `must be {TAKES}`.
pub const TAKES: &str = "a time with its zone, such as 2026-11-27T14:03:00Z or 2026-11-27T15:03:00+01:00";

/// Reads a moment from 1970 on in the form of RFC 3339, in nanoseconds of Unix time. A space stands for the `+` of a zone, because a URL's
/// query has it so.
///
/// ```
/// use aircheck_api::moment::parse;
///
/// assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
/// assert_eq!(parse("1970-01-01T01:00:01+01:00"), Some(1_000_000_000));
/// assert_eq!(parse("1970-01-01T00:30:00-03:30"), Some(4 * 3600 * 1_000_000_000));
/// assert_eq!(parse("2026-11-27T14:03:00"), None, "of which zone?");
/// ```
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let at = text.len().checked_sub("+00:00".len()).filter(|at| text.is_char_boundary(*at))?;
    let (time, zone) = text.split_at(at);
    let sign = match zone.as_bytes()[0] {
        b'+' | b' ' => 1,
        b'-' => -1,
        _ => return unix_nanos(text),
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let number = |digits: &str, least_too_large: i64| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|number| is_number && *number < least_too_large)
    };
    let ahead = sign * (number(hours, 24)? * 60 + number(minutes, 60)?) * 60 * 1_000_000_000;
    // Read as if it were in UTC, and then moved.
    let local = i64::try_from(unix_nanos(&format!("{time}Z"))?).ok()?;
    u64::try_from(local.checked_sub(ahead)?).ok()
}

fn unix_nanos(text: &str) -> Option<u64> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// Writes a moment in UTC, to the second.
///
/// ```
/// assert_eq!(aircheck_api::moment::format(1_500_000_000), "1970-01-01T00:00:01Z");
/// ```
#[must_use]
pub fn format(unix_nanos: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(unix_nanos);
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_moment_is_refused() {
        let texts = [
            "",
            "Z",
            "noon",
            "2026-11-27",
            "2026-11-27T14:03:00",
            "2026-11-27 14:03:00",
            "2026-11-27T14:03:00+1:00",
            "2026-11-27T14:03:00+24:00",
            "2026-11-27T14:03:00+01:60",
            "2026-11-27T14:03:00+aa:00",
            "2026-13-27T14:03:00Z",
            "1969-12-31T23:59:59Z",
            "ü+01:00",
            "ääääää",
            "2026-11-27T14:03:00++1:00",
        ];
        for text in texts {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn zones_are_moments_of_one_time() {
        let utc = parse("2026-11-27T14:03:00.25Z").unwrap();
        for text in ["2026-11-27T15:03:00.25+01:00", "2026-11-27T15:03:00.25 01:00", "2026-11-27T09:33:00.25-04:30"] {
            assert_eq!(parse(text), Some(utc), "{text}");
        }
        assert_eq!(format(utc), "2026-11-27T14:03:00Z");
    }
}
