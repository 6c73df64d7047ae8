//! The engine's fan-out: a ring for each consumer.

use aircheck_engine::{Consumer, FanOut, FanOutOptions, Item, Stamp, SubscribeOptions, Timestamp};

use super::{Block, BlockReceiver, BlockSender, Ends, Pool, Taken, boxed};

struct Engine {
    fan_out: FanOut<Block>,
    pool: Pool<Carried>,
}

type Carried = Item<Block>;

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (fan_out, hub) = FanOut::new(FanOutOptions::default());
    let options = SubscribeOptions { buffer: ring, ..SubscribeOptions::default() };
    let receivers = (0..consumers).map(|_| hub.subscribe(options).expect("a running fan-out"));
    let receivers = boxed(receivers.collect::<Vec<Consumer<Block>>>());
    (Box::new(Engine { fan_out, pool: Pool::new(ring) }), receivers)
}

impl BlockSender for Engine {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        let now = Timestamp::now();
        for _ in 0..blocks {
            let stamp =
                Stamp { sequence: self.fan_out.next_sequence(), captured_at: now, dispatched_at: now, preceding: 0 };
            self.fan_out.push_item(self.pool.fill(|item| {
                item.stamp = stamp;
                fill(&mut item.value);
            }));
        }
        self.fan_out.flush();
    }
}

impl BlockReceiver for Consumer<Block> {
    fn take(&mut self, now: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        let mut taken = Taken::default();
        while let Ok(run) = self.try_recv_run(now, usize::MAX) {
            taken.blocks += run.items() as u64;
            taken.lost += run.gap.map_or(0, |gap| gap.blocks);
            run.iter().for_each(|item| read(&item.value));
        }
        taken
    }
}
