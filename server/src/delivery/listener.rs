//! One listener, from when it joins until it leaves: its settings, its account, its lag and its end.

use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aircheck_api::{EventKind, EventListener, LagFigures, LeaveReason, Rendition, Verdict};
use aircheck_engine::{Batch, EndReason, Loss, OverflowPolicy, Snapshot, Stats, Summary, Timestamp};

use crate::access::policy::{Granted, Rules};
use crate::access::scope::Scope;
use crate::delivery::attention::Attention;
use crate::delivery::histograms::{RenditionHistograms, micros};
use crate::delivery::lag::Lags;
use crate::delivery::lag_run::{LagRun, PacketLags};
use crate::delivery::look_budget::LookBudget;
use crate::delivery::mailbox::Mailbox;
use crate::delivery::own_histograms::{Measure, OwnHistograms};
use crate::delivery::progress::Progress;
use crate::delivery::remote::{Client, Remote};
use crate::delivery::socket::in_flight::{InFlight, Reached};
use crate::delivery::socket::receive_window::DENSE_BYTES_PER_SECOND;
use crate::delivery::socket::silence::{GONE_TIMEOUT, Silence};
use crate::delivery::socket::tcp_info;
use crate::delivery::standing::{Decision, Limits, Standing};
use crate::delivery::state::state;
use crate::delivery::waits::{RoundWaits, Waits};
use crate::mount::Mount;
use crate::rendition::packet::{Packet, RecordOverhead, Wire};
use crate::rendition::packet_log::PacketLog;

/// The kernel is asked about a connection once in so many bytes, besides the looks of the watch and of requests, unless the
/// listener's machine proves once a second that everything was read.
const LOOK_BYTES: u64 = 8192;
/// And after so much time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a listener that is held, because too much waits below its ring, gets a single packet. Its acknowledgement
/// shows whether the listener reads again: a receive window that was never half closed says nothing by itself.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// How long a sign of life of the listener's own program holds: pings are sent once a second, and reports of what is heard come twice.
const SIGN_TIMEOUT: Duration = Duration::from_secs(5);

/// A listener of a mount.
#[derive(Debug)]
pub struct Listener {
    id: u64,
    name: Box<str>,
    mount: Arc<Mount>,
    rendition: Rendition,
    overflow: OverflowPolicy,
    limits: Limits,
    connected_at: Timestamp,
    stats: Arc<Stats>,
    client: Client,
    granted: Granted,
    is_push: bool,
    /// Of the shard that writes to its connection.
    mailbox: Arc<Mailbox>,
    /// Whether it gets samples as they are.
    is_dense: bool,
    /// When the kernel was last asked about its connection.
    looked_at: AtomicU64,
    /// Whether its connection is to be closed without the stream's end, because it does not read.
    must_hang_up: AtomicBool,
    /// Whether something waits for it, in its ring or below, so that it is looked at more often.
    has_backlog: AtomicBool,
    attention: Arc<Attention>,
    /// Whether it has fallen behind and not caught up since.
    is_behind: AtomicBool,
    /// The live head when it was last seen behind.
    behind_at: AtomicU64,
    /// Its end, once that is decided.
    end: OnceLock<Box<ListenerEnd>>,
    downstream: Mutex<Downstream>,
    histograms: Arc<RenditionHistograms>,
}

/// The end of a listener, as it was decided.
#[derive(Debug)]
struct ListenerEnd {
    /// The reason, if the server ended it for a limit; otherwise the account of its ring has the reason.
    reason: Option<LeaveReason>,
    /// Its lag at that moment.
    lag: LagFigures,
}

/// The state of the listener below its ring: bytes in flight, and lags that have been counted. Locked for a look or a write
/// at a time, never across a wait.
#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) in_flight: InFlight,
    silence: Silence,
    /// Its connection; `None` before the shard has it, and once it is closed.
    socket: Option<RawFd>,
    /// Known once the fan-out has admitted the listener.
    lags: Option<Lags>,
    progress: Progress,
    /// The lags of the last packets, as far as they are not recorded yet.
    lag_run: LagRun,
    /// The waits in its ring that are not recorded yet.
    waits: Waits,
    /// When its own program last answered a ping or told what is heard; long ago if it never did. Acknowledgements may be a proxy's.
    sign_at: Timestamp,
    histograms: OwnHistograms,
    /// Blocks so far of a gap that goes on, which the histogram counts when it has ended.
    pub(super) open_gap: u64,
    /// How many bytes had been written when the kernel was asked last, and how many blocks were between ring and program.
    looked_at_byte: u64,
    backlog: u64,
}

