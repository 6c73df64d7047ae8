//! The real callback path, under an allocator that aborts the process if it is used inside `assert_no_alloc`.
//!
//! `make rtsan` runs the same tests under RealtimeSanitizer, which also catches system calls and locks that have to wait.

use std::sync::Arc;
use std::time::Duration;

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use cpal::{Data, ErrorKind, InputStreamTimestamp, SampleFormat, StreamInstant};

use super::callback::InputCallback;
use super::health::DeviceHealth;
use super::shared::Seats;
use crate::capture_ring::{HEADER_WORDS, Header};
use crate::{Capture, CaptureStats, Format, Timestamp};

/// Serves all unit tests of the crate. Outside `assert_no_alloc` it only forwards to the system's allocator.
#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

/// Periods that devices were seen to hand over, and a shorter and a longer one.
const PERIODS_FRAMES: [usize; 6] = [1, 85, 120, 320, 480, 1024];
const CHANNELS: u16 = 2;
const BLOCK_SAMPLES: usize = 480 * CHANNELS as usize;

/// A callback with its capture, and the reading end of the capture ring.
struct Fixture {
    callback: InputCallback,
    health: DeviceHealth,
    reader: rtrb::Consumer<u32>,
    stats: Arc<CaptureStats>,
    seats: Arc<Seats>,
}

impl Fixture {
    /// A device whose timestamps are used.
    fn new() -> Self {
        Self::with(false)
    }

    /// A device of a sound server (`is_served`), or one whose timestamps are used.
    fn with(is_served: bool) -> Self {
        let format = Format::new(48_000, CHANNELS, Duration::from_millis(10)).unwrap();
        let (capture, reader, stats) = Capture::new(format, true);
        let seats: Arc<Seats> = Arc::default();
        assert_eq!(seats.take(Box::new(capture)).ok(), Some(0));
        let callback = InputCallback::new(Arc::clone(&seats), is_served);
        Self { callback, health: DeviceHealth::default(), reader, stats, seats }
    }

    /// Calls the data callback with samples that were captured `age` ago.
    fn period(&mut self, samples: &Samples, range: std::ops::Range<usize>, age: Duration) {
        let width = samples.format.sample_size();
        let start = samples.words.as_ptr().cast::<u8>().wrapping_add(range.start * width);
        assert!(range.end * width <= samples.words.len() * 8, "inside the samples");
        #[allow(unsafe_code, reason = "cpal has no safe way to make what it hands to a callback")]
        // SAFETY: the range lies inside `words`, which outlives the call, is aligned for 8 bytes, and is not written.
        let data = unsafe { Data::from_parts(start.cast::<()>().cast_mut(), range.len(), samples.format) };
        let callback = StreamInstant::from_millis(1_000_000);
        let capture = callback.checked_sub(age).unwrap();
        in_real_time(|| self.callback.period(&data, InputStreamTimestamp { callback, capture }, &self.health));
    }

    fn report(&self, kind: ErrorKind) {
        in_real_time(|| self.health.error(kind));
    }

    /// Takes the next block: sequence number, capture time and samples.
    fn block(&mut self) -> Option<(u64, Timestamp, Vec<f32>)> {
        let words: Vec<u32> = (0..HEADER_WORDS + BLOCK_SAMPLES).map_while(|_| self.reader.pop().ok()).collect();
        let (header, samples) = words.split_first_chunk()?;
        let Header { sequence, captured_at, length: frames, .. } = Header::from_words(header);
        assert_eq!(frames, 480);
        Some((sequence, captured_at, samples.iter().map(|word| f32::from_bits(*word)).collect()))
    }
}

/// Calls `f` as a device's thread would: whatever may take long ends the process. RealtimeSanitizer (`--cfg rtsan`) catches
/// allocations, system calls and locks that are held; otherwise the allocator catches allocations.
#[cfg_attr(rtsan, sanitize(realtime = "nonblocking"))]
#[inline(never)]
fn in_real_time<R>(f: impl FnOnce() -> R) -> R {
    if cfg!(rtsan) { f() } else { assert_no_alloc(f) }
}

/// Samples in one of cpal's formats, aligned for the widest of them.
struct Samples {
    format: SampleFormat,
    words: Vec<u64>,
}

