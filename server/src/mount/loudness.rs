//! Loudness by EBU R128: momentary, short-term and integrated loudness, loudness range and true peak.
//!
//! The measures are those of EBU Tech 3341 and 3342 and of ITU-R BS.1770. The programme so far is kept as two histograms, so a meter that runs for a year takes no more memory than one that runs for a minute.
//!
//! **A gap pauses the measurement.** Blocks that were lost on the way from the source are not silence of the programme:
//! nothing is known of their loudness. Zeros in their place would lower the integrated loudness and widen the range by
//! something that nobody produced. So the sound after a gap follows the sound before it, as after the pause that EBU
//! Tech 3341 demands of every meter. Only the true peak starts its filter anew, because the jump between the two would look
//! like a peak. Silence that really was captured is measured, and the gate of R128 keeps it out of the integrated loudness.

mod gated;

use std::sync::atomic::{AtomicU64, Ordering};

use aircheck_engine::Format;
use ebur128::{Channel, EbuR128, Mode};

use gated::GatedHistogram;

/// Lowest rate with a loudness: the weighting filter rises at 1.7 kHz, and below this rate it would not be the standard's.
const MIN_RATE_HZ: u32 = 8_000;
/// Larger samples are measured as this, +30 dBFS, where the histograms end. It keeps infinity out of the filters, which
/// would never forget it.
const MAX_SAMPLE: f32 = 31.622_777;
/// A quieter window has no sound: it is below the last bit of 24, and the filters ring on for seconds after the last sample.
const MIN_LUFS: f64 = -150.0;
/// Windows end this often in a second of sound, as EBU Tech 3341 demands.
const STEPS_PER_SECOND: u32 = 10;
/// Steps until the window of the momentary loudness, 0.4 s, is full for the first time.
const MOMENTARY_STEPS: u64 = 4;
/// Steps until the window of the short-term loudness, 3 s, is full for the first time.
const SHORT_TERM_STEPS: u64 = 30;

/// The loudness of a mount. It is minus infinity where there is no sound, or none above the gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loudness {
    /// Loudness of the last 0.4 s, in LUFS.
    pub momentary_lufs: f64,
    /// Loudness of the last 3 s, in LUFS.
    pub short_term_lufs: f64,
    /// Loudness since the start of the measurement, in LUFS, gated.
    pub integrated_lufs: f64,
    /// Range of the short-term loudness since the start of the measurement, in LU.
    pub range_lu: f64,
}

/// Measures the sound of one format.
#[derive(Debug)]
pub struct LoudnessMeter {
    /// `None` for formats without loudness.
    windows: Option<EbuR128>,
    /// Separate, because it starts anew after a gap while the windows go on.
    peaks: Option<EbuR128>,
    channels: u16,
    step_frames: usize,
    /// Frames since the last step.
    frames: usize,
    steps: u64,
    momentary: GatedHistogram,
    short_term: GatedHistogram,
}