/// The settings and the connection of a listener that joins.
#[derive(Debug)]
pub struct JoinRequest {
    /// The name that it gave itself, or an empty string.
    pub name: String,
    /// The mount that it listens to.
    pub mount: Arc<Mount>,
    /// The rendition that it gets.
    pub rendition: Rendition,
    /// What it records into, together with the other listeners of this rendition.
    pub histograms: Arc<RenditionHistograms>,
    /// The overflow policy.
    pub overflow: OverflowPolicy,
    /// The limits of its lag.
    pub limits: Limits,
    /// The account of its ring.
    pub stats: Arc<Stats>,
    /// Its program, at the far end of its connection or behind a proxy there.
    pub client: Client,
    /// The token that it listens by.
    pub granted: Granted,
    /// Whether the server has connected to it, and not the other way round.
    pub is_push: bool,
    /// How the connection carries packets.
    pub wire: Wire,
    /// How many bytes a second that is, nearly.
    pub bytes_per_second: u64,
    /// Whether packets in quick succession may be held for a moment, which shows what its program reads.
    pub may_hold: bool,
    /// Where the packets of its encoder end.
    pub log: Arc<PacketLog>,
    /// Of the shard that will write to its connection.
    pub mailbox: Arc<Mailbox>,
}

impl Listener {
    /// Makes a listener that connects now.
    pub(super) fn new(id: u64, request: JoinRequest, attention: Arc<Attention>) -> Self {
        let JoinRequest {
            name,
            mount,
            rendition,
            histograms,
            overflow,
            limits,
            stats,
            client,
            granted,
            is_push,
            wire,
            bytes_per_second,
            may_hold,
            log,
            mailbox,
        } = request;
        let is_dense = bytes_per_second >= DENSE_BYTES_PER_SECOND;
        let mut in_flight = InFlight::new(log, wire);
        if may_hold {
            in_flight.permit_holds();
        }
        Self {
            id,
            name: name.into(),
            mount,
            rendition,
            overflow,
            limits,
            connected_at: Timestamp::now(),
            stats,
            client,
            granted,
            is_push,
            mailbox,
            is_dense,
            looked_at: AtomicU64::new(0),
            must_hang_up: AtomicBool::new(false),
            has_backlog: AtomicBool::new(false),
            attention,
            is_behind: AtomicBool::new(false),
            behind_at: AtomicU64::new(0),
            end: OnceLock::new(),
            downstream: Mutex::new(Downstream {
                in_flight,
                silence: Silence::default(),
                socket: None,
                lags: None,
                progress: Progress::default(),
                lag_run: LagRun::default(),
                waits: Waits::default(),
                sign_at: Timestamp::default(),
                histograms: OwnHistograms::default(),
                open_gap: 0,
                looked_at_byte: 0,
                backlog: 0,
            }),
            histograms,
        }
    }

    /// Returns the listener's number, which is unique while the server runs.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the name that the listener gave itself, or an empty string.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the mount that it listens to.
    #[must_use]
    pub fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Returns the rendition that it gets.
    #[must_use]
    pub fn rendition(&self) -> Rendition {
        self.rendition
    }

    /// Returns the overflow policy.
    #[must_use]
    pub fn overflow(&self) -> OverflowPolicy {
        self.overflow
    }

    /// Returns the limits of its lag.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns when it connected.
    #[must_use]
    pub fn connected_at(&self) -> Timestamp {
        self.connected_at
    }

    /// Returns its program, at the far end of its connection or behind a proxy there.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the token that it listens by; `None` if it needed none.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Returns whether these rules still permit it to listen.
    #[must_use]
    pub fn is_permitted(&self, rules: &Rules) -> bool {
        self.is_push || rules.permit(&self.granted, &Scope::Listen(Some(self.mount.name().to_owned())))
    }

