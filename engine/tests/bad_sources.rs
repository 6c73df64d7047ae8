//! Sources that fail, panic, hang, or return what they must not: every consumer learns of it, and nothing hangs.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

#[path = "common/ends.rs"]
mod ends;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_engine::source::{Arrival, Paced, Pull, Running, Source, SourceError};
use aircheck_engine::{
    Block, Capture, Consumer, End, Format, Overflow, Stream, StreamError, StreamOptions, SubscribeOptions, Timestamp,
};
use ends::ends;

const RATE_HZ: u32 = 8_000;
const CHANNELS: u16 = 2;
/// Samples of a block of 1 ms.
const BLOCK_SAMPLES: usize = 16;

/// A source that does as it is told at each pull. It counts the pulls.
struct Scripted<F> {
    script: F,
    pulls: u32,
    arrival: Arrival,
}

impl<F: FnMut(u32, &mut [f32]) -> Result<usize, String> + Send + 'static> Pull for Scripted<F> {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        CHANNELS
    }

    fn description(&self) -> String {
        "a script".to_owned()
    }

    fn arrival(&self) -> Arrival {
        self.arrival
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        self.pulls += 1;
        (self.script)(self.pulls, samples)
    }
}

fn scripted(script: impl FnMut(u32, &mut [f32]) -> Result<usize, String> + Send + 'static) -> Box<dyn Source> {
    Box::new(Paced::new(Scripted { script, pulls: 0, arrival: Arrival::Computed }))
}

/// Blocks of 1 ms as fast as the first consumer takes them.
fn unpaced() -> StreamOptions {
    StreamOptions { block: Duration::from_millis(1), live: false, await_consumers: 1, ..StreamOptions::default() }
}

fn read_all(mut consumer: Consumer<Block>) -> (u64, End) {
    let mut blocks = 0;
    loop {
        match consumer.recv() {
            Ok(delivery) => {
                assert_eq!((delivery.gap, delivery.item.stamp.sequence), (None, blocks));
                blocks += 1;
            }
            Err(end) => return (blocks, end),
        }
    }
}

/// Runs a source to its end, with a consumer that waits and, as long as it keeps up, one that reads nothing meanwhile.
/// Returns the blocks of the first, the reasons of both ends, and the failure as it was known at the end.
fn run(source: Box<dyn Source>) -> (u64, [&'static str; 2], Option<String>) {
    let stream = Stream::start(source, StreamOptions { await_consumers: 2, ..unpaced() }).unwrap();
    let options = SubscribeOptions { overflow: Overflow::Block, ..SubscribeOptions::default() };
    let waits = stream.subscribe(options).unwrap();
    let reads_later =
        stream.subscribe(SubscribeOptions { overflow: Overflow::DropNewest, buffer: 1000, ..options }).unwrap();
    let (blocks, end) = read_all(waits);
    // As the first one saw it: not later.
    let failure = stream.capture().failure().map(str::to_owned);
    let (_, late_end) = read_all(reads_later);
    assert_eq!((end.gap, late_end.gap), (None, None));
    (blocks, [end.reason.label(), late_end.reason.label()], failure)
}

#[test]
fn a_failure_is_known_to_every_consumer_at_its_end() {
    ends(|| {
        for _ in 0..300 {
            let fails =
                scripted(|pull, samples| if pull <= 3 { Ok(samples.len()) } else { Err("the cable was cut".into()) });
            let (blocks, reasons, failure) = run(fails);
            assert_eq!((blocks, reasons), (3, ["failed"; 2]));
            assert_eq!(failure.as_deref(), Some("the cable was cut"));
        }
    });
}

#[test]
fn a_source_that_panics_has_failed() {
    ends(|| {
        let panics =
            scripted(|pull, samples| if pull <= 3 { Ok(samples.len()) } else { panic!("(this panic is a test's)") });
        let (blocks, reasons, failure) = run(panics);
        assert_eq!((blocks, reasons), (3, ["failed"; 2]));
        assert!(failure.unwrap().contains("panicked"));
    });
}
