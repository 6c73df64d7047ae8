//! Somebody who listens, and what there is to tell of them: a row of `/api/v1/listeners`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aircheck_engine::{EndReason, Format, Overflow, Precision, Recorder, Snapshot, Summary, Tally, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;

use crate::journey::Journey;
use crate::lag::Lags;
use crate::metrics::MountRecorders;
use crate::mount::Mount;
use crate::wire::Wire;

/// Lags and latencies are told apart up to this many microseconds: four minutes and a half.
pub const MAX_MICROS: u64 = 1 << 28;
/// A listener's own lags are told apart up to this many blocks: eleven minutes of 10 ms, in 5 KB.
const MAX_BLOCKS: u64 = 1 << 16;
/// While a listener is held because too much waits below its ring, it gets one packet in so long: by its
/// acknowledgement we learn whether it reads again. A receive window that was never half closed says nothing by itself.
const PROBE: Duration = Duration::from_millis(200);

/// Somebody who listens.
#[derive(Debug)]
pub struct Listener {
    id: u64,
    name: String,
    mount: Mount,
    overflow: Overflow,
    limits: Limits,
    connected_at: Timestamp,
    format: Format,
    tally: Arc<Tally>,
    wire: Arc<Wire>,
    /// Ends the connection when the listener does not read, so that its end can't be sent.
    hang_up: Arc<Notify>,
    /// Somebody ended it for being further behind than its limit.
    too_late: AtomicBool,
    account: Mutex<Account>,
    /// The lag nobody asked for, in blocks, and stage `socket`, in microseconds and to a sixteenth: there may be a
    /// thousand of these. Recorded with the account locked.
    lag_blocks: Recorder,
    socket_micros: Recorder,
    /// Stage `ear`, of a listener that reports what it has heard.
    ear_micros: OnceLock<Recorder>,
    recorders: Arc<MountRecorders>,
}

/// What is known of the way below the ring. Held for less than a microsecond at a time, never across a wait.
#[derive(Debug, Default)]
struct Account {
    journey: Journey,
    /// Known once the fan-out has taken the listener in.
    lags: Option<Lags>,
    handed_over_at: Timestamp,
}

/// How far behind a listener may be, in blocks.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From here on it is said to have fallen behind.
    pub behind: u64,
    /// Beyond this it is skipped to live, or ended if its policy is [`Overflow::Disconnect`].
    pub max_lag: Option<u64>,
}

/// What a request says of a new listener.
#[derive(Debug)]
pub struct Joining {
    /// The name it gave itself, or nothing.
    pub name: String,
    /// What it listens to.
    pub mount: Mount,
    /// Its overflow policy.
    pub overflow: Overflow,
    /// How far behind it may be.
    pub limits: Limits,
    /// Its account.
    pub tally: Arc<Tally>,
    /// Its connection.
    pub wire: Arc<Wire>,
    /// Ends its connection.
    pub hang_up: Arc<Notify>,
    /// What it records to, with the others of its mount.
    pub recorders: Arc<MountRecorders>,
}

/// Where a listener stands at one moment; lags in blocks.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its account.
    pub snapshot: Snapshot,
    /// How much of the lag waits in its ring, or was refused by it.
    pub ring: u64,
    /// In hyper's buffer or the kernel's send queue.
    pub socket: u64,
    /// In its machine's receive buffer, read by nobody.
    pub unread: u64,
    /// How much of the lag was asked for.
    pub burst: u64,
    /// Bytes in hyper's buffer and in the send queue.
    pub queued_bytes: u64,
    /// Packets that have not left this machine, and those that are unread.
    pub socket_packets: u64,
    /// Likewise.
    pub unread_packets: u64,
    /// Its machine keeps what is here from leaving.
    pub closing: bool,
    /// How long the packet has waited that has waited longest to leave.
    pub waiting: Duration,
}

/// Who is to blame for a lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// This one: the socket would take more.
    Server,
    /// The way to the listener: what was sent is not acknowledged, though there is room for it.
    Network,
    /// The listener's program: its machine has what it does not read.
    Listener,
}

