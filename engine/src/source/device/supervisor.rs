//! The thread that owns a device's stream: it opens it, watches over it, and may be left behind with it.
//!
//! cpal's streams can hang where they are opened and where they are dropped, if the sound server does; and when it
//! is gone, some fall silent without a word. So both is done here, and whoever starts or stops the device waits for
//! this thread only so long.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, SupportedBufferSize};

use super::callback::{Loan, Vitals};
use super::{ANSWER_TIMEOUT, Device, DeviceError};
use crate::source::{Running, SourceError};
use crate::{Capture, CaptureTally};

/// How often the device is looked at. A dead one may burn a core for so long.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// A device that complains more often than this within a tick, and hands over nothing, is dead. ALSA has been seen
/// to complain 50,000 times in that time; a signal that interrupts a system call is one complaint.
const MAX_INTERVAL_ERRORS: u64 = 20;
/// Ticks without a period after which a device is dead: 10 s. A sound server that idles hands over sound every 2 s,
/// and one that was frozen for a few seconds comes back.
const MAX_SILENT_INTERVALS: u32 = 100;
/// The periods that a device is asked for: a default block. ALSA's own ring then holds two of them.
const PERIOD: Duration = Duration::from_millis(10);
/// What a sound server is asked for instead; it then hands over periods of half of this. cpal gives it no more room
/// than that, and what does not fit, because the server or this process did not run for a while, is lost without a
/// word. Measured for 10 s at a time on two cores with ten busy programs: holes with 5, 10, 20 and 40 ms, none with 60.
const SERVER_BUFFER: Duration = Duration::from_millis(60);
/// How long the capture may take to come home when its callback was dropped: the sound server confirms first.
const RETURN_TIMEOUT: Duration = Duration::from_millis(300);
/// How long [`Running::stop`] waits: longer than the above, well below a second.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts the device; returns when it records.
pub(super) fn start(device: Device, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
    let what = format!("`{}`", device.name);
    let (stop, stopped) = mpsc::channel();
    let (done, ended) = mpsc::channel::<()>();
    let (ready, started) = mpsc::channel();
    thread::Builder::new()
        .name("microphone".into())
        .spawn(move || {
            supervise(device, capture, &ready, &stopped);
            drop(done);
        })
        .map_err(SourceError::Thread)?;
    match started.recv_timeout(ANSWER_TIMEOUT) {
        Ok(result) => result?,
        Err(_) => return Err(DeviceError::Unresponsive { what }.into()),
    }
    Ok(Box::new(Supervised { stop, ended }))
}

