//! Sources that fail, panic, hang, or return what they must not: every consumer learns of it, and nothing hangs.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

#[path = "common/ends.rs"]
mod ends;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use aircheck_engine::source::{Arrival, Paced, Pull, Running, Source, SourceError};
use aircheck_engine::{
    Block, Capture, Consumer, End, EndReason, Format, OverflowPolicy, Stream, StreamError, StreamOptions,
    SubscribeError, SubscribeOptions, Timestamp,
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
    let options = SubscribeOptions { overflow: OverflowPolicy::Block, ..SubscribeOptions::default() };
    let waits = stream.subscribe(options).unwrap();
    let reads_later =
        stream.subscribe(SubscribeOptions { overflow: OverflowPolicy::DropNewest, buffer: 1000, ..options }).unwrap();
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

#[test]
fn a_source_that_returns_an_impossible_number_has_failed() {
    type Answer = fn(usize) -> usize;
    let answers: [(Answer, &str); 4] = [
        (|wanted| wanted + 2, "samples where 16 were wanted"),
        (|_| usize::MAX, "samples where 16 were wanted"),
        (|_| 1, "1 samples, which are no whole frames of 2"),
        (|wanted| wanted - 1, "15 samples, which are no whole frames of 2"),
    ];
    for (answer, reason) in answers {
        ends(move || {
            let lies = scripted(move |pull, samples| Ok(if pull <= 3 { samples.len() } else { answer(samples.len()) }));
            let (blocks, reasons, failure) = run(lies);
            assert_eq!((blocks, reasons), (3, ["failed"; 2]));
            let failure = failure.unwrap();
            assert!(failure.starts_with("the source is faulty: ") && failure.ends_with(reason), "{failure}");
        });
    }
}

/// An end is an end, even if the source had more.
#[test]
fn a_source_that_ends_is_not_asked_again() {
    ends(|| {
        let returns = scripted(|pull, samples| Ok(if pull == 4 { 0 } else { samples.len() }));
        assert_eq!(run(returns), (3, ["finished"; 2], None));
    });
}

#[test]
fn a_failure_loses_nothing_that_came_before_it() {
    ends(|| {
        // A frame at a time: three blocks and a half.
        let fails = scripted(|pull, _| if pull <= 28 { Ok(2) } else { Err("the cable was cut".into()) });
        assert_eq!(run(fails), (4, ["failed"; 2], Some("the cable was cut".to_owned())));
    });
}

#[test]
fn a_source_that_returns_nothing_for_ever_can_be_stopped() {
    for live in [false, true] {
        ends(move || {
            let (keep, never) = mpsc::channel::<()>();
            let hangs = Scripted {
                script: move |pull, samples: &mut [f32]| {
                    if pull > 3 {
                        let _ = never.recv();
                    }
                    Ok(samples.len())
                },
                pulls: 0,
                arrival: Arrival::External,
            };
            let stream =
                Stream::start(Box::new(Paced::new(hangs)), StreamOptions { live, await_consumers: 0, ..unpaced() })
                    .unwrap();
            let consumer = stream.subscribe(SubscribeOptions::default()).unwrap();
            while stream.capture().blocks() < 3 {
                thread::yield_now();
            }
            stream.stop();
            assert_eq!(read_from(consumer).reason, EndReason::Finished);
            drop(keep);
        });
    }
}

/// Reads to the end, from wherever the consumer has started.
fn read_from(mut consumer: Consumer<Block>) -> End {
    loop {
        if let Err(end) = consumer.recv() {
            return end;
        }
    }
}

/// A source with a thread of its own, which does as it is told with the capture.
struct Own<F>(F);

impl<F: FnOnce(Capture) -> Result<(), SourceError> + Send> Source for Own<F> {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        CHANNELS
    }

    fn description(&self) -> String {
        "a thread of its own".to_owned()
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        (self.0)(capture).map(|()| Box::new(Nothing) as _)
    }
}

#[derive(Debug)]
struct Nothing;

impl Running for Nothing {
    fn stop(self: Box<Self>) {}
}

#[test]
fn a_source_that_does_not_start_leaves_nothing_behind() {
    ends(|| {
        let refuses = Own(|mut capture: Capture| {
            capture.write(&[0.5_f32; 10 * BLOCK_SAMPLES], Timestamp::now());
            Err(SourceError::Thread(std::io::Error::other("(this failure is a test's)")))
        });
        let refused = Stream::start(Box::new(refuses), StreamOptions::default()).unwrap_err();
        assert!(matches!(refused, StreamError::Source(_)), "{refused}");
    });
}

/// Hangs if the dispatcher does not end.
#[test]
fn a_source_that_panics_while_it_starts_leaves_nothing_behind() {
    ends(|| {
        let panics = Own(|capture: Capture| {
            drop(capture);
            panic!("(this panic is a test's)")
        });
        let start = || Stream::start(Box::new(panics), StreamOptions::default());
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(start)).map(drop).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"(this panic is a test's)"));
    });
}

#[test]
fn a_source_that_keeps_its_capture_can_be_stopped() {
    ends(|| {
        let (sender, kept) = mpsc::channel();
        let keeps = Own(move |capture: Capture| {
            sender.send(capture).unwrap();
            Ok(())
        });
        let stream = Stream::start(Box::new(keeps), unpaced()).unwrap();
        let consumer = stream.subscribe(SubscribeOptions::default()).unwrap();
        let stats = Arc::clone(stream.capture());
        stream.stop();
        assert_eq!(read_from(consumer), End { reason: EndReason::Finished, gap: None });
        // Goes on without a reader: the ring fills, and the rest is lost and counted.
        let mut capture = kept.recv().unwrap();
        for _ in 0..1000 {
            capture.write(&[0.5_f32; BLOCK_SAMPLES], Timestamp::now());
        }
        assert_eq!(stats.next_sequence(), stats.blocks() + stats.lost_overflow() + stats.lost_xrun());
        assert!(stats.lost_overflow() > 0);
    });
}