impl LoudnessMeter {
    /// Makes a meter for sound of this format. The channels are those of a WAV file: with six of them L, R, C, LFE, Ls, Rs.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let (channels, rate_hz) = (format.channels(), format.rate_hz());
        let analyser = |mode| {
            let mut analyser = EbuR128::new(channels.into(), rate_hz, mode).ok().filter(|_| rate_hz >= MIN_RATE_HZ)?;
            if let Some(layout) = layout(channels) {
                analyser.set_channel_map(&layout).ok()?;
            }
            Some(analyser)
        };
        Self {
            windows: analyser(Mode::M | Mode::S),
            peaks: analyser(Mode::TRUE_PEAK),
            channels,
            step_frames: (rate_hz as usize).div_ceil(STEPS_PER_SECOND as usize),
            frames: 0,
            steps: 0,
            momentary: GatedHistogram::new(),
            short_term: GatedHistogram::new(),
        }
    }

    /// Adds interleaved samples that are [`finite`], and raises the true peak of each channel. Returns the loudness at the
    /// last step that is over now, if one is.
    pub fn add(&mut self, samples: &[f32], peaks: &[TruePeak]) -> Option<Loudness> {
        if let Some(analyser) = &mut self.peaks {
            // Fails for half a frame, of which there is none. The same holds below.
            let _ = analyser.add_frames_f32(samples);
            for (channel, peak) in (0..).zip(peaks) {
                peak.raise(analyser.prev_true_peak(channel).unwrap_or_default());
            }
        }
        let mut loudness = None;
        let mut rest = samples;
        while !rest.is_empty() {
            let channels = usize::from(self.channels);
            let until_step = (self.step_frames - self.frames) * channels;
            let (part, later) = rest.split_at(until_step.min(rest.len()));
            rest = later;
            let _ = self.windows.as_mut()?.add_frames_f32(part);
            self.frames += part.len() / channels;
            if self.frames == self.step_frames {
                self.frames = 0;
                loudness = self.step();
            }
        }
        loudness
    }

    /// Ends a step: the windows of the last 0.4 s and 3 s count for the programme, once they are full.
    fn step(&mut self) -> Option<Loudness> {
        let windows = self.windows.as_ref()?;
        let momentary_lufs = windows.loudness_momentary().ok()?;
        let short_term_lufs = windows.loudness_shortterm().ok()?;
        self.steps += 1;
        if self.steps >= MOMENTARY_STEPS {
            self.momentary.add(momentary_lufs);
        }
        if self.steps >= SHORT_TERM_STEPS {
            self.short_term.add(short_term_lufs);
        }
        Some(Loudness {
            momentary_lufs: audible(momentary_lufs),
            short_term_lufs: audible(short_term_lufs),
            integrated_lufs: hundredths(self.momentary.integrated()),
            range_lu: hundredths(self.short_term.range()),
        })
    }

    /// Continues after a gap: see the [module](self).
    pub fn skip_gap(&mut self) {
        if let Some(analyser) = &mut self.peaks {
            analyser.reset();
        }
    }
}

/// The largest true peak of a channel since the start, linear; full scale is 1.
#[derive(Debug, Default)]
pub struct TruePeak(AtomicU64);

impl TruePeak {
    /// Returns the peak in dB relative to full scale; minus infinity before any sound.
    #[must_use]
    pub fn dbtp(&self) -> f64 {
        hundredths(20.0 * f64::from_bits(self.0.load(Ordering::Acquire)).log10())
    }

    /// Takes a further peak into account. Only the meter's thread does this.
    fn raise(&self, peak: f64) {
        if peak > f64::from_bits(self.0.load(Ordering::Relaxed)) {
            self.0.store(peak.to_bits(), Ordering::Release);
        }
    }
}

/// Returns the sample as it is measured: NaN is silence, as in the formats of integers, and the rest lies within +30 dBFS.
#[must_use]
pub fn finite(sample: f32) -> f32 {
    if sample.is_nan() { 0.0 } else { sample.clamp(-MAX_SAMPLE, MAX_SAMPLE) }
}

/// Returns the loudness of a window as it is shown.
fn audible(lufs: f64) -> f64 {
    if lufs < MIN_LUFS { f64::NEG_INFINITY } else { hundredths(lufs) }
}

/// Rounds decibels to two digits, which is all that the histograms know.
fn hundredths(decibels: f64) -> f64 {
    (decibels * 100.0).round() / 100.0
}

/// Returns the place of each channel where the crate's default is not that of a WAV file: for seven channels 6.1 and for
/// eight 7.1. ITU-R BS.1770 weights the places, and leaves the LFE out. More channels than eight have no common places, so
/// they all count alike.
fn layout(channels: u16) -> Option<Vec<Channel>> {
    use Channel::{Center, Left, Mm090, Mm135, Mp090, Mp135, Mp180, Right, Unused};
    match channels {
        0..=6 => None,
        7 => Some(vec![Left, Right, Center, Unused, Mp180, Mp090, Mm090]),
        8 => Some(vec![Left, Right, Center, Unused, Mp135, Mm135, Mp090, Mm090]),
        many => Some(vec![Left; many.into()]),
    }
}
