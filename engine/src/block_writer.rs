//! The producing end of the capture ring: makes blocks of samples.
//!
//! The block writer assembles blocks of fixed size from portions of any length, numbers and stamps them, and copies them into
//! the capture ring. It never allocates, frees, locks, logs or waits. Nor does it wake the dispatcher, which predicts
//! when the next block comes.

use std::sync::Arc;
use std::thread;

use dasp_sample::FromSample;

use crate::capture_ring::{Header, RING_SPAN, block_words, capture_ring};
use crate::drift::DriftMeter;
use crate::lease::fade_frames;
use crate::poll_schedule::Completion;
use crate::relayed::{Numbering, Relay, RelayedBlock};
use crate::timeline::Timeline;
use crate::{CaptureStats, Format, Origin, Timestamp};

/// Samples that came at once.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    arrived_at: Timestamp,
    frames: u32,
    /// Position after its last frame.
    end: u64,
}

/// The producing end of the capture ring.
#[derive(Debug)]
pub(crate) struct BlockWriter {
    ring: rtrb::Producer<u32>,
    format: Format,
    is_live: bool,
    staging: Box<[f32]>,
    /// Number of samples in `staging`.
    filled: usize,
    /// The last frame of the block before, from which silence fades out.
    last_frame: Box<[f32]>,
    /// Sequence number of the block in `staging`.
    sequence: u64,
    /// Samples to come that belong to a lost block, before the one with that number.
    to_discard: usize,
    /// The period that is being written.
    period: Period,
    timeline: Timeline,
    drift: DriftMeter,
    xruns_seen: u64,
    pauses_seen: u64,
    /// Sound that was captured before this and finds no room is lost because of a burst, which has come after a pause of the source:
    /// the dispatcher has the time of a whole ring to take it.
    burst_until: Timestamp,
    /// The origin of the blocks that are written.
    origin: Origin,
    /// The number with which the stream has begun.
    first: u64,
    /// Whether the source is another server, so that what does not come from it is lost on the hop.
    is_hop: bool,
    numbering: Numbering,
    /// Blocks since the last one in the ring that did not come from another server, and for which nothing stands.
    lost_on_hop: u32,
    /// Whether the block that is written is older than the stream.
    is_past: bool,
    stats: Arc<CaptureStats>,
}

impl BlockWriter {
    /// Creates the writer, the other end of its ring, and its counts.
    pub(crate) fn new(format: Format, is_live: bool) -> (Self, rtrb::Consumer<u32>, Arc<CaptureStats>) {
        let (ring, reader) = capture_ring(format);
        let stats = Arc::new(CaptureStats::default());
        stats.set_open(true);
        let writer = Self {
            ring,
            format,
            is_live,
            staging: vec![0.0; format.block_samples()].into(),
            filled: 0,
            last_frame: vec![0.0; usize::from(format.channels())].into(),
            sequence: 0,
            to_discard: 0,
            period: Period::default(),
            timeline: Timeline::new(format),
            drift: DriftMeter::new(format.rate_hz()),
            xruns_seen: 0,
            pauses_seen: 0,
            burst_until: Timestamp::default(),
            origin: Origin::Source,
            first: 0,
            is_hop: false,
            numbering: Numbering::new(format),
            lost_on_hop: 0,
            is_past: false,
            stats: Arc::clone(&stats),
        };
        (writer, reader, stats)
    }

    /// Gives the first block this number. Called before anything is written.
    pub(crate) fn begin_at(&mut self, first: u64) {
        (self.first, self.sequence) = (first, first);
        self.stats.advance(first);
    }

    /// Says whether the source is another server.
    pub(crate) fn set_hop(&mut self, is_hop: bool) {
        self.is_hop = is_hop;
    }

