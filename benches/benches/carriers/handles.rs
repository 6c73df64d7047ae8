//! Carriers of handles, and the blocks behind the handles, which are filled again as the dispatcher's are.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Block, BlockSender};

/// A queue of handles, of which the oldest is the likeliest to be free.
pub(super) struct Pool<T> {
    blocks: VecDeque<Arc<T>>,
}

impl<T: Default> Pool<T> {
    /// Makes a pool for rings of `ring` blocks: four times as many, because blocks are also being read, and slots keep
    /// a block until the next lap.
    pub(super) fn new(ring: usize) -> Self {
        Self { blocks: (0..4 * ring).map(|_| Arc::default()).collect() }
    }

    /// Fills a block that no consumer holds. Where a slow consumer still holds the oldest one, a new one takes its place.
    pub(super) fn fill(&mut self, fill: impl FnOnce(&mut T)) -> Arc<T> {
        let mut block = self.blocks.pop_front().unwrap_or_default();
        if Arc::get_mut(&mut block).is_none() {
            block = Arc::default();
        }
        if let Some(block) = Arc::get_mut(&mut block) {
            fill(block);
        }
        self.blocks.push_back(Arc::clone(&block));
        block
    }
}

/// The sender of a library that carries handles, with the pool that they come from.
struct HandleSender<F> {
    send: F,
    pool: Pool<Block>,
}

impl<F: FnMut(Arc<Block>)> BlockSender for HandleSender<F> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            (self.send)(self.pool.fill(&mut *fill));
        }
    }
}

/// Makes a sender of `send`, which gives a handle to every consumer.
pub(super) fn handle_sender(ring: usize, send: impl FnMut(Arc<Block>) + 'static) -> Box<dyn BlockSender> {
    Box::new(HandleSender { send, pool: Pool::new(ring) })
}
