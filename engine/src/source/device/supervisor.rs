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
use super::timeout::ANSWER_TIMEOUT;
use crate::source::interface::{Running, Source, SourceError};
use crate::{Capture, CaptureStats};

/// Time between two checks of a device, and so the longest that a dead one may keep a core busy.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Period requested from a device: a default block. ALSA's own ring then holds two of them.
const PERIOD: Duration = Duration::from_millis(10);
/// Buffer requested from a sound server, which then hands over periods of half of it. cpal gives the server no more room
/// than that; sound that does not fit, because the server or this process did not run for a while, is lost without an
/// error. Measured for 10 s each on two cores with ten busy programs: losses with 5, 10, 20 and 40 ms, none with 60.
const SERVER_BUFFER: Duration = Duration::from_millis(60);
/// How long a dropped callback may take to send the capture back: the sound server confirms the end first.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_millis(300);
/// How long [`Running::stop`] waits: longer than [`GIVE_BACK_TIMEOUT`], well below a second.
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

    /// Starts the device; returns once it records.
    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        let what = format!("`{}`", self.name);
        let (stop, stopped) = mpsc::channel();
        let (done, ended) = mpsc::channel::<()>();
        let (ready, started) = mpsc::channel();
        thread::Builder::new()
            .name("microphone".into())
            .spawn(move || {
                supervise(*self, capture, &ready, &stopped);
                drop(done);
            })
            .map_err(SourceError::Thread)?;
        match started.recv_timeout(ANSWER_TIMEOUT) {
            Ok(result) => result?,
            Err(_) => return Err(DeviceError::Unresponsive { what }.into()),
        }
        Ok(Box::new(RunningDevice { stop, ended }))
    }
}

#[derive(Debug)]
struct RunningDevice {
    stop: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Running for RunningDevice {
    fn stop(self: Box<Self>) {
        drop(self.stop);
        // If the thread hangs, it is left behind and keeps the capture: no more blocks come.
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

fn supervise(
    device: Device,
    capture: Capture,
    ready: &mpsc::Sender<Result<(), DeviceError>>,
    stopped: &mpsc::Receiver<()>,
) {
    let (stats, reporter) = (Arc::clone(capture.stats()), capture.reporter());
    // Before the device is opened: a thread that this starts for it inherits the priority.
    stats.realtime().promote_current_thread();
    let health = Arc::new(DeviceHealth::default());
    let (give_back, given_back) = mpsc::channel();
    let stream = match open(&device, capture, (&give_back, &given_back), &health, &stats) {
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
    let death = watch(&health, &stats, stopped);
    if let Some(cause) = death {
        reporter.fail(format!("microphone `{}`: {cause}", device.name));
    }
    // This may hang. It cannot be put off either, because a dead stream may keep a core busy.
    drop(stream);
    if death.is_some() {
        // Keeps the capture, in the callback or given back, until the stream is stopped.
        let _ = stopped.recv();
    }
    // The drop of the capture sends its last block, which may be short.
    drop(given_back.recv_timeout(GIVE_BACK_TIMEOUT));
}

/// Opens the device's stream and starts it, with our period, or with the device's own if it refuses ours.
fn open(
    device: &Device,
    mut capture: Capture,
    (give_back, given_back): (&mpsc::Sender<Capture>, &mpsc::Receiver<Capture>),
    health: &Arc<DeviceHealth>,
    stats: &Arc<CaptureStats>,
) -> Result<cpal::Stream, DeviceError> {
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
        let mut callback = InputCallback::new(capture, give_back.clone(), is_served);
        let (data_health, error_health) = (Arc::clone(health), Arc::clone(health));
        let error_stats = Arc::clone(stats);
        let built = device.device.build_input_stream_raw(
            config,
            device.config.sample_format(),
            move |data, info| callback.period(data, info.timestamp(), &data_health),
            move |error| error_health.error(error.kind(), &error_stats),
            Some(ANSWER_TIMEOUT),
        );
        match built {
            Ok(stream) => break stream,
            Err(error) if config.buffer_size == BufferSize::Default => return Err(refused(error)),
            // cpal has dropped the refused callback, so the capture is back. If it is not, the server hangs.
            Err(error) => capture = given_back.recv_timeout(GIVE_BACK_TIMEOUT).map_err(|_| refused(error))?,
        }
        config.buffer_size = BufferSize::Default;
    };
    stream.play().map_err(refused)?;
    Ok(stream)
}

/// Waits until the device is dead, and returns the cause, or until it is stopped. The thread of the callback gets its priority here: that
/// of a sound server's client was started with the connection, before there was a stream, and inherits none.
fn watch(health: &DeviceHealth, stats: &CaptureStats, stopped: &mpsc::Receiver<()>) -> Option<&'static str> {
    let mut watchdog = Watchdog::default();
    let mut promoted = None;
    loop {
        match stopped.recv_timeout(CHECK_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
        }
        let thread = health.thread();
        if thread != promoted {
            thread.into_iter().for_each(|thread| stats.realtime().promote(thread));
            promoted = thread;
        }
        if let Some(cause) = watchdog.check(health) {
            return Some(cause);
        }
    }
}
