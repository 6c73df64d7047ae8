//! The list of listeners, and the totals over all of them, present and gone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aircheck_api::{EventKind, LeaveReason, Rendition};
use aircheck_engine::{Loss, Snapshot, Timestamp};

use crate::access::policy::Rules;
use crate::delivery::attention::Attention;
use crate::delivery::listener::{JoinRequest, Listener};
use crate::mount::Mount;

/// The listeners that are present, and the totals over those that are gone.
#[derive(Debug)]
pub struct Listeners {
    max_listeners: usize,
    attention: Arc<Attention>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    present: BTreeMap<u64, Arc<Listener>>,
    gone: BTreeMap<String, BTreeMap<Rendition, RenditionTotals>>,
    left: BTreeMap<LeaveReason, u64>,
}

/// Totals over the listeners of one rendition, present and gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenditionTotals {
    /// Listeners that are present.
    pub present: u64,
    /// Blocks offered.
    pub offered: u64,
    /// Blocks delivered.
    pub delivered: u64,
    /// Blocks lost, by [`Loss`].
    pub lost: [u64; Loss::ALL.len()],
    /// Blocks that were queued for listeners when they left.
    pub left_queued: u64,
    /// Blocks that are queued for those that are present.
    pub queued: u64,
}

impl RenditionTotals {
    fn add(&mut self, snapshot: &Snapshot) {
        self.offered += snapshot.offered;
        self.delivered += snapshot.delivered;
        for (sum, reason) in self.lost.iter_mut().zip(Loss::ALL) {
            *sum += snapshot.lost.of(*reason);
        }
    }
}

/// Totals over all listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By mount and rendition. What has had no listener is absent.
    pub by_mount: BTreeMap<String, BTreeMap<Rendition, RenditionTotals>>,
    /// Listeners that are gone, by reason. A reason that has not occurred is absent.
    pub left: BTreeMap<LeaveReason, u64>,
}

