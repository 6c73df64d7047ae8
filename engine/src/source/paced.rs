//! Sources that would give everything at once: a thread reads them at the pace of their own sample rate.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::source::{Running, Source, SourceError};
use crate::{Capture, Timestamp};

/// Frames are read and written in portions of this length: well below a block, so that its last frame is not late.
const PORTION: Duration = Duration::from_millis(2);
/// How often a full ring is looked at where the source waits for its consumers.
const FULL_RING_RETRY_INTERVAL: Duration = Duration::from_micros(100);
/// A source with [`Arrival::External`] that is later than this has paused: its clock is set anew.
const PAUSE: Duration = Duration::from_millis(20);
/// How long [`Running::stop`] waits for a thread that may hang in a read.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Sound that is there when asked for.
pub trait Pull: Send + 'static {
    /// Frames per second.
    fn rate_hz(&self) -> u32;

    /// Samples per frame.
    fn channels(&self) -> u16;

    /// Bits of a sample, if they are integers of a known width; `None` by default.
    fn sample_bits(&self) -> Option<u16> {
        None
    }

    /// What it is, in a few words for people.
    fn description(&self) -> String;

    /// Whether samples can be had at any time, or come when they come.
    fn arrival(&self) -> Arrival {
        Arrival::Computed
    }

    /// Fills `samples` (interleaved, a whole number of frames) from the start and says how many it filled, always
    /// a whole number of frames; 0 means the end.
    ///
    /// # Errors
    ///
    /// What went wrong, in one line. It ends the source after what was read before.
    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String>;
}

/// How samples become available to [`Pull::pull`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// They are computed or on disk: each has its intended time, however late this thread runs.
    Computed,
    /// Somebody else makes them, and `pull` waits for them: after a pause, time starts anew.
    External,
}

/// Makes a [`Source`] of a [`Pull`].
#[derive(Debug)]
pub struct Paced<P>(P);

impl<P: Pull> Paced<P> {
    /// A source that reads `pull` at its own rate.
    pub fn new(pull: P) -> Self {
        Self(pull)
    }
}

impl<P: Pull> Source for Paced<P> {
    fn rate_hz(&self) -> u32 {
        self.0.rate_hz()
    }

    fn channels(&self) -> u16 {
        self.0.channels()
    }

    fn sample_bits(&self) -> Option<u16> {
        self.0.sample_bits()
    }

    fn description(&self) -> String {
        self.0.description()
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        let tally = Arc::clone(capture.tally());
        let (stop, stopped) = mpsc::channel::<()>();
        let (done, ended) = mpsc::channel::<()>();
        thread::Builder::new()
            .name("capture".into())
            .spawn(move || {
                if let Err(message) = Pacer::new(capture, stopped).run(self.0) {
                    tally.fail(message);
                }
                drop(done);
            })
            .map_err(SourceError::Thread)?;
        Ok(Box::new(RunningPacer { stop, ended }))
    }
}

#[derive(Debug)]
struct RunningPacer {
    stop: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Running for RunningPacer {
    fn stop(self: Box<Self>) {
        drop(self.stop);
        // The thread hangs in a read if nothing comes from a pipe; nothing depends on its end then.
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

/// The loop of the capture thread.
struct Pacer {
    capture: Capture,
    stopped: mpsc::Receiver<()>,
}

impl Pacer {
    fn new(capture: Capture, stopped: mpsc::Receiver<()>) -> Self {
        Self { capture, stopped }
    }

    fn run(mut self, mut pull: impl Pull) -> Result<(), String> {
        let format = self.capture.format();
        // No more than a block: where the source waits, it asks for room for one.
        let portion_frames = (PORTION.as_secs_f64() * f64::from(format.rate_hz())).ceil().max(1.0) as usize;
        let portion_frames = portion_frames.min(format.block_frames() as usize);
        let mut samples = vec![0.0; portion_frames * usize::from(format.channels())];
        let mut epoch = Timestamp::now();
        let mut position = 0;
        loop {
            let filled = pull.pull(&mut samples)?;
            if filled == 0 {
                // The last, short block needs room like any other.
                self.wait_for_room(pull.arrival());
                return Ok(());
            }
            let now = Timestamp::now();
            let mut captured_at = format.time_of(epoch, position);
            if pull.arrival() == Arrival::External && now.since(captured_at) > PAUSE {
                (epoch, position, captured_at) = (now, 0, now);
                self.capture.resume_at(now);
            }
            position += (filled / usize::from(format.channels())) as u64;
            // A frame is there when it has sounded, so the portion is written at the time of its end.
            let due = format.time_of(epoch, position);
            if self.capture.is_live() && self.pause(due.since(now)) {
                return Ok(());
            }
            if self.wait_for_room(pull.arrival()) {
                return Ok(());
            }
            self.capture.write(&samples[..filled], captured_at);
        }
    }

    /// Waits while the ring is full, which sound that is computed or on disk can do, and where the source is not live
    /// any can; true if it was stopped.
    fn wait_for_room(&self, arrival: Arrival) -> bool {
        let patient = !self.capture.is_live() || arrival == Arrival::Computed;
        let mut stopped = !self.capture.is_live() && self.pause(Duration::ZERO);
        while !stopped && patient && !self.capture.has_room() {
            stopped = self.pause(FULL_RING_RETRY_INTERVAL);
        }
        stopped
    }

    /// Sleeps; true if the source was stopped meanwhile.
    fn pause(&self, span: Duration) -> bool {
        match self.stopped.recv_timeout(span) {
            Err(RecvTimeoutError::Timeout) => false,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
        }
    }
}
