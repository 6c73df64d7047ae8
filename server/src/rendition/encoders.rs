//! One encoder for each format in use: it turns blocks into bytes once, for all its listeners.

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

/// How often an encoder looks for new listeners while no sound comes.
const IDLE: Duration = Duration::from_millis(50);
/// Blocks encoded before the listeners are woken, where a backlog waits.
const BATCH: usize = 32;

/// The encoders that run, each on a thread of its own. One starts with its first listener and ends with its last.
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

/// What a listener gets.
#[derive(Debug)]
pub struct Subscription {
    /// A packet for each block.
    pub packets: Consumer<Encoded>,
    /// What comes after the last of them.
    pub tail: Tail,
}

/// What an encoder still had when the stream ended, which belongs to no block any more: Opus is heard later than it
/// goes in. Nothing before that.
pub type Tail = Arc<OnceLock<Vec<OpusPacket>>>;

/// Why a listener could not be connected to its encoder.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The stream has ended, or does not allow these options.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// There is no such encoding of this sound.
    #[error("{0}")]
    Encoding(String),
    /// The system gives no more threads.
    #[error("no thread for the encoder: {0}")]
    Thread(#[from] std::io::Error),
}

impl Encoders {
    /// No encoder yet, for blocks of `format`. `history` blocks are kept for listeners who start in the past; an encoder
    /// may fall `buffer` blocks behind before it skips to live.
    #[must_use]
    pub fn new(blocks: Hub<Block>, format: Format, history: usize, buffer: usize) -> Arc<Self> {
        Arc::new(Self { blocks, format, history, buffer, running: Mutex::default() })
    }

    /// Adds a listener to the encoder for `encoding`, which is started if need be.
    ///
    /// # Errors
    ///
    /// When the stream has ended, the options don't fit a live stream, or there is no thread to be had.
    pub fn subscribe(
        self: &Arc<Self>,
        encoding: Encoding,
        options: SubscribeOptions,
    ) -> Result<Subscription, EncoderError> {
        // Held until the listener has joined, so that the encoder can't end for lack of listeners meanwhile.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.get(&encoding) {
            match running.subscribe(options) {
                // It has ended in this moment, or its thread has died: a new one may do better.
                Err(SubscribeError::Ended) => {}
                result => return Ok(result?),
            }
        }
        let started = self.start(encoding)?;
        let subscription = started.subscribe(options)?;
        running.insert(encoding, started);
        Ok(subscription)
    }

    /// How many encoders run.
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

    /// Takes an encoder without listeners off the list; false if one has joined after all.
    fn retire(&self, worker: &mut Worker) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = worker.packets.consumers() == 0;
        if idle {
            running.remove(&worker.encoding);
        }
        idle
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
    /// The sequence number from which on blocks are live.
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

    /// Encodes what the dispatcher's history has, before anybody is let in: a listener may start there, but live is
    /// what came after this encoder was asked for.
    fn catch_up(&mut self) -> Result<(), EndReason> {
        while self.packets.next_sequence() < self.live {
            let attached = self.blocks.tally().is_attached();
            match self.blocks.recv_timeout(IDLE) {
                Ok(delivery) if delivery.item.stamp.sequence < self.live => {
                    self.packets.remember(delivery.item.stamp, self.encoder.encode(&delivery.item));
                }
                Ok(delivery) => self.push(&delivery.item),
                // The dispatcher hands the history over at once when it takes this consumer in: there is no more.
                Err(RecvError::Empty) if attached => break,
                Err(RecvError::Empty) => {}
                Err(RecvError::Ended(end)) => return Err(self.ended(end)),
            }
        }
        // Nobody is there yet to miss what the history did not have.
        self.packets.advance_to(self.live);
        Ok(())
    }

    /// Waits for a block, and encodes it and what waits behind it.
    fn encode_some(&mut self) -> Result<(), EndReason> {
        match self.blocks.recv_timeout(IDLE) {
            Ok(delivery) => self.push(&delivery.item),
            Err(RecvError::Empty) => {}
            Err(RecvError::Ended(end)) => return Err(self.ended(end)),
        }
        let Self { encoder, blocks, packets, .. } = self;
        // The end, if there is no more, comes again.
        if let Ok(run) = blocks.try_recv_run(Timestamp::now(), BATCH) {
            run.iter().for_each(|block| push(encoder, packets, block));
        }
        self.packets.flush();
        Ok(())
    }

    fn push(&mut self, block: &Item<Block>) {
        push(&mut self.encoder, &mut self.packets, block);
    }

    /// What is missing at the end is missing for the listeners too.
    fn ended(&mut self, end: aircheck_engine::End) -> EndReason {
        if let Some(gap) = end.gap {
            self.packets.advance_to(gap.from + gap.blocks);
        }
        end.reason
    }
}

/// Encodes a block for the listeners; one from before live, which came too late for the history, is nobody's.
fn push(encoder: &mut Encoder, packets: &mut FanOut<Encoded>, block: &Item<Block>) {
    if block.stamp.sequence >= packets.next_sequence() {
        packets.push(block.stamp, encoder.encode(block));
    }
}