impl Standing {
    /// How far what was read is behind the live head, in blocks.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.ring + self.socket + self.unread
    }

    /// What nobody asked for of it.
    #[must_use]
    pub fn unwanted(&self) -> u64 {
        self.lag() - self.burst
    }

    /// Who is to blame for it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        // In packets: one that follows a gap is many blocks.
        if self.closing || self.unread_packets > self.socket_packets + self.snapshot.queued {
            Fault::Listener
        } else if self.socket > 0 {
            Fault::Network
        } else {
            Fault::Server
        }
    }
}

/// What is to become of a listener's next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is handed over.
    Deliver,
    /// It is the newest one: the listener is too far behind.
    SkipToLive,
    /// It waits: what was handed over before is too far behind already.
    Hold,
    /// There is none: the listener is ended.
    End,
}

/// A row of `/api/v1/listeners`. Times are Unix seconds, spans seconds.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Unique while the server runs.
    pub id: u64,
    /// The name it gave itself, or nothing.
    pub name: String,
    /// Its address and port.
    pub remote: String,
    /// What it listens to.
    pub format: &'static str,
    /// Its overflow policy.
    pub overflow: &'static str,
    /// When it came.
    pub connected_at: f64,
    /// Blocks since its first one.
    pub offered: u64,
    /// Blocks written to its connection.
    pub delivered: u64,
    /// Blocks that it never gets.
    pub lost: u64,
    /// Blocks in its ring, and the one that is being written.
    pub queued: u64,
    /// How far behind the live head its program has read, as far as that can be seen from here.
    pub lag_seconds: f64,
    /// How much of that it asked for, by `burst` or `from`.
    pub burst_seconds: f64,
    /// The lag beyond which it is skipped to live or ended.
    pub max_lag_seconds: Option<f64>,
    /// At half of the blocks that it was due, it was at most this far behind, not counting what it asked for.
    pub lag_p50_seconds: Option<f64>,
    /// At 99 of 100.
    pub lag_p99_seconds: Option<f64>,
    /// At all.
    pub lag_max_seconds: Option<f64>,
    /// How many times blocks were missing.
    pub gaps: u64,
    /// The most that were missing in a row.
    pub gap_max_blocks: u64,
    /// Bytes that have not left this machine: handed over, and not acknowledged by the listener's.
    pub socket_queued_bytes: u64,
    /// How long these sound.
    pub socket_queued_seconds: f64,
    /// How long that sounds which its machine has taken in and its program has not read.
    pub unread_seconds: f64,
    /// Who is to blame: `server`, `network` or `listener`, while it is behind.
    pub fault: Option<Fault>,
    /// Time by stage: `queue`, from the dispatcher to the connection; `socket`, from there out of this machine; `ear`,
    /// from the capture to where it is heard, if the listener reports that.
    pub latency_seconds: BTreeMap<&'static str, Spread>,
}

/// Median, 99th percentile and largest value in seconds; `null` while there is none.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

impl Spread {
    /// Of figures in microseconds.
    #[must_use]
    pub fn of_micros(summary: Option<Summary>) -> Self {
        Self::of(summary, |micros| Duration::from_micros(micros).as_secs_f64())
    }

    /// Of figures of which so many are so many seconds.
    fn of(summary: Option<Summary>, seconds: impl Fn(u64) -> f64) -> Self {
        summary.map_or_else(Self::default, |summary| Self {
            p50: Some(seconds(summary.p50)),
            p99: Some(seconds(summary.p99)),
            max: Some(seconds(summary.max)),
        })
    }

    /// With `span` among the values: one that is not over yet.
    fn with(mut self, span: Duration) -> Self {
        self.max = self.max.map(|max| max.max(span.as_secs_f64()));
        self
    }
}

impl Listener {
    /// A listener that comes now, to a stream of `format`.
    pub(crate) fn new(id: u64, joining: Joining, format: Format) -> Self {
        let Joining { name, mount, overflow, limits, tally, wire, hang_up, recorders } = joining;
        Self {
            id,
            name,
            mount,
            overflow,
            limits,
            connected_at: Timestamp::now(),
            format,
            tally,
            wire,
            hang_up,
            too_late: AtomicBool::new(false),
            account: Mutex::default(),
            lag_blocks: Recorder::new(MAX_BLOCKS, Precision::TwoDigits),
            socket_micros: Recorder::new(MAX_MICROS, Precision::OneDigit),
            ear_micros: OnceLock::new(),
            recorders,
        }
    }

