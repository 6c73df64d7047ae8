//! The thread that owns a device's stream: it opens the stream, watches it, and closes it.
//!
//! cpal's streams can hang where they are opened and where they are dropped if the sound server hangs, and some fall
//! silent without an error when the server is gone. So both happen on this thread, and callers wait for it only for a
//! limited time; a hanging thread is left behind.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, SupportedBufferSize};

use super::callback::InputCallback;
use super::error::DeviceError;
use super::health::{DeviceHealth, Watchdog};
use super::open::Device;
use super::shared::{Seats, SharedDevice};
use super::timeout::{ANSWER_TIMEOUT, keep_alsa_quiet};
use crate::Capture;
use crate::source::interface::{Running, Source, SourceError};

/// Time between two checks of a device, and so the longest that a dead one may keep a core busy.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Period requested from a device: a default block. ALSA's own ring then holds two of them.
const PERIOD: Duration = Duration::from_millis(10);
/// Buffer requested from a sound server, which then hands over periods of half of it. cpal gives the server no more room
/// than that; sound that does not fit, because the server or this process did not run for a while, is lost without an
/// error. Measured for 10 s each on two cores with ten busy programs: losses with 5, 10, 20 and 40 ms, none with 60.
const SERVER_BUFFER: Duration = Duration::from_millis(60);
/// How long [`Running::stop`] waits: the sound server confirms the end first. Well below a second.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

impl Source for Device {
    fn rate_hz(&self) -> u32 {
        self.config.sample_rate()
    }

    fn channels(&self) -> u16 {
        self.config.channels()
    }

    fn description(&self) -> String {
        format!("microphone “{}”", self.name)
    }

    /// Starts the device, unless it records for another stream already; returns once it records. If it is just being started for
    /// another stream, this returns at once, and a failure comes as one of the source.
    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        let (shared, seat, is_first) = SharedDevice::join(&self, capture);
        let running = Box::new(RunningDevice { shared, seat });
        if is_first && let Err(error) = self.record(&running.shared) {
            running.shared.fail(&error.to_string());
            running.stop();
            return Err(error);
        }
        Ok(running)
    }
}

impl Device {
    /// Starts the thread that records for all streams in `shared`.
    fn record(self, shared: &Arc<SharedDevice>) -> Result<(), SourceError> {
        let what = format!("`{}`", self.name);
        let (stop, stopped) = mpsc::channel();
        let (done, ended) = mpsc::channel::<()>();
        let (ready, started) = mpsc::channel();
        let of_thread = Arc::clone(shared);
        thread::Builder::new()
            .name("microphone".into())
            .spawn(move || {
                supervise(&self, &of_thread, &ready, &stopped);
                drop(done);
            })
            .map_err(SourceError::Thread)?;
        shared.set_thread(stop, ended);
        match started.recv_timeout(ANSWER_TIMEOUT) {
            Ok(result) => Ok(result?),
            Err(_) => Err(DeviceError::Unresponsive { what }.into()),
        }
    }
}

/// A stream's seat at a device that records.
#[derive(Debug)]
struct RunningDevice {
    shared: Arc<SharedDevice>,
    seat: usize,
}

impl Running for RunningDevice {
    fn stop(self: Box<Self>) {
        self.shared.leave(self.seat, STOP_TIMEOUT);
    }
}

fn supervise(
    device: &Device,
    shared: &Arc<SharedDevice>,
    ready: &mpsc::Sender<Result<(), DeviceError>>,
    stopped: &mpsc::Receiver<()>,
) {
    // Before the device is opened: a thread that this starts for it inherits the priority.
    shared.promote_current_thread();
    // A device that was found may be gone before it is opened.
    keep_alsa_quiet();
    let health = Arc::new(DeviceHealth::default());
    let stream = match open(device, &shared.seats, &health) {
        Ok(stream) => stream,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if ready.send(Ok(())).is_err() {
        // Opening took longer than `start` waited.
        return;
    }
    if let Some(cause) = watch(&health, shared, stopped) {
        shared.fail(&format!("microphone `{}`: {cause}", device.name));
    }
    // This may hang. It cannot be put off either, because a dead stream may keep a core busy.
    drop(stream);
}

/// Opens the device's stream and starts it, with our period, or with the device's own if it refuses ours.
fn open(device: &Device, seats: &Arc<Seats>, health: &Arc<DeviceHealth>) -> Result<cpal::Stream, DeviceError> {
    let refused = |error| DeviceError::refused(&device.name, &error);
    let is_served = device.is_served();
    let span = if is_served { SERVER_BUFFER } else { PERIOD };
    let frames = (span.as_secs_f64() * f64::from(device.config.sample_rate())).ceil().max(1.0) as u32;
    let frames = match *device.config.buffer_size() {
        SupportedBufferSize::Range { min, max } => frames.max(min).min(max),
        SupportedBufferSize::Unknown => frames,
    };
    let mut config = device.config.config();
    config.buffer_size = BufferSize::Fixed(frames);
    let stream = loop {
        let mut callback = InputCallback::new(Arc::clone(seats), is_served);
        let (data_health, error_health) = (Arc::clone(health), Arc::clone(health));
        let built = device.device.build_input_stream_raw(
            config,
            device.config.sample_format(),
            move |data, info| callback.period(data, info.timestamp(), &data_health),
            move |error| error_health.error(error.kind()),
            Some(ANSWER_TIMEOUT),
        );
        match built {
            Ok(stream) => break stream,
            Err(error) if config.buffer_size == BufferSize::Default => return Err(refused(error)),
            Err(_) => {}
        }
        config.buffer_size = BufferSize::Default;
    };
    stream.play().map_err(refused)?;
    Ok(stream)
}

/// Waits until the device is dead, and returns the cause, or until it is stopped. The thread of the callback gets its priority here: that
/// of a sound server's client was started with the connection, before there was a stream, and inherits none.
fn watch(health: &DeviceHealth, shared: &SharedDevice, stopped: &mpsc::Receiver<()>) -> Option<&'static str> {
    let mut watchdog = Watchdog::default();
    loop {
        match stopped.recv_timeout(CHECK_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
        }
        shared.promote(health.thread());
        if let Some(cause) = watchdog.check(health) {
            return Some(cause);
        }
    }
}