    /// Keeps what a callback writes to in RAM, if the system permits it.
    pub(crate) fn lock_memory(&mut self) {
        let realtime = self.stats.realtime();
        realtime.lock(&mut self.staging);
        realtime.lock(&mut self.last_frame);
        // Nothing is committed, so the ring stays empty.
        if let Ok(mut room) = self.ring.write_chunk_uninit(self.ring.slots()) {
            let (first, second) = room.as_mut_slices();
            realtime.lock(first);
            realtime.lock(second);
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    pub(crate) fn stats(&self) -> &Arc<CaptureStats> {
        &self.stats
    }

    fn channels(&self) -> usize {
        usize::from(self.format.channels())
    }

    /// Returns the frames in `staging`.
    fn staged_frames(&self) -> u64 {
        (self.filled / self.channels()) as u64
    }

    /// Returns whether a whole block of samples can be written without loss.
    pub(crate) fn has_room(&self) -> bool {
        let words = block_words(self.format);
        self.ring.cached_slots() >= words || self.ring.slots() >= words
    }

    /// Writes samples of the source: see [`Capture::write`].
    pub(crate) fn write<S: Copy>(&mut self, samples: &[S], captured_at: Timestamp)
    where
        f32: FromSample<S>,
    {
        let frames = samples.len() / self.channels();
        self.begin_period(frames, captured_at, Timestamp::now());
        self.append(samples);
    }

    /// Begins a period of `frames` frames that arrived at `arrived_at`, the first of them captured at `captured_at`: finds
    /// out whether sound is missing before it. [`append`](Self::append) writes the samples.
    pub(crate) fn begin_period(&mut self, frames: usize, captured_at: Timestamp, arrived_at: Timestamp) {
        let reported = self.stats.xruns_reported();
        if reported != self.xruns_seen {
            self.xruns_seen = reported;
            let missing = self.timeline.missing(self.position(), captured_at);
            self.lose(missing);
        }
        let pauses = self.stats.pauses();
        if pauses != self.pauses_seen {
            (self.pauses_seen, self.burst_until) = (pauses, arrived_at + RING_SPAN);
        }
        let lost = self.timeline.observe(self.position(), captured_at);
        if lost > 0 {
            self.lose(lost);
        }
        let end = self.position() + frames as u64;
        self.period = Period { arrived_at, frames: u32::try_from(frames).unwrap_or(u32::MAX), end };
        self.stats.written(captured_at);
    }

    /// Writes samples of the period that has begun.
    pub(crate) fn append<S: Copy>(&mut self, samples: &[S])
    where
        f32: FromSample<S>,
    {
        let mut rest = self.discard(samples);
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
    }

    /// Writes a block of another server: see [`Capture::relay`](crate::Capture::relay).
    pub(crate) fn relay(&mut self, block: &RelayedBlock<'_>) -> Relay {
        self.stats.written(block.captured_at);
        let (is_first, due) = self.place_of(block);
        let number = self.numbering.number(block, is_first, due);
        let Some(missing) = number.and_then(|number| number.checked_sub(self.sequence)) else { return Relay::Late };
        self.stats.frames_discarded(self.staged_frames());
        (self.filled, self.to_discard) = (0, 0);
        let on_hop = block.lost_on_hop.min(missing);
        self.miss_on_hop(on_hop);
        self.stats.source_missing(missing - on_hop);
        self.sequence += missing;
        let sequence = self.sequence;
        // Its time is as exact as the other server has it.
        self.resume_at(block.captured_at);
        self.begin_substitute(block.origin);
        let samples = &block.samples[..block.samples.len().min(self.staging.len())];
        self.staging[..samples.len()].copy_from_slice(samples);
        self.filled = samples.len();
        self.is_past = block.is_past;
        self.emit_staged();
        (self.origin, self.is_past) = (Origin::Source, false);
        Relay::Taken { sequence }
    }

    /// Returns the number that [`relay`](Self::relay) would give to a block, if there is one.
    pub(crate) fn number_of(&self, block: &RelayedBlock<'_>) -> Option<u64> {
        let (is_first, due) = self.place_of(block);
        self.numbering.clone().number(block, is_first, due)
    }

    /// Returns how many numbers are missing before a block of another server.
    pub(crate) fn missing_before(&self, block: &RelayedBlock<'_>) -> u64 {
        self.number_of(block).map_or(0, |number| number.saturating_sub(self.sequence))
    }

    /// Returns whether a block of another server may be the first of the stream, and the number that it has by its time.
    fn place_of(&self, block: &RelayedBlock<'_>) -> (bool, u64) {
        let due = self.sequence + self.format.nearest_block(block.captured_at.since(self.due()));
        (self.sequence == self.first && block.sequence >= self.first, due)
    }

    /// Counts blocks of another server that did not come, and for which nothing stands.
    fn miss_on_hop(&mut self, blocks: u64) {
        self.stats.hop_missing(blocks);
        self.lost_on_hop = self.lost_on_hop.saturating_add(u32::try_from(blocks).unwrap_or(u32::MAX));
    }

    /// Compares the clock of a device with the system's: the next frame to be written was captured at `captured_at`, by the
    /// device. Fit for a callback.
    #[cfg(feature = "device")]
    pub(crate) fn observe_clock(&mut self, captured_at: Timestamp) {
        if let Some(drift) = self.drift.observe(self.position(), captured_at) {
            self.stats.set_drift(drift);
        }
    }

    /// Continues after a pause in which nothing was lost: the next frame is captured at `captured_at`.
    pub(crate) fn resume_at(&mut self, captured_at: Timestamp) {
        self.timeline.rebase(self.position(), captured_at);
    }

    /// Discards the incomplete block because the source is lost. It belongs to the hole, which begins at `started_at` if the
    /// source has never delivered.
    pub(crate) fn begin_hole(&mut self, started_at: Timestamp) {
        if !self.timeline.has_begun() {
            self.resume_at(started_at);
        }
        self.stats.frames_discarded(self.staged_frames());
        (self.filled, self.to_discard) = (0, 0);
        // Another stream of the device has another latency, and another device has another clock.
        self.drift = DriftMeter::new(self.format.rate_hz());
    }

    /// Returns when the next frame is due, by the timeline of what was written before.
    pub(crate) fn due(&self) -> Timestamp {
        self.timeline.time_of(self.position())
    }

    /// Writes a block of the fallback. It takes the sequence number and the time of the block that is missing. Called at the
    /// block grid only.
    pub(crate) fn write_fallback(&mut self, samples: &[f32]) {
        self.begin_substitute(Origin::Fallback);
        self.emit_whole(samples);
        self.origin = Origin::Source;
    }

    /// Writes a block of silence in place of one that is missing, as [`write_fallback`](Self::write_fallback) does. After sound it
    /// begins with a fade: the last frame is held, and falls to nothing. Fit for a callback.
    pub(crate) fn write_silence(&mut self) {
        let fade_frames = fade_frames(self.format);
        self.staging.fill(0.0);
        for (frame, left) in self.staging.chunks_exact_mut(self.last_frame.len()).zip((0..fade_frames).rev()) {
            let gain = left as f32 / fade_frames as f32;
            for (sample, last) in frame.iter_mut().zip(&self.last_frame) {
                // A source of floats may have ended with what is no number.
                *sample = if last.is_finite() { last * gain } else { 0.0 };
            }
        }
        self.begin_substitute(if self.is_hop { Origin::Hop } else { Origin::Missing });
        self.filled = self.staging.len();
        self.emit_staged();
        self.origin = Origin::Source;
    }

    fn begin_substitute(&mut self, origin: Origin) {
        let frames = self.format.block_frames();
        let end = self.position() + u64::from(frames);
        self.period = Period { arrived_at: Timestamp::now(), frames, end };
        self.origin = origin;
    }

    /// Advances the sequence by `blocks` blocks of the source that are missing and that nothing stands for.
    pub(crate) fn skip_missing(&mut self, blocks: u64) {
        self.sequence += blocks;
        if self.is_hop {
            self.miss_on_hop(blocks);
        } else {
            self.stats.source_missing(blocks);
        }
        self.stats.advance(self.sequence);
    }

    /// Goes on with the source, whose next frame is due now: deviations of earlier timestamps no longer count.
    pub(crate) fn end_hole(&mut self) {
        self.xruns_seen = self.stats.xruns_reported();
        self.timeline.rebase(self.position(), self.due());
    }

    /// Returns the position of the next frame to be written.
    fn position(&self) -> u64 {
        let written = self.format.position(self.sequence) + self.staged_frames();
        written - (self.to_discard / self.channels()) as u64
    }

    /// Notes that the device has lost `frames` frames before the next one. Blocks lie on a grid, so the one in which a loss
    /// begins, and each one up to that in which it ends, are lost and counted as a whole: what has come of the first is
    /// discarded here, and what will come of the last by [`discard`](Self::discard). The next block then begins on the
    /// grid, and its position says when.
    fn lose(&mut self, frames: u64) {
        let next = self.position() + frames;
        let start = self.format.position(self.sequence);
        // If not, the loss lies in a block that is lost already.
        if self.to_discard == 0 || next > start {
            // At least one: a device that has reported a loss has lost something, even if its timestamps do not show it.
            let blocks = (next - start).div_ceil(u64::from(self.format.block_frames())).max(1);
            self.stats.frames_discarded(self.staged_frames());
            self.filled = 0;
            self.sequence += blocks;
            self.stats.blocks_missed(blocks);
            self.stats.advance(self.sequence);
            // By how much time has passed, and not by the device's count.
            self.drift.restart();
        }
        let frames = self.format.position(self.sequence) - next;
        self.to_discard = frames as usize * self.channels();
    }

    /// Discards samples up to the next block's beginning after a loss. Returns the others.
    fn discard<'s, S>(&mut self, samples: &'s [S]) -> &'s [S] {
        if self.to_discard == 0 {
            return samples;
        }
        let (discarded, rest) = samples.split_at(samples.len().min(self.to_discard));
        self.to_discard -= discarded.len();
        self.stats.frames_discarded((discarded.len() / self.channels()) as u64);
        rest
    }

