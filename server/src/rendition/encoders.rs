//! The encoders in use: one for each encoding, which encodes a block once for all its listeners.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use aircheck_engine::{
    Block, Consumer, End, EndReason, FanOut, FanOutOptions, Format, Hub, Item, Overflow, RecvError, Start,
    SubscribeError, SubscribeOptions, Timestamp,
};

use crate::rendition::codec::OpusPacket;
use crate::rendition::encoder::{Encoded, Encoder};
use crate::rendition::encoding::Encoding;

/// How often an encoder checks for new listeners and for its last one while no sound comes.
const IDLE_INTERVAL: Duration = Duration::from_millis(50);
/// Most blocks that are encoded before the listeners are woken, while a backlog waits.
const MAX_BATCH: usize = 32;

/// The running encoders, each on a thread of its own. An encoder starts with its first listener and ends with its last.
#[derive(Debug)]
pub struct Encoders {
    blocks: Hub<Block>,
    history: usize,
    buffer: usize,
    format: Format,
    running: Mutex<HashMap<Encoding, Running>>,
}

#[derive(Clone, Debug)]
struct Running {
    packets: Hub<Encoded>,
    tail: Tail,
}

/// A listener's connection to its encoder.
#[derive(Debug)]
pub struct Subscription {
    /// A packet for each block.
    pub packets: Consumer<Encoded>,
    /// The packets after the last block's.
    pub tail: Tail,
}

/// The packets that complete a stream after its last block: an Opus encoder holds sound back. Unset until the stream ends.
pub type Tail = Arc<OnceLock<Vec<OpusPacket>>>;

/// The reason why a listener could not be connected to its encoder.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The stream has ended, or does not allow these options.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The source's format has no such encoding.
    #[error("{0}")]
    Encoding(String),
    /// The system gives no more threads.
    #[error("no thread for the encoder: {0}")]
    Thread(#[from] std::io::Error),
}

impl Encoders {
    /// Makes a set without encoders for blocks of `format`. Each encoder keeps `history` blocks for listeners that start
    /// in the past, and may fall `buffer` blocks behind before it skips to live.
    #[must_use]
    pub fn new(blocks: Hub<Block>, format: Format, history: usize, buffer: usize) -> Arc<Self> {
        Arc::new(Self { blocks, format, history, buffer, running: Mutex::default() })
    }

    /// Adds a listener to the encoder for `encoding`, and starts that encoder if it does not run.
    ///
    /// # Errors
    ///
    /// When the stream has ended, the options don't fit a live stream, the format has no such encoding, or the system
    /// gives no more threads.
    pub fn subscribe(
        self: &Arc<Self>,
        encoding: Encoding,
        options: SubscribeOptions,
    ) -> Result<Subscription, EncoderError> {
        // The lock is held until the listener has joined, so that the encoder can't end for lack of listeners meanwhile.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.get(&encoding) {
            match running.subscribe(options) {
                // The encoder has just ended, or its thread has died: a new one is started.
                Err(SubscribeError::Ended) => {}
                result => return Ok(result?),
            }
        }
        let started = self.start(encoding)?;
        let subscription = started.subscribe(options)?;
        running.insert(encoding, started);
        Ok(subscription)
    }

    /// Returns how many encoders run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn start(self: &Arc<Self>, encoding: Encoding) -> Result<Running, EncoderError> {
        let encoder = Encoder::new(encoding, self.format).map_err(EncoderError::Encoding)?;
        let live = self.blocks.head().next();
        let blocks = self.blocks.subscribe(SubscribeOptions {
            overflow: Overflow::SkipToLive,
            buffer: self.buffer,
            start: Start::Back(self.history as u64),
        })?;
        let (packets, hub) =
            FanOut::new(FanOutOptions { history: self.history, live: true, head: Some(self.blocks.head().clone()) });
        let tail = Tail::default();
        let worker = Worker { encoding, encoder, blocks, packets, tail: Arc::clone(&tail), live };
        let encoders = Arc::clone(self);
        thread::Builder::new().name("encoder".into()).spawn(move || worker.run(&encoders))?;
        Ok(Running { packets: hub, tail })
    }

    /// Removes an encoder that has no listeners; returns false if one has joined meanwhile.
    fn retire(&self, worker: &mut Worker) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = worker.packets.consumers() == 0;
        if is_idle {
            running.remove(&worker.encoding);
        }
        is_idle
    }
}