#[test]
fn a_capture_that_is_failed_or_dropped_by_a_panic_ends_as_failed() {
    ends(|| {
        for panics in [false, true] {
            let fails = Own(move |mut capture: Capture| {
                thread::spawn(move || {
                    // Half a block, in samples that are not whole frames, which is bad but harmless.
                    capture.write(&[0.5_f32; 5], Timestamp::now());
                    capture.write::<f32>(&[], Timestamp::default());
                    capture.write(&[0.5_f32; 3], Timestamp::now());
                    if panics {
                        panic!("(this panic is a test's)");
                    }
                    capture.fail("the cable was cut");
                });
                Ok(())
            });
            let (blocks, reasons, failure) = run(Box::new(fails));
            assert_eq!((blocks, reasons), (1, ["failed"; 2]));
            let expected =
                if panics { "the source panicked (see its message on standard error)" } else { "the cable was cut" };
            assert_eq!(failure.as_deref(), Some(expected));
        }
    });
}

/// A source that gives another answer each time it is asked for its format.
struct Fickle(AtomicU32);

impl Pull for Fickle {
    fn rate_hz(&self) -> u32 {
        8_000 * (1 + self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn channels(&self) -> u16 {
        1 + self.0.fetch_add(1, Ordering::Relaxed) as u16 % 3
    }

    fn description(&self) -> String {
        "fickle".to_owned()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        Ok(samples.len())
    }
}

#[test]
fn a_source_that_changes_its_mind_on_its_format_is_held_to_its_first_word() {
    ends(|| {
        let stream = Stream::start(Box::new(Paced::new(Fickle(AtomicU32::new(0)))), unpaced()).unwrap();
        let mut consumer = stream
            .subscribe(SubscribeOptions { overflow: OverflowPolicy::Block, ..SubscribeOptions::default() })
            .unwrap();
        let format = stream.format();
        assert_eq!((format.rate_hz(), format.channels()), (8_000, 2));
        for _ in 0..100 {
            let block = consumer.recv().unwrap().item;
            assert_eq!((block.format(), block.samples().len()), (format, format.block_samples()));
        }
    });
}

#[test]
fn block_lengths_that_no_device_has_are_refused_or_work() {
    let nanos = Duration::from_nanos;
    for block in [Duration::ZERO, nanos(1), nanos(999_999), nanos(100_000_001), Duration::MAX] {
        let refused = Format::new(48_000, 2, block).unwrap_err();
        assert_eq!(refused.to_string(), format!("a block of {block:?} is not possible (choose 1ms to 100ms)"));
    }
    for rate_hz in [1, 7, 44_100, 768_000] {
        for channels in [1, 32] {
            for block in [1_000_000, 1_234_567, 99_999_999, 100_000_000].map(nanos) {
                let format = Format::new(rate_hz, channels, block).unwrap();
                assert!(format.block_frames() >= 1);
                assert_eq!(format.blocks_in(Duration::ZERO), 0);
                assert_eq!(format.blocks_in(nanos(1)), 1);
                assert!(format.blocks_in(Duration::MAX) >= format.blocks_in(Duration::from_secs(1 << 40)));
            }
        }
    }
}

#[test]
fn a_history_of_any_length_is_kept_or_refused() {
    ends(|| {
        // Block lengths and rates at which a block has a single frame, so that its samples are the least of its memory.
        for history in [Duration::MAX, Duration::from_secs(1 << 40), Duration::from_secs(60_000_000)] {
            for block in [Duration::from_millis(1), Duration::from_millis(100)] {
                let options = StreamOptions { history, block, ..StreamOptions::default() };
                let refused = Stream::start(Box::new(Paced::new(Slow)), options).map(drop).unwrap_err();
                assert!(matches!(refused, StreamError::History { .. }), "{refused}");
            }
        }
        let options = StreamOptions { history: Duration::ZERO, ..StreamOptions::default() };
        Stream::start(Box::new(Paced::new(Slow)), options).unwrap().stop();
    });
}

/// A frame a second.
struct Slow;

impl Pull for Slow {
    fn rate_hz(&self) -> u32 {
        1
    }

    fn channels(&self) -> u16 {
        1
    }

    fn description(&self) -> String {
        "slow".to_owned()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        Ok(samples.len())
    }
}

#[test]
fn rings_of_any_length_work_or_are_refused() {
    ends(|| {
        for &overflow in OverflowPolicy::ALL {
            for buffer in [0, 1, 2, 1 << 22] {
                let stream = Stream::start(scripted(|_, samples| Ok(samples.len())), unpaced()).unwrap();
                let options = SubscribeOptions { overflow, buffer, ..SubscribeOptions::default() };
                let mut consumer = stream.subscribe(options).unwrap();
                assert!(consumer.recv().is_ok(), "{overflow} with {buffer}");
            }
            for buffer in [(1 << 24) + 1, usize::MAX / 2 + 1, usize::MAX] {
                let stream = Stream::start(scripted(|_, samples| Ok(samples.len())), unpaced()).unwrap();
                let options = SubscribeOptions { overflow, buffer, ..SubscribeOptions::default() };
                let refused = stream.subscribe(options).map(drop).unwrap_err();
                assert!(
                    matches!(refused, SubscribeError::TooLong { blocks, limit } if blocks > limit),
                    "{overflow}: {refused}"
                );
            }
        }
    });
}
