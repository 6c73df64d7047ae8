//! The default output device, through cpal, and the thread that owns its stream.
//!
//! A stream of cpal hangs while it is opened or dropped if the sound server hangs. So a thread of its own does both,
//! and may be left behind.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aircheck_engine::source::{DeviceError, host_name};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, SupportedStreamConfig};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::output_callback::ring;
use super::playout::MAX_EXCESS;
use super::ring::RingWriter;
use crate::failure::Failure;
use crate::sanitize::sanitize;

/// How long a sound server or a device may take to answer. Healthy ones take milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing it may take before it is left behind.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// The period that is requested of a device, which holds two of them.
const PERIOD: Duration = Duration::from_millis(10);
/// The period that is requested of a sound server, as the engine does for recording: with a shorter one, a busy machine
/// was seen to lose sound.
const SERVED_PERIOD: Duration = Duration::from_millis(30);
/// Room in the ring besides the target buffer and the excess that is not skipped yet: the longest block and the longest
/// period, twice.
const SPARE: Duration = Duration::from_millis(400);
/// The device that PulseAudio plays to when it has no output at all.
const DUMMY: &str = "auto_null";
/// Longest name of a device and longest error of cpal that are shown.
const MAX_SHOWN_CHARS: usize = 120;

/// An output device that plays the sound in its ring. Dropping it closes the device.
#[derive(Debug)]
pub(crate) struct OutputDevice {
    /// Its name for people.
    pub(super) name: String,
    stop: Option<mpsc::Sender<()>>,
    ended: mpsc::Receiver<()>,
}

impl OutputDevice {
    /// Opens the default output device, with room in its ring for `target_buffer` of sound. It fails with
    /// [`Failure::NoOutput`] where there is none, and with [`Failure::Output`] where it refuses or does not answer.
    pub(crate) async fn open(target_buffer: Duration) -> Result<(Self, RingWriter), Failure> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (done, ended) = mpsc::channel::<()>();
        let (ready, opened) = oneshot::channel();
        let run = move || {
            match open(target_buffer) {
                Ok((stream, name, writer)) => {
                    // If the receiver is gone, it took too long.
                    if ready.send(Ok((name, writer))).is_ok() {
                        let _ = stopped.recv();
                    }
                    drop(stream);
                }
                Err(failure) => drop(ready.send(Err(failure))),
            }
            drop(done);
        };
        let hangs = || Failure::Output {
            name: "the sound system".to_owned(),
            why: "it does not answer (start the sound server again, or leave out --play)".to_owned(),
        };
        thread::Builder::new()
            .name("output".into())
            .spawn(run)
            .map_err(|error| Failure::NoOutput(error.to_string()))?;
        let (name, writer) = timeout(ANSWER_TIMEOUT, opened).await.ok().and_then(Result::ok).ok_or_else(hangs)??;
        Ok((Self { name, stop: Some(stop), ended }, writer))
    }
}

impl Drop for OutputDevice {
    fn drop(&mut self) {
        drop(self.stop.take());
        // If it hangs, it is left behind.
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
    }
}

fn open(target_buffer: Duration) -> Result<(cpal::Stream, String, RingWriter), Failure> {
    let name = host_name().map_err(|error| match error {
        DeviceError::NoDevice(why) => Failure::NoOutput(why),
        error => Failure::NoOutput(error.to_string()),
    })?;
    let host = name.parse().and_then(cpal::host_from_id);
    let host = host.map_err(|error| Failure::NoOutput(one_line(&error)))?;
    let no_output = || Failure::NoOutput("the sound system has no output".to_owned());
    let device = host.default_output_device().ok_or_else(no_output)?;
    if device.id().is_ok_and(|id| id.id() == DUMMY) {
        return Err(no_output());
    }
    let name = device.description().map_or_else(|_| "the default output".to_owned(), |told| told.name().to_owned());
    let name = sanitize(&name, MAX_SHOWN_CHARS);
    let failure = |error: &cpal::Error| match error.kind() {
        // ALSA always has a default device; opening it shows whether there is hardware behind it.
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable | ErrorKind::UnsupportedOperation => {
            Failure::NoOutput(one_line(error))
        }
        ErrorKind::DeviceBusy => {
            let why = "another program holds it (end that first)".to_owned();
            Failure::Output { name: name.clone(), why }
        }
        _ => Failure::Output { name: name.clone(), why: one_line(error) },
    };
    let supported = device.default_output_config().map_err(|error| failure(&error))?;
    if supported.sample_format().is_dsd() {
        let why = "it plays only DSD (switch it to PCM)".to_owned();
        return Err(Failure::Output { name, why });
    }
    let is_served = host.id().name() == "PulseAudio";
    let period = if is_served { SERVED_PERIOD } else { PERIOD };
    let sizes = [BufferSize::Fixed(frames(period, &supported).max(1) as u32), BufferSize::Default];
    let mut refused = None;
    for buffer_size in sizes {
        match start(&device, &supported, buffer_size, target_buffer) {
            Ok((stream, writer)) => return Ok((stream, name, writer)),
            // A device that refuses our period is asked with its own; the error about that one counts.
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.map_or_else(no_output, |error| failure(&error)))
}

fn start(
    device: &cpal::Device,
    supported: &SupportedStreamConfig,
    buffer_size: BufferSize,
    target_buffer: Duration,
) -> Result<(cpal::Stream, RingWriter), cpal::Error> {
    let mut config = supported.config();
    config.buffer_size = buffer_size;
    let room = frames(target_buffer + MAX_EXCESS + SPARE, supported) * 2;
    let (writer, mut callback) = ring(config.sample_rate, usize::from(config.channels), room);
    let shared = Arc::clone(&writer.shared);
    let stream = device.build_output_stream_raw(
        config,
        supported.sample_format(),
        move |data, info| {
            let told = info.timestamp();
            callback.period(data, Instant::now(), told.playback.saturating_duration_since(told.callback));
        },
        move |error| shared.report_error(error.kind()),
        Some(ANSWER_TIMEOUT),
    )?;
    stream.play()?;
    Ok((stream, writer))
}

fn frames(span: Duration, config: &SupportedStreamConfig) -> usize {
    (span.as_secs_f64() * f64::from(config.sample_rate())).ceil() as usize
}

fn one_line(error: &cpal::Error) -> String {
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    sanitize(text.trim_end_matches('.'), MAX_SHOWN_CHARS)
}
