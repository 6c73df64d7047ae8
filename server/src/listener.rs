//! Somebody who listens, and what there is to tell of them: a row of `/api/v1/listeners`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aircheck_engine::{EndReason, Format, Overflow, Recorder, Snapshot, Tally, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;

use crate::mount::Mount;
use crate::wire::Wire;

/// Somebody who listens.
#[derive(Debug)]
pub struct Listener {
    id: u64,
    name: String,
    mount: Mount,
    overflow: Overflow,
    connected_at: Timestamp,
    format: Format,
    tally: Arc<Tally>,
    wire: Arc<Wire>,
    /// Ends the connection when the listener does not read, so that its end can't be sent.
    hang_up: Arc<Notify>,
    /// Bytes of the blocks handed over, to tell how long a queue of bytes sounds.
    block_bytes: AtomicU64,
    /// The largest lag that anybody has looked at, in microseconds: a stall shows before it is over.
    lag_most_micros: AtomicU64,
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
    /// Its account.
    pub tally: Arc<Tally>,
    /// Its connection.
    pub wire: Arc<Wire>,
    /// Ends its connection.
    pub hang_up: Arc<Notify>,
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
    /// Blocks handed to its connection.
    pub delivered: u64,
    /// Blocks that it never gets.
    pub lost: u64,
    /// Blocks in its ring.
    pub queued: u64,
    /// How far behind the live head is what left this machine: its ring, hyper and the kernel together.
    pub lag_seconds: f64,
    /// Half of the delivered blocks were at most this far behind when they were taken from the ring.
    pub lag_p50_seconds: Option<f64>,
    /// 99 of 100 were.
    pub lag_p99_seconds: Option<f64>,
    /// All were, and no lag that was looked at meanwhile was larger.
    pub lag_max_seconds: Option<f64>,
    /// How many times blocks were missing.
    pub gaps: u64,
    /// The most that were missing in a row.
    pub gap_max_blocks: u64,
    /// Bytes that were handed over and not acknowledged by its machine.
    pub socket_queued_bytes: u64,
    /// How long these sound.
    pub socket_queued_seconds: f64,
    /// Time since the capture of a block, by stage; here `queue`, from the dispatcher to the connection.
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
    /// What `recorder` has, `seconds` being the seconds in so many of its units.
    #[must_use]
    pub fn of(recorder: &Recorder, seconds: impl Fn(u64) -> f64) -> Self {
        recorder.summary().map_or_else(Self::default, |summary| Self {
            p50: Some(seconds(summary.p50)),
            p99: Some(seconds(summary.p99)),
            max: Some(seconds(summary.max)),
        })
    }

    /// What a recorder of microseconds has.
    #[must_use]
    pub fn of_micros(recorder: &Recorder) -> Self {
        Self::of(recorder, |micros| Duration::from_micros(micros).as_secs_f64())
    }
}

impl Listener {
    /// A listener that comes now, to a stream of `format`.
    pub(crate) fn new(id: u64, joining: Joining, format: Format) -> Self {
        let Joining { name, mount, overflow, tally, wire, hang_up } = joining;
        let (block_bytes, lag_most_micros) = (AtomicU64::new(0), AtomicU64::new(0));
        let connected_at = Timestamp::now();
        Self { id, name, mount, overflow, connected_at, format, tally, wire, hang_up, block_bytes, lag_most_micros }
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

    /// Counts a piece of its body that goes to hyper; `is_block` unless it is a header or tells of a gap.
    pub fn hand_over(&self, bytes: usize, is_block: bool) {
        self.wire.hand_chunk(bytes);
        if is_block {
            self.block_bytes.fetch_add(bytes as u64, Ordering::AcqRel);
        }
    }

    /// How far behind the live head is what has left this machine, in seconds.
    #[must_use]
    pub fn lag_seconds(&self) -> f64 {
        let snapshot = self.tally.snapshot();
        self.note_lag(&snapshot, self.seconds_of_bytes(self.wire.queued_bytes(), &snapshot))
    }

    /// The lag with what waits below the ring; remembered if it is the largest seen.
    fn note_lag(&self, snapshot: &Snapshot, socket_queued_seconds: f64) -> f64 {
        let lag_seconds = self.seconds(snapshot.lag_items) + socket_queued_seconds;
        self.lag_most_micros.fetch_max((lag_seconds * 1e6) as u64, Ordering::AcqRel);
        lag_seconds
    }

    /// Its row in the table.
    #[must_use]
    pub fn row(&self) -> Row {
        let snapshot = self.tally.snapshot();
        let lag = Spread::of(self.tally.lag_items(), |blocks| self.seconds(blocks));
        let gaps = self.tally.gap_items().summary();
        let socket_queued_bytes = self.wire.queued_bytes();
        let socket_queued_seconds = self.seconds_of_bytes(socket_queued_bytes, &snapshot);
        let lag_seconds = self.note_lag(&snapshot, socket_queued_seconds);
        let lag_most = Duration::from_micros(self.lag_most_micros.load(Ordering::Acquire)).as_secs_f64();
        Row {
            id: self.id,
            name: self.name.clone(),
            remote: self.wire.remote().to_string(),
            format: self.mount.label(),
            overflow: self.overflow.label(),
            connected_at: self.connected_at.as_secs_f64(),
            offered: snapshot.offered,
            delivered: snapshot.delivered,
            lost: snapshot.lost.total(),
            queued: snapshot.queued,
            lag_seconds,
            lag_p50_seconds: lag.p50,
            lag_p99_seconds: lag.p99,
            lag_max_seconds: lag.max.map(|max| max.max(lag_most)),
            gaps: gaps.map_or(0, |gaps| gaps.count),
            gap_max_blocks: gaps.map_or(0, |gaps| gaps.max),
            socket_queued_bytes,
            socket_queued_seconds,
            latency_seconds: BTreeMap::from([("queue", Spread::of_micros(self.tally.queue_micros()))]),
        }
    }

    /// How long so many blocks sound.
    #[must_use]
    pub fn seconds(&self, blocks: u64) -> f64 {
        self.format.span(self.format.position(blocks)).as_secs_f64()
    }

    /// How long `bytes` bytes sound, by the bytes of the blocks so far.
    fn seconds_of_bytes(&self, bytes: u64, snapshot: &Snapshot) -> f64 {
        let block_bytes = self.block_bytes.load(Ordering::Acquire);
        if block_bytes == 0 { 0.0 } else { bytes as f64 / block_bytes as f64 * self.seconds(snapshot.delivered) }
    }
}
