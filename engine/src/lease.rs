//! The loan of a stream's block writer to a source, which the supervisor can take back at any moment.
//!
//! A lost device may never return from its callback or drop it, so the callback cannot own the writer. Instead the writer
//! lies in a slot. The source takes it out for each write and puts it back; the supervisor takes it out to fill a hole.
//! Both are one atomic exchange of a pointer. A source that finds the slot empty drops its samples and counts the attempt,
//! by which the supervisor sees that sound comes again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;
use dasp_sample::FromSample;

use crate::block_writer::BlockWriter;
use crate::converter::Converter;
use crate::timeline::{MAX_BURST, MAX_JITTER};
use crate::{CaptureStats, Format, Relay, RelayedBlock, Timestamp};

/// Length of a fade, where sound begins or ends that was not cut on purpose: long enough not to click.
pub(crate) const FADE: Duration = Duration::from_millis(8);
/// Silent blocks that a returning source writes before its first sound, at most: the supervisor has filled the hole up to a
/// block before, and only a late thread leaves more. Any further ones are a gap.
const MAX_FILL_BLOCKS: u64 = 8;

/// How long after a hole a device may still hand over what it has kept meanwhile, all at once: see [`Burst`].
const BURST_SPAN: Duration = Duration::from_secs(1);

/// The place where a lent writer lies while nobody writes, and the signs of life of one source. Each opened source has a slot
/// of its own, so that one that was given up finds nothing.
#[derive(Default)]
pub(crate) struct Slot {
    writer: AtomicCell<Option<Box<Lent>>>,
    /// Writes that the source has begun, also while the writer was not there.
    attempts: AtomicU64,
    ended: AtomicBool,
    failure: OnceLock<String>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("attempts", &self.attempts()).finish_non_exhaustive()
    }
}

impl Slot {
    /// Returns the number of writes that the source has begun.
    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Acquire)
    }

    /// Returns whether the source has dropped its capture.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Returns the failure that the source has reported.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Takes a failure. The first one stays.
    pub(crate) fn fail(&self, message: String) {
        let _ = self.failure.set(message);
    }

    /// Lays the writer into the slot.
    pub(crate) fn lend(&self, writer: Box<Lent>) {
        self.writer.store(Some(writer));
    }

    /// Takes the writer, unless the source is writing right now.
    pub(crate) fn take(&self) -> Option<Box<Lent>> {
        self.writer.take()
    }
}

/// A writer that is lent, with what a source needs that comes back after a hole.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) writer: BlockWriter,
    /// Whether a hole lies before the source's next sample.
    is_back: bool,
    /// Frames to come that are left out, because the hole has their place.
    skip_frames: u64,
    /// The burst that may follow the hole.
    burst: Option<Burst>,
    fade: FadeIn,
    /// A block, for samples that are faded.
    scratch: Box<[f32]>,
}

impl Lent {
    pub(crate) fn new(writer: BlockWriter) -> Self {
        let format = writer.format();
        let scratch = vec![0.0; format.block_samples()].into();
        Self { writer, is_back: false, skip_frames: 0, burst: None, fade: FadeIn::over(format), scratch }
    }

    /// Begins a hole: the source, which was started at `started_at`, is lost. Returns since when sound is missing.
    pub(crate) fn begin_hole(&mut self, started_at: Timestamp) -> Timestamp {
        self.writer.begin_hole(started_at);
        self.writer.due()
    }

    /// Ends the hole with the source's next sample.
    pub(crate) fn end_hole(&mut self) {
        (self.is_back, self.burst) = (true, None);
    }

    fn write<S: Copy>(&mut self, samples: &[S], captured_at: Timestamp)
    where
        f32: FromSample<S>,
    {
        if std::mem::take(&mut self.is_back) {
            self.align(captured_at);
        }
        if self.skip_frames == 0 && self.fade.is_over() {
            return self.writer.write(samples, captured_at);
        }
        self.write_after_hole(samples, captured_at);
    }

    /// Writes the first samples after a hole: without those that lie before its end, and with a fade.
    fn write_after_hole<S: Copy>(&mut self, samples: &[S], captured_at: Timestamp)
    where
        f32: FromSample<S>,
    {
        let format = self.writer.format();
        let channels = usize::from(format.channels());
        let skipped = self.skip_frames.min((samples.len() / channels) as u64);
        self.skip_frames -= skipped;
        let mut position = skipped;
        for portion in samples[skipped as usize * channels..].chunks(self.scratch.len()) {
            let scratch = &mut self.scratch[..portion.len()];
            for (to, from) in scratch.iter_mut().zip(portion) {
                *to = f32::from_sample_(*from);
            }
            self.fade.apply(scratch, channels);
            write_floats(&mut self.writer, scratch, format.time_of(captured_at, position));
            position += (portion.len() / channels) as u64;
        }
    }

