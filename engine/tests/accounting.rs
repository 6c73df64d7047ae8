//! `offered = delivered + lost + queued`, for every consumer at every moment. The counts are checked against a model of
//! stamps alone: the pushed ones, the ones that each consumer received, and the gaps that it saw. Items stand for one
//! block or for several, and all counts are in blocks.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

#[path = "common/ends.rs"]
mod ends;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use std::{hint, thread};

use aircheck_engine::{
    Consumer, Delivery, End, EndReason, Gap, Hub, Item, Loss, OverflowPolicy, Publisher, PublisherOptions, Snapshot,
    Stamp, Start, Stats, SubscribeOptions, Timestamp, TryRecvError,
};
use ends::ends;
use hdrhistogram::Histogram;
use proptest::prelude::*;

/// One action of a schedule. `pick` chooses among the consumers of that moment.
#[derive(Clone, Debug)]
enum Action {
    /// Pushes an item into the batch for each number of blocks, the first of them after a hole in the sequence.
    Push {
        hole: u64,
        items: Vec<u64>,
    },
    Flush,
    /// The source loses items, and no item follows yet.
    Advance {
        hole: u64,
    },
    /// Time passes without an item.
    Look,
    Subscribe {
        overflow: OverflowPolicy,
        buffer: usize,
        start: Start,
    },
    /// A consumer takes up to `most` items. Between two of these actions it stalls.
    Take {
        pick: usize,
        most: usize,
    },
    /// A consumer takes up to `most` items at once.
    TakeBatch {
        pick: usize,
        most: usize,
    },
    Drop {
        pick: usize,
    },
    Close {
        pick: usize,
    },
    Skip {
        pick: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let overflow = prop::sample::select(OverflowPolicy::ALL.to_vec());
    let start = prop_oneof![
        Just(Start::Live),
        prop_oneof![0..20_u64, 0..80_u64].prop_map(Start::Back),
        prop_oneof![0..60_u64, 0..300_u64].prop_map(Start::From)
    ];
    // Mostly full, as an encoder makes them.
    let blocks = prop_oneof![1 => 1..=MAX_GROUP, 1 => Just(MAX_GROUP)];
    let items = prop::collection::vec(blocks, 1..8);
    prop_oneof![
        6 => (prop_oneof![4 => Just(0), 1 => 1..4_u64], items).prop_map(|(hole, items)| Action::Push { hole, items }),
        5 => Just(Action::Flush),
        1 => (1..4_u64).prop_map(|hole| Action::Advance { hole }),
        1 => Just(Action::Look),
        2 => (overflow, prop_oneof![1..6_usize, 1..40_usize], start)
            .prop_map(|(overflow, buffer, start)| Action::Subscribe { overflow, buffer, start }),
        7 => (0..8_usize, 1..12_usize).prop_map(|(pick, most)| Action::Take { pick, most }),
        4 => (0..8_usize, 0..12_usize).prop_map(|(pick, most)| Action::TakeBatch { pick, most }),
        1 => (0..8_usize).prop_map(|pick| Action::Skip { pick }),
        1 => (0..8_usize).prop_map(|pick| Action::Drop { pick }),
        1 => (0..8_usize).prop_map(|pick| Action::Close { pick }),
    ]
}

/// Blocks that an item stands for, at most.
const MAX_GROUP: u64 = 10;

/// Model of the producing end, in stamps alone.
#[derive(Default)]
struct ProducerModel {
    /// The stamp of every item, whether flushed or not.
    items: Vec<Stamp>,
    next: u64,
    /// One past the last item that was flushed.
    flushed: u64,
    /// `next` as of the last flush: where the live head stands.
    head: u64,
    begun: bool,
    history: VecDeque<Stamp>,
    /// The last item that a flush returned.
    expired: Option<u64>,
    now: u64,
}

impl ProducerModel {
    /// Returns how many of these sequence numbers have an item.
    fn between(&self, from: u64, to: u64) -> u64 {
        self.items.iter().map(|stamp| stamp.next().min(to).saturating_sub(stamp.first().max(from))).sum()
    }

    /// Returns the stamp of the item with this last block.
    fn stamp(&self, sequence: u64) -> Option<Stamp> {
        self.items.binary_search_by_key(&sequence, |stamp| stamp.sequence).ok().map(|index| self.items[index])
    }
}

/// Returns the blocks of these items.
fn blocks<'s>(stamps: impl IntoIterator<Item = &'s Stamp>) -> u64 {
    stamps.into_iter().map(Stamp::blocks).sum()
}

/// A consumer, and the items and gaps that it has received.
struct ConsumerModel {
    consumer: Consumer<u64>,
    options: SubscribeOptions,
    /// First sequence number, and the first one that the history still has, once the fan-out has admitted the consumer.
    first: Option<(u64, u64)>,
    burst: u64,
    received: Vec<Stamp>,
    /// Lag of each block that was received or missed, and was due.
    lags: Histogram<u64>,
    gaps: Vec<Gap>,
    end: Option<End>,
    closed: bool,
    told_to_skip: bool,
    last: Snapshot,
    /// Earlier snapshots, each with one past the last flushed item and the number of received items of that moment.
    earlier: Vec<(u64, usize, Snapshot)>,
    slowest: u64,
}

impl ConsumerModel {
    fn next(&self) -> u64 {
        let after_received = self.received.last().map(Stamp::next);
        after_received.or(self.first.map(|(first, _)| first)).unwrap_or(0)
    }

