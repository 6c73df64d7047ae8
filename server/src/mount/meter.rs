//! The meter of level and loudness: a consumer like any other, on a thread of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use aircheck_engine::{Block, Consumer, Format, Hub, SubscribeOptions, Timestamp};

use crate::mount::loudness::{Loudness, LoudnessMeter, TruePeak, finite};

/// Peak and RMS are taken over this long: the integration time of a VU meter (IEC 60268-17).
const WINDOW: Duration = Duration::from_millis(300);
/// Number of parts of a window. Levels are updated after each.
const PARTS: u32 = 6;
/// Levels older than this are shown as silence, because no sound comes.
const LEVEL_TIMEOUT: Duration = Duration::from_secs(1);
/// A sample of this size or more is at full scale: -0.005 dBFS, or 32,750 of 32,768, because converters that clip stop a little
/// below it.
const FULL_SCALE: f32 = 0.999_425;
/// Samples of one channel in a row at full scale, on one side, that are a clip. A single one may be the peak of a wave that just
/// fits; of three, the middle one was cut off. Audacity's *Find Clipping* has the same default.
const CLIP_SAMPLES: u32 = 3;
/// A clip of so many samples is followed by the next one: a source that is stuck clips as long as it is.
const MAX_CLIP_SAMPLES: u32 = 4096;

/// Level of one channel in dB relative to full scale. Silence is minus infinity; a sine at full scale has a peak of
/// 0 and an RMS of -3.01 (0 is a square wave's, as in AES17 without its correction for sines).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The largest sample.
    pub peak_dbfs: f32,
    /// The root of the mean square.
    pub rms_dbfs: f32,
}

/// The level of each channel and the loudness of all, readable from anywhere.
#[derive(Debug)]
pub struct Meter {
    /// Peak and RMS of each channel as bits of two floats, so that they are read together.
    levels: Vec<AtomicU64>,
    measured_at: AtomicU64,
    /// Clips of each channel since the start.
    clips: Vec<AtomicU64>,
    /// `None` before the first tenth of a second of sound, and for a format without loudness.
    loudness: Mutex<Option<Loudness>>,
    true_peaks: Vec<TruePeak>,
}

