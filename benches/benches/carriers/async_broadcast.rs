//! async-broadcast: one shared queue of handles.

use std::iter;
use std::sync::Arc;

use ::async_broadcast::{TryRecvError, broadcast};

use super::{Block, Ends, handle_sender, receiver};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (mut sender, first) = broadcast::<Arc<Block>>(ring);
    // Its documentation advises this where losing is better than waiting.
    sender.set_overflow(true);
    let others = (1..consumers).map(|_| sender.new_receiver());
    let receivers = iter::once(first).chain(others).map(|mut channel| {
        let lost = |error| match error {
            TryRecvError::Overflowed(blocks) => Some(blocks),
            TryRecvError::Empty | TryRecvError::Closed => None,
        };
        receiver(move || channel.try_recv().map_err(lost))
    });
    let receivers = receivers.collect();
    // An error means that there are no receivers.
    (handle_sender(ring, move |block| drop(sender.try_broadcast(block))), receivers)
}