    fn take(&mut self, pushed: &ProducerModel) -> Result<u64, TryRecvError> {
        let now = Timestamp::from_nanos(pushed.now);
        match self.consumer.try_recv_at(now) {
            Ok(Delivery { gap, lag_items, item }) => {
                self.received(pushed, gap, lag_items, &item);
                Ok(item.value)
            }
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Takes up to `most` items at once.
    fn take_batch(&mut self, pushed: &ProducerModel, most: usize) -> Result<(), TryRecvError> {
        let batch = self.consumer.try_recv_batch(Timestamp::from_nanos(pushed.now), most);
        let taken =
            batch.map(|batch| (batch.gap, batch.lag_items, batch.blocks(), batch.iter().cloned().collect::<Vec<_>>()));
        let (gap, lag_items, run_blocks, items) = taken.map_err(|error| self.refused(error))?;
        assert!((1..=most.max(1)).contains(&items.len()), "{} of at most {most}", items.len());
        assert_eq!(run_blocks, blocks(items.iter().map(|item| &item.stamp)));
        let first = items[0].stamp.sequence;
        for item in &items {
            let behind = item.stamp.sequence - first;
            assert!(behind == 0 || item.stamp.first() == self.next(), "a batch has no gaps");
            self.received(pushed, gap.filter(|_| behind == 0), lag_items - behind, item);
        }
        Ok(())
    }

    fn received(&mut self, pushed: &ProducerModel, gap: Option<Gap>, lag_items: u64, item: &Item<u64>) {
        let now = Timestamp::from_nanos(pushed.now);
        let Item { stamp, value: item } = *item;
        assert!(!self.closed, "closed consumers get nothing more");
        assert_eq!(stamp.sequence, item, "the stamp belongs to the item");
        assert!(pushed.stamp(item) == Some(stamp) && item < pushed.flushed, "{item} was never flushed");
        assert_eq!(lag_items, pushed.head - (item + 1), "lag is the head minus the position");
        let hole = stamp.first().checked_sub(self.next()).expect("sequence numbers only rise");
        assert_eq!(gap.map_or(0, |gap| gap.items), hole, "the gap before {item} covers all missing numbers");
        if let Some(gap) = gap {
            assert_eq!(gap.from, self.next(), "the gap starts where the last item ended");
            self.missed(gap);
            self.gaps.push(gap);
        }
        (lag_items..lag_items + stamp.blocks()).for_each(|lag| self.lags.record(lag).unwrap());
        self.slowest = self.slowest.max(now.since(stamp.dispatched_at).as_micros() as u64);
        self.received.push(stamp);
    }

    /// Models the lag of each missing block: the first was due at a lag of one. Those that the history no longer had were
    /// never due.
    fn missed(&mut self, gap: Gap) {
        let never_due = self.first.filter(|(first, _)| *first == gap.from).map_or(0, |(first, there)| there - first);
        (1..=gap.items - never_due).for_each(|lag| self.lags.record(lag).unwrap());
    }

    fn refused(&mut self, error: TryRecvError) -> TryRecvError {
        if let TryRecvError::Ended(end) = error {
            if let Some(gap) = end.gap {
                assert_eq!(gap.from, self.next(), "the last gap starts where the last item ended");
                assert!(gap.items > 0);
                if self.end.is_none() {
                    self.missed(gap);
                }
            }
            assert!(self.end.replace(end).is_none_or(|before| before == end), "the end stays as it was");
        }
        error
    }

    /// Returns the number of offered items by the model: up to the last flushed item, or up to the consumer's end.
    fn offered(&self, pushed: &ProducerModel) -> u64 {
        let Some((first, there)) = self.first else { return 0 };
        match self.end {
            Some(End { gap, .. }) => self.next() + gap.map_or(0, |gap| gap.items) - first,
            None => pushed.flushed.max(there) - first,
        }
    }

    /// Checks the snapshot of this moment.
    fn check(&mut self, pushed: &ProducerModel) {
        let now = self.consumer.stats().snapshot();
        let queued_and_lost = now.lost.total() + now.queued;
        assert_eq!(now.offered, now.delivered + queued_and_lost, "the identity");
        assert_eq!(now.delivered, blocks(&self.received), "delivered equals received");
        assert!(now.offered >= self.last.offered && now.delivered >= self.last.delivered, "counters went back");
        assert!(Loss::ALL.iter().all(|reason| now.lost.of(*reason) >= self.last.lost.of(*reason)), "losses went back");
        let seen: u64 = self.gaps.iter().map(|gap| gap.items).sum();
        assert!(now.lost.total() + now.queued >= seen, "a gap that was seen is not counted");
        // After the end the counts stand still, and `TooSlow` may come before the consumer has read its end.
        let ended = self.consumer.stats().end_reason().is_some();
        if !ended && !self.closed {
            assert_eq!(now.offered, self.offered(pushed), "offered is every number from the first");
            if let Some((first, _)) = self.first {
                assert_eq!((now.first_sequence, now.burst_items), (first, self.burst), "it starts with a whole item");
            }
            let reached = self.next().max(self.first.map_or(0, |(first, _)| first));
            let skipped_past = now.lag_items <= pushed.head.saturating_sub(reached);
            assert!(skipped_past, "lag is at most the head minus the last delivered");
            if self.options.overflow != OverflowPolicy::SkipToLive && self.first.is_some() {
                assert_eq!(now.lag_items, pushed.head.saturating_sub(reached));
            }
            if self.first.is_some() {
                self.earlier.push((pushed.flushed, self.received.len(), now));
            }
        }
        self.last = now;
    }

    /// Checks everything once the consumer has seen its end.
    fn check_ended(&self, pushed: &ProducerModel) {
        let end = self.end.expect("it ended");
        let now = self.consumer.stats().snapshot();
        let stats = self.consumer.stats();
        let seen = self.gaps.iter().map(|gap| gap.items).sum::<u64>() + end.gap.map_or(0, |gap| gap.items);
        assert_eq!(now.queued, 0, "all queued items were taken before the end");
        assert_eq!(now.lost.total(), seen, "every loss was seen in a gap, and no gap without a loss");
        assert_eq!(now.offered, self.offered(pushed));
        assert_eq!(stats.end_reason(), Some(end.reason));
        let due = now.delivered + now.lost.total() - now.lost.of(Loss::History);
        assert_eq!(stats.lag_items().to_hdrhistogram().len(), due, "a lag for each block, delivered or lost");
        assert_eq!(
            stats.lag_items().to_hdrhistogram(),
            self.lags,
            "each block has the lag at which it was due or taken"
        );
        let gaps = self.gaps.len() + usize::from(end.gap.is_some());
        assert_eq!(stats.gap_items().to_hdrhistogram().len(), gaps as u64, "every gap is in the histogram");
        let longest = self.gaps.iter().chain(&end.gap).map(|gap| gap.items).max().unwrap_or(0);
        assert_eq!(stats.gap_items().max(), longest);
        assert_eq!(stats.queue_micros().to_hdrhistogram().len(), self.received.len() as u64);
        assert_eq!(stats.queue_micros().max(), self.slowest, "latency is measured to the given time");
        let Some((first, there)) = self.first else {
            assert_eq!(now.offered, 0, "it was never admitted");
            return;
        };
        let (stop, reasons) = (first + now.offered, &now.lost);
        let items = pushed.between(there, stop);
        // Each block was delivered or lost, and each number without an item was lost at the source.
        let of_items = [Loss::Overflow, Loss::SkippedToLive, Loss::SkippedToNewest, Loss::Conflated]
            .map(|reason| reasons.of(reason));
        assert_eq!(items, now.delivered + of_items.iter().sum::<u64>());
        assert_eq!(reasons.of(Loss::History), there - first, "history that was gone");
        assert_eq!(reasons.of(Loss::Source), stop - there - items, "numbers that no item had");
        let may_lose: &[Loss] = match self.options.overflow {
            OverflowPolicy::SkipToLive => &[Loss::Overflow, Loss::SkippedToLive, Loss::SkippedToNewest],
            OverflowPolicy::DropNewest | OverflowPolicy::Disconnect => &[Loss::Overflow, Loss::SkippedToNewest],
            OverflowPolicy::Latest => &[Loss::Conflated],
            OverflowPolicy::Block => &[Loss::SkippedToNewest],
            policy => panic!("no rule for {policy}"),
        };
        assert!(self.told_to_skip || reasons.of(Loss::SkippedToNewest) == 0, "it was not told to skip");
        for reason in [Loss::Overflow, Loss::SkippedToLive, Loss::SkippedToNewest, Loss::Conflated] {
            assert!(may_lose.contains(&reason) || reasons.of(reason) == 0, "{reason:?}, {:?}", self.options);
        }
        if self.options.overflow == OverflowPolicy::Disconnect {
            let too_slow = end.reason == EndReason::TooSlow;
            let refused = pushed.stamp(stop.wrapping_sub(1)).filter(|_| too_slow).map_or(0, |stamp| stamp.blocks());
            assert_eq!(reasons.of(Loss::Overflow), refused, "it ends at the first item that is refused");
        } else {
            assert_ne!(end.reason, EndReason::TooSlow);
        }
        self.check_queued(there);
    }

    /// Checks that items queued at earlier moments were received or skipped since.
    fn check_queued(&self, there: u64) {
        let last = self.consumer.stats().snapshot();
        for (flushed, received, then) in &self.earlier {
            let since = self.received[*received..].iter().filter(|stamp| stamp.sequence < (*flushed).max(there));
            let came = blocks(since);
            match self.options.overflow {
                OverflowPolicy::SkipToLive => {
                    let skipped = skipped_items(&last) - skipped_items(then);
                    assert!(came <= then.queued && then.queued <= came + skipped, "{then:?}: {came} came");
                }
                OverflowPolicy::Latest => {
                    let conflated = last.lost.of(Loss::Conflated) - then.lost.of(Loss::Conflated);
                    let whole = came == 0 || came == then.queued;
                    assert!(then.queued <= MAX_GROUP && whole && then.queued <= came + conflated);
                }
                OverflowPolicy::DropNewest | OverflowPolicy::Disconnect | OverflowPolicy::Block => {
                    let late = skipped_items(&last) - skipped_items(then);
                    assert!(came <= then.queued && then.queued <= came + late, "{then:?}: {came} came");
                }
                policy => panic!("no rule for {policy}"),
            }
        }
    }
}

/// Returns the queued items that a consumer skipped.
fn skipped_items(snapshot: &Snapshot) -> u64 {
    snapshot.lost.of(Loss::SkippedToLive) + snapshot.lost.of(Loss::SkippedToNewest)
}

/// A fan-out that is driven action by action, beside its model.
struct Driver {
    publisher: Publisher<u64>,
    hub: Hub<u64>,
    history: u64,
    group: u64,
    pushed: ProducerModel,
    seen: Vec<ConsumerModel>,
}

impl Driver {
    fn new(history: usize, group: u64) -> Self {
        let (publisher, hub) = Publisher::new(PublisherOptions {
            history,
            group: group as usize,
            live: false,
            ..PublisherOptions::default()
        });
        Self { publisher, hub, history: history as u64, group, pushed: ProducerModel::default(), seen: Vec::new() }
    }

    /// Models the admission of consumers, which does not happen within a batch.
    fn admitted(&mut self) {
        if self.pushed.begun {
            return;
        }
        let live = self.pushed.next;
        let oldest = self.pushed.history.front().map_or(live, Stamp::first);
        for seen in self.seen.iter_mut().filter(|seen| seen.first.is_none() && !seen.closed) {
            let requested = match seen.options.start {
                Start::Live => live,
                Start::Back(blocks) => live.saturating_sub(blocks).max(oldest),
                Start::From(sequence) => sequence.min(live),
                start => unreachable!("{start:?} is not tried"),
            };
            let inside = |stamp: &&Stamp| (stamp.first()..stamp.next()).contains(&requested);
            let first = self.pushed.history.iter().find(inside).map_or(requested, Stamp::first);
            let there = first.max(oldest);
            seen.first = Some((first, there));
            seen.burst = live - there;
        }
    }

    fn flushed(&mut self) {
        let pushed = &mut self.pushed;
        let fresh: Vec<Stamp> = pushed.items.iter().copied().filter(|item| item.sequence >= pushed.flushed).collect();
        pushed.flushed = fresh.last().map_or(pushed.flushed, Stamp::next);
        pushed.history.extend(fresh);
        // The oldest item goes once the others have enough blocks.
        while !pushed.history.is_empty() && blocks(pushed.history.iter().skip(1)) >= self.history {
            pushed.history.pop_front();
        }
        pushed.head = pushed.next;
        pushed.begun = false;
        self.admitted();
    }

    fn flush(&mut self) {
        let expired: Vec<u64> = self.publisher.flush().map(|item| item.value).collect();
        self.flushed();
        let kept = self.pushed.history.front().map_or(u64::MAX, |stamp| stamp.sequence);
        assert!(expired.iter().all(|item| *item < kept), "{expired:?} expired, {kept} was kept");
        // Each once. How many are kept for consumers is another test's matter: `fanout.rs`.
        for item in expired {
            let last = self.pushed.expired.replace(item);
            assert!(last < Some(item), "{item} expired after {last:?}");
        }
    }

    fn act(&mut self, action: &Action) {
        self.pushed.now += 1_700_000;
        match *action {
            Action::Push { hole, ref items } => {
                for (number, blocks) in items.iter().enumerate() {
                    self.admitted();
                    if !self.publisher.has_room(1) {
                        break;
                    }
                    self.pushed.next += if number == 0 { hole } else { 0 };
                    let time = Timestamp::from_nanos(self.pushed.now);
                    let preceding = *blocks.min(&self.group) - 1;
                    let stamp = Stamp {
                        sequence: self.pushed.next + preceding,
                        captured_at: time,
                        dispatched_at: time,
                        preceding: preceding as u32,
                    };
                    self.publisher.push(stamp, stamp.sequence);
                    self.pushed.items.push(stamp);
                    self.pushed.next = stamp.next();
                    self.pushed.begun = true;
                    assert_eq!(self.publisher.next_sequence(), self.pushed.next);
                }
            }
            Action::Flush => self.flush(),
            Action::Advance { hole } => {
                self.pushed.next += hole;
                self.publisher.advance_to(self.pushed.next);
            }
            Action::Look => {
                self.admitted();
                let there = self.seen.iter().filter(|seen| {
                    seen.first.is_some() && !seen.closed && seen.consumer.stats().end_reason().is_none()
                });
                assert_eq!(there.count(), self.publisher.consumers());
            }
            Action::Subscribe { overflow, buffer, start } => {
                let options = SubscribeOptions { overflow, buffer, start, ..SubscribeOptions::default() };
                let consumer = self.hub.subscribe(options).expect("the fan-out is there");
                let last = consumer.stats().snapshot();
                self.seen.push(ConsumerModel {
                    consumer,
                    options,
                    first: None,
                    burst: 0,
                    received: Vec::new(),
                    lags: Histogram::new_with_bounds(1, 1 << 20, 2).unwrap(),
                    gaps: Vec::new(),
                    end: None,
                    closed: false,
                    told_to_skip: false,
                    last,
                    earlier: Vec::new(),
                    slowest: 0,
                });
            }
            Action::Take { pick, most } => self.take(pick, most),
            Action::TakeBatch { pick, most } => {
                let count = self.seen.len();
                if let Some(seen) = self.seen.get_mut(pick % count.max(1)) {
                    // `Take` checks whether an item must be there.
                    let _ = seen.take_batch(&self.pushed, most);
                }
            }
            Action::Drop { pick } if !self.seen.is_empty() => {
                let seen = self.seen.swap_remove(pick % self.seen.len());
                let stats = Arc::clone(seen.consumer.stats());
                let before = stats.snapshot();
                drop(seen);
                self.admitted();
                self.publisher.consumers();
                let after = stats.snapshot();
                assert_eq!(after.offered, after.delivered + after.lost.total() + after.queued);
                assert_eq!(before.delivered, after.delivered);
            }
            Action::Close { pick } if !self.seen.is_empty() => {
                let pick = pick % self.seen.len();
                let seen = &mut self.seen[pick];
                seen.consumer.stats().close();
                // A consumer that has read its end keeps it.
                seen.closed |= seen.end.is_none();
            }
            Action::Skip { pick } if !self.seen.is_empty() => {
                let pick = pick % self.seen.len();
                let seen = &mut self.seen[pick];
                let queued = seen.consumer.stats().snapshot().queued;
                seen.consumer.skip_to_newest();
                seen.told_to_skip = true;
                if queued > 0
                    && let Ok(item) = seen.take(&self.pushed)
                {
                    let now = seen.consumer.stats().snapshot();
                    assert_eq!(now.queued, 0, "{item} is not the newest");
                }
            }
            Action::Drop { .. } | Action::Close { .. } | Action::Skip { .. } => {}
        }
        for seen in &mut self.seen {
            seen.check(&self.pushed);
        }
    }

    fn take(&mut self, pick: usize, most: usize) {
        let count = self.seen.len();
        let Some(seen) = self.seen.get_mut(pick % count.max(1)) else { return };
        let flushed = self.pushed.flushed;
        for _ in 0..most {
            let before = seen.consumer.stats().snapshot();
            match seen.take(&self.pushed) {
                Ok(item) if seen.options.overflow == OverflowPolicy::Latest => {
                    assert_eq!(item + 1, flushed, "with `latest` each value is the newest");
                }
                Ok(item) if seen.options.overflow == OverflowPolicy::SkipToLive => {
                    let lag = flushed - (item + 1);
                    let requested = seen.options.buffer as u64 + seen.burst;
                    let late = lag > requested && seen.consumer.stats().end_reason().is_none();
                    assert!(!late || seen.consumer.stats().snapshot().queued == 0, "{lag} behind, and not the newest");
                }
                Ok(_) => {}
                Err(TryRecvError::Empty) => {
                    let skip = seen.options.overflow == OverflowPolicy::SkipToLive;
                    assert!(skip || before.queued == 0, "`Empty` although an item is queued");
                    assert_eq!(seen.consumer.stats().snapshot().queued, 0);
                    break;
                }
                Err(TryRecvError::Ended(end)) => {
                    assert_eq!(seen.closed, end.reason == EndReason::Closed);
                    break;
                }
            }
            seen.check(&self.pushed);
        }
    }

    /// Ends the fan-out, in order or not, and lets every consumer take its queued items.
    fn finish(mut self, in_order: bool) {
        if in_order {
            self.flushed();
        } else {
            // Items that were not flushed were never offered.
            self.pushed.items.retain(|item| item.sequence < self.pushed.flushed);
        }
        let Self { publisher, pushed, mut seen, .. } = self;
        if in_order {
            publisher.finish(EndReason::Finished);
        } else {
            drop(publisher);
        }
        for seen in &mut seen {
            while seen.take(&pushed).is_ok() {}
            let end = seen.end.expect("nothing is left, so it has ended");
            if seen.closed {
                assert_eq!(end, End { reason: EndReason::Closed, gap: None });
                continue;
            }
            let expected = if in_order { EndReason::Finished } else { EndReason::Abandoned };
            assert!(end.reason == expected || end.reason == EndReason::TooSlow, "{:?}", end.reason);
            if in_order && end.reason == EndReason::Finished {
                let last = seen.next() + end.gap.map_or(0, |gap| gap.items);
                assert_eq!(last, pushed.next, "the last gap reaches the end of the stream");
            }
            seen.check_ended(&pushed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_loss_is_counted_in_any_schedule(
        history in prop_oneof![0..16_usize, 0..80_usize],
        group in prop_oneof![Just(1), 2..=MAX_GROUP, Just(MAX_GROUP)],
        actions in prop::collection::vec(action(), 1..120),
        in_order in any::<bool>(),
    ) {
        let mut driver = Driver::new(history, group);
        // One consumer is there from the start.
        driver.act(&Action::Subscribe { overflow: OverflowPolicy::SkipToLive, buffer: 3, start: Start::Live });
        for action in &actions {
            driver.act(action);
        }
        driver.finish(in_order);
    }
}

fn subscribe(hub: &Hub<u64>, overflow: OverflowPolicy, buffer: usize) -> Consumer<u64> {
    hub.subscribe(SubscribeOptions { overflow, buffer, ..SubscribeOptions::default() }).unwrap()
}

fn send(publisher: &mut Publisher<u64>, items: u64) {
    for _ in 0..items {
        let sequence = publisher.next_sequence();
        publisher.send(sequence, Timestamp::default());
    }
}

fn drain_one(consumer: &mut Consumer<u64>) -> (u64, Option<Gap>) {
    let delivery = consumer.try_recv_at(Timestamp::default()).unwrap();
    (delivery.item.value, delivery.gap)
}

/// Takes the queued items: sequence numbers, and the gap before each.
fn drain(consumer: &mut Consumer<u64>) -> Vec<(u64, Option<Gap>)> {
    std::iter::from_fn(|| consumer.try_recv_at(Timestamp::default()).ok()).map(|d| (d.item.value, d.gap)).collect()
}

#[test]
fn skip_to_live_goes_to_the_newest_with_one_gap() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::SkipToLive, 10);
    send(&mut publisher, 5);
    assert_eq!(drain(&mut consumer).len(), 5);
    // A little late: within its buffer it loses nothing.
    send(&mut publisher, 10);
    assert_eq!(drain(&mut consumer), (5..15).map(|item| (item, None)).collect::<Vec<_>>());
    // Too late, but the ring was not full: it skips to the newest at once.
    send(&mut publisher, 15);
    let gap = Gap { from: 15, items: 14, reason: Loss::SkippedToLive };
    assert_eq!(drain(&mut consumer), [(29, Some(gap))]);
    // Far too late, and even the newest item in the ring is stale: it goes on with the next one, after a single gap.
    send(&mut publisher, 100);
    assert_eq!(drain(&mut consumer), []);
    assert_eq!(consumer.stats().snapshot().lag_items, 80, "skipped items do not count as lag");
    send(&mut publisher, 2);
    let gap = Gap { from: 30, items: 100, reason: Loss::Overflow };
    assert_eq!(drain(&mut consumer), [(130, Some(gap)), (131, None)]);
    let snapshot = consumer.stats().snapshot();
    assert_eq!((snapshot.lost.of(Loss::SkippedToLive), snapshot.lost.of(Loss::Overflow)), (14 + 20, 80));
}

/// Guards against a consumer that stays behind for ever after a loss whose reason is not counted as offered.
#[test]
fn skip_to_live_skips_after_losses_of_every_reason() {
    for reason in [Loss::Source, Loss::Hop] {
        let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
        let mut consumer = subscribe(&hub, OverflowPolicy::SkipToLive, 10);
        send(&mut publisher, 1);
        assert_eq!(drain(&mut consumer), [(0, None)]);
        publisher.lose_to(101, reason);
        send(&mut publisher, 1);
        assert_eq!(drain(&mut consumer), [(101, Some(Gap { from: 1, items: 100, reason }))]);
        send(&mut publisher, 15);
        let gap = Gap { from: 102, items: 14, reason: Loss::SkippedToLive };
        assert_eq!(drain(&mut consumer), [(116, Some(gap))], "after a loss of the {reason:?}");
    }
}

#[test]
fn skip_to_live_keeps_deliberate_lag_and_no_more() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 100, ..PublisherOptions::default() });
    send(&mut publisher, 100);
    let options = SubscribeOptions {
        overflow: OverflowPolicy::SkipToLive,
        buffer: 10,
        start: Start::Back(50),
        ..SubscribeOptions::default()
    };
    let mut consumer = hub.subscribe(options).unwrap();
    send(&mut publisher, 10);
    assert_eq!(consumer.stats().snapshot().burst_items, 50);
    let taken: Vec<u64> = (0..40).map(|_| consumer.try_recv_at(Timestamp::default()).unwrap().item.value).collect();
    assert_eq!(taken, (50..90).collect::<Vec<_>>(), "the burst is not skipped");
    // All but 20 items of the burst are read. It may be behind by these and its buffer, and not one more.
    send(&mut publisher, 11);
    assert_eq!(drain_one(&mut consumer), (90, None));
    send(&mut publisher, 2);
    assert_eq!(drain_one(&mut consumer), (122, Some(Gap { from: 91, items: 31, reason: Loss::SkippedToLive })));
}

