//! ringcast: one shared ring of values.

use std::iter;

use ::ringcast::{RecvError, Sender, bounded};

use super::{Block, BlockSender, Ends, receiver};

struct Values {
    sender: Sender<Block>,
    batch: Vec<Block>,
}

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (sender, first) = bounded::<Block>(ring);
    let others = (1..consumers).map(|_| sender.subscribe());
    let receivers = iter::once(first).chain(others).map(|mut values| {
        let lost = |error| match error {
            RecvError::Overrun { lost } => Some(lost as u64),
            _ => None,
        };
        receiver(move || values.try_recv().map_err(lost))
    });
    let receivers = receivers.collect();
    (Box::new(Values { sender, batch: Vec::new() }), receivers)
}

impl BlockSender for Values {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        self.batch.resize(blocks, Block::default());
        self.batch.iter_mut().for_each(fill);
        match self.batch.as_slice() {
            [block] => self.sender.send(*block),
            blocks => drop(self.sender.send_batch(blocks)),
        }
    }
}
