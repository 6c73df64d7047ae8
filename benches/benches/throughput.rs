//! Blocks per second to consumers that read every sample: the engine's fan-out beside its peers.
//!
//! No carrier loses anything: the producer, on this thread, looks at the consumers' progress every [`STRIDE`] blocks and
//! waits until all have room for as many more, so no policy for slow consumers comes into play. One other thread owns
//! all consumers and visits them in turn, reading all that each has. So two threads run on two cores, and the carrying
//! is measured, not the scheduler. *Reading alone* is the limit: the same blocks, read as often from an array by that
//! thread.
//!
//! *One by one*, every block is sent by itself; *by 8*, eight at a time where the library has batches (the engine,
//! disruptor, ringcast), as the dispatcher does when blocks wait.
//!
//! A turn lasts from the first block until every consumer has read the last one, about a millisecond: so short that on a
//! busy machine many turns run undisturbed. Contenders take turns. The table shows the median rate, and the median of
//! the ratios of the engine's rate to it in the same round: above 1 the engine is faster.
//!
//! `-- disruptor`, or `-- "by 8/64/"`, measures only those cases, for a profiler. Without the engine among them there
//! are no ratios.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use aircheck_benches::{Arguments, Rounds, Table, Target, number, spin_until, sum};
use aircheck_engine::Timestamp;

mod carriers;

use carriers::{AIRCHECK, Block, BlockReceiver, BlockSender, CARRIERS, Carrier, DISRUPTOR};

/// A consumer's ring, in blocks. A power of two, because most round up to one.
const RING: usize = 128;
/// Blocks that are sent between two looks at the consumers' progress.
const STRIDE: usize = 32;
/// Deliveries in one turn, up to [`MAX_BLOCKS`] blocks: about a millisecond.
const DELIVERIES: usize = 16_384;
const MAX_BLOCKS: usize = 2_048;
const ROUNDS: usize = 201;
const CONSUMERS: [usize; 6] = [1, 4, 16, 64, 256, 1024];
/// The most consumers of a short run.
const QUICK_CONSUMERS: usize = 16;
/// Numbers of consumers for which there are targets.
const JUDGED: [usize; 3] = [4, 16, 64];
const BATCHES: [(usize, &str); 2] = [(1, "one by one"), (8, "by 8")];

/// The name of the limit in the table.
const LIMIT: &str = "reading alone";

/// One contender of a table's row: a carrier, or the limit.
#[derive(Clone, Copy)]
struct Case {
    batch: (usize, &'static str),
    consumers: usize,
    carrier: Option<Carrier>,
}

impl Case {
    fn contender(&self) -> &'static str {
        self.carrier.map_or(LIMIT, |carrier| carrier.name)
    }

    fn name(&self) -> String {
        format!("{}/{}/{}", self.batch.1, self.consumers, self.contender())
    }
}

fn main() {
    let arguments = Arguments::read();
    let contenders = || CARRIERS.into_iter().map(Some).chain([None]);
    let max_consumers = if arguments.is_quick() { QUICK_CONSUMERS } else { usize::MAX };
    let cases = BATCHES.into_iter().flat_map(|batch| {
        CONSUMERS
            .into_iter()
            .filter(move |consumers| *consumers <= max_consumers)
            .flat_map(move |consumers| contenders().map(move |carrier| Case { batch, consumers, carrier }))
    });
    let cases = arguments.choose(cases, Case::name);
    let rounds = if arguments.is_quick() { 1 } else { ROUNDS };
    for batch in BATCHES {
        let with = |consumers: usize| {
            let is_in = |case: &&Case| case.batch == batch && case.consumers == consumers;
            cases.iter().filter(is_in).copied().collect::<Vec<Case>>()
        };
        let groups: Vec<Vec<Case>> = CONSUMERS.into_iter().map(with).filter(|group| !group.is_empty()).collect();
        if groups.is_empty() {
            continue;
        }
        println!("{}: thousand blocks/s, each read by every consumer; {rounds} paired rounds\n", batch.1);
        let mut table = Table::new([
            "consumers",
            "contender",
            "thousand/s",
            "best 10th",
            "aircheck / it",
            "target",
            "slow consumer",
        ]);
        let faster: Vec<String> = groups.iter().filter_map(|group| compare(group, rounds, &mut table)).collect();
        println!("{table}");
        faster.iter().for_each(|line| println!("{line}"));
        println!();
    }
}

/// Returns the target for the engine's rate as a multiple of a peer's.
fn target(peer: &str) -> Target {
    if peer == DISRUPTOR { Target::AtLeast(0.9) } else { Target::AtLeast(1.3) }
}

