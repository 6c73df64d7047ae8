//! Blocks a second to consumers that read every sample: the engine's fan-out beside tokio's broadcast channel.
//!
//! Both carry the same handles, `Arc`s of 480 mono samples. The producer runs on this thread: it fills a block that
//! nobody holds any more, as the dispatcher does, and hands it out. Both have rings of [`RING`] blocks and lose
//! nothing: the producer asks every [`STRIDE`] blocks whether everyone has room for as many, and waits if not. The
//! engine is asked by `has_room` of a fan-out that is not live; tokio's channel can't be asked, so its producer looks
//! at how far its receivers are. Receivers of both publish that, on a cache line of their own, once in [`STRIDE`]
//! blocks.
//!
//! Three arrangements, the same for both: *sweep*, one thread that owns all consumers and goes round taking one block
//! of each that has some (`try_recv`), so that with the producer two threads run on two cores; *tasks*, one task for
//! each consumer on a runtime with two worker threads, woken as they wait; and *threads*, a plain thread for each.
//!
//! A turn lasts from the first block to when every consumer has got the last one, about a millisecond; short, so that
//! on a busy machine many turns run undisturbed. Shown are the median of paired ratios and, because on a busy machine
//! even the median turn is one in which a thread was put aside, the ratio of the fastest tenth of each one's turns.

use std::array;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, ready};
use std::thread;
use std::time::Instant;

use aircheck_benches::{Rounds, Table, Target, sum};
use aircheck_engine::{Consumer, FanOut, FanOutOptions, Item, Overflow, Stamp, Start, SubscribeOptions, Timestamp};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast::{self, Receiver};

const BLOCK_SAMPLES: usize = 480;
/// A consumer's ring, in blocks. A power of two, because tokio rounds up to one.
const RING: usize = 128;
/// How many blocks go out between two looks at who has room.
const STRIDE: usize = 32;
/// Deliveries in one turn, up to [`BLOCKS_MOST`] blocks: about a millisecond.
const DELIVERIES: usize = 16_384;
const BLOCKS_MOST: usize = 2_048;
const ROUNDS: usize = 401;
const CONSUMERS: [usize; 4] = [1, 4, 16, 64];
const TARGET: Target = Target::AtLeast(1.2);

type Samples = [f32; BLOCK_SAMPLES];

#[derive(Clone, Copy)]
enum Arrangement {
    Sweep,
    Tasks,
    Threads,
}

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(2).build().expect("a thread");
    for (name, arrangement) in
        [("sweep", Arrangement::Sweep), ("tasks", Arrangement::Tasks), ("threads", Arrangement::Threads)]
    {
        println!("{name}: thousand blocks/s, each read by every consumer; {ROUNDS} paired rounds\n");
        let mut table =
            Table::new(["consumers", "who", "median", "/ tokio", "target", "best 10th", "/ tokio", "target"]);
        for consumers in CONSUMERS {
            compare(&runtime, arrangement, consumers, &mut table);
        }
        println!("{table}");
    }
}

fn compare(runtime: &Runtime, arrangement: Arrangement, consumers: usize, table: &mut Table) {
    let blocks = (DELIVERIES / consumers).min(BLOCKS_MOST);
    let mut contenders = [
        ("tokio", tokio_broadcast(runtime, arrangement, consumers)),
        ("engine", engine(runtime, arrangement, consumers, 1)),
        ("engine by 8", engine(runtime, arrangement, consumers, 8)),
        ("engine by 32", engine(runtime, arrangement, consumers, STRIDE)),
    ];
    let rounds = Rounds::run(ROUNDS, contenders.len(), |contender| contenders[contender].1.turn(blocks));
    for (contender, (name, _)) in contenders.iter().enumerate() {
        let mut row = vec![consumers.to_string(), (*name).to_owned()];
        let columns = [
            (rounds.median(contender), rounds.ratio(contender, 0)),
            (rounds.quantile(contender, 0.9), rounds.quantile(contender, 0.9) / rounds.quantile(0, 0.9)),
        ];
        for (rate, ratio) in columns {
            row.push(format!("{:.0}", rate / 1000.0));
            match contender {
                0 => row.extend([String::new(), String::new()]),
                _ => row.extend([
                    format!("{ratio:.2}"),
                    if consumers >= 16 { TARGET.verdict(ratio) } else { String::new() },
                ]),
            }
        }
        table.row(row);
    }
}

