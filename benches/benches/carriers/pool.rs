//! Blocks that are filled again once no consumer holds them, as the dispatcher's are.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Block;

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
pub(super) struct HandleSender<S> {
    pub(super) sender: S,
    pub(super) pool: Pool<Block>,
}