impl Samples {
    /// Enough for every test: all 8-bit values, repeated.
    const COUNT: usize = 40 * BLOCK_SAMPLES;

    /// Value of each sample. Every format represents these values exactly.
    fn value(index: usize) -> f32 {
        (index % 256) as f32 / 128.0 - 1.0
    }

    /// Encodes the values of [`value`](Self::value) in `format`. `upper` gives the bits above the 24 of 24-bit samples.
    fn new(format: SampleFormat, upper: fn(i32) -> i32) -> Self {
        let encode = |index: usize| -> Vec<u8> {
            let value = (index % 256) as i64 - 128;
            let origin = if format.is_uint() { 128 } else { 0 };
            let integer = (value + origin) << (format.bits_per_sample() - 8);
            match format {
                SampleFormat::F32 => Self::value(index).to_ne_bytes().into(),
                SampleFormat::F64 => f64::from(Self::value(index)).to_ne_bytes().into(),
                SampleFormat::I24 | SampleFormat::U24 => {
                    let low = integer as i32 & 0x00FF_FFFF;
                    (low | upper(integer as i32) << 24).to_ne_bytes().into()
                }
                // On a big-endian machine the low bytes are the last ones.
                _ if cfg!(target_endian = "big") => integer.to_be_bytes()[8 - format.sample_size()..].into(),
                _ => integer.to_le_bytes()[..format.sample_size()].into(),
            }
        };
        let mut bytes: Vec<u8> = (0..Self::COUNT).flat_map(encode).collect();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
        Self { format, words }
    }
}

/// Samples in all formats; the 24-bit ones with the sign, zeros and garbage above their 24 bits.
fn all_samples() -> impl Iterator<Item = Samples> {
    let plain = [
        SampleFormat::I8,
        SampleFormat::I16,
        SampleFormat::I32,
        SampleFormat::I64,
        SampleFormat::U8,
        SampleFormat::U16,
        SampleFormat::U32,
        SampleFormat::U64,
        SampleFormat::F32,
        SampleFormat::F64,
    ];
    let uppers: [fn(i32) -> i32; 3] = [|integer| integer >> 24, |_| 0, |_| 0x5A];
    let packed = [SampleFormat::I24, SampleFormat::U24];
    let packed = packed.into_iter().flat_map(move |format| uppers.map(|upper| Samples::new(format, upper)));
    plain.into_iter().map(|format| Samples::new(format, |_| 0)).chain(packed)
}

#[test]
fn every_format_passes_in_periods_of_any_size() {
    for samples in all_samples() {
        let mut fixture = Fixture::new();
        let age = Duration::from_millis(7);
        let (mut sent, mut received) = (0, 0);
        let before = Timestamp::now();
        let mut after = None;
        for frames in PERIODS_FRAMES.into_iter().cycle() {
            let end = sent + frames * usize::from(CHANNELS);
            if end > Samples::COUNT {
                break;
            }
            fixture.period(&samples, sent..end, age);
            after.get_or_insert_with(Timestamp::now);
            sent = end;
            while let Some((sequence, captured_at, block)) = fixture.block() {
                assert_eq!(sequence, (received / BLOCK_SAMPLES) as u64, "{}", samples.format);
                if sequence == 0 {
                    assert!(before - age <= captured_at && Some(captured_at + age) <= after, "{}", samples.format);
                }
                let expected: Vec<f32> = (received..received + BLOCK_SAMPLES).map(Samples::value).collect();
                assert!(block == expected, "{}: block {sequence} differs", samples.format);
                received += BLOCK_SAMPLES;
            }
        }
        assert_eq!(received, sent - sent % BLOCK_SAMPLES, "{}", samples.format);
        assert_eq!(fixture.stats.blocks(), (sent / BLOCK_SAMPLES) as u64, "{}", samples.format);
        assert_eq!((fixture.stats.lost_overflow(), fixture.stats.lost_xrun()), (0, 0), "{}", samples.format);
    }
}