#[test]
fn skip_to_live_delivers_items_of_batches_longer_than_the_ring() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::SkipToLive, 1);
    for _ in 0..10 {
        for sequence in publisher.next_sequence()..publisher.next_sequence() + 32 {
            publisher.push(Stamp { sequence, ..Stamp::default() }, sequence);
        }
        publisher.flush();
        drain(&mut consumer);
    }
    let delivered = consumer.stats().snapshot().delivered;
    assert!(delivered >= 5, "only {delivered} items from ten batches");
}

#[test]
fn skip_to_live_does_not_skip_the_lag_of_an_encoder() {
    let (mut blocks, block_hub) = Publisher::new(PublisherOptions::default());
    let head = Some(block_hub.head().clone());
    let (mut packets, hub) = Publisher::new(PublisherOptions { head, ..PublisherOptions::default() });
    let mut listener = subscribe(&hub, OverflowPolicy::SkipToLive, 2);
    send(&mut blocks, 20);
    for item in 0..10 {
        send(&mut packets, 1);
        let delivery = listener.try_recv_at(Timestamp::default()).unwrap();
        assert_eq!((delivery.item.value, delivery.gap, delivery.lag_items), (item, None, 19 - item));
    }
}

#[test]
fn a_batch_ends_at_a_gap() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 20);
    let now = Timestamp::default();
    send(&mut publisher, 5);
    publisher.advance_to(8);
    send(&mut publisher, 3);
    let mut batch = |most| {
        let batch = consumer.try_recv_batch(now, most).unwrap();
        let items: Vec<u64> = batch.iter().map(|item| item.value).collect();
        assert_eq!(batch.items(), items.len());
        (batch.gap.map(|gap| (gap.from, gap.items)), batch.lag_items, items)
    };
    assert_eq!(batch(2), (None, 10, vec![0, 1]));
    assert_eq!(batch(20), (None, 8, vec![2, 3, 4]));
    assert_eq!(batch(20), (Some((5, 3)), 2, vec![8, 9, 10]));
    assert_eq!(consumer.try_recv_batch(now, 20).err(), Some(TryRecvError::Empty));
    let account = consumer.stats().snapshot();
    assert_eq!((account.delivered, account.queued, account.next_sequence), (8, 0, 11));
    let lags = consumer.stats().lag_items().to_hdrhistogram();
    // Each delivered item counts at its own lag. Of the three missing ones, the first was due at a lag of one.
    let counted: Vec<u64> = (0..=11).map(|lag| lags.count_at(lag)).collect();
    assert_eq!(counted, [1, 2, 2, 1, 0, 0, 1, 1, 1, 1, 1, 0]);
    publisher.finish(EndReason::Finished);
    let end = End { reason: EndReason::Finished, gap: None };
    assert_eq!(consumer.try_recv_batch(now, 1).err(), Some(TryRecvError::Ended(end)));
}

