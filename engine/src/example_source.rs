// A source for the examples of the documentation, which include this file: what its thread would do is a closure.

use aircheck_engine::source::{Running, Source, SourceError};
use aircheck_engine::{Block, Capture, Consumer, Stream, StreamError, StreamOptions, SubscribeOptions};

struct Script<F>(F);

#[derive(Debug)]
struct Started;

impl Running for Started {
    fn stop(self: Box<Self>) {}
}

impl<F: FnOnce(Capture) + Send> Source for Script<F> {
    fn rate_hz(&self) -> u32 {
        48_000
    }

    fn channels(&self) -> u16 {
        1
    }

    fn description(&self) -> String {
        "script".to_owned()
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        (self.0)(capture);
        Ok(Box::new(Started))
    }
}

/// Starts a live stream, 48 kHz, mono, in blocks of 10 ms, whose source does this.
pub(super) fn play(script: impl FnOnce(Capture) + Send + 'static) -> Result<(Stream, Consumer<Block>), StreamError> {
    let opened = Stream::open(Box::new(Script(script)), StreamOptions::default())?;
    let consumer = opened.subscribe(SubscribeOptions::default()).expect("the stream has not ended");
    Ok((opened.start()?, consumer))
}
