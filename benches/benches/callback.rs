//! The callback path: `Capture::write` of one block, as blocks, channels and consumers grow, by criterion; and then
//! beside a plain copy.
//!
//! The ring is the real one of a 48 kHz stream at its live pace, drained by the real dispatcher on its own thread. Only
//! writes are timed, up to half a ring of them in a row. Before each batch, outside of the timed part, the bench waits
//! until the ring is empty, so that no write finds it full, which is asserted. A thread of its own reads the consumers,
//! where there are any, and is waited for as well. Left out are the pace of a device, which lets caches grow cold between
//! blocks, and the work of consumers meanwhile (`push` has both).
//!
//! The table is of one 480-frame stereo block; each of its readings is the mean of [`BATCH`] writes or copies in a row.
//! The ring's memory was last read by another core; the memory of a plain copy was not. Therefore four copies: into the
//! same block again and again (in the first-level cache); through as much memory as the ring has; through as much memory
//! that another thread has read meanwhile (the fair floor); and of `i16`, half the bytes.
//!
//! `-- f32` measures only the cases with that in their name; the table is the case `beside copies`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{Arguments, Rounds, Table, Target, sum, tap};
use aircheck_engine::{
    Block, Capture, Consumer, Format, FromSample, Stream, StreamOptions, SubscribeOptions, Timestamp, TryRecvError,
};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

const RATE_HZ: u32 = 48_000;
/// Block length in milliseconds, and channels.
const FORMATS: [(u64, u16); 8] = [(1, 2), (2, 2), (5, 2), (10, 1), (10, 2), (10, 4), (10, 8), (20, 2)];
const CONSUMERS: [usize; 4] = [1, 16, 256, 1024];
/// Half of the sound that the capture ring holds, so that it never fills.
const BATCH_SPAN: Duration = Duration::from_millis(160);
/// The pause between two looks of a thread that waits for another.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

// The table's.
const BLOCK: Duration = Duration::from_millis(10);
const CHANNELS: u16 = 2;
const BLOCK_SAMPLES: usize = 960;
/// Half of the ring.
const BATCH: usize = 16;
/// The capture ring holds this many blocks at this block length.
const RING_BLOCKS: usize = 32;
const ROUNDS: usize = 300;
const TARGET: Target = Target::AtMost(3.0);

const CONTENDERS: [&str; 6] = [
    "write f32",
    "write i16",
    "copy f32, to cached block",
    "copy f32, through ring-sized memory",
    "copy f32, through ring-sized memory read by another core",
    "copy i16, to cached block",
];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for (millis, channels) in FORMATS {
        let id = format!("{millis} ms x {channels}");
        let block = Duration::from_millis(millis);
        growth(&mut criterion, BenchmarkId::new("f32", &id), Callback::start(block, channels, 0), 0.25_f32);
        growth(&mut criterion, BenchmarkId::new("i16", &id), Callback::start(block, channels, 0), 8192_i16);
    }
    for consumers in CONSUMERS {
        let callback = Callback::start(BLOCK, CHANNELS, consumers);
        growth(&mut criterion, BenchmarkId::new("f32, by consumers", consumers), callback, 0.25_f32);
    }
    criterion.final_summary();
    let arguments = Arguments::read();
    if arguments.wants("beside copies") {
        beside_copies(if arguments.is_quick() { 1 } else { ROUNDS });
    }
}

/// Times writes of one block; the report counts a sample as one element.
fn growth<S: Copy>(criterion: &mut Criterion, id: BenchmarkId, mut callback: Callback, sample: S)
where
    f32: FromSample<S>,
{
    let block = vec![sample; callback.format.block_samples()];
    let mut group = criterion.benchmark_group("callback");
    // Most of the time is waiting, so criterion's line through few and many writes would show nothing.
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(block.len() as u64));
    group.bench_function(id, |bencher| bencher.iter_custom(|writes| callback.time(writes, &block)));
    callback.assert_no_loss();
}

/// Writes and copies, in turn.
fn beside_copies(rounds: usize) {
    let mut callback = Callback::start(BLOCK, CHANNELS, 0);
    let mut shared = SharedMemory::start();
    let f32_block = [0.25_f32; BLOCK_SAMPLES];
    let i16_block = [8192_i16; BLOCK_SAMPLES];
    let mut cached = [0.0; BLOCK_SAMPLES];
    let mut cached_i16 = [0; BLOCK_SAMPLES];
    let mut memory = vec![0.0; BLOCK_SAMPLES * RING_BLOCKS];
    let mut places = (0..RING_BLOCKS).cycle();
    let readings = Rounds::run(rounds, CONTENDERS.len(), |contender| {
        // Each contender comes after the same wait.
        callback.drain();
        match contender {
            0 => mean_nanos(|| callback.write(black_box(&f32_block))),
            1 => mean_nanos(|| callback.write(black_box(&i16_block))),
            2 => mean_nanos(|| black_box(&mut cached).copy_from_slice(black_box(&f32_block))),
            3 => mean_nanos(|| copy_to(&mut memory, places.next().unwrap_or(0), black_box(&f32_block))),
            4 => shared.copy(&f32_block),
            _ => mean_nanos(|| black_box(&mut cached_i16).copy_from_slice(black_box(&i16_block))),
        }
    });
    callback.assert_no_loss();

    println!("callback path, one block of 480 frames stereo; median of {rounds} paired rounds\n");
    let mut table = Table::new(["what", "ns", "write f32 / it", "write i16 / it", "target for f32"]);
    for (contender, name) in CONTENDERS.iter().enumerate() {
        let mut row = vec![(*name).to_owned(), format!("{:.0}", readings.median(contender))];
        if contender >= 2 {
            let ratio = readings.ratio(0, contender);
            row.extend([format!("{ratio:.2}"), format!("{:.2}", readings.ratio(1, contender))]);
            row.extend((contender < 5).then(|| TARGET.verdict(ratio)));
        }
        table.row(row);
    }
    println!("{table}");
}