#[test]
fn a_full_ring_counts_losses_and_the_sequence_goes_on() {
    for samples in all_samples() {
        let mut fixture = Fixture::new();
        let room = (fixture.reader.buffer().capacity() / (HEADER_WORDS + BLOCK_SAMPLES)) as u64;
        let sent = room + 48;
        // Two blocks in three periods.
        let period = BLOCK_SAMPLES * 2 / 3;
        for index in 0..sent as usize * BLOCK_SAMPLES / period {
            let start = index * period % (Samples::COUNT - period);
            fixture.period(&samples, start..start + period, Duration::ZERO);
        }
        let stats = Arc::clone(&fixture.stats);
        assert_eq!((stats.blocks(), stats.lost_overflow(), stats.next_sequence()), (room, sent - room, sent));
        for expected in 0..room {
            assert_eq!(fixture.block().map(|block| block.0), Some(expected));
        }
        assert_eq!(fixture.block(), None);
        fixture.period(&samples, 0..BLOCK_SAMPLES, Duration::ZERO);
        assert_eq!(fixture.block().map(|block| block.0), Some(sent), "{}", samples.format);
    }
}

#[test]
fn an_xrun_counts_the_missing_blocks_and_the_sequence_goes_on() {
    for samples in all_samples() {
        let mut fixture = Fixture::new();
        // 10 blocks and half a block, of sound that is half a second old.
        let start = Timestamp::now();
        let half = BLOCK_SAMPLES / 2;
        fixture.period(&samples, 0..10 * BLOCK_SAMPLES + half, Duration::from_millis(500));
        fixture.report(ErrorKind::Xrun);
        // The next frame is due at 500 - 105 = 395 ms ago, and comes 50 ms later than that. The samples up to the grid are
        // discarded, less than a block of them.
        let two_blocks = 2 * BLOCK_SAMPLES - usize::from(CHANNELS);
        fixture.period(&samples, 0..two_blocks, Duration::from_millis(345));
        let took = Timestamp::now().since(start).as_millis() as u64;
        let lost = fixture.stats.lost_xrun();
        // The incomplete block, and the 50 ms after it: 5 ms complete that block, 45 ms reach into the fifth after it.
        // The time that this test takes is added to that.
        assert!((6..=6 + took.div_ceil(10)).contains(&lost), "{lost} lost in {took} ms");
        assert_eq!((fixture.stats.blocks(), fixture.stats.next_sequence()), (11, 11 + lost));
        let discarded = fixture.stats.discarded_frames();
        assert!((240..240 + 480).contains(&discarded), "the incomplete block, and some after it: {discarded} frames");
        let sequences: Vec<u64> = std::iter::from_fn(|| fixture.block()).map(|block| block.0).collect();
        assert_eq!(sequences, (0..10).chain([10 + lost]).collect::<Vec<_>>());
    }
}

#[test]
fn no_error_report_allocates() {
    let fixture = Fixture::new();
    for kind in [
        ErrorKind::DeviceBusy,
        ErrorKind::DeviceChanged,
        ErrorKind::DeviceNotAvailable,
        ErrorKind::HostUnavailable,
        ErrorKind::InvalidInput,
        ErrorKind::PermissionDenied,
        ErrorKind::RealtimeDenied,
        ErrorKind::ResourceExhausted,
        ErrorKind::StreamInvalidated,
        ErrorKind::UnsupportedConfig,
        ErrorKind::UnsupportedOperation,
        ErrorKind::Xrun,
        ErrorKind::BackendError,
        ErrorKind::Other,
    ] {
        fixture.report(kind);
    }
}

#[test]
fn a_dropped_callback_leaves_the_capture_in_its_seat() {
    let fixture = Fixture::new();
    drop(fixture.callback);
    assert!(fixture.stats.is_open(), "the stream has not ended");
    drop(fixture.seats.leave(0).expect("the capture is there"));
    assert!(!fixture.stats.is_open());
}