impl Meter {
    /// Starts a meter of the blocks of `hub`. A stream that has ended already, such as a very short file, stays silent.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(format: Format, hub: &Hub<Block>) -> std::io::Result<Arc<Self>> {
        let channels = format.channels();
        let meter = Arc::new(Self {
            levels: (0..channels).map(|_| AtomicU64::new(0)).collect(),
            measured_at: AtomicU64::new(0),
            clips: (0..channels).map(|_| AtomicU64::new(0)).collect(),
            loudness: Mutex::new(None),
            true_peaks: (0..channels).map(|_| TruePeak::default()).collect(),
        });
        let Ok(consumer) = hub.subscribe(SubscribeOptions::default()) else { return Ok(meter) };
        let shared = Arc::clone(&meter);
        thread::Builder::new().name("meter".into()).spawn(move || shared.run(format, consumer))?;
        Ok(meter)
    }

    /// Returns the level of each channel; minus infinity while no sound comes.
    pub fn levels(&self) -> impl Iterator<Item = Level> {
        let stale = self.is_stale();
        self.levels.iter().map(move |level| match level.load(Ordering::Acquire) {
            _ if stale => Level { peak_dbfs: f32::NEG_INFINITY, rms_dbfs: f32::NEG_INFINITY },
            bits => Level { peak_dbfs: f32::from_bits((bits >> 32) as u32), rms_dbfs: f32::from_bits(bits as u32) },
        })
    }

    /// Returns how often each channel has clipped since the start: runs of samples at full scale.
    pub fn clips(&self) -> impl Iterator<Item = u64> {
        self.clips.iter().map(|clips| clips.load(Ordering::Relaxed))
    }

    /// Returns the loudness; `None` before any, or if the format has none. While no sound comes, the loudness of this
    /// moment is minus infinity, and that of the programme stays.
    pub fn loudness(&self) -> Option<Loudness> {
        let silence = f64::NEG_INFINITY;
        let loudness = (*self.shared_loudness())?;
        Some(if self.is_stale() {
            Loudness { momentary_lufs: silence, short_term_lufs: silence, ..loudness }
        } else {
            loudness
        })
    }

    /// Returns the largest true peak of each channel since the start; minus infinity before any sound.
    #[must_use]
    pub fn true_peaks(&self) -> &[TruePeak] {
        &self.true_peaks
    }

    /// Returns whether no sound has come for so long that the last figures are not those of this moment.
    fn is_stale(&self) -> bool {
        Timestamp::now().since(Timestamp::from_nanos(self.measured_at.load(Ordering::Acquire))) > LEVEL_TIMEOUT
    }

    fn shared_loudness(&self) -> std::sync::MutexGuard<'_, Option<Loudness>> {
        self.loudness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, format: Format, mut consumer: Consumer<Block>) {
        let channels = self.levels.len();
        let mut windows = vec![Window::default(); channels];
        let mut loudness = LoudnessMeter::new(format);
        let mut samples = Vec::with_capacity(format.block_samples());
        let mut part_frames = 0;
        while let Ok(delivery) = consumer.recv() {
            let block = delivery.item;
            samples.clear();
            samples.extend(block.samples().iter().map(|sample| finite(*sample)));
            if delivery.gap.is_some() {
                windows.iter_mut().for_each(Window::skip_gap);
                loudness.skip_gap();
            }
            for frame in samples.chunks_exact(channels) {
                for ((window, clips), sample) in windows.iter_mut().zip(&self.clips).zip(frame) {
                    if window.add(*sample) {
                        clips.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            if let Some(measured) = loudness.add(&samples, &self.true_peaks) {
                *self.shared_loudness() = Some(measured);
            }
            part_frames += u64::from(block.frames());
            if block.format().span(part_frames) >= WINDOW / PARTS {
                for (window, level) in windows.iter_mut().zip(&self.levels) {
                    let Level { peak_dbfs, rms_dbfs } = window.end_part(part_frames);
                    let bits = u64::from(peak_dbfs.to_bits()) << 32 | u64::from(rms_dbfs.to_bits());
                    level.store(bits, Ordering::Release);
                }
                part_frames = 0;
                self.measured_at.store(Timestamp::now().as_nanos(), Ordering::Release);
            }
        }
    }
}

/// The window of one channel: its last parts.
#[derive(Clone, Debug, Default)]
struct Window {
    peak: f32,
    square_sum: f64,
    /// Samples in a row at full scale, and whether they are below zero.
    full_samples: u32,
    is_below_zero: bool,
    parts: [(f32, f64, u64); PARTS as usize],
    oldest: usize,
}

impl Window {
    /// Adds a sample. Returns whether a clip is certain with it.
    fn add(&mut self, sample: f32) -> bool {
        self.peak = self.peak.max(sample.abs());
        self.square_sum += f64::from(sample) * f64::from(sample);
        let is_below_zero = sample < 0.0;
        if sample.abs() < FULL_SCALE {
            self.full_samples = 0;
            return false;
        }
        let goes_on = is_below_zero == self.is_below_zero && self.full_samples < MAX_CLIP_SAMPLES;
        self.full_samples = if goes_on { self.full_samples + 1 } else { 1 };
        self.is_below_zero = is_below_zero;
        self.full_samples == CLIP_SAMPLES
    }

    /// Continues after a gap: the sample before it and the one after it are not in a row.
    fn skip_gap(&mut self) {
        self.full_samples = 0;
    }

    /// Ends a part of `frames` frames. Returns the level of the whole window.
    fn end_part(&mut self, frames: u64) -> Level {
        self.parts[self.oldest] = (std::mem::take(&mut self.peak), std::mem::take(&mut self.square_sum), frames);
        self.oldest = (self.oldest + 1) % self.parts.len();
        let peak = self.parts.iter().fold(0.0_f32, |peak, part| peak.max(part.0));
        let square_sum: f64 = self.parts.iter().map(|part| part.1).sum();
        let frames: u64 = self.parts.iter().map(|part| part.2).sum();
        Level { peak_dbfs: 20.0 * peak.log10(), rms_dbfs: (10.0 * (square_sum / frames.max(1) as f64).log10()) as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sine_at_full_scale_has_the_levels_that_theory_gives() {
        let mut window = Window::default();
        let mut level = None;
        for _ in 0..PARTS {
            for n in 0..4800 {
                window.add((std::f32::consts::TAU * 0.01 * n as f32).sin());
            }
            level = Some(window.end_part(4800));
        }
        let level = level.unwrap();
        assert!(level.peak_dbfs.abs() < 0.01, "{level:?}");
        assert!((level.rms_dbfs + 3.01).abs() < 0.01, "{level:?}");
    }

    /// Returns the clips in samples of 16 bits.
    fn clips(samples: &[i16]) -> usize {
        let mut window = Window::default();
        samples.iter().filter(|sample| window.add(f32::from(**sample) / 32_768.0)).count()
    }

    #[test]
    fn three_samples_in_a_row_at_full_scale_are_a_clip() {
        assert_eq!(clips(&[32_767, 32_767, 0, -32_768, -32_768, 0]), 0, "peaks that just fit");
        assert_eq!(clips(&[0, 32_767, 32_767, 32_767, 0]), 1);
        assert_eq!(clips(&[-32_768; 500]), 1, "a long one counts once");
        assert_eq!(clips(&[-32_768; 10_000]), 3, "a source that is stuck");
        assert_eq!(clips(&[[32_767; 50], [-32_768; 50]].concat().repeat(10)), 20, "a square wave clips on both sides");
        assert_eq!(clips(&[32_750, 32_751, 32_760, 32_700, 32_767, 32_767, 32_767]), 2, "a little below");
        assert_eq!(clips(&[32_700; 500]), 0, "loud sound");
        assert_eq!(clips(&[32_767, -32_768, 32_767, 0]), 0, "the highest pitch");
    }

    #[test]
    fn a_clip_does_not_reach_over_a_gap() {
        let mut window = Window::default();
        assert!(!window.add(1.0) && !window.add(1.0));
        window.skip_gap();
        assert!(!window.add(1.0) && !window.add(1.5) && window.add(1.0));
    }

    #[test]
    fn silence_has_no_level() {
        assert_eq!(Window::default().end_part(10).rms_dbfs, f32::NEG_INFINITY);
    }
}
