//! Conversion of a source's rate and channels to those of the stream, which never change.
//!
//! A source that comes back may have another format. Its channels are remixed, and its rate is converted by rubato's
//! windowed sinc. All memory is allocated when the converter is made, because it runs in a device's callback.

use dasp_sample::FromSample;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction};

use crate::{Format, Timestamp};

/// Frames that are converted at a time: 2.7 ms at 48 kHz, by which the sound is later than without a conversion.
const CHUNK_FRAMES: usize = 128;
/// Taps of the filter where the rate does not fall. At 44.1 kHz it passes everything up to 20 kHz and delays by 1.5 ms.
const TAPS: usize = 128;
/// Points between two samples at which the filter is tabulated; it is interpolated between them with an error of -100 dB.
const POINTS: usize = 320;

/// Converts interleaved samples of one format to another: the channels are remixed, and then the rate is converted.
pub struct Converter {
    from: Format,
    to: Format,
    /// Remixed frames at the rate of `from`.
    chunk: Box<[f32]>,
    /// Frames in `chunk`.
    filled: usize,
    /// When the first frame in `chunk` was captured.
    chunk_at: Timestamp,
    resampler: Option<Resampler>,
}

struct Resampler {
    sinc: Async<f32>,
    out: Box<[f32]>,
    /// Delay of the filter, in frames of the source.
    delay_frames: u64,
    /// Frames to come that the filter makes of what was before the first frame: they would end in a click.
    early_frames: usize,
}

impl std::fmt::Debug for Converter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Converter").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Converter {
    /// Makes a converter, or none if rate and channels are the same.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Converter, Format};
    ///
    /// let stereo = Format::new(48_000, 2, Duration::from_millis(10))?;
    /// assert!(Converter::new(stereo, stereo)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The resampler's own words, for rates that it cannot convert.
    pub fn new(from: Format, to: Format) -> Result<Option<Self>, String> {
        let same_rate = from.rate_hz() == to.rate_hz();
        if same_rate && from.channels() == to.channels() {
            return Ok(None);
        }
        let resampler = if same_rate { None } else { Some(Resampler::new(from, to)?) };
        let chunk = vec![0.0; CHUNK_FRAMES * usize::from(to.channels())].into();
        Ok(Some(Self { from, to, chunk, filled: 0, chunk_at: Timestamp::default(), resampler }))
    }

    /// Converts samples, the first of them captured at `captured_at`, and passes the result to `write` in portions, each
    /// with the time of its first frame. Sound of another rate is converted 128 frames at a time; what is left waits for the next call.
    /// Does not allocate.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Converter, Format, Timestamp};
    ///
    /// let format = |channels| Format::new(48_000, channels, Duration::from_millis(10));
    /// if let Some(mut to_stereo) = Converter::new(format(1)?, format(2)?)? {
    ///     to_stereo.convert(&[0.5_f32], Timestamp::default(), |samples, _| assert_eq!(samples, [0.5, 0.5]));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn convert<S: Copy>(&mut self, samples: &[S], captured_at: Timestamp, mut write: impl FnMut(&[f32], Timestamp))
    where
        f32: FromSample<S>,
    {
        let (from_channels, to_channels) = (usize::from(self.from.channels()), usize::from(self.to.channels()));
        for (passed, frame) in (0..).zip(samples.chunks_exact(from_channels)) {
            if self.filled == 0 {
                self.chunk_at = self.from.time_of(captured_at, passed);
            }
            let start = self.filled * to_channels;
            remix(frame, &mut self.chunk[start..start + to_channels]);
            self.filled += 1;
            if self.filled == CHUNK_FRAMES {
                self.flush(&mut write);
            }
        }
        // Without a filter there is no reason to keep sound back.
        if self.resampler.is_none() {
            self.flush(&mut write);
        }
    }

    /// Discards the frames that wait for a whole chunk, and begins anew with the next ones.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::{Converter, Format, Timestamp};
    ///
    /// let format = |rate_hz| Format::new(rate_hz, 1, Duration::from_millis(10));
    /// if let Some(mut converter) = Converter::new(format(44_100)?, format(48_000)?)? {
    ///     converter.convert(&[0.5_f32; 100], Timestamp::default(), |_, _| unreachable!("100 frames wait"));
    ///     converter.discard();
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&mut self) {
        self.filled = 0;
        self.resampler.iter_mut().for_each(Resampler::begin);
    }

    fn flush(&mut self, write: &mut impl FnMut(&[f32], Timestamp)) {
        let channels = usize::from(self.to.channels());
        let frames = std::mem::take(&mut self.filled);
        let chunk = &self.chunk[..frames * channels];
        match &mut self.resampler {
            Some(resampler) => {
                let filtered_at = self.chunk_at - self.from.span(resampler.delay_frames);
                let (early, filtered) = resampler.process(chunk, channels);
                if !filtered.is_empty() {
                    write(filtered, self.to.time_of(filtered_at, early as u64));
                }
            }
            None if frames > 0 => write(chunk, self.chunk_at),
            None => {}
        }
    }
}

