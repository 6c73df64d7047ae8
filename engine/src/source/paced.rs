//! A thread that reads a [`Pull`] at the pace of its own sample rate.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::source::interface::{Running, Source, SourceError};
use crate::source::pull::{Arrival, Pull};
use crate::{Capture, Format, Timestamp};

/// Length of the portions that are read and written: well below a block, so that the last frame of a block is not late.
const PORTION: Duration = Duration::from_millis(2);
/// Time between two looks at a full ring, where the source waits for its consumers.
const FULL_RING_RETRY_INTERVAL: Duration = Duration::from_micros(100);
/// A source with [`Arrival::External`] that is later than this has paused: its time starts anew.
const MAX_EXTERNAL_LATENESS: Duration = Duration::from_millis(20);
/// Sound that is computed or on disk catches up after a stall, so that its times stay exact. After a longer one, such as
/// a suspended machine, its time starts anew: hours of sound in one burst would overflow the ring of every consumer.
const MAX_COMPUTED_LATENESS: Duration = Duration::from_secs(10);
/// How long [`Running::stop`] waits for a thread that may hang in a read.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Makes a [`Source`] of a [`Pull`].
#[derive(Debug)]
pub struct Paced<P>(P);

impl<P: Pull> Paced<P> {
    /// Creates a source that reads `pull` at its own rate.
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
                // A source that does not wait for a clock would keep a core to itself.
                if capture.is_live() {
                    capture.tally().realtime().promote_current_thread();
                }
                if let Err(message) = (Pacer { capture, stopped }).run(self.0) {
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
        // The thread may hang in a read of a silent pipe. Nothing depends on its end then.
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

/// Intended times of a source's frames: `epoch + position / rate`. Time is an argument.
#[derive(Debug)]
struct Schedule {
    format: Format,
    max_lateness: Duration,
    epoch: Timestamp,
    position: u64,
}

/// Times of one portion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Portion {
    /// When its first frame counts as captured.
    captured_at: Timestamp,
    /// When its last frame has sounded, and it may be written.
    due: Timestamp,
    /// Whether time has started anew with it.
    restarts: bool,
}

impl Schedule {
    fn new(format: Format, is_live: bool, arrival: Arrival, now: Timestamp) -> Self {
        let max_lateness = match arrival {
            Arrival::External => MAX_EXTERNAL_LATENESS,
            Arrival::Computed if is_live => MAX_COMPUTED_LATENESS,
            // The source goes as slowly as its consumers.
            Arrival::Computed => Duration::MAX,
        };
        Self { format, max_lateness, epoch: now, position: 0 }
    }

    /// Places the next portion, of `frames` frames, which is there at `now`.
    fn portion(&mut self, frames: u64, now: Timestamp) -> Portion {
        let mut captured_at = self.format.time_of(self.epoch, self.position);
        let restarts = now.since(captured_at) > self.max_lateness;
        if restarts {
            (self.epoch, self.position, captured_at) = (now, 0, now);
        }
        self.position += frames;
        Portion { captured_at, due: self.format.time_of(self.epoch, self.position), restarts }
    }
}

/// The loop of the capture thread.
struct Pacer {
    capture: Capture,
    stopped: mpsc::Receiver<()>,
}

impl Pacer {
    fn run(mut self, mut pull: impl Pull) -> Result<(), String> {
        let format = self.capture.format();
        let arrival = pull.arrival();
        // At most a block: a source that waits asks for room for one block.
        let portion_frames = (PORTION.as_secs_f64() * f64::from(format.rate_hz())).ceil().max(1.0) as usize;
        let portion_frames = portion_frames.min(format.block_frames() as usize);
        let mut samples = vec![0.0; portion_frames * usize::from(format.channels())];
        let mut schedule = Schedule::new(format, self.capture.is_live(), arrival, Timestamp::now());
        loop {
            let filled = pull.pull(&mut samples)?;
            if filled == 0 {
                // The last, short block needs room like any other.
                self.wait_for_room(arrival);
                return Ok(());
            }
            let now = Timestamp::now();
            let portion = schedule.portion((filled / usize::from(format.channels())) as u64, now);
            if portion.restarts {
                self.capture.resume_at(now);
            }
            if self.capture.is_live() && self.pause(portion.due.since(now)) {
                return Ok(());
            }
            if self.wait_for_room(arrival) {
                return Ok(());
            }
            self.capture.write(&samples[..filled], portion.captured_at);
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

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    /// Portions of 10 ms.
    fn schedule(arrival: Arrival) -> Schedule {
        Schedule::new(Format::new(48_000, 1, Duration::from_millis(10)).unwrap(), true, arrival, START)
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn computed_sound_keeps_its_times_over_a_stall() {
        let mut schedule = schedule(Arrival::Computed);
        schedule.portion(480, START);
        let late = schedule.portion(480, START + millis(9_000));
        assert_eq!(late, Portion { captured_at: START + millis(10), due: START + millis(20), restarts: false });
    }

    #[test]
    fn external_sound_starts_anew_after_a_pause() {
        let mut schedule = schedule(Arrival::External);
        schedule.portion(480, START);
        let on_time = schedule.portion(480, START + millis(30));
        assert_eq!((on_time.captured_at, on_time.restarts), (START + millis(10), false));
        let paused = schedule.portion(480, START + millis(90));
        assert_eq!((paused.captured_at, paused.restarts), (START + millis(90), true));
    }

    /// Guards against an hour of sound that is computed and written in one burst.
    #[test]
    fn a_suspended_machine_does_not_catch_up() {
        let mut schedule = schedule(Arrival::Computed);
        schedule.portion(480, START);
        let resumed = START + HOUR;
        let first = schedule.portion(480, resumed);
        assert_eq!(first, Portion { captured_at: resumed, due: resumed + millis(10), restarts: true });
        let second = schedule.portion(480, resumed + millis(10));
        assert_eq!(second, Portion { captured_at: resumed + millis(10), due: resumed + millis(20), restarts: false });
    }
}
