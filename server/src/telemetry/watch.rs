//! The watch: looks at the source and at the listeners that have a backlog ten times a second, and at all others once a
//! second; publishes changes as events, and ends listeners that are over their limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aircheck_api::{EventKind, EventState, LeaveReason, StreamState};
use aircheck_engine::{Loss, LossCounts, OverflowPolicy, Timestamp};
use tokio::time::{MissedTickBehavior, interval};

use crate::delivery::listener::Listener;
use crate::delivery::listeners::Listeners;
use crate::delivery::look_budget::LookBudget;
use crate::delivery::standing::Standing;
use crate::mount::Mount;
use crate::mounts::Mounts;

/// Time between two looks at a listener with a backlog: short enough for a limit of some blocks. A look takes two
/// microseconds, half of them for the kernel's answer. It is no multiple of a packet's length: looks in step with the packets
/// would find each of them on its way, take it for a backlog for minutes, and so be four times as many.
const LOOK_INTERVAL: Duration = Duration::from_millis(97);
/// Every so many looks, a listener without a backlog is looked at, too: once a second.
const HEALTHY_LOOKS: u64 = 10;
/// Losses of one listener, or of the source, are published at most this often, summed up.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which an ended listener may read nothing before its connection is closed without its stream's end.
const END_READ_TIMEOUT: Duration = Duration::from_secs(1);
/// A machine that has not answered for this long tells nothing about its program. A lost packet is sent again after 0.2 s.
const MAX_ANSWER_TIME: Duration = Duration::from_millis(500);

/// Watches the mounts and their listeners for as long as it is polled.
pub async fn watch(mounts: Arc<Mounts>, listeners: Arc<Listeners>) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::new();
    loop {
        ticks.tick().await;
        watch.take_new(&mounts);
        watch.look(&listeners, Timestamp::now());
    }
}

/// The state of everything at the last look.
#[derive(Debug)]
struct Watch {
    sources: Vec<SourceWatch>,
    /// Listeners that have unread sound, have lost blocks, or are to end.
    listeners: BTreeMap<u64, ListenerWatch>,
    /// Listeners that are looked at each time, or in turns if they are too many. A look may add one that is among them.
    attention: Vec<u64>,
    budget: LookBudget,
    looks: u64,
}

/// The state of the source of one mount at the last look.
#[derive(Debug)]
struct SourceWatch {
    mount: Arc<Mount>,
    /// Whether the source delivers; `None` before its first sound.
    is_live: Option<bool>,
    /// When its loss was published.
    lost_at: Timestamp,
    /// How long it had been lost in all when it last delivered.
    down_before: Duration,
    /// Outages that were seen.
    outages: u64,
    is_fallback: bool,
    losses: PublishedLosses,
}

/// The state of one listener at the last look.
#[derive(Debug, Default, PartialEq, Eq)]
struct ListenerWatch {
    losses: PublishedLosses,
    /// Whether it has fallen far behind and not caught up since.
    is_far_behind: bool,
    /// One past the last block that its program has read, and since when it has read no further, while sound waits for it.
    read: Option<(Timestamp, u64)>,
    /// When the listener last read something after it was ended, and its state then.
    end: Option<(Timestamp, ReadState)>,
}

/// Blocks delivered, bytes that are not acknowledged, and blocks unread: a listener that reads changes one of them.
type ReadState = (u64, u64, u64);

/// Losses that have been published.
#[derive(Debug, Default, PartialEq, Eq)]
struct PublishedLosses {
    blocks: u64,
    at: Option<Timestamp>,
}

impl PublishedLosses {
    /// Returns how many of `blocks` are to be published now: all unpublished ones, or none if some were published a moment
    /// ago.
    fn take_new(&mut self, blocks: u64, now: Timestamp) -> Option<u64> {
        let new = blocks - self.blocks;
        if new == 0 || self.at.is_some_and(|at| now.since(at) < LOSS_INTERVAL) {
            return None;
        }
        *self = Self { blocks, at: Some(now) };
        Some(new)
    }
}

