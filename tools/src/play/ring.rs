//! The ring between the player and the sound device: its writing end, and what both ends know of each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cpal::ErrorKind;
use rtrb::{Consumer, Producer, RingBuffer};

/// How long a fade takes: too short to be heard as one, long enough not to click.
pub(super) const FADE: Duration = Duration::from_millis(5);
/// Reports that may wait: those of a second, with the shortest periods that devices have, 1 ms.
const MAX_REPORTS: usize = 1024;

/// A report of the callback: frames that it took out of the ring at once. Frames are numbered from the first one that
/// was ever written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// The first frame.
    pub(super) from: u64,
    /// Number of frames.
    pub(super) frames: u64,
    /// When the device requested them.
    pub(super) asked_at: Instant,
    /// How long after that the first frame is heard, as far as the device knows.
    pub(super) latency: Duration,
}

/// State that both ends of the ring share.
#[derive(Debug, Default)]
pub(super) struct SharedState {
    /// Frames that must wait in the ring before sound begins, or begins again after the ring ran dry.
    pub(super) start_frames: AtomicUsize,
    /// Whether sound is played.
    pub(super) is_sounding: AtomicBool,
    /// Whether the stream has ended, so that running dry is no fault.
    pub(super) is_ending: AtomicBool,
    /// How often the ring ran dry because sound came too late.
    pub(super) late: AtomicU64,
    /// How often the device requested sound.
    pub(super) periods: AtomicU64,
    /// The most frames that it requested at once.
    pub(super) period_frames: AtomicUsize,
    /// Errors that the device reported.
    pub(super) errors: AtomicU64,
    /// Whether it reported that it is gone.
    pub(super) is_gone: AtomicBool,
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

/// The writing end of the ring, with the callback's reports.
#[derive(Debug)]
pub(super) struct RingWriter {
    pub(super) sound: Producer<f32>,
    pub(super) taken: Consumer<Taken>,
    pub(super) shared: Arc<SharedState>,
    /// Frames per second of the device.
    pub(super) rate_hz: u32,
    /// Samples per frame of the device.
    pub(super) channels: usize,
}

/// Makes a ring for `room_frames` frames of a device's rate and channels. Returns its writing end, and for the device
/// the reading end and that of the reports.
pub(super) fn ring(rate_hz: u32, channels: usize, room_frames: usize) -> (RingWriter, Consumer<f32>, Producer<Taken>) {
    let (sound, sounding) = RingBuffer::new(room_frames * channels);
    let (reports, taken) = RingBuffer::new(MAX_REPORTS);
    let shared = Arc::new(SharedState::default());
    (RingWriter { sound, taken, shared, rate_hz, channels }, sounding, reports)
}

#[cfg(test)]
mod tests {
    use assert_no_alloc::assert_no_alloc;

    use super::*;

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
