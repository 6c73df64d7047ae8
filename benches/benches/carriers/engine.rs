//! The engine's fan-out: a ring for each consumer.

use aircheck_engine::{Consumer, Item, Publisher, PublisherOptions, Stamp, SubscribeOptions, Timestamp};

use super::{Block, BlockReceiver, BlockSender, Ends, Pool, Taken, boxed};

struct Engine {
    publisher: Publisher<Block>,
    pool: Pool<Carried>,
}

type Carried = Item<Block>;

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (publisher, hub) = Publisher::new(PublisherOptions::default());
    let options = SubscribeOptions { buffer: ring, ..SubscribeOptions::default() };
    let receivers = (0..consumers).map(|_| hub.subscribe(options).expect("a running fan-out"));
    let receivers = boxed(receivers.collect::<Vec<Consumer<Block>>>());
    (Box::new(Engine { publisher, pool: Pool::new(ring) }), receivers)
}

impl BlockSender for Engine {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        let now = Timestamp::now();
        for _ in 0..blocks {
            let stamp =
                Stamp { sequence: self.publisher.next_sequence(), captured_at: now, dispatched_at: now, preceding: 0 };
            self.publisher.push_item(self.pool.fill(|item| {
                item.stamp = stamp;
                fill(&mut item.value);
            }));
        }
        self.publisher.flush();
    }
}

impl BlockReceiver for Consumer<Block> {
    fn take(&mut self, now: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        let mut taken = Taken::default();
        while let Ok(batch) = self.try_recv_batch(now, usize::MAX) {
            taken.blocks += batch.items() as u64;
            taken.lost += batch.gap.map_or(0, |gap| gap.items);
            batch.iter().for_each(|item| read(&item.value));
        }
        taken
    }

    fn prefetch(&self) {
        self.prefetch();
    }

    fn prefetch_next(&self) {
        self.prefetch_next();
    }
}