/// Blocks that are filled again once nobody holds them, in handles of type `H`.
struct Pool<H> {
    blocks: VecDeque<H>,
    source: [f32; BLOCK_SAMPLES],
}

impl<H: Clone> Pool<H> {
    fn new(make: impl Fn() -> H) -> Self {
        // What all rings, a stride and tokio's slots (which keep a block until the next lap) hold at most.
        let blocks = (0..4 * RING).map(|_| make()).collect();
        Self { blocks, source: array::from_fn(|sample| sample as f32) }
    }

    fn fill(&mut self, fill: impl FnOnce(&mut H, &[f32; BLOCK_SAMPLES])) -> H {
        let mut block = self.blocks.pop_front().expect("as many come back as go");
        fill(&mut block, black_box(&self.source));
        self.blocks.push_back(block.clone());
        block
    }
}

/// How many blocks a consumer has got, on a cache line of its own (two, because they are fetched in pairs).
#[repr(align(128))]
#[derive(Default)]
struct Progress(AtomicU64);

/// A consumer of either kind.
struct Reader<C> {
    consumer: C,
    received: u64,
    progress: Arc<Progress>,
}

impl<C> Reader<C> {
    fn read(&mut self, block: &Samples) {
        black_box(sum(block));
        self.received += 1;
        if self.received.is_multiple_of(STRIDE as u64) {
            self.progress.0.store(self.received, Ordering::Release);
        }
    }
}

/// Given how far each consumer is, waits for room and sends a stride of blocks.
type SendStride = dyn FnMut(&[Arc<Progress>]);

/// A producer with its consumers at work.
struct Lineup {
    send_stride: Box<SendStride>,
    progress: Vec<Arc<Progress>>,
    sent: u64,
    /// Tells the sweeping thread how far to go; it answers when it is running.
    sweeper: Option<(mpsc::Sender<u64>, mpsc::Receiver<()>)>,
}

impl Lineup {
    /// Starts the consumers: hands all of them to one thread, or each to a task.
    fn new<C, Reading>(
        runtime: &Runtime,
        arrangement: Arrangement,
        consumers: Vec<C>,
        try_read: fn(&mut Reader<C>, Timestamp),
        read: fn(Reader<C>) -> Reading,
        read_blocking: fn(Reader<C>),
        send_stride: impl FnMut(&[Arc<Progress>]) + 'static,
    ) -> Self
    where
        C: Send + 'static,
        Reading: Future<Output = ()> + Send + 'static,
    {
        let mut readers: Vec<Reader<C>> =
            consumers.into_iter().map(|consumer| Reader { consumer, received: 0, progress: Arc::default() }).collect();
        let progress = readers.iter().map(|reader| Arc::clone(&reader.progress)).collect();
        let sweeper = match arrangement {
            Arrangement::Sweep => {
                let (goals, goal) = mpsc::channel();
                let (ready, running) = mpsc::channel();
                thread::spawn(move || {
                    while let Ok(goal) = goal.recv() {
                        let _ = ready.send(());
                        wait_until(|| {
                            let now = Timestamp::now();
                            readers.iter_mut().for_each(|reader| try_read(reader, now));
                            readers.iter().all(|reader| reader.received >= goal)
                        });
                    }
                });
                Some((goals, running))
            }
            Arrangement::Tasks => {
                readers.into_iter().for_each(|reader| drop(runtime.spawn(read(reader))));
                None
            }
            Arrangement::Threads => {
                readers.into_iter().for_each(|reader| drop(thread::spawn(move || read_blocking(reader))));
                None
            }
        };
        Self { send_stride: Box::new(send_stride), progress, sent: 0, sweeper }
    }

    /// Sends `blocks` blocks and waits until everyone has got them. Returns blocks a second.
    fn turn(&mut self, blocks: usize) -> f64 {
        let goal = self.sent + blocks as u64;
        if let Some((goals, running)) = &self.sweeper {
            goals.send(goal).expect("the sweeper lives");
            running.recv().expect("the sweeper answers");
        }
        let start = Instant::now();
        for _ in 0..blocks / STRIDE {
            (self.send_stride)(&self.progress);
        }
        self.sent = goal;
        // Nobody gets here without every block: what is lost is missing in the count for ever.
        wait_until(|| all_reached(&self.progress, goal));
        blocks as f64 / start.elapsed().as_secs_f64()
    }
}

