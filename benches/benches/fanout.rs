//! Blocks a second to consumers that read every sample: the engine's fan-out beside tokio's broadcast channel.
//!
//! Both carry the same handles, `Arc`s of 480 mono samples. The producer runs on this thread: it fills a block that
//! nobody holds any more, as the dispatcher does, and hands it out. Both have rings of [`RING`] blocks and lose
//! nothing: the producer asks every [`STRIDE`] blocks whether everyone has room for as many, and waits if not. The
//! engine is asked by `has_room` of a fan-out that is not live; tokio's channel can't be asked, so there each
//! receiver publishes how far it is, on a cache line of its own, once in [`STRIDE`] blocks.
//!
//! Two arrangements, the same for both: *sweep*, one thread that owns all consumers and goes round taking one block
//! of each that has some (`try_recv`), so that with the producer two threads run on two cores; and *tasks*, one task
//! for each consumer on a runtime with one worker thread, woken as they wait. A turn lasts from the first block to
//! when the last consumer has got the last one.

use std::array;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{Rounds, Table, Target, sum};
use aircheck_engine::{
    Consumer, EndReason, FanOut, FanOutOptions, Overflow, RecvError, Stamp, Start, SubscribeOptions, Timestamp,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast::{self, Receiver, error};

const BLOCK_SAMPLES: usize = 480;
/// A consumer's ring, in blocks. A power of two, because tokio rounds up to one.
const RING: usize = 128;
/// How many blocks go out between two looks at who has room.
const STRIDE: usize = 64;
/// How long blocks are sent in each turn.
const TURN: Duration = Duration::from_millis(250);
const ROUNDS: usize = 7;
const CONSUMERS: [usize; 4] = [1, 4, 16, 64];
const TARGET: Target = Target::AtLeast(1.2);

type Block = Arc<[f32; BLOCK_SAMPLES]>;

/// Who is measured, in the order of the table's columns.
const CONTENDERS: [Contender; 3] =
    [Contender::Broadcast, Contender::Engine { batch: 1 }, Contender::Engine { batch: 8 }];

#[derive(Clone, Copy)]
enum Contender {
    Broadcast,
    Engine { batch: usize },
}

#[derive(Clone, Copy)]
enum Arrangement {
    Sweep,
    Tasks,
}

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(1).build().expect("a thread");
    for (name, arrangement) in [("sweep", Arrangement::Sweep), ("tasks", Arrangement::Tasks)] {
        println!("{name}: thousand blocks/s, each read by every consumer; median of {ROUNDS} paired rounds\n");
        let mut table =
            Table::new(["consumers", "tokio", "engine", "/ tokio", "target", "engine by 8", "/ tokio", "target"]);
        for consumers in CONSUMERS {
            let rounds = Rounds::run(ROUNDS, CONTENDERS.len(), |contender| match CONTENDERS[contender] {
                Contender::Broadcast => tokio_broadcast(&runtime, arrangement, consumers),
                Contender::Engine { batch } => engine(&runtime, arrangement, consumers, batch),
            });
            let thousands = |contender| format!("{:.0}", rounds.median(contender) / 1000.0);
            let ratio = |contender| format!("{:.2}", rounds.ratio(contender, 0));
            let verdict = |contender| match consumers {
                16 | 64 => TARGET.verdict(rounds.ratio(contender, 0)),
                _ => String::new(),
            };
            table.row([
                consumers.to_string(),
                thousands(0),
                thousands(1),
                ratio(1),
                verdict(1),
                thousands(2),
                ratio(2),
                verdict(2),
            ]);
        }
        println!("{table}");
    }
}

/// Blocks that are filled again once nobody holds them.
struct Pool {
    blocks: VecDeque<Block>,
    source: [f32; BLOCK_SAMPLES],
}

impl Pool {
    fn new() -> Self {
        // What all rings, a stride and tokio's slots (which keep a block until the next lap) hold at most.
        let blocks = (0..4 * RING).map(|_| Block::new([0.0; BLOCK_SAMPLES])).collect();
        Self { blocks, source: array::from_fn(|sample| sample as f32) }
    }

    fn fill(&mut self) -> Block {
        let mut block = self.blocks.pop_front().expect("as many come back as go");
        Arc::get_mut(&mut block).expect("nobody is this late").copy_from_slice(black_box(&self.source));
        self.blocks.push_back(Arc::clone(&block));
        block
    }
}

/// Calls `stride` to send as many blocks, until the time is over. Returns how many were sent.
fn produce(mut stride: impl FnMut(&mut Pool, usize)) -> u64 {
    let mut pool = Pool::new();
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < TURN {
        stride(&mut pool, STRIDE);
        sent += STRIDE as u64;
    }
    sent
}

/// Blocks a second, if every consumer got every block.
fn rate(sent: u64, received: u64, consumers: usize, start: Instant) -> f64 {
    assert_eq!(received, sent * consumers as u64, "nothing may be lost here");
    sent as f64 / start.elapsed().as_secs_f64()
}

/// Runs `sweep`, which goes round once and returns what it took and whether all is over, until it is.
fn sweep_until_end(mut sweep: impl FnMut() -> (u64, bool)) -> u64 {
    let mut received = 0;
    loop {
        let (taken, over) = sweep();
        received += taken;
        if over {
            return received;
        }
        if taken == 0 {
            thread::yield_now();
        }
    }
}

