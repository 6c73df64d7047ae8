//! What each step costs, as it was measured on a machine of two cores. docs/SCALE.md has the commands.

use std::time::Duration;

/// A block of sound, and a message of NATS.
pub(crate) const BLOCK: Duration = Duration::from_millis(10);
/// Blocks in a page of Opus, by default.
pub(crate) const PAGE_BLOCKS: u64 = 10;
/// Blocks that wait for a listener before it loses some, by default.
pub(crate) const BUFFER_BLOCKS: u64 = 100;
/// Messages that wait for an edge before it loses some.
pub(crate) const SUBSCRIPTION_MESSAGES: u64 = 128;

/// The processor time of each step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// Of an origin, for a block: capture, level and loudness, publishing.
    pub(crate) origin_block: Duration,
    /// Of a NATS server, for a message that comes.
    pub(crate) nats_message: Duration,
    /// Of a NATS server, for each copy of it that goes.
    pub(crate) nats_copy: Duration,
    /// Of an edge, for a block: taking it, level and loudness, encoding.
    pub(crate) edge_block: Duration,
    /// Of an edge, for a page to a listener.
    pub(crate) listener_page: Duration,
    /// Of an edge, for a listener that comes: its connection and request.
    pub(crate) join: Duration,
}

/// By `benches/hop.sh`; `join` by `make bench-handshakes`, with TLS.
pub(crate) const COSTS: Costs = Costs {
    origin_block: Duration::from_micros(270),
    nats_message: Duration::from_micros(90),
    nats_copy: Duration::from_micros(17),
    edge_block: Duration::from_micros(142),
    listener_page: Duration::from_micros(8),
    join: Duration::from_micros(220),
};

/// Bytes of a block between servers: 480 frames of 16 bits in stereo, the head, NATS's own line, and what TCP and IP add.
pub(crate) const MESSAGE_BYTES: u64 = 1920 + 64 + 40 + 2 * 66;
/// Bytes of a page of Opus at 96 kbit/s: its sound, Ogg's head, HTTP's chunk, and what TCP and IP add.
pub(crate) const PAGE_BYTES: u64 = 1200 + 37 + 8 + 66;

/// A machine that is one place of a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) cores: u32,
    /// Bytes a second in one direction.
    pub(crate) link: u64,
}

/// A small one: the two cores that were measured, and a link of 1 Gbit/s.
pub(crate) const MACHINE: Machine = Machine { cores: 2, link: 125_000_000 };