impl Resampler {
    fn new(from: Format, to: Format) -> Result<Self, String> {
        let ratio = f64::from(to.rate_hz()) / f64::from(from.rate_hz());
        // Going down, the same steepness takes as many more taps as there are more samples.
        let taps = TAPS * from.rate_hz().div_ceil(to.rate_hz()) as usize;
        let parameters = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris)
            .interpolation(SincInterpolationType::Linear)
            .oversampling_factor(POINTS);
        let channels = usize::from(to.channels());
        let sinc = Async::new_sinc(ratio, 1.0, &parameters, CHUNK_FRAMES, channels, FixedAsync::Input)
            .map_err(|error| error.to_string())?;
        let out = vec![0.0; sinc.output_frames_max() * channels].into();
        let mut resampler = Self { sinc, out, delay_frames: taps as u64 / 2, early_frames: 0 };
        resampler.begin();
        Ok(resampler)
    }

    /// Leaves out what was before the next frame.
    fn begin(&mut self) {
        self.early_frames = self.sinc.output_delay();
    }

    /// Resamples a whole chunk. Returns how many frames are left out as early, and those after them.
    fn process(&mut self, chunk: &[f32], channels: usize) -> (usize, &[f32]) {
        let frames = self.sinc.output_frames_next();
        let out = &mut self.out[..frames * channels];
        let input = InterleavedSlice::new(chunk, channels, CHUNK_FRAMES);
        let output = InterleavedSlice::new_mut(out, channels, frames);
        // Fails only for buffers of another size.
        let written = match (input, output) {
            (Ok(input), Ok(mut output)) => {
                self.sinc.process_into_buffer(&input, &mut output, None).map_or(0, |(_, written)| written)
            }
            _ => 0,
        };
        let early = self.early_frames.min(written);
        self.early_frames -= early;
        (early, &self.out[early * channels..written * channels])
    }
}

/// Remixes a frame: one channel goes to all, several to one become their mean, and otherwise each channel goes to the one
/// of its number; channels without a counterpart are left out or silent.
fn remix<S: Copy>(from: &[S], to: &mut [f32])
where
    f32: FromSample<S>,
{
    match (from, &mut *to) {
        ([mono], _) => to.fill(f32::from_sample_(*mono)),
        (_, [mono]) => {
            let sum: f32 = from.iter().map(|sample| f32::from_sample_(*sample)).sum();
            *mono = sum / from.len() as f32;
        }
        _ => {
            to.fill(0.0);
            for (to, from) in to.iter_mut().zip(from) {
                *to = f32::from_sample_(*from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;
    use std::time::Duration;

    use assert_no_alloc::assert_no_alloc;

    use super::*;

    fn format(rate_hz: u32, channels: u16) -> Format {
        Format::new(rate_hz, channels, Duration::from_millis(10)).unwrap()
    }

    #[test]
    fn the_same_format_needs_no_converter() {
        assert!(Converter::new(format(48_000, 2), format(48_000, 2)).unwrap().is_none());
    }

    #[test]
    fn channels_are_remixed() {
        let remixed = |from: &[f32], channels: usize| {
            let mut to = vec![9.0; channels];
            remix(from, &mut to);
            to
        };
        assert_eq!(remixed(&[0.5], 2), [0.5, 0.5]);
        assert_eq!(remixed(&[0.25, 0.75], 1), [0.5]);
        assert_eq!(remixed(&[0.1, 0.2, 0.3], 2), [0.1, 0.2]);
        assert_eq!(remixed(&[0.1, 0.2], 3), [0.1, 0.2, 0.0]);
    }

    /// Converts a second of a tone in periods of odd lengths, in the allocator that permits nothing, and returns the result
    /// with the time of its first sample.
    fn converted(from: Format, to: Format) -> (Vec<f32>, f64) {
        let mut converter = Converter::new(from, to).unwrap().unwrap();
        let tone: Vec<f32> = (0..from.rate_hz())
            .flat_map(|n| {
                let sample = (TAU * 1000.0 * f64::from(n) / f64::from(from.rate_hz())).sin() as f32;
                vec![sample; usize::from(from.channels())]
            })
            .collect();
        let start = Timestamp::from_nanos(5_000_000_000);
        let mut out = Vec::with_capacity(2 * to.rate_hz() as usize * usize::from(to.channels()));
        let (mut sent, mut first_at) = (0, None);
        for frames in [1, 85, 320, 1024].into_iter().cycle() {
            let samples = frames * usize::from(from.channels());
            let Some(period) = tone.get(sent..sent + samples) else { break };
            let at = from.time_of(start, (sent / usize::from(from.channels())) as u64);
            assert_no_alloc(|| {
                converter.convert(period, at, |portion, at| {
                    first_at.get_or_insert(at);
                    out.extend_from_slice(portion);
                });
            });
            sent += samples;
        }
        (out, first_at.unwrap().offset_from(start) as f64 / 1e9)
    }

    #[test]
    fn a_tone_keeps_its_pitch_level_and_time_at_another_rate() {
        for (from, to) in [
            (format(44_100, 2), format(48_000, 1)),
            (format(48_000, 1), format(44_100, 2)),
            (format(96_000, 1), format(48_000, 1)),
            (format(16_000, 1), format(48_000, 2)),
            (format(192_000, 1), format(48_000, 1)),
            (format(48_000, 2), format(48_000, 1)),
        ] {
            let (out, first_at) = converted(from, to);
            assert!(first_at.abs() < 2.0 / f64::from(to.rate_hz()), "{from:?} to {to:?}: begins at {first_at} s");
            let channels = usize::from(to.channels());
            let worst = (out.len() / channels / 2..out.len() / channels)
                .map(|n| {
                    let time = first_at + n as f64 / f64::from(to.rate_hz());
                    let expected = (TAU * 1000.0 * time).sin();
                    (f64::from(out[n * channels]) - expected).abs()
                })
                .fold(0.0, f64::max);
            // Times are right to a frame or two, in which this tone changes by up to 0.3.
            assert!(worst < 0.3, "{from:?} to {to:?}: {worst} off");
            let peak = out[out.len() / 2..].iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
            assert!((peak - 1.0).abs() < 0.01, "{from:?} to {to:?}: peak {peak}");
        }
    }
}
