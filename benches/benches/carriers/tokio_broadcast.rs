//! tokio's broadcast channel: one shared buffer.

use std::sync::Arc;

use tokio::sync::broadcast::channel;
use tokio::sync::broadcast::error::TryRecvError;

use super::{Block, Ends, handle_sender, receiver};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (sender, _) = channel::<Arc<Block>>(ring);
    let receivers = (0..consumers).map(|_| {
        let mut channel = sender.subscribe();
        let lost = |error| match error {
            TryRecvError::Lagged(blocks) => Some(blocks),
            TryRecvError::Empty | TryRecvError::Closed => None,
        };
        receiver(move || channel.try_recv().map_err(lost))
    });
    let receivers = receivers.collect();
    // An error means that there are no receivers.
    (handle_sender(ring, move |block| drop(sender.send(block))), receivers)
}
