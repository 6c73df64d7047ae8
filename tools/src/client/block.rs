//! What a stream is made of, however it came: blocks, and gaps where blocks are missing.

use serde::Deserialize;

/// A block as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// Position of its first frame.
    pub(crate) position: u64,
    /// When its first frame was captured, in Unix seconds by the server's clock.
    pub(crate) captured_at: f64,
    /// Whole frames, at least one.
    pub(crate) frames: u64,
    /// Interleaved; JSON can't carry what is not a number, so a `null` is NaN.
    pub(crate) samples: Vec<f32>,
}

/// A loss, as the server announces it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Gap {
    /// The first sequence number that is missing.
    pub(crate) from: u64,
    /// How many are missing in a row.
    pub(crate) blocks: u64,
    /// Why, in one word.
    pub(crate) reason: String,
}

/// What a line or a message says. A gap comes before the block that follows it; what is of a kind not known here has
/// neither.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    /// A loss.
    pub(crate) gap: Option<Gap>,
    /// A block.
    pub(crate) block: Option<Block>,
}
