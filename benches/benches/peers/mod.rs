//! What carries blocks from one producer to many consumers: the engine's fan-out, and others that can be used for it,
//! each used as its own documentation advises.
//!
//! All carry the same: a block of 480 mono samples with its number and the time that it was due. Who passes handles on
//! is given `Arc`s of blocks that are filled again once nobody holds them, as the dispatcher does; who carries values
//! carries values. Where several blocks wait, they are sent as a batch if the library can do that, and taken at one
//! visit as far as they are there.
#![allow(dead_code, reason = "each benchmark is a program of its own and uses a part of this")]

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::Arc;

use aircheck_engine::{Consumer, FanOut, FanOutOptions, Item, Stamp, SubscribeOptions, Timestamp};
use disruptor::{BusySpinWithSpinLoopHint, EventPoller, Producer as _, SingleProducerBarrier};

/// Samples of a block.
pub(crate) const SAMPLES: usize = 480;

/// What is carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) sequence: u64,
    /// When it was to be sent, in nanoseconds of the benchmark's own time.
    pub(crate) due_nanos: u64,
    pub(crate) samples: [f32; SAMPLES],
}

impl Default for Block {
    fn default() -> Self {
        Self { sequence: 0, due_nanos: 0, samples: [0.0; SAMPLES] }
    }
}

/// The producing end.
pub(crate) trait Sending {
    /// Fills and sends `blocks` blocks, as a batch if that is possible.
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block));
}

/// A consuming end.
pub(crate) trait Taking: Send {
    /// Reads what is there. The time is now, for who wants to know: one who visits many looks once. Returns how many
    /// blocks that were, and how many it says were lost before them.
    fn take(&mut self, now: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken;
}

/// What one visit brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) blocks: u64,
    pub(crate) lost: u64,
}

/// A producer and its consumers.
pub(crate) type Ends = (Box<dyn Sending>, Vec<Box<dyn Taking>>);

/// A way to carry blocks.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What it does when one consumer is slow.
    pub(crate) slow: &'static str,
    /// Whether its producer then goes on.
    pub(crate) goes_on: bool,
    pub(crate) open: fn(ring: usize, consumers: usize) -> Ends,
}

/// The engine comes first.
pub(crate) const PEERS: [Peer; 7] = [
    Peer { name: "aircheck", slow: "it alone skips to live; told exactly", goes_on: true, open: engine },
    Peer {
        name: "tokio broadcast",
        slow: "it alone loses the oldest; told how many",
        goes_on: true,
        open: tokio_broadcast,
    },
    Peer {
        name: "crossbeam, a channel each",
        slow: "it alone loses the newest; the sender may count",
        goes_on: true,
        open: crossbeam,
    },
    Peer { name: "disruptor", slow: "the producer waits for it, so everybody does", goes_on: false, open: disruptor },
    Peer { name: "ringcast", slow: "it alone loses the oldest; told how many", goes_on: true, open: ringcast },
    Peer { name: "bus", slow: "the producer waits for it, so everybody does", goes_on: false, open: bus },
    Peer {
        name: "async-broadcast",
        slow: "everybody loses the oldest that are unread; told how many",
        goes_on: true,
        open: async_broadcast,
    },
];

/// One ring, one consumer, nothing else: what no carrier can beat.
pub(crate) const FLOOR: Peer = Peer { name: "one ring, one consumer", slow: "", goes_on: false, open: one_ring };

/// Blocks that are filled again once nobody holds them, in handles of type `H`.
struct Pool<T> {
    blocks: VecDeque<Arc<T>>,
}

impl<T: Default> Pool<T> {
    /// For rings of `ring` blocks: what they hold, what is being read, and slots that keep a block until the next lap.
    fn new(ring: usize) -> Self {
        Self { blocks: (0..4 * ring).map(|_| Arc::default()).collect() }
    }

    /// A block that nobody holds, filled. Another one if somebody is so slow that he holds it still.
    fn fill(&mut self, fill: impl FnOnce(&mut T)) -> Arc<T> {
        let mut block = self.blocks.pop_front().unwrap_or_default();
        if Arc::get_mut(&mut block).is_none() {
            block = Arc::default();
        }
        if let Some(block) = Arc::get_mut(&mut block) {
            fill(block);
        }
        self.blocks.push_back(Arc::clone(&block));
        block
    }
}