    fn write_floats(&mut self, samples: &[f32], captured_at: Timestamp) {
        self.write(samples, captured_at);
    }

    /// Writes a block of another server. After a hole, its number says where it belongs.
    fn relay(&mut self, block: &RelayedBlock<'_>) -> Relay {
        if self.is_back {
            self.fade.restart();
        }
        let relay = if self.fade.is_over() {
            self.writer.relay(block)
        } else {
            let length = block.samples.len().min(self.scratch.len());
            let samples = &mut self.scratch[..length];
            samples.copy_from_slice(&block.samples[..samples.len()]);
            self.fade.apply(samples, usize::from(self.writer.format().channels()));
            self.writer.relay(&RelayedBlock { samples, ..*block })
        };
        // A block that is late is not the first after the hole.
        self.is_back &= !matches!(relay, Relay::Taken { .. });
        self.skip_frames = 0;
        relay
    }

    /// Ends the hole where the frame captured at `captured_at` belongs by its time, so that position and time stay one: fills
    /// what is missing before it, or leaves out what lies before the end of the hole.
    fn align(&mut self, captured_at: Timestamp) {
        let format = self.writer.format();
        let missing = format.blocks_in(captured_at.since(self.writer.due()));
        if missing > MAX_FILL_BLOCKS {
            self.writer.skip_missing(missing - MAX_FILL_BLOCKS);
        }
        for _ in 0..missing.min(MAX_FILL_BLOCKS) {
            self.writer.write_silence();
        }
        let early = self.writer.due().since(captured_at);
        self.leave_out(early);
        self.writer.end_hole();
        self.burst = Some(Burst { over_at: captured_at + BURST_SPAN, early_before: early });
    }

    /// Leaves out what comes in a burst after a hole: its place in time has been filled, and behind it everything would be early.
    /// Called once for a period, which was captured at `captured_at`.
    fn leave_out_burst(&mut self, captured_at: Timestamp) {
        let Some(burst) = &mut self.burst else { return };
        let early = burst.early(self.writer.due().since(captured_at));
        let is_over = captured_at >= burst.over_at;
        if early > MAX_BURST {
            // Nothing keeps so much sound. The time by which the hole ended was wrong, and the timeline gets over that.
            (self.burst, self.skip_frames) = (None, 0);
        } else if early > MAX_JITTER || self.skip_frames > 0 {
            // Less is jitter, or another latency, which the timeline follows.
            self.leave_out(early);
        }
        if is_over && self.skip_frames == 0 {
            self.burst = None;
        }
    }

    /// Leaves out the next frames of this span, and fades in after them.
    fn leave_out(&mut self, span: Duration) {
        self.skip_frames = (span.as_nanos() * u128::from(self.writer.format().rate_hz()) / 1_000_000_000) as u64;
        self.fade.restart();
    }
}

/// Writes floats. A function of its own, because a function with the bound `f32: FromSample<S>` does not see that `f32` is
/// `FromSample<f32>`, too.
fn write_floats(writer: &mut BlockWriter, samples: &[f32], captured_at: Timestamp) {
    writer.write(samples, captured_at);
}

/// What a sound server that was frozen has kept, and hands over all at once when it goes on. The supervisor may have given the
/// writer back in the middle of it. All of it arrives at one moment, so that the first of it seems to be captured now, and what
/// follows is early, by more and more.
#[derive(Debug)]
struct Burst {
    /// When nothing more of it can begin.
    over_at: Timestamp,
    /// By how much the period before was early.
    early_before: Duration,
}

impl Burst {
    /// Takes by how much the next period is early. Returns by how much this one and the one before are, because a single timestamp
    /// may be wrong.
    fn early(&mut self, early: Duration) -> Duration {
        early.min(std::mem::replace(&mut self.early_before, early))
    }
}

/// A rise of the volume from silence, frame by frame.
#[derive(Debug)]
struct FadeIn {
    /// Frames so far; all of them once it is over.
    passed: u32,
    frames: u32,
}

impl FadeIn {
    /// Creates a fade that is over.
    fn over(format: Format) -> Self {
        let frames = fade_frames(format);
        Self { passed: frames, frames }
    }

