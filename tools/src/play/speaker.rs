//! The default output device, through cpal, and the thread that owns its stream.
//!
//! cpal's streams can hang where they are opened and where they are dropped, if the sound server does. So both is done
//! on a thread of its own, which whoever waits for it may leave behind.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aircheck_engine::source::{DeviceError, host};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, SupportedStreamConfig};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::outlet::{Inlet, ring};
use super::playout::EXCESS;
use crate::failure::Failure;
use crate::units as words;

/// How long a sound server or a device may take to answer. Ready ones take milliseconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long closing it may take before it is left behind.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// What a device is asked for at a time: it holds two of them. A sound server gets as much as the engine asks one for
/// where it records: with less, a busy machine was seen to lose sound.
const PERIOD: Duration = Duration::from_millis(10);
const SERVED_PERIOD: Duration = Duration::from_millis(30);
/// What the ring holds besides what is to wait in it and what is skipped only beyond that: the longest block and the
/// longest period there are, twice.
const SPARE: Duration = Duration::from_millis(400);
/// PulseAudio plays to this when it has no output at all.
const DUMMY: &str = "auto_null";
/// Longest name of a device, and longest words of cpal's, that are shown.
const SHOWN_CHARS: usize = 120;

/// An output device that plays what is put into its inlet. Dropping it closes the device.
#[derive(Debug)]
pub(crate) struct Speaker {
    /// Its name for people.
    pub(crate) name: String,
    stop: Option<mpsc::Sender<()>>,
    ended: mpsc::Receiver<()>,
}

impl Speaker {
    /// Opens the default output device, with room for `wish` of sound to wait.
    ///
    /// # Errors
    ///
    /// [`Failure::NoSpeaker`] where there is none, and [`Failure::Speaker`] where it refuses or does not answer.
    pub(crate) async fn open(wish: Duration) -> Result<(Self, Inlet), Failure> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (done, ended) = mpsc::channel::<()>();
        let (ready, opened) = oneshot::channel();
        let run = move || {
            match open(wish) {
                Ok((stream, name, inlet)) => {
                    // If nobody waits any more, it took too long.
                    if ready.send(Ok((name, inlet))).is_ok() {
                        let _ = stopped.recv();
                    }
                    drop(stream);
                }
                Err(failure) => drop(ready.send(Err(failure))),
            }
            drop(done);
        };
        let hangs = || Failure::Speaker {
            name: "the sound system".to_owned(),
            why: "it does not answer; start the sound server again, or leave out --play".to_owned(),
        };
        thread::Builder::new()
            .name("speaker".into())
            .spawn(run)
            .map_err(|error| Failure::NoSpeaker(error.to_string()))?;
        let (name, inlet) = timeout(ANSWER_PATIENCE, opened).await.ok().and_then(Result::ok).ok_or_else(hangs)??;
        Ok((Self { name, stop: Some(stop), ended }, inlet))
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        drop(self.stop.take());
        // If it hangs, it is left behind.
        let _ = self.ended.recv_timeout(CLOSE_PATIENCE);
    }
}

fn open(wish: Duration) -> Result<(cpal::Stream, String, Inlet), Failure> {
    let host = host().map_err(|error| match error {
        DeviceError::NoDevice(why) => Failure::NoSpeaker(why),
        error => Failure::NoSpeaker(error.to_string()),
    })?;
    let no_output = || Failure::NoSpeaker("the sound system has no output".to_owned());
    let device = host.default_output_device().ok_or_else(no_output)?;
    if device.id().is_ok_and(|id| id.id() == DUMMY) {
        return Err(no_output());
    }
    let name = device.description().map_or_else(|_| "the default output".to_owned(), |told| told.name().to_owned());
    let name = words::quoted(&name, SHOWN_CHARS);
    let failure = |error: &cpal::Error| match error.kind() {
        // ALSA always has a default device, and only opening it shows whether there is anything behind it.
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable | ErrorKind::UnsupportedOperation => {
            Failure::NoSpeaker(one_line(error))
        }
        ErrorKind::DeviceBusy => {
            let why = "another program holds it; end that first".to_owned();
            Failure::Speaker { name: name.clone(), why }
        }
        _ => Failure::Speaker { name: name.clone(), why: one_line(error) },
    };
    let supported = device.default_output_config().map_err(|error| failure(&error))?;
    if supported.sample_format().is_dsd() {
        let why = "it plays only DSD; switch it to PCM".to_owned();
        return Err(Failure::Speaker { name, why });
    }
    let is_served = host.id().name() == "PulseAudio";
    let period = if is_served { SERVED_PERIOD } else { PERIOD };
    let sizes = [BufferSize::Fixed(frames(period, &supported).max(1) as u32), BufferSize::Default];
    let mut refused = None;
    for buffer_size in sizes {
        match start(&device, &supported, buffer_size, wish) {
            Ok((stream, inlet)) => return Ok((stream, name, inlet)),
            // A device that refuses our periods gets its own; what it says to those is what counts.
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.map_or_else(no_output, |error| failure(&error)))
}

fn start(
    device: &cpal::Device,
    supported: &SupportedStreamConfig,
    buffer_size: BufferSize,
    wish: Duration,
) -> Result<(cpal::Stream, Inlet), cpal::Error> {
    let mut config = supported.config();
    config.buffer_size = buffer_size;
    let room = frames(wish + EXCESS + SPARE, supported) * 2;
    let (inlet, mut outlet) = ring(config.sample_rate, usize::from(config.channels), room);
    let link = Arc::clone(&inlet.link);
    let stream = device.build_output_stream_raw(
        config,
        supported.sample_format(),
        move |data, info| {
            let told = info.timestamp();
            outlet.period(data, Instant::now(), told.playback.saturating_duration_since(told.callback));
        },
        move |error| link.complaint(error.kind()),
        Some(ANSWER_PATIENCE),
    )?;
    stream.play()?;
    Ok((stream, inlet))
}

fn frames(span: Duration, config: &SupportedStreamConfig) -> usize {
    (span.as_secs_f64() * f64::from(config.sample_rate())).ceil() as usize
}

fn one_line(error: &cpal::Error) -> String {
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    words::quoted(text.trim_end_matches('.'), SHOWN_CHARS)
}
