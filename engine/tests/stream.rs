//! A whole stream: source, capture, dispatcher and consumers, each on its own thread.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

#[path = "common/ends.rs"]
mod ends;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use aircheck_engine::source::{Paced, Pull, Tone};
use aircheck_engine::{
    Block, Consumer, End, EndReason, OverflowPolicy, Start, Stream, StreamOptions, SubscribeError, SubscribeOptions,
    TryRecvError,
};
use ends::ends;

/// A source whose samples are their own positions. After its frames it ends, or, with a gate, stays silent until the gate
/// is opened or dropped.
struct Counting {
    rate_hz: u32,
    channels: u16,
    next: u64,
    samples: u64,
    pulls: Arc<AtomicU64>,
    gate: Option<mpsc::Receiver<()>>,
}

impl Counting {
    fn new(rate_hz: u32, channels: u16, frames: u64) -> Self {
        let samples = frames * u64::from(channels);
        Self { rate_hz, channels, next: 0, samples, pulls: Arc::default(), gate: None }
    }

    /// Adds a gate that ends the silence.
    fn gated(mut self) -> (Self, mpsc::Sender<()>) {
        let (open, gate) = mpsc::channel();
        self.gate = Some(gate);
        (self, open)
    }
}

/// Returns the sample at a position: exact in `f32` and unique for 24 bits of positions.
fn sample(position: u64) -> f32 {
    position as f32 / (1 << 24) as f32
}

impl Pull for Counting {
    fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn channels(&self) -> u16 {
        self.channels
    }

    fn description(&self) -> String {
        "a count".to_owned()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        self.pulls.fetch_add(1, Ordering::Release);
        let filled = samples.len().min((self.samples - self.next) as usize);
        for sample_out in &mut samples[..filled] {
            *sample_out = sample(self.next);
            self.next += 1;
        }
        if filled == 0
            && let Some(gate) = &self.gate
        {
            let _ = gate.recv();
        }
        Ok(filled)
    }
}

fn waiting(block: Duration, history: Duration) -> StreamOptions {
    StreamOptions { block, history, live: false, ..StreamOptions::default() }
}

const BLOCK: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

fn options(overflow: OverflowPolicy, buffer: usize, start: Start) -> SubscribeOptions {
    SubscribeOptions { overflow, buffer, start, ..SubscribeOptions::default() }
}

/// Receives everything up to the end. A gap fails the test.
fn read_all(mut consumer: Consumer<Block>, mut each: impl FnMut(u64)) -> (Vec<f32>, End) {
    let mut samples = Vec::new();
    loop {
        match consumer.recv() {
            Ok(delivery) => {
                assert_eq!(delivery.gap, None);
                each(delivery.item.stamp.sequence);
                samples.extend_from_slice(delivery.item.samples());
            }
            Err(end) => return (samples, end),
        }
    }
}

/// Waits until the head has reached `blocks`.
fn reach(stream: &Stream, blocks: u64) {
    while stream.head().next() < blocks {
        thread::yield_now();
    }
}

/// A source that starts only when the channel is closed, so that all consumers receive its beginning.
struct Held {
    counting: Counting,
    begin: mpsc::Receiver<()>,
}

impl Pull for Held {
    fn rate_hz(&self) -> u32 {
        self.counting.rate_hz()
    }

    fn channels(&self) -> u16 {
        self.counting.channels()
    }

    fn description(&self) -> String {
        self.counting.description()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        // Returns at once after the sender was dropped.
        let _ = self.begin.recv();
        self.counting.pull(samples)
    }
}

fn held(counting: Counting, options: StreamOptions) -> (Stream, mpsc::Sender<()>) {
    let (sender, begin) = mpsc::channel();
    (Stream::start(Box::new(Paced::new(Held { counting, begin })), options).unwrap(), sender)
}

