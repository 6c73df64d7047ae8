//! The playout against the device's end of the ring, in a time of the test's own.

use super::super::output_callback::{OutputCallback, ring};
use super::*;

const RATE_HZ: u32 = 48_000;
const BLOCK_FRAMES: u32 = 480;
const TARGET_BUFFER: Duration = Duration::from_millis(60);
const DEVICE_LATENCY: Duration = Duration::from_millis(30);
const STEP: Duration = Duration::from_millis(1);
/// Not a whole number of periods in a block, so that a block that is missing leaves a jump.
const TONE_HZ: f64 = 470.0;
/// Where a block says that it was captured, so that it is seen to stay with its number.
const CAPTURED: f64 = 1_790_000_000.0;

/// A device and what is played on it, with one clock that is the test's.
struct Bench {
    playout: Playout,
    callback: OutputCallback,
    now: Instant,
    /// The device asks for so many milliseconds at a time.
    period: u32,
    millis: u32,
    device_channels: usize,
    out: Vec<f32>,
    heard: Vec<HeardBlock>,
}

impl Bench {
    fn new(stream_hz: u32, device_hz: u32, channels: u16, device_channels: usize, period: u32) -> Self {
        let (writer, callback) = ring(device_hz, device_channels, device_hz as usize);
        let format = StreamFormat { rate_hz: stream_hz, channels, block_frames: stream_hz / 100, block_seconds: 0.01 };
        let playout = Playout::new(writer, format, TARGET_BUFFER).unwrap();
        let now = Instant::now();
        Self { playout, callback, now, period, millis: 0, device_channels, out: Vec::new(), heard: Vec::new() }
    }

    fn plain() -> Self {
        Self::new(RATE_HZ, RATE_HZ, 1, 1, 10)
    }

    /// A block of a tone that goes on from block to block, at the same loudness on every channel.
    fn push(&mut self, sequence: u64) {
        let format = self.playout.format;
        let frames = u64::from(format.block_frames);
        let samples = (sequence * frames..(sequence + 1) * frames).flat_map(|n| {
            let phase = n as f64 / f64::from(format.rate_hz) * TONE_HZ * std::f64::consts::TAU;
            vec![0.5 * phase.sin() as f32; usize::from(format.channels)]
        });
        let captured_at = CAPTURED + sequence as f64;
        let block = Block { sequence, captured_at, frames, samples: samples.collect() };
        self.playout.push(&block, self.now).unwrap();
    }

    /// A millisecond goes by.
    fn tick(&mut self) {
        if self.millis.is_multiple_of(self.period) {
            let frames = (self.playout.writer.rate_hz * self.period / 1000) as usize;
            let start = self.out.len();
            self.out.resize(start + frames * self.device_channels, 0.0);
            self.callback.fill(&mut self.out[start..], self.now, DEVICE_LATENCY);
        }
        let now = self.now;
        self.heard.extend(self.playout.heard(now));
        self.millis += 1;
        self.now += STEP;
    }

    /// Blocks come every 10 ms, those for which `comes` says so.
    fn play(&mut self, blocks: std::ops::Range<u64>, comes: impl Fn(u64) -> bool) {
        for sequence in blocks {
            if comes(sequence) {
                self.push(sequence);
            }
            (0..10).for_each(|_| self.tick());
        }
    }

    /// How sharply the sound bends at most: a click is a jump, and bends by as much as it is high.
    fn bend(&self) -> f32 {
        self.out.windows(3).map(|w| (w[2] - 2.0 * w[1] + w[0]).abs()).fold(0.0, f32::max)
    }
}

/// A tone of 470 Hz at 0.5 changes by 0.031 a frame at most, and that may stop or begin at once. A click is ten times
/// as much.
const SMOOTH: f32 = 0.036;

#[test]
fn the_target_buffer_waits_and_each_block_is_heard_once_and_in_time() {
    let mut bench = Bench::plain();
    bench.play(0..500, |_| true);
    assert_eq!(bench.playout.late(), 0);
    assert!(bench.bend() < SMOOTH, "{}", bench.bend());
    let sequences: Vec<u64> = bench.heard.iter().map(|heard| heard.sequence).collect();
    assert_eq!(sequences, (0..sequences.len() as u64).collect::<Vec<_>>());
    assert!(sequences.len() > 480);
    let start = bench.now - 5000 * STEP;
    for heard in &bench.heard {
        assert_eq!(heard.captured_at, CAPTURED + heard.sequence as f64);
        let came = start + Duration::from_millis(10 * heard.sequence);
        // The buffer, the filter and the device; a period and a block more or less.
        let took = (heard.at - came).as_secs_f64();
        assert!((0.075..0.105).contains(&took), "{heard:?} took {took}");
    }
}

