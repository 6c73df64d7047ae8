//! The encoders in use: each turns blocks into packets once, for all its listeners.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use aircheck_engine::{
    Block, Consumer, EndReason, Format, Gap, Hub, Item, Loss, OverflowPolicy, Publisher, PublisherOptions, Start,
    SubscribeError, SubscribeOptions, Timestamp, TryRecvError,
};
use bytes::Bytes;

use crate::metadata::MetadataLog;
use crate::rendition::doorbell::Doorbell;
use crate::rendition::encoder::Encoder;
use crate::rendition::encoding::Encoding;
use crate::rendition::packet::Packet;
use crate::rendition::packet_log::PacketLog;

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
    /// One for each delivery thread.
    wakers: Vec<Waker>,
    /// Serial number of the Ogg streams. Those of chained streams must differ; each of these is a stream by itself, so the
    /// time at which the server started is enough.
    serial: u32,
    /// The first block, if the blocks come as late as the listeners want them; `None` if they are live.
    delayed_from: Option<u64>,
    /// What is known of the sound.
    metadata: Arc<MetadataLog>,
    running: Mutex<HashMap<Key, Running>>,
}

/// An encoding, and the blocks that are gathered into one packet.
type Key = (Encoding, u64);

#[derive(Clone, Debug)]
struct Running {
    packets: Hub<Packet>,
    header: Option<Bytes>,
    tail: Tail,
    log: Arc<PacketLog>,
    doorbells: Arc<Doorbells>,
}

/// A listener's end of an encoder.
#[derive(Debug)]
pub struct Subscription {
    /// The ring of packets, each of one or more blocks. A packet may have no bytes: where the codec keeps a block's sound
    /// back for later packets, and the next block is missing or there is none.
    pub packets: Consumer<Packet>,
    /// The bytes before the first packet, as far as they are the codec's: the header of FLAC, the header pages of Ogg.
    pub header: Option<Bytes>,
    /// The packet after the last block.
    pub tail: Tail,
    /// Where the encoder's packets end.
    pub log: Arc<PacketLog>,
    /// Rings when there are packets for the listeners of its delivery thread, when such a listener has been admitted, and
    /// at the end. Rings are only certain to be heard after [`Doorbell::take`], so that comes before a look into the ring.
    pub doorbell: Arc<Doorbell>,
}

/// The packet after the last block, which belongs to no block: Opus delays its input. For Ogg, its last page ends the
/// stream. `None` if nothing is left. Empty before the end.
pub type Tail = Arc<OnceLock<Option<Packet>>>;

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

/// The doorbells of one encoder.
#[derive(Debug)]
struct Doorbells {
    /// One for each delivery thread. Nothing else of the encoder holds them, so each can tell whether it has listeners.
    bells: Vec<Arc<Doorbell>>,
    /// Whether a listener has subscribed since they rang for that.
    has_joiner: AtomicBool,
}

impl Encoders {
    /// Makes an empty set of encoders for blocks of `format`. Each keeps packets of `history` blocks for listeners that
    /// start in the past, and may fall `buffer` blocks behind before it skips to live. `wakers` wake the delivery threads. What is known
    /// of the sound is in `metadata`.
    #[must_use]
    pub fn new(
        blocks: Hub<Block>,
        format: Format,
        history: usize,
        buffer: usize,
        wakers: Vec<Waker>,
        metadata: Arc<MetadataLog>,
    ) -> Arc<Self> {
        let serial = Timestamp::now().as_nanos() as u32;
        let running = Mutex::default();
        Arc::new(Self { blocks, format, history, buffer, wakers, serial, delayed_from: None, metadata, running })
    }

    /// Makes an empty set of encoders for blocks that come later than live, from number `first` on. Their distance to the
    /// head is lag that the listeners have requested.
    #[must_use]
    pub fn delayed(blocks: Hub<Block>, first: u64, format: Format, buffer: usize, wakers: Vec<Waker>) -> Arc<Self> {
        let serial = Timestamp::now().as_nanos() as u32;
        let (history, delayed_from, running) = (0, Some(first), Mutex::default());
        // A recording has no titles.
        let metadata = Arc::default();
        Arc::new(Self { blocks, format, history, buffer, wakers, serial, delayed_from, metadata, running })
    }