/// Without histograms of lags and waits, all else is counted as with them.
#[test]
fn a_consumer_counts_lags_and_waits_unless_it_is_told_not_to() {
    let (mut publisher, hub) = grouped(10, 0);
    let [mut with, mut without] = [true, false]
        .map(|histograms| hub.subscribe(SubscribeOptions { histograms, ..SubscribeOptions::default() }).unwrap());
    send_items(&mut publisher, [1, 10, 10]);
    publisher.advance_to(30);
    send_items(&mut publisher, [1, 1]);
    let take = |consumer: &mut Consumer<u64>| {
        let first = drain_one(consumer);
        let items = consumer.try_recv_batch(Timestamp::default(), 10).unwrap().items();
        (first, items, drain(consumer))
    };
    assert_eq!(take(&mut with), take(&mut without));
    assert_eq!(with.stats().snapshot(), without.stats().snapshot());
    let lengths = |stats: &Stats| {
        [stats.queue_micros(), stats.gap_items(), stats.lag_items()].map(|each| each.to_hdrhistogram().len())
    };
    assert_eq!(lengths(with.stats()), [5, 1, 32]);
    assert_eq!(lengths(without.stats()), [0, 1, 0]);
    assert_eq!(without.stats().lag_items().max(), 0);
}

/// The items of a batch count as delivered. Dropped unread, they do not come again.
#[test]
fn an_unread_batch_is_delivered() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 4);
    send(&mut publisher, 4);
    drop(consumer.try_recv_batch(Timestamp::default(), 3).unwrap());
    assert_eq!(drain_one(&mut consumer), (3, None));
    send(&mut publisher, 4);
    assert_eq!(drain(&mut consumer).len(), 4, "their slots are free again");
}

