//! What one consumer is owed, kept apart from the engine's own account, and compared with that after every event.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::ensure;
use super::log::{Before, Entry, Log, Offered};
use crate::{
    Block, Consumer, Delivery, End, EndReason, Gap, Item, Loss, OverflowPolicy, Snapshot, Start, Stats,
    SubscribeOptions, Timestamp, TryRecvError,
};

/// Gap reasons that wait in a consumer's queue, at most: with more gaps, the reason of some falls back.
const MAX_GAP_REASONS: usize = 16;
/// Short items for which a ring has room beside its full ones.
const SHORT_ITEMS: u64 = 8;

/// A value whose content can be checked.
pub(super) trait Payload: Send + Sync + fmt::Debug + Sized {
    /// Returns a number that is another one for every other content.
    fn content(item: &Item<Self>) -> u64;
}

/// An item of the encoder: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet(pub(super) u64);

impl Payload for Packet {
    fn content(item: &Item<Self>) -> u64 {
        item.value.0
    }
}

impl Payload for Block {
    /// The 64-bit hash FNV-1a of all that a block has.
    fn content(item: &Item<Self>) -> u64 {
        let header = [u64::from(item.frames()), item.position(), item.stamp.captured_at.as_nanos()];
        let words = header.into_iter().chain(item.samples().iter().map(|sample| u64::from(sample.to_bits())));
        words.fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ word).wrapping_mul(0x0100_0000_01b3))
    }
}

/// Outcome of taking an item.
#[derive(Debug)]
pub(super) enum Taken<T> {
    Item(Arc<Item<T>>, Option<Gap>),
    Empty,
    Ended(End),
}

impl<T> fmt::Display for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(item, gap) => write!(f, "took {}..{} after {gap:?}", item.stamp.first(), item.stamp.next()),
            Self::Empty => f.write_str("empty"),
            Self::Ended(end) => write!(f, "{end:?}"),
        }
    }
}

/// A consumer and the model of it.
#[derive(Debug)]
pub(super) struct Listener<T: Payload> {
    consumer: Option<Consumer<T>>,
    stats: Arc<Stats>,
    options: SubscribeOptions,
    buffer: u64,
    group: u64,
    /// Blocks of history that its ring has room for.
    past: u64,
    is_admitted: bool,
    first: u64,
    /// One past the last sequence number offered.
    offered_to: u64,
    /// Items that it has not taken.
    queue: VecDeque<Entry>,
    /// The sequence number that it expects next.
    expected: u64,
    /// One past the last sequence number taken or skipped.
    passed: u64,
    /// Lost sequence numbers that it was not told of yet: the first, one past the last, and the reason.
    losses: BTreeMap<u64, (u64, Loss)>,
    lost: [u64; Loss::ALL.len()],
    delivered: u64,
    delivered_items: u64,
    told: u64,
    told_gaps: u64,
    /// The items after gaps whose reasons are queued, and those for whose reasons there was no room.
    named_gaps: Vec<u64>,
    unnamed_gaps: Vec<u64>,
    /// Lag that it asked for and still has.
    requested: u64,
    newest_next: bool,
    /// Whether everything queued was skipped and nothing taken since.
    skipped_all: bool,
    /// How it must end, and one past the last sequence number.
    ends: Option<(EndReason, u64)>,
    /// Whether it was closed or dropped.
    is_dismissed: bool,
    is_closed: bool,
    end: Option<End>,
    /// Items and blocks of a batch that was leaked: they have been delivered, and keep their slots in the ring until the
    /// consumer looks again.
    forgotten: (u64, u64),
    wakes: Arc<Wakes>,
    /// Wake-ups when it began to wait.
    armed_at: Option<u64>,
    /// Items that it keeps, and their contents.
    held: Vec<(Arc<Item<T>>, u64)>,
    last: Option<Snapshot>,
}