    fn is_over(&self) -> bool {
        self.passed == self.frames
    }

    fn restart(&mut self) {
        self.passed = 0;
    }

    /// Fades these interleaved samples, as far as the fade goes.
    fn apply(&mut self, samples: &mut [f32], channels: usize) {
        let left = (self.frames - self.passed) as usize;
        for frame in samples.chunks_exact_mut(channels).take(left) {
            self.passed += 1;
            let gain = self.passed as f32 / self.frames as f32;
            frame.iter_mut().for_each(|sample| *sample *= gain);
        }
    }
}

/// Returns the frames of a fade.
pub(crate) fn fade_frames(format: Format) -> u32 {
    ((FADE.as_secs_f64() * f64::from(format.rate_hz())) as u32).clamp(1, format.block_frames())
}

/// Blocks of another server that were left out because the writer was not here.
#[derive(Clone, Copy, Debug)]
struct LeftOut {
    epoch: u64,
    /// Number of the last one.
    sequence: u64,
    /// How many they are, with those that were lost on the hop before one of them.
    blocks: u64,
}

impl LeftOut {
    /// Adds a block to those before it.
    fn with(before: Option<Self>, block: &RelayedBlock<'_>) -> Self {
        let blocks = before.map_or(0, |before| before.blocks).saturating_add(block.lost_on_hop).saturating_add(1);
        Self { epoch: block.epoch, sequence: block.sequence, blocks }
    }

    fn is_before(&self, block: &RelayedBlock<'_>) -> bool {
        self.epoch == block.epoch && self.sequence < block.sequence
    }

    /// Returns how many of the `missing` blocks before this one the other server has sent. Those after the left-out ones are the last of
    /// them.
    fn lost_on_hop(&self, block: &RelayedBlock<'_>, missing: u64) -> u64 {
        let after = block.sequence - self.sequence - 1;
        block.lost_on_hop.min(after).saturating_add(self.blocks.min(missing.saturating_sub(after)))
    }
}

/// The right to write, which a source holds as a part of its [`Capture`](crate::Capture).
#[derive(Debug)]
pub(crate) struct Lease {
    slot: Arc<Slot>,
    /// The format of the source.
    format: Format,
    converter: Option<Converter>,
    /// When the next sample of the period that has begun was captured.
    period_at: Timestamp,
    /// Whether nothing of that period was written yet.
    begins_period: bool,
    /// The blocks of another server that were left out last.
    left_out: Option<LeftOut>,
    stats: Arc<CaptureStats>,
}