    /// Subscribes a listener at the encoder for `encoding` that gathers `group` blocks into one packet. The encoder is
    /// started if it does not run. `shard` is the index of the waker of the listener's delivery thread.
    ///
    /// # Errors
    ///
    /// When the stream has ended, when the format or the options do not fit, or when the system gives no thread.
    ///
    /// # Panics
    ///
    /// If there is no such waker.
    pub fn subscribe(
        self: &Arc<Self>,
        encoding: Encoding,
        group: u64,
        shard: usize,
        options: SubscribeOptions,
    ) -> Result<Subscription, EncoderError> {
        let key = (encoding, group.max(1));
        // Locked until the listener has joined, so that the encoder cannot end for lack of listeners meanwhile.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.get(&key) {
            match running.subscribe(shard, options) {
                // The encoder has ended in this moment, or its thread has died. A new one is started.
                Err(SubscribeError::Ended) => {}
                result => return Ok(result?),
            }
        }
        let started = self.start(key)?;
        let subscription = started.subscribe(shard, options)?;
        running.insert(key, started);
        Ok(subscription)
    }

    /// Returns the number of encoders that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn start(self: &Arc<Self>, key: Key) -> Result<Running, EncoderError> {
        let encoder = Encoder::new(key.0, self.format, key.1, self.serial)
            .map_err(|error| EncoderError::Encoding(error.to_string()))?
            .with_metadata(Arc::clone(&self.metadata));
        let live = self.delayed_from.unwrap_or_else(|| self.blocks.head().next());
        let blocks = self.blocks.subscribe(SubscribeOptions {
            overflow: OverflowPolicy::SkipToLive,
            buffer: self.buffer,
            start: Start::Back(self.history as u64),
            ..SubscribeOptions::default()
        })?;
        let (packets, hub) = Publisher::new(PublisherOptions {
            history: self.history,
            group: encoder.max_blocks() as usize,
            live: true,
            head: Some(self.blocks.head().clone()),
            delayed: self.delayed_from.is_some(),
        });
        let running = Running {
            packets: hub,
            header: encoder.header(),
            tail: Tail::default(),
            log: PacketLog::new(),
            doorbells: Arc::new(Doorbells::new(&self.wakers)),
        };
        let worker = Worker {
            key,
            encoder,
            blocks,
            output: Output { packets, log: Arc::clone(&running.log), has_pushed: false },
            completed: Vec::new(),
            tail: Arc::clone(&running.tail),
            live,
            counted_at: Timestamp::now(),
            doorbells: LastRing(Arc::clone(&running.doorbells)),
        };
        let encoders = Arc::clone(self);
        thread::Builder::new().name("encoder".into()).spawn(move || worker.run(&encoders))?;
        Ok(running)
    }

    /// Removes an encoder without listeners. Returns false if one has joined meanwhile.
    fn retire(&self, worker: &mut Worker) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = worker.output.packets.consumers() == 0;
        if is_idle {
            running.remove(&worker.key);
        }
        is_idle
    }
}

impl Running {
    fn subscribe(&self, shard: usize, options: SubscribeOptions) -> Result<Subscription, SubscribeError> {
        // Held before the listener can be admitted, so that the bell rings for its first packet.
        let doorbell = Arc::clone(&self.doorbells.bells[shard]);
        let packets = self.packets.subscribe(options)?;
        self.doorbells.has_joiner.store(true, Ordering::Release);
        Ok(Subscription {
            packets,
            header: self.header.clone(),
            tail: Arc::clone(&self.tail),
            log: Arc::clone(&self.log),
            doorbell,
        })
    }
}

impl Doorbells {
    fn new(wakers: &[Waker]) -> Self {
        Self { bells: wakers.iter().cloned().map(Doorbell::new).collect(), has_joiner: AtomicBool::new(false) }
    }

    fn ring(&self) {
        self.bells.iter().for_each(Doorbell::ring);
    }
}

/// Rings when the encoder's thread ends, in order or by a panic.
struct LastRing(Arc<Doorbells>);

impl Drop for LastRing {
    fn drop(&mut self) {
        self.0.bells.iter().for_each(Doorbell::ring_for_end);
    }
}

struct Worker {
    key: Key,
    encoder: Encoder,
    blocks: Consumer<Block>,
    output: Output,
    /// Packets that the last block has completed.
    completed: Vec<Item<Packet>>,
    tail: Tail,
    /// Sequence number of the first live block.
    live: u64,
    /// When the listeners were counted last.
    counted_at: Timestamp,
    /// Dropped after the fan-out, whose end it rings for.
    doorbells: LastRing,
}

/// The packets on their way to the listeners.
struct Output {
    packets: Publisher<Packet>,
    log: Arc<PacketLog>,
    /// Whether something was pushed since the last flush.
    has_pushed: bool,
}

impl Worker {
    fn run(mut self, encoders: &Encoders) {
        let reason = match self.catch_up() {
            Ok(()) => loop {
                match self.encode_some() {
                    Ok(()) if self.count_listeners() == Some(0) && encoders.retire(&mut self) => return,
                    Ok(()) => {}
                    Err(reason) => break reason,
                }
            },
            Err(reason) => reason,
        };
        if matches!(reason, EndReason::Finished | EndReason::Failed) {
            self.tail.get_or_init(|| self.encoder.finish());
        }
        self.output.packets.finish(reason);
    }

