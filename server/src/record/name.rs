//! What the files of a recording are called.

use std::time::{Duration, UNIX_EPOCH};

use aircheck_engine::Timestamp;

/// The name, without its ending, of a take whose first frame was captured `at` and belongs to the block `sequence`: in
/// UTC, so that it does not depend on where the machine stands, and sorted by time.
pub(crate) fn stem(at: Timestamp, sequence: u64) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(at.unix_nanos())).to_string();
    format!("aircheck-{}-{sequence:010}", time.replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_and_sort_by_that() {
        let at = Timestamp::from_nanos(1_795_344_422_999_999_999);
        assert_eq!(stem(at, 7), "aircheck-20261122T104702Z-0000000007");
        assert!(stem(at, 9) < stem(at, 10) && stem(at, 10) < stem(at + Duration::from_secs(1), 11));
        assert!(format!("{}.wav", stem(at, 7)) < format!("{}_2.wav", stem(at, 7)));
    }
}