impl<T: Payload> Listener<T> {
    pub(super) fn new(consumer: Consumer<T>, options: SubscribeOptions, log: &Log) -> Self {
        let past = match options.start {
            Start::Live => 0,
            Start::Back(blocks) => blocks.min(log.history),
            Start::From(_) => log.history,
        };
        Self {
            stats: Arc::clone(consumer.stats()),
            consumer: Some(consumer),
            options,
            buffer: options.buffer.max(1) as u64,
            group: log.group,
            past: if past > 0 { past + log.group - 1 } else { 0 },
            is_admitted: false,
            first: 0,
            offered_to: 0,
            queue: VecDeque::new(),
            expected: 0,
            passed: 0,
            losses: BTreeMap::new(),
            lost: [0; Loss::ALL.len()],
            delivered: 0,
            delivered_items: 0,
            told: 0,
            told_gaps: 0,
            named_gaps: Vec::new(),
            unnamed_gaps: Vec::new(),
            requested: 0,
            newest_next: false,
            skipped_all: false,
            ends: None,
            is_dismissed: false,
            is_closed: false,
            end: None,
            forgotten: (0, 0),
            wakes: Arc::default(),
            armed_at: None,
            held: Vec::new(),
            last: None,
        }
    }

    /// Returns whether the source must wait for it: it has no room.
    pub(super) fn holds_the_source(&self) -> bool {
        self.options.overflow == OverflowPolicy::Block && !self.is_over() && self.is_full()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_dismissed || self.ends.is_some()
    }

    fn queued(&self) -> u64 {
        self.queue.iter().map(Entry::blocks).sum()
    }

    /// Returns whether it is behind by its buffer, so that its policy may act.
    fn is_full(&self) -> bool {
        let (items, blocks) = self.forgotten;
        self.queued() + blocks >= self.buffer
            || self.queue.len() as u64 + items >= self.buffer.div_ceil(self.group) + SHORT_ITEMS
    }

    fn lose(&mut self, from: u64, to: u64, reason: Loss) {
        if to > from {
            self.losses.insert(from, (to, reason));
            self.lost[reason as usize] += to - from;
        }
    }

    /// Follows a turn of the producer. `forced` says that the producer did not wait for room.
    pub(super) fn follow(&mut self, log: &Log, before: Before, head: u64, forced: bool) -> Result<(), String> {
        if self.is_dismissed {
            return self.check(head);
        }
        let mut offered = Vec::new();
        if !self.is_admitted {
            ensure!(self.stats.is_attached(), "a turn of the producer did not admit it");
            offered = self.admit(log, before)?;
        }
        offered.extend(log.offered_since(before));
        if self.ends.is_none() {
            self.offer(&offered, forced)?;
        }
        self.check(head)
    }

    /// Follows the last turn of the producer, and its end in order after everything in the log.
    pub(super) fn follow_then_finish(
        &mut self,
        log: &Log,
        before: Before,
        reason: EndReason,
        head: u64,
    ) -> Result<(), String> {
        if !self.is_dismissed && !self.is_admitted {
            ensure!(self.stats.is_attached(), "was not admitted before the end");
            let owed = self.admit(log, before)?;
            self.offer(&owed, true)?;
        }
        self.finish(reason, log.next, head)
    }

    /// Returns one past the last sequence number that it can know of.
    pub(super) fn end_of_sequence(&self) -> u64 {
        self.end.and_then(|end| end.gap).map_or(self.expected, |gap| gap.from + gap.items)
    }

    /// Finds its first item. Returns what the history has for it.
    fn admit(&mut self, log: &Log, before: Before) -> Result<Vec<Offered>, String> {
        let history = &log.entries[log.oldest(before.entries)..before.entries];
        let oldest = history.first().map_or(before.next, |entry| entry.first);
        let requested = match self.options.start {
            Start::Live => before.next,
            Start::Back(blocks) => before.next.saturating_sub(blocks).max(oldest),
            Start::From(sequence) => sequence.min(before.next),
        };
        let owed: Vec<Entry> = history.iter().filter(|entry| entry.next > requested).copied().collect();
        // A start inside an item starts with the whole item.
        self.first = owed.first().map_or(requested, |entry| entry.first.min(requested));
        let kept = self.first.max(oldest);
        self.lose(self.first, kept, Loss::History);
        self.requested = before.next - kept;
        (self.offered_to, self.expected, self.passed) = (kept, self.first, self.first);
        self.is_admitted = true;
        let snapshot = self.stats.snapshot();
        ensure!(
            (snapshot.first_sequence, snapshot.burst_items) == (self.first, self.requested),
            "starts with {} and a burst of {}, instead of {} and {}",
            snapshot.first_sequence,
            snapshot.burst_items,
            self.first,
            self.requested
        );
        Ok(owed.into_iter().map(Offered::Item).collect())
    }