/// Measures contenders with the same number of consumers. Returns a line on the peers that were faster than the engine,
/// if there are any.
fn compare(cases: &[Case], rounds: usize, table: &mut Table) -> Option<String> {
    let consumers = cases[0].consumers;
    let blocks = (DELIVERIES / consumers).clamp(STRIDE, MAX_BLOCKS);
    let mut turns: Vec<_> = cases.iter().map(turns).collect();
    let rounds = Rounds::run(rounds, cases.len(), |contender| turns[contender](blocks));
    let aircheck = cases.iter().position(|case| case.contender() == AIRCHECK);
    let mut faster = Vec::new();
    for (contender, case) in cases.iter().enumerate() {
        let ratio = aircheck.filter(|engine| *engine != contender).map(|engine| rounds.ratio(engine, contender));
        let is_judged = case.carrier.is_some() && JUDGED.contains(&consumers);
        table.row([
            consumers.to_string(),
            case.contender().to_owned(),
            format!("{:.0}", rounds.median(contender) / 1000.0),
            format!("{:.0}", rounds.quantile(contender, 0.9) / 1000.0),
            number(ratio, 2),
            ratio.filter(|_| is_judged).map(|ratio| target(case.contender()).verdict(ratio)).unwrap_or_default(),
            case.carrier.map_or("", |carrier| carrier.slow).to_owned(),
        ]);
        if let Some(ratio) = ratio.filter(|ratio| *ratio < 1.0 && case.carrier.is_some()) {
            faster.push(format!("{} ({:.2} x)", case.contender(), ratio.recip()));
        }
    }
    (!faster.is_empty()).then(|| format!("faster than aircheck with {consumers}: {}", faster.join(", ")))
}

/// Starts a contender. Returns its turn, which is given a number of blocks and returns blocks per second.
fn turns(case: &Case) -> Box<dyn FnMut(usize) -> f64> {
    match case.carrier {
        Some(carrier) => {
            let mut lineup = Lineup::new(carrier, case.consumers, case.batch.0);
            Box::new(move |blocks| lineup.turn(blocks))
        }
        None => {
            let limit = Limit::new(case.consumers);
            Box::new(move |blocks| limit.turn(blocks))
        }
    }
}

/// The number of blocks that a consumer has read, on two cache lines of its own, because lines are fetched in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Progress(AtomicU64);

/// A producer, and the thread that visits its consumers in turn.
struct Lineup {
    sender: Box<dyn BlockSender>,
    batch: usize,
    progress: Arc<[Progress]>,
    sent: u64,
    source: Block,
    /// Sends the visiting thread the number of blocks at which the turn ends.
    goals: mpsc::Sender<u64>,
    /// The visiting thread's answer that it is running.
    running: mpsc::Receiver<()>,
}

impl Lineup {
    fn new(carrier: Carrier, consumers: usize, batch: usize) -> Self {
        let (sender, mut receivers) = (carrier.open)(RING, consumers);
        let progress: Arc<[Progress]> = (0..consumers).map(|_| Progress::default()).collect();
        let (goals, goal) = mpsc::channel();
        let (ready, running) = mpsc::channel();
        let reached = Arc::clone(&progress);
        thread::spawn(move || {
            let mut read = vec![0; receivers.len()];
            while let Ok(goal) = goal.recv() {
                let _ = ready.send(());
                spin_until(|| visit_all(&mut receivers, &mut read, &reached, goal));
            }
        });
        let source = Block { samples: std::array::from_fn(|sample| sample as f32), ..Block::default() };
        Self { sender, batch, progress, sent: 0, source, goals, running }
    }

    /// Sends `blocks` blocks and waits until every consumer has read them.
    fn turn(&mut self, blocks: usize) -> f64 {
        let goal = self.sent + blocks as u64;
        self.goals.send(goal).expect("the visiting thread lives");
        self.running.recv().expect("the visiting thread answers");
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
        // A lost block would be missing in the count, and this would never end.
        spin_until(|| all_reached(&self.progress, goal));
        blocks as f64 / start.elapsed().as_secs_f64()
    }
}

/// Visits each consumer once. Returns whether all have read up to `goal`.
fn visit_all(receivers: &mut [Box<dyn BlockReceiver>], read: &mut [u64], progress: &[Progress], goal: u64) -> bool {
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

/// The limit: each block of a ring is read as many times as there are consumers, and nothing is carried.
struct Limit {
    consumers: usize,
    blocks: Vec<Block>,
}

impl Limit {
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