    /// Returns what tells the dispatcher when to expect the block after the current one.
    fn completion(&self) -> Completion {
        let Period { arrived_at, frames, end } = self.period;
        let left = end.saturating_sub(self.format.position(self.sequence + 1));
        Completion { arrived_at, period_frames: frames, left_frames: left.min(u64::from(frames)) as u32 }
    }

    /// Copies the staged block into the ring. A short block, the last one, is padded with silence; its header has its
    /// length.
    fn emit_staged(&mut self) {
        let frames = self.staged_frames() as u32;
        let last = self.filled - self.last_frame.len();
        self.last_frame.copy_from_slice(&self.staging[last..self.filled]);
        self.staging[self.filled..].fill(0.0);
        self.emit(frames, |ring, staging| {
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
        for (to, from) in self.last_frame.iter_mut().rev().zip(samples.iter().rev()) {
            *to = f32::from_sample_(*from);
        }
        self.emit(self.format.block_frames(), |ring, _| {
            if let Ok(chunk) = ring.write_chunk_uninit(samples.len()) {
                chunk.fill_from_iter(samples.iter().map(|sample| f32::from_sample_(*sample).to_bits()));
            }
        });
    }

    /// Writes a header and, by `put`, a block's samples into the ring, or counts the block as lost. The sequence goes on
    /// in either case.
    fn emit(&mut self, frames: u32, put: impl FnOnce(&mut rtrb::Producer<u32>, &[f32])) {
        let captured_at = self.timeline.time_of(self.format.position(self.sequence));
        if self.has_room() {
            let header = Header {
                sequence: self.sequence,
                captured_at,
                length: self.origin.mark(frames),
                completion: self.completion(),
                lost_on_hop: std::mem::take(&mut self.lost_on_hop),
                epoch: self.numbering.changes(),
                is_past: self.is_past,
            };
            let _ = self.ring.push_entire_slice(&header.to_words());
            put(&mut self.ring, &self.staging);
            self.stats.block_written(self.origin);
        } else if self.origin == Origin::Source && captured_at < self.burst_until {
            self.stats.burst_refused();
        } else {
            self.stats.block_refused(self.origin);
        }
        self.sequence += 1;
        self.stats.advance(self.sequence);
    }
}

impl Drop for BlockWriter {
    /// Ends the sound: the last, incomplete block goes out short. A source whose thread panics has failed.
    fn drop(&mut self) {
        if self.staged_frames() > 0 {
            self.emit_staged();
        }
        if thread::panicking() {
            self.stats.fail("the source panicked (see its message on standard error)".to_owned());
        }
        self.stats.set_open(false);
    }
}
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1_790_000_000_000_000_000);

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
        let (mut capture, _reader, stats) = BlockWriter::new(format, true);
        let block = vec![0.25_f32; format.block_samples()];
        let before = page_faults();
        for number in 0..32 {
            capture.write(&block, format.time_of(Timestamp::default(), format.position(number)));
        }
        let faults = page_faults() - before;
        assert_eq!(stats.blocks(), 32);
        assert!(faults < 100, "{faults} page faults");
    }

    /// A device of one channel whose samples are their own true positions.
    struct Microphone {
        capture: BlockWriter,
        ring: rtrb::Consumer<u32>,
        stats: Arc<CaptureStats>,
        format: Format,
        /// True position of the next frame: sound that is lost counts.
        next: u64,
        received: u64,
        /// Sequence number and true position of the first sample of each block.
        blocks: Vec<(u64, u64)>,
    }

    impl Microphone {
        fn new() -> Self {
            let format = Format::new(48_000, 1, Duration::from_millis(10)).unwrap();
            let (capture, ring, stats) = BlockWriter::new(format, true);
            Self { capture, ring, stats, format, next: 0, received: 0, blocks: Vec::new() }
        }

        /// Loses sound, and says so if it `is_reported`.
        fn lose(&mut self, frames: u64, is_reported: bool) {
            self.next += frames;
            if is_reported {
                self.stats.xrun_reported();
            }
        }

        /// Hands over a period, late by `late`, and empties the ring.
        fn period(&mut self, frames: u64, late: Duration) {
            let samples: Vec<f32> =
                (self.next..self.next + frames).map(|frame| frame as f32 / (1 << 24) as f32).collect();
            self.capture.write(&samples, self.format.time_of(START, self.next) + late);
            (self.next, self.received) = (self.next + frames, self.received + frames);
            let words = block_words(self.format);
            while let Ok(chunk) = self.ring.read_chunk(words) {
                let (block, _) = chunk.as_slices();
                let (header, samples) = block.split_first_chunk().unwrap();
                let first = f32::from_bits(samples[0]) * (1 << 24) as f32;
                self.blocks.push((Header::from_words(header).sequence, first as u64));
                chunk.commit_all();
            }
        }

        /// Checks that every frame is accounted for, and returns by how many frames the position is ahead of time.
        fn check(&self) -> i64 {
            let stats = &self.stats;
            let numbers: Vec<u64> = self.blocks.iter().map(|block| block.0).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!((stats.blocks(), stats.lost_overflow()), (numbers.len() as u64, 0));
            assert_eq!(stats.next_sequence(), stats.blocks() + stats.lost_xrun(), "each number is a block or a loss");
            let kept = stats.blocks() * 480 + self.capture.filled as u64;
            assert_eq!(kept + stats.discarded_frames(), self.received, "each frame that came is kept or discarded");
            self.capture.position() as i64 - self.next as i64
        }
    }

    #[test]
    fn positions_stay_with_time_over_many_xruns() {
        // In frames: from nothing to 300 ms, and one of each on and beside the grid.
        for lost in [0, 1, 12, 240, 479, 480, 481, 593, 14_400] {
            for period in [85, 320, 480, 1024, 1440] {
                let mut microphone = Microphone::new();
                let mut xruns = 0;
                // A hundred of them, a fifth of a second apart.
                for n in 0..100 * 9_600 / period {
                    if n % (9_600 / period) == 3 {
                        microphone.lose(lost, true);
                        xruns += 1;
                    }
                    microphone.period(period, Duration::ZERO);
                }
                assert_eq!(microphone.check(), 0, "xruns of {lost} frames, periods of {period}");
                for (number, first) in &microphone.blocks {
                    assert_eq!(number * 480, *first, "xruns of {lost} frames, periods of {period}");
                }
                // The blocks in which the losses lie, and no more. A loss on the grid is one of whole blocks.
                let blocks = microphone.stats.lost_xrun();
                assert!(blocks >= xruns, "{blocks} lost by {xruns} xruns of {lost} frames");
                assert!(blocks <= xruns * ((lost + 1).div_ceil(480) + 1), "{blocks} lost by xruns of {lost}");
            }
        }
    }

    /// A late timestamp at an xrun declares too much lost; that is made up for by later losses.
    #[test]
    fn late_periods_do_not_add_up_over_many_xruns() {
        for lost in [0, 12, 480, 14_400] {
            let mut microphone = Microphone::new();
            for n in 0..10_000_u64 {
                if n % 100 == 50 {
                    microphone.lose(lost, true);
                }
                microphone.period(480, Duration::from_micros(n * 7_919 % 6_007));
            }
            let ahead = microphone.check();
            assert!(ahead.abs() <= 480, "100 xruns of {lost} frames: {ahead} frames ahead");
        }
    }

    #[test]
    fn sound_goes_on_in_its_place_after_a_silent_loss() {
        for lost in [3_000, 23_999, 480_000, 48_000 * 60 + 1] {
            for period in [320, 480, 1440] {
                let mut microphone = Microphone::new();
                for n in 0..20 * 48_000 / period {
                    if n == 100 {
                        microphone.lose(lost, false);
                    }
                    microphone.period(period, Duration::ZERO);
                }
                assert_eq!(microphone.check(), 0, "{lost} frames, periods of {period}");
                let (number, first) = *microphone.blocks.last().unwrap();
                assert_eq!(number * 480, first, "{lost} frames, periods of {period}");
            }
        }
    }

    #[test]
    fn an_xrun_inside_a_block_that_is_lost_already_is_not_counted_again() {
        let mut microphone = Microphone::new();
        microphone.period(100, Duration::ZERO);
        for _ in 0..3 {
            microphone.lose(20, true);
            microphone.period(60, Duration::ZERO);
        }
        microphone.period(140 + 480, Duration::ZERO);
        assert_eq!(microphone.check(), 0);
        assert_eq!((microphone.blocks.clone(), microphone.stats.lost_xrun()), (vec![(1, 480)], 1));
        assert_eq!(microphone.stats.discarded_frames(), 480 - 3 * 20);
    }

    #[test]
    fn relayed_blocks_keep_their_numbers_and_times() {
        let format = Format::new(48_000, 1, Duration::from_millis(10)).unwrap();
        let (mut capture, mut ring, stats) = BlockWriter::new(format, true);
        capture.begin_at(500);
        capture.set_hop(true);
        let samples = [0.5; 480];
        let at = |number: u64| format.time_of(START, format.position(number));
        let relayed = |epoch, sequence, lost_on_hop, captured_at| RelayedBlock {
            epoch,
            sequence,
            captured_at,
            origin: Origin::Source,
            lost_on_hop,
            is_past: epoch == 1,
            samples: &samples,
        };
        let mut headers = Vec::new();
        let mut relay = |capture: &mut BlockWriter, block| {
            let relay = capture.relay(&block);
            while let Ok(chunk) = ring.read_chunk(block_words(format)) {
                headers.push(Header::from_words(chunk.as_slices().0.first_chunk().unwrap()));
                chunk.commit_all();
            }
            relay
        };
        assert_eq!(relay(&mut capture, relayed(1, 500, 0, at(500))), Relay::Taken { sequence: 500 });
        // Two were lost on the hop, and three at the other server.
        assert_eq!(relay(&mut capture, relayed(1, 506, 2, at(506))), Relay::Taken { sequence: 506 });
        assert_eq!((stats.lost_hop(), stats.lost_source()), (2, 3));
        assert_eq!(relay(&mut capture, relayed(1, 506, 0, at(506))), Relay::Late);
        assert_eq!(relay(&mut capture, relayed(1, 503, 0, at(503))), Relay::Late);
        // The other server starts anew, half a second later by its times.
        assert_eq!(capture.number_of(&relayed(2, 0, 0, at(557))), Some(557), "as it will be");
        assert_eq!(relay(&mut capture, relayed(2, 0, u64::MAX, at(557))), Relay::Taken { sequence: 557 });
        assert_eq!(relay(&mut capture, relayed(2, 1, 0, at(558))), Relay::Taken { sequence: 558 });
        let numbers: Vec<_> =
            headers.iter().map(|header| (header.sequence, header.lost_on_hop, header.epoch)).collect();
        assert_eq!(numbers, [(500, 0, 0), (506, 2, 0), (557, 50, 1), (558, 0, 1)]);
        assert!(headers.iter().all(|header| header.captured_at == at(header.sequence)), "{headers:?}");
        assert_eq!(headers.iter().filter(|header| header.is_past).count(), 2);
        assert_eq!((stats.lost_hop(), stats.lost_source(), stats.blocks()), (52, 3, 4));
        assert_eq!(stats.next_sequence(), 559);
        // Silence in place of what does not come is lost on the hop as well.
        capture.write_silence();
        capture.skip_missing(10);
        assert_eq!((stats.lost_hop(), stats.lost_source(), stats.next_sequence()), (63, 3, 570));
    }

    /// A sound server that stood still for half a second hands over everything at once. The ring has room for 32 blocks.
    #[test]
    fn what_has_no_room_after_a_pause_is_lost_because_of_the_source() {
        for (is_pause_seen, lost) in [(true, [51, 51, 18]), (false, [0, 0, 69])] {
            let format = Format::new(48_000, 1, Duration::from_millis(10)).unwrap();
            let (mut capture, _ring, stats) = BlockWriter::new(format, true);
            let mut write = |number: u64, arrived_at| {
                capture.begin_period(480, format.time_of(START, 480 * number), arrived_at);
                capture.append(&[0.5_f32; 480]);
            };
            let end_of = |number: u64| format.time_of(START, 480 * (number + 1));
            write(0, end_of(0));
            if is_pause_seen {
                stats.pause_seen();
            }
            (1..=50).for_each(|number| write(number, end_of(50)));
            // These come in time. After a third of a second, the dispatcher is late.
            (51..=100).for_each(|number| write(number, end_of(number)));
            assert_eq!([stats.lost_in_bursts(), stats.lost_source(), stats.lost_overflow()], lost, "{is_pause_seen}");
            assert_eq!((stats.blocks(), stats.next_sequence()), (32, 101));
        }
    }

    #[test]
    fn no_timestamp_makes_it_panic_or_lose_count() {
        let mut microphone = Microphone::new();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let samples = vec![0.0_f32; (state >> 52) as usize % 700];
            if state >> 61 == 0 {
                microphone.lose(0, true);
            }
            let at = match state >> 62 {
                0 => Timestamp::from_nanos(state << 2),
                1 => Timestamp::from_nanos(u64::MAX),
                2 => Timestamp::default(),
                _ => START,
            };
            microphone.received += samples.len() as u64;
            microphone.capture.write(&samples, at);
            while microphone.ring.pop().is_ok() {}
            let stats = &microphone.stats;
            assert_eq!(stats.next_sequence(), stats.blocks() + stats.lost_xrun());
            let kept = stats.blocks() * 480 + microphone.capture.filled as u64;
            assert_eq!(kept + stats.discarded_frames(), microphone.received);
        }
    }
}