#[test]
fn every_sample_reaches_every_consumer_bit_for_bit() {
    for (rate_hz, channels, block, buffers) in
        [(48_000, 2, BLOCK, [1, 7]), (44_100, 1, Duration::from_millis(3), [3, 64]), (11_025, 5, BLOCK, [2, 2])]
    {
        ends(move || {
            // Half a second and 17 frames, which is not a whole number of blocks.
            let frames = u64::from(rate_hz) / 2 + 17;
            let (stream, begin) = held(Counting::new(rate_hz, channels, frames), waiting(block, 20 * block));
            let listeners = buffers.map(|buffer| {
                let consumer = stream.subscribe(options(OverflowPolicy::Block, buffer, Start::Live)).unwrap();
                // One of them pauses now and then.
                thread::spawn(move || {
                    read_all(consumer, |number| {
                        for _ in 0..if buffer > 2 && number % 8 == 0 { 100 } else { 0 } {
                            thread::yield_now();
                        }
                    })
                })
            });
            let format = stream.format();
            drop(begin);
            for listener in listeners {
                let (samples, end) = listener.join().unwrap();
                assert_eq!(samples.len() as u64, frames * u64::from(channels), "including the short block at the end");
                let wrong = (0..).zip(&samples).find(|(position, got)| sample(*position).to_bits() != got.to_bits());
                assert_eq!(wrong, None);
                assert_eq!(end, End { reason: EndReason::Finished, gap: None });
            }
            let blocks = frames.div_ceil(u64::from(format.block_frames()));
            assert_eq!((stream.capture().blocks(), stream.capture().next_sequence()), (blocks, blocks));
            assert_eq!((stream.capture().lost_overflow(), stream.capture().lost_xrun()), (0, 0));
            assert_eq!(stream.ring_micros().to_hdrhistogram().len(), blocks);
            stream.wait();
        });
    }
}

/// A block that a frozen consumer still holds is neither reused nor waited for, and keeps its samples.
#[test]
fn held_blocks_are_not_reused() {
    ends(|| {
        const BLOCKS: u64 = 300;
        let (stream, begin) = held(Counting::new(48_000, 1, BLOCKS * 480), waiting(BLOCK, 4 * BLOCK));
        let mut frozen = stream.subscribe(options(OverflowPolicy::DropNewest, 100, Start::Live)).unwrap();
        let mut keeps = stream.subscribe(options(OverflowPolicy::Block, 4, Start::Live)).unwrap();
        let healthy = stream.subscribe(options(OverflowPolicy::Block, 4, Start::Live)).unwrap();
        let healthy = thread::spawn(move || read_all(healthy, |_| {}));
        drop(begin);
        let mut kept = Vec::new();
        while let Ok(delivery) = keeps.recv() {
            kept.push(delivery);
        }
        let (samples, end) = healthy.join().unwrap();
        assert_eq!((samples.len() as u64, end.gap), (BLOCKS * 480, None));
        assert_eq!(kept.len() as u64, BLOCKS);
        assert!((0..).zip(&samples).all(|(position, got)| sample(position) == *got));
        let held: Vec<_> = std::iter::from_fn(|| frozen.recv().ok()).collect();
        assert_eq!(held.len(), 100);
        for (number, delivery) in (0..).zip(&kept).chain((0..).zip(&held)) {
            assert_eq!(delivery.item.stamp.sequence, number);
            assert_eq!(delivery.item.position(), number * 480);
            let fine = (number * 480..).zip(delivery.item.samples()).all(|(position, got)| sample(position) == *got);
            assert!(fine, "block {number} has the samples of another block");
        }
        assert_eq!(frozen.stats().snapshot().lost.total(), BLOCKS - 100);
        stream.wait();
    });
}

#[test]
fn a_live_stream_refuses_the_policy_block() {
    let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default()).unwrap();
    let refused = stream.subscribe(options(OverflowPolicy::Block, 10, Start::Live)).unwrap_err();
    assert_eq!(refused, SubscribeError::BlockOnLive);
    assert!(refused.to_string().contains("`block` is refused: the source is live"), "{refused}");
    stream.stop();
}

