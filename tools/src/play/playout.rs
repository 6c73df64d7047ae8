//! The jitter buffer: blocks come when they come, sound goes out evenly. What waits lies in the device's ring; this is
//! the side that puts it there, and knows which block is heard when.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::drift::Drift;
use super::outlet::{FADE, Inlet, Taken};
use super::resampler::Resampler;
use crate::client::block::Block;
use crate::client::message::Hello;

/// More than this above the target is skipped; less is gone in 12 s of playing a little faster.
pub(super) const EXCESS: Duration = Duration::from_millis(60);
/// What has to wait besides the device's period and a block, so that a device that asks early finds something.
const MARGIN_SECONDS: f64 = 0.005;
/// Blocks whose time to be heard is known and has not come: 4 s of 1 ms. A device that is later than that is not live.
const HEARD_MOST: usize = 4096;

/// A block that begins to be heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Heard {
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// When it was captured, in Unix seconds by the server's clock.
    pub(crate) captured_at: f64,
    /// When it is heard.
    pub(crate) at: Instant,
}

/// Where in the ring a block begins.
#[derive(Clone, Copy, Debug)]
struct Mark {
    frame: u64,
    sequence: u64,
    captured_at: f64,
}

/// Puts blocks into the device's ring.
#[derive(Debug)]
pub(crate) struct Playout {
    inlet: Inlet,
    resampler: Resampler,
    drift: Drift,
    hello: Hello,
    /// What the listener asked for.
    wish: Duration,
    next: Option<u64>,
    /// Frames put into the ring.
    written: u64,
    taken: Option<Taken>,
    marks: VecDeque<Mark>,
    heard: VecDeque<Heard>,
    is_skipping: bool,
    /// Frames of the stream that were left out to be closer to live, and that silence stood for.
    skipped_frames: u64,
    silent_frames: u64,
    /// The last frame that went in.
    last: Vec<f32>,
    /// Where sound breaks off: its last frame, and for how many more frames the next sound fades in over it.
    broken: Vec<f32>,
    seam: usize,
}