impl Lease {
    /// Makes a lease for a source of `format` in a stream of `stream_format`.
    ///
    /// # Errors
    ///
    /// When the source's rate cannot be converted.
    pub(crate) fn new(
        slot: Arc<Slot>,
        format: Format,
        stream_format: Format,
        stats: Arc<CaptureStats>,
    ) -> Result<Self, String> {
        let converter = Converter::new(format, stream_format)?;
        Ok(Self {
            slot,
            format,
            converter,
            period_at: Timestamp::default(),
            begins_period: false,
            left_out: None,
            stats,
        })
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn stats(&self) -> &Arc<CaptureStats> {
        &self.stats
    }

    /// Returns whether there is room, also while the writer is not here: samples are dropped then.
    pub(crate) fn has_room(&self) -> bool {
        let Some(lent) = self.slot.take() else { return true };
        let has_room = lent.writer.has_room();
        self.slot.lend(lent);
        has_room
    }

    /// Returns whether the writer is not here: silence or the fallback takes the place of what this source writes.
    pub(crate) fn is_replaced(&self) -> bool {
        match self.slot.take() {
            Some(lent) => {
                self.slot.lend(lent);
                false
            }
            None => true,
        }
    }

    /// Begins a period whose first sample was captured at `captured_at`.
    pub(crate) fn begin_period(&mut self, captured_at: Timestamp) {
        (self.period_at, self.begins_period) = (captured_at, true);
    }

    /// Writes a period at once, as [`append`](Self::append) does. Fit for a callback.
    pub(crate) fn write<S: Copy>(&mut self, samples: &[S], captured_at: Timestamp)
    where
        f32: FromSample<S>,
    {
        self.begin_period(captured_at);
        self.append(samples);
    }

    /// Writes samples of the period that has begun, or drops them while the writer is not here. Fit for a callback.
    pub(crate) fn append<S: Copy>(&mut self, samples: &[S])
    where
        f32: FromSample<S>,
    {
        let captured_at = self.period_at;
        let frames = samples.len() / usize::from(self.format.channels());
        self.period_at = self.format.time_of(captured_at, frames as u64);
        // One writer, so no locked addition is needed.
        self.slot.attempts.store(self.slot.attempts.load(Ordering::Relaxed) + 1, Ordering::Release);
        let Some(mut lent) = self.slot.take() else {
            // What was kept back before the hole does not belong after it.
            self.converter.iter_mut().for_each(Converter::discard);
            return;
        };
        if std::mem::take(&mut self.begins_period) {
            lent.leave_out_burst(captured_at);
        }
        match &mut self.converter {
            Some(converter) => converter.convert(samples, captured_at, |samples, at| lent.write_floats(samples, at)),
            None => lent.write(samples, captured_at),
        }
        self.slot.lend(lent);
    }

    /// Writes a block of another server, or leaves it out while the writer is not here: if nothing stands for it later, it was lost
    /// on the hop, because the other server had it. It cannot be converted, because it has a number in the other server's format.
    pub(crate) fn relay(&mut self, block: &RelayedBlock<'_>) -> Relay {
        self.slot.attempts.store(self.slot.attempts.load(Ordering::Relaxed) + 1, Ordering::Release);
        if self.converter.is_some() {
            return Relay::Refused;
        }
        let before = self.left_out.take().filter(|before| before.is_before(block));
        let Some(mut lent) = self.slot.take() else {
            self.left_out = Some(LeftOut::with(before, block));
            return Relay::Refused;
        };
        let lost_on_hop =
            before.map_or(block.lost_on_hop, |before| before.lost_on_hop(block, lent.writer.missing_before(block)));
        let relay = lent.relay(&RelayedBlock { lost_on_hop, ..*block });
        self.slot.lend(lent);
        relay
    }

    /// Returns the number that a block of another server will get: see [`Capture::number_of`](crate::Capture::number_of).
    pub(crate) fn number_of(&self, block: &RelayedBlock<'_>) -> Option<u64> {
        let lent = self.slot.take()?;
        let number = lent.writer.number_of(block);
        self.slot.lend(lent);
        number
    }

    /// Compares the clock of a device with the system's. A device whose rate is converted is left out: its frames are not
    /// those of the stream. Fit for a callback.
    #[cfg(feature = "device")]
    pub(crate) fn observe_clock(&mut self, captured_at: Timestamp) {
        if self.converter.is_some() {
            return;
        }
        let Some(mut lent) = self.slot.take() else { return };
        if !lent.is_back && lent.skip_frames == 0 {
            lent.writer.observe_clock(captured_at);
        }
        self.slot.lend(lent);
    }

    pub(crate) fn resume_at(&mut self, captured_at: Timestamp) {
        let Some(mut lent) = self.slot.take() else { return };
        // After a hole, the place of the next sample follows from its time.
        if !lent.is_back {
            lent.writer.resume_at(captured_at);
        }
        self.slot.lend(lent);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot.ended.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use assert_no_alloc::assert_no_alloc;

    use super::*;
    use crate::capture_ring::{HEADER_WORDS, block_words};
    use crate::{Capture, Origin};

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn format(rate_hz: u32, channels: u16) -> Format {
        Format::new(rate_hz, channels, Duration::from_millis(10)).unwrap()
    }

    /// Makes a lent capture for a source of `format` in a stream of 48 kHz mono, its slot, and the rest of the stream.
    fn lent(format_of_source: Format) -> (Capture, Arc<Slot>, Arc<CaptureStats>, rtrb::Consumer<u32>) {
        let stream = format(48_000, 1);
        let (capture, reader, stats) = Capture::new(stream, true);
        let slot = Arc::new(Slot::default());
        slot.lend(Box::new(Lent::new(*capture.into_writer().unwrap())));
        let lease = Lease::new(Arc::clone(&slot), format_of_source, stream, Arc::clone(&stats)).unwrap();
        (Capture::lent(lease), slot, stats, reader)
    }

    /// Relays a block of another server, with so many directly before it that did not come.
    fn relay(capture: &mut Capture, sequence: u64, lost_on_hop: u64) -> Relay {
        let format = format(48_000, 1);
        capture.relay(&RelayedBlock {
            epoch: 1,
            sequence,
            captured_at: format.time_of(START, format.position(sequence)),
            origin: Origin::Source,
            lost_on_hop,
            is_past: false,
            samples: &[0.5; 480],
        })
    }

    /// Makes a lent capture of another server that has relayed its block 0, its slot, and the writer that was taken from it and has written
    /// silence for the blocks from 1 to 10.
    fn without_writer() -> (Capture, Arc<Slot>, Box<Lent>, Arc<CaptureStats>, rtrb::Consumer<u32>) {
        let (mut capture, slot, stats, reader) = lent(format(48_000, 1));
        assert_eq!(relay(&mut capture, 0, 0), Relay::Taken { sequence: 0 });
        let mut lent = slot.take().unwrap();
        lent.writer.set_hop(true);
        lent.begin_hole(START);
        (1..=10).for_each(|_| lent.writer.write_silence());
        (capture, slot, lent, stats, reader)
    }

    #[test]
    fn a_slot_takes_no_lock() {
        assert!(AtomicCell::<Option<Box<Lent>>>::is_lock_free());
    }

    #[test]
    fn no_write_of_a_lent_capture_allocates() {
        for source in [format(48_000, 1), format(44_100, 2), format(96_000, 1)] {
            let (mut capture, slot, stats, _reader) = lent(source);
            let period = vec![0.5_f32; 2 * source.block_samples()];
            let mut write = |millis: u64| {
                assert_no_alloc(|| capture.write(&period, START + Duration::from_millis(millis)));
            };
            write(0);
            // The source is given up, and writes on.
            let mut lent = slot.take().unwrap();
            lent.begin_hole(START);
            write(20);
            assert_eq!(slot.attempts(), 2);
            // It comes back, with a hole of 40 ms and more before it.
            lent.end_hole();
            slot.lend(lent);
            write(60);
            write(80);
            assert!((3..=5).contains(&stats.lost_source()), "{source:?}: {} blocks", stats.lost_source());
            assert_eq!(stats.lost_xrun(), 0);
        }
    }

    #[test]
    fn sound_that_lies_before_the_end_of_the_hole_is_left_out() {
        let (mut capture, slot, stats, _reader) = lent(format(48_000, 1));
        let period = vec![0.5_f32; 480];
        capture.write(&period, START);
        let mut lent = slot.take().unwrap();
        lent.begin_hole(START);
        (0..10).for_each(|_| lent.writer.write_silence());
        lent.end_hole();
        slot.lend(lent);
        // A burst of 100 ms from the time of the hole, and 20 ms after it.
        for number in 1..=12 {
            capture.write(&period, START + Duration::from_millis(10 * number));
        }
        assert_eq!((stats.lost_source(), stats.blocks(), stats.next_sequence()), (10, 3, 13));
    }

    /// Guards against a reason that accuses the other server of what it had and sent.
    #[test]
    fn a_block_that_finds_the_writer_away_is_lost_on_the_hop() {
        let (mut capture, slot, mut lent, stats, _reader) = without_writer();
        let mut relay = |sequence: u64, lost_on_hop| relay(&mut capture, sequence, lost_on_hop);
        // Up to 13 nothing came, and two come before the supervisor gives the writer back.
        assert_eq!((relay(14, 13), relay(15, 0)), (Relay::Refused, Relay::Refused));
        lent.end_hole();
        slot.lend(lent);
        assert_eq!(relay(16, 0), Relay::Taken { sequence: 16 });
        assert_eq!((stats.lost_hop(), stats.lost_source()), (15, 0));
        // What is missing later is not among them.
        assert_eq!(relay(19, 1), Relay::Taken { sequence: 19 });
        assert_eq!((stats.lost_hop(), stats.lost_source()), (16, 1));
    }

    /// Guards against positions that run ahead of time by what a frozen sound server has kept, where the supervisor gives the writer
    /// back in the middle of the burst.
    #[test]
    fn a_burst_after_a_hole_moves_no_position() {
        for period_millis in [10, 30, 340] {
            let (mut capture, slot, stats, _reader) = lent(format(48_000, 1));
            let period = vec![0.5_f32; 48 * period_millis as usize];
            let mut lent = slot.take().unwrap();
            lent.begin_hole(START);
            (0..200).for_each(|_| lent.writer.write_silence());
            lent.end_hole();
            slot.lend(lent);
            let returned_at = START + Duration::from_secs(2);
            // Each period counts as captured in the time before it arrives.
            for _ in 0..1440 / period_millis {
                capture.write(&period, returned_at - Duration::from_millis(period_millis));
            }
            let periods = 6000 / period_millis;
            for number in 0..periods {
                capture.write(&period, returned_at + Duration::from_millis(period_millis * number));
            }
            let ahead = stats.next_sequence() as i64 - (200 + (periods * period_millis / 10) as i64);
            assert_eq!(ahead, 0, "periods of {period_millis} ms");
            assert_eq!(stats.lost_source(), 200, "periods of {period_millis} ms");
        }
    }

    /// Makes a lent capture whose source is about to come back after a hole.
    fn back(source: Format) -> (Capture, Arc<CaptureStats>, rtrb::Consumer<u32>) {
        let (capture, slot, stats, reader) = lent(source);
        let mut lent = slot.take().unwrap();
        lent.begin_hole(START);
        lent.end_hole();
        slot.lend(lent);
        (capture, stats, reader)
    }

    /// Guards against the click of a filter that begins in the middle of the fade, wherever in it that is.
    #[test]
    fn a_source_of_another_rate_fades_in_wherever_its_hole_ends() {
        for micros in (0..14_000).step_by(100) {
            let returned_at = START - Duration::from_millis(4) + Duration::from_micros(micros);
            let source = format(44_100, 1);
            let (mut capture, _stats, mut reader) = back(source);
            for number in 0..4 {
                capture.write(&[0.5_f32; 441], returned_at + Duration::from_millis(10 * number));
            }
            let words: Vec<u32> = std::iter::from_fn(|| reader.pop().ok()).collect();
            let samples = words
                .chunks_exact(block_words(format(48_000, 1)))
                .flat_map(|block| block[HEADER_WORDS..].iter().map(|word| f32::from_bits(*word)));
            let mut last = 0.0;
            let step =
                samples.map(|sample: f32| (sample - std::mem::replace(&mut last, sample)).abs()).fold(0.0, f32::max);
            assert!((last - 0.5).abs() < 0.01, "{micros} us: ends at {last}");
            assert!(step < 0.003, "{micros} us: a step of {step}");
        }
    }

    #[test]
    fn a_single_early_timestamp_after_a_hole_takes_no_sound() {
        for rate_hz in [48_000, 44_100, 96_000] {
            let source = format(rate_hz, 1);
            let portion = vec![0.5_f32; source.block_samples() / 2];
            let blocks = [0, 500].map(|early| {
                let (mut capture, stats, _reader) = back(source);
                for number in 0..20 {
                    let early = Duration::from_millis(if number == 10 { early } else { 0 });
                    let at = START + Duration::from_millis(10 * number) - early;
                    // In two portions, as a device's integers come: both have the time of one period.
                    capture.begin_period(source.block_samples(), at, at);
                    capture.append(&portion);
                    capture.append(&portion);
                }
                (stats.blocks(), stats.next_sequence())
            });
            assert_eq!(blocks[0], blocks[1], "{rate_hz} Hz");
        }
    }

    /// Guards against a source that is silent for as long as its timestamp was wrong: a hole that one such has ended, or two early ones.
    #[test]
    fn wrong_timestamps_after_a_hole_do_not_silence_a_source() {
        let hour = Duration::from_secs(3600);
        for (wrong, is_late, lost) in [(0..1, true, 0), (5..7, false, 2), (0..1, false, 100)] {
            let (mut capture, stats, mut reader) = back(format(48_000, 1));
            for number in 0..1000 {
                let at = START + Duration::from_millis(10 * number);
                let at = match wrong.contains(&number) {
                    false => at,
                    true if is_late => at + hour,
                    true => at - Duration::from_secs(1),
                };
                capture.write(&[0.5_f32; 480], at);
                while reader.pop().is_ok() {}
            }
            // The silence that fills a hole is at most eight blocks.
            assert!((1000 - lost - 2..=1008).contains(&stats.blocks()), "{wrong:?}: {} blocks", stats.blocks());
        }
    }

    /// Guards against an excuse for the other server's own losses, where silence stands for what was left out.
    #[test]
    fn what_the_other_server_did_not_have_is_not_lost_on_the_hop() {
        let (mut capture, slot, mut lent, stats, _reader) = without_writer();
        let mut relay = |sequence: u64, lost_on_hop| relay(&mut capture, sequence, lost_on_hop);
        assert_eq!((relay(9, 8), relay(10, 0)), (Relay::Refused, Relay::Refused));
        lent.end_hole();
        slot.lend(lent);
        // The blocks from 11 to 13 were not there, and 14 did not come.
        assert_eq!(relay(15, 1), Relay::Taken { sequence: 15 });
        assert_eq!((stats.lost_hop(), stats.lost_source()), (11, 3));
    }
}
