//! The names of a recording's files.

use std::time::{Duration, UNIX_EPOCH};

use aircheck_engine::Timestamp;

/// Returns the name, without its ending, of the segment whose first block is `sequence` and was captured `at`. Names have
/// the time in UTC, so that they do not depend on the machine's time zone, and sort by it.
pub(crate) fn stem(at: Timestamp, sequence: u64) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(at.unix_nanos())).to_string();
    format!("aircheck-{}-{sequence:010}", time.replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_time_and_sort_by_it() {
        let at = Timestamp::from_nanos(1_795_344_422_999_999_999);
        assert_eq!(stem(at, 7), "aircheck-20261122T104702Z-0000000007");
        assert!(stem(at, 9) < stem(at, 10) && stem(at, 10) < stem(at + Duration::from_secs(1), 11));
        assert!(format!("{}.wav", stem(at, 7)) < format!("{}_2.wav", stem(at, 7)));
    }
}