fn boxed<R: Taking + 'static>(receivers: impl IntoIterator<Item = R>) -> Vec<Box<dyn Taking>> {
    receivers.into_iter().map(|receiver| Box::new(receiver) as Box<dyn Taking>).collect()
}

/// Reads what `receive` has. Its errors say how many blocks were lost, or, by `None`, that nothing is there.
fn take_until_empty<B: Borrow<Block>, E>(
    mut receive: impl FnMut() -> Result<B, E>,
    read: &mut dyn FnMut(&Block),
    lost: impl Fn(E) -> Option<u64>,
) -> Taken {
    let mut taken = Taken::default();
    loop {
        match receive() {
            Ok(block) => {
                read(block.borrow());
                taken.blocks += 1;
            }
            Err(error) => match lost(error) {
                Some(blocks) => taken.lost += blocks,
                None => return taken,
            },
        }
    }
}

// ---- the engine --------------------------------------------------------------------------

struct Engine {
    fan_out: FanOut<Block>,
    pool: Pool<Carried>,
}

type Carried = Item<Block>;

fn engine(ring: usize, consumers: usize) -> Ends {
    let (fan_out, hub) = FanOut::new(FanOutOptions::default());
    let options = SubscribeOptions { buffer: ring, ..SubscribeOptions::default() };
    let receivers = (0..consumers).map(|_| hub.subscribe(options).expect("a running fan-out"));
    let receivers = boxed(receivers.collect::<Vec<Consumer<Block>>>());
    (Box::new(Engine { fan_out, pool: Pool::new(ring) }), receivers)
}

impl Sending for Engine {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        let now = Timestamp::now();
        for _ in 0..blocks {
            let stamp = Stamp { sequence: self.fan_out.next_sequence(), captured_at: now, dispatched_at: now };
            self.fan_out.push_item(self.pool.fill(|item| {
                item.stamp = stamp;
                fill(&mut item.value);
            }));
        }
        self.fan_out.flush();
    }
}

impl Taking for Consumer<Block> {
    fn take(&mut self, now: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        let mut taken = Taken::default();
        while let Ok(run) = self.try_recv_run(now, usize::MAX) {
            taken.blocks += run.items() as u64;
            taken.lost += run.gap.map_or(0, |gap| gap.blocks);
            run.iter().for_each(|item| read(&item.value));
        }
        taken
    }
}

// ---- tokio -------------------------------------------------------------------------------

struct Handles<S> {
    sender: S,
    pool: Pool<Block>,
}

fn tokio_broadcast(ring: usize, consumers: usize) -> Ends {
    let (sender, _) = tokio::sync::broadcast::channel::<Arc<Block>>(ring);
    let receivers = boxed((0..consumers).map(|_| sender.subscribe()).collect::<Vec<_>>());
    (Box::new(Handles { sender, pool: Pool::new(ring) }), receivers)
}

impl Sending for Handles<tokio::sync::broadcast::Sender<Arc<Block>>> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            // An error means that nobody listens.
            let _ = self.sender.send(self.pool.fill(&mut *fill));
        }
    }
}

impl Taking for tokio::sync::broadcast::Receiver<Arc<Block>> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        use tokio::sync::broadcast::error::TryRecvError;
        take_until_empty(
            || self.try_recv(),
            read,
            |error| match error {
                TryRecvError::Lagged(blocks) => Some(blocks),
                TryRecvError::Empty | TryRecvError::Closed => None,
            },
        )
    }
}

// ---- crossbeam ---------------------------------------------------------------------------

fn crossbeam(ring: usize, consumers: usize) -> Ends {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..consumers).map(|_| crossbeam_channel::bounded(ring)).unzip();
    let receivers: Vec<crossbeam_channel::Receiver<Arc<Block>>> = receivers;
    (Box::new(Handles { sender: senders, pool: Pool::new(ring) }), boxed(receivers))
}

impl Sending for Handles<Vec<crossbeam_channel::Sender<Arc<Block>>>> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            let block = self.pool.fill(&mut *fill);
            for sender in &self.sender {
                // Full is full: one who waited here would wait for the slowest.
                let _ = sender.try_send(Arc::clone(&block));
            }
        }
    }
}

impl Taking for crossbeam_channel::Receiver<Arc<Block>> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        take_until_empty(|| self.try_recv(), read, |_| None)
    }
}

// ---- disruptor ---------------------------------------------------------------------------

/// Publishes so many blocks; the type of the producer depends on how many read.
type Publish = dyn FnMut(usize, &mut dyn FnMut(&mut Block));

