//! The size of a segment, as the far kernel estimates it (`tcp_measure_rcv_mss` of Linux). Whenever the estimate grows, that kernel counts
//! anew how much memory a byte costs, so that its window may open although nothing was read.

/// The estimate before any segment came (`TCP_MSS_DEFAULT`). Shorter segments leave the estimate as it is.
const DEFAULT_BYTES: u16 = 536;

/// The far kernel's estimate of the size of a segment.
#[derive(Debug)]
pub(super) struct SegmentSize {
    estimate: u16,
    /// The size of the last segment if it was shorter, else zero.
    shorter: u16,
    /// Where the last segment ended that was longer; the low bits of that.
    grown_at: u32,
}

impl Default for SegmentSize {
    fn default() -> Self {
        Self { estimate: DEFAULT_BYTES, shorter: 0, grown_at: 0 }
    }
}

impl SegmentSize {
    /// Notes a segment of `bytes` bytes up to `end`.
    pub(super) fn sent(&mut self, end: u64, bytes: u64) {
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        let before = std::mem::take(&mut self.shorter);
        if bytes > self.estimate {
            (self.estimate, self.grown_at) = (bytes, end as u32);
        } else if (DEFAULT_BYTES..self.estimate).contains(&bytes) {
            self.shorter = bytes;
            // Two equal ones in a row are taken for the new size.
            if bytes == before {
                self.estimate = bytes;
            }
        }
    }

    /// Returns whether one of the segments of the connection's bytes in this range made the estimate grow.
    pub(super) fn has_grown(&self, after: u64, up_to: u64) -> bool {
        u64::from(self.grown_at.wrapping_sub(after as u32).wrapping_sub(1)) < up_to - after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_grows_with_a_longer_segment_and_shrinks_after_two_equal_ones() {
        let mut size = SegmentSize::default();
        let mut end = 0;
        let mut grows = |bytes| {
            let after = end;
            end += bytes;
            size.sent(end, bytes);
            size.has_grown(after, end)
        };
        let sent = [200, 536, 964, 1158, 964, 1158, 1161, 964, 1155, 964, 964, 1152, 300, 300, 1000];
        let grown: Vec<_> = sent.into_iter().filter(|bytes| grows(*bytes)).collect();
        assert_eq!(grown, [964, 1158, 1161, 1152], "after two of 964 bytes, a longer one counts again");
    }
}