    /// Finds out which items were refused, and whether that was right.
    fn offer(&mut self, offered: &[Offered], forced: bool) -> Result<(), String> {
        let items: Vec<Entry> = offered.iter().filter_map(Offered::item).collect();
        let snapshot = self.stats.snapshot();
        let refused = snapshot.lost.of(Loss::Overflow) - self.lost[Loss::Overflow as usize];
        let disconnects = self.options.overflow == OverflowPolicy::Disconnect;
        // Nothing leaves the ring meanwhile, so once an item is refused, all later ones are.
        let mut accepted = items.len();
        if refused > 0 && disconnects {
            let end = self.first + snapshot.offered;
            accepted = items
                .iter()
                .position(|entry| entry.next == end)
                .ok_or_else(|| format!("was disconnected at {end}, which is no item's end"))?;
            ensure!(items[accepted].blocks() == refused, "{refused} refused at a disconnection");
        } else {
            let mut rest = refused;
            while rest > 0 {
                ensure!(accepted > 0, "{refused} blocks refused, more than were offered");
                accepted -= 1;
                let blocks = items[accepted].blocks();
                ensure!(blocks <= rest, "{refused} blocks refused, which is no number of whole items");
                rest -= blocks;
            }
        }
        let mut left = accepted;
        for offered in offered {
            let entry = match offered {
                Offered::Item(entry) => entry,
                Offered::LostOnHop(next) => {
                    self.lose(self.offered_to, *next, Loss::Hop);
                    self.offered_to = self.offered_to.max(*next);
                    continue;
                }
            };
            self.lose(self.offered_to, entry.first, Loss::Source);
            let has_gap = self.losses.range(..entry.first).next_back().is_some_and(|(_, (to, reason))| {
                *to == entry.first && matches!(reason, Loss::Source | Loss::Hop | Loss::Overflow | Loss::History)
            });
            self.offered_to = entry.next;
            if left > 0 {
                left -= 1;
                if has_gap && self.named_gaps.len() < MAX_GAP_REASONS {
                    self.named_gaps.push(entry.first);
                } else if has_gap {
                    self.unnamed_gaps.push(entry.first);
                }
                if self.options.overflow == OverflowPolicy::Latest
                    && let Some(replaced) = self.queue.pop_front()
                {
                    self.lose(replaced.first, replaced.next, Loss::Conflated);
                }
                self.queue.push_back(*entry);
            } else {
                self.lose(entry.first, entry.next, Loss::Overflow);
                if disconnects {
                    self.ends = Some((EndReason::TooSlow, entry.next));
                    break;
                }
            }
        }
        if refused > 0 {
            ensure!(
                self.is_full(),
                "blamed for {refused} blocks, with {} queued and a buffer of {}",
                self.queued(),
                self.buffer
            );
            ensure!(
                self.options.overflow != OverflowPolicy::Block || forced,
                "{refused} blocks lost, although the source waits for it"
            );
            ensure!(self.options.overflow != OverflowPolicy::Latest, "the newest item was refused");
        }
        if accepted > 0 || self.ends.is_some() {
            self.check_woken()?;
        }
        Ok(())
    }

    /// The producer ended in order, after `next`.
    pub(super) fn finish(&mut self, reason: EndReason, next: u64, head: u64) -> Result<(), String> {
        if !self.is_over() {
            ensure!(self.is_admitted, "was not admitted before the end");
            self.lose(self.offered_to, next, Loss::Source);
            self.offered_to = self.offered_to.max(next);
            self.ends = Some((reason, self.offered_to));
            self.check_woken()?;
        }
        self.check(head)
    }

    /// The producer was dropped.
    pub(super) fn abandon(&mut self, head: u64) -> Result<(), String> {
        if !self.is_over() {
            self.ends = Some((EndReason::Abandoned, self.offered_to));
            self.check_woken()?;
        }
        self.check(head)
    }

    fn check_woken(&mut self) -> Result<(), String> {
        let woken = self.armed_at.take().is_none_or(|before| self.wakes.count() > before);
        ensure!(woken, "waits and was not woken");
        Ok(())
    }