#[test]
fn stop_ends_all_consumers_in_order() {
    ends(|| {
        let stream = Stream::start(
            Box::new(Tone::new(440.0)),
            StreamOptions { block: Duration::from_millis(2), ..StreamOptions::default() },
        )
        .unwrap();
        let (heard, hears) = mpsc::channel();
        let listeners: Vec<_> = [OverflowPolicy::DropNewest, OverflowPolicy::Disconnect, OverflowPolicy::SkipToLive]
            .into_iter()
            .map(|overflow| {
                let consumer = stream.subscribe(options(overflow, 10_000, Start::Live)).unwrap();
                let heard = heard.clone();
                thread::spawn(move || read_all(consumer, |_| heard.send(()).unwrap_or_default()).1)
            })
            .collect();
        let mut frozen = stream.subscribe(options(OverflowPolicy::DropNewest, 1, Start::Live)).unwrap();
        (0..30).for_each(|_| hears.recv().unwrap());
        let (hub, capture) = (stream.hub().clone(), Arc::clone(stream.capture()));
        assert!(capture.is_open());
        stream.stop();
        for listener in listeners {
            assert_eq!(listener.join().unwrap(), End { reason: EndReason::Finished, gap: None });
        }
        assert!(!capture.is_open());
        let mut next = None;
        let end = loop {
            match frozen.recv() {
                Ok(delivery) => next = Some(delivery.item.stamp.sequence + 1),
                Err(end) => break end,
            }
        };
        let gap = end.gap.expect("the frozen consumer has lost blocks");
        assert!(next.is_none_or(|next| next == gap.from));
        assert_eq!(gap.from + gap.items, capture.next_sequence(), "the last gap reaches the end of the stream");
        assert_eq!(hub.subscribe(SubscribeOptions::default()).unwrap_err(), SubscribeError::Ended);
    });
}

#[test]
fn stop_waits_for_no_consumer() {
    ends(|| {
        let (counting, gate) = Counting::new(48_000, 1, 480 * 20).gated();
        let (stream, begin) = held(counting, waiting(BLOCK, SECOND));
        let mut frozen = stream.subscribe(options(OverflowPolicy::Block, 2, Start::Live)).unwrap();
        drop(begin);
        // All blocks fit into the capture ring and the consumer's ring.
        while stream.capture().next_sequence() < 20 {
            thread::yield_now();
        }
        drop(gate);
        stream.stop();
        assert_eq!((0..2).map(|_| frozen.recv().unwrap().item.stamp.sequence).collect::<Vec<_>>(), [0, 1]);
        let end = frozen.recv().unwrap_err();
        assert_eq!((end.reason, end.gap.map(|gap| (gap.from, gap.items))), (EndReason::Finished, Some((2, 18))));
    });
}

/// `stop` ends an endless source: it is not pulled once the stream has stopped.
#[test]
fn stop_ends_an_endless_source() {
    ends(|| {
        let counting = Counting::new(48_000, 1, 1 << 60);
        let pulls = Arc::clone(&counting.pulls);
        let stream = Stream::start(Box::new(Paced::new(counting)), waiting(BLOCK, SECOND)).unwrap();
        reach(&stream, 10);
        stream.stop();
        // The source holds the count as long as its thread runs.
        assert_eq!(
            Arc::strong_count(&pulls),
            1,
            "the source is still pulled, {} times so far",
            pulls.load(Ordering::Acquire)
        );
    });
}