#[test]
fn any_rate_and_any_channels_are_played_at_the_pitch_that_they_have() {
    for (stream_hz, device_hz, channels, device_channels) in [
        (44_100, 48_000, 2, 2),
        (48_000, 44_100, 1, 2),
        (48_000, 48_000, 2, 1),
        (16_000, 48_000, 1, 6),
        (48_000, 8_000, 2, 2),
    ] {
        let mut bench = Bench::new(stream_hz, device_hz, channels, device_channels, 10);
        bench.play(0..200, |_| true);
        assert_eq!(bench.playout.late(), 0);
        let frames: Vec<&[f32]> = bench.out.chunks_exact(device_channels).skip(device_hz as usize).collect();
        assert!(frames.iter().all(|frame| frame.iter().all(|sample| *sample == frame[0])), "all channels are alike");
        let crossings = frames.windows(2).filter(|pair| (pair[0][0] < 0.0) != (pair[1][0] < 0.0)).count();
        let seconds = frames.len() as f64 / f64::from(device_hz);
        let hz = crossings as f64 / 2.0 / seconds;
        assert!((hz - TONE_HZ).abs() < 4.0, "{stream_hz} on {device_hz}: {hz} Hz");
        let peak = frames.iter().fold(0.0_f32, |peak, frame| peak.max(frame[0].abs()));
        assert!((0.49..0.51).contains(&peak), "{stream_hz} on {device_hz}: {peak}");
    }
}

#[test]
fn a_lost_block_is_as_much_silence_and_no_click() {
    let mut bench = Bench::plain();
    bench.play(0..200, |sequence| !(103..106).contains(&sequence));
    assert_eq!(bench.playout.late(), 0);
    let silent = bench.playout.stats(String::new()).silent;
    assert!((20..=31).contains(&silent.as_millis()), "{silent:?} of silence for 30 ms");
    assert!(bench.bend() < SMOOTH, "{}", bench.bend());
    let numbers: Vec<u64> = bench.heard.iter().map(|heard| heard.sequence).collect();
    assert!(numbers.contains(&102) && numbers.contains(&106) && !numbers.contains(&104));
}

#[test]
fn a_stall_is_late_once_and_sound_after_it_is_close_to_live() {
    let mut bench = Bench::plain();
    bench.play(0..100, |_| true);
    (0..500).for_each(|_| bench.tick());
    // All blocks of the stall come at once.
    (100..150).for_each(|sequence| bench.push(sequence));
    bench.play(150..400, |_| true);
    assert_eq!(bench.playout.late(), 1);
    let skipped = bench.playout.stats(String::new()).skipped;
    assert!((300..500).contains(&skipped.as_millis()), "{skipped:?} skipped of 500 ms");
    assert!(bench.bend() < SMOOTH, "{}", bench.bend());
    let last = bench.heard.last().unwrap();
    let age = (bench.now - last.at).as_millis() + 10 * u128::from(399 - last.sequence);
    assert!(age < 180, "{age} ms behind");
}

#[test]
fn a_device_whose_period_is_longer_than_the_target_buffer_gets_it() {
    let mut bench = Bench::new(RATE_HZ, RATE_HZ, 1, 1, 100);
    bench.play(0..300, |_| true);
    assert_eq!(bench.playout.late(), 0);
    assert!(bench.bend() < SMOOTH, "{}", bench.bend());
}

#[test]
fn at_the_end_everything_is_played_and_then_it_is_over() {
    let mut bench = Bench::plain();
    // Not even enough to begin with.
    bench.play(0..3, |_| true);
    bench.playout.end().unwrap();
    let now = bench.now;
    assert!(!bench.playout.is_over(now));
    (0..200).for_each(|_| bench.tick());
    let now = bench.now;
    assert!(bench.playout.is_over(now));
    assert_eq!(bench.playout.late(), 0);
    let numbers: Vec<u64> = bench.heard.iter().map(|heard| heard.sequence).collect();
    assert_eq!(numbers, [0, 1, 2]);
    let loud = bench.out.iter().filter(|sample| sample.abs() > 0.1).count();
    assert!((1000..1440).contains(&loud), "{loud} loud frames of 30 ms");
    assert!(bench.bend() < SMOOTH, "{}", bench.bend());
}

#[test]
fn samples_that_are_no_numbers_are_silence_and_do_not_stay() {
    let mut bench = Bench::plain();
    let samples = vec![f32::NAN; BLOCK_FRAMES as usize];
    let block = Block { sequence: 0, captured_at: 0.0, frames: u64::from(BLOCK_FRAMES), samples };
    bench.playout.push(&block, bench.now).unwrap();
    bench.play(1..100, |_| true);
    assert!(bench.out.iter().all(|sample| sample.is_finite()));
    assert!(bench.out.iter().any(|sample| *sample > 0.4));
}