    /// Takes the next item.
    pub(super) fn take(&mut self, head: u64, now: Timestamp) -> Result<Taken<T>, String> {
        let Some(consumer) = &mut self.consumer else { return Ok(Taken::Empty) };
        self.forgotten = (0, 0);
        let received = consumer.try_recv_at(now);
        let taken = self.judge(received, head)?;
        self.check(head)?;
        Ok(taken)
    }

    /// Takes several items at once. Leaks the batch if `forget`.
    pub(super) fn take_batch(&mut self, max: usize, forget: bool, head: u64, now: Timestamp) -> Result<String, String> {
        let Some(consumer) = &mut self.consumer else { return Ok("gone".into()) };
        self.forgotten = (0, 0);
        let mut rest = Vec::new();
        let received = match consumer.try_recv_batch(now, max) {
            Err(error) => Err(error),
            Ok(batch) => {
                let mut items: Vec<_> = batch.iter().cloned().collect();
                let blocks = items.iter().map(|item| item.stamp.blocks()).sum::<u64>();
                ensure!(
                    (batch.items(), batch.blocks()) == (items.len(), blocks),
                    "the batch miscounts itself: {batch:?}"
                );
                ensure!(items.len() <= max.max(1), "{} items instead of {max}", items.len());
                let delivery = Delivery { gap: batch.gap, lag_items: batch.lag_items, item: items.remove(0) };
                rest = items;
                if forget {
                    // The newest item alone is taken out of its place at once.
                    if self.options.overflow != OverflowPolicy::Latest {
                        self.forgotten = (batch.items() as u64, batch.blocks());
                    }
                    mem::forget(batch);
                }
                Ok(delivery)
            }
        };
        let taken = self.judge(received, head)?;
        let count = rest.len();
        for item in rest {
            ensure!(item.stamp.first() == self.expected, "a batch has a gap before {}", item.stamp.first());
            let entry = self.queue.pop_front().ok_or("a batch has an item that was not queued")?;
            self.deliver(&item, entry)?;
        }
        self.check(head)?;
        Ok(format!("{taken} and {count} more"))
    }

