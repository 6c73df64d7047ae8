//! The length of a full segment.

use aircheck_engine::Format;

use super::segment::{HEADER_BYTES, MAX_DATA_BYTES, frame_bytes};
use crate::config::RecordSplit;

/// Returns the blocks of a full segment: whole ones, so that each file begins with a sequence number. A length in time is
/// rounded up and a size down. Both are limited to the capacity of a WAV file, which is 44 s of the widest format.
pub(crate) fn segment_blocks(split: RecordSplit, format: Format) -> u64 {
    let max_blocks = MAX_DATA_BYTES / block_bytes(format);
    match split {
        RecordSplit::Span(span) => format.blocks_in(span).min(max_blocks),
        RecordSplit::Bytes(bytes) => (bytes.saturating_sub(HEADER_BYTES) / block_bytes(format)).clamp(1, max_blocks),
    }
}

/// Returns the bytes of a full block in a file.
pub(crate) fn block_bytes(format: Format) -> u64 {
    u64::from(format.block_frames()) * frame_bytes(format)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_is_no_larger_than_the_setting_and_than_a_wav_can_be() {
        let span = Duration::from_millis(10);
        for (rate_hz, channels) in [(8000, 1), (48_000, 2), (768_000, 32)] {
            let format = Format::new(rate_hz, channels, span).unwrap();
            for (split, most) in [("24h", 1 << 32), ("4GiB", 1 << 32), ("1MB", 1_000_000), ("1h", 1 << 32)] {
                let blocks = segment_blocks(split.parse().unwrap(), format);
                let bytes = |blocks| HEADER_BYTES + blocks * block_bytes(format);
                assert!(blocks == 1 || bytes(blocks) <= most, "{split} of {rate_hz} Hz and {channels} ch: {blocks}");
                assert!(
                    bytes(blocks) - 8 <= u64::from(u32::MAX),
                    "{split} of {rate_hz} Hz and {channels} ch: {blocks}"
                );
                let is_long = split.ends_with('h') && format.span(format.position(blocks)) >= Duration::from_secs(3600);
                assert!(is_long || bytes(blocks + 1) > most, "{split} of {rate_hz} Hz and {channels} ch: {blocks}");
            }
        }
        let format = Format::new(48_000, 2, span).unwrap();
        assert_eq!(segment_blocks("1h".parse().unwrap(), format), 360_000);
    }
}