struct Disruptor(Box<Publish>);

fn disruptor(ring: usize, consumers: usize) -> Ends {
    let builder = disruptor::build_single_producer(ring, Block::default, BusySpinWithSpinLoopHint);
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

impl Sending for Disruptor {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        (self.0)(blocks, fill);
    }
}

impl Taking for EventPoller<Block, SingleProducerBarrier> {
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

// ---- ringcast ----------------------------------------------------------------------------

struct Values {
    sender: ringcast::Sender<Block>,
    batch: Vec<Block>,
}

fn ringcast(ring: usize, consumers: usize) -> Ends {
    let (sender, first) = ringcast::bounded::<Block>(ring);
    let mut receivers = vec![first];
    receivers.extend((1..consumers).map(|_| sender.subscribe()));
    (Box::new(Values { sender, batch: Vec::new() }), boxed(receivers))
}

impl Sending for Values {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        self.batch.resize(blocks, Block::default());
        self.batch.iter_mut().for_each(fill);
        match self.batch.as_slice() {
            [block] => self.sender.send(*block),
            blocks => drop(self.sender.send_batch(blocks)),
        }
    }
}

impl Taking for ringcast::Receiver<Block> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        take_until_empty(
            || self.try_recv(),
            read,
            |error| match error {
                ringcast::RecvError::Overrun { lost } => Some(lost as u64),
                _ => None,
            },
        )
    }
}

// ---- bus ---------------------------------------------------------------------------------

fn bus(ring: usize, consumers: usize) -> Ends {
    let mut bus = bus::Bus::new(ring);
    let receivers: Vec<bus::BusReader<Arc<Block>>> = (0..consumers).map(|_| bus.add_rx()).collect();
    (Box::new(Handles { sender: bus, pool: Pool::new(ring) }), boxed(receivers))
}

impl Sending for Handles<bus::Bus<Arc<Block>>> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            let block = self.pool.fill(&mut *fill);
            self.sender.broadcast(block);
        }
    }
}

impl Taking for bus::BusReader<Arc<Block>> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        take_until_empty(|| self.try_recv(), read, |_| None)
    }
}

// ---- async-broadcast ---------------------------------------------------------------------

fn async_broadcast(ring: usize, consumers: usize) -> Ends {
    let (mut sender, first) = async_broadcast::broadcast::<Arc<Block>>(ring);
    // As its documentation has it for those who would rather lose than wait.
    sender.set_overflow(true);
    let mut receivers = vec![first];
    receivers.extend((1..consumers).map(|_| sender.new_receiver()));
    (Box::new(Handles { sender, pool: Pool::new(ring) }), boxed(receivers))
}

impl Sending for Handles<async_broadcast::Sender<Arc<Block>>> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        for _ in 0..blocks {
            let _ = self.sender.try_broadcast(self.pool.fill(&mut *fill));
        }
    }
}

impl Taking for async_broadcast::Receiver<Arc<Block>> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        use async_broadcast::TryRecvError;
        take_until_empty(
            || self.try_recv(),
            read,
            |error| match error {
                TryRecvError::Overflowed(blocks) => Some(blocks),
                TryRecvError::Empty | TryRecvError::Closed => None,
            },
        )
    }
}

// ---- the floor ---------------------------------------------------------------------------

fn one_ring(ring: usize, consumers: usize) -> Ends {
    assert_eq!(consumers, 1, "it is for one");
    let (producer, consumer) = rtrb::RingBuffer::<Block>::new(ring);
    (Box::new(producer), boxed([consumer]))
}

impl Sending for rtrb::Producer<Block> {
    fn send(&mut self, blocks: usize, fill: &mut dyn FnMut(&mut Block)) {
        // Full is full; and what is filled in place has been used before.
        if let Ok(mut chunk) = self.write_chunk(blocks) {
            let (first, second) = chunk.as_mut_slices();
            first.iter_mut().chain(second).for_each(fill);
            chunk.commit_all();
        }
    }
}

impl Taking for rtrb::Consumer<Block> {
    fn take(&mut self, _: Timestamp, read: &mut dyn FnMut(&Block)) -> Taken {
        let Ok(chunk) = self.read_chunk(self.slots()) else { return Taken::default() };
        let (first, second) = chunk.as_slices();
        first.iter().chain(second).for_each(read);
        let blocks = chunk.len() as u64;
        chunk.commit_all();
        Taken { blocks, lost: 0 }
    }
}