    /// Asks whether it is ready, and takes an item then.
    pub(super) fn poll_ready(&mut self, head: u64, now: Timestamp) -> Result<String, String> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let Some(consumer) = &mut self.consumer else { return Ok("gone".into()) };
        self.forgotten = (0, 0);
        let wakes = self.wakes.count();
        let is_ready = consumer.poll_ready(&mut Context::from_waker(&waker)).is_ready();
        if !is_ready && self.queue.is_empty() {
            // It only asks, and takes nothing.
            self.judge_empty(head, 0)?;
            self.check(head)?;
            self.armed_at = Some(wakes);
            return Ok("pending".into());
        }
        // Stale items may be queued, which are skipped.
        let taken = self.take(head, now)?;
        let has_something = !matches!(taken, Taken::Empty);
        ensure!(is_ready == has_something, "ready: {is_ready}, and then {taken}");
        if !is_ready {
            self.armed_at = Some(wakes);
            return Ok("pending".into());
        }
        Ok(taken.to_string())
    }

    /// Takes the next item, or begins to wait for it.
    pub(super) fn poll_recv(&mut self, head: u64, now: Timestamp) -> Result<String, String> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let Some(consumer) = &mut self.consumer else { return Ok("gone".into()) };
        self.forgotten = (0, 0);
        let wakes = self.wakes.count();
        let received = match consumer.poll_recv(&mut Context::from_waker(&waker), now) {
            Poll::Pending => {
                self.armed_at = Some(wakes);
                Err(TryRecvError::Empty)
            }
            Poll::Ready(Ok(delivery)) => Ok(delivery),
            Poll::Ready(Err(end)) => Err(TryRecvError::Ended(end)),
        };
        let taken = self.judge(received, head)?;
        self.check(head)?;
        Ok(taken.to_string())
    }

    fn judge(&mut self, received: Result<Delivery<T>, TryRecvError>, head: u64) -> Result<Taken<T>, String> {
        let lost = self.stats.snapshot().lost;
        let of = |reason: Loss| lost.of(reason) - self.lost[reason as usize];
        let skipped = of(Loss::SkippedToLive) + of(Loss::SkippedToNewest);
        match received {
            Ok(delivery) => self.judge_item(delivery, head, skipped),
            Err(TryRecvError::Empty) => {
                self.judge_empty(head, skipped)?;
                Ok(Taken::Empty)
            }
            Err(TryRecvError::Ended(end)) => {
                ensure!(skipped == 0, "{skipped} blocks skipped at the end");
                self.judge_end(end)?;
                Ok(Taken::Ended(end))
            }
        }
    }

    fn judge_item(&mut self, delivery: Delivery<T>, head: u64, skipped: u64) -> Result<Taken<T>, String> {
        let Delivery { gap, lag_items, item } = delivery;
        let stamp = item.stamp;
        ensure!(self.end.is_none() && !self.is_closed, "{stamp:?} came after the end");
        let before = self
            .queue
            .iter()
            .position(|entry| entry.next == stamp.next())
            .ok_or_else(|| format!("{stamp:?} came and was not queued; {:?} is next", self.queue.front()))?;
        let blocks: u64 = self.queue.iter().take(before).map(Entry::blocks).sum();
        ensure!(blocks == skipped, "{skipped} blocks skipped, and {blocks} left out");
        let lag = self.lag_of_front(head);
        let late = self.lag_of_front(head.min(self.offered_to));
        if mem::take(&mut self.newest_next) {
            ensure!(before + 1 == self.queue.len(), "the newest was requested, and {stamp:?} is not");
            self.skip(before, Loss::SkippedToNewest);
            self.requested = 0;
        } else if self.options.overflow == OverflowPolicy::SkipToLive {
            self.requested = self.requested.min(lag);
            let limit = self.buffer + self.requested;
            if before > 0 {
                ensure!(late > limit, "skipped {skipped} with a lag of {late} and a limit of {limit}");
                ensure!(before + 1 == self.queue.len(), "skipped to {stamp:?}, which is not the newest");
                self.skip(before, Loss::SkippedToLive);
                self.requested = 0;
            } else {
                let may = late <= limit || self.ends.is_some() || self.skipped_all;
                ensure!(may, "not skipped with a lag of {late} and a limit of {limit}");
                if late > limit && self.ends.is_none() {
                    self.requested = 0;
                }
            }
        } else {
            ensure!(before == 0, "{skipped} blocks skipped, against its policy");
        }
        self.skipped_all = false;
        self.armed_at = None;
        ensure!(
            lag_items == head.saturating_sub(stamp.next()),
            "a lag of {lag_items} at {stamp:?} and the head {head}"
        );
        self.tell(stamp.first(), gap)?;
        let entry = self.queue.pop_front().ok_or("the queue is empty")?;
        self.deliver(&item, entry)?;
        Ok(Taken::Item(item, gap))
    }

    fn lag_of_front(&self, head: u64) -> u64 {
        self.queue.front().map_or(0, |entry| head.saturating_sub(entry.next))
    }

    fn skip(&mut self, items: usize, reason: Loss) {
        for _ in 0..items {
            if let Some(entry) = self.queue.pop_front() {
                self.lose(entry.first, entry.next, reason);
                self.passed = entry.next;
            }
        }
    }

    fn deliver(&mut self, item: &Arc<Item<T>>, entry: Entry) -> Result<(), String> {
        let stamp = item.stamp;
        ensure!(
            (stamp.first(), stamp.next()) == (entry.first, entry.next),
            "{stamp:?} instead of {}..{}",
            entry.first,
            entry.next
        );
        ensure!(T::content(item) == entry.content, "another content of {stamp:?}");
        self.delivered += entry.blocks();
        self.delivered_items += 1;
        (self.expected, self.passed) = (entry.next, entry.next);
        Ok(())
    }

    fn judge_empty(&mut self, head: u64, skipped: u64) -> Result<(), String> {
        if self.queue.is_empty() {
            ensure!(skipped == 0, "{skipped} blocks skipped, with none queued");
            ensure!(self.ends.is_none() && !self.is_closed && self.end.is_none(), "empty instead of ended");
            return Ok(());
        }
        let late = self.lag_of_front(head.min(self.offered_to));
        self.requested = self.requested.min(self.lag_of_front(head));
        let limit = self.buffer + self.requested;
        ensure!(
            skipped == self.queued() && self.options.overflow == OverflowPolicy::SkipToLive && !self.newest_next,
            "empty, with {:?} queued",
            self.queue
        );
        ensure!(late > limit, "all was skipped with a lag of {late} and a limit of {limit}");
        ensure!(!self.skipped_all, "all was skipped twice in a row");
        self.skip(self.queue.len(), Loss::SkippedToLive);
        (self.skipped_all, self.requested) = (true, 0);
        Ok(())
    }

    fn judge_end(&mut self, end: End) -> Result<(), String> {
        if let Some(first) = self.end {
            ensure!(first == end, "ended as {first:?}, and then as {end:?}");
            return Ok(());
        }
        if self.is_closed {
            ensure!(end == End { reason: EndReason::Closed, gap: None }, "closed, and ended as {end:?}");
        } else {
            let Some((reason, next)) = self.ends else { return Err(format!("ended as {end:?} by itself")) };
            ensure!(self.queue.is_empty(), "ended with {} items queued", self.queue.len());
            ensure!(end.reason == reason, "ended as {end:?} instead of {reason:?}");
            self.tell(next, end.gap)?;
            ensure!(self.losses.is_empty(), "never told of {:?}", self.losses);
        }
        self.armed_at = None;
        self.end = Some(end);
        Ok(())
    }

    /// Checks the gap that it is told before `next`.
    fn tell(&mut self, next: u64, gap: Option<Gap>) -> Result<(), String> {
        let missing = next.saturating_sub(self.expected);
        let later = self.losses.split_off(&next);
        let causes = mem::replace(&mut self.losses, later);
        let mut counts = [0; Loss::ALL.len()];
        causes.iter().for_each(|(from, (to, reason))| counts[*reason as usize] += to - from);
        ensure!(counts.iter().sum::<u64>() == missing, "{missing} missing before {next}, and lost were {causes:?}");
        let Some(gap) = gap else {
            ensure!(missing == 0, "not told of {causes:?}");
            return Ok(());
        };
        ensure!((gap.from, gap.items) == (self.expected, missing) && missing > 0, "{gap:?} instead of {causes:?}");
        // Before this item, or one that was skipped on the way to it.
        let is_unnamed = self.unnamed_gaps.iter().any(|first| *first <= next);
        let may_fall_back = is_unnamed && matches!(gap.reason, Loss::Overflow | Loss::Conflated);
        self.named_gaps.retain(|first| *first > next);
        self.unnamed_gaps.retain(|first| *first > next);
        ensure!(counts[gap.reason as usize] > 0 || may_fall_back, "{gap:?} blames another: {causes:?}");
        self.told += missing;
        self.told_gaps += 1;
        Ok(())
    }

    pub(super) fn skip_to_newest(&mut self) {
        if let Some(consumer) = &mut self.consumer {
            consumer.skip_to_newest();
            self.newest_next = true;
        }
    }

    pub(super) fn close(&mut self) -> Result<(), String> {
        self.stats.close();
        let waits = self.armed_at.is_some() && self.ends.is_none();
        (self.is_closed, self.is_dismissed) = (true, true);
        if waits { self.check_woken() } else { Ok(()) }
    }

    /// Drops the consumer.
    pub(super) fn leave(&mut self) -> Result<(), String> {
        if self.consumer.take().is_some() {
            self.is_dismissed = true;
            self.armed_at = None;
            let reason = self.stats.end_reason();
            let right = self.ends.map_or(EndReason::Left, |ends| ends.0);
            ensure!(self.is_closed || reason == Some(right), "left, and ended as {reason:?}");
        }
        Ok(())
    }

    /// Leaks the consumer: it takes nothing any more, and has not left.
    pub(super) fn leak(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            mem::forget(consumer);
            self.armed_at = None;
        }
    }

    /// Keeps an item, whose content must not change.
    pub(super) fn hold(&mut self, item: Arc<Item<T>>) {
        let content = T::content(&item);
        self.held.push((item, content));
    }

    pub(super) fn let_go(&mut self) -> Result<(), String> {
        for (item, content) in self.held.drain(..) {
            ensure!(T::content(&item) == content, "{:?} changed while it was held", item.stamp);
        }
        Ok(())
    }

    /// Compares the engine's account with the model.
    pub(super) fn check(&mut self, head: u64) -> Result<(), String> {
        let now = self.stats.snapshot();
        let sum = now.delivered + now.lost.total() + now.queued;
        ensure!(now.offered == sum, "{} offered, and {sum} delivered, lost and queued", now.offered);
        let capacity = match self.options.overflow {
            OverflowPolicy::SkipToLive => 2 * self.buffer + self.past,
            OverflowPolicy::Latest => self.group,
            OverflowPolicy::DropNewest | OverflowPolicy::Disconnect | OverflowPolicy::Block => self.buffer + self.past,
        } + self.group
            - 1;
        ensure!(now.queued <= capacity, "{} queued in a ring for {capacity}", now.queued);
        if let Some(last) = self.last.replace(now) {
            let grows = last.offered <= now.offered
                && last.delivered <= now.delivered
                && last.next_sequence <= now.next_sequence;
            ensure!(grows, "counts went back: {last:?}, {now:?}");
        }
        if self.is_dismissed {
            return Ok(());
        }
        ensure!(now.delivered == self.delivered, "{} delivered instead of {}", now.delivered, self.delivered);
        for &reason in Loss::ALL {
            let (told, right) = (now.lost.of(reason), self.lost[reason as usize]);
            ensure!(told == right, "{told} lost by {reason:?} instead of {right}");
        }
        ensure!(now.queued == self.queued(), "{} queued instead of {}", now.queued, self.queued());
        if let Some(consumer) = &self.consumer {
            let items = consumer.queued_items();
            ensure!(items == self.queue.len(), "{items} items in the ring instead of {}", self.queue.len());
        }
        let offered = self.offered_to - self.first;
        ensure!(now.offered == offered, "{} offered instead of {offered}", now.offered);
        ensure!(now.next_sequence == self.passed, "at {} instead of {}", now.next_sequence, self.passed);
        let live = self.ends.map_or(head, |ends| ends.1);
        let lag = if self.is_admitted { live.saturating_sub(self.passed) } else { 0 };
        ensure!(now.lag_items == lag, "a lag of {} instead of {lag}", now.lag_items);
        let reason = self.stats.end_reason();
        ensure!(reason == self.ends.map(|ends| ends.0), "ended as {reason:?} instead of {:?}", self.ends);
        Ok(())
    }

    /// Takes everything, and checks the end and the histograms.
    pub(super) fn conclude(&mut self, head: u64, now: Timestamp) -> Result<(), String> {
        self.let_go()?;
        if self.consumer.is_none() {
            return self.check(head);
        }
        for _ in 0..self.queue.len() + 3 {
            if let Taken::Ended(end) = self.take(head, now)? {
                let again = self.take(head, now)?;
                ensure!(matches!(again, Taken::Ended(other) if other == end), "{again} after the end");
                return self.check_histograms();
            }
        }
        Err("it does not end".into())
    }

    fn check_histograms(&self) -> Result<(), String> {
        let count = |histogram: &crate::Histogram| histogram.summary().map_or(0, |summary| summary.count);
        let gaps = count(self.stats.gap_items());
        ensure!(gaps == self.told_gaps, "{gaps} gaps in the histogram instead of {}", self.told_gaps);
        if self.is_closed || !self.options.histograms {
            return Ok(());
        }
        ensure!(self.told == self.lost.iter().sum::<u64>(), "told of {} lost blocks of {:?}", self.told, self.lost);
        let due = self.delivered + self.told - self.lost[Loss::History as usize];
        let lags = count(self.stats.lag_items());
        // A bucket counts to 4 billion, and timestamps that jump by years lose more.
        let is_countable = due <= u64::from(u32::MAX);
        ensure!(lags == due || !is_countable, "{lags} lags in the histogram for {due} blocks");
        let waits = count(self.stats.queue_micros());
        ensure!(waits == self.delivered_items, "{waits} waits in the histogram for {} items", self.delivered_items);
        Ok(())
    }
}

/// Counts wake-ups.
#[derive(Debug, Default)]
struct Wakes(AtomicU64);

impl Wakes {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
