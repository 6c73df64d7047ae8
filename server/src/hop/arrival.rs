//! A block that has come over the hop, without its samples.

use aircheck_engine::{Origin, Timestamp};

use super::account::Outcome;

/// What is known of a block that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The run of the publisher's mount.
    pub epoch: u64,
    /// Number of the block in the publisher's stream.
    pub sequence: u64,
    /// When its first frame was captured, on this server's clock.
    pub captured_at: Timestamp,
    /// Where the publisher had the sound from.
    pub origin: Origin,
    /// Blocks directly before it that were sent and are lost; `u64::MAX` if all missing ones are.
    pub lost_on_hop: u64,
    /// The way by which its message has come.
    pub outcome: Outcome,
    /// Whether it is the first block of its message, for which the message is counted.
    pub is_first: bool,
}