/// Returns the nanoseconds of a call, as the mean of a batch.
fn mean_nanos(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..BATCH {
        call();
    }
    start.elapsed().as_nanos() as f64 / BATCH as f64
}

fn copy_to(memory: &mut [f32], place: usize, block: &[f32]) {
    black_box(&mut memory[place * BLOCK_SAMPLES..][..BLOCK_SAMPLES]).copy_from_slice(block);
}

/// The capture of a running stream. Blocks are written for the times that their positions stand for.
struct Callback {
    capture: Capture,
    stream: Stream,
    format: Format,
    epoch: Timestamp,
    written: u64,
    consumers: usize,
    /// Blocks that all consumers together have read.
    read: Arc<AtomicU64>,
}

impl Callback {
    fn start(block: Duration, channels: u16, consumers: usize) -> Self {
        let options = StreamOptions { block, history: Duration::from_secs(1), ..StreamOptions::default() };
        let (stream, capture) = tap(RATE_HZ, channels, options);
        let read = Arc::default();
        if consumers > 0 {
            let subscribe = |_| stream.subscribe(SubscribeOptions::default()).expect("a running stream");
            let subscribed: Vec<_> = (0..consumers).map(subscribe).collect();
            while !subscribed.iter().all(|consumer| consumer.stats().is_attached()) {
                thread::sleep(POLL_INTERVAL);
            }
            let read = Arc::clone(&read);
            thread::spawn(move || read_all(subscribed, &read));
        }
        Self { capture, format: stream.format(), stream, epoch: Timestamp::now(), written: 0, consumers, read }
    }

    /// Writes a block for the time at which it begins by the stream's own clock.
    fn write<S: Copy>(&mut self, block: &[S])
    where
        f32: FromSample<S>,
    {
        let captured_at = self.format.time_of(self.epoch, self.format.position(self.written));
        self.written += 1;
        self.capture.write(block, captured_at);
    }

    /// Returns the time of so many writes, without the waits between batches.
    fn time<S: Copy>(&mut self, writes: u64, block: &[S]) -> Duration
    where
        f32: FromSample<S>,
    {
        let (mut left, mut time) = (writes, Duration::ZERO);
        while left > 0 {
            let batch = left.min(self.format.blocks_in(BATCH_SPAN));
            left -= batch;
            self.drain();
            let start = Instant::now();
            for _ in 0..batch {
                self.write(black_box(block));
            }
            time += start.elapsed();
        }
        time
    }

    /// Waits until the dispatcher has taken everything, and every consumer has read it.
    fn drain(&self) {
        self.assert_no_loss();
        let all_read = self.written * self.consumers as u64;
        while self.stream.head().next() < self.written || self.read.load(Ordering::Acquire) < all_read {
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Asserts that no block was lost: it would have cost nothing, and [`drain`](Self::drain) would wait for it for ever.
    fn assert_no_loss(&self) {
        assert_eq!(self.stream.capture().lost_overflow(), 0, "the ring was to be drained in time");
        assert_eq!(self.stream.capture().lost_xrun(), 0, "the times were to be those of the samples");
    }
}

/// Visits all consumers in turn until their stream ends.
fn read_all(mut consumers: Vec<Consumer<Block>>, read: &AtomicU64) {
    loop {
        let now = Timestamp::now();
        for consumer in &mut consumers {
            let mut blocks = 0;
            let end = loop {
                match consumer.try_recv_at(now) {
                    Ok(delivery) => black_box(sum(delivery.item.samples())),
                    Err(end) => break end,
                };
                blocks += 1;
            };
            read.fetch_add(blocks, Ordering::Release);
            if matches!(end, TryRecvError::Ended(_)) {
                return;
            }
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Memory that one thread writes and another reads, by turns.
struct SharedMemory {
    memory: Arc<Mutex<Vec<f32>>>,
    read: mpsc::SyncSender<()>,
    done: mpsc::Receiver<f32>,
    place: usize,
}

impl SharedMemory {
    fn start() -> Self {
        let memory = Arc::new(Mutex::new(vec![0.0; BLOCK_SAMPLES * RING_BLOCKS]));
        let (read, asked) = mpsc::sync_channel(1);
        let (answer, done) = mpsc::channel();
        let reader = Arc::clone(&memory);
        thread::spawn(move || {
            while asked.recv().is_ok() {
                let total = sum(&reader.lock().expect("no thread panics"));
                if answer.send(total).is_err() {
                    break;
                }
            }
        });
        Self { memory, read, done, place: 0 }
    }

    fn copy(&mut self, block: &[f32]) -> f64 {
        let mut memory = self.memory.lock().expect("no thread panics");
        let nanos = mean_nanos(|| {
            copy_to(&mut memory, self.place, black_box(block));
            self.place = (self.place + 1) % RING_BLOCKS;
        });
        drop(memory);
        self.read.send(()).expect("the reader lives");
        black_box(self.done.recv().expect("the reader answers"));
        nanos
    }
}
