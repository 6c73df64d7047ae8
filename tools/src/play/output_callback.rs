//! The callback of the sound device: out of the ring, into the device.
//!
//! Nothing here allocates, frees, locks, logs or waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cpal::{Data, ErrorKind, FromSample, I24, SampleFormat, SizedSample, U24};
use rtrb::{Consumer, Producer, RingBuffer};

use super::ring::{FADE, RingWriter, SharedState, Taken};

/// Reports that may wait: those of a second, with the shortest periods that devices have, 1 ms.
const MAX_REPORTS: usize = 1024;

/// The device's end of the ring.
#[derive(Debug)]
pub(super) struct OutputCallback {
    sound: Consumer<f32>,
    reports: Producer<Taken>,
    shared: Arc<SharedState>,
    channels: usize,
    position: u64,
    is_sounding: bool,
    /// Gain of the sound while it fades in.
    gain: f32,
    /// Change of the gain in a frame.
    step: f32,
    /// The last frame that was written.
    last: Vec<f32>,
    /// The last frame before sound stopped, and its share that has not faded out yet.
    stopped: Vec<f32>,
    rest: f32,
}

/// Makes a ring for `room_frames` frames of a device's rate and channels, with its two ends.
pub(super) fn ring(rate_hz: u32, channels: usize, room_frames: usize) -> (RingWriter, OutputCallback) {
    let (to_device, sound) = RingBuffer::new(room_frames * channels);
    let (reports, taken) = RingBuffer::new(MAX_REPORTS);
    let shared = Arc::new(SharedState::default());
    let writer = RingWriter { sound: to_device, taken, shared: Arc::clone(&shared), rate_hz, channels };
    let step = 1.0 / (FADE.as_secs_f32() * rate_hz as f32).max(1.0);
    let callback = OutputCallback {
        sound,
        reports,
        shared,
        channels,
        position: 0,
        is_sounding: false,
        gain: 0.0,
        step,
        last: vec![0.0; channels],
        stopped: vec![0.0; channels],
        rest: 0.0,
    };
    (writer, callback)
}

impl OutputCallback {
    /// Fills `data`, of any format. Its first frame is heard `latency` from now on.
    pub(super) fn period(&mut self, data: &mut Data, asked_at: Instant, latency: Duration) {
        macro_rules! fill {
            ($sample:ty) => {
                if let Some(samples) = data.as_slice_mut::<$sample>() {
                    self.fill(samples, asked_at, latency);
                }
            };
        }
        match data.sample_format() {
            SampleFormat::I8 => fill!(i8),
            SampleFormat::I16 => fill!(i16),
            SampleFormat::I24 => fill!(I24),
            SampleFormat::I32 => fill!(i32),
            SampleFormat::I64 => fill!(i64),
            SampleFormat::U8 => fill!(u8),
            SampleFormat::U16 => fill!(u16),
            SampleFormat::U24 => fill!(U24),
            SampleFormat::U32 => fill!(u32),
            SampleFormat::U64 => fill!(u64),
            SampleFormat::F32 => fill!(f32),
            SampleFormat::F64 => fill!(f64),
            // DSD, or a format of a later cpal: no device is opened in such a format.
            _ => {}
        }
    }

