//! Blocks through the rings as fast as possible, by criterion: from `Capture::write` to a consumer that reads every
//! sample; and through a bare ring, as the floor.
//!
//! *Capture to consumer* is all that a stream does: the capture ring, the dispatcher on its own thread, a block of the
//! pool, the consumer's ring. This thread writes while there is room and then takes the blocks that have come, so that
//! two threads run on two cores. The stream is not live and its consumer has the policy `block`: each side waits for the
//! other, nothing is lost (which is asserted), and a measured batch lasts until the consumer has its last block. A
//! dispatcher that is ahead sleeps for 20 us or more, as it does from file to file; that is part of the figure. The
//! history has its default length, 10 s, and all blocks go through its memory in turn.
//!
//! *Bare rtrb* is one ring of `f32`, as long as the capture ring. This thread fills it by `write_chunk_uninit`; another
//! one empties it by `read_chunk` and reads every sample. That is one copy and one passage between cores instead of two
//! of each, without numbers, times, counts or sleep. The ratio of the two is the engine's share.
//!
//! Left out are the costs of many consumers (`fanout`, `throughput`) and of the pace of live sound (`latency`). The report
//! counts a sample as one element.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{spin_until, sum, tap};
use aircheck_engine::{
    Block, Capture, Consumer, Format, OverflowPolicy, Stream, StreamOptions, SubscribeOptions, Timestamp,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const RATE_HZ: u32 = 48_000;
/// Block length in milliseconds, and channels.
const FORMATS: [(u64, u16); 8] = [(1, 2), (2, 2), (5, 2), (10, 1), (10, 2), (10, 4), (10, 8), (20, 2)];
/// As long as the capture ring.
const RING: Duration = Duration::from_millis(320);

fn throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    for (millis, channels) in FORMATS {
        let format = Format::new(RATE_HZ, channels, Duration::from_millis(millis)).expect("a possible format");
        let block = vec![0.25; format.block_samples()];
        let id = format!("{millis} ms x {channels}");
        group.throughput(Throughput::Elements(block.len() as u64));

        let mut path = Path::start(format);
        group.bench_function(BenchmarkId::new("capture to consumer", &id), |bencher| {
            bencher.iter_custom(|blocks| path.carry(blocks, &block));
        });
        path.finish();

        let mut bare = Bare::start(format);
        group.bench_function(BenchmarkId::new("bare rtrb", &id), |bencher| {
            bencher.iter_custom(|blocks| bare.carry(blocks, &block));
        });
    }
}

/// A stream with one consumer.
struct Path {
    capture: Capture,
    consumer: Consumer<Block>,
    stream: Stream,
    epoch: Timestamp,
    written: u64,
    received: u64,
}

impl Path {
    fn start(format: Format) -> Self {
        let options =
            StreamOptions { block: format.block_span(), live: false, await_consumers: 1, ..StreamOptions::default() };
        let (stream, capture) = tap(format.rate_hz(), format.channels(), options);
        let buffer = format.blocks_in(RING) as usize;
        let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer, ..SubscribeOptions::default() };
        let consumer = stream.subscribe(options).expect("a running stream");
        Self { capture, consumer, stream, epoch: Timestamp::now(), written: 0, received: 0 }
    }

    /// Returns the time from the first write of so many blocks until the last one is read.
    fn carry(&mut self, blocks: u64, block: &[f32]) -> Duration {
        let format = self.stream.format();
        let goal = self.written + blocks;
        let (start, now) = (Instant::now(), Timestamp::now());
        while self.received < goal {
            while self.written < goal && self.capture.has_room() {
                self.capture.write(black_box(block), format.time_of(self.epoch, format.position(self.written)));
                self.written += 1;
            }
            while let Ok(delivery) = self.consumer.try_recv_at(now) {
                black_box(sum(delivery.item.samples()));
                self.received += 1;
            }
            spin_loop();
        }
        start.elapsed()
    }

    /// Asserts that nothing was lost.
    fn finish(self) {
        let account = self.consumer.stats().snapshot();
        assert_eq!((account.delivered, account.lost.total()), (self.written, 0), "every block arrives");
        assert_eq!(self.stream.capture().lost_overflow(), 0, "the capture ring has room for every block");
    }
}

/// A ring of samples, and a thread that empties it until this is dropped.
struct Bare {
    ring: rtrb::Producer<f32>,
    written: u64,
    read: Arc<AtomicU64>,
}

impl Bare {
    fn start(format: Format) -> Self {
        let samples = format.block_samples();
        let (ring, mut reader) = rtrb::RingBuffer::new(format.blocks_in(RING) as usize * samples);
        let read = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&read);
        thread::spawn(move || {
            while !reader.is_abandoned() {
                spin_until(|| match reader.read_chunk(samples) {
                    Ok(chunk) => {
                        // A whole number of blocks fits, so none wraps around the ring's end.
                        black_box(sum(chunk.as_slices().0));
                        chunk.commit_all();
                        progress.fetch_add(1, Ordering::Release);
                        true
                    }
                    Err(_) => reader.is_abandoned(),
                });
            }
        });
        Self { ring, written: 0, read }
    }

    /// Returns the time from the first write of so many blocks until the last one is read.
    fn carry(&mut self, blocks: u64, block: &[f32]) -> Duration {
        let start = Instant::now();
        for _ in 0..blocks {
            let block = black_box(block);
            spin_until(|| match self.ring.write_chunk_uninit(block.len()) {
                Ok(chunk) => chunk.fill_from_iter(block.iter().copied()) == block.len(),
                Err(_) => false,
            });
        }
        self.written += blocks;
        spin_until(|| self.read.load(Ordering::Acquire) == self.written);
        start.elapsed()
    }
}

criterion_group! {
    name = ring;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = throughput
}
criterion_main!(ring);
