//! Carriers of blocks from one producer to many consumers: the engine's fan-out and other libraries that can be used for
//! it, each as its own documentation advises.
//!
//! All carry the same: a block of 480 mono samples with its number and the time that it was due. Carriers of handles are
//! given `Arc`s of blocks that are filled again once no consumer holds them, as the dispatcher does; carriers of values
//! are given values. Several waiting blocks are sent as a batch where the library can do that, and a visit takes all
//! that are there.
#![allow(dead_code, reason = "each benchmark is a program of its own and uses a part of this")]

mod async_broadcast;
mod bus;
mod crossbeam;
mod disruptor;
mod engine;
mod handles;
mod one_ring;
mod ringcast;
mod tokio_broadcast;

use std::borrow::Borrow;

use aircheck_engine::{Timestamp, prefetch};

use handles::{Pool, handle_sender};

/// Samples of a block.
pub(crate) const SAMPLES: usize = 480;

/// A block as it is carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) sequence: u64,
    /// When it was to be sent, in nanoseconds since the benchmark's start.
    pub(crate) due_nanos: u64,
    pub(crate) samples: [f32; SAMPLES],
}

impl Default for Block {
    fn default() -> Self {
        Self { sequence: 0, due_nanos: 0, samples: [0.0; SAMPLES] }
    }
}

/// The producing end.
pub(crate) trait BlockSender {
    /// Fills and sends `blocks` blocks, as a batch if that is possible.
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block));
}

/// A consuming end.
pub(crate) trait BlockReceiver: Send {
    /// Reads all blocks that are there. The time is given, so that a visitor of many receivers reads the clock once.
    fn take(&mut self, now: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken;

    /// Asks the processor for what a visit will read, [`SOON`] visits before it. Of these libraries only the engine, with a ring
    /// for each consumer, has such calls. Of a peer, the receiver itself is fetched: what is shared by all receivers is in the cache.
    fn prefetch(&self) {
        prefetch(self);
    }

    /// The same [`NEXT`] visits before it, by what is there now.
    fn prefetch_next(&self) {}
}

/// Visits between a hint and the visit that it is for, as the engine's delivery shards have them.
const SOON: usize = 4;
const NEXT: usize = 2;

/// Visits all receivers in turn, with hints to the processor.
pub(crate) fn visit(receivers: &mut [Box<dyn BlockReceiver>], mut visit: impl FnMut(&mut dyn BlockReceiver)) {
    for index in 0..receivers.len() {
        if let Some(receiver) = receivers.get(index + SOON) {
            receiver.prefetch();
        }
        if let Some(receiver) = receivers.get(index + NEXT) {
            receiver.prefetch_next();
        }
        visit(&mut *receivers[index]);
    }
}

/// The result of one visit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Blocks that were read.
    pub(crate) blocks: u64,
    /// Blocks that were lost before them, by the library's own word.
    pub(crate) lost: u64,
}

/// A producer and its consumers.
pub(crate) type Ends = (Box<dyn BlockSender>, Vec<Box<dyn BlockReceiver>>);

/// A way to carry blocks.
#[derive(Clone, Copy)]
pub(crate) struct Carrier {
    pub(crate) name: &'static str,
    /// What happens when one consumer is slow.
    pub(crate) slow: &'static str,
    pub(crate) open: fn(ring: usize, consumers: usize) -> Ends,
}

/// The engine's name.
pub(crate) const AIRCHECK: &str = "aircheck";
/// Names of peers that others are held against.
pub(crate) const TOKIO: &str = "tokio broadcast";
pub(crate) const DISRUPTOR: &str = "disruptor";

/// The engine and its peers.
pub(crate) const CARRIERS: [Carrier; 7] = [
    Carrier { name: AIRCHECK, slow: "it alone skips to live; told exactly", open: engine::open },
    Carrier { name: TOKIO, slow: "it alone loses the oldest; told how many", open: tokio_broadcast::open },
    Carrier {
        name: "crossbeam, a channel each",
        slow: "it alone loses the newest; the sender may count",
        open: crossbeam::open,
    },
    Carrier { name: DISRUPTOR, slow: "the producer waits for it, and so do all consumers", open: disruptor::open },
    Carrier { name: "ringcast", slow: "it alone loses the oldest; told how many", open: ringcast::open },
    Carrier { name: "bus", slow: "the producer waits for it, and so do all consumers", open: bus::open },
    Carrier {
        name: "async-broadcast",
        slow: "all lose the oldest that they have not read; told how many",
        open: async_broadcast::open,
    },
];

/// One bare ring for one consumer, which no carrier can beat.
pub(crate) const FLOOR: Carrier = Carrier { name: "one ring, one consumer", slow: "", open: one_ring::open };

fn boxed<R: BlockReceiver + 'static>(receivers: impl IntoIterator<Item = R>) -> Vec<Box<dyn BlockReceiver>> {
    receivers.into_iter().map(|receiver| Box::new(receiver) as Box<dyn BlockReceiver>).collect()
}

/// The consuming end of a library that gives one block at a time. `F` fails with the number of blocks that were lost, or
/// with `None` where no block is there.
struct OneByOne<F>(F);

impl<B: Borrow<Block>, F: FnMut() -> Result<B, Option<u64>> + Send> BlockReceiver for OneByOne<F> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        let mut taken = Taken::default();
        loop {
            match (self.0)() {
                Ok(block) => {
                    read(block.borrow());
                    taken.blocks += 1;
                }
                Err(Some(blocks)) => taken.lost += blocks,
                Err(None) => return taken,
            }
        }
    }
}

/// Makes a receiver of `receive`, which gives one block at a time: see [`OneByOne`].
fn receiver<B: Borrow<Block> + 'static>(
    receive: impl FnMut() -> Result<B, Option<u64>> + Send + 'static,
) -> Box<dyn BlockReceiver> {
    Box::new(OneByOne(receive))
}
