//! The options of a consumer: its policy, its limit of lag and its first item.

use crate::OverflowPolicy;

/// The first item of a consumer. A start inside an item made from several blocks starts with the whole item: rather a
/// block twice than one lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The next item.
    #[default]
    Live,
    /// The item this many blocks back, or the oldest in the history. This lag is requested: no policy acts on it.
    Back(u64),
    /// The item with this sequence number. Blocks that have left the history are lost and counted. A number in the
    /// future means the next item.
    From(u64),
}

/// Options of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Policy for a consumer that does not keep up.
    pub overflow: OverflowPolicy,
    /// Blocks that the consumer may be behind before the policy acts; 0 means 1. Where items stand for several, the policy
    /// acts at most one item later. A ring has 16,777,216 blocks at most, with what the start in the past needs.
    pub buffer: usize,
    /// The first item.
    pub start: Start,
    /// Whether [`Stats::lag_items`](crate::Stats::lag_items) and [`Stats::queue_micros`](crate::Stats::queue_micros)
    /// are filled. Without them, a consumer takes less memory, and less time for each item. Useful where lags and waits
    /// are counted at a later stage.
    pub histograms: bool,
}

impl Default for SubscribeOptions {
    /// Live, skip-to-live, 100 blocks (a second of 10 ms each), with histograms.
    fn default() -> Self {
        Self { overflow: OverflowPolicy::default(), buffer: 100, start: Start::Live, histograms: true }
    }
}

/// The reason why a subscription was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The fan-out has ended.
    #[error("the stream has ended")]
    Ended,
    /// [`OverflowPolicy::Block`] on a live fan-out.
    #[error("overflow policy `block` is refused: the source is live and cannot wait (use it from file to file)")]
    BlockOnLive,
    /// The buffer and the start in the past need a longer ring than a consumer may have.
    #[error("a ring of {blocks} blocks is refused: more than {limit} (choose a shorter buffer, or a later start)")]
    TooLong {
        /// Blocks of the ring.
        blocks: usize,
        /// The most blocks of a ring.
        limit: usize,
    },
}
