//! Where sound enters: the one object that a device's callback writes to.
//!
//! It assembles blocks of fixed size from whatever the device hands over, numbers and stamps them, and copies them
//! into the capture ring. It never allocates, frees, locks, logs or waits, and it wakes nobody: the dispatcher knows
//! when to look.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use dasp_sample::FromSample;

use crate::timeline::Timeline;
use crate::{Format, Timestamp};

/// The capture ring holds this much sound: a dozen times what the dispatcher is kept waiting on a busy machine, and of
/// 48 kHz stereo 125 KB, which stay in the second-level cache. With a second of it, the callback took 20 % longer.
const RING_SPAN: Duration = Duration::from_millis(320);
/// And at least this many blocks, for block lengths near 100 ms.
const MIN_RING_BLOCKS: u64 = 8;
/// Words before a block's samples: sequence, capture time (two words each) and number of frames.
pub(crate) const HEADER_WORDS: usize = 5;

/// What the capture has done so far; written by the capturing thread, read by anyone.
#[derive(Debug, Default)]
pub struct CaptureTally {
    counts: CachePadded<Counts>,
    live: AtomicBool,
    failure: OnceLock<String>,
}

#[derive(Debug, Default)]
struct Counts {
    blocks: AtomicU64,
    lost_overflow: AtomicU64,
    lost_xrun: AtomicU64,
    next: AtomicU64,
    written_at: AtomicU64,
    xruns_reported: AtomicU64,
}

impl CaptureTally {
    /// Blocks that went into the capture ring.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.counts.blocks.load(Ordering::Acquire)
    }

    /// Blocks lost because the capture ring was full: the dispatcher did not run for too long.
    #[must_use]
    pub fn lost_overflow(&self) -> u64 {
        self.counts.lost_overflow.load(Ordering::Acquire)
    }

    /// Blocks lost because the device missed sound.
    #[must_use]
    pub fn lost_xrun(&self) -> u64 {
        self.counts.lost_xrun.load(Ordering::Acquire)
    }

    /// One past the last sequence number given, to a block or to a loss.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.counts.next.load(Ordering::Acquire)
    }

    /// When sound last came from the source.
    #[must_use]
    pub fn written_at(&self) -> Option<Timestamp> {
        match self.counts.written_at.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Timestamp::from_nanos(nanos)),
        }
    }

    /// Whether the source is open: sound may come. False before it starts and after it ended or failed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// What went wrong, if the source failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Says that the source failed. The first failure stays. Not for the callback: it takes an allocated message.
    pub(crate) fn fail(&self, message: String) {
        let _ = self.failure.set(message);
        self.live.store(false, Ordering::Release);
    }

    /// Says that the device reported an xrun; the next written samples account for it. Fit for a callback.
    #[cfg(feature = "device")]
    pub(crate) fn xrun_reported(&self) {
        self.counts.xruns_reported.fetch_add(1, Ordering::Release);
    }
}

/// The producing end of the capture ring. A source gets it when it starts, and writes samples to it.
#[derive(Debug)]
pub struct Capture {
    ring: rtrb::Producer<u32>,
    format: Format,
    live: bool,
    staging: Box<[f32]>,
    /// Samples of `staging` that are filled.
    filled: usize,
    /// Sequence number of the block in `staging`.
    sequence: u64,
    timeline: Timeline,
    xruns_seen: u64,
    tally: Arc<CaptureTally>,
}

impl Capture {
    /// The capture and the other end of its ring. Whether it is `live` only matters to the source: see
    /// [`Capture::is_live`].
    pub(crate) fn new(format: Format, live: bool) -> (Self, rtrb::Consumer<u32>, Arc<CaptureTally>) {
        let blocks = format.blocks_in(RING_SPAN).max(MIN_RING_BLOCKS) as usize;
        let (ring, reader) = rtrb::RingBuffer::new(blocks * block_words(format));
        let tally = Arc::new(CaptureTally::default());
        tally.live.store(true, Ordering::Release);
        let capture = Self {
            ring,
            format,
            live,
            staging: vec![0.0; format.block_samples()].into(),
            filled: 0,
            sequence: 0,
            timeline: Timeline::new(format),
            xruns_seen: 0,
            tally: Arc::clone(&tally),
        };
        (capture, reader, tally)
    }