#[derive(Debug)]
struct Supervised {
    stop: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Running for Supervised {
    fn stop(self: Box<Self>) {
        drop(self.stop);
        // If the thread hangs, it is left behind with the capture in its hands: no more blocks come.
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

fn supervise(
    device: Device,
    capture: Capture,
    ready: &mpsc::Sender<Result<(), DeviceError>>,
    stopped: &mpsc::Receiver<()>,
) {
    let tally = Arc::clone(capture.tally());
    let vitals = Arc::new(Vitals::default());
    let (home, homecoming) = mpsc::channel();
    let stream = match open(&device, capture, (&home, &homecoming), &vitals, &tally) {
        Ok(stream) => stream,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if ready.send(Ok(())).is_err() {
        // It took too long, and nobody waits any more.
        return;
    }
    let death = watch(&vitals, stopped);
    if let Some(cause) = death {
        tally.fail(format!("microphone `{}`: {cause}", device.name));
    }
    // This may hang, and must not be put off: a dead stream may be burning a core.
    drop(stream);
    if death.is_some() {
        // The capture is kept, lent or come home, until somebody stops the stream.
        let _ = stopped.recv();
    }
    // Its drop sends the last, begun block.
    drop(homecoming.recv_timeout(RETURN_TIMEOUT));
}

/// Opens the device's stream and starts it: with periods of our length, or if it refuses those, of its own.
fn open(
    device: &Device,
    mut capture: Capture,
    (home, homecoming): (&mpsc::Sender<Capture>, &mpsc::Receiver<Capture>),
    vitals: &Arc<Vitals>,
    tally: &Arc<CaptureTally>,
) -> Result<cpal::Stream, DeviceError> {
    let refused = |error| DeviceError::refused(&device.name, &error);
    let is_served = device.device.id().is_ok_and(|id| id.host().name() == "PulseAudio");
    let span = if is_served { SERVER_BUFFER } else { PERIOD };
    let frames = (span.as_secs_f64() * f64::from(device.config.sample_rate())).ceil().max(1.0) as u32;
    let frames = match *device.config.buffer_size() {
        SupportedBufferSize::Range { min, max } => frames.max(min).min(max),
        SupportedBufferSize::Unknown => frames,
    };
    let mut config = device.config.config();
    config.buffer_size = BufferSize::Fixed(frames);
    let stream = loop {
        let mut loan = Loan::new(capture, home.clone(), is_served);
        let (data_vitals, error_vitals) = (Arc::clone(vitals), Arc::clone(vitals));
        let error_tally = Arc::clone(tally);
        let built = device.device.build_input_stream_raw(
            config,
            device.config.sample_format(),
            move |data, info| loan.period(data, info.timestamp(), &data_vitals),
            move |error| error_vitals.complaint(error.kind(), &error_tally),
            Some(ANSWER_TIMEOUT),
        );
        match built {
            Ok(stream) => break stream,
            Err(error) if config.buffer_size == BufferSize::Default => return Err(refused(error)),
            // The refused callback has been dropped, so the capture is home; if not, the server hangs.
            Err(error) => capture = homecoming.recv_timeout(RETURN_TIMEOUT).map_err(|_| refused(error))?,
        }
        config.buffer_size = BufferSize::Default;
    };
    stream.play().map_err(refused)?;
    Ok(stream)
}

/// Returns when the device is dead, with the cause, or when it is to stop.
fn watch(vitals: &Vitals, stopped: &mpsc::Receiver<()>) -> Option<&'static str> {
    let mut watchdog = Watchdog::default();
    loop {
        match stopped.recv_timeout(WATCH_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
        }
        if let Some(cause) = watchdog.tick(vitals) {
            return Some(cause);
        }
    }
}

/// Judges from the signs of life whether a device is dead. It counts ticks instead of reading a clock, so that a
/// process that was itself frozen does not blame the device.
#[derive(Debug, Default)]
struct Watchdog {
    periods: u64,
    complaints: u64,
    silent_ticks: u32,
}

impl Watchdog {
    /// Looks once; says why the device is dead, if it is.
    fn tick(&mut self, vitals: &Vitals) -> Option<&'static str> {
        let periods = vitals.periods.load(Ordering::Acquire);
        let complaints = vitals.complaints.load(Ordering::Acquire);
        let is_silent = periods == self.periods;
        let tick_complaints = complaints - self.complaints;
        (self.periods, self.complaints) = (periods, complaints);
        self.silent_ticks = if is_silent { self.silent_ticks + 1 } else { 0 };
        if vitals.is_gone.load(Ordering::Acquire) {
            Some("the device or its sound server is gone; start again when it is back")
        } else if is_silent && tick_complaints > MAX_INTERVAL_ERRORS {
            Some("the device does nothing but complain; start again when it works")
        } else if self.silent_ticks >= MAX_SILENT_INTERVALS {
            Some("nothing has come from the device for 10 s; see whether the sound server hangs, and start again")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use cpal::ErrorKind;

    use super::*;

    #[test]
    fn a_device_that_says_that_it_is_gone_is_dead() {
        let (vitals, tally) = (Vitals::default(), CaptureTally::default());
        let mut watchdog = Watchdog::default();
        for kind in [ErrorKind::RealtimeDenied, ErrorKind::DeviceChanged, ErrorKind::Xrun, ErrorKind::BackendError] {
            vitals.complaint(kind, &tally);
            assert_eq!(watchdog.tick(&vitals), None, "{kind:?}");
        }
        vitals.complaint(ErrorKind::StreamInvalidated, &tally);
        assert!(watchdog.tick(&vitals).is_some_and(|cause| cause.contains("is gone")));
    }

    #[test]
    fn a_device_that_only_complains_is_dead_at_the_next_look() {
        let (vitals, tally) = (Vitals::default(), CaptureTally::default());
        let mut watchdog = Watchdog::default();
        for _ in 0..50_000 {
            vitals.complaint(ErrorKind::BackendError, &tally);
        }
        vitals.periods.fetch_add(1, Ordering::Release);
        assert_eq!(watchdog.tick(&vitals), None, "while sound comes, complaints are only complaints");
        for _ in 0..50_000 {
            vitals.complaint(ErrorKind::BackendError, &tally);
        }
        assert!(watchdog.tick(&vitals).is_some_and(|cause| cause.contains("nothing but complain")));
    }

    #[test]
    fn a_silent_device_has_ten_seconds() {
        let vitals = Vitals::default();
        let mut watchdog = Watchdog::default();
        let mut silence = |ticks: u32| (0..ticks).find_map(|_| watchdog.tick(&vitals));
        assert_eq!(silence(MAX_SILENT_INTERVALS - 1), None);
        vitals.periods.fetch_add(1, Ordering::Release);
        assert_eq!(silence(MAX_SILENT_INTERVALS), None, "the first of these saw a period");
        assert!(silence(1).is_some_and(|cause| cause.contains("10 s")));
    }
}
