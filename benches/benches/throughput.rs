//! Blocks a second to consumers that read every sample: the engine's fan-out beside its peers.
//!
//! Everybody reads everything: the producer, on this thread, looks every [`STRIDE`] blocks at how far the consumers
//! are, and waits until all have room for as many more, so that no policy for slow ones is ever asked. One other thread
//! owns all consumers and goes round them, reading what each has; so two threads run on two cores, and what is
//! measured is the carrying, not the scheduler. *Reading alone* is the limit: the same blocks, read as often from an
//! array by that thread.
//!
//! *One by one*, every block is sent by itself; *by 8*, eight at a time where the library has batches (the engine,
//! disruptor, ringcast), as the dispatcher does when blocks wait.
//!
//! `-- NAME` measures only those whose name has NAME in it, for a profiler.
//!
//! A turn lasts from the first block to when every consumer has read the last one, about a millisecond; short, so that
//! on a busy machine many turns run undisturbed. Contenders take turns. Shown are the median rate, and the median of
//! the ratios of the same round, to the engine's: above 1 the engine is faster.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use aircheck_benches::{Rounds, Table, Target, is_quick, spin_until, sum};
use aircheck_engine::Timestamp;

mod peers;

use peers::{Block, PEERS, Peer, Sending, Taking};

/// A consumer's ring, in blocks. A power of two, because most round up to one.
const RING: usize = 128;
/// How many blocks go out between two looks at who has room.
const STRIDE: usize = 32;
/// Deliveries in one turn, up to [`BLOCKS_MOST`] blocks: about a millisecond.
const DELIVERIES: usize = 16_384;
const BLOCKS_MOST: usize = 2_048;
const ROUNDS: usize = 201;
const CONSUMERS: [usize; 6] = [1, 4, 16, 64, 256, 1024];
/// Numbers of consumers for which there are targets.
const JUDGED: [usize; 3] = [4, 16, 64];
const BATCHES: [(usize, &str); 2] = [(1, "one by one"), (8, "by 8")];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = is_quick();
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let is_wanted = |peer: &&Peer| wanted.is_none_or(|wanted| peer.name.contains(wanted.as_str()));
    let peers: Vec<Peer> = PEERS.iter().filter(is_wanted).copied().collect();
    let rounds = if quick { 3 } else { ROUNDS };
    for (batch, how) in BATCHES {
        println!("{how}: thousand blocks/s, each read by every consumer; {rounds} paired rounds\n");
        let mut table =
            Table::new(["consumers", "who", "thousand/s", "best 10th", "aircheck / it", "target", "slow consumer"]);
        let faster = CONSUMERS.map(|consumers| compare(&peers, consumers, batch, rounds, &mut table));
        println!("{table}");
        for (consumers, faster) in CONSUMERS.iter().zip(faster).filter(|(_, faster)| !faster.is_empty()) {
            println!("faster than aircheck with {consumers}: {}", faster.join(", "));
        }
        println!();
    }
}

/// What the engine's rate ought to be, as a multiple of a peer's.
fn target(peer: &str) -> Target {
    if peer == "disruptor" { Target::AtLeast(0.9) } else { Target::AtLeast(1.3) }
}

/// Measures them with so many consumers; returns who was faster than the engine, and how much.
fn compare(peers: &[Peer], consumers: usize, batch: usize, rounds: usize, table: &mut Table) -> Vec<String> {
    let blocks = (DELIVERIES / consumers).clamp(STRIDE, BLOCKS_MOST);
    let mut lineups: Vec<Lineup> = peers.iter().map(|peer| Lineup::new(*peer, consumers, batch)).collect();
    let floor = Floor::new(consumers);
    let rounds = Rounds::run(rounds, peers.len() + 1, |contender| match lineups.get_mut(contender) {
        Some(lineup) => lineup.turn(blocks),
        None => floor.turn(blocks),
    });
    let mut faster = Vec::new();
    for contender in 0..=peers.len() {
        let name = peers.get(contender).map_or("reading alone", |peer| peer.name);
        let ratio = rounds.ratio(0, contender);
        let judged = contender > 0 && contender < peers.len() && JUDGED.contains(&consumers);
        table.row([
            consumers.to_string(),
            name.to_owned(),
            format!("{:.0}", rounds.median(contender) / 1000.0),
            format!("{:.0}", rounds.quantile(contender, 0.9) / 1000.0),
            if contender == 0 { String::new() } else { format!("{ratio:.2}") },
            if judged { target(name).verdict(ratio) } else { String::new() },
            peers.get(contender).map_or("", |peer| peer.slow).to_owned(),
        ]);
        if contender < peers.len() && ratio < 1.0 {
            faster.push(format!("{name} ({:.2} x)", ratio.recip()));
        }
    }
    faster
}

