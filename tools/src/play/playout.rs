//! The jitter buffer: blocks come unevenly, sound goes out evenly. The sound that waits lies in the device's ring; this
//! is the side that writes it, and knows when each block is heard.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aircheck_api::StreamFormat;

use super::drift::Drift;
use super::resampler::Resampler;
use super::ring::{FADE, RingWriter, Taken};
use crate::client::Block;

/// An excess above the target that is larger than this is skipped; a smaller one is gone in 12 s of playing a little
/// faster.
pub(super) const MAX_EXCESS: Duration = Duration::from_millis(60);
/// Sound that has to wait besides the device's period and a block, so that a device that asks early finds some.
const MARGIN_SECONDS: f64 = 0.005;
/// Blocks whose time to be heard is known and has not come: 4 s of 1 ms. A device with a longer delay is not live.
const MAX_HEARD: usize = 4096;

/// The place in the ring at which a block begins.
#[derive(Clone, Copy, Debug)]
struct Mark {
    frame: u64,
    sequence: u64,
    captured_at: f64,
}

/// A block that begins to be heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeardBlock {
    pub(crate) sequence: u64,
    /// When it was captured, in Unix seconds by the server's clock.
    pub(crate) captured_at: f64,
    pub(crate) at: Instant,
}

/// How playing went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlayStats {
    pub(crate) device: String,
    /// How long sound came out.
    pub(crate) played: Duration,
    /// How often sound came too late to be played in time.
    pub(crate) late: u64,
    /// Sound that was left out to be closer to live again.
    pub(crate) skipped: Duration,
    /// Silence in place of lost blocks.
    pub(crate) silent: Duration,
}

/// Writes blocks into the device's ring. Errors are the resampler's.
pub(super) struct Playout {
    writer: RingWriter,
    resampler: Resampler,
    drift: Drift,
    format: StreamFormat,
    /// Length of the sound that is to wait in the ring.
    target_buffer: Duration,
    next: Option<u64>,
    /// Frames written into the ring.
    written: u64,
    taken: Option<Taken>,
    marks: VecDeque<Mark>,
    heard: VecDeque<HeardBlock>,
    is_skipping: bool,
    /// Frames of the stream that were left out to be closer to live.
    skipped_frames: u64,
    /// Frames of silence in place of lost blocks.
    silent_frames: u64,
    /// The last frame that was resampled.
    last: Vec<f32>,
    /// The last frame before a break, and for how many more frames the next sound fades in over it.
    broken: Vec<f32>,
    seam: usize,
}

impl Playout {
    /// Begins a stream of this format; `target_buffer` is the length of the sound that is to wait in the ring.
    pub(super) fn new(writer: RingWriter, format: StreamFormat, target_buffer: Duration) -> Result<Self, String> {
        let channels = usize::from(format.channels);
        let resampler = Resampler::new(format.rate_hz, writer.rate_hz, channels, format.block_frames as usize)?;
        let playout = Self {
            writer,
            resampler,
            drift: Drift::default(),
            format,
            target_buffer,
            next: None,
            written: 0,
            taken: None,
            marks: VecDeque::new(),
            heard: VecDeque::new(),
            is_skipping: false,
            skipped_frames: 0,
            silent_frames: 0,
            last: vec![0.0; channels],
            broken: vec![0.0; channels],
            seam: 0,
        };
        playout.set_start();
        Ok(playout)
    }

    /// Takes a block that came. Blocks missing before it become silence, as far as their time has not passed yet.
    pub(super) fn push(&mut self, block: &Block, now: Instant) -> Result<(), String> {
        self.look();
        self.set_start();
        let missing = self.next.map_or(0, |next| block.sequence.saturating_sub(next));
        self.next = Some(block.sequence.saturating_add(1));
        let (waiting, target) = (self.waiting_seconds(now), self.target_seconds());
        let limit = if self.is_skipping { self.block_seconds() } else { MAX_EXCESS.as_secs_f64() };
        self.is_skipping = waiting > target + limit;
        if self.is_skipping {
            self.skipped_frames += block.frames;
            self.break_off();
            return Ok(());
        }
        if missing > 0 {
            let room = (target - waiting).max(0.0) * f64::from(self.format.rate_hz);
            let silence =
                if self.is_sounding() { (missing * u64::from(self.format.block_frames)).min(room as u64) } else { 0 };
            self.silence(silence as usize)?;
            self.break_off();
        }
        let faster = if self.is_sounding() {
            // Before a block comes the least waits, half of one less than on average.
            self.drift.faster(waiting + self.block_seconds() / 2.0, target, now)
        } else {
            self.drift.pause();
            0.0
        };
        self.resampler.set_faster(faster)?;
        let frame = self.written + self.resampler.delay_frames() as u64;
        self.marks.push_back(Mark { frame, sequence: block.sequence, captured_at: block.captured_at });
        self.feed(&block.samples)
    }