#[test]
fn drop_newest_delivers_queued_items_in_order() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 4);
    send(&mut publisher, 10);
    assert_eq!(drain(&mut consumer), (0..4).map(|item| (item, None)).collect::<Vec<_>>());
    send(&mut publisher, 1);
    assert_eq!(drain(&mut consumer), [(10, Some(Gap { from: 4, items: 6, reason: Loss::Overflow }))]);
}

/// Each gap has its own reason, also where a whole batch went into the ring between two gaps.
#[test]
fn a_reason_does_not_carry_over_to_the_next_gap() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 4);
    let mut push = |sequences: std::ops::Range<u64>| {
        for sequence in sequences {
            publisher.push(Stamp { sequence, ..Stamp::default() }, sequence);
        }
        publisher.flush();
    };
    push(0..8);
    assert_eq!(drain(&mut consumer).len(), 4);
    push(8..10);
    push(11..13);
    let gaps: Vec<_> = drain(&mut consumer).into_iter().filter_map(|(_, gap)| gap).collect();
    let gap = |from, items, reason| Gap { from, items, reason };
    assert_eq!(gaps, [gap(4, 4, Loss::Overflow), gap(10, 1, Loss::Source)]);
}

#[test]
fn latest_gives_the_newest_only() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::Latest, 100);
    send(&mut publisher, 10);
    assert_eq!(consumer.stats().snapshot().queued, 1);
    assert_eq!(drain(&mut consumer), [(9, Some(Gap { from: 0, items: 9, reason: Loss::Conflated }))]);
    send(&mut publisher, 1);
    assert_eq!(drain(&mut consumer), [(10, None)]);
}

