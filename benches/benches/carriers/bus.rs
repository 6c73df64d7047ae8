//! bus: one shared ring of handles.

use std::sync::Arc;

use ::bus::Bus;

use super::{Block, Ends, handle_sender, receiver};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let mut bus = Bus::<Arc<Block>>::new(ring);
    let receivers = (0..consumers).map(|_| {
        let mut reader = bus.add_rx();
        receiver(move || reader.try_recv().map_err(|_| None))
    });
    let receivers = receivers.collect();
    (handle_sender(ring, move |block| bus.broadcast(block)), receivers)
}