    /// Fills whole frames of `out` with the sound that waits in the ring, and with silence where that is not enough.
    pub(super) fn fill<T: SizedSample + FromSample<f32>>(
        &mut self,
        out: &mut [T],
        asked_at: Instant,
        latency: Duration,
    ) {
        let frames = out.len() / self.channels;
        let waiting = self.sound.slots() / self.channels;
        let is_ending = self.shared.is_ending.load(Ordering::Acquire);
        let enough = self.shared.start_frames.load(Ordering::Acquire).max(frames);
        if !self.is_sounding && waiting > 0 && (waiting >= enough || is_ending) {
            (self.is_sounding, self.gain) = (true, 0.0);
        }
        let taken = if self.is_sounding { waiting.min(frames) } else { 0 };
        let (sounding, silent) = out.split_at_mut(taken * self.channels);
        self.sound(sounding);
        if self.is_sounding && taken < frames {
            (self.is_sounding, self.rest) = (false, 1.0);
            self.stopped.copy_from_slice(&self.last);
            if !is_ending {
                self.shared.late.fetch_add(1, Ordering::Release);
            }
        }
        self.silence(silent);
        if taken > 0 {
            let frames = taken as u64;
            // Full only if the reports are not read; then the oldest are as good as the newest.
            let _ = self.reports.push(Taken { from: self.position, frames, asked_at, latency });
            self.position += frames;
        }
        self.shared.is_sounding.store(self.is_sounding, Ordering::Release);
        self.shared.period_frames.fetch_max(frames, Ordering::AcqRel);
        self.shared.periods.fetch_add(1, Ordering::Release);
    }

    /// Fills `out` with sound; the ring has enough.
    fn sound<T: FromSample<f32>>(&mut self, out: &mut [T]) {
        let Ok(chunk) = self.sound.read_chunk(out.len()) else { return };
        let (first, second) = chunk.as_slices();
        let mut samples = first.iter().chain(second);
        for frame in out.chunks_exact_mut(self.channels) {
            self.gain = (self.gain + self.step).min(1.0);
            self.rest = (self.rest - self.step).max(0.0);
            for (index, (to, sample)) in frame.iter_mut().zip(&mut samples).enumerate() {
                // The end of the old sound fades out under the beginning of the new one.
                self.last[index] = sample * self.gain + self.stopped[index] * self.rest;
                *to = T::from_sample_(self.last[index]);
            }
        }
        chunk.commit_all();
    }

    /// Fades the last frame out, and fills the rest with silence.
    fn silence<T: FromSample<f32>>(&mut self, out: &mut [T]) {
        for frame in out.chunks_exact_mut(self.channels) {
            self.rest = (self.rest - self.step).max(0.0);
            for (index, to) in frame.iter_mut().enumerate() {
                self.last[index] = self.stopped[index] * self.rest;
                *to = T::from_sample_(self.last[index]);
            }
        }
    }
}

