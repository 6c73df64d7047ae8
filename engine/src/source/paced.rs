//! A thread that reads a [`Pull`] at the pace of its own sample rate.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::source::interface::{Running, Source, SourceError};
use crate::source::pipe::Pipe;
use crate::source::pull::{Arrival, Pull};
use crate::source::schedule::Schedule;
use crate::{Capture, Timestamp};

/// Length of the portions that are read and written: well below a block, so that the last frame of a block is not late.
const PORTION: Duration = Duration::from_millis(2);
/// Time between two looks at a full ring, where the source waits for its consumers.
const FULL_RING_RETRY_INTERVAL: Duration = Duration::from_micros(100);
/// How long [`Running::stop`] waits for a thread that may hang in a read.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Makes a [`Source`] of a [`Pull`].
#[derive(Debug)]
pub struct Paced<P>(P);

impl<P: Pull> Paced<P> {
    /// Creates a source that reads `pull` at its own rate.
    ///
    /// ```
    /// use aircheck_engine::source::{Paced, Pcm, PcmEncoding, Source};
    ///
    /// let pcm = Pcm::new(&b"\0\0\0\0"[..], "zeros", 48_000, 1, PcmEncoding::S16Le);
    /// assert_eq!(Paced::new(pcm).rate_hz(), 48_000);
    /// ```
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
        let (stop, stopped) = mpsc::channel::<()>();
        let (done, ended) = mpsc::channel::<()>();
        thread::Builder::new()
            .name("capture".into())
            .spawn(move || {
                // A source that does not wait for a clock would keep a core to itself.
                if capture.is_live() {
                    capture.stats().realtime().promote_current_thread();
                }
                let mut pacer = Pacer { capture, stopped };
                match pacer.run(self.0) {
                    Ok(()) => drop(pacer),
                    Err(failure) => pacer.capture.fail(failure),
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
        // The thread may hang in a read of a silent pipe. Nothing depends on its end then.
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

/// The loop of the capture thread.
struct Pacer {
    capture: Capture,
    stopped: mpsc::Receiver<()>,
}

impl Pacer {
    /// Writes the samples of `pull` until its end, its failure or the stop.
    fn run(&mut self, mut pull: impl Pull) -> Result<(), String> {
        let format = self.capture.format();
        let channels = usize::from(format.channels());
        let arrival = pull.arrival();
        // At most a block: a source that waits asks for room for one block.
        let portion_frames = (PORTION.as_secs_f64() * f64::from(format.rate_hz())).ceil().max(1.0) as usize;
        let portion_frames = portion_frames.min(format.block_frames() as usize);
        let mut samples = vec![0.0; portion_frames * channels];
        let mut schedule = Schedule::new(format, self.capture.is_live(), arrival, Timestamp::now());
        let mut pipe = Pipe::new(format, &mut pull);
        loop {
            // The block that is not complete yet.
            pull.begins_in(self.capture.stats().next_sequence());
            let pulled = pull.pull(&mut samples).and_then(|filled| check(filled, samples.len(), channels));
            let Ok(filled @ 1..) = pulled else {
                // The last, short block needs room like any other.
                self.wait_for_room(arrival);
                return pulled.map(|_| ());
            };
            let now = Timestamp::now();
            let (frames, waiting) = ((filled / channels) as u64, pull.waiting());
            let behind = pipe.behind(waiting);
            if self.capture.is_replaced() && schedule.leave_out(frames, behind, now) {
                continue;
            }
            let portion = schedule.portion(frames, behind, now);
            if portion.restarts {
                pipe.pause();
                self.capture.resume_at(portion.captured_at);
            }
            if self.capture.is_live() && self.pause(portion.due.since(now)) {
                return Ok(());
            }
            // What is late already waits in front of the source; it can wait there a little longer for room.
            let arrival = if now > portion.due { Arrival::Computed } else { arrival };
            if self.wait_for_room(arrival) {
                return Ok(());
            }
            self.capture.begin_period(filled / channels, portion.captured_at, Timestamp::now());
            self.capture.append(&samples[..filled]);
            if let Some(waiting) = pull.waiting()
                && pipe.look(waiting, Timestamp::now(), &mut pull, &mut schedule, self.capture.stats())
            {
                self.capture.resume_at(schedule.next_captured_at());
            }
        }
    }

    /// Waits while the ring is full, if the source can wait: sound that is computed or on disk can, and any sound can if
    /// the stream is not live. Returns whether the source was stopped.
    fn wait_for_room(&self, arrival: Arrival) -> bool {
        let can_wait = !self.capture.is_live() || arrival == Arrival::Computed;
        let mut stopped = !self.capture.is_live() && self.pause(Duration::ZERO);
        while !stopped && can_wait && !self.capture.has_room() {
            stopped = self.pause(FULL_RING_RETRY_INTERVAL);
        }
        stopped
    }

    /// Sleeps for `span`. Returns whether the source was stopped meanwhile.
    fn pause(&self, span: Duration) -> bool {
        match self.stopped.recv_timeout(span) {
            Err(RecvTimeoutError::Timeout) => false,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
        }
    }
}

/// Returns the number of samples that a [`Pull`] has filled, if it can be true.
fn check(filled: usize, wanted: usize, channels: usize) -> Result<usize, String> {
    if filled > wanted {
        Err(format!("the source is faulty: it returned {filled} samples where {wanted} were wanted"))
    } else if !filled.is_multiple_of(channels) {
        Err(format!("the source is faulty: it returned {filled} samples, which are no whole frames of {channels}"))
    } else {
        Ok(filled)
    }
}
