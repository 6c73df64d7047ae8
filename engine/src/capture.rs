//! The entry of the sound: a device's callback writes its samples here.
//!
//! The capture assembles blocks of fixed size from portions of any length, numbers and stamps them, and copies them into
//! the capture ring. It never allocates, frees, locks, logs or waits. Nor does it wake the dispatcher, which predicts
//! when the next block comes.

use std::sync::Arc;
use std::time::Duration;

use dasp_sample::FromSample;

use crate::drift::DriftMeter;
use crate::timeline::Timeline;
use crate::{CaptureTally, Format, Timestamp};

/// Length of the capture ring: a dozen times the longest delay of the dispatcher on a busy machine. For 48 kHz stereo it
/// is 125 KB, which stay in the second-level cache; with a second of sound, the callback took 20 % longer.
const RING_SPAN: Duration = Duration::from_millis(320);
/// Least length of the ring in blocks, for block lengths near 100 ms.
const MIN_RING_BLOCKS: u64 = 8;
/// Words before a block's samples: sequence number and capture time (two words each), and number of frames.
pub(crate) const HEADER_WORDS: usize = 5;

/// The producing end of the capture ring. A source receives it when it starts, and writes samples to it.
#[derive(Debug)]
pub struct Capture {
    ring: rtrb::Producer<u32>,
    format: Format,
    is_live: bool,
    staging: Box<[f32]>,
    /// Number of samples in `staging`.
    filled: usize,
    /// Sequence number of the block in `staging`.
    sequence: u64,
    timeline: Timeline,
    drift: DriftMeter,
    xruns_seen: u64,
    tally: Arc<CaptureTally>,
}

impl Capture {
    /// Creates the capture, the other end of its ring, and its counts. `is_live` only matters to the source: see
    /// [`Capture::is_live`].
    pub(crate) fn new(format: Format, is_live: bool) -> (Self, rtrb::Consumer<u32>, Arc<CaptureTally>) {
        let blocks = format.blocks_in(RING_SPAN).max(MIN_RING_BLOCKS) as usize;
        let (ring, reader) = touched_ring(blocks * block_words(format));
        let tally = Arc::new(CaptureTally::default());
        tally.set_open(true);
        let capture = Self {
            ring,
            format,
            is_live,
            staging: vec![0.0; format.block_samples()].into(),
            filled: 0,
            sequence: 0,
            timeline: Timeline::new(format),
            drift: DriftMeter::new(format.rate_hz()),
            xruns_seen: 0,
            tally: Arc::clone(&tally),
        };
        (capture, reader, tally)
    }

    /// Keeps what a callback writes to in RAM, if the system permits it.
    pub(crate) fn lock_memory(&mut self) {
        let realtime = self.tally.realtime();
        realtime.lock(&mut self.staging);
        // Nothing is committed, so the ring stays empty.
        if let Ok(mut room) = self.ring.write_chunk_uninit(self.ring.slots()) {
            let (first, second) = room.as_mut_slices();
            realtime.lock(first);
            realtime.lock(second);
        }
    }

