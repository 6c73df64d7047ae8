//! The real callback path under an allocator that aborts the process when it is used inside `assert_no_alloc`.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use cpal::{Data, ErrorKind, InputStreamTimestamp, SampleFormat, StreamInstant};

use super::callback::{Loan, Vitals};
use crate::capture::{HEADER_WORDS, parse_header};
use crate::{Capture, CaptureTally, Format, Timestamp};

/// For all unit tests of the crate. Outside `assert_no_alloc` it only passes on.
#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

/// What devices have been seen to hand over, and less and more than any of it.
const PERIODS_FRAMES: [usize; 6] = [1, 85, 120, 320, 480, 1024];
const CHANNELS: u16 = 2;
const BLOCK_SAMPLES: usize = 480 * CHANNELS as usize;

/// A capture as a device's callback has it, and the far end of its ring.
struct Bench {
    loan: Loan,
    vitals: Vitals,
    reader: rtrb::Consumer<u32>,
    tally: Arc<CaptureTally>,
    home: mpsc::Receiver<Capture>,
}

impl Bench {
    fn new() -> Self {
        Self::of(false)
    }

    /// Of a sound server's device, or of one whose word is taken.
    fn of(is_served: bool) -> Self {
        let format = Format::new(48_000, CHANNELS, Duration::from_millis(10)).unwrap();
        let (capture, reader, tally) = Capture::new(format, true);
        let (sender, home) = mpsc::channel();
        Self { loan: Loan::new(capture, sender, is_served), vitals: Vitals::default(), reader, tally, home }
    }

    /// One call of the data callback, with samples that were captured `age` ago.
    fn period(&mut self, samples: &Samples, range: std::ops::Range<usize>, age: Duration) {
        let width = samples.format.sample_size();
        let start = samples.words.as_ptr().cast::<u8>().wrapping_add(range.start * width);
        assert!(range.end * width <= samples.words.len() * 8, "inside the samples");
        #[allow(unsafe_code, reason = "cpal has no safe way to make what it hands to a callback")]
        // SAFETY: the range lies inside `words`, which outlives the call, is aligned for 8 bytes, and is not written.
        let data = unsafe { Data::from_parts(start.cast::<()>().cast_mut(), range.len(), samples.format) };
        let callback = StreamInstant::from_millis(1_000_000);
        let capture = callback.checked_sub(age).unwrap();
        assert_no_alloc(|| self.loan.period(&data, InputStreamTimestamp { callback, capture }, &self.vitals));
    }

    fn complain(&self, kind: ErrorKind) {
        assert_no_alloc(|| self.vitals.complaint(kind, &self.tally));
    }

    /// Sequence number, capture time and samples of the next block.
    fn block(&mut self) -> Option<(u64, Timestamp, Vec<f32>)> {
        let words: Vec<u32> = (0..HEADER_WORDS + BLOCK_SAMPLES).map_while(|_| self.reader.pop().ok()).collect();
        let (sequence, captured_at, frames) = (!words.is_empty()).then(|| parse_header(&words))?;
        assert_eq!(frames, 480);
        Some((sequence, captured_at, words[HEADER_WORDS..].iter().map(|word| f32::from_bits(*word)).collect()))
    }
}

/// Samples in one of cpal's formats, aligned for the widest of them.
struct Samples {
    format: SampleFormat,
    words: Vec<u64>,
}

impl Samples {
    /// Little more than the samples that a test needs: all 8-bit values, again and again.
    const COUNT: usize = 40 * BLOCK_SAMPLES;

    /// What each sample is worth: every format has these values exactly.
    fn value(index: usize) -> f32 {
        (index % 256) as f32 / 128.0 - 1.0
    }