    /// Unique while the server runs.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it listens to.
    #[must_use]
    pub fn mount(&self) -> Mount {
        self.mount
    }

    /// The name it gave itself, or nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its overflow policy.
    #[must_use]
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// Its connection.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// How far behind it may be.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Its account.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether its stream is over, though it may not have read the end yet.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.tally.is_closing() || self.tally.end_reason() == Some(EndReason::TooSlow)
    }

    /// Ends its connection as it is.
    pub fn hang_up(&self) {
        self.hang_up.notify_one();
    }

    /// Ends it for being further behind than it may be.
    pub fn end_as_too_late(&self) {
        self.too_late.store(true, Ordering::Release);
        self.tally.close();
    }

    /// Whether that was done.
    #[must_use]
    pub fn is_too_late(&self) -> bool {
        self.too_late.load(Ordering::Acquire)
    }

    /// What is to become of its next packet, which is there.
    #[must_use]
    pub fn judge(&self, now: Timestamp) -> Verdict {
        let Some(max_lag) = self.limits.max_lag else { return Verdict::Deliver };
        let mut account = self.account();
        let standing = self.look(&mut account, now);
        if standing.unwanted() <= max_lag {
            Verdict::Deliver
        } else if self.overflow == Overflow::Disconnect {
            Verdict::End
        } else {
            let below = (standing.socket + standing.unread).saturating_sub(standing.burst);
            let is_probe = standing.socket == 0 && now.since(account.handed_over_at) >= PROBE;
            if below <= max_lag || is_probe { Verdict::SkipToLive } else { Verdict::Hold }
        }
    }

    /// A packet was taken from its ring: `numbers` begins with what is missing before it. `ring_lag` is how far it was
    /// behind the live head, and `queued` how long since its dispatch.
    pub fn took(&self, numbers: Range<u64>, ring_lag: u64, queued: Duration, now: Timestamp) {
        self.recorders.queue_micros.record(micros(queued));
        let mut account = self.account();
        self.follow(&mut account, now);
        let Account { journey, lags, .. } = &mut *account;
        if let Some(lags) = lags {
            // Up to where it had read when this packet, and what is missing before it, was not on its way yet.
            let read = journey.reached(numbers.start).read;
            let lag = ring_lag + numbers.start.saturating_sub(read);
            lags.taken(numbers, lag, read, now, |lag| self.record_lag(lag));
        }
    }

    /// `bytes` bytes go to its connection, which bring it past `numbers`: so many blocks, none of them where they are
    /// silence in place of a lost one.
    pub fn hand_over(&self, numbers: Range<u64>, bytes: usize, blocks: u64, now: Timestamp) {
        let mut account = self.account();
        account.journey.hand_over(numbers, bytes, blocks, self.wire.hand_over(), now);
        account.handed_over_at = now;
    }

    /// It has heard a block so long after that was captured, by its own word. One task at a time may say so.
    pub fn heard(&self, latency: Duration) {
        self.recorders.ear_micros.record(micros(latency));
        let own = self.ear_micros.get_or_init(|| Recorder::new(MAX_MICROS, Precision::OneDigit));
        own.record(micros(latency));
    }

    /// So many blocks are missing in a row.
    pub fn missed(&self, blocks: u64) {
        self.recorders.gap_blocks.record(blocks);
    }

    /// Where it stands now. What has become overdue is recorded.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let mut account = self.account();
        let standing = self.look(&mut account, now);
        let next = standing.snapshot.next_sequence;
        let head = next + standing.ring;
        if let Some(lags) = &mut account.lags {
            let read = next - standing.socket - standing.unread;
            lags.looked_at(next, head, read, now, |lag| self.record_lag(lag));
        }
        standing
    }

    /// Follows its packets to where they are.
    fn follow(&self, account: &mut Account, now: Timestamp) {
        account.journey.advance(&self.wire.state(), now, |span| {
            self.socket_micros.record(micros(span));
            self.recorders.socket_micros.record(micros(span));
        });
        if account.lags.is_none() && self.tally.is_attached() {
            let Snapshot { first_sequence, burst_items, .. } = self.tally.snapshot();
            account.lags = Some(Lags::new(first_sequence, burst_items, now));
        }
    }

    /// Its account: a block counts as delivered once all of it is written.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.settled(&mut self.account())
    }

    fn settled(&self, account: &mut Account) -> Snapshot {
        let written = account.journey.written_blocks(&self.wire.state());
        let mut snapshot = self.tally.snapshot();
        snapshot.queued += snapshot.delivered - written;
        snapshot.delivered = written;
        snapshot
    }

    fn look(&self, account: &mut Account, now: Timestamp) -> Standing {
        self.follow(account, now);
        let snapshot = self.settled(account);
        let Account { journey, lags, .. } = account;
        let next = snapshot.next_sequence;
        let reached = journey.reached(next);
        let (socket, unread) = (next.saturating_sub(reached.left), reached.left.saturating_sub(reached.read));
        let lag = snapshot.lag_items + socket + unread;
        let burst = lags.as_mut().map_or(0, |lags| lags.asked_for(lag, now));
        Standing {
            snapshot,
            ring: snapshot.lag_items,
            socket,
            unread,
            burst,
            queued_bytes: journey.queued_bytes(),
            socket_packets: journey.socket_packets(),
            unread_packets: journey.unread_packets(),
            closing: journey.is_closing(),
            waiting: journey.waiting_since().map_or(Duration::ZERO, |since| now.since(since)),
        }
    }

    fn record_lag(&self, blocks: u64) {
        self.lag_blocks.record(blocks);
        self.recorders.lag_micros.record(micros(self.format.span(self.format.position(blocks))));
    }

    /// Its row in the table.
    #[must_use]
    pub fn row(&self, now: Timestamp) -> Row {
        let standing = self.standing(now);
        let snapshot = &standing.snapshot;
        let gaps = self.tally.gap_items().summary();
        let lag = Spread::of(self.lag_blocks.summary(), |blocks| self.seconds(blocks));
        let behind = standing.unwanted() >= self.limits.behind;
        Row {
            id: self.id,
            name: self.name.clone(),
            remote: self.wire.remote().to_string(),
            format: self.mount.label(),
            overflow: self.overflow.label(),
            connected_at: self.connected_at.unix_seconds(),
            offered: snapshot.offered,
            delivered: snapshot.delivered,
            lost: snapshot.lost.total(),
            queued: snapshot.queued,
            lag_seconds: self.seconds(standing.lag()),
            burst_seconds: self.seconds(standing.burst),
            max_lag_seconds: self.limits.max_lag.map(|blocks| self.seconds(blocks)),
            lag_p50_seconds: lag.p50,
            lag_p99_seconds: lag.p99,
            lag_max_seconds: lag.max,
            gaps: gaps.map_or(0, |gaps| gaps.count),
            gap_max_blocks: gaps.map_or(0, |gaps| gaps.max),
            socket_queued_bytes: standing.queued_bytes,
            socket_queued_seconds: self.seconds(standing.socket),
            unread_seconds: self.seconds(standing.unread),
            fault: behind.then(|| standing.fault()),
            latency_seconds: self.latencies(&standing),
        }
    }

    fn latencies(&self, standing: &Standing) -> BTreeMap<&'static str, Spread> {
        let mut latencies = BTreeMap::from([
            ("queue", Spread::of_micros(self.tally.queue_micros().summary())),
            ("socket", Spread::of_micros(self.socket_micros.summary()).with(standing.waiting)),
        ]);
        if let Some(ear) = self.ear_micros.get() {
            latencies.insert("ear", Spread::of_micros(ear.summary()));
        }
        latencies
    }

    /// How long so many blocks sound.
    #[must_use]
    pub fn seconds(&self, blocks: u64) -> f64 {
        self.format.span(self.format.position(blocks)).as_secs_f64()
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
