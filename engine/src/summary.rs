//! The figures of a histogram that people read first.

use crate::buckets::Buckets;

/// Median, 99th percentile and largest value of a histogram, in the unit of the recorded values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Number of values.
    pub count: u64,
    /// Half of the values are at most this.
    pub p50: u64,
    /// 99 of 100 values are at most this.
    pub p99: u64,
    /// The largest value, exactly.
    pub max: u64,
}

impl Summary {
    /// Summarises counts, each with its bucket, in order. The figures are hdrhistogram's, but without a histogram of
    /// 20 KB: a list of a thousand listeners has six summaries for each.
    pub(crate) fn of(buckets: Buckets, counts: impl Iterator<Item = (usize, u64)>, max: u64) -> Option<Self> {
        let counts: Vec<(usize, u64)> = counts.filter(|(_, count)| *count > 0).collect();
        let total = counts.iter().map(|(_, count)| count).sum::<u64>();
        let at = |quantile: f64| {
            let rank = ((quantile * total as f64).ceil() as u64).max(1);
            let mut passed = 0;
            let reached = counts.iter().find(|(_, count)| {
                passed += count;
                passed >= rank
            });
            // A bucket is told by its highest value, which may exceed the largest one seen.
            reached.map_or(max, |(bucket, _)| buckets.highest_in(*bucket).min(max))
        };
        (total > 0).then(|| Self { count: total, p50: at(0.5), p99: at(0.99), max })
    }
}