    /// Returns the format of the samples to write.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns whether the sound must come at its own pace. If not, the source writes as fast as there is
    /// [room](Self::has_room), and waits when there is none.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Returns whether a whole block of samples can be written without loss.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let words = block_words(self.format);
        self.ring.cached_slots() >= words || self.ring.slots() >= words
    }

    /// Returns the shared counts, also for a device's error callback.
    pub(crate) fn tally(&self) -> &Arc<CaptureTally> {
        &self.tally
    }

    /// Writes interleaved samples of any type and number, the first of them captured at `captured_at`. Blocks that do not
    /// fit into the ring are lost and counted, and the sequence goes on.
    pub fn write<S: Copy>(&mut self, samples: &[S], captured_at: Timestamp)
    where
        f32: FromSample<S>,
    {
        let reported = self.tally.xruns_reported();
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
        self.tally.written(captured_at);
    }

    /// Compares the clock of a device with the system's: the next frame to be written was captured at `captured_at`, by the
    /// device. Fit for a callback.
    #[cfg(feature = "device")]
    pub(crate) fn observe_clock(&mut self, captured_at: Timestamp) {
        if let Some(drift) = self.drift.observe(self.position(), captured_at) {
            self.tally.set_drift(drift);
        }
    }

    /// Continues after a pause in which nothing was lost: the next frame is captured at `captured_at`.
    pub fn resume_at(&mut self, captured_at: Timestamp) {
        self.timeline.rebase(self.position(), captured_at);
    }

    /// Returns the position of the next frame to be written.
    fn position(&self) -> u64 {
        self.format.position(self.sequence) + (self.filled / usize::from(self.format.channels())) as u64
    }

    /// Discards the incomplete block, and goes on at the block grid after `frames` frames that the device lost.
    fn lose(&mut self, frames: u64, captured_at: Timestamp) {
        let begun = self.position() - self.format.position(self.sequence);
        let blocks = (begun + frames).div_ceil(u64::from(self.format.block_frames())).max(1);
        self.filled = 0;
        self.sequence += blocks;
        self.timeline.rebase(self.position(), captured_at);
        // Positions lie on the grid of blocks now, up to a block away from the device's own count.
        self.drift.restart();
        self.tally.blocks_missed(blocks);
        self.tally.advance(self.sequence);
    }

    /// Copies the staged block into the ring. A short block, the last one, is padded with silence; its header has its
    /// length.
    fn emit_staged(&mut self) {
        let frames = self.filled / usize::from(self.format.channels());
        self.staging[self.filled..].fill(0.0);
        self.emit(frames as u32, |ring, staging| {
            // There is room, and only this thread fills the ring. The same holds in `emit`.
            let _ = ring.push_entire_slice(bytemuck::cast_slice(staging));
        });
        self.filled = 0;
    }

    /// Copies a block that came in one piece into the ring without staging it, which is a third less work.
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

    /// Writes a header and, by `put`, a block's samples into the ring, or counts the block as lost. The sequence goes on
    /// in either case.
    fn emit(&mut self, frames: u32, put: impl FnOnce(&mut rtrb::Producer<u32>, &[f32])) {
        if self.has_room() {
            let captured_at = self.timeline.time_of(self.format.position(self.sequence));
            let _ = self.ring.push_entire_slice(&header(self.sequence, captured_at, frames));
            put(&mut self.ring, &self.staging);
            self.tally.block_written();
        } else {
            self.tally.block_refused();
        }
        self.sequence += 1;
        self.tally.advance(self.sequence);
    }
}

impl Drop for Capture {
    /// Ends the sound: the last, incomplete block goes out short.
    fn drop(&mut self) {
        if self.filled >= usize::from(self.format.channels()) {
            self.emit_staged();
        }
        self.tally.set_open(false);
    }
}

/// Makes a ring of `words` words whose memory is in use already. The system gives fresh memory page by page at the first
/// write: on the ring's first lap, blocks of a page each took 14 us at the 99th percentile (docs/PERFORMANCE.md).
fn touched_ring(words: usize) -> (rtrb::Producer<u32>, rtrb::Consumer<u32>) {
    let (mut ring, mut reader) = rtrb::RingBuffer::new(words);
    // Both chunks are there: the ring is empty, and then full. A whole lap leaves blocks where they fit.
    if let Ok(zeros) = ring.write_chunk(words) {
        zeros.commit_all();
    }
    if let Ok(zeros) = reader.read_chunk(words) {
        zeros.commit_all();
    }
    (ring, reader)
}

/// Returns the words of one block in the capture ring. The ring's capacity is a multiple of them, so no block wraps
/// around its end.
pub(crate) const fn block_words(format: Format) -> usize {
    HEADER_WORDS + format.block_samples()
}

fn header(sequence: u64, captured_at: Timestamp, frames: u32) -> [u32; HEADER_WORDS] {
    let nanos = captured_at.as_nanos();
    [sequence as u32, (sequence >> 32) as u32, nanos as u32, (nanos >> 32) as u32, frames]
}

/// Returns sequence number, capture time and frames of a block, from its first words in the ring.
pub(crate) fn parse_header(words: &[u32]) -> (u64, Timestamp, u32) {
    let long = |low: usize| u64::from(words[low]) | u64::from(words[low + 1]) << 32;
    (long(0), Timestamp::from_nanos(long(2)), words[4])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the page faults of this thread that needed no disk.
    #[cfg(target_os = "linux")]
    fn page_faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The name of the thread, in brackets, may have spaces; seven fields stand between it and this one.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_first_lap_of_the_ring_takes_no_fresh_memory() {
        // Eight channels at the highest rate: 1920 pages, which no earlier test has given back.
        let format = Format::new(768_000, 8, Duration::from_millis(10)).unwrap();
        let (mut capture, _reader, tally) = Capture::new(format, true);
        let block = vec![0.25_f32; format.block_samples()];
        let before = page_faults();
        for number in 0..32 {
            capture.write(&block, format.time_of(Timestamp::default(), format.position(number)));
        }
        let faults = page_faults() - before;
        assert_eq!(tally.blocks(), 32);
        assert!(faults < 100, "{faults} page faults");
    }
}