#[test]
fn disconnect_ends_after_the_queued_items() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::Disconnect, 4);
    send(&mut publisher, 10);
    assert_eq!(publisher.consumers(), 0, "the fan-out has removed it");
    assert_eq!(drain(&mut consumer).len(), 4);
    let end = consumer.recv().unwrap_err();
    let gap = Gap { from: 4, items: 1, reason: Loss::Overflow };
    assert_eq!(end, End { reason: EndReason::TooSlow, gap: Some(gap) });
    assert_eq!(consumer.stats().snapshot().offered, 5, "after the end nothing is offered");
}

#[test]
fn a_loss_at_the_end_is_a_gap_too() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut slow = subscribe(&hub, OverflowPolicy::DropNewest, 2);
    let mut idle = subscribe(&hub, OverflowPolicy::SkipToLive, 10);
    send(&mut publisher, 5);
    assert_eq!(drain(&mut idle).len(), 5);
    publisher.advance_to(8);
    publisher.finish(EndReason::Finished);
    assert_eq!(drain(&mut slow).len(), 2);
    let gap = |from, items, reason| Some(Gap { from, items, reason });
    assert_eq!(slow.recv().unwrap_err().gap.map(|gap| (gap.from, gap.items)), Some((2, 6)));
    assert_eq!(idle.recv().unwrap_err(), End { reason: EndReason::Finished, gap: gap(5, 3, Loss::Source) });
}

fn grouped(group: usize, history: usize) -> (Publisher<u64>, Hub<u64>) {
    Publisher::new(PublisherOptions { group, history, ..PublisherOptions::default() })
}

/// Sends an item for each of these numbers of blocks.
fn send_items(publisher: &mut Publisher<u64>, items: impl IntoIterator<Item = u64>) {
    for blocks in items {
        push_item(publisher, blocks);
        publisher.flush();
    }
}

fn push_item(publisher: &mut Publisher<u64>, blocks: u64) {
    let sequence = publisher.next_sequence() + blocks - 1;
    publisher.push(Stamp { sequence, preceding: blocks as u32 - 1, ..Stamp::default() }, sequence);
}

#[test]
fn each_block_of_an_item_has_its_own_lag() {
    let (mut publisher, hub) = grouped(10, 0);
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 100);
    send_items(&mut publisher, [10]);
    assert_eq!(consumer.try_recv_at(Timestamp::default()).unwrap().lag_items, 0);
    send_items(&mut publisher, [10, 3, 10]);
    let batch = consumer.try_recv_batch(Timestamp::default(), 10).unwrap();
    assert_eq!((batch.lag_items, batch.items(), batch.blocks()), (13, 3, 23));
    drop(batch);
    let lags = consumer.stats().lag_items().to_hdrhistogram();
    let counted: Vec<u64> = (0..24).map(|lag| lags.count_at(lag)).collect();
    let expected: Vec<u64> = (0..24).map(|lag| u64::from(lag < 10) + u64::from(lag < 23)).collect();
    assert_eq!(counted, expected, "9 to 0 for the item at the head, then 22 to 0 for the batch");
    assert_eq!(consumer.stats().queue_micros().to_hdrhistogram().len(), 4, "a wait for each item");
    let account = consumer.stats().snapshot();
    assert_eq!((account.offered, account.delivered, account.next_sequence), (33, 33, 33));
}

#[test]
fn a_start_inside_an_item_is_at_its_first_block() {
    let starts = [
        (Start::Back(1), 30),
        (Start::Back(10), 30),
        (Start::Back(11), 20),
        (Start::Back(1000), 10),
        (Start::From(15), 10),
        (Start::From(20), 20),
        (Start::From(39), 30),
        (Start::From(40), 40),
        (Start::Live, 40),
    ];
    for (start, first) in starts {
        let (mut publisher, hub) = grouped(10, 25);
        send_items(&mut publisher, [10; 4]);
        let mut consumer = hub
            .subscribe(SubscribeOptions {
                overflow: OverflowPolicy::Disconnect,
                buffer: 1,
                start,
                ..SubscribeOptions::default()
            })
            .unwrap();
        publisher.consumers();
        let account = consumer.stats().snapshot();
        assert_eq!((account.first_sequence, account.burst_items), (first, 40 - first), "{start:?}");
        assert_eq!((account.queued, account.lost.total()), (40 - first, 0), "{start:?}");
        let items = drain(&mut consumer);
        assert!(items.into_iter().eq((first + 9..40).step_by(10).map(|last| (last, None))), "{start:?}");
    }
    // Blocks that have left the history are lost.
    let (mut publisher, hub) = grouped(10, 25);
    send_items(&mut publisher, [10; 4]);
    let mut consumer =
        hub.subscribe(SubscribeOptions { start: Start::From(5), ..SubscribeOptions::default() }).unwrap();
    publisher.consumers();
    assert_eq!(drain_one(&mut consumer), (19, Some(Gap { from: 5, items: 5, reason: Loss::History })));
}