fn all_reached(progress: &[Arc<Progress>], goal: u64) -> bool {
    progress.iter().all(|reached| reached.0.load(Ordering::Acquire) >= goal)
}

/// Spins, because both threads have a core each; now and then lets others run, in case they have not.
fn wait_until(mut done: impl FnMut() -> bool) {
    for look in 1_u32.. {
        if done() {
            return;
        }
        if look.is_multiple_of(1000) { thread::yield_now() } else { spin_loop() }
    }
}

fn engine(runtime: &Runtime, arrangement: Arrangement, consumers: usize, batch: usize) -> Lineup {
    let (mut fan_out, hub) = FanOut::<Samples>::new(FanOutOptions { live: false, ..FanOutOptions::default() });
    let options = SubscribeOptions { overflow: Overflow::Block, buffer: RING, start: Start::Live };
    let consumers: Vec<Consumer<Samples>> =
        (0..consumers).map(|_| hub.subscribe(options).expect("a running fan-out")).collect();
    let mut pool = Pool::new(|| Arc::new(Item { stamp: Stamp::default(), value: [0.0; BLOCK_SAMPLES] }));
    let send_stride = move |_: &[Arc<Progress>]| {
        wait_until(|| fan_out.has_room(STRIDE));
        let now = Timestamp::now();
        for pushed in 1..=STRIDE {
            let stamp = Stamp { sequence: fan_out.next_sequence(), captured_at: now, dispatched_at: now };
            fan_out.push_item(pool.fill(|block, source| {
                let block = Arc::get_mut(block).expect("nobody is this late");
                block.stamp = stamp;
                block.value.copy_from_slice(source);
            }));
            if pushed.is_multiple_of(batch) {
                fan_out.flush();
            }
        }
    };
    Lineup::new(runtime, arrangement, consumers, try_read_engine, read_engine, read_engine_blocking, send_stride)
}

fn try_read_engine(reader: &mut Reader<Consumer<Samples>>, now: Timestamp) {
    if let Ok(delivery) = reader.consumer.try_recv(now) {
        reader.read(&delivery.item);
    }
}

/// Reads the clock once for all that it takes at one waking, as `poll_recv` allows.
async fn read_engine(mut reader: Reader<Consumer<Samples>>) {
    poll_fn(|context| {
        let now = Timestamp::now();
        loop {
            match ready!(reader.consumer.poll_recv(context, now)) {
                Ok(delivery) => reader.read(&delivery.item),
                Err(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

fn read_engine_blocking(mut reader: Reader<Consumer<Samples>>) {
    while let Ok(delivery) = reader.consumer.recv() {
        reader.read(&delivery.item);
    }
}

fn tokio_broadcast(runtime: &Runtime, arrangement: Arrangement, consumers: usize) -> Lineup {
    let (sender, _) = broadcast::channel(RING);
    let receivers: Vec<Receiver<Arc<Samples>>> = (0..consumers).map(|_| sender.subscribe()).collect();
    let mut pool = Pool::new(|| Arc::new([0.0; BLOCK_SAMPLES]));
    let mut sent = 0;
    let send_stride = move |progress: &[Arc<Progress>]| {
        sent += STRIDE as u64;
        wait_until(|| all_reached(progress, sent.saturating_sub(RING as u64)));
        for _ in 0..STRIDE {
            let _ = sender.send(pool.fill(|block, source| {
                Arc::get_mut(block).expect("nobody is this late").copy_from_slice(source);
            }));
        }
    };
    Lineup::new(
        runtime,
        arrangement,
        receivers,
        try_read_broadcast,
        read_broadcast,
        read_broadcast_blocking,
        send_stride,
    )
}

fn try_read_broadcast(reader: &mut Reader<Receiver<Arc<Samples>>>, _: Timestamp) {
    if let Ok(block) = reader.consumer.try_recv() {
        reader.read(&block);
    }
}

async fn read_broadcast(mut reader: Reader<Receiver<Arc<Samples>>>) {
    while let Ok(block) = reader.consumer.recv().await {
        reader.read(&block);
    }
}

fn read_broadcast_blocking(mut reader: Reader<Receiver<Arc<Samples>>>) {
    while let Ok(block) = reader.consumer.blocking_recv() {
        reader.read(&block);
    }
}
