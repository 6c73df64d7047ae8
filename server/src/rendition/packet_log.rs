//! Where the packets of an encoder end: from a position in their bytes to a sequence number.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aircheck_engine::{Stamp, Timestamp};

use crate::rendition::packet::{Ends, Packet, RecordOverhead, Wire};

/// Packets that are remembered: 40 s of 10 ms blocks, in 160 KB. A listener that stands still for longer remembers its own
/// position.
const MAX_PACKETS: usize = 4096;

/// The sequence numbers and lengths of an encoder's last packets. One for all its listeners.
#[derive(Debug, Default)]
pub struct PacketLog {
    entries: Mutex<VecDeque<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// One past the last sequence number of the packet.
    next: u64,
    captured_at: Timestamp,
    ends: Ends,
}

impl PacketLog {
    /// Makes an empty log.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a packet. Only the encoder does so, in the order of their numbers.
    pub fn push(&self, stamp: Stamp, packet: &Packet) {
        let mut entries = self.entries();
        if entries.len() >= MAX_PACKETS {
            entries.pop_front();
        }
        entries.push_back(Entry { next: stamp.next(), captured_at: stamp.captured_at, ends: packet.ends() });
    }

    /// Returns one past the sequence number of the last packet that ends at or before `position`, a position in the bytes
    /// of all packets as `wire` frames them, with the `overhead` of their records; `None` if that packet has left the log.
    #[must_use]
    pub fn next_at(&self, position: u64, wire: Wire, overhead: RecordOverhead) -> Option<u64> {
        let entries = self.entries();
        let ended = entries.partition_point(|entry| entry.ends.sealed(wire, overhead) <= position);
        entries.get(ended.checked_sub(1)?).map(|entry| entry.next)
    }

    /// Returns when the block with this sequence number was captured, if it is the last one of a packet in the log.
    #[must_use]
    pub fn captured_at(&self, sequence: u64) -> Option<Timestamp> {
        let entries = self.entries();
        let index = entries.binary_search_by_key(&(sequence + 1), |entry| entry.next).ok()?;
        Some(entries[index].captured_at)
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
