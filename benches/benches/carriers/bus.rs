//! bus: one shared ring of handles.

use std::sync::Arc;

use ::bus::{Bus, BusReader};
use aircheck_engine::Timestamp;

use super::{Block, BlockReceiver, BlockSender, Ends, HandleSender, Pool, Taken, boxed, take_until_empty};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let mut bus = Bus::new(ring);
    let receivers: Vec<BusReader<Arc<Block>>> = (0..consumers).map(|_| bus.add_rx()).collect();
    (Box::new(HandleSender { sender: bus, pool: Pool::new(ring) }), boxed(receivers))
}

impl BlockSender for HandleSender<Bus<Arc<Block>>> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            let block = self.pool.fill(&mut *fill);
            self.sender.broadcast(block);
        }
    }
}

impl BlockReceiver for BusReader<Arc<Block>> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        take_until_empty(|| self.try_recv(), read, |_| None)
    }
}