    /// The format that is expected.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the sound must come at its own pace. Where it need not, the source writes as fast as there is
    /// [room](Self::has_room), and waits when there is none.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether a whole block of samples can be written without loss.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let words = block_words(self.format);
        self.ring.cached_slots() >= words || self.ring.slots() >= words
    }

    /// The shared counts, also for a device's error callback.
    pub(crate) fn tally(&self) -> &Arc<CaptureTally> {
        &self.tally
    }

    /// Takes interleaved samples of any type and number, the first of them captured at `captured_at`. What does not
    /// fit into the ring is lost and counted, and the sequence goes on.
    pub fn write<S: Copy>(&mut self, samples: &[S], captured_at: Timestamp)
    where
        f32: FromSample<S>,
    {
        let reported = self.tally.counts.xruns_reported.load(Ordering::Acquire);
        if reported != self.xruns_seen {
            self.xruns_seen = reported;
            let missing = self.timeline.offset(self.position(), captured_at).max(0) as u128;
            self.lose((missing * u128::from(self.format.rate_hz()) / 1_000_000_000) as u64, captured_at);
        }
        let lost = self.timeline.observe(self.position(), captured_at);
        if lost > 0 {
            self.lose(lost, captured_at);
        }
        let mut rest = samples;
        while !rest.is_empty() {
            if self.filled == 0 && rest.len() >= self.staging.len() {
                let (block, later) = rest.split_at(self.staging.len());
                self.emit_whole(block);
                rest = later;
                continue;
            }
            let free = &mut self.staging[self.filled..];
            let (now, later) = rest.split_at(rest.len().min(free.len()));
            for (to, from) in free.iter_mut().zip(now) {
                *to = f32::from_sample_(*from);
            }
            self.filled += now.len();
            rest = later;
            if self.filled == self.staging.len() {
                self.emit_staged();
            }
        }
        self.tally.counts.written_at.store(captured_at.as_nanos(), Ordering::Release);
    }

    /// Says that the source paused without losing anything: the next frame is captured at `captured_at`.
    pub fn resume_at(&mut self, captured_at: Timestamp) {
        self.timeline.rebase(self.position(), captured_at);
    }

    /// Position of the next frame to be written.
    fn position(&self) -> u64 {
        self.format.position(self.sequence) + (self.filled / usize::from(self.format.channels())) as u64
    }

    /// Gives up the begun block and goes on at the block grid, past `frames` frames that the device lost.
    fn lose(&mut self, frames: u64, captured_at: Timestamp) {
        let begun = self.position() - self.format.position(self.sequence);
        let blocks = (begun + frames).div_ceil(u64::from(self.format.block_frames())).max(1);
        self.filled = 0;
        self.sequence += blocks;
        self.timeline.rebase(self.position(), captured_at);
        add(&self.tally.counts.lost_xrun, blocks);
        self.tally.counts.next.store(self.sequence, Ordering::Release);
    }

    /// Copies the staged block into the ring. A last, short one is padded with silence, and its header says how long
    /// it is.
    fn emit_staged(&mut self) {
        let frames = self.filled / usize::from(self.format.channels());
        self.staging[self.filled..].fill(0.0);
        self.emit(frames as u32, |ring, staging| {
            // There is room, and only this thread fills the ring; so it is below.
            let _ = ring.push_entire_slice(bytemuck::cast_slice(staging));
        });
        self.filled = 0;
    }

    /// Puts a block that came in one piece into the ring without staging it: a third less work.
    fn emit_whole<S: Copy>(&mut self, samples: &[S])
    where
        f32: FromSample<S>,
    {
        self.emit(self.format.block_frames(), |ring, _| {
            if let Ok(chunk) = ring.write_chunk_uninit(samples.len()) {
                chunk.fill_from_iter(samples.iter().map(|sample| f32::from_sample_(*sample).to_bits()));
            }
        });
    }

    /// Puts a header and, by `put`, a block's samples into the ring, or counts the block as lost. The sequence goes
    /// on in any case.
    fn emit(&mut self, frames: u32, put: impl FnOnce(&mut rtrb::Producer<u32>, &[f32])) {
        if self.has_room() {
            let captured_at = self.timeline.time_of(self.format.position(self.sequence));
            let _ = self.ring.push_entire_slice(&header(self.sequence, captured_at, frames));
            put(&mut self.ring, &self.staging);
            add(&self.tally.counts.blocks, 1);
        } else {
            add(&self.tally.counts.lost_overflow, 1);
        }
        self.sequence += 1;
        self.tally.counts.next.store(self.sequence, Ordering::Release);
    }
}

impl Drop for Capture {
    /// The source is done: its last, begun block goes out short.
    fn drop(&mut self) {
        if self.filled >= usize::from(self.format.channels()) {
            self.emit_staged();
        }
        self.tally.live.store(false, Ordering::Release);
    }
}

/// Words of one block in the capture ring. Its capacity is a multiple of them, so no block wraps around its end.
pub(crate) const fn block_words(format: Format) -> usize {
    HEADER_WORDS + format.block_samples()
}

fn header(sequence: u64, captured_at: Timestamp, frames: u32) -> [u32; HEADER_WORDS] {
    let nanos = captured_at.as_nanos();
    [sequence as u32, (sequence >> 32) as u32, nanos as u32, (nanos >> 32) as u32, frames]
}

/// Sequence number, capture time and frames of a block, from its first words in the ring.
pub(crate) fn parse_header(words: &[u32]) -> (u64, Timestamp, u32) {
    let long = |low: usize| u64::from(words[low]) | u64::from(words[low + 1]) << 32;
    (long(0), Timestamp::from_nanos(long(2)), words[4])
}

/// For counters with one writer: a load and a store, not a locked add.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Release);
}
