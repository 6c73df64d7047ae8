//! The contenders: the engine, a ring with a task behind it, tokio's channel, a plain copy.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aircheck_benches::{sum, tap};
use aircheck_engine::{StreamOptions, SubscribeOptions, Timestamp};
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::Runtime;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use crate::rhythm::{BLOCK, Rhythm};

const RATE_HZ: u32 = 480_000;
const BLOCK_SAMPLES: usize = 960;
/// Receivers of tokio's channel: the number that the target names.
const PEER_RECEIVERS: usize = 16;
/// The capture ring's blocks at this block length, rounded down to a power of two.
const PEER_CAPACITY: usize = 256;

pub(crate) const CONTENDERS: [Contender; 7] = [
    Contender::Engine(1),
    Contender::Engine(16),
    Contender::Engine(64),
    Contender::EngineApart(16),
    Contender::RingTaskBroadcast,
    Contender::Broadcast,
    Contender::Nothing,
];

/// A way to give blocks to consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The engine with this many consumers.
    Engine(usize),
    /// The same, with the dispatcher kept off the pushing thread's processor.
    EngineApart(usize),
    /// The same copy into a ring, and the fan-out by a task.
    RingTaskBroadcast,
    /// The whole fan-out on the capture thread.
    Broadcast,
    /// A plain copy of the block in the same rhythm, which shows the machine's own part.
    Nothing,
}

/// The calls of one turn or more.
pub(crate) struct Calls {
    /// In nanoseconds.
    pub(crate) spans: Histogram<u64>,
    /// Blocks that consumers should have got, and those that they did not.
    pub(crate) offered: u64,
    pub(crate) lost: u64,
}

impl Contender {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Engine(consumers) => format!("engine, {consumers} consumers"),
            Self::EngineApart(consumers) => format!("engine, {consumers} consumers, dispatcher apart"),
            Self::RingTaskBroadcast => format!("ring, task, tokio broadcast, {PEER_RECEIVERS} receivers"),
            Self::Broadcast => format!("send of tokio broadcast, {PEER_RECEIVERS} receivers"),
            Self::Nothing => "plain copy, no consumers".into(),
        }
    }

    pub(crate) fn measure(self, runtime: &Runtime, rhythm: Rhythm, clock: Duration) -> Calls {
        match self {
            Self::Engine(consumers) => engine(runtime, consumers, rhythm, clock, false),
            Self::EngineApart(consumers) => engine(runtime, consumers, rhythm, clock, true),
            Self::RingTaskBroadcast => ring_task_broadcast(runtime, rhythm, clock),
            Self::Broadcast => tokio_broadcast(runtime, rhythm, clock),
            Self::Nothing => {
                let block = [0.25_f32; BLOCK_SAMPLES];
                let mut to = block;
                let spans = rhythm.run(clock, |_| black_box(&mut to).copy_from_slice(black_box(&block)));
                Calls { spans, offered: 0, lost: 0 }
            }
        }
    }
}

fn engine(runtime: &Runtime, consumers: usize, rhythm: Rhythm, clock: Duration, is_apart: bool) -> Calls {
    let options = StreamOptions { block: BLOCK, history: Duration::from_millis(100), ..StreamOptions::default() };
    let everywhere = sched_getaffinity(None);
    if is_apart {
        // The dispatcher's thread starts here and inherits this.
        run_on(1);
    }
    let (stream, mut capture) = tap(RATE_HZ, 2, options);
    if is_apart {
        run_on(0);
    }
    let readers: Vec<_> = (0..consumers)
        .map(|_| {
            // As many blocks as the peers' channel holds.
            let options = SubscribeOptions { buffer: PEER_CAPACITY, ..SubscribeOptions::default() };
            let mut consumer = stream.subscribe(options).expect("a running stream");
            let stats = Arc::clone(consumer.stats());
            let reader = runtime.spawn(async move {
                let mut total = 0.0;
                while let Ok(delivery) =
                    std::future::poll_fn(|context| consumer.poll_recv(context, Timestamp::now())).await
                {
                    total += sum(delivery.item.samples());
                }
                total
            });
            (stats, reader)
        })
        .collect();
    let block = [0.25_f32; BLOCK_SAMPLES];
    let (format, epoch) = (stream.format(), Timestamp::now());
    let spans = rhythm.run(clock, |number| {
        capture.write(black_box(&block), format.time_of(epoch, format.position(number)));
    });
    if let Ok(everywhere) = everywhere {
        let _ = sched_setaffinity(None, &everywhere);
    }
    drop(capture);
    stream.wait();
    let mut delivered = 0;
    runtime.block_on(async {
        for (stats, reader) in readers {
            black_box(reader.await.expect("no reader panics"));
            delivered += stats.snapshot().delivered;
        }
    });
    let offered = rhythm.blocks() * consumers as u64;
    Calls { spans, offered, lost: offered - delivered }
}

