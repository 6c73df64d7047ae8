//! The accounts of both ends of the hop, written by their threads and read by any.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aircheck_api::{HopMessages, HopStatus, PublishStatus, ReplayStatus};
use aircheck_engine::{Precision, SharedHistogram, Stats};

use super::clock::Offset;
use super::message::Coding;

/// Hops are recorded up to this many microseconds: four and a half minutes.
const MAX_MICROS: u64 = 1 << 28;

/// The state of a connection to NATS.
#[derive(Debug, Default)]
pub struct Connection {
    is_connected: AtomicBool,
    reconnects: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Connection {
    /// Notes that the connection is there.
    pub fn connected(&self, is_again: bool) {
        *self.failure() = None;
        self.reconnects.fetch_add(u64::from(is_again), Ordering::Relaxed);
        self.is_connected.store(true, Ordering::Release);
    }

    /// Notes why the connection is not there. Returns whether that is another reason than before.
    pub fn failed(&self, why: &str) -> bool {
        self.is_connected.store(false, Ordering::Release);
        let mut failure = self.failure();
        let is_news = failure.as_deref() != Some(why);
        *failure = Some(why.to_owned());
        is_news
    }

    /// Returns whether the connection is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Acquire)
    }

    /// Returns how often it was made again.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Returns why it is not there.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.failure().clone()
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is a block of the stream, or several.
    Taken,
    /// It is a block of the stream that had not come, and was fetched from the replay.
    Filled,
    /// It is a block of the time before this server's start, fetched from the replay for the history.
    Past,
    /// It came after a later one, or after silence had taken its place.
    Late,
    /// It had come already.
    Duplicate,
    /// It is of a second publisher.
    Foreign,
    /// Its rate, channels or block length are not those of the stream.
    Format,
    /// It is of another version.
    Version,
    /// It is no message of the hop.
    Malformed,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 9] = [
        Self::Taken,
        Self::Filled,
        Self::Past,
        Self::Late,
        Self::Duplicate,
        Self::Foreign,
        Self::Format,
        Self::Version,
        Self::Malformed,
    ];
}

/// The account of the taking end.
#[derive(Debug)]
pub struct HopAccount {
    /// The server and the subject, for people.
    from: String,
    /// The connection to NATS.
    pub connection: Connection,
    messages: [AtomicU64; Outcome::ALL.len()],
    slow: AtomicU64,
    epochs: AtomicU64,
    epoch: AtomicU64,
    number_offset: AtomicI64,
    clock: Mutex<Option<Offset>>,
    coding: Mutex<Option<Coding>>,
    /// From the publisher to here, in microseconds, one value for each message while the clocks are compared.
    pub hop_micros: SharedHistogram,
}

impl HopAccount {
    /// Makes the account of what comes from a server and subject.
    #[must_use]
    pub fn new(from: String) -> Arc<Self> {
        Arc::new(Self {
            from,
            connection: Connection::default(),
            messages: Default::default(),
            slow: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            number_offset: AtomicI64::new(0),
            clock: Mutex::new(None),
            coding: Mutex::new(None),
            hop_micros: SharedHistogram::new(MAX_MICROS, Precision::TwoDigits),
        })
    }