/// The limit of listeners is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Listeners {
    /// Makes an empty list that accepts at most `max_listeners` at a time.
    #[must_use]
    pub fn new(max_listeners: usize) -> Arc<Self> {
        Arc::new(Self { max_listeners, attention: Arc::default(), state: Mutex::default() })
    }

    /// Returns whether the limit is reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state().present.len() >= self.max_listeners
    }

    /// Adds a listener. It is present until the returned registration is dropped.
    ///
    /// # Errors
    ///
    /// When the limit is reached.
    pub fn join(self: &Arc<Self>, request: JoinRequest) -> Result<Registration, Full> {
        let mut state = self.state();
        if state.present.len() >= self.max_listeners {
            return Err(Full);
        }
        state.next_id += 1;
        let id = state.next_id;
        let listener = Arc::new(Listener::new(id, request, Arc::clone(&self.attention)));
        state.present.insert(id, Arc::clone(&listener));
        drop(state);
        self.attention.ask(id);
        listener.publish(EventKind::Joined);
        Ok(Registration { listener, listeners: Arc::clone(self) })
    }

    /// Returns the listeners that are present, in the order in which they joined.
    #[must_use]
    pub fn present(&self) -> Vec<Arc<Listener>> {
        self.state().present.values().cloned().collect()
    }

    /// Returns the numbers of listeners that have asked for a look since the last call.
    #[must_use]
    pub fn take_attention(&self) -> Vec<u64> {
        self.attention.take()
    }

    /// Returns the present listeners that `is_due` selects, by their numbers and themselves. A look at a listener waits for its memory,
    /// a look at its number does not.
    #[must_use]
    pub fn select(&self, is_due: impl Fn(u64, &Listener) -> bool) -> Vec<Arc<Listener>> {
        let state = self.state();
        state.present.iter().filter(|(id, listener)| is_due(**id, listener)).map(|(_, it)| Arc::clone(it)).collect()
    }

    /// Returns the listeners that are furthest behind of those that `is_wanted` selects, at most `most`, the furthest
    /// first. That is by their last looks, so that it costs little for each listener.
    #[must_use]
    pub fn furthest_behind(&self, most: usize, is_wanted: impl Fn(&Listener) -> bool) -> Vec<Arc<Listener>> {
        let state = self.state();
        let wanted = state.present.values().filter(|listener| is_wanted(listener));
        let mut lags: Vec<_> = wanted.map(|listener| (Reverse(listener.recent_lag()), listener.id())).collect();
        if lags.len() > most {
            lags.select_nth_unstable(most);
            lags.truncate(most);
        }
        lags.sort_unstable();
        lags.iter().filter_map(|(_, id)| state.present.get(id)).cloned().collect()
    }

    /// Returns by how many blocks the listener of each mount is behind that is furthest behind, by their last looks.
    #[must_use]
    pub fn furthest_of_each_mount(&self) -> BTreeMap<String, u64> {
        let mut furthest = BTreeMap::new();
        for listener in self.state().present.values() {
            let (mount, lag) = (listener.mount().name(), listener.recent_lag());
            match furthest.get_mut(mount) {
                Some(most) => *most = lag.max(*most),
                None => _ = furthest.insert(mount.to_owned(), lag),
            }
        }
        furthest
    }

    /// Returns whether a listener is present.
    #[must_use]
    pub fn is_present(&self, id: u64) -> bool {
        self.state().present.contains_key(&id)
    }

    /// Returns the number of listeners that are present.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().present.len()
    }

    /// Returns the totals. None of them ever decreases, except `present` and `queued`.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let mut by_mount = state.gone.clone();
        for listener in state.present.values() {
            let sums = sums_of(&mut by_mount, listener);
            let snapshot = listener.snapshot();
            sums.add(&snapshot);
            sums.present += 1;
            sums.queued += snapshot.queued;
        }
        Totals { by_mount, left: state.left.clone() }
    }

    /// Disconnects a listener. Returns false if none with this number is present.
    #[must_use]
    pub fn disconnect(&self, id: u64) -> bool {
        let Some(listener) = self.state().present.get(&id).cloned() else { return false };
        listener.close();
        true
    }

    /// Ends the listeners that these rules do not permit any more, and logs how many that are.
    pub fn end_unpermitted(&self, rules: &Rules) {
        let mut ended: BTreeMap<String, u64> = BTreeMap::new();
        for listener in self.present() {
            if !listener.is_permitted(rules) {
                let token = listener.granted().as_ref().map(|token| token.name.clone());
                *ended.entry(token.unwrap_or_default()).or_default() += 1;
                listener.end(LeaveReason::Revoked, Timestamp::now());
            }
        }
        for (token, count) in ended {
            match &*token {
                "" => tracing::info!("ended {count} that listened without a token: one is needed now"),
                token => {
                    tracing::info!("ended {count} that listened by the token `{token}`: it was taken out or changed")
                }
            }
        }
    }

    /// Returns whether a listener of this mount is present.
    #[must_use]
    pub fn has_any_of(&self, mount: &Mount) -> bool {
        self.state().present.values().any(|listener| std::ptr::eq(listener.mount(), mount))
    }

    /// Ends the listeners of a mount that is removed and whose end they have not read.
    pub fn end_removed(&self, mount: &Mount) {
        for listener in self.present().iter().filter(|listener| std::ptr::eq(listener.mount(), mount)) {
            listener.end(LeaveReason::Removed, Timestamp::now());
        }
    }

    /// Forgets the totals of a mount that there is no more: a new one of the same name begins at zero.
    pub fn forget(&self, mount: &str) {
        self.state().gone.remove(mount);
    }

    fn remove(&self, listener: &Listener) {
        let mut state = self.state();
        state.present.remove(&listener.id());
        let snapshot = listener.snapshot();
        let sums = sums_of(&mut state.gone, listener);
        sums.add(&snapshot);
        sums.left_queued += snapshot.queued;
        let reason = listener.leave_reason();
        *state.left.entry(reason).or_default() += 1;
        drop(state);
        let lost = snapshot.lost.total() + snapshot.queued;
        let Snapshot { offered, delivered, .. } = snapshot;
        let lag = Box::new(listener.lag_at_end(Timestamp::now()).clone());
        listener.publish(EventKind::Left { reason, offered, delivered, lost, lag });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the totals to which a listener counts.
fn sums_of<'s>(
    by_mount: &'s mut BTreeMap<String, BTreeMap<Rendition, RenditionTotals>>,
    listener: &Listener,
) -> &'s mut RenditionTotals {
    let mount = listener.mount().name();
    // Looked up first: the name of each of ten thousand listeners need not be copied.
    if !by_mount.contains_key(mount) {
        by_mount.insert(mount.to_owned(), BTreeMap::new());
    }
    by_mount.get_mut(mount).expect("it was inserted").entry(listener.rendition()).or_default()
}

/// Keeps a listener present for as long as it exists.
#[derive(Debug)]
pub struct Registration {
    listener: Arc<Listener>,
    listeners: Arc<Listeners>,
}

impl Registration {
    /// Returns the listener.
    #[must_use]
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.listeners.remove(&self.listener);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use aircheck_api::SourceKind;
    use aircheck_engine::source::Tone;
    use aircheck_engine::{
        OverflowPolicy, Publisher, PublisherOptions, Stats, Stream, StreamOptions, SubscribeOptions, Summary,
    };

