//! The ring between the player and the sound device: its writing end, and the state that both ends share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer};

/// How long a fade takes: too short to be heard as one, long enough not to click.
pub(super) const FADE: Duration = Duration::from_millis(5);

/// A report of the callback: frames that it took out of the ring at once. Frames are numbered from the first one that
/// was ever written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) from: u64,
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

/// The writing end of the ring, with the callback's reports.
#[derive(Debug)]
pub(crate) struct RingWriter {
    pub(super) sound: Producer<f32>,
    pub(super) taken: Consumer<Taken>,
    pub(super) shared: Arc<SharedState>,
    /// Frames per second of the device.
    pub(super) rate_hz: u32,
    /// Samples per frame of the device.
    pub(super) channels: usize,
}