/// How many blocks a consumer has read, on a cache line of its own (two, because they are fetched in pairs).
#[repr(align(128))]
#[derive(Default)]
struct Progress(AtomicU64);

/// A producer, and the thread that goes round its consumers.
struct Lineup {
    sender: Box<dyn Sending>,
    batch: usize,
    progress: Arc<[Progress]>,
    sent: u64,
    source: Block,
    /// Tells the sweeping thread how far to go; it answers when it is running.
    goals: mpsc::Sender<u64>,
    running: mpsc::Receiver<()>,
}

impl Lineup {
    fn new(peer: Peer, consumers: usize, batch: usize) -> Self {
        let (sender, mut receivers) = (peer.open)(RING, consumers);
        let progress: Arc<[Progress]> = (0..consumers).map(|_| Progress::default()).collect();
        let (goals, goal) = mpsc::channel();
        let (ready, running) = mpsc::channel();
        let reached = Arc::clone(&progress);
        thread::spawn(move || {
            let mut read = vec![0; receivers.len()];
            while let Ok(goal) = goal.recv() {
                let _ = ready.send(());
                spin_until(|| sweep(&mut receivers, &mut read, &reached, goal));
            }
        });
        let source = Block { samples: std::array::from_fn(|sample| sample as f32), ..Block::default() };
        Self { sender, batch, progress, sent: 0, source, goals, running }
    }

    /// Sends `blocks` blocks and waits until everyone has read them. Returns blocks a second.
    fn turn(&mut self, blocks: usize) -> f64 {
        let goal = self.sent + blocks as u64;
        self.goals.send(goal).expect("the sweeper lives");
        self.running.recv().expect("the sweeper answers");
        let start = Instant::now();
        for _ in 0..blocks / STRIDE {
            let room = (self.sent + STRIDE as u64).saturating_sub(RING as u64);
            spin_until(|| all_reached(&self.progress, room));
            for _ in 0..STRIDE / self.batch {
                let source = &self.source;
                self.sender.send(self.batch, &mut |block| *block = *black_box(source));
            }
            self.sent += STRIDE as u64;
        }
        // Nobody gets here without every block: what is lost is missing in the count for ever.
        spin_until(|| all_reached(&self.progress, goal));
        blocks as f64 / start.elapsed().as_secs_f64()
    }
}

/// One visit to each; whether all have read up to `goal`.
fn sweep(receivers: &mut [Box<dyn Taking>], read: &mut [u64], progress: &[Progress], goal: u64) -> bool {
    let now = Timestamp::now();
    let mut all = true;
    for ((receiver, read), progress) in receivers.iter_mut().zip(read).zip(progress) {
        let blocks = receiver.take(now, &mut read_all).blocks;
        if blocks > 0 {
            *read += blocks;
            progress.0.store(*read, Ordering::Release);
        }
        all &= *read >= goal;
    }
    all
}

fn read_all(block: &Block) {
    black_box(sum(&block.samples));
}

fn all_reached(progress: &[Progress], goal: u64) -> bool {
    progress.iter().all(|reached| reached.0.load(Ordering::Acquire) >= goal)
}

/// Reading a block as many times as there are consumers: a ring's worth of blocks, with nothing to carry.
struct Floor {
    consumers: usize,
    blocks: Vec<Block>,
}

impl Floor {
    fn new(consumers: usize) -> Self {
        Self { consumers, blocks: vec![Block::default(); RING] }
    }

    fn turn(&self, blocks: usize) -> f64 {
        let start = Instant::now();
        for stride in self.blocks.chunks(STRIDE).cycle().take(blocks / STRIDE) {
            for _ in 0..self.consumers {
                stride.iter().for_each(|block| read_all(black_box(block)));
            }
        }
        blocks as f64 / start.elapsed().as_secs_f64()
    }
}