/// Keeps the calling thread on one processor. Where there is none of this number, nothing changes.
fn run_on(processor: usize) {
    let mut only = CpuSet::new();
    only.set(processor);
    let _ = sched_setaffinity(None, &only);
}

/// Receivers of tokio's channel that read every sample, each a task that returns the number of blocks it got.
fn receivers(runtime: &Runtime, sender: &broadcast::Sender<Arc<[f32]>>) -> Vec<JoinHandle<u64>> {
    let receiver = |_| {
        let mut receiver = sender.subscribe();
        runtime.spawn(async move {
            let mut received = 0;
            loop {
                match receiver.recv().await {
                    Ok(block) => {
                        black_box(sum(&block));
                        received += 1;
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break received,
                }
            }
        })
    };
    (0..PEER_RECEIVERS).map(receiver).collect()
}

/// Waits for the receivers' end and counts the blocks that they lost.
fn count(runtime: &Runtime, readers: Vec<JoinHandle<u64>>, rhythm: Rhythm, spans: Histogram<u64>) -> Calls {
    let offered = rhythm.blocks() * PEER_RECEIVERS as u64;
    let readers = readers.into_iter();
    let received: u64 = readers.map(|reader| runtime.block_on(reader).expect("no reader panics")).sum();
    Calls { spans, offered, lost: offered - received }
}

fn ring_task_broadcast(runtime: &Runtime, rhythm: Rhythm, clock: Duration) -> Calls {
    let (sender, _) = broadcast::channel::<Arc<[f32]>>(PEER_CAPACITY);
    let readers = receivers(runtime, &sender);
    let (mut ring, mut filled) = rtrb::RingBuffer::<f32>::new(PEER_CAPACITY * BLOCK_SAMPLES);
    let task = runtime.spawn(async move {
        let mut pause = tokio::time::interval(BLOCK);
        loop {
            // Read before the ring: all that was pushed before the end is then in it.
            let has_ended = filled.is_abandoned();
            while let Ok(chunk) = filled.read_chunk(BLOCK_SAMPLES) {
                // A whole number of blocks fits, so none wraps around the ring's end.
                let block: Arc<[f32]> = chunk.as_slices().0.into();
                chunk.commit_all();
                let _ = sender.send(block);
            }
            if has_ended {
                break;
            }
            pause.tick().await;
        }
    });
    let block = [0.25_f32; BLOCK_SAMPLES];
    let spans = rhythm.run(clock, |_| {
        // A full ring loses the block, as the capture ring does.
        let _ = ring.push_entire_slice(black_box(&block));
    });
    drop(ring);
    runtime.block_on(task).expect("the task does not panic");
    count(runtime, readers, rhythm, spans)
}

fn tokio_broadcast(runtime: &Runtime, rhythm: Rhythm, clock: Duration) -> Calls {
    let (sender, _) = broadcast::channel::<Arc<[f32]>>(PEER_CAPACITY);
    let readers = receivers(runtime, &sender);
    // More than the channel holds, so that no receiver has a block any more when it is sent again.
    let blocks: Vec<Arc<[f32]>> = (0..2 * PEER_CAPACITY).map(|_| [0.25; BLOCK_SAMPLES].into()).collect();
    let mut ready = blocks.iter().cycle().cloned();
    let mut next = ready.next();
    let spans = rhythm.run(clock, |_| {
        if let Some(block) = next.take() {
            let _ = black_box(sender.send(block));
        }
        next = ready.next();
    });
    drop(sender);
    count(runtime, readers, rhythm, spans)
}
