//! Tests of encoders on their threads: groups, history, doorbells and the end.

use super::*;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;
use std::time::Instant;

use aircheck_engine::source::PcmEncoding;

use crate::rendition::codec::OpusBitrate;
use crate::rendition::packet::{RecordOverhead, Wire};
use crate::rendition::test_blocks::{numbered, sound};

const OPUS: Encoding = Encoding::Opus { bitrate: OpusBitrate::DEFAULT };
const S16: Encoding = Encoding::Pcm(PcmEncoding::S16Le);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Counts how often a delivery thread is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A source of blocks of 10 ms, and encoders with two delivery threads.
struct Fixture {
    sound: Block,
    blocks: Publisher<Block>,
    encoders: Arc<Encoders>,
    wakes: [Arc<Wakes>; 2],
}

impl Fixture {
    fn new() -> Self {
        let sound = sound(Duration::from_millis(10));
        let (blocks, hub) = Publisher::new(PublisherOptions { history: 100, ..PublisherOptions::default() });
        let wakes = [Arc::default(), Arc::default()];
        let wakers = wakes.iter().map(|wakes| Waker::from(Arc::clone(wakes))).collect();
        let encoders = Encoders::new(hub, sound.format(), 100, 100, wakers, Arc::default());
        Self { sound, blocks, encoders, wakes }
    }

    fn push(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let Item { stamp, value } = numbered(&self.sound, number);
            self.blocks.push(stamp, value);
        }
        self.blocks.flush();
    }

    /// Subscribes a listener, and waits until it is admitted.
    fn subscribe(&mut self, encoding: Encoding, group: u64, shard: usize, start: Start) -> Subscription {
        let options = SubscribeOptions { start, ..SubscribeOptions::default() };
        let subscription = self.encoders.subscribe(encoding, group, shard, options).unwrap();
        // Admits the encoder, whose history is complete then.
        let admitting = Instant::now();
        while !subscription.packets.stats().is_attached() {
            self.blocks.flush();
            assert!(admitting.elapsed() < TIMEOUT);
            thread::sleep(Duration::from_millis(1));
        }
        has_rung(&subscription.doorbell);
        subscription
    }

    fn wakes(&self) -> [usize; 2] {
        [0, 1].map(|shard| self.wakes[shard].0.load(Ordering::SeqCst))
    }
}

/// Waits until a doorbell rings.
fn has_rung(doorbell: &Doorbell) {
    let waiting = Instant::now();
    while !doorbell.take() {
        assert!(waiting.elapsed() < TIMEOUT, "the doorbell has not rung");
        thread::sleep(Duration::from_millis(1));
    }
}

fn next(subscription: &mut Subscription) -> (u64, u64) {
    let stamp = subscription.packets.recv_timeout(TIMEOUT).unwrap().item.stamp;
    (stamp.first(), stamp.sequence)
}

#[test]
fn a_doorbell_rings_once_for_a_packet_and_not_without_listeners() {
    let mut fixture = Fixture::new();
    let mut subscription = fixture.subscribe(S16, 4, 1, Start::Live);
    let before = fixture.wakes();
    assert_eq!(before, [0, 1], "once for the listener that was admitted");
    for round in 0..5 {
        for number in 0..3 {
            fixture.push([4 * round + number]);
            thread::sleep(Duration::from_millis(5));
            assert!(!subscription.doorbell.take(), "there is no packet");
        }
        fixture.push([4 * round + 3]);
        assert_eq!(next(&mut subscription), (4 * round, 4 * round + 3));
        has_rung(&subscription.doorbell);
        thread::sleep(Duration::from_millis(5));
        assert!(!subscription.doorbell.take());
    }
    assert_eq!(fixture.wakes(), [0, 6]);
}

#[test]
fn a_backlog_rings_once() {
    let mut fixture = Fixture::new();
    let mut subscription = fixture.subscribe(S16, 1, 0, Start::Live);
    let before = fixture.wakes()[0];
    fixture.push(0..MAX_BATCH as u64);
    for number in 0..MAX_BATCH as u64 {
        assert_eq!(next(&mut subscription), (number, number));
    }
    has_rung(&subscription.doorbell);
    assert_eq!(fixture.wakes()[0], before + 1);
}

#[test]
fn a_packet_is_never_of_history_and_live_blocks() {
    let mut fixture = Fixture::new();
    fixture.push((0..5).chain(6..10));
    let mut subscription = fixture.subscribe(S16, 4, 0, Start::From(0));
    fixture.push(10..16);
    let packets = [(0, 3), (4, 4), (6, 7), (8, 9), (10, 11), (12, 15)];
    let mut end = 0;
    for expected in packets {
        let item = subscription.packets.recv_timeout(TIMEOUT).unwrap().item;
        assert_eq!((item.stamp.first(), item.stamp.sequence), expected);
        end += item.bytes(Wire::Chunked).len() as u64;
        assert_eq!(item.ends().sealed(Wire::Chunked, RecordOverhead::default()), end);
        let next = subscription.log.next_at(end, Wire::Chunked, RecordOverhead::default());
        assert_eq!(next, Some(expected.1 + 1));
    }
    // Another listener shares the encoder.
    let again = fixture.subscribe(S16, 4, 1, Start::Live);
    assert!(Arc::ptr_eq(&again.log, &subscription.log));
    assert_eq!(fixture.encoders.running(), 1);
    let _other = fixture.subscribe(S16, 5, 1, Start::Live);
    assert_eq!(fixture.encoders.running(), 2);
}

#[test]
fn the_end_completes_the_last_group_and_rings() {
    for (encoding, has_tail) in
        [(OPUS, true), (S16, false), (Encoding::OpusMessages { bitrate: OpusBitrate::DEFAULT }, false)]
    {
        let mut fixture = Fixture::new();
        let mut subscription = fixture.subscribe(encoding, 4, 0, Start::Live);
        assert_eq!(subscription.header.is_some(), encoding == OPUS);
        fixture.push(0..6);
        assert_eq!(next(&mut subscription), (0, 3));
        has_rung(&subscription.doorbell);
        fixture.blocks.finish(EndReason::Finished);
        assert_eq!(next(&mut subscription), (4, 5));
        let TryRecvError::Ended(end) = subscription.packets.recv_timeout(TIMEOUT).unwrap_err() else {
            panic!("no end")
        };
        assert_eq!((end.reason, end.gap), (EndReason::Finished, None));
        has_rung(&subscription.doorbell);
        assert_eq!(subscription.tail.get().unwrap().is_some(), has_tail, "{encoding:?}");
    }
}
