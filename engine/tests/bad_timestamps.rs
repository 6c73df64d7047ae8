//! Timestamps that go back, stand still or jump by years: each sample is delivered once and in order, each block that is
//! missing is counted, and a loss is declared only where the timestamps show one.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

#[path = "common/ends.rs"]
mod ends;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_engine::source::{Running, Source, SourceError};
use aircheck_engine::{
    Capture, EndReason, OverflowPolicy, Publisher, PublisherOptions, Stamp, Stream, StreamOptions, SubscribeOptions,
    Timestamp,
};
use ends::ends;

const RATE_HZ: u32 = 8_000;
/// Frames of a block, and of a period: 10 ms.
const FRAMES: u64 = 80;
const PERIOD: u64 = 10_000_000;
/// Twenty seconds, ten windows of the timeline.
const PERIODS: u64 = 2_000;
/// The first period with a bad timestamp. The timeline has had two windows of good ones before.
const TURN: u64 = 500;
const SECOND: u64 = 1_000_000_000;
const YEAR: u64 = 365 * 86_400 * SECOND;
const START: u64 = 50 * YEAR;

/// Hands its capture to the test, which writes into it.
struct Handed(mpsc::Sender<Capture>);

impl Source for Handed {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        1
    }

    fn description(&self) -> String {
        "a test".to_owned()
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        self.0.send(capture).unwrap();
        Ok(Box::new(Nothing))
    }
}

#[derive(Debug)]
struct Nothing;

impl Running for Nothing {
    fn stop(self: Box<Self>) {}
}

/// The account of a capture whose timestamps were bad.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    blocks: u64,
    declared_lost: u64,
    discarded_frames: u64,
}

/// Captures with these timestamps, in ns, and checks all that is true whatever they say. Returns the capture's account.
fn capture_with(timestamp: impl Fn(u64) -> u64 + Send + 'static) -> Account {
    ends(move || {
        let (sender, handed) = mpsc::channel();
        let options = StreamOptions {
            block: Duration::from_nanos(PERIOD),
            live: false,
            await_consumers: 1,
            ..StreamOptions::default()
        };
        let stream = Stream::start(Box::new(Handed(sender)), options).unwrap();
        let mut consumer = stream
            .subscribe(SubscribeOptions { overflow: OverflowPolicy::Block, ..SubscribeOptions::default() })
            .unwrap();
        let mut capture: Capture = handed.recv().unwrap();
        let writer = thread::spawn(move || {
            let wait_for_room = |capture: &Capture| {
                while !capture.has_room() {
                    thread::yield_now();
                }
            };
            for period in 0..PERIODS {
                wait_for_room(&capture);
                let samples: Vec<f32> =
                    (0..FRAMES).map(|frame| (period * FRAMES + frame) as f32 / (1 << 24) as f32).collect();
                capture.write(&samples, Timestamp::from_nanos(timestamp(period)));
            }
            // The last, short block needs room like any other.
            wait_for_room(&capture);
        });
        let (mut next, mut next_frame, mut missing, mut left_out) = (0, 0, 0, 0);
        let end = loop {
            let delivery = match consumer.recv() {
                Ok(delivery) => delivery,
                Err(end) => break end,
            };
            let block = delivery.item;
            let gap = delivery.gap.map_or(0, |gap| gap.items);
            assert_eq!(block.stamp.sequence, next + gap, "the gap is all that is missing");
            (next, missing) = (block.stamp.sequence + 1, missing + gap);
            assert_eq!(block.position(), block.stamp.sequence * FRAMES, "it is on the grid");
            let first = (block.samples()[0] * (1 << 24) as f32) as u64;
            assert!(first >= next_frame, "frame {first} came twice or too late");
            assert!(gap > 0 || first == next_frame, "{next_frame} to {first} are missing, and no gap was told");
            left_out += first - next_frame;
            next_frame = first + u64::from(block.frames());
            let in_order = |frame: usize| block.samples()[frame] == (first + frame as u64) as f32 / (1 << 24) as f32;
            assert!((0..block.frames() as usize).all(in_order));
        };
        writer.join().unwrap();
        let stats = stream.capture();
        assert_eq!(end.reason, EndReason::Finished);
        missing += end.gap.map_or(0, |gap| gap.items);
        left_out += PERIODS * FRAMES - next_frame;
        assert_eq!(stats.next_sequence(), stats.blocks() + stats.lost_xrun(), "each number is a block or a loss");
        assert_eq!((stats.lost_xrun(), stats.discarded_frames()), (missing, left_out), "what is missing is counted");
        let account = consumer.stats().snapshot();
        assert_eq!((account.offered, account.lost.total()), (stats.next_sequence(), missing));
        Account { blocks: stats.blocks(), declared_lost: missing, discarded_frames: left_out }
    })
}

