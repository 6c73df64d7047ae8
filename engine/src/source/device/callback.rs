//! What runs on cpal's threads: the way from a period of samples, or from a complaint, into the capture.
//!
//! Nothing here allocates, frees, locks, logs or waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use cpal::{Data, ErrorKind, I24, InputStreamTimestamp, SampleFormat, U24};

use crate::{Capture, CaptureTally, Timestamp};

/// The 24-bit samples that are converted at a time, on the stack; a frame has 32 at most.
const PORTION_SAMPLES: usize = 256;

/// Writes one period to the capture: the samples in `data`, interleaved, of whatever format, the first of them
/// captured `age` ago.
pub(super) fn deliver(capture: &mut Capture, data: &Data, age: Duration) {
    let captured_at = Timestamp::now() - age;
    macro_rules! write {
        ($sample:ty) => {
            if let Some(samples) = data.as_slice::<$sample>() {
                capture.write(samples, captured_at);
            }
        };
    }
    match data.sample_format() {
        SampleFormat::I8 => write!(i8),
        SampleFormat::I16 => write!(i16),
        SampleFormat::I24 => {
            write_24_bits(capture, data.as_slice().unwrap_or_default(), |sample: I24| sample.inner(), captured_at);
        }
        SampleFormat::I32 => write!(i32),
        SampleFormat::I64 => write!(i64),
        SampleFormat::U8 => write!(u8),
        SampleFormat::U16 => write!(u16),
        SampleFormat::U24 => {
            // Turning over the highest of the 24 bits takes the origin from 2^23 to 0.
            let signed = |sample: U24| sample.inner() ^ (1 << 23);
            write_24_bits(capture, data.as_slice().unwrap_or_default(), signed, captured_at);
        }
        SampleFormat::U32 => write!(u32),
        SampleFormat::U64 => write!(u64),
        SampleFormat::F32 => write!(f32),
        SampleFormat::F64 => write!(f64),
        // DSD, or what a later cpal adds: `choice` opens no device in such a format.
        _ => {}
    }
}

/// Writes samples whose value is in the low 24 bits of 32. What the upper eight hold differs: the sign with some
/// drivers, zeros with PulseAudio, garbage with others. So they are not looked at.
fn write_24_bits<S: Copy>(capture: &mut Capture, samples: &[S], bits: impl Fn(S) -> i32, captured_at: Timestamp) {
    let format = capture.format();
    let channels = usize::from(format.channels());
    let mut floats = [0.0_f32; PORTION_SAMPLES];
    let portion = PORTION_SAMPLES - PORTION_SAMPLES % channels;
    for (index, portion_samples) in samples.chunks(portion).enumerate() {
        for (to, from) in floats.iter_mut().zip(portion_samples) {
            *to = (bits(*from) << 8) as f32 / 2_147_483_648.0;
        }
        let position = (index * portion / channels) as u64;
        capture.write(&floats[..portion_samples.len()], format.time_of(captured_at, position));
    }
}

/// Signs of life from cpal's threads, read by the supervisor.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// Periods that came.
    pub(super) periods: AtomicU64,
    /// Complaints of any kind.
    pub(super) complaints: AtomicU64,
    /// Whether the device has said that it is gone.
    pub(super) is_gone: AtomicBool,
}

impl Vitals {
    /// Takes a complaint from cpal, which may come half a million times a second.
    pub(super) fn complaint(&self, kind: ErrorKind, tally: &CaptureTally) {
        match kind {
            ErrorKind::Xrun => tally.xrun_reported(),
            ErrorKind::DeviceNotAvailable
            | ErrorKind::StreamInvalidated
            | ErrorKind::HostUnavailable
            | ErrorKind::PermissionDenied => self.is_gone.store(true, Ordering::Release),
            // Sound goes on: at a usual priority, from the device that the system chose.
            ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => return,
            // A system call that a signal interrupted, say; if it is more, there will be no end of it.
            _ => {}
        }
        self.complaints.fetch_add(1, Ordering::Release);
    }
}

/// The capture, lent to a callback. When cpal drops the callback, which may be when the sound server ends and on any
/// thread, the capture comes home instead of being dropped too: that would end the stream.
#[derive(Debug)]
pub(super) struct Loan {
    /// Gone only while this is dropped.
    capture: Option<Capture>,
    home: mpsc::Sender<Capture>,
    is_served: bool,
}

impl Loan {
    /// Lends the capture; it comes back through `home`.
    ///
    /// `is_served` says that the device is a sound server's. What cpal says of those is not taken: it asks for the
    /// latency on another thread and adds the time since that answered, which was seen to be seconds ago; sound is up
    /// to 100 ms older then than it is. The last sample of a period counts as captured when it is handed over, so a
    /// latency of the server's own is not seen. What is handed over late the timeline straightens out.
    pub(super) fn new(capture: Capture, home: mpsc::Sender<Capture>, is_served: bool) -> Self {
        Self { capture: Some(capture), home, is_served }
    }

    /// The data callback.
    pub(super) fn period(&mut self, data: &Data, timestamp: InputStreamTimestamp, vitals: &Vitals) {
        if let Some(capture) = &mut self.capture {
            let said = timestamp.callback.saturating_duration_since(timestamp.capture);
            let format = capture.format();
            let frames = data.len() / usize::from(format.channels());
            let age = if self.is_served { format.span(frames as u64) } else { said };
            deliver(capture, data, age);
        }
        vitals.periods.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(capture) = self.capture.take() {
            // If nobody is at home any more, the stream has been stopped, and the capture is dropped here.
            let _ = self.home.send(capture);
        }
    }
}
