//! The callback path beside a plain copy: `Capture::write` of one 480-frame stereo block.
//!
//! The ring is the real one of a 48 kHz stereo stream in 10 ms blocks, drained by the real dispatcher on its own
//! thread. Each reading is the mean of [`BATCH`] writes or copies in a row; before each, the ring is waited empty,
//! outside of the timed part. So the ring's memory was last read by another core, which a plain copy into memory of
//! one's own never sees. Therefore four copies: into the same block over and over (in the first-level cache), through
//! as much memory as the ring has, and through as much that another thread has read meanwhile (the fair floor); and
//! of `i16`, half the bytes.

use std::hint::black_box;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use aircheck_benches::{Rounds, Table, Target, sum, tap};
use aircheck_engine::{Capture, Format, Stream, StreamOptions, Timestamp};

const RATE_HZ: u32 = 48_000;
const CHANNELS: u16 = 2;
const BLOCK_SAMPLES: usize = 960;
/// Half of the ring, so that it never fills.
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
    let mut callback = Callback::start();
    let mut shared = SharedMemory::start();
    let f32_block = [0.25_f32; BLOCK_SAMPLES];
    let i16_block = [8192_i16; BLOCK_SAMPLES];
    let mut cached = [0.0; BLOCK_SAMPLES];
    let mut cached_i16 = [0; BLOCK_SAMPLES];
    let mut memory = vec![0.0; BLOCK_SAMPLES * RING_BLOCKS];
    let mut places = (0..RING_BLOCKS).cycle();
    let rounds = Rounds::run(ROUNDS, CONTENDERS.len(), |contender| {
        // All of them come out of the same wait.
        callback.drain();
        match contender {
            0 => mean_nanos(|| callback.write_f32(black_box(&f32_block))),
            1 => mean_nanos(|| callback.write_i16(black_box(&i16_block))),
            2 => mean_nanos(|| black_box(&mut cached).copy_from_slice(black_box(&f32_block))),
            3 => mean_nanos(|| copy_to(&mut memory, places.next().unwrap_or(0), black_box(&f32_block))),
            4 => shared.copy(&f32_block),
            _ => mean_nanos(|| black_box(&mut cached_i16).copy_from_slice(black_box(&i16_block))),
        }
    });
    assert_eq!(callback.stream.capture().lost_overflow(), 0, "the ring was to be drained in time");

    println!("callback path, one block of 480 frames stereo; median of {ROUNDS} paired rounds\n");
    let mut table = Table::new(["what", "ns", "write f32 / it", "write i16 / it", "target for f32"]);
    for (contender, name) in CONTENDERS.iter().enumerate() {
        let mut row = vec![(*name).to_owned(), format!("{:.0}", rounds.median(contender))];
        if contender >= 2 {
            let ratio = rounds.ratio(0, contender);
            row.extend([format!("{ratio:.2}"), format!("{:.2}", rounds.ratio(1, contender))]);
            row.extend((contender < 5).then(|| TARGET.verdict(ratio)));
        }
        table.row(row);
    }
    println!("{table}");
}

/// Nanoseconds per call, over a batch of them.
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

/// The capture of a running stream, written to at the times that its samples say.
struct Callback {
    capture: Capture,
    stream: Stream,
    format: Format,
    epoch: Timestamp,
    written: u64,
}

impl Callback {
    fn start() -> Self {
        let options = StreamOptions { history: Duration::from_secs(1), ..StreamOptions::default() };
        let (stream, capture) = tap(RATE_HZ, CHANNELS, options);
        Self { capture, format: stream.format(), stream, epoch: Timestamp::now(), written: 0 }
    }

    fn write_f32(&mut self, block: &[f32]) {
        let captured_at = self.next_time();
        self.capture.write(block, captured_at);
    }

    fn write_i16(&mut self, block: &[i16]) {
        let captured_at = self.next_time();
        self.capture.write(block, captured_at);
    }

    /// The time at which the next block begins by the stream's own clock.
    fn next_time(&mut self) -> Timestamp {
        self.written += 1;
        self.format.time_of(self.epoch, self.format.position(self.written - 1))
    }

    /// Waits until the dispatcher has taken everything.
    fn drain(&self) {
        while self.stream.head().next() < self.written {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Memory that one thread writes and another reads, in turn.
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
                let total = sum(&reader.lock().expect("nobody panics"));
                if answer.send(total).is_err() {
                    break;
                }
            }
        });
        Self { memory, read, done, place: 0 }
    }

    fn copy(&mut self, block: &[f32]) -> f64 {
        let mut memory = self.memory.lock().expect("nobody panics");
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