/// Returns the right time of a period.
fn right(period: u64) -> u64 {
    START + period * PERIOD
}

const NOTHING_LOST: Account = Account { blocks: PERIODS, declared_lost: 0, discarded_frames: 0 };

#[test]
fn timestamps_that_stand_still_are_no_loss() {
    assert_eq!(capture_with(|period| right(period.min(TURN))), NOTHING_LOST);
    assert_eq!(capture_with(|_| 0), NOTHING_LOST);
    assert_eq!(capture_with(|_| u64::MAX), NOTHING_LOST);
}

#[test]
fn timestamps_that_go_back_are_no_loss() {
    for back in [PERIOD / 2, SECOND, 3600 * SECOND, 20 * YEAR, START] {
        assert_eq!(
            capture_with(move |period| right(period) - if period < TURN { 0 } else { back }),
            NOTHING_LOST,
            "{back}"
        );
    }
    assert_eq!(capture_with(|period| START - period * PERIOD), NOTHING_LOST, "backwards all the time");
}

/// A clock that was set is followed. No machine sleeps for years.
#[test]
fn timestamps_that_jump_by_years_are_no_loss() {
    for jump in [2 * YEAR, 100 * YEAR, u64::MAX - right(PERIODS)] {
        assert_eq!(
            capture_with(move |period| right(period) + if period < TURN { 0 } else { jump }),
            NOTHING_LOST,
            "{jump}"
        );
    }
}

#[test]
fn a_single_timestamp_that_is_wrong_by_years_is_no_loss() {
    for wrong in [0, 1, START - 5 * YEAR, START + 2 * YEAR, u64::MAX] {
        assert_eq!(
            capture_with(move |period| if period == TURN { wrong } else { right(period) }),
            NOTHING_LOST,
            "{wrong}"
        );
        assert_eq!(
            capture_with(move |period| if period == 0 { wrong } else { right(period) }),
            NOTHING_LOST,
            "the first: {wrong}"
        );
    }
}

/// As after a suspend of the machine: a pause of up to a year is a loss of as much, at once.
#[test]
fn timestamps_that_jump_by_less_than_a_year_are_a_loss_of_as_much() {
    for jump in [61 * SECOND, 86_400 * SECOND, YEAR] {
        let account = capture_with(move |period| right(period) + if period < TURN { 0 } else { jump });
        assert_eq!(
            account,
            Account { blocks: PERIODS, declared_lost: jump / PERIOD, discarded_frames: 0 },
            "{jump}: blocks and periods begin together, so nothing is discarded"
        );
    }
}

/// What is right cannot be said here. That everything is counted, can.
#[test]
fn timestamps_without_any_order_are_counted() {
    for salt in 0..20_u64 {
        let account = capture_with(move |period| {
            let mixed = (period + salt * PERIODS + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            match mixed >> 61 {
                0 => mixed,
                1 => right(period) + (mixed >> 8) % YEAR,
                2 => right(period).saturating_sub((mixed >> 8) % YEAR),
                _ => right(period),
            }
        });
        assert!(account.blocks > 0, "{account:?}");
    }
}

/// Latencies and lags of a consumer whose clock goes back, stands still or jumps are counted, as zero or as the longest.
#[test]
fn a_consumer_with_a_bad_clock_counts_right() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = hub.subscribe(SubscribeOptions::default()).unwrap();
    let times = [0, START, START - 3600 * SECOND, START, u64::MAX, 1];
    for (sequence, nanos) in (0_u64..).zip(times) {
        let at = Timestamp::from_nanos(nanos);
        let stamp = Stamp { sequence, captured_at: at, dispatched_at: at, preceding: 0 };
        publisher.push(stamp, sequence);
        publisher.flush();
    }
    for (sequence, nanos) in (0_u64..).zip(times.into_iter().rev()) {
        let delivery = consumer.try_recv_at(Timestamp::from_nanos(nanos)).unwrap();
        assert_eq!((delivery.item.value, delivery.gap, delivery.lag_items), (sequence, None, 5 - sequence));
    }
    let account = consumer.stats().snapshot();
    assert_eq!((account.offered, account.delivered, account.lost.total(), account.queued), (6, 6, 0, 0));
    assert_eq!(consumer.stats().queue_micros().summary().unwrap().count, 6);
    assert_eq!(consumer.stats().lag_items().max(), 5);
}
