//! What runs on the sound device's thread: out of the ring, into the device.
//!
//! Nothing here allocates, frees, locks, logs or waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cpal::{Data, ErrorKind, FromSample, I24, SampleFormat, SizedSample, U24};
use rtrb::{Consumer, Producer, RingBuffer};

/// How long a fade takes: too short to be heard as one, long enough not to click.
pub(crate) const FADE: Duration = Duration::from_millis(5);
/// Reports that may wait: those of a second, with the shortest periods that devices have, of 1 ms.
const REPORTS: usize = 1024;

/// Frames that were taken out of the ring at one go, numbered from the first that was ever put in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// The first.
    pub(crate) from: u64,
    /// How many.
    pub(crate) frames: u64,
    /// When the device asked for them.
    pub(crate) asked_at: Instant,
    /// How long after that the first of them is heard, as far as the device knows.
    pub(crate) latency: Duration,
}

/// What both ends of the ring know of each other.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Frames that must wait in the ring before sound begins, or goes on after it ran dry.
    pub(crate) start_frames: AtomicUsize,
    /// Whether sound comes out.
    pub(crate) is_sounding: AtomicBool,
    /// Whether nothing more comes, so that running dry is no accident.
    pub(crate) is_ending: AtomicBool,
    /// How often the ring ran dry: what should have sounded came too late.
    pub(crate) late: AtomicU64,
    /// How often the device asked, and the most frames that it asked for.
    pub(crate) periods: AtomicU64,
    pub(crate) period_frames: AtomicUsize,
    /// What the device complained of, and whether it said that it is gone.
    pub(crate) complaints: AtomicU64,
    pub(crate) is_gone: AtomicBool,
}

impl Link {
    /// Takes a complaint from cpal, which may come half a million times a second.
    pub(crate) fn complaint(&self, kind: ErrorKind) {
        match kind {
            ErrorKind::DeviceNotAvailable
            | ErrorKind::StreamInvalidated
            | ErrorKind::HostUnavailable
            | ErrorKind::PermissionDenied => self.is_gone.store(true, Ordering::Release),
            // Sound goes on: at a usual priority, on the device that the system chose.
            ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => return,
            _ => {}
        }
        self.complaints.fetch_add(1, Ordering::Release);
    }
}

/// The end of the ring into which sound goes.
#[derive(Debug)]
pub(crate) struct Inlet {
    pub(crate) sound: Producer<f32>,
    pub(crate) taken: Consumer<Taken>,
    pub(crate) link: Arc<Link>,
    /// Frames per second of the device.
    pub(crate) rate_hz: u32,
    /// Samples per frame of the device.
    pub(crate) channels: usize,
}

/// The device's end.
#[derive(Debug)]
pub(crate) struct Outlet {
    sound: Consumer<f32>,
    reports: Producer<Taken>,
    link: Arc<Link>,
    channels: usize,
    position: u64,
    is_sounding: bool,
    /// Of the sound, while it fades in.
    gain: f32,
    /// What changes in a frame of a fade.
    step: f32,
    /// The last frame that was put out.
    last: Vec<f32>,
    /// Where sound has stopped: its last frame, and how much of that there still is.
    stopped: Vec<f32>,
    rest: f32,
}

/// A ring for `room_frames` frames of a device's rate and channels.
pub(crate) fn ring(rate_hz: u32, channels: usize, room_frames: usize) -> (Inlet, Outlet) {
    let (sound, sounding) = RingBuffer::new(room_frames * channels);
    let (reports, taken) = RingBuffer::new(REPORTS);
    let link = Arc::new(Link::default());
    let step = 1.0 / (FADE.as_secs_f32() * rate_hz as f32).max(1.0);
    let outlet = Outlet {
        sound: sounding,
        reports,
        link: Arc::clone(&link),
        channels,
        position: 0,
        is_sounding: false,
        gain: 0.0,
        step,
        last: vec![0.0; channels],
        stopped: vec![0.0; channels],
        rest: 0.0,
    };
    (Inlet { sound, taken, link, rate_hz, channels }, outlet)
}

