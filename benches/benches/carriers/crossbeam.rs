//! crossbeam's bounded channels, one for each consumer.

use std::sync::Arc;

use crossbeam_channel::bounded;

use super::{Block, Ends, handle_sender, receiver};

pub(super) fn open(ring: usize, consumers: usize) -> Ends {
    let (senders, channels): (Vec<_>, Vec<_>) = (0..consumers).map(|_| bounded::<Arc<Block>>(ring)).unzip();
    let send = move |block| {
        for sender in &senders {
            // A full channel loses the block: waiting here would be waiting for the slowest consumer.
            let _ = sender.try_send(Arc::clone(&block));
        }
    };
    let receivers = channels.into_iter().map(|channel| receiver(move || channel.try_recv().map_err(|_| None)));
    (handle_sender(ring, send), receivers.collect())
}