impl SharedState {
    /// Counts an error of cpal, which may come half a million times a second.
    pub(super) fn report_error(&self, kind: ErrorKind) {
        match kind {
            ErrorKind::DeviceNotAvailable
            | ErrorKind::StreamInvalidated
            | ErrorKind::HostUnavailable
            | ErrorKind::PermissionDenied => self.is_gone.store(true, Ordering::Release),
            // Sound goes on: at a usual priority, on the device that the system chose.
            ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => return,
            _ => {}
        }
        self.errors.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use assert_no_alloc::{AllocDisabler, assert_no_alloc};

    use super::*;

    /// For all unit tests of the program. Outside `assert_no_alloc` it only passes on.
    #[global_allocator]
    static ALLOCATOR: AllocDisabler = AllocDisabler;

    const RATE_HZ: u32 = 48_000;
    const FADE_FRAMES: usize = 240;
    const LATENCY: Duration = Duration::from_millis(20);

    fn push(writer: &mut RingWriter, frames: usize, value: f32) {
        writer.sound.push_entire_slice(&vec![value; frames * writer.channels]).unwrap();
    }

    fn fill(callback: &mut OutputCallback, frames: usize) -> Vec<f32> {
        let mut out = vec![9.0; frames * callback.channels];
        let now = Instant::now();
        assert_no_alloc(|| callback.fill(&mut out, now, LATENCY));
        out
    }

    fn largest_step(samples: &[f32]) -> f32 {
        samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn sound_begins_when_enough_waits_and_fades_in() {
        let (mut writer, mut callback) = ring(RATE_HZ, 1, 10_000);
        writer.shared.start_frames.store(1000, Ordering::Release);
        push(&mut writer, 999, 0.5);
        assert_eq!(fill(&mut callback, 480), vec![0.0; 480]);
        assert!(writer.taken.pop().is_err(), "nothing was taken");
        push(&mut writer, 1, 0.5);
        let out = fill(&mut callback, 480);
        assert!(out[0] < 0.01 && out[FADE_FRAMES..].iter().all(|&sample| sample == 0.5));
        assert!(largest_step(&out) < 0.003);
        let taken = writer.taken.pop().unwrap();
        assert_eq!((taken.from, taken.frames, taken.latency), (0, 480, LATENCY));
        fill(&mut callback, 480);
        assert_eq!(writer.taken.pop().unwrap().from, 480);
    }

    #[test]
    fn a_ring_that_runs_dry_is_counted_and_does_not_click() {
        let (mut writer, mut callback) = ring(RATE_HZ, 2, 10_000);
        push(&mut writer, 700, 0.5);
        let mut out = fill(&mut callback, 600);
        out.extend(fill(&mut callback, 600));
        assert_eq!(writer.shared.late.load(Ordering::Acquire), 1);
        assert!(!writer.shared.is_sounding.load(Ordering::Acquire));
        assert!(out[2 * (700 + FADE_FRAMES)..].iter().all(|&sample| sample == 0.0));
        // It comes back at once, while the rest still fades away.
        push(&mut writer, 1000, -0.5);
        out.extend(fill(&mut callback, 500));
        assert!(largest_step(&out) < 0.006, "{}", largest_step(&out));
        // Silence is not late again and again.
        for _ in 0..10 {
            fill(&mut callback, 600);
        }
        assert_eq!(writer.shared.late.load(Ordering::Acquire), 2);
    }

    #[test]
    fn sound_that_returns_within_a_fade_does_not_click() {
        let (mut writer, mut callback) = ring(RATE_HZ, 1, 10_000);
        push(&mut writer, 500, 0.5);
        let mut out = fill(&mut callback, 510);
        push(&mut writer, 500, -0.5);
        out.extend(fill(&mut callback, 400));
        assert!(largest_step(&out) < 0.006, "{}", largest_step(&out));
    }

    #[test]
    fn at_the_end_all_sound_is_played_and_none_is_late() {
        let (mut writer, mut callback) = ring(RATE_HZ, 1, 10_000);
        writer.shared.start_frames.store(5000, Ordering::Release);
        push(&mut writer, 700, 0.5);
        writer.shared.is_ending.store(true, Ordering::Release);
        fill(&mut callback, 480);
        let out = fill(&mut callback, 480);
        assert_eq!(out[219], 0.5);
        assert_eq!(writer.shared.late.load(Ordering::Acquire), 0);
        assert_eq!(writer.taken.pop().unwrap().frames + writer.taken.pop().unwrap().frames, 700);
    }

    #[test]
    fn signed_and_unsigned_integers_are_filled_too() {
        let (mut writer, mut callback) = ring(RATE_HZ, 1, 10_000);
        push(&mut writer, 1000, 0.5);
        let now = Instant::now();
        let (mut signed, mut unsigned) = ([1_i16; 500], [1_u8; 600]);
        assert_no_alloc(|| callback.fill(&mut signed, now, LATENCY));
        assert_no_alloc(|| callback.fill(&mut unsigned, now, LATENCY));
        assert_eq!((signed[499], unsigned[400]), (16_384, 192));
        let mut silence = [1_u8; 600];
        assert_no_alloc(|| callback.fill(&mut silence, now, LATENCY));
        assert_eq!(silence[599], 128);
    }

    #[test]
    fn no_error_allocates_and_some_mean_that_the_device_is_gone() {
        let shared = SharedState::default();
        assert_no_alloc(|| shared.report_error(ErrorKind::RealtimeDenied));
        assert_no_alloc(|| shared.report_error(ErrorKind::BackendError));
        assert_eq!((shared.errors.load(Ordering::Acquire), shared.is_gone.load(Ordering::Acquire)), (1, false));
        assert_no_alloc(|| shared.report_error(ErrorKind::StreamInvalidated));
        assert!(shared.is_gone.load(Ordering::Acquire));
    }
}