impl Outlet {
    /// The device's callback: fills `data`, of whatever format, whose first frame is heard `latency` from now on.
    pub(crate) fn period(&mut self, data: &mut Data, asked_at: Instant, latency: Duration) {
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
            // DSD, or what a later cpal adds: `speaker` opens no device in such a format.
            _ => {}
        }
    }

    /// Fills whole frames of `out`: with what waits in the ring, and with silence where that is not enough.
    pub(crate) fn fill<T: SizedSample + FromSample<f32>>(
        &mut self,
        out: &mut [T],
        asked_at: Instant,
        latency: Duration,
    ) {
        let frames = out.len() / self.channels;
        let waiting = self.sound.slots() / self.channels;
        let is_ending = self.link.is_ending.load(Ordering::Acquire);
        let enough = self.link.start_frames.load(Ordering::Acquire).max(frames);
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
                self.link.late.fetch_add(1, Ordering::Release);
            }
        }
        self.silence(silent);
        if taken > 0 {
            let frames = taken as u64;
            // Full only where nobody reads them; then the oldest are as good as the newest.
            let _ = self.reports.push(Taken { from: self.position, frames, asked_at, latency });
            self.position += frames;
        }
        self.link.is_sounding.store(self.is_sounding, Ordering::Release);
        self.link.period_frames.fetch_max(frames, Ordering::AcqRel);
        self.link.periods.fetch_add(1, Ordering::Release);
    }

    /// Puts out what waits, as much as `out` takes.
    fn sound<T: FromSample<f32>>(&mut self, out: &mut [T]) {
        let Ok(chunk) = self.sound.read_chunk(out.len()) else { return };
        let (first, second) = chunk.as_slices();
        let mut samples = first.iter().chain(second);
        for frame in out.chunks_exact_mut(self.channels) {
            self.gain = (self.gain + self.step).min(1.0);
            self.rest = (self.rest - self.step).max(0.0);
            for (index, (to, sample)) in frame.iter_mut().zip(&mut samples).enumerate() {
                // The rest of what was before ends under the beginning of what is next.
                self.last[index] = sample * self.gain + self.stopped[index] * self.rest;
                *to = T::from_sample_(self.last[index]);
            }
        }
        chunk.commit_all();
    }

    /// Lets the last frame fade away, and is silent then.
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

    fn push(inlet: &mut Inlet, frames: usize, value: f32) {
        inlet.sound.push_entire_slice(&vec![value; frames * inlet.channels]).unwrap();
    }

    fn fill(outlet: &mut Outlet, frames: usize) -> Vec<f32> {
        let mut out = vec![9.0; frames * outlet.channels];
        let now = Instant::now();
        assert_no_alloc(|| outlet.fill(&mut out, now, LATENCY));
        out
    }

    fn largest_step(samples: &[f32]) -> f32 {
        samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn sound_begins_when_enough_waits_and_fades_in() {
        let (mut inlet, mut outlet) = ring(RATE_HZ, 1, 10_000);
        inlet.link.start_frames.store(1000, Ordering::Release);
        push(&mut inlet, 999, 0.5);
        assert_eq!(fill(&mut outlet, 480), vec![0.0; 480]);
        assert!(inlet.taken.pop().is_err(), "nothing was taken");
        push(&mut inlet, 1, 0.5);
        let out = fill(&mut outlet, 480);
        assert!(out[0] < 0.01 && out[FADE_FRAMES..].iter().all(|&sample| sample == 0.5));
        assert!(largest_step(&out) < 0.003);
        let taken = inlet.taken.pop().unwrap();
        assert_eq!((taken.from, taken.frames, taken.latency), (0, 480, LATENCY));
        fill(&mut outlet, 480);
        assert_eq!(inlet.taken.pop().unwrap().from, 480);
    }

    #[test]
    fn a_ring_that_runs_dry_is_counted_and_heard_without_a_click() {
        let (mut inlet, mut outlet) = ring(RATE_HZ, 2, 10_000);
        push(&mut inlet, 700, 0.5);
        let mut out = fill(&mut outlet, 600);
        out.extend(fill(&mut outlet, 600));
        assert_eq!(inlet.link.late.load(Ordering::Acquire), 1);
        assert!(!inlet.link.is_sounding.load(Ordering::Acquire));
        assert!(out[2 * (700 + FADE_FRAMES)..].iter().all(|&sample| sample == 0.0));
        // It comes back at once, while the rest still fades away.
        push(&mut inlet, 1000, -0.5);
        out.extend(fill(&mut outlet, 500));
        assert!(largest_step(&out) < 0.006, "{}", largest_step(&out));
        // Silence is not late again and again.
        for _ in 0..10 {
            fill(&mut outlet, 600);
        }
        assert_eq!(inlet.link.late.load(Ordering::Acquire), 2);
    }

    #[test]
    fn a_sound_that_comes_back_within_a_fade_doesn_t_click() {
        let (mut inlet, mut outlet) = ring(RATE_HZ, 1, 10_000);
        push(&mut inlet, 500, 0.5);
        let mut out = fill(&mut outlet, 510);
        push(&mut inlet, 500, -0.5);
        out.extend(fill(&mut outlet, 400));
        assert!(largest_step(&out) < 0.006, "{}", largest_step(&out));
    }

    #[test]
    fn at_the_end_everything_sounds_and_nothing_is_late() {
        let (mut inlet, mut outlet) = ring(RATE_HZ, 1, 10_000);
        inlet.link.start_frames.store(5000, Ordering::Release);
        push(&mut inlet, 700, 0.5);
        inlet.link.is_ending.store(true, Ordering::Release);
        fill(&mut outlet, 480);
        let out = fill(&mut outlet, 480);
        assert_eq!(out[219], 0.5);
        assert_eq!(inlet.link.late.load(Ordering::Acquire), 0);
        assert_eq!(inlet.taken.pop().unwrap().frames + inlet.taken.pop().unwrap().frames, 700);
    }

    #[test]
    fn integers_and_unsigned_ones_are_filled_too() {
        let (mut inlet, mut outlet) = ring(RATE_HZ, 1, 10_000);
        push(&mut inlet, 1000, 0.5);
        let now = Instant::now();
        let (mut signed, mut unsigned) = ([1_i16; 500], [1_u8; 600]);
        assert_no_alloc(|| outlet.fill(&mut signed, now, LATENCY));
        assert_no_alloc(|| outlet.fill(&mut unsigned, now, LATENCY));
        assert_eq!((signed[499], unsigned[400]), (16_384, 192));
        let mut silence = [1_u8; 600];
        assert_no_alloc(|| outlet.fill(&mut silence, now, LATENCY));
        assert_eq!(silence[599], 128);
    }

    #[test]
    fn no_complaint_allocates_and_some_are_the_end() {
        let link = Link::default();
        assert_no_alloc(|| link.complaint(ErrorKind::RealtimeDenied));
        assert_no_alloc(|| link.complaint(ErrorKind::BackendError));
        assert_eq!((link.complaints.load(Ordering::Acquire), link.is_gone.load(Ordering::Acquire)), (1, false));
        assert_no_alloc(|| link.complaint(ErrorKind::StreamInvalidated));
        assert!(link.is_gone.load(Ordering::Acquire));
    }
}
