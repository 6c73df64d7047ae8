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
            for frame in samples.chunks_exact(channels) {
                for (window, sample) in windows.iter_mut().zip(frame) {
                    window.add(*sample);
                }
            }
            if delivery.gap.is_some() {
                loudness.skip_gap();
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
    parts: [(f32, f64, u64); PARTS as usize],
    oldest: usize,
}

impl Window {
    fn add(&mut self, sample: f32) {
        self.peak = self.peak.max(sample.abs());
        self.square_sum += f64::from(sample) * f64::from(sample);
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

    #[test]
    fn silence_has_no_level() {
        assert_eq!(Window::default().end_part(10).rms_dbfs, f32::NEG_INFINITY);
    }
}
