//! The histograms that all listeners of a mount record into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aircheck_api::Rendition;
use aircheck_engine::{Precision, SharedHistogram};

/// Lags and latencies are recorded up to this many microseconds: four and a half minutes.
pub const MAX_MICROS: u64 = 1 << 28;
/// Gaps are recorded up to this many blocks: over two hours of 10 ms.
pub(super) const MAX_GAP_BLOCKS: u64 = 1 << 20;

/// The histograms of the listeners of one mount.
#[derive(Debug)]
pub struct MountHistograms {
    /// By rendition.
    pub renditions: BTreeMap<Rendition, Arc<RenditionHistograms>>,
    /// Latencies by stage, of all renditions.
    pub stages: Arc<StageHistograms>,
}

/// The histograms of the listeners of one rendition.
#[derive(Debug)]
pub struct RenditionHistograms {
    /// The lag of its listeners at each block that was due, without the requested part.
    pub lag_micros: SharedHistogram,
    /// Blocks missing in a row.
    pub gap_blocks: SharedHistogram,
    /// Latencies by stage, which all renditions share.
    pub stages: Arc<StageHistograms>,
}

/// The histograms of latencies by stage, in microseconds, over all listeners.
#[derive(Debug)]
pub struct StageHistograms {
    /// From the dispatch of a packet's first block to the listener's connection; once for packets that are written together.
    pub queue_micros: SharedHistogram,
    /// From there until the listener's machine has acknowledged it: at most one value for each look at a connection.
    pub socket_micros: SharedHistogram,
    /// From the capture of a packet's last block until the listener's program is proven to have read it: one value for each proof.
    pub read_micros: SharedHistogram,
    /// From the capture of a block until a player reports that it is heard.
    pub ear_micros: SharedHistogram,
}

impl RenditionHistograms {
    /// Makes empty histograms of a rendition whose listeners record latencies into `stages`.
    #[must_use]
    pub fn new(stages: Arc<StageHistograms>) -> Self {
        Self {
            lag_micros: SharedHistogram::new(MAX_MICROS, Precision::TwoDigits),
            gap_blocks: SharedHistogram::new(MAX_GAP_BLOCKS, Precision::TwoDigits),
            stages,
        }
    }
}

impl Default for StageHistograms {
    fn default() -> Self {
        let micros = || SharedHistogram::new(MAX_MICROS, Precision::TwoDigits);
        Self { queue_micros: micros(), socket_micros: micros(), read_micros: micros(), ear_micros: micros() }
    }
}

impl Default for MountHistograms {
    fn default() -> Self {
        let stages = Arc::<StageHistograms>::default();
        let renditions =
            Rendition::ALL.map(|rendition| (rendition, Arc::new(RenditionHistograms::new(Arc::clone(&stages))))).into();
        Self { renditions, stages }
    }
}

/// Returns a span in whole microseconds.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
