//! The data callback of an input device: writes a period of samples, in any of cpal's formats, to the capture.
//!
//! Runs on cpal's threads. It never allocates, frees, locks, logs or waits.

use std::sync::Arc;
use std::time::Duration;

use cpal::{Data, I24, InputStreamTimestamp, SampleFormat, U24};

use super::health::DeviceHealth;
use super::shared::Seats;
use crate::{Capture, Timestamp};

/// 24-bit samples that are converted at a time, on the stack. A frame has 32 at most.
const PORTION_SAMPLES: usize = 256;

/// The data callback. It borrows the captures: when cpal drops the callback, which may be when the sound server ends and on any
/// thread, they stay in their seats, because the drop of a capture ends its stream.
#[derive(Debug)]
pub(super) struct InputCallback {
    seats: Arc<Seats>,
    is_served: bool,
    /// The xruns of the device that the captures were told of.
    xruns: u64,
}

impl InputCallback {
    /// Creates the callback of a device, which writes to the captures in `seats`.
    ///
    /// `is_served` says that the device belongs to a sound server. cpal's latency is ignored for those: cpal reads it
    /// on another thread and adds the time since then, which was seen to be seconds; sound then appears up to
    /// 100 ms older than it is. Instead, the last sample of a period counts as captured when the period is handed over,
    /// so latency inside the server is not seen. The timeline smooths periods that are handed over late.
    pub(super) fn new(seats: Arc<Seats>, is_served: bool) -> Self {
        Self { seats, is_served, xruns: 0 }
    }

    /// Takes one period.
    pub(super) fn period(&mut self, data: &Data, timestamp: InputStreamTimestamp, health: &DeviceHealth) {
        let arrived_at = Timestamp::now();
        let reported = timestamp.callback.saturating_duration_since(timestamp.capture);
        let xruns = health.xruns();
        let is_after_xrun = std::mem::replace(&mut self.xruns, xruns) != xruns;
        let is_served = self.is_served;
        self.seats.write(|capture| {
            let format = capture.format();
            let frames = data.len() / usize::from(format.channels());
            let age = if is_served { format.span(frames as u64) } else { reported };
            if is_after_xrun {
                capture.stats().xrun_reported();
            }
            write_period(capture, data, arrived_at, age);
        });
        health.period();
    }
}

/// Writes one period to the capture: the interleaved samples in `data`, of any format, the first of them captured `age`
/// before they arrived.
fn write_period(capture: &mut Capture, data: &Data, arrived_at: Timestamp, age: Duration) {
    let captured_at = arrived_at - age;
    capture.observe_clock(captured_at);
    let frames = data.len() / usize::from(capture.format().channels());
    capture.begin_period(frames, captured_at, arrived_at);
    macro_rules! write {
        ($sample:ty) => {
            if let Some(samples) = data.as_slice::<$sample>() {
                capture.append(samples);
            }
        };
    }
    match data.sample_format() {
        SampleFormat::I8 => write!(i8),
        SampleFormat::I16 => write!(i16),
        SampleFormat::I24 => {
            write_24_bits(capture, data.as_slice().unwrap_or_default(), |sample: I24| sample.inner());
        }
        SampleFormat::I32 => write!(i32),
        SampleFormat::I64 => write!(i64),
        SampleFormat::U8 => write!(u8),
        SampleFormat::U16 => write!(u16),
        SampleFormat::U24 => {
            // Inverting the highest of the 24 bits moves the origin from 2^23 to 0.
            let signed = |sample: U24| sample.inner() ^ (1 << 23);
            write_24_bits(capture, data.as_slice().unwrap_or_default(), signed);
        }
        SampleFormat::U32 => write!(u32),
        SampleFormat::U64 => write!(u64),
        SampleFormat::F32 => write!(f32),
        SampleFormat::F64 => write!(f64),
        // DSD, or a format that a later cpal adds: `choice` opens no device in such a format.
        _ => {}
    }
}

/// Writes samples whose value is in the low 24 bits of 32. The upper eight bits are ignored, because they differ: the
/// sign with some drivers, zeros with PulseAudio, garbage with others.
fn write_24_bits<S: Copy>(capture: &mut Capture, samples: &[S], bits: impl Fn(S) -> i32) {
    let channels = usize::from(capture.format().channels());
    let mut floats = [0.0_f32; PORTION_SAMPLES];
    let portion = PORTION_SAMPLES - PORTION_SAMPLES % channels;
    for portion_samples in samples.chunks(portion) {
        for (to, from) in floats.iter_mut().zip(portion_samples) {
            *to = (bits(*from) << 8) as f32 / 2_147_483_648.0;
        }
        capture.append(&floats[..portion_samples.len()]);
    }
}
