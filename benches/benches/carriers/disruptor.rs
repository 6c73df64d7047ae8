//! disruptor: one shared ring of values, filled in place.

use ::disruptor::{BusySpinWithSpinLoopHint, EventPoller, Producer as _, SingleProducerBarrier, build_single_producer};
use aircheck_engine::Timestamp;

use super::{Block, BlockReceiver, BlockSender, Ends, Taken, boxed};

/// Publishes so many blocks. A closure, because the type of the producer depends on the number of consumers.
type Publish = dyn FnMut(usize, &mut dyn FnMut(&mut Block));

struct Disruptor(Box<Publish>);

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let builder = build_single_producer(ring, Block::default, BusySpinWithSpinLoopHint);
    let (first, builder) = builder.new_event_poller();
    if consumers == 1 {
        let mut producer = builder.build();
        let publish = move |blocks, fill: &mut dyn FnMut(&mut Block)| {
            producer.batch_publish(blocks, |slots| slots.for_each(fill))
        };
        return (Box::new(Disruptor(Box::new(publish))), boxed([first]));
    }
    let (second, mut builder) = builder.new_event_poller();
    let mut pollers = vec![first, second];
    while pollers.len() < consumers {
        let (poller, next) = builder.new_event_poller();
        pollers.push(poller);
        builder = next;
    }
    let mut producer = builder.build();
    let publish =
        move |blocks, fill: &mut dyn FnMut(&mut Block)| producer.batch_publish(blocks, |slots| slots.for_each(fill));
    (Box::new(Disruptor(Box::new(publish))), boxed(pollers))
}

impl BlockSender for Disruptor {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        (self.0)(blocks, fill);
    }
}

impl BlockReceiver for EventPoller<Block, SingleProducerBarrier> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        let Ok(mut events) = self.poll() else { return Taken::default() };
        let mut blocks = 0;
        for event in &mut events {
            read(event);
            blocks += 1;
        }
        Taken { blocks, lost: 0 }
    }
}
