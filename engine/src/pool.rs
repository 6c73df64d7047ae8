//! Blocks for reuse, so that the dispatcher allocates almost nothing once it runs.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Block, Format, Item, Stamp};

/// Blocks that [`Pool::take`] examines before it makes a new one. A slow consumer holds blocks in runs, so a longer
/// search mostly finds more held ones.
const MAX_TRIES: usize = 4;

/// Blocks that fell off the history. A block that a slow consumer still holds is skipped, never waited for: a pool that
/// waits would make every consumer as slow as the slowest. The consumers' rings bound the number of held blocks.
#[derive(Debug)]
pub(crate) struct Pool {
    format: Format,
    blocks: VecDeque<Arc<Item<Block>>>,
    /// Blocks above this number are freed.
    capacity: usize,
}

impl Pool {
    /// Creates a pool with `capacity` blocks, and never more.
    pub(crate) fn new(format: Format, capacity: usize) -> Self {
        let blocks = (0..capacity).map(|_| silent(format)).collect();
        Self { format, blocks, capacity }
    }

    /// Returns a block that is held nowhere else.
    pub(crate) fn take(&mut self) -> Arc<Item<Block>> {
        for _ in 0..MAX_TRIES.min(self.blocks.len()) {
            let Some(mut block) = self.blocks.pop_front() else { break };
            if Arc::get_mut(&mut block).is_some() {
                return block;
            }
            self.blocks.push_back(block);
        }
        silent(self.format)
    }

    /// Gives a block back, whether consumers still hold it or not.
    pub(crate) fn give(&mut self, block: Arc<Item<Block>>) {
        if self.blocks.len() < self.capacity {
            self.blocks.push_back(block);
        }
    }
}

fn silent(format: Format) -> Arc<Item<Block>> {
    Arc::new(Item { stamp: Stamp::default(), value: Block::silent(format) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pool(capacity: usize) -> Pool {
        Pool::new(Format::new(48_000, 1, Duration::from_millis(1)).unwrap(), capacity)
    }

    #[test]
    fn a_returned_block_is_reused() {
        let mut pool = pool(1);
        let block = pool.take();
        let address = Arc::as_ptr(&block);
        pool.give(block);
        assert_eq!(Arc::as_ptr(&pool.take()), address);
    }

    #[test]
    fn a_held_block_is_skipped() {
        let mut pool = pool(2);
        let (held, free) = (pool.take(), pool.take());
        let free_address = Arc::as_ptr(&free);
        pool.give(Arc::clone(&held));
        pool.give(free);
        assert_eq!(Arc::as_ptr(&pool.take()), free_address);
        assert!(Arc::get_mut(&mut pool.take()).is_some(), "a new one is made instead of waiting for the held one");
    }

    #[test]
    fn the_pool_never_exceeds_its_capacity() {
        let mut pool = pool(2);
        for _ in 0..5 {
            pool.give(silent(pool.format));
        }
        assert_eq!(pool.blocks.len(), 2);
    }
}
