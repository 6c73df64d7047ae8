//! A stream that the benchmark itself writes blocks to.

use std::sync::mpsc;

use aircheck_engine::source::{Running, Source, SourceError};
use aircheck_engine::{Capture, Stream, StreamOptions};

/// Starts a stream and returns it with its capture. The dispatcher runs on a thread of its own, as always. Drop the
/// capture before the stream.
///
/// # Panics
///
/// When the stream cannot be started, because the rate, the channels or the options are not possible.
#[must_use]
pub fn tap(rate_hz: u32, channels: u16, options: StreamOptions) -> (Stream, Capture) {
    let (sender, receiver) = mpsc::channel();
    let stream = Stream::start(Box::new(Tap { rate_hz, channels, sender }), options).expect("a possible format");
    let capture = receiver.recv().expect("`start` sends it");
    (stream, capture)
}

/// A source without sound of its own: it sends its capture to [`tap`].
struct Tap {
    rate_hz: u32,
    channels: u16,
    sender: mpsc::Sender<Capture>,
}

impl Source for Tap {
    fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn channels(&self) -> u16 {
        self.channels
    }

    fn description(&self) -> String {
        "a benchmark".into()
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        self.sender.send(capture).expect("`tap` waits for it");
        Ok(Box::new(Tapped))
    }
}

#[derive(Debug)]
struct Tapped;

impl Running for Tapped {
    fn stop(self: Box<Self>) {}
}