/// The limits are those of single blocks, exceeded by less than an item.
#[test]
fn limits_are_in_blocks() {
    for (blocks, queued) in [(1, 100), (3, 102), (10, 100)] {
        let limits = [
            (OverflowPolicy::DropNewest, queued),
            (OverflowPolicy::Disconnect, queued),
            (OverflowPolicy::SkipToLive, 200_u64.next_multiple_of(blocks)),
        ];
        for (overflow, limit) in limits {
            // Single blocks do not come in rings for ten.
            let (mut publisher, hub) = grouped(blocks as usize, 0);
            let mut consumer = subscribe(&hub, overflow, 100);
            send_items(&mut publisher, (0..300).map(|_| blocks));
            let account = consumer.stats().snapshot();
            assert_eq!(account.queued, limit, "{overflow}, items of {blocks}");
            assert_eq!(account.offered, account.queued + account.lost.of(Loss::Overflow));
            if overflow == OverflowPolicy::Disconnect {
                assert_eq!(account.lost.of(Loss::Overflow), blocks, "the first item that does not fit");
            }
            drain(&mut consumer);
        }
    }
}

/// A batch is as long as the limit allows, also where the ring has more slots.
#[test]
fn a_batch_does_not_pass_the_limit() {
    for batch in [2, 3, 7] {
        let (mut publisher, hub) = grouped(10, 0);
        let consumer = subscribe(&hub, OverflowPolicy::DropNewest, 30);
        for _ in 0..10 {
            (0..batch).for_each(|_| push_item(&mut publisher, 10));
            publisher.flush();
        }
        assert_eq!(consumer.stats().snapshot().queued, 30, "batches of {batch}");
    }
}

/// The ring of a fan-out of ten blocks an item has few slots. Items of single blocks fill it before its limit: a loss that
/// is counted, and nothing else.
#[test]
fn short_items_may_fill_a_ring_early() {
    let (mut publisher, hub) = grouped(10, 0);
    let mut consumer = subscribe(&hub, OverflowPolicy::DropNewest, 100);
    send_items(&mut publisher, (0..100).map(|_| 1));
    let account = consumer.stats().snapshot();
    assert_eq!((account.queued, account.lost.of(Loss::Overflow)), (18, 82), "ten slots, and eight for short items");
    assert_eq!(drain(&mut consumer).len(), 18);
    // Eight of them fit, as an encoder makes them before gaps.
    send_items(&mut publisher, (0..18).map(|item| if item % 2 == 0 { 2 } else { 9 }));
    assert_eq!(drain(&mut consumer).len(), 18);
    assert_eq!(consumer.stats().snapshot().lost.total(), 82);
}

/// A history of single blocks has more items than rings for ten blocks an item usually hold.
#[test]
fn a_history_of_short_items_ends_no_consumer() {
    for overflow in [OverflowPolicy::Disconnect, OverflowPolicy::Block] {
        let (mut publisher, hub) =
            Publisher::new(PublisherOptions { group: 10, history: 100, live: false, ..PublisherOptions::default() });
        send_items(&mut publisher, (0..100).map(|_| 1));
        let mut consumer = hub
            .subscribe(SubscribeOptions {
                overflow,
                buffer: 10,
                start: Start::Back(100),
                ..SubscribeOptions::default()
            })
            .unwrap();
        publisher.consumers();
        send_items(&mut publisher, [10]);
        let account = consumer.stats().snapshot();
        assert_eq!((account.queued, account.lost.total()), (110, 0), "{overflow}");
        assert_eq!(drain(&mut consumer).len(), 101);
    }
}

#[test]
fn a_skip_counts_blocks() {
    let (mut publisher, hub) = grouped(10, 0);
    let mut consumer = subscribe(&hub, OverflowPolicy::SkipToLive, 20);
    send_items(&mut publisher, [10, 10, 10, 4]);
    let gap = Gap { from: 0, items: 30, reason: Loss::SkippedToLive };
    assert_eq!(drain(&mut consumer), [(33, Some(gap))], "24 behind is too late");
    send_items(&mut publisher, [7, 7]);
    consumer.skip_to_newest();
    assert_eq!(drain(&mut consumer), [(47, Some(Gap { from: 34, items: 7, reason: Loss::SkippedToNewest }))]);
    let account = consumer.stats().snapshot();
    assert_eq!(
        (account.lost.of(Loss::SkippedToLive), account.lost.of(Loss::SkippedToNewest), account.delivered),
        (30, 7, 11)
    );
}

#[test]
fn latest_replaces_whole_items() {
    let (mut publisher, hub) = grouped(10, 0);
    let mut consumer = subscribe(&hub, OverflowPolicy::Latest, 1);
    send_items(&mut publisher, [10, 3, 5]);
    let account = consumer.stats().snapshot();
    assert_eq!((account.queued, account.lost.of(Loss::Conflated)), (5, 13));
    assert_eq!(drain(&mut consumer), [(17, Some(Gap { from: 0, items: 13, reason: Loss::Conflated }))]);
}

#[test]
#[should_panic(expected = "sequence number 14 less 5 is below 10, the next one")]
fn items_do_not_overlap() {
    let (mut publisher, _hub) = grouped(10, 0);
    send_items(&mut publisher, [10]);
    publisher.push(Stamp { sequence: 14, preceding: 5, ..Stamp::default() }, 14);
}

#[test]
#[should_panic(expected = "sequence number 3 less 4 is below 0, the next one")]
fn no_block_is_before_the_first() {
    let (mut publisher, _hub) = grouped(10, 0);
    publisher.push(Stamp { sequence: 3, preceding: 4, ..Stamp::default() }, 3);
}

#[test]
#[should_panic(expected = "an item of 11 blocks is longer than 10")]
fn an_item_is_no_longer_than_agreed() {
    send_items(&mut grouped(10, 0).0, [11]);
}

/// A source that was away for hours costs a consumer no more than one that lost a block: a loop over the missing blocks
/// would take weeks here.
#[test]
fn the_length_of_a_gap_costs_nothing() {
    const MISSING: u64 = 1_000_000_000_000_000;
    ends(|| {
        for overflow in
            [OverflowPolicy::SkipToLive, OverflowPolicy::DropNewest, OverflowPolicy::Latest, OverflowPolicy::Disconnect]
        {
            let (mut publisher, hub) = Publisher::new(PublisherOptions { history: 4, ..PublisherOptions::default() });
            let mut consumer = subscribe(&hub, overflow, 8);
            send(&mut publisher, 1);
            assert_eq!(drain(&mut consumer), [(0, None)]);
            publisher.advance_to(1 + MISSING);
            send(&mut publisher, 1);
            let gap = consumer.try_recv_at(Timestamp::default()).unwrap().gap.unwrap();
            assert_eq!((gap.from, gap.items), (1, MISSING), "{overflow}");
            assert!(overflow == OverflowPolicy::Latest || gap.reason == Loss::Source, "{overflow}: {gap:?}");
            // And the same at the end, where no item shows it.
            publisher.advance_to(2 + 2 * MISSING);
            publisher.finish(EndReason::Finished);
            let end = consumer.recv().unwrap_err();
            assert_eq!(end.gap, Some(Gap { from: 2 + MISSING, items: MISSING, reason: Loss::Source }), "{overflow}");
            let snapshot = consumer.stats().snapshot();
            assert_eq!((snapshot.offered, snapshot.delivered), (2 + 2 * MISSING, 2));
            assert_eq!(snapshot.lost.of(Loss::Source), 2 * MISSING);
            assert_eq!((consumer.stats().lag_items().max(), consumer.stats().gap_items().max()), (MISSING, MISSING));
        }
    });
}