impl Running {
    fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription, SubscribeError> {
        Ok(Subscription { packets: self.packets.subscribe(options)?, tail: Arc::clone(&self.tail) })
    }
}

struct Worker {
    encoding: Encoding,
    encoder: Encoder,
    blocks: Consumer<Block>,
    packets: FanOut<Encoded>,
    tail: Tail,
    /// First sequence number that was not captured yet when the encoder was started.
    live: u64,
}

impl Worker {
    fn run(mut self, encoders: &Encoders) {
        let reason = match self.catch_up() {
            Ok(()) => loop {
                match self.encode_next() {
                    Ok(()) if self.packets.consumers() == 0 && encoders.retire(&mut self) => return,
                    Ok(()) => {}
                    Err(reason) => break reason,
                }
            },
            Err(reason) => reason,
        };
        if reason == EndReason::Finished {
            self.tail.get_or_init(|| self.encoder.finish());
        }
        self.packets.finish(reason);
    }

    /// Encodes the blocks of the dispatcher's history before the first listener is taken in: a listener may start there,
    /// but one that starts live gets blocks that were captured after the encoder was started.
    fn catch_up(&mut self) -> Result<(), EndReason> {
        while self.packets.next_sequence() < self.live {
            let attached = self.blocks.tally().is_attached();
            match self.blocks.recv_timeout(IDLE_INTERVAL) {
                Ok(delivery) if delivery.item.stamp.sequence < self.live => {
                    self.packets.remember(delivery.item.stamp, self.encoder.encode(&delivery.item));
                }
                Ok(delivery) => self.push(&delivery.item),
                // The dispatcher hands over its history at once when it attaches this consumer, so there is no more.
                Err(RecvError::Empty) if attached => break,
                Err(RecvError::Empty) => {}
                Err(RecvError::Ended(end)) => return Err(self.ended(end)),
            }
        }
        // Blocks that the history no longer has are no listener's loss: there is none yet.
        self.packets.advance_to(self.live);
        Ok(())
    }

    /// Waits for a block, and encodes it and the blocks that wait behind it.
    fn encode_next(&mut self) -> Result<(), EndReason> {
        match self.blocks.recv_timeout(IDLE_INTERVAL) {
            Ok(delivery) => self.push(&delivery.item),
            Err(RecvError::Empty) => {}
            Err(RecvError::Ended(end)) => return Err(self.ended(end)),
        }
        let Self { encoder, blocks, packets, .. } = self;
        // If this is the end of the stream, the next call gets it again.
        if let Ok(run) = blocks.try_recv_run(Timestamp::now(), MAX_BATCH) {
            run.iter().for_each(|block| push(encoder, packets, block));
        }
        self.packets.flush();
        Ok(())
    }

    fn push(&mut self, block: &Item<Block>) {
        push(&mut self.encoder, &mut self.packets, block);
    }

    /// Passes a gap at the end on to the listeners.
    fn ended(&mut self, end: End) -> EndReason {
        if let Some(gap) = end.gap {
            self.packets.advance_to(gap.from + gap.blocks);
        }
        end.reason
    }
}

/// Encodes a block for the listeners. One from before live that came too late for the history is dropped.
fn push(encoder: &mut Encoder, packets: &mut FanOut<Encoded>, block: &Item<Block>) {
    if block.stamp.sequence >= packets.next_sequence() {
        packets.push(block.stamp, encoder.encode(block));
    }
}