fn engine(runtime: &Runtime, arrangement: Arrangement, consumers: usize, batch: usize) -> f64 {
    let (mut fan_out, hub) = FanOut::new(FanOutOptions { live: false, ..FanOutOptions::default() });
    let options = SubscribeOptions { overflow: Overflow::Block, buffer: RING, start: Start::Live };
    let subscribed: Vec<Consumer<Block>> =
        (0..consumers).map(|_| hub.subscribe(options).expect("a running fan-out")).collect();
    let start = Instant::now();
    let readers = Readers::start(runtime, arrangement, subscribed, sweep_engine, read_engine);
    let mut sequence = 0;
    let sent = produce(|pool, blocks| {
        while !fan_out.has_room(blocks) {
            thread::yield_now();
        }
        let now = Timestamp::now();
        for pushed in 1..=blocks {
            fan_out.push(Stamp { sequence, captured_at: now, dispatched_at: now }, pool.fill());
            sequence += 1;
            if pushed.is_multiple_of(batch) {
                fan_out.flush();
            }
        }
    });
    fan_out.finish(EndReason::Finished);
    let received = readers.join(runtime);
    rate(sent, received, consumers, start)
}

fn sweep_engine(mut consumers: Vec<Consumer<Block>>) -> u64 {
    sweep_until_end(|| {
        let now = Timestamp::now();
        let (mut taken, mut ended) = (0, 0);
        for consumer in &mut consumers {
            match consumer.try_recv(now) {
                Ok(delivery) => {
                    black_box(sum(&delivery.item[..]));
                    taken += 1;
                }
                Err(RecvError::Empty) => {}
                Err(RecvError::Ended(_)) => ended += 1,
            }
        }
        (taken, ended == consumers.len())
    })
}

async fn read_engine(mut consumer: Consumer<Block>) -> u64 {
    let mut received = 0;
    while let Ok(delivery) = poll_fn(|context| consumer.poll_recv(context, Timestamp::now())).await {
        black_box(sum(&delivery.item[..]));
        received += 1;
    }
    received
}

/// A receiver of tokio's channel, and how far it is.
struct Peer {
    receiver: Receiver<Block>,
    progress: Arc<Progress>,
    received: u64,
}

/// On a cache line of its own (two, because they are fetched in pairs).
#[repr(align(128))]
#[derive(Default)]
struct Progress(AtomicU64);

impl Peer {
    fn read(&mut self, block: &Block) {
        black_box(sum(&block[..]));
        self.received += 1;
        if self.received.is_multiple_of(STRIDE as u64) {
            self.progress.0.store(self.received, Ordering::Release);
        }
    }
}

fn tokio_broadcast(runtime: &Runtime, arrangement: Arrangement, consumers: usize) -> f64 {
    let (sender, _) = broadcast::channel(RING);
    let peers: Vec<Peer> =
        (0..consumers).map(|_| Peer { receiver: sender.subscribe(), progress: Arc::default(), received: 0 }).collect();
    let progress: Vec<Arc<Progress>> = peers.iter().map(|peer| Arc::clone(&peer.progress)).collect();
    let start = Instant::now();
    let readers = Readers::start(runtime, arrangement, peers, sweep_broadcast, read_broadcast);
    let mut sequence = 0;
    let sent = produce(|pool, blocks| {
        let needed = (sequence + blocks as u64).saturating_sub(RING as u64);
        while !progress.iter().all(|reached| reached.0.load(Ordering::Acquire) >= needed) {
            thread::yield_now();
        }
        for _ in 0..blocks {
            let _ = sender.send(pool.fill());
        }
        sequence += blocks as u64;
    });
    drop(sender);
    let received = readers.join(runtime);
    rate(sent, received, consumers, start)
}

fn sweep_broadcast(mut peers: Vec<Peer>) -> u64 {
    sweep_until_end(|| {
        let (mut taken, mut ended) = (0, 0);
        for peer in &mut peers {
            match peer.receiver.try_recv() {
                Ok(block) => {
                    peer.read(&block);
                    taken += 1;
                }
                Err(error::TryRecvError::Closed) => ended += 1,
                Err(_) => {}
            }
        }
        (taken, ended == peers.len())
    })
}

async fn read_broadcast(mut peer: Peer) -> u64 {
    while let Ok(block) = peer.receiver.recv().await {
        peer.read(&block);
    }
    peer.received
}

/// Consumers at work.
enum Readers {
    Thread(thread::JoinHandle<u64>),
    Tasks(Vec<tokio::task::JoinHandle<u64>>),
}

impl Readers {
    /// Hands all consumers to one thread, or each to a task.
    fn start<C, Reading>(
        runtime: &Runtime,
        arrangement: Arrangement,
        consumers: Vec<C>,
        sweep: fn(Vec<C>) -> u64,
        read: fn(C) -> Reading,
    ) -> Self
    where
        C: Send + 'static,
        Reading: Future<Output = u64> + Send + 'static,
    {
        match arrangement {
            Arrangement::Sweep => Self::Thread(thread::spawn(move || sweep(consumers))),
            Arrangement::Tasks => {
                Self::Tasks(consumers.into_iter().map(|consumer| runtime.spawn(read(consumer))).collect())
            }
        }
    }

    /// Waits for the end. Returns how many blocks were received in all.
    fn join(self, runtime: &Runtime) -> u64 {
        match self {
            Self::Thread(thread) => thread.join().expect("no reader panics"),
            Self::Tasks(tasks) => runtime.block_on(async {
                let mut received = 0;
                for task in tasks {
                    received += task.await.expect("no reader panics");
                }
                received
            }),
        }
    }
}