/// A block of 1 ms is shorter than the portions of the pacer.
#[test]
fn the_shortest_blocks_lose_nothing() {
    // For one of these, the rings have room for an odd number of blocks, and portions of two blocks do not fit.
    for buffer in [1, 2] {
        ends(move || {
            const BLOCKS: u64 = 10_000;
            let (stream, begin) =
                held(Counting::new(48_000, 1, BLOCKS * 48), waiting(Duration::from_millis(1), SECOND));
            let consumer = stream.subscribe(options(OverflowPolicy::Block, buffer, Start::Live)).unwrap();
            drop(begin);
            // Reads only when all rings seem to be full, because the sequence stands still.
            let (mut before, mut unchanged) = (0, 0);
            while before == 0 || unchanged < 10_000 {
                thread::yield_now();
                let next = stream.capture().next_sequence();
                unchanged = if next == before { unchanged + 1 } else { 0 };
                before = next;
            }
            let (samples, end) = read_all(consumer, |_| {});
            assert_eq!((samples.len() as u64, end.gap, stream.capture().lost_overflow()), (BLOCKS * 48, None, 0));
        });
    }
}

#[test]
fn a_stream_can_be_dropped_on_its_consumer_s_thread() {
    ends(|| {
        let (stream, begin) = held(Counting::new(48_000, 1, 48_000), waiting(BLOCK, SECOND));
        let mut consumer = stream.subscribe(options(OverflowPolicy::Block, 1, Start::Live)).unwrap();
        drop(begin);
        consumer.recv().unwrap();
        let capture = Arc::clone(stream.capture());
        drop(stream);
        let mut received = 1;
        let end = loop {
            match consumer.recv() {
                Ok(delivery) => {
                    assert_eq!((delivery.item.stamp.sequence, delivery.gap), (received, None));
                    received += 1;
                }
                Err(end) => break end,
            }
        };
        // Everything that was captured was received, or is in the last gap.
        let captured = capture.next_sequence();
        let gap = (received < captured).then_some((received, captured - received));
        assert_eq!((end.reason, end.gap.map(|gap| (gap.from, gap.items))), (EndReason::Finished, gap));
        assert_eq!(consumer.stats().snapshot().lost.total(), captured - received);
    });
}

/// A consumer that subscribes before the start receives the first block, however late its thread looks, if it keeps the
/// oldest blocks.
#[test]
fn an_opened_stream_gives_its_first_block_to_every_consumer() {
    for live in [true, false] {
        let stream_options = StreamOptions { live, ..StreamOptions::default() };
        let opened = Stream::open(Box::new(Tone::new(440.0)), stream_options).unwrap();
        let consumers: Vec<_> =
            (0..20).map(|_| opened.subscribe(options(OverflowPolicy::DropNewest, 4, Start::Live)).unwrap()).collect();
        let stream = opened.start().unwrap();
        for mut consumer in consumers {
            let first = consumer.recv().unwrap();
            assert_eq!((first.item.stamp.sequence, first.gap), (0, None), "live: {live}");
        }
        stream.stop();
    }
}

#[test]
fn a_stream_that_is_not_started_ends_its_consumers() {
    let opened = Stream::open(Box::new(Tone::new(440.0)), StreamOptions::default()).unwrap();
    let mut consumer = opened.subscribe(SubscribeOptions::default()).unwrap();
    drop(opened);
    assert_eq!(consumer.recv().unwrap_err().reason, EndReason::Abandoned);
}