impl Watch {
    fn new() -> Self {
        Self {
            sources: Vec::new(),
            listeners: BTreeMap::new(),
            attention: Vec::new(),
            budget: LookBudget::of_watch(),
            looks: 0,
        }
    }

    /// Takes the mounts that have come on the air since the last look, and forgets those that are removed.
    fn take_new(&mut self, mounts: &Mounts) {
        self.sources.retain(|source| !source.mount.is_removed());
        for served in mounts.served() {
            if !self.sources.iter().any(|source| Arc::ptr_eq(&source.mount, &served.mount)) {
                self.sources.push(SourceWatch::new(Arc::clone(&served.mount)));
            }
        }
    }

    fn look(&mut self, listeners: &Listeners, now: Timestamp) {
        self.looks += 1;
        let turn = self.looks % HEALTHY_LOOKS;
        self.attention.extend(listeners.take_attention());
        // With ten thousand numbers, which are nearly in order, a round takes a third of the time that it takes with sets.
        self.attention.sort_unstable();
        self.attention.dedup();
        let attention: Vec<_>;
        (attention, self.attention) =
            std::mem::take(&mut self.attention).into_iter().partition(|id| self.budget.grant(*id, self.looks));
        // A shard looks at a healthy one itself, from time to time.
        let is_due = |id: u64, listener: &Listener| {
            attention.binary_search(&id).is_ok() || (id % HEALTHY_LOOKS == turn && !listener.is_fresh(now))
        };
        if turn == 0 {
            // Once a second: a busy machine has thousands of these, and those that are gone harm nothing.
            self.listeners.retain(|id, _| listeners.is_present(*id));
        }
        for listener in listeners.select(is_due) {
            let mut watched = self.listeners.remove(&listener.id()).unwrap_or_default();
            watched.look(&listener, now);
            if listener.needs_attention() {
                self.attention.push(listener.id());
            }
            if watched != ListenerWatch::default() {
                self.listeners.insert(listener.id(), watched);
            }
        }
        self.sources.iter_mut().for_each(|source| source.look(now));
    }
}

impl SourceWatch {
    fn new(mount: Arc<Mount>) -> Self {
        Self {
            mount,
            is_live: None,
            lost_at: Timestamp::default(),
            down_before: Duration::ZERO,
            outages: 0,
            is_fallback: false,
            losses: PublishedLosses::default(),
        }
    }

    fn look(&mut self, now: Timestamp) {
        let outages = self.mount.capture().outages();
        let (count, outage) = (outages.count(), outages.current());
        // Read after the outage: a source that comes back meanwhile is seen at the next look.
        let state = self.mount.state();
        // A source that has ended loses nothing, and every listener gets the end.
        let is_silent = outage.is_some() || matches!(state, StreamState::Silent | StreamState::Fallback);
        let has_sound = state == StreamState::Ended || !is_silent;
        // An outage may be over before it is seen.
        let is_new = count > std::mem::replace(&mut self.outages, count);
        if is_new || (self.is_live == Some(true) && !has_sound) {
            if self.is_live != Some(false) {
                self.lost_at = now;
                // The stream is silent a little before its supervisor notices that nothing comes.
                let quiet = || (!is_new).then(|| "nothing comes from the source".to_owned());
                let reason = outage.map(|outage| outage.reason).or_else(quiet);
                self.mount.events().publish(None, EventKind::SourceLost { reason });
            }
            self.is_live = Some(false);
        }
        self.look_at_fallback(state == StreamState::Fallback);
        if self.is_live == Some(false) && has_sound {
            // A source without a supervisor that delivers nothing for a while has no outage.
            let down = self.mount.capture().outages().down(now).saturating_sub(self.down_before);
            let down_seconds = if down.is_zero() { now.since(self.lost_at) } else { down }.as_secs_f64();
            self.mount.events().publish(None, EventKind::SourceBack { down_seconds });
            self.is_live = Some(true);
        }
        let capture = self.mount.capture();
        if state == StreamState::Live {
            self.is_live = Some(true);
            self.down_before = capture.outages().down(now);
        }
        let lost = capture.lost_xrun() + capture.lost_overflow() + capture.lost_in_bursts();
        if let Some(blocks) = self.losses.take_new(lost, now) {
            self.mount.events().publish(None, EventKind::Xrun { blocks });
        }
    }