#[test]
fn every_capture_gets_the_same_sound_from_when_it_comes_until_it_leaves() {
    let samples = Samples::new(SampleFormat::I16, |_| 0);
    let mut fixture = Fixture::new();
    let (other, mut reader, stats) =
        Capture::new(Format::new(48_000, CHANNELS, Duration::from_millis(10)).unwrap(), true);
    fixture.period(&samples, 0..BLOCK_SAMPLES, Duration::ZERO);
    assert_eq!(fixture.seats.take(Box::new(other)).ok(), Some(1));
    // Its ring is full long before that of the first one, which is read.
    let room = reader.buffer().capacity() / (HEADER_WORDS + BLOCK_SAMPLES);
    let mut blocks = vec![fixture.block().unwrap()];
    for _ in 0..room + 5 {
        fixture.period(&samples, 0..BLOCK_SAMPLES, Duration::ZERO);
        blocks.push(fixture.block().unwrap());
    }
    assert_eq!((fixture.stats.blocks(), fixture.stats.lost_overflow()), (room as u64 + 6, 0));
    assert_eq!((stats.blocks(), stats.lost_overflow()), (room as u64, 5), "its loss is its own");
    let words: Vec<u32> = (0..HEADER_WORDS + BLOCK_SAMPLES).map_while(|_| reader.pop().ok()).collect();
    let (header, words) = words.split_first_chunk().unwrap();
    let sequence = Header::from_words(header).sequence;
    let block: Vec<_> = words.iter().map(|word| f32::from_bits(*word)).collect();
    // Times are not compared: this test hands over sound faster than it is due.
    assert!(sequence == 0 && block == blocks[1].2, "the second block of the first one is its first");
    drop(fixture.seats.leave(1).expect("the capture is there"));
    assert!(!stats.is_open());
    fixture.period(&samples, 0..BLOCK_SAMPLES, Duration::ZERO);
    assert!(fixture.block().is_some() && stats.next_sequence() == room as u64 + 5);
}

#[test]
fn the_latency_that_a_sound_server_reports_is_ignored() {
    let mut fixture = Fixture::with(true);
    let samples = Samples::new(SampleFormat::F32, |_| 0);
    let before = Timestamp::now();
    fixture.period(&samples, 0..BLOCK_SAMPLES, Duration::from_millis(100));
    let after = Timestamp::now();
    let (_, captured_at, _) = fixture.block().unwrap();
    let length = Duration::from_millis(10);
    assert!((before - length..=after - length).contains(&captured_at), "{captured_at:?}");
}

/// Proves that RealtimeSanitizer watches the callback, by planting faults in it in a process of their own.
#[cfg(rtsan)]
mod planted {
    use std::hint::black_box;
    use std::process::Command;
    use std::sync::Mutex;
    use std::{env, io::Write, time::Duration};

    use super::{BLOCK_SAMPLES, Fixture, SampleFormat, Samples, in_real_time};

    /// Names the fault to plant.
    const VARIABLE: &str = "RTSAN_PLANT";
    /// What is planted, and the call that is caught. The sanitizer does not know `clock_nanosleep`, by which Rust sleeps.
    const FAULTS: [(&str, &str); 4] =
        [("allocation", "malloc"), ("drop", "free"), ("print", "write"), ("lock", "syscall")];

    #[test]
    fn a_fault_in_the_callback_ends_the_process() {
        if let Ok(fault) = env::var(VARIABLE) {
            plant(&fault);
            return;
        }
        for (fault, call) in FAULTS {
            let name = "source::device::tests::planted::a_fault_in_the_callback_ends_the_process";
            let mut program = Command::new(env::current_exe().unwrap());
            let output = program.args(["--exact", name, "--nocapture"]).env(VARIABLE, fault).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{fault}: not caught");
            assert!(said.contains("RealtimeSanitizer") && said.contains(call), "{fault}: {said}");
        }
    }

    /// Hands over a period and does something else that takes long.
    fn plant(fault: &str) {
        let samples = Samples::new(SampleFormat::I16, |_| 0);
        let mut fixture = Fixture::new();
        fixture.period(&samples, 0..BLOCK_SAMPLES, Duration::ZERO);
        let mut kept = Some(vec![0_u8; 100]);
        let lock = Mutex::new(());
        let held = lock.lock().unwrap();
        in_real_time(|| match fault {
            "allocation" => drop(black_box(vec![1_u8; 100])),
            "drop" => drop(black_box(kept.take())),
            "print" => drop(std::io::stderr().write(b"late")),
            _ => drop(lock.lock()),
        });
        drop(held);
    }
}