    /// Counts a message.
    pub fn count(&self, outcome: Outcome) {
        self.messages[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many messages have had this outcome.
    #[must_use]
    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.messages[outcome as usize].load(Ordering::Relaxed)
    }

    /// Counts a time at which messages found the subscription full.
    pub fn count_slow(&self) {
        self.slow.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the epoch that is followed from now on.
    pub fn begin_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.epochs.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how far the numbers of blocks here are ahead of the publisher's. Returns whether that is another distance than before.
    pub fn set_number_offset(&self, offset: i64) -> bool {
        self.number_offset.swap(offset, Ordering::Relaxed) != offset
    }

    /// Notes how the sound is coded that comes.
    pub fn set_coding(&self, coding: Coding) {
        *self.coding.lock().unwrap_or_else(PoisonError::into_inner) = Some(coding);
    }

    /// Publishes how far the clocks are apart.
    pub fn set_clock(&self, offset: Option<Offset>) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = offset;
    }

    /// Returns the account for people and programs. `lost` is what was lost on the hop, in blocks.
    #[must_use]
    pub fn status(&self, lost: u64) -> HopStatus {
        let [taken, filled, past, late, duplicate, foreign, format, version, malformed] =
            Outcome::ALL.map(|outcome| self.counted(outcome));
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let coding = *self.coding.lock().unwrap_or_else(PoisonError::into_inner);
        HopStatus {
            from: self.from.clone(),
            coding: coding.map(|coding| coding.label().to_owned()),
            is_connected: self.connection.is_connected(),
            failure: self.connection.reason(),
            reconnects: self.connection.reconnects(),
            epoch: self.epoch.load(Ordering::Relaxed).to_string(),
            epochs: self.epochs.load(Ordering::Relaxed),
            number_offset: self.number_offset.load(Ordering::Relaxed),
            lost_blocks: lost,
            slow_consumer_events: self.slow.load(Ordering::Relaxed),
            clock_offset_seconds: clock.map(|offset| offset.nanos as f64 / 1e9),
            clock_error_seconds: clock.map(|offset| offset.error_nanos as f64 / 1e9),
            messages: HopMessages { taken, filled, past, late, duplicate, foreign, format, version, malformed },
        }
    }
}

/// The account of a replay, at the publishing end.
#[derive(Debug)]
pub struct ReplayAccount {
    /// The stream of JetStream.
    stream: String,
    span: Duration,
    max_bytes: u64,
    /// Whether the stream is there with its bounds, or why not.
    pub state: Connection,
    failures: AtomicU64,
}

impl ReplayAccount {
    /// Makes the account of the last `span` in a stream of at most so many bytes.
    #[must_use]
    pub fn new(stream: String, span: Duration, max_bytes: u64) -> Self {
        Self { stream, span, max_bytes, state: Connection::default(), failures: AtomicU64::new(0) }
    }

    /// Returns the stream of JetStream.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Returns the time that is kept.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.span
    }

    /// Counts a try to make or check the stream that has failed. Returns whether the reason is another one than before.
    pub fn failed(&self, why: &str) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.state.failed(why)
    }

    fn status(&self) -> ReplayStatus {
        ReplayStatus {
            stream: self.stream.clone(),
            span_seconds: self.span.as_secs_f64(),
            max_bytes: self.max_bytes,
            is_kept: self.state.is_connected(),
            failure: self.state.reason(),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

/// How sound is published.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The coding of the messages.
    pub coding: Coding,
    /// Its bitrate in bits per second, if it has one.
    pub bitrate: Option<u32>,
}

/// The account of the publishing end.
#[derive(Debug)]
pub struct PublishAccount {
    /// The server and the subject, for people.
    to: String,
    sound: Published,
    /// The connection to NATS.
    pub connection: Connection,
    /// The replay, if there is to be one.
    pub replay: Option<ReplayAccount>,
    stats: Arc<Stats>,
    sent: AtomicU64,
    unsent: AtomicU64,
}

impl PublishAccount {
    /// Makes the account of what goes to a server and subject, in this coding and with this replay, from a consumer with these counts.
    #[must_use]
    pub fn new(to: String, sound: Published, replay: Option<ReplayAccount>, stats: Arc<Stats>) -> Arc<Self> {
        let (sent, unsent) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { to, sound, connection: Connection::default(), replay, stats, sent, unsent })
    }

    /// Counts blocks that were handed to NATS, or that were not because it is not there.
    pub fn count(&self, is_sent: bool, blocks: u64) {
        let counter = if is_sent { &self.sent } else { &self.unsent };
        counter.fetch_add(blocks, Ordering::Release);
    }

    /// Returns the account as a consumer.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Returns the account for people and programs: each block that was offered is sent, lost or queued.
    #[must_use]
    pub fn status(&self) -> PublishStatus {
        // Read before the consumer's counts, so that those have every block of these as delivered.
        let (sent, unsent) = (self.sent.load(Ordering::Acquire), self.unsent.load(Ordering::Acquire));
        let account = self.stats.snapshot();
        PublishStatus {
            to: self.to.clone(),
            coding: self.sound.coding.label().to_owned(),
            bitrate: self.sound.bitrate,
            is_connected: self.connection.is_connected(),
            failure: self.connection.reason(),
            reconnects: self.connection.reconnects(),
            offered: account.offered,
            sent,
            lost: account.lost.total() + unsent,
            queued: (account.delivered + account.queued).saturating_sub(sent + unsent),
            replay: self.replay.as_ref().map(ReplayAccount::status),
        }
    }
}
