//! Blocks to be filled again, so that the dispatcher allocates almost nothing once it runs.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Block, Format, Item, Stamp};

/// How many handed-back blocks [`Pool::take`] looks at before it makes a new one. A slow consumer holds blocks in
/// runs, so a longer search mostly finds more of the same.
const MAX_TRIES: usize = 4;

/// Blocks that fell off the history. One that a slow consumer still holds is passed over, never waited for: a pool
/// that waits would make every consumer as slow as the slowest. What is held at most is bounded by the consumers'
/// rings.
#[derive(Debug)]
pub(crate) struct Pool {
    format: Format,
    blocks: VecDeque<Arc<Item<Block>>>,
    /// More than this many are freed: only blocks that consumers held back beyond the history come on top.
    capacity: usize,
}

impl Pool {
    /// A pool with `capacity` blocks ready, and never more.
    pub(crate) fn new(format: Format, capacity: usize) -> Self {
        let blocks = (0..capacity).map(|_| silent(format)).collect();
        Self { format, blocks, capacity }
    }

    /// A block that nobody else holds.
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

    /// Hands a block back, held by others or not.
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
    fn a_returned_block_is_filled_again() {
        let mut pool = pool(1);
        let block = pool.take();
        let address = Arc::as_ptr(&block);
        pool.give(block);
        assert_eq!(Arc::as_ptr(&pool.take()), address);
    }

    #[test]
    fn a_held_block_is_passed_over() {
        let mut pool = pool(2);
        let (held, free) = (pool.take(), pool.take());
        let free_address = Arc::as_ptr(&free);
        pool.give(Arc::clone(&held));
        pool.give(free);
        assert_eq!(Arc::as_ptr(&pool.take()), free_address);
        assert!(Arc::get_mut(&mut pool.take()).is_some(), "a new one is made rather than waiting for the held one");
    }

    #[test]
    fn it_never_keeps_more_than_its_bound() {
        let mut pool = pool(2);
        for _ in 0..5 {
            pool.give(silent(pool.format));
        }
        assert_eq!(pool.blocks.len(), 2);
    }
}