/// A stream runs without consumers. A late consumer receives the history, even while no more blocks come.
#[test]
fn the_history_serves_late_consumers() {
    ends(|| {
        let (counting, gate) = Counting::new(48_000, 2, 480 * 100).gated();
        let (stream, begin) = held(counting, waiting(BLOCK, 20 * BLOCK));
        drop(begin);
        reach(&stream, 100);
        assert_eq!(stream.capture().blocks(), 100);
        // The source is silent now. The dispatcher admits these consumers all the same.
        let mut back = stream.subscribe(options(OverflowPolicy::Block, 4, Start::Back(5))).unwrap();
        let mut from = stream.subscribe(options(OverflowPolicy::SkipToLive, 1, Start::From(3))).unwrap();
        let mut all = stream.subscribe(options(OverflowPolicy::DropNewest, 1, Start::Back(u64::MAX))).unwrap();
        let mut live = stream.subscribe(options(OverflowPolicy::Block, 4, Start::Live)).unwrap();
        let numbers = |consumer: &mut Consumer<Block>, count: usize| -> Vec<u64> {
            (0..count).map(|_| consumer.recv().unwrap().item.stamp.sequence).collect()
        };
        assert_eq!(numbers(&mut back, 5), (95..100).collect::<Vec<_>>());
        assert_eq!(numbers(&mut all, 20), (80..100).collect::<Vec<_>>());
        let first = from.recv().unwrap();
        assert_eq!((first.item.stamp.sequence, first.gap.map(|gap| (gap.from, gap.items))), (80, Some((3, 77))));
        assert_eq!(first.item.samples()[0], sample(80 * 960));
        assert_eq!(numbers(&mut from, 19), (81..100).collect::<Vec<_>>());
        assert_eq!(live.recv_timeout(Duration::ZERO), Err(TryRecvError::Empty));
        drop(gate);
        for consumer in [&mut back, &mut from, &mut all, &mut live] {
            assert_eq!(consumer.recv().unwrap_err(), End { reason: EndReason::Finished, gap: None });
        }
        stream.wait();
    });
}

/// Consumers that leave while the source is silent release their blocks; only the history keeps them.
#[test]
fn a_silent_stream_releases_the_blocks_of_dropped_consumers() {
    ends(|| {
        let (counting, gate) = Counting::new(48_000, 1, 480 * 20).gated();
        let (stream, begin) = held(counting, waiting(BLOCK, 10 * BLOCK));
        drop(begin);
        reach(&stream, 20);
        let mut keeps = stream.subscribe(options(OverflowPolicy::Block, 1, Start::Back(1))).unwrap();
        let block = keeps.recv().unwrap().item;
        for _ in 0..50 {
            let mut guest = stream.subscribe(options(OverflowPolicy::Block, 1, Start::Back(2))).unwrap();
            guest.recv().unwrap();
        }
        // The history, this test, and no dropped consumer.
        while Arc::strong_count(&block) > 2 {
            thread::yield_now();
        }
        drop(gate);
        stream.wait();
    });
}

#[test]
fn a_failing_source_ends_the_stream_with_its_reason() {
    struct Failing;
    impl Pull for Failing {
        fn rate_hz(&self) -> u32 {
            8000
        }
        fn channels(&self) -> u16 {
            1
        }
        fn description(&self) -> String {
            "a failure".to_owned()
        }
        fn pull(&mut self, _: &mut [f32]) -> Result<usize, String> {
            Err("the cable was cut".to_owned())
        }
    }
    ends(|| {
        let stream = Stream::start(Box::new(Paced::new(Failing)), StreamOptions::default()).unwrap();
        let capture = Arc::clone(stream.capture());
        while !stream.is_finished() {
            thread::yield_now();
        }
        stream.wait();
        while capture.failure().is_none() {
            thread::yield_now();
        }
        assert_eq!((capture.failure(), capture.is_open()), (Some("the cable was cut"), false));
    });
}

#[test]
fn options_out_of_range_are_refused() {
    let error = |counting, options| Stream::start(Box::new(Paced::new(counting)), options).unwrap_err().to_string();
    let usual = StreamOptions::default();
    assert_eq!(error(Counting::new(48_000, 0, 1), usual), "0 channels are not possible (choose 1 to 32)");
    assert_eq!(error(Counting::new(0, 1, 1), usual), "a sample rate of 0 Hz is not possible (choose 1 to 768000)");
    let options = StreamOptions { block: SECOND, ..usual };
    assert_eq!(error(Counting::new(48_000, 1, 1), options), "a block of 1s is not possible (choose 1ms to 100ms)");
}