    /// Encodes the dispatcher's history before any listener is admitted. A listener may start in it, but blocks count as
    /// live only from when this encoder was started.
    fn catch_up(&mut self) -> Result<(), EndReason> {
        while self.output.packets.next_sequence() < self.live {
            let attached = self.blocks.stats().is_attached();
            match self.blocks.recv_timeout(IDLE_INTERVAL) {
                Ok(delivery) if delivery.item.stamp.sequence < self.live => {
                    self.encoder.encode(&delivery.item, &mut self.completed);
                    self.remember();
                    if delivery.item.stamp.next() == self.live {
                        break;
                    }
                }
                Ok(delivery) => {
                    self.remember_rest();
                    self.push(&delivery.item);
                    return Ok(());
                }
                // The dispatcher pushes the whole history when it admits this consumer, so this was all.
                Err(TryRecvError::Empty) if attached => break,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Ended(end)) => return Err(self.ended(end)),
            }
        }
        self.remember_rest();
        Ok(())
    }

    /// Ends the history. A packet is never of it and of live blocks.
    fn remember_rest(&mut self) {
        self.completed.extend(self.encoder.cut());
        self.remember();
        // No listener is there yet that could miss what the history did not have.
        self.output.packets.advance_to(self.live);
    }

    fn remember(&mut self) {
        for Item { stamp, value } in self.completed.drain(..) {
            self.output.log.push(stamp, &value);
            self.output.packets.remember(stamp, value);
        }
    }

    /// Waits for a block, and encodes it and the backlog behind it.
    fn encode_some(&mut self) -> Result<(), EndReason> {
        match self.blocks.recv_timeout(IDLE_INTERVAL) {
            Ok(delivery) => {
                self.pass_on(delivery.gap);
                self.push(&delivery.item);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Ended(end)) => return Err(self.ended(end)),
        }
        let Self { encoder, blocks, output, completed, live, .. } = self;
        // If this is the end, the next call gets it again.
        if let Ok(run) = blocks.try_recv_batch(Timestamp::now(), MAX_BATCH) {
            pass_on(encoder, completed, output, *live, run.gap);
            run.iter().for_each(|block| push(encoder, completed, output, *live, block));
        }
        self.flush();
        Ok(())
    }

    fn pass_on(&mut self, gap: Option<Gap>) {
        pass_on(&mut self.encoder, &mut self.completed, &mut self.output, self.live, gap);
    }

    fn push(&mut self, block: &Item<Block>) {
        push(&mut self.encoder, &mut self.completed, &mut self.output, self.live, block);
    }

    /// Hands packets to the listeners, if one is complete. That costs something for each listener, so it is not done for
    /// each block.
    fn flush(&mut self) {
        if std::mem::take(&mut self.output.has_pushed) {
            self.output.packets.flush();
            self.doorbells.0.ring();
        }
    }

    /// Returns the number of listeners from time to time, and admits those that have subscribed at once. What they start
    /// with is in their rings then, so their delivery threads have to look.
    fn count_listeners(&mut self) -> Option<usize> {
        let has_joiner = self.doorbells.0.has_joiner.swap(false, Ordering::Acquire);
        let now = Timestamp::now();
        if !has_joiner && now.since(self.counted_at) < IDLE_INTERVAL {
            return None;
        }
        self.counted_at = now;
        let listeners = self.output.packets.consumers();
        if has_joiner {
            self.doorbells.0.ring();
        }
        Some(listeners)
    }

    /// Completes what is gathered, and passes the gap before the end on to the listeners.
    fn ended(&mut self, end: aircheck_engine::End) -> EndReason {
        self.completed.extend(self.encoder.cut());
        self.output.push(&mut self.completed);
        if let Some(gap) = end.gap {
            self.output.packets.advance_to(gap.from + gap.items);
        }
        end.reason
    }
}

impl Output {
    /// Pushes packets to the listeners.
    fn push(&mut self, completed: &mut Vec<Item<Packet>>) {
        for Item { stamp, value } in completed.drain(..) {
            self.log.push(stamp, &value);
            self.packets.push(stamp, value);
            self.has_pushed = true;
        }
    }
}

/// Tells listeners of a gap on the hop from another server. All other gaps are the source's for them, as they are by themselves.
fn pass_on(encoder: &mut Encoder, completed: &mut Vec<Item<Packet>>, output: &mut Output, live: u64, gap: Option<Gap>) {
    let Some(gap) = gap.filter(|gap| gap.reason == Loss::Hop && gap.from >= live) else { return };
    completed.extend(encoder.cut());
    output.push(completed);
    output.packets.lose_to(gap.from + gap.items, Loss::Hop);
}

/// Encodes a block for the listeners, unless it is older than the first live one: it came too late for the history.
fn push(encoder: &mut Encoder, completed: &mut Vec<Item<Packet>>, output: &mut Output, live: u64, block: &Item<Block>) {
    if block.stamp.sequence >= live {
        encoder.encode(block, completed);
        output.push(completed);
    }
}

#[cfg(test)]
mod tests;