    /// Returns the account of its ring.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns the figures of its histograms as of the last look at it, `None` for one without values; and how many blocks a gap
    /// has that goes on.
    pub(super) fn summaries<const N: usize>(&self, measures: [Measure; N]) -> ([Option<Summary>; N], u64) {
        let mut downstream = self.downstream();
        self.settle(&mut downstream);
        (measures.map(|measure| downstream.histograms.summary(measure)), downstream.open_gap)
    }

    /// Publishes an event of this listener.
    pub fn publish(&self, kind: EventKind) {
        let listener = EventListener {
            id: self.id,
            name: self.name.to_string(),
            format: self.rendition,
            remote: self.client.to_string(),
        };
        self.mount.events().publish(Some(listener), kind);
    }

    /// Returns whether its stream is over, although it may not have read the end yet.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stats.is_closing() || self.stats.end_reason() == Some(EndReason::TooSlow)
    }

    /// Returns why its stream is over; while it is not, the reason if the listener left now.
    #[must_use]
    pub fn leave_reason(&self) -> LeaveReason {
        match self.stats.end_reason() {
            Some(EndReason::TooSlow) => LeaveReason::TooSlow,
            Some(EndReason::Finished | EndReason::Abandoned) if self.mount.is_removed() => LeaveReason::Removed,
            Some(EndReason::Finished | EndReason::Abandoned) => LeaveReason::Finished,
            Some(EndReason::Failed) => LeaveReason::Failed,
            // A listener whose socket is full has not taken its end out of its ring when its connection is closed.
            _ => {
                let otherwise = if self.stats.is_closing() { LeaveReason::Closed } else { LeaveReason::Left };
                self.end.get().and_then(|end| end.reason).unwrap_or(otherwise)
            }
        }
    }

    /// Returns whether it has fallen behind and not caught up since, by the watch's last look.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    /// Notes whether it has fallen behind. Only the watch does so.
    pub fn set_behind(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::Release);
    }

    /// Returns the live head when it was last seen behind: the number of the next block that was captured.
    pub(super) fn behind_at(&self) -> u64 {
        self.behind_at.load(Ordering::Relaxed)
    }

    /// Notes that it is behind now. Only the watch does so.
    pub fn note_behind(&self) {
        self.behind_at.store(self.mount.hub().head().next(), Ordering::Relaxed);
    }

    /// Ends its stream: it gets the end next, whatever is queued.
    pub fn close(&self) {
        self.stats.close();
        self.attention.ask(self.id);
        self.mailbox.look_at(self.id);
    }

    /// Closes its connection as it is.
    pub fn hang_up(&self) {
        self.must_hang_up.store(true, Ordering::Release);
        self.mailbox.look_at(self.id);
    }

    /// Returns whether its connection is to be closed as it is.
    #[must_use]
    pub fn must_hang_up(&self) -> bool {
        self.must_hang_up.load(Ordering::Acquire)
    }

    /// Ends its stream for this reason, unless its end is decided already.
    pub fn end(&self, reason: LeaveReason, now: Timestamp) {
        self.decide_end(Some(reason), now);
        self.close();
    }

    /// Returns its lag at the moment when its end was decided, which is now at the latest.
    pub fn lag_at_end(&self, now: Timestamp) -> &LagFigures {
        &self.decide_end(None, now).lag
    }

    fn decide_end(&self, reason: Option<LeaveReason>, now: Timestamp) -> &ListenerEnd {
        self.end.get_or_init(|| {
            let limit = match reason.unwrap_or_else(|| self.leave_reason()) {
                LeaveReason::TooSlow => Some(self.mount.seconds(self.limits.buffer)),
                LeaveReason::MaxLag => self.limits.max_lag.map(|max_lag| self.mount.seconds(max_lag)),
                LeaveReason::Idle => self.limits.idle_timeout.map(|timeout| timeout.as_secs_f64()),
                LeaveReason::Gone => Some(GONE_TIMEOUT.as_secs_f64()),
                LeaveReason::Left
                | LeaveReason::Closed
                | LeaveReason::Tls
                | LeaveReason::Revoked
                | LeaveReason::Removed
                | LeaveReason::Finished
                | LeaveReason::Failed => None,
            };
            Box::new(ListenerEnd { reason, lag: self.lag_figures(&self.standing(now), limit) })
        })
    }

    /// Returns its lag at this standing, for an event. `limit_seconds` is the limit that was crossed.
    #[must_use]
    pub fn lag_figures(&self, standing: &Standing, limit_seconds: Option<f64>) -> LagFigures {
        // To the microsecond, so that the log says 2.47 and not 2.4699999999999998.
        let rounded = |seconds: f64| (seconds * 1e6).round() / 1e6;
        let seconds = |blocks| rounded(self.mount.seconds(blocks));
        let verdict = standing.verdict(&self.limits);
        let bounds = standing.unrequested_bounds();
        LagFigures {
            lag_seconds: seconds(standing.unrequested()),
            lag_at_least_seconds: Some(seconds(*bounds.start())),
            lag_at_most_seconds: Some(seconds(*bounds.end())),
            burst_seconds: seconds(standing.burst),
            undelivered_seconds: seconds(standing.undelivered),
            undelivered_lost_seconds: seconds(standing.undelivered_lost),
            socket_queued_bytes: standing.socket_bytes,
            socket_queued_seconds: seconds(standing.socket),
            unread_bytes: standing.unread_bytes,
            unread_seconds: seconds(standing.unread),
            unanswered_seconds: rounded(standing.unanswered.as_secs_f64()),
            verdict,
            state: state(standing, verdict, |blocks| self.mount.seconds(blocks)).into(),
            fault: (verdict != Verdict::Ok).then(|| standing.fault()),
            limit_seconds: limit_seconds.map(rounded),
        }
    }

    /// Returns whether it is to be looked at often: something waits for it, it has fallen behind, or it is to end.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.has_backlog.load(Ordering::Relaxed) || self.is_behind() || self.has_ended()
    }

    /// Returns whether it gets samples as they are.
    pub(super) fn is_dense(&self) -> bool {
        self.is_dense
    }

    /// Returns whether the kernel was asked about its connection a moment ago.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(Timestamp::from_nanos(self.looked_at.load(Ordering::Relaxed))) < LOOK_INTERVAL
    }

    /// Returns its lag without the requested part, in blocks, with what was below its ring at the last look.
    pub(super) fn recent_lag(&self) -> u64 {
        let snapshot = self.stats.snapshot();
        let downstream = self.downstream();
        let burst = downstream.lags.as_ref().map_or(0, Lags::burst);
        (snapshot.lag_items + downstream.backlog).saturating_sub(burst)
    }

    /// Notes whether something waits for it, in its ring or below.
    pub(super) fn note_backlog(&self, has_backlog: bool) {
        if !self.has_backlog.swap(has_backlog, Ordering::Relaxed) && has_backlog {
            self.attention.ask(self.id);
        }
    }

    /// Notes that its socket takes no more bytes at the moment, and looks where those that it took are.
    pub(super) fn note_full_socket(&self, now: Timestamp) {
        self.note_backlog(true);
        self.follow(&mut self.downstream(), now);
    }

    /// Takes over its connection, on which other responses took `written` bytes before, and whose records have this `overhead`.
    pub(super) fn attach(&self, socket: RawFd, written: u64, overhead: RecordOverhead) {
        let mut downstream = self.downstream();
        downstream.socket = Some(socket);
        downstream.in_flight.begin(written, overhead, Timestamp::now());
    }

    /// Gives up its connection, which is about to be closed, after a last look at it.
    pub(super) fn detach(&self) {
        self.lag_at_end(Timestamp::now());
        self.downstream().socket = None;
    }

    /// Decides what is done with its next packet.
    #[must_use]
    pub fn decide(&self, now: Timestamp) -> Decision {
        let Some(max_lag) = self.limits.max_lag else { return Decision::Deliver };
        let mut downstream = self.downstream();
        // By the last look at its connection, it is at most so far behind.
        let next = self.stats.snapshot();
        let reached = self.reached(&downstream.in_flight, next.next_sequence);
        if next.lag_items + (next.next_sequence - reached.read) <= max_lag {
            return Decision::Deliver;
        }
        let standing = self.look(&mut downstream, now);
        if standing.unrequested() <= max_lag {
            Decision::Deliver
        } else if self.overflow == OverflowPolicy::Disconnect {
            Decision::End
        } else {
            let below = (standing.socket + standing.unread).saturating_sub(standing.burst);
            let is_probe = standing.socket == 0 && now.since(downstream.in_flight.written_at()) >= PROBE_INTERVAL;
            if below <= max_lag || is_probe { Decision::SkipToLive } else { Decision::Hold }
        }
    }

    /// Records that packets were taken from its ring. Returns the number that it had reached before them: of the first of
    /// them, or of the first block that is lost before it.
    pub(super) fn record_taken(
        &self,
        downstream: &mut Downstream,
        run: &Batch<'_, Packet>,
        now: Timestamp,
        round: &mut RoundWaits,
        looks: &mut LookBudget,
    ) -> u64 {
        let first = run.iter().next().map(|item| item.stamp).unwrap_or_default();
        let start = run.gap.map_or(first.first(), |gap| gap.from);
        let end = run.iter().last().map_or(start, |item| item.stamp.next());
        let (numbers, ring_lag) = (start..end, run.lag_items);
        for item in run.iter() {
            let wait = now.micros_since(item.stamp.dispatched_at);
            round.push(wait, &self.histograms.stages);
            downstream.waits.push(wait, &mut downstream.histograms);
        }
        // Here the kernel's side of the connection is in the processor's cache, so that the question costs least.
        let in_flight = &mut downstream.in_flight;
        let look_at_byte = downstream.looked_at_byte + if self.is_dense { 1 } else { LOOK_BYTES };
        let has_much_unseen = in_flight.written() >= look_at_byte && !in_flight.reads_promptly(now);
        // Samples have theirs in any case: their window means nothing unless each change of it is seen.
        let wants_more = !self.is_dense && (has_much_unseen || in_flight.wants_more_looks(now));
        let may_have_more = !wants_more || {
            let is_granted = looks.grant(self.id, LookBudget::slice_at(now));
            let is_useful = in_flight.is_test_near() || !looks.is_spent();
            (is_granted && is_useful) || in_flight.is_first_test_near()
        };
        in_flight.postpone_looks(!may_have_more);
        if (has_much_unseen && may_have_more) || !self.is_fresh(now) || in_flight.wants_look(now) {
            self.follow(downstream, now);
            // The gap before the packets is on its way, too.
            downstream.backlog = numbers.start - self.reached(&downstream.in_flight, numbers.start).read;
            if downstream.backlog > 0 {
                self.note_backlog(true);
            }
        }
        self.begin_lags(downstream, now);
        let Downstream { lags, lag_run, histograms, backlog, .. } = downstream;
        if let Some(lags) = lags {
            // What was below the ring at the last look is taken to be there still.
            let read = numbers.start.saturating_sub(*backlog);
            let lag = ring_lag + numbers.start - read;
            let mut of_packet = PacketLags::default();
            lags.record_taken(numbers, lag, read, now, |lags, times| {
                if !of_packet.push(lags.clone(), times) {
                    self.record_lags(histograms, lags, times);
                }
            });
            lag_run.add(of_packet, |lags, times| self.record_lags(histograms, lags, times));
        }
        start
    }

    /// Records the report of the listener's player that this block was heard `latency` after its capture.
    pub fn record_heard(&self, sequence: u64, latency: Duration, now: Timestamp) {
        self.histograms.stages.ear_micros.record(micros(latency));
        let mut downstream = self.downstream();
        downstream.sign_at = now;
        downstream.in_flight.heard(sequence + 1);
        downstream.histograms.record(Measure::Ear, micros(latency));
    }

    /// Records a gap of `blocks` blocks, which has ended.
    pub fn record_gap(&self, blocks: u64) {
        self.histograms.gap_blocks.record(blocks);
        let mut downstream = self.downstream();
        downstream.histograms.record(Measure::Gap, blocks);
        downstream.open_gap = 0;
    }

    /// Returns its standing now, and records the lag of blocks that have become overdue.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let mut downstream = self.downstream();
        let standing = self.look(&mut downstream, now);
        let next = standing.snapshot.next_sequence;
        let head = next + standing.undelivered;
        let Downstream { lags, histograms, .. } = &mut *downstream;
        if let Some(lags) = lags {
            let read = next - standing.socket - standing.unread;
            lags.record_overdue(next, head, read, now, |lags, times| self.record_lags(histograms, lags, times));
        }
        standing
    }

    /// Asks the kernel where the bytes in flight are now. `handed` is one past the last block that was handed to the connection.
    fn follow(&self, downstream: &mut Downstream, now: Timestamp) {
        self.begin_lags(downstream, now);
        if self.looked_at.swap(now.as_nanos(), Ordering::Relaxed) == now.as_nanos() {
            return;
        }
        downstream.looked_at_byte = downstream.in_flight.written();
        // A round over thousands of listeners takes as long as a late acknowledgement, so its own time would not do.
        let now = Timestamp::now().max(now);
        if self.client.peer() == Remote::Unix {
            if let Some(memory) = downstream.socket.and_then(tcp_info::queued_memory) {
                let proven = downstream.in_flight.proven_bytes();
                downstream.in_flight.advance_local(memory, now);
                if downstream.in_flight.proven_bytes() > proven && !self.client.is_proxied() {
                    self.record_read(downstream, now);
                }
            }
            return;
        }
        // They are there once the kernel has answered.
        downstream.histograms.prefetch();
        let Some(mut info) = downstream.socket.and_then(tcp_info::state) else { return };
        // Its shard may be the one that is late.
        info.has_input = downstream.in_flight.is_answer_due() && downstream.socket.is_some_and(tcp_info::has_input);
        downstream.silence.observe(&info, now);
        let Downstream { in_flight, histograms, .. } = downstream;
        let proven = in_flight.proven_bytes();
        if let Some(span) = in_flight.advance(&info, now) {
            histograms.record(Measure::Socket, micros(span));
            self.histograms.stages.socket_micros.record(micros(span));
        }
        in_flight.set_mark();
        // What a proxy has read is not heard by that.
        if in_flight.proven_bytes() > proven && !self.client.is_proxied() {
            self.record_read(downstream, now - info.since_ack);
        }
    }

    /// Takes a pong that carries how many bytes its ping followed.
    pub(super) fn take_pong(&self, before: u64, now: Timestamp) {
        let mut downstream = self.downstream();
        if downstream.in_flight.take_pong(before, now) {
            downstream.sign_at = now;
            self.record_read(&mut downstream, now);
        }
    }

    /// Records the latency of the newest block that was read for certain, which was proven by what came at `proven_at`.
    fn record_read(&self, downstream: &mut Downstream, proven_at: Timestamp) {
        if let Some(captured_at) = downstream.in_flight.newest_proven_at().filter(|at| *at < proven_at) {
            let latency = micros(proven_at.since(captured_at));
            self.histograms.stages.read_micros.record(latency);
            downstream.histograms.record(Measure::Read, latency);
        }
    }

    /// Returns how far the bytes got. `handed` is one past the sequence number of the last block that was handed over.
    fn reached(&self, in_flight: &InFlight, handed: u64) -> Reached {
        let reached = in_flight.reached(handed);
        // Where it starts was not known yet when the head of the response was handed over.
        let first = self.stats.snapshot().first_sequence.min(handed);
        let (acked, read) = (reached.acked.max(first), reached.read.max(first));
        let (read_at_least, read_at_most) = (reached.read_at_least.max(first), reached.read_at_most.max(first));
        Reached { acked, read_at_least: read_at_least.min(read), read, read_at_most: read_at_most.max(read) }
    }

    fn begin_lags(&self, downstream: &mut Downstream, now: Timestamp) {
        if downstream.lags.is_none() && self.stats.is_attached() {
            let Snapshot { first_sequence, burst_items, .. } = self.stats.snapshot();
            downstream.lags = Some(Lags::new(first_sequence, burst_items, now));
        }
    }

    /// Returns its account. A block counts as delivered once all of it is written.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut downstream = self.downstream();
        self.settle(&mut downstream);
        with_written(self.stats.snapshot(), &downstream.in_flight)
    }

    fn look(&self, downstream: &mut Downstream, now: Timestamp) -> Standing {
        self.follow(downstream, now);
        let Downstream { in_flight, silence, lags, progress, backlog, sign_at, .. } = downstream;
        let snapshot = self.stats.snapshot();
        let next = snapshot.next_sequence;
        let reached = self.reached(in_flight, next);
        let (socket, unread) = (next.saturating_sub(reached.acked), reached.acked.saturating_sub(reached.read));
        let lag = snapshot.lag_items + socket + unread;
        let burst = lags.as_mut().map_or(0, |lags| lags.burst_of(lag, now));
        let reading = progress.look(reached.read, unread, lag, self.mount.format().block_span(), now);
        *backlog = socket + unread;
        self.note_backlog(*backlog > 0 || snapshot.queued > 0);
        Standing {
            snapshot: with_written(snapshot, in_flight),
            undelivered: snapshot.lag_items,
            undelivered_lost: (snapshot.first_sequence + snapshot.offered).saturating_sub(next + snapshot.queued),
            socket,
            unread,
            on_its_way: in_flight.on_its_way(self.mount.format().block_span()).min(socket),
            unread_bounds: reached.acked - reached.read_at_most..=reached.acked - reached.read_at_least,
            stale: delivered_unread(in_flight, unread).saturating_sub(burst),
            reading,
            burst,
            ring_bytes: in_flight.bytes_of(snapshot.queued),
            socket_bytes: in_flight.queued_bytes(),
            unread_bytes: in_flight.unread_bytes(),
            is_window_limited: in_flight.is_window_limited(),
            waiting: in_flight.waiting_since().map_or(Duration::ZERO, |since| now.since(since)),
            unanswered: silence.span(now),
            is_gone: silence.is_gone(now),
            is_proxied: self.client.is_proxied(),
            is_heard_from: now.since(*sign_at) < SIGN_TIMEOUT,
        }
    }

    /// Records the lags and waits that are kept in place.
    fn settle(&self, downstream: &mut Downstream) {
        let Downstream { waits, lag_run, histograms, .. } = downstream;
        waits.settle(histograms);
        lag_run.settle(|lags, times| self.record_lags(histograms, lags, times));
    }

    fn record_lags(&self, own: &mut OwnHistograms, blocks: RangeInclusive<u64>, times: u64) {
        let format = self.mount.format();
        let (frames, rate_hz) = (u64::from(format.block_frames()), u64::from(format.rate_hz()));
        // Millions of blocks do not overflow; what does is beyond all bounds of the histogram anyway.
        let block_micros = |blocks: u64| blocks.saturating_mul(frames * 1_000_000) / rate_hz;
        self.histograms.lag_micros.record_scaled(blocks.clone(), times, block_micros);
        own.record_lags(blocks, times);
    }

    /// Locks its state below its ring.
    pub(super) fn downstream(&self) -> MutexGuard<'_, Downstream> {
        self.downstream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many of `unread` blocks were delivered: a packet after a gap stands for the lost blocks, too.
fn delivered_unread(in_flight: &InFlight, unread: u64) -> u64 {
    let thousandth = (1000 * in_flight.unread_bytes()).checked_div(in_flight.bytes_of(1000));
    thousandth.map_or(unread, |delivered| delivered.min(unread))
}

/// Returns the account by what is written: a block counts as delivered once it is written, not when it was taken from the
/// ring, and one that the source did not deliver counts as lost then.
fn with_written(taken: Snapshot, in_flight: &InFlight) -> Snapshot {
    let (delivered, missing) = (in_flight.written_blocks(), in_flight.missing_blocks());
    let mut lost = taken.lost;
    lost.add(Loss::Hop, in_flight.missing_on_hop());
    lost.add(Loss::Source, missing - in_flight.missing_on_hop());
    Snapshot { delivered, lost, queued: taken.queued + taken.delivered - delivered - missing, ..taken }
}