    fn look_at_fallback(&mut self, is_fallback: bool) {
        if std::mem::replace(&mut self.is_fallback, is_fallback) != is_fallback {
            let state = if is_fallback { EventState::Begin } else { EventState::End };
            self.mount.events().publish(None, EventKind::Fallback { state });
        }
    }
}

impl ListenerWatch {
    fn look(&mut self, listener: &Listener, now: Timestamp) {
        let standing = listener.standing(now);
        let (overdue, limits) = (standing.overdue(), listener.limits());
        let lag = |limit| Box::new(listener.lag_figures(&standing, Some(listener.mount().seconds(limit))));
        // Between half of the limit and the limit, nothing changes, so that a listener at the edge does not flap.
        if !listener.is_behind() && overdue >= limits.behind {
            listener.set_behind(true);
            listener.publish(EventKind::FellBehind { lag: lag(limits.behind) });
        } else if listener.is_behind() && overdue * 2 <= limits.behind {
            listener.set_behind(false);
            self.is_far_behind = false;
            listener.publish(EventKind::CaughtUp { lag: lag(limits.behind) });
        }
        if !self.is_far_behind && overdue >= limits.far_behind {
            self.is_far_behind = true;
            listener.publish(EventKind::FellFarBehind { lag: lag(limits.far_behind) });
        }
        if listener.is_behind() {
            listener.note_behind();
        }
        // Without losses before this server's listeners, and without items that the policy `latest` replaces.
        let lost = &standing.snapshot.lost;
        let own = lost.total() - lost.of(Loss::Conflated) - lost.of(Loss::Source) - lost.of(Loss::Hop);
        if let Some(blocks) = self.losses.take_new(own, now) {
            listener.publish(EventKind::Skipped { blocks, reason: main_reason(lost).label().into() });
        }
        if listener.overflow() == OverflowPolicy::Disconnect
            && limits.max_lag.is_some_and(|max_lag| standing.unrequested() > max_lag)
        {
            listener.end(LeaveReason::MaxLag, now);
        }
        if self.is_idle(&standing, limits.idle_timeout, now) {
            listener.end(LeaveReason::Idle, now);
        }
        if standing.is_gone {
            listener.end(LeaveReason::Gone, now);
            listener.hang_up();
        }
        if listener.has_ended() {
            listener.lag_at_end(now);
            let state = (standing.snapshot.delivered, standing.socket_bytes, standing.unread);
            match self.end {
                Some((since, last)) if last == state && now.since(since) >= END_READ_TIMEOUT => listener.hang_up(),
                Some((_, last)) if last == state => {}
                _ => self.end = Some((now, state)),
            }
        }
    }

    /// Returns whether its program has read nothing for longer than `timeout`, although sound waits for it. While its machine
    /// answers nothing, nothing is known of its program.
    fn is_idle(&mut self, standing: &Standing, timeout: Option<Duration>, now: Timestamp) -> bool {
        let Some(timeout) = timeout else { return false };
        let read = standing.read();
        match self.read {
            Some((since, last)) if last == read && standing.has_unread() => {
                standing.unanswered < MAX_ANSWER_TIME && now.since(since) >= timeout
            }
            _ => {
                self.read = standing.has_unread().then_some((now, read));
                false
            }
        }
    }
}

/// Returns the reason for most of a listener's losses, of the reasons that are published.
fn main_reason(lost: &LossCounts) -> Loss {
    let published = [Loss::Overflow, Loss::SkippedToLive, Loss::SkippedToNewest, Loss::History];
    published.into_iter().max_by_key(|reason| lost.of(*reason)).unwrap_or(Loss::Overflow)
}