    /// The values of [`value`](Self::value) in `format`; `upper` is what 24-bit samples have above their 24 bits.
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

/// All formats, the 24-bit ones with the sign, zeros and garbage above their 24 bits.
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
fn every_format_comes_through_in_periods_of_any_size() {
    for samples in all_samples() {
        let mut bench = Bench::new();
        let age = Duration::from_millis(7);
        let (mut sent, mut received) = (0, 0);
        let before = Timestamp::now();
        let mut after = None;
        for frames in PERIODS_FRAMES.into_iter().cycle() {
            let end = sent + frames * usize::from(CHANNELS);
            if end > Samples::COUNT {
                break;
            }
            bench.period(&samples, sent..end, age);
            after.get_or_insert_with(Timestamp::now);
            sent = end;
            while let Some((sequence, captured_at, block)) = bench.block() {
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
        assert_eq!(bench.tally.blocks(), (sent / BLOCK_SAMPLES) as u64, "{}", samples.format);
        assert_eq!((bench.tally.lost_overflow(), bench.tally.lost_xrun()), (0, 0), "{}", samples.format);
    }
}

#[test]
fn a_full_ring_loses_and_counts_and_the_sequence_goes_on() {
    for samples in all_samples() {
        let mut bench = Bench::new();
        let room = (bench.reader.buffer().capacity() / (HEADER_WORDS + BLOCK_SAMPLES)) as u64;
        let sent = room + 48;
        // Two blocks in three periods.
        let period = BLOCK_SAMPLES * 2 / 3;
        for index in 0..sent as usize * BLOCK_SAMPLES / period {
            let start = index * period % (Samples::COUNT - period);
            bench.period(&samples, start..start + period, Duration::ZERO);
        }
        let tally = Arc::clone(&bench.tally);
        assert_eq!((tally.blocks(), tally.lost_overflow(), tally.next_sequence()), (room, sent - room, sent));
        for expected in 0..room {
            assert_eq!(bench.block().map(|block| block.0), Some(expected));
        }
        assert_eq!(bench.block(), None);
        bench.period(&samples, 0..BLOCK_SAMPLES, Duration::ZERO);
        assert_eq!(bench.block().map(|block| block.0), Some(sent), "{}", samples.format);
    }
}

#[test]
fn an_xrun_loses_what_is_missing_and_the_sequence_goes_on() {
    for samples in all_samples() {
        let mut bench = Bench::new();
        // 10 blocks and a begun one, of sound that is half a second old.
        let start = Timestamp::now();
        let half = BLOCK_SAMPLES / 2;
        bench.period(&samples, 0..10 * BLOCK_SAMPLES + half, Duration::from_millis(500));
        bench.complain(ErrorKind::Xrun);
        // The next frame is due at 500 - 105 = 395 ms ago, and comes 50 ms later than that.
        bench.period(&samples, 0..BLOCK_SAMPLES, Duration::from_millis(345));
        let took = Timestamp::now().since(start).as_millis() as u64;
        let lost = bench.tally.lost_xrun();
        // The begun block, and the 50 ms after it: 5 ms end that block, 45 ms reach into the fifth after it. The
        // time that this test takes comes on top.
        assert!((6..=6 + took.div_ceil(10)).contains(&lost), "{lost} lost in {took} ms");
        assert_eq!((bench.tally.blocks(), bench.tally.next_sequence()), (11, 11 + lost));
        let sequences: Vec<u64> = std::iter::from_fn(|| bench.block()).map(|block| block.0).collect();
        assert_eq!(sequences, (0..10).chain([10 + lost]).collect::<Vec<_>>());
    }
}

#[test]
fn no_complaint_allocates() {
    let bench = Bench::new();
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
        bench.complain(kind);
    }
}

#[test]
fn a_dropped_callback_sends_the_capture_home() {
    let bench = Bench::new();
    drop(bench.loan);
    let capture = bench.home.try_recv().expect("the capture is home");
    assert!(bench.tally.is_open(), "the stream has not ended");
    drop(capture);
    assert!(!bench.tally.is_open());
}

#[test]
fn what_a_sound_server_says_of_its_latency_is_not_taken() {
    let mut bench = Bench::of(true);
    let samples = Samples::new(SampleFormat::F32, |_| 0);
    let before = Timestamp::now();
    bench.period(&samples, 0..BLOCK_SAMPLES, Duration::from_millis(100));
    let after = Timestamp::now();
    let (_, captured_at, _) = bench.block().unwrap();
    let length = Duration::from_millis(10);
    assert!((before - length..=after - length).contains(&captured_at), "{captured_at:?}");
}
