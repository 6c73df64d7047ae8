//! The encoders in use: each turns blocks into packets once, for all its listeners.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::rendition::codec::OpusPacket;
use crate::rendition::encoder::{Encoded, Encoder};
use crate::rendition::encoding::Encoding;
use aircheck_engine::{
    Block, Consumer, EndReason, FanOut, FanOutOptions, Format, Hub, Item, Overflow, RecvError, Start, SubscribeError,
    SubscribeOptions, Timestamp,
};

/// Time between two counts of an encoder's listeners while no sound comes.
const IDLE_INTERVAL: Duration = Duration::from_millis(50);
/// Blocks of a backlog that are encoded before listeners are woken.
const MAX_BATCH: usize = 32;

/// The encoders that run, each on a thread of its own. An encoder starts with its first listener and ends with its last.
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

/// A listener's end of an encoder.
#[derive(Debug)]
pub struct Subscription {
    /// The ring of packets, one for each block.
    pub packets: Consumer<Encoded>,
    /// The packets after the last block.
    pub tail: Tail,
}

/// Packets that an encoder still had when the stream ended, which belong to no block: Opus delays its input. Empty before
/// the end.
pub type Tail = Arc<OnceLock<Vec<OpusPacket>>>;

/// The reason why a listener could not subscribe at an encoder.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The stream has ended, or does not allow these options.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The format cannot be encoded so.
    #[error("{0}")]
    Encoding(String),
    /// The system gives no thread.
    #[error("cannot start a thread for the encoder: {0} (raise the limit of threads)")]
    Thread(#[from] std::io::Error),
}

impl Encoders {
    /// Makes an empty set of encoders for blocks of `format`. Each keeps `history` packets for listeners that start in the
    /// past, and may fall `buffer` blocks behind before it skips to live.
    #[must_use]
    pub fn new(blocks: Hub<Block>, format: Format, history: usize, buffer: usize) -> Arc<Self> {
        Arc::new(Self { blocks, format, history, buffer, running: Mutex::default() })
    }

    /// Subscribes a listener at the encoder for `encoding`, which is started if it does not run.
    ///
    /// # Errors
    ///
    /// When the stream has ended, when the options do not fit a live stream, or when the system gives no thread.
    pub fn subscribe(
        self: &Arc<Self>,
        encoding: Encoding,
        options: SubscribeOptions,
    ) -> Result<Subscription, EncoderError> {
        // Locked until the listener has joined, so that the encoder cannot end for lack of listeners meanwhile.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.get(&encoding) {
            match running.subscribe(options) {
                // The encoder has ended in this moment, or its thread has died. A new one is started.
                Err(SubscribeError::Ended) => {}
                result => return Ok(result?),
            }
        }
        let started = self.start(encoding)?;
        let subscription = started.subscribe(options)?;
        running.insert(encoding, started);
        Ok(subscription)
    }

    /// Returns the number of encoders that run.
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
        let (packets, hub) = FanOut::new(FanOutOptions {
            history: self.history,
            group: 1,
            live: true,
            head: Some(self.blocks.head().clone()),
        });
        let tail = Tail::default();
        let worker = Worker { encoding, encoder, blocks, packets, tail: Arc::clone(&tail), live };
        let encoders = Arc::clone(self);
        thread::Builder::new().name("encoder".into()).spawn(move || worker.run(&encoders))?;
        Ok(Running { packets: hub, tail })
    }

    /// Removes an encoder without listeners. Returns false if one has joined meanwhile.
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
    /// Sequence number of the first live block.
    live: u64,
}

impl Worker {
    fn run(mut self, encoders: &Encoders) {
        let reason = match self.catch_up() {
            Ok(()) => loop {
                match self.encode_some() {
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

    /// Encodes the dispatcher's history before any listener is admitted. A listener may start in it, but blocks count as
    /// live only from when this encoder was started.
    fn catch_up(&mut self) -> Result<(), EndReason> {
        while self.packets.next_sequence() < self.live {
            let attached = self.blocks.tally().is_attached();
            match self.blocks.recv_timeout(IDLE_INTERVAL) {
                Ok(delivery) if delivery.item.stamp.sequence < self.live => {
                    self.packets.remember(delivery.item.stamp, self.encoder.encode(&delivery.item));
                }
                Ok(delivery) => self.push(&delivery.item),
                // The dispatcher pushes the whole history when it admits this consumer, so this was all.
                Err(RecvError::Empty) if attached => break,
                Err(RecvError::Empty) => {}
                Err(RecvError::Ended(end)) => return Err(self.ended(end)),
            }
        }
        // No listener is there yet that could miss what the history did not have.
        self.packets.advance_to(self.live);
        Ok(())
    }

    /// Waits for a block, and encodes it and the backlog behind it.
    fn encode_some(&mut self) -> Result<(), EndReason> {
        match self.blocks.recv_timeout(IDLE_INTERVAL) {
            Ok(delivery) => self.push(&delivery.item),
            Err(RecvError::Empty) => {}
            Err(RecvError::Ended(end)) => return Err(self.ended(end)),
        }
        let Self { encoder, blocks, packets, .. } = self;
        // If this is the end, the next call gets it again.
        if let Ok(run) = blocks.try_recv_run(Timestamp::now(), MAX_BATCH) {
            run.iter().for_each(|block| push(encoder, packets, block));
        }
        self.packets.flush();
        Ok(())
    }

    fn push(&mut self, block: &Item<Block>) {
        push(&mut self.encoder, &mut self.packets, block);
    }

    /// Passes the gap before the end on to the listeners.
    fn ended(&mut self, end: aircheck_engine::End) -> EndReason {
        if let Some(gap) = end.gap {
            self.packets.advance_to(gap.from + gap.blocks);
        }
        end.reason
    }
}

/// Encodes a block for the listeners, unless it is older than the first live one: it came too late for the history.
fn push(encoder: &mut Encoder, packets: &mut FanOut<Encoded>, block: &Item<Block>) {
    if block.stamp.sequence >= packets.next_sequence() {
        packets.push(block.stamp, encoder.encode(block));
    }
}