    /// Ends the stream: the sound that waits is played to its end.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let rates = f64::from(self.format.rate_hz) / f64::from(self.writer.rate_hz);
        let tail = (self.resampler.delay_frames() as f64 * rates) as usize + self.fade_frames();
        self.break_off();
        let result = self.feed(&vec![0.0; tail * self.last.len()]);
        self.writer.shared.is_ending.store(true, Ordering::Release);
        result
    }

    /// Returns whether all sound has been heard.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.look();
        let end = |taken: Taken| taken.asked_at + taken.latency + self.span(taken.frames);
        self.frames_in_ring() == 0 && self.taken.is_none_or(|taken| now >= end(taken))
    }

    /// Returns the blocks that have begun to be heard since the last call, oldest first.
    pub(super) fn heard(&mut self, now: Instant) -> impl Iterator<Item = HeardBlock> + '_ {
        self.look();
        let count = self.heard.iter().take_while(|heard| heard.at <= now).count();
        self.heard.drain(..count)
    }

    /// Returns how often the ring ran dry.
    pub(super) fn late(&self) -> u64 {
        self.writer.shared.late.load(Ordering::Acquire)
    }

    /// Returns how playing on `device` went so far.
    pub(super) fn stats(&self, device: String) -> PlayStats {
        let played = self.span(self.taken.map_or(0, |taken| taken.from + taken.frames));
        let (skipped, silent) = (self.format.span(self.skipped_frames), self.format.span(self.silent_frames));
        PlayStats { device, played, late: self.late(), skipped, silent }
    }

    fn is_sounding(&self) -> bool {
        self.writer.shared.is_sounding.load(Ordering::Acquire)
    }

    fn block_seconds(&self) -> f64 {
        f64::from(self.format.block_frames) / f64::from(self.format.rate_hz)
    }

    /// Returns the seconds that are to wait: the target buffer, but no less than a period of the device and a block.
    fn target_seconds(&self) -> f64 {
        let period = self.writer.shared.period_frames.load(Ordering::Acquire) as f64 / f64::from(self.writer.rate_hz);
        self.target_buffer.as_secs_f64().max(period + self.block_seconds() + MARGIN_SECONDS)
    }

    fn set_start(&self) {
        let frames = self.target_seconds() * f64::from(self.writer.rate_hz);
        // No more than fits, or it would never begin.
        let most = self.writer.sound.buffer().capacity() / self.writer.channels / 2;
        self.writer.shared.start_frames.store((frames as usize).min(most), Ordering::Release);
    }

    fn frames_in_ring(&self) -> usize {
        (self.writer.sound.buffer().capacity() - self.writer.sound.slots()) / self.writer.channels
    }

    /// Returns the seconds that wait now, as if the device took them evenly and not a period at a time.
    fn waiting_seconds(&self, now: Instant) -> f64 {
        let rate = f64::from(self.writer.rate_hz);
        match self.taken.filter(|_| self.is_sounding()) {
            Some(taken) => {
                let passed = now.saturating_duration_since(taken.asked_at).as_secs_f64() * rate;
                let before = self.written.saturating_sub(taken.from) as f64;
                (before - passed.min(taken.frames as f64)) / rate
            }
            None => self.frames_in_ring() as f64 / rate,
        }
    }

    /// Reads the callback's reports, and so learns when blocks are heard.
    fn look(&mut self) {
        while let Ok(taken) = self.writer.taken.pop() {
            self.taken = Some(taken);
            let end = taken.from + taken.frames;
            while let Some(mark) = self.marks.front().copied().filter(|mark| mark.frame < end) {
                self.marks.pop_front();
                // A mark before the report belonged to one for which there was no room.
                let Some(frames) = mark.frame.checked_sub(taken.from) else { continue };
                if self.heard.len() == MAX_HEARD {
                    self.heard.pop_front();
                }
                let at = taken.asked_at + taken.latency + self.span(frames);
                self.heard.push_back(HeardBlock { sequence: mark.sequence, captured_at: mark.captured_at, at });
            }
        }
    }

    fn span(&self, device_frames: u64) -> Duration {
        Duration::from_secs_f64(device_frames as f64 / f64::from(self.writer.rate_hz))
    }

    fn fade_frames(&self) -> usize {
        (FADE.as_secs_f64() * f64::from(self.format.rate_hz)) as usize
    }

    /// Marks a break: the next sound does not continue the last one.
    fn break_off(&mut self) {
        self.seam = self.fade_frames();
        self.broken.copy_from_slice(&self.last);
    }

    fn silence(&mut self, frames: usize) -> Result<(), String> {
        self.silent_frames += frames as u64;
        self.break_off();
        self.feed(&vec![0.0; frames * self.last.len()])
    }

    /// Resamples whole frames and writes them into the ring. After a break, the old sound fades out and the new one in.
    fn feed(&mut self, samples: &[f32]) -> Result<(), String> {
        let channels = self.last.len();
        let fade = self.fade_frames() as f32;
        for portion in samples.chunks(self.resampler.max_frames() * channels) {
            let mut portion = portion.to_vec();
            for frame in portion.chunks_exact_mut(channels) {
                let old = self.seam as f32 / (fade + 1.0);
                for (sample, broken) in frame.iter_mut().zip(&self.broken) {
                    // A sample that is not a number would spoil the filter for its whole length.
                    let new = if sample.is_finite() { *sample } else { 0.0 };
                    *sample = new + (broken - new) * old;
                }
                self.last.copy_from_slice(frame);
                self.seam = self.seam.saturating_sub(1);
            }
            let resampled = self.resampler.process(&portion)?;
            let frames = resampled.len() / channels;
            match self.writer.sound.write_chunk_uninit(frames * self.writer.channels) {
                Ok(chunk) => {
                    chunk.fill_from_iter(spread(resampled, channels, self.writer.channels));
                    self.written += frames as u64;
                }
                // The device has stopped asking for sound; blocks that come meanwhile are skipped.
                Err(_) => {
                    self.skipped_frames += (portion.len() / channels) as u64;
                    self.break_off();
                }
            }
        }
        Ok(())
    }
}

/// Maps frames of `from` channels to frames of `to`: each channel to the same one, then from the first again; all of
/// them together if `to` is one.
fn spread(samples: &[f32], from: usize, to: usize) -> impl Iterator<Item = f32> + '_ {
    samples.chunks_exact(from).flat_map(move |frame| {
        (0..to).map(
            move |channel| {
                if to == 1 { frame.iter().sum::<f32>() / from as f32 } else { frame[channel % from] }
            },
        )
    })
}

#[cfg(test)]
#[cfg(feature = "play")]
mod tests;