    use super::*;
    use crate::delivery::histograms::MountHistograms;
    use crate::delivery::look_budget::LookBudget;
    use crate::delivery::mailbox::Mailbox;
    use crate::delivery::own_histograms::Measure;
    use crate::delivery::remote::Client;
    use crate::delivery::standing::Limits;
    use crate::delivery::waits::RoundWaits;
    use crate::rendition::packet::{Numbered, Packet, Wire};
    use crate::rendition::packet_log::PacketLog;

    /// Returns the request of a listener for samples as they are.
    pub(in crate::delivery) fn join_request(
        mount: &Arc<Mount>,
        histograms: &MountHistograms,
        stats: &Arc<Stats>,
        mailbox: &Arc<Mailbox>,
    ) -> JoinRequest {
        JoinRequest {
            name: String::new(),
            mount: Arc::clone(mount),
            rendition: Rendition::Pcm,
            histograms: Arc::clone(&histograms.renditions[&Rendition::Pcm]),
            overflow: OverflowPolicy::SkipToLive,
            limits: Limits { behind: 25, far_behind: 75, max_lag: None, buffer: 100, idle_timeout: None },
            stats: Arc::clone(stats),
            client: Client::direct(SocketAddr::from(([127, 0, 0, 1], 1))),
            granted: None,
            is_push: false,
            wire: Wire::Plain,
            bytes_per_second: 96_000,
            may_hold: false,
            log: PacketLog::new(),
            mailbox: Arc::clone(mailbox),
        }
    }

    #[test]
    fn a_row_and_the_metrics_have_the_packets_that_were_just_taken() {
        let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default()).unwrap();
        let mount = Mount::new("main".to_owned(), &stream, SourceKind::Tone, Arc::default()).unwrap();
        let (histograms, listeners) = (MountHistograms::default(), Listeners::new(1));
        let (mailbox, _poll) = Mailbox::of_poller(0);
        let (mut packets, hub) = Publisher::new(PublisherOptions::default());
        let mut consumer = hub.subscribe(SubscribeOptions::default()).unwrap();
        let request = join_request(&mount, &histograms, consumer.stats(), &mailbox);
        let registration = listeners.join(request).unwrap();
        let (listener, now) = (registration.listener(), Timestamp::now());
        let mut take = || {
            packets.send(Packet::chunk(b"sound", Numbered::Nothing), now);
            let taken = consumer.try_recv_batch(now, 1).unwrap();
            let (waits, looks) = (&mut RoundWaits::default(), &mut LookBudget::of_shard());
            listener.record_taken(&mut listener.downstream(), &taken, now, waits, looks);
        };
        let count = |summary: Option<Summary>| summary.map_or(0, |summary| summary.count);
        let lags = &histograms.renditions[&Rendition::Pcm].lag_micros;
        take();
        let _ = listener.standing(now);
        assert_eq!(count(lags.summary()), 0, "a look of the watch records nothing");
        assert_eq!(listener.summaries([Measure::Queue, Measure::Lag]).0.map(count), [1, 1]);
        take();
        let _ = listeners.totals();
        assert_eq!(count(lags.summary()), 2);
        drop(registration);
        stream.stop();
    }

    #[test]
    fn the_furthest_behind_are_found_without_a_look_at_any_connection() {
        let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default()).unwrap();
        let mount = Mount::new("main".to_owned(), &stream, SourceKind::Tone, Arc::default()).unwrap();
        let (mailbox, _poll) = Mailbox::of_poller(0);
        let histograms = MountHistograms::default();
        let listeners = Listeners::new(10);
        let (mut items, hub) = Publisher::new(PublisherOptions::default());
        let mut consumers = Vec::new();
        let registrations: Vec<_> = (0..5)
            .map(|_| {
                let consumer = hub.subscribe(SubscribeOptions::default()).unwrap();
                let request = join_request(&mount, &histograms, consumer.stats(), &mailbox);
                consumers.push(consumer);
                listeners.join(request).unwrap()
            })
            .collect();
        let now = Timestamp::now();
        (0..20).for_each(|item| items.send(item, now));
        for (consumer, taken) in consumers.iter_mut().zip([20, 5, 20, 12, 0]) {
            (0..taken).for_each(|_| drop(consumer.try_recv_at(now).unwrap()));
        }
        let ids = |most, is_wanted: fn(&Listener) -> bool| {
            let furthest = listeners.furthest_behind(most, is_wanted);
            furthest.iter().map(|listener| listener.id()).collect::<Vec<_>>()
        };
        assert_eq!(ids(2, |_| true), [5, 2]);
        assert_eq!(
            ids(9, |_| true),
            [5, 2, 4, 1, 3],
            "all of them, in the order in which they joined where they are equal"
        );
        assert_eq!(ids(2, |listener| listener.id() < 4), [2, 1]);
        assert!(ids(0, |_| true).is_empty());
        drop(registrations);
        stream.stop();
    }
}