/// Reads the counts all the time, while both ends write them.
fn watch(stats: &Stats, capacity: u64, begin: &Barrier, done: &AtomicBool) {
    let mut last = stats.snapshot();
    begin.wait();
    loop {
        let ending = done.load(Ordering::Acquire);
        let now = stats.snapshot();
        assert_eq!(now.offered, now.delivered + now.lost.total() + now.queued);
        // More would be the items of two moments. A watch that sees them takes a healthy consumer for a slow one.
        assert!(now.queued <= capacity, "more than a ring of {capacity} holds: {now:?}");
        // The blocks between the consumer's position and the newest one offered are queued, or lost before they were due.
        let rest = now.first_sequence + now.offered - now.next_sequence;
        assert!(now.queued <= rest && rest <= now.queued + now.lost.total(), "not of one moment: {now:?}");
        assert!(now.next_sequence >= last.next_sequence, "{last:?} then {now:?}");
        assert!(now.offered >= last.offered && now.delivered >= last.delivered, "{last:?} then {now:?}");
        assert!(Loss::ALL.iter().all(|reason| now.lost.of(*reason) >= last.lost.of(*reason)), "{last:?} {now:?}");
        last = now;
        if ending {
            return;
        }
    }
}

#[test]
fn the_counts_are_right_while_they_are_written() {
    /// Length of the test. Some hundred thousand snapshots are taken meanwhile.
    const BLOCKS: u64 = 100_000;
    const BUFFER: u64 = 16;
    let policies =
        [OverflowPolicy::SkipToLive, OverflowPolicy::DropNewest, OverflowPolicy::Latest, OverflowPolicy::Block];
    for (overflow, group) in policies.into_iter().flat_map(|overflow| [(overflow, 1), (overflow, 10)]) {
        let (mut publisher, hub) =
            Publisher::new(PublisherOptions { live: false, group, ..PublisherOptions::default() });
        let mut consumer = subscribe(&hub, overflow, BUFFER as usize);
        let stats = Arc::clone(consumer.stats());
        let capacity = match overflow {
            OverflowPolicy::SkipToLive => 2 * BUFFER + group as u64 - 1,
            // The item that is being taken right now, and the newest one.
            OverflowPolicy::Latest => 2 * group as u64,
            _ => BUFFER + group as u64 - 1,
        };
        let (begin, done) = (Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(&stats, capacity, &begin, &done));
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                while publisher.next_sequence() < BLOCKS {
                    let hole = u64::from(publisher.next_sequence() % 1000 >= 1000 - group as u64);
                    for _ in 0..1 + publisher.next_sequence() % 7 {
                        while !publisher.has_room(1) {
                            publisher.flush();
                            thread::yield_now();
                        }
                        let first = publisher.next_sequence() + hole;
                        let preceding = (first / 3 % group as u64) as u32;
                        let sequence = first + u64::from(preceding);
                        publisher.push(Stamp { sequence, preceding, ..Stamp::default() }, sequence);
                    }
                    publisher.flush();
                }
                publisher.finish(EndReason::Finished);
            });
            let (mut received, mut missed, mut next, mut taken) = (0, 0, 0, 0_u64);
            let end = loop {
                match consumer.recv() {
                    Ok(delivery) => {
                        let gap = delivery.gap.map_or(0, |gap| gap.items);
                        let stamp = delivery.item.stamp;
                        assert_eq!(stamp.first(), next + gap);
                        next = stamp.next();
                        received += stamp.blocks();
                        missed += gap;
                        taken += 1;
                        // Sometimes several at once.
                        if let Ok(batch) = consumer.try_recv_batch(Timestamp::now(), taken as usize % 4) {
                            next += batch.gap.map_or(0, |gap| gap.items);
                            missed += batch.gap.map_or(0, |gap| gap.items);
                            for item in batch.iter() {
                                assert_eq!(item.stamp.first(), next);
                                next = item.stamp.next();
                            }
                            received += batch.blocks();
                            taken += batch.items() as u64;
                        }
                        // Stalls sometimes, until the producer has filled the ring.
                        for _ in 0..if taken % 500 == 0 { 20_000 } else { 0 } {
                            hint::spin_loop();
                        }
                    }
                    Err(end) => break end,
                }
            };
            missed += end.gap.map_or(0, |gap| gap.items);
            done.store(true, Ordering::Release);
            watcher.join().unwrap();
            let last = consumer.stats().snapshot();
            assert_eq!((last.delivered, last.lost.total(), last.queued), (received, missed, 0), "{overflow}");
            assert_eq!(last.offered, received + missed);
            if overflow == OverflowPolicy::Block {
                assert_eq!(last.lost.total(), last.lost.of(Loss::Source), "only the source lost anything");
            }
        });
    }
}

/// A consumer that takes an item and reads the counts at once finds it offered. Counted later, a snapshot in between would
/// have more items delivered than offered. That window is a nanosecond wide, so the test reads very often.
#[test]
fn an_item_is_counted_before_it_can_be_taken() {
    const ITEMS: u64 = 100_000;
    for (overflow, batch) in [(OverflowPolicy::Block, 1), (OverflowPolicy::Block, 2), (OverflowPolicy::Latest, 1)] {
        let (mut publisher, hub) = Publisher::new(PublisherOptions { live: false, ..PublisherOptions::default() });
        let mut consumer =
            hub.subscribe(SubscribeOptions { overflow, buffer: 8, ..SubscribeOptions::default() }).unwrap();
        let producer = thread::spawn(move || {
            while publisher.next_sequence() < ITEMS {
                while !publisher.has_room(batch) {
                    thread::yield_now();
                }
                for _ in 0..batch {
                    let sequence = publisher.next_sequence();
                    publisher.push(Stamp { sequence, ..Stamp::default() }, sequence);
                }
                publisher.flush();
            }
        });
        let mut next = 0;
        while next < ITEMS {
            match consumer.try_recv_at(Timestamp::default()) {
                Ok(delivery) => {
                    next = delivery.item.value + 1;
                    let account = consumer.stats().snapshot();
                    assert!(account.offered >= next, "{overflow}: {next} taken, {} offered", account.offered);
                }
                Err(_) => hint::spin_loop(),
            }
        }
        producer.join().unwrap();
    }
}

#[test]
fn a_timeout_may_be_as_long_as_possible() {
    let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
    let mut consumer = subscribe(&hub, OverflowPolicy::SkipToLive, 1);
    send(&mut publisher, 1);
    assert_eq!(consumer.recv_timeout(Duration::MAX).unwrap().item.value, 0);
    assert_eq!(consumer.recv_timeout(Duration::ZERO), Err(TryRecvError::Empty));
}