impl Playout {
    /// For the stream that `hello` announces; `wish` is to wait in the ring.
    ///
    /// # Errors
    ///
    /// Says what can't be resampled.
    pub(crate) fn new(inlet: Inlet, hello: Hello, wish: Duration) -> Result<Self, String> {
        let channels = usize::from(hello.format.channels);
        let resampler = Resampler::new(hello.format.rate_hz, inlet.rate_hz, channels, hello.block_frames as usize)?;
        let playout = Self {
            inlet,
            resampler,
            drift: Drift::default(),
            hello,
            wish,
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

    /// A block came. What is missing before it becomes silence, as far as its time has not passed yet.
    ///
    /// # Errors
    ///
    /// The resampler's words.
    pub(crate) fn push(&mut self, block: &Block, now: Instant) -> Result<(), String> {
        self.look();
        self.set_start();
        let missing = self.next.map_or(0, |next| block.sequence.saturating_sub(next));
        self.next = Some(block.sequence.saturating_add(1));
        let (waiting, target) = (self.waiting_seconds(now), self.target_seconds());
        let limit = if self.is_skipping { self.block_seconds() } else { EXCESS.as_secs_f64() };
        self.is_skipping = waiting > target + limit;
        if self.is_skipping {
            self.skipped_frames += block.frames;
            self.break_off();
            return Ok(());
        }
        if missing > 0 {
            let room = (target - waiting).max(0.0) * f64::from(self.hello.format.rate_hz);
            let silence =
                if self.is_sounding() { (missing * u64::from(self.hello.block_frames)).min(room as u64) } else { 0 };
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

    /// Nothing more comes: what waits is played to its end.
    ///
    /// # Errors
    ///
    /// The resampler's words.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        let rates = f64::from(self.hello.format.rate_hz) / f64::from(self.inlet.rate_hz);
        let tail = (self.resampler.delay_frames() as f64 * rates) as usize + self.fade_frames();
        self.break_off();
        let result = self.feed(&vec![0.0; tail * self.last.len()]);
        self.inlet.link.is_ending.store(true, Ordering::Release);
        result
    }

    /// Whether all that was put in has been heard.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        self.look();
        let end = |taken: Taken| taken.asked_at + taken.latency + self.span(taken.frames);
        self.frames_in_ring() == 0 && self.taken.is_none_or(|taken| now >= end(taken))
    }

    /// The blocks that have begun to be heard since this was asked last, oldest first.
    pub(crate) fn heard(&mut self, now: Instant) -> impl Iterator<Item = Heard> + '_ {
        self.look();
        let count = self.heard.iter().take_while(|heard| heard.at <= now).count();
        self.heard.drain(..count)
    }

    /// How long sound has come out.
    pub(crate) fn played(&self) -> Duration {
        self.span(self.taken.map_or(0, |taken| taken.from + taken.frames))
    }

    /// How often it ran dry.
    pub(crate) fn late(&self) -> u64 {
        self.inlet.link.late.load(Ordering::Acquire)
    }

    /// How much was left out to be closer to live, and for how much silence stood.
    pub(crate) fn skipped_and_silent(&self) -> (Duration, Duration) {
        let format = self.hello.format;
        (format.span(self.skipped_frames), format.span(self.silent_frames))
    }

    fn is_sounding(&self) -> bool {
        self.inlet.link.is_sounding.load(Ordering::Acquire)
    }

    fn block_seconds(&self) -> f64 {
        f64::from(self.hello.block_frames) / f64::from(self.hello.format.rate_hz)
    }

    /// What is to wait: what was wished, but no less than the device takes at a time and a block brings.
    fn target_seconds(&self) -> f64 {
        let period = self.inlet.link.period_frames.load(Ordering::Acquire) as f64 / f64::from(self.inlet.rate_hz);
        self.wish.as_secs_f64().max(period + self.block_seconds() + MARGIN_SECONDS)
    }

    fn set_start(&self) {
        let frames = self.target_seconds() * f64::from(self.inlet.rate_hz);
        // No more than fits, or it would never begin.
        let most = self.inlet.sound.buffer().capacity() / self.inlet.channels / 2;
        self.inlet.link.start_frames.store((frames as usize).min(most), Ordering::Release);
    }

    fn frames_in_ring(&self) -> usize {
        (self.inlet.sound.buffer().capacity() - self.inlet.sound.slots()) / self.inlet.channels
    }

    /// What waits now, as if the device took it evenly and not a period at a time.
    fn waiting_seconds(&self, now: Instant) -> f64 {
        let rate = f64::from(self.inlet.rate_hz);
        match self.taken.filter(|_| self.is_sounding()) {
            Some(taken) => {
                let passed = now.saturating_duration_since(taken.asked_at).as_secs_f64() * rate;
                let before = self.written.saturating_sub(taken.from) as f64;
                (before - passed.min(taken.frames as f64)) / rate
            }
            None => self.frames_in_ring() as f64 / rate,
        }
    }

    /// Takes in what the device has taken out, and so when blocks are heard.
    fn look(&mut self) {
        while let Ok(taken) = self.inlet.taken.pop() {
            self.taken = Some(taken);
            let end = taken.from + taken.frames;
            while let Some(mark) = self.marks.front().copied().filter(|mark| mark.frame < end) {
                self.marks.pop_front();
                // One that is missed here belonged to a report for which there was no room.
                let Some(frames) = mark.frame.checked_sub(taken.from) else { continue };
                if self.heard.len() == HEARD_MOST {
                    self.heard.pop_front();
                }
                let at = taken.asked_at + taken.latency + self.span(frames);
                self.heard.push_back(Heard { sequence: mark.sequence, captured_at: mark.captured_at, at });
            }
        }
    }

    fn span(&self, device_frames: u64) -> Duration {
        Duration::from_secs_f64(device_frames as f64 / f64::from(self.inlet.rate_hz))
    }

    fn fade_frames(&self) -> usize {
        (FADE.as_secs_f64() * f64::from(self.hello.format.rate_hz)) as usize
    }

    /// What comes next does not follow on what was before.
    fn break_off(&mut self) {
        self.seam = self.fade_frames();
        self.broken.copy_from_slice(&self.last);
    }

    fn silence(&mut self, frames: usize) -> Result<(), String> {
        self.silent_frames += frames as u64;
        self.break_off();
        self.feed(&vec![0.0; frames * self.last.len()])
    }

    /// Resamples whole frames and puts them into the ring. Where they don't follow on what was before, that fades out
    /// and they fade in.
    fn feed(&mut self, samples: &[f32]) -> Result<(), String> {
        let channels = self.last.len();
        let fade = self.fade_frames() as f32;
        for portion in samples.chunks(self.resampler.max_frames() * channels) {
            let mut portion = portion.to_vec();
            for frame in portion.chunks_exact_mut(channels) {
                let old = self.seam as f32 / (fade + 1.0);
                for (sample, broken) in frame.iter_mut().zip(&self.broken) {
                    // What is not a number would stay in the filter for as long as that is.
                    let new = if sample.is_finite() { *sample } else { 0.0 };
                    *sample = new + (broken - new) * old;
                }
                self.last.copy_from_slice(frame);
                self.seam = self.seam.saturating_sub(1);
            }
            let resampled = self.resampler.process(&portion)?;
            let frames = resampled.len() / channels;
            match self.inlet.sound.write_chunk_uninit(frames * self.inlet.channels) {
                Ok(chunk) => {
                    chunk.fill_from_iter(spread(resampled, channels, self.inlet.channels));
                    self.written += frames as u64;
                }
                // The device has stopped asking; what comes meanwhile is skipped.
                Err(_) => {
                    self.skipped_frames += (portion.len() / channels) as u64;
                    self.break_off();
                }
            }
        }
        Ok(())
    }
}

/// Frames of `from` channels as frames of `to`: as they are as far as there are so many, from the first again beyond
/// that, and all of them together where there is only one.
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
mod tests;
