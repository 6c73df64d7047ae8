//! Another server as the source: what it publishes on a subject of NATS.
//!
//! Its blocks keep their sequence numbers and, on this server's clock, the times of their capture. The connection is made again
//! whenever it is lost. Blocks that have not come are fetched from the replay of the subject, if there is one and they come in time; else
//! the supervisor fills the hole, as for any source that pauses. The history of a server that starts is fetched from there, too.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_api::Metadata;
use aircheck_engine::source::{BackOff, Running, Source, SourceError};
use aircheck_engine::{Capture, Format, Relay, RelayedBlock, Timestamp};
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::config::{CaptureConfig, NatsUrl};
use crate::hop::account::{HopAccount, Outcome};
use crate::hop::clock::RemoteClock;
use crate::hop::connection::{Connection, News, forbidden, is_about};
use crate::hop::message::{self, ClockAnswer, Head, HopFormat, MessageError, SampleEncoding};
use crate::hop::numbers::{NewestBlock, numbers_subject};
use crate::hop::order::{Order, Verdict};
use crate::hop::past::{Kept, Past, PastError};
use crate::hop::replay::is_about_replay;
use crate::hop::title::Title;
use crate::metadata::MetadataLog;

/// Messages that may wait in the subscription: 1.3 s of blocks of 10 ms, and as many as come while missing ones are fetched. What is older
/// is no longer live, and the client would keep 65,536, eleven minutes.
const MAX_WAITING: usize = 128;
const SHORT_BLOCK: Duration = Duration::from_millis(10);
/// How long opening waits for the first block, whose format the stream has.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a block waits for room in the capture ring, which the dispatcher empties each few milliseconds.
const ROOM_TIMEOUT: Duration = Duration::from_millis(200);
const ROOM_INTERVAL: Duration = Duration::from_millis(1);
/// Times between two requests about the clock: at first, and once there are several answers.
const FIRST_CLOCK_INTERVAL: Duration = Duration::from_millis(100);
const CLOCK_INTERVAL: Duration = Duration::from_secs(2);
/// Answers about the clock that opening waits for.
const OPENING_CLOCKS: u32 = 3;
/// Answers that come at the first interval.
const FIRST_CLOCKS: u32 = 8;
/// Blocks that were missing go on at this many times the pace of sound, so that no ring of an encoder or a listener overflows: an encoder of a
/// debug build, for JSON lines, was seen to lose blocks at eight times.
const FILL_PACE: u32 = 4;
/// How long the replay may take for the next message of the history, when this server starts.
const PAST_TIMEOUT: Duration = Duration::from_secs(1);
/// Time from the loss of a connection to the first try to make it again. What comes meanwhile may still be fetched in time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two tries to connect: a try costs little, and listeners wait for it.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// How long the other server may take to tell of its clock.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stop waits for the thread.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// The least time between two lines of the log about messages of the same kind that are left out.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// What another server publishes, after its first block has come.
pub(crate) struct NatsSource {
    link: OpenLink,
    url: NatsUrl,
    account: Arc<HopAccount>,
    format: Format,
    first: First,
    /// Where the history begins, if there is any.
    past: Option<PastBlock>,
    hop_wait: Duration,
    clock: RemoteClock,
    /// The title of the newest block.
    title: Option<Title>,
    metadata: Arc<MetadataLog>,
}

/// The first block that has come.
struct First {
    head: Head,
    message: Bytes,
    came_at: Timestamp,
}

/// A block of the replay.
struct PastBlock {
    head: Head,
    kept: Kept,
}

/// A connection, and the subscriptions on it.
struct Link {
    connection: Connection,
    messages: Subscriber,
    numbers_requests: Subscriber,
}

/// A link with the runtime that it lives in, and ends in.
struct OpenLink {
    runtime: Option<Runtime>,
    link: Option<Link>,
}

impl Drop for OpenLink {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        {
            // The subscription tells its connection of its end by a task.
            let _entered = runtime.enter();
            drop(self.link.take());
        }
        // Whoever drops this may be a task itself, which must not wait for others.
        runtime.shutdown_background();
    }
}

impl NatsSource {
    /// Connects, and waits for the first block. Titles go to `metadata`.
    ///
    /// # Errors
    ///
    /// Why nothing comes, in one line for people.
    pub(crate) fn open(url: &NatsUrl, config: &CaptureConfig, metadata: &Arc<MetadataLog>) -> Result<Self, String> {
        // The caller may be in a runtime itself, whose thread must not run another one.
        let opened = thread::scope(|scope| scope.spawn(|| Self::open_here(url, config, metadata)).join());
        opened.unwrap_or_else(|_| Err("opening it has crashed".to_owned()))
    }

    fn open_here(url: &NatsUrl, config: &CaptureConfig, metadata: &Arc<MetadataLog>) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("the system refused: {error}"))?;
        let account = HopAccount::new(url.to_string());
        let hop_wait = config.hop_wait.unwrap_or_default();
        let (link, first, format, (clock, title), past) = runtime.block_on(async {
            let mut link = subscribe(url, hop_wait).await?;
            let first = first_block(&mut link.messages, &account, url).await?;
            let format = first.head.format.to_format().map_err(|error| error.to_string())?;
            let clock = first_clock(&link.connection, url, first.head.epoch).await;
            let past = first_past(&link.connection, url, &first.head, format.blocks_in(config.history)).await;
            Ok::<_, String>((link, first, format, clock, past))
        })?;
        account.connection.connected(false);
        let link = OpenLink { runtime: Some(runtime), link: Some(link) };
        let (url, metadata) = (url.clone(), Arc::clone(metadata));
        Ok(Self { link, url, account, format, first, past, hop_wait, clock, title, metadata })
    }

    /// Returns its account.
    pub(crate) fn account(&self) -> &Arc<HopAccount> {
        &self.account
    }

    /// Returns the number of the first block that has come live.
    pub(crate) fn first_live(&self) -> u64 {
        self.first.head.sequence
    }

    /// Returns the number of the first block, which may be older than this server.
    pub(crate) fn first_sequence(&self) -> u64 {
        self.past.as_ref().map_or(self.first.head.sequence, |past| past.head.sequence)
    }

    /// Returns the length of its blocks.
    pub(crate) fn block_span(&self) -> Duration {
        self.format.block_span()
    }
}

impl Source for NatsSource {
    fn rate_hz(&self) -> u32 {
        self.format.rate_hz()
    }

    fn channels(&self) -> u16 {
        self.format.channels()
    }

    fn sample_bits(&self) -> Option<u16> {
        self.first.head.encoding.and_then(SampleEncoding::sample_bits)
    }

    fn description(&self) -> String {
        format!("aircheck through {}", self.url)
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        let Self { mut link, url, account, format, first, past, hop_wait, clock, title, metadata } = *self;
        let stop = Arc::new(Stop::default());
        let (done, ended) = mpsc::channel::<()>();
        let (has_caught_up, caught_up) = mpsc::channel::<()>();
        let mut taker = Taker {
            capture,
            url,
            account,
            hop_format: format.into(),
            block: format.block_span(),
            order: Order::default(),
            clock_epoch: first.head.epoch,
            clocks: 0,
            clock,
            metadata,
            title_at: title.as_ref().map(Title::place),
            title,
            newest: None,
            samples: Vec::with_capacity(format.block_samples()),
            hop_wait,
            taken_at: Instant::now(),
            caught_up_to: 0,
            is_replay_refused: false,
            told: [None; Outcome::ALL.len()],
        };
        let stopped = Arc::clone(&stop);
        thread::Builder::new()
            .name("capture".into())
            .spawn(move || {
                if let (Some(runtime), Some(link)) = (link.runtime.as_ref(), link.link.take()) {
                    runtime.block_on(async {
                        tokio::select! {
                            () = stopped.wait() => {}
                            () = taker.run(&first, past, link, has_caught_up) => {}
                        }
                    });
                }
                drop(taker);
                drop(done);
            })
            .map_err(SourceError::Thread)?;
        // Until the history is there, it comes faster than a consumer has to take it.
        let _ = caught_up.recv();
        Ok(Box::new(RunningTaker { stop, ended }))
    }
}

/// Tells the thread to stop.
#[derive(Debug, Default)]
struct Stop {
    is_set: AtomicBool,
    rung: tokio::sync::Notify,
}

impl Stop {
    fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.rung.notify_one();
    }

    async fn wait(&self) {
        while !self.is_set.load(Ordering::Acquire) {
            self.rung.notified().await;
        }
    }
}

#[derive(Debug)]
struct RunningTaker {
    stop: Arc<Stop>,
    ended: mpsc::Receiver<()>,
}

impl Running for RunningTaker {
    fn stop(self: Box<Self>) {
        self.stop.set();
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

/// The loop of the capture thread.
struct Taker {
    capture: Capture,
    url: NatsUrl,
    account: Arc<HopAccount>,
    hop_format: HopFormat,
    block: Duration,
    order: Order,
    clock: RemoteClock,
    /// The run of the publisher whose clock that is, and how often it has told of it.
    clock_epoch: u64,
    clocks: u32,
    metadata: Arc<MetadataLog>,
    /// A title whose first block has not come, and the place of the newest one that has been told.
    title: Option<Title>,
    title_at: Option<(u64, u64)>,
    /// The newest block, with its number here.
    newest: Option<NewestBlock>,
    samples: Vec<f32>,
    /// How long the sound may stand still for blocks that are missing.
    hop_wait: Duration,
    /// When a block last went on.
    taken_at: Instant,
    /// Serial number after the blocks that were fetched at the start, some of which may still come live.
    caught_up_to: u64,
    /// Whether NATS does not permit this connection to fetch anything.
    is_replay_refused: bool,
    /// When a message of each outcome was last told of.
    told: [Option<Timestamp>; Outcome::ALL.len()],
}

impl Taker {
    /// Takes messages for ever, over one connection after the other. What the replay has of the time before comes first.
    async fn run(&mut self, first: &First, past: Option<PastBlock>, mut link: Link, has_caught_up: mpsc::Sender<()>) {
        match past {
            Some(past) => self.catch_up(first, past, &mut link).await,
            None => self.message(&link.connection, &first.message).await,
        }
        drop(has_caught_up);
        let mut link = Some(link);
        let mut back_off = BackOff::default();
        loop {
            let why = match link.take() {
                Some(link) => {
                    let connected_at = Instant::now();
                    let why = self.receive(link).await;
                    if self.taken_at > connected_at {
                        back_off = BackOff::default();
                    }
                    why
                }
                None => match subscribe(&self.url, self.hop_wait).await {
                    Ok(again) => {
                        self.account.connection.connected(true);
                        tracing::info!("connected again to {}", self.url);
                        link = Some(again);
                        continue;
                    }
                    Err(why) => why,
                },
            };
            if self.account.connection.failed(&why) {
                tracing::error!("nothing comes from {}: {why}; it is tried again", self.url);
            }
            sleep(back_off.pause().clamp(FIRST_PAUSE, MAX_PAUSE)).await;
            back_off.lengthen();
        }
    }

    /// Takes what the replay has from `past` on, until it has all blocks that have come live meanwhile. Those are left where they came,
    /// because the replay has them, too.
    async fn catch_up(&mut self, first: &First, past: PastBlock, link: &mut Link) {
        // Where the clocks cannot be compared, a block that has come live is needed to know how far they are apart.
        self.clock.map(first.head.captured_nanos, first.head.sent_nanos, first.came_at);
        let (epoch, mut newest) = (first.head.epoch, first.head.serial);
        let (from, begun_at) = (past.head.serial, Instant::now());
        let opened = Past::new(&link.connection.client, self.url.subject()).await;
        let mut reader = match opened {
            Ok(replay) => replay.after(&past.kept, newest - from),
            Err(why) => return self.give_up(&why),
        };
        // The newest title comes in its place, unless it is older than the history.
        let title = self.title.take_if(|title| title.sequence > past.head.sequence);
        if title.is_some() {
            self.title_at = None;
        }
        let mut kept = past.kept;
        loop {
            self.note_kept_title(&kept, epoch);
            if let Some(head) = kept.head_in(epoch) {
                self.take_kept(&kept, Outcome::Past).await;
                if head.serial >= newest {
                    break;
                }
            }
            let patience = Instant::now() + PAST_TIMEOUT;
            kept = loop {
                tokio::select! {
                    biased;
                    message = link.messages.next() => match message {
                        Some(message) => if let Ok((head, _)) = message::read(&message.payload) && head.epoch == epoch {
                            newest = newest.max(head.serial);
                        },
                        None => return self.give_up(&PastError::Failed("the connection is lost".to_owned())),
                    },
                    read = timeout_at(patience, reader.next()) => match read {
                        Ok(Ok(kept)) => break kept,
                        Ok(Err(why)) => return self.give_up(&why),
                        Err(_) => return self.give_up(&PastError::Failed("JetStream does not answer".to_owned())),
                    },
                }
            };
        }
        self.caught_up_to = self.order.next_serial().unwrap_or_default();
        if let Some(title) = title.filter(|title| self.title_at < Some(title.place())) {
            self.note_title(title);
        }
        tracing::info!(
            "the history begins with {} blocks of the replay of {}, fetched in {:.1?}",
            self.caught_up_to - from,
            self.url,
            begun_at.elapsed()
        );
    }

    /// Tells that the history is not fetched to its end. What is missing counts as lost.
    fn give_up(&self, why: &PastError) {
        tracing::warn!("the history of {} is not complete: {why}", self.url);
    }

    /// Takes messages until the connection is lost, and returns why it is.
    async fn receive(&mut self, link: Link) -> String {
        let Link { connection, mut messages, mut numbers_requests } = link;
        self.is_replay_refused = false;
        let mut clock_due = Instant::now();
        let clock_subject = message::clock_subject(self.url.subject());
        let mut request = std::pin::pin!(ask_clock(connection.client.clone(), clock_subject.clone(), clock_due));
        loop {
            tokio::select! {
                biased;
                message = messages.next() => match message {
                    Some(message) => self.message(&connection, &message.payload).await,
                    None => return "the connection is lost".to_owned(),
                },
                news = connection.news() => match news {
                    News::Lost(why) => return why,
                    News::Refused(why) if is_about(&why, self.url.subject()) => return forbidden(&self.url, &why),
                    News::Refused(why) if is_about_replay(&why) => {
                        self.is_replay_refused = true;
                        tracing::warn!("blocks that are missing cannot be fetched: {}", forbidden(&self.url, &why));
                    }
                    News::Refused(why) if is_about(&why, &numbers_subject(self.url.subject())) => {
                        tracing::warn!(
                            "a publisher that starts anew cannot ask here where its numbers go on: {}",
                            forbidden(&self.url, &why)
                        );
                    }
                    News::Refused(why) => {
                        tracing::warn!("the clocks are not compared: {}", forbidden(&self.url, &why));
                    }
                    News::Slow => {
                        self.account.count_slow();
                        tracing::warn!("this server is too slow for {}: messages are lost", self.url);
                    }
                },
                Some(request) = numbers_requests.next() => {
                    if let (Some(newest), Some(reply)) = (self.newest, request.reply) {
                        let _ = connection.client.publish(reply, newest.to_bytes(Timestamp::now()).into()).await;
                    }
                }
                trip = &mut request => {
                    if let Some(trip) = trip.filter(|trip| trip.answer.epoch == self.clock_epoch) {
                        trip.note(&mut self.clock);
                        self.clocks += 1;
                        // One that has come before its block is as new, and may have been changed since.
                        if let Some(title) = trip.title.filter(|title| self.title_at < Some(title.place())) {
                            self.note_title(title);
                        }
                    }
                    self.account.set_clock(self.clock.offset(Timestamp::now()));
                    clock_due = Instant::now() + if self.clocks < FIRST_CLOCKS { FIRST_CLOCK_INTERVAL } else { CLOCK_INTERVAL };
                    request.set(ask_clock(connection.client.clone(), clock_subject.clone(), clock_due));
                }
            }
        }
    }

    /// Reads a message that has come live, and takes it if it is a block, after those that are missing before it.
    async fn message(&mut self, connection: &Connection, bytes: &[u8]) {
        match Title::read(bytes) {
            Some(Ok(title)) => return self.note_title(title),
            Some(Err(error)) => return self.leave_out_message(error),
            None => {}
        }
        match message::read(bytes) {
            Ok((head @ Head { encoding: Some(_), .. }, samples)) => {
                if self.order.epoch() == Some(head.epoch) && head.serial < self.caught_up_to {
                    return;
                }
                self.caught_up_to = 0;
                self.fill(connection, &head).await;
                self.take(&head, samples, Outcome::Taken).await;
            }
            // It announces a publisher, which sends blocks soon.
            Ok(_) => {}
            Err(error) => self.leave_out_message(error),
        }
    }

    /// Notes a title until its first block comes, unless it is older than the last one, or of a second publisher.
    fn note_title(&mut self, title: Title) {
        let is_older = |(epoch, sequence)| epoch == title.epoch && title.sequence < sequence;
        if self.title_at.is_some_and(is_older) || self.order.is_foreign(title.epoch, Timestamp::now()) {
            return;
        }
        self.title_at = Some(title.place());
        self.title = Some(title);
    }

    /// Notes a message of the replay, if it is a title of this epoch.
    fn note_kept_title(&mut self, kept: &Kept, epoch: u64) {
        if let Some(Ok(title)) = Title::read(&kept.message)
            && title.epoch == epoch
        {
            self.note_title(title);
        }
    }

    /// Takes a message of the replay, if it is a block.
    async fn take_kept(&mut self, kept: &Kept, outcome: Outcome) {
        if let Ok((head @ Head { encoding: Some(_), .. }, samples)) = message::read(&kept.message) {
            self.take(&head, samples, outcome).await;
        }
    }

    /// Fetches the blocks that are missing before one that has come, as long as the sound does not stand still for too long.
    async fn fill(&mut self, connection: &Connection, head: &Head) {
        let missing = self.order.missing_before(head, self.block, Timestamp::now());
        if missing.is_empty() || head.format != self.hop_format {
            return;
        }
        let before = self.account.counted(Outcome::Filled);
        let outcome = self.fetch(connection, head.epoch, missing.clone()).await;
        let fetched = self.account.counted(Outcome::Filled) - before;
        let count = missing.end - missing.start;
        let why = match outcome {
            Err(PastError::None) => return,
            Ok(()) => String::new(),
            Err(why) => format!(": {why}"),
        };
        let text = || format!("{fetched} of {count} blocks that had not come were fetched from the replay{why}");
        self.tell(Outcome::Filled, text);
    }

    /// Takes these blocks from the replay, in their order.
    async fn fetch(&mut self, connection: &Connection, epoch: u64, missing: Range<u64>) -> Result<(), PastError> {
        let too_late = || PastError::Failed("the others would come too late".to_owned());
        let deadline = self.taken_at + self.hop_wait;
        if deadline <= Instant::now() {
            return Err(if self.hop_wait.is_zero() { PastError::None } else { too_late() });
        }
        if self.is_replay_refused {
            return Err(PastError::None);
        }
        let replay = Past::new(&connection.client, self.url.subject()).await?;
        // From the block before, because a title may have been between.
        let found = timeout_at(deadline, replay.find(epoch, missing.start.saturating_sub(1))).await;
        let mut kept = found.map_err(|_| too_late())??;
        let mut reader = replay.after(&kept, missing.end - missing.start + 1);
        loop {
            self.note_kept_title(&kept, epoch);
            if let Some(head) = kept.head_in(epoch) {
                if head.serial >= missing.end {
                    return Ok(());
                }
                if missing.contains(&head.serial) {
                    self.take_kept(&kept, Outcome::Filled).await;
                    if head.serial + 1 == missing.end {
                        return Ok(());
                    }
                    sleep(self.block / FILL_PACE).await;
                }
            }
            let read = timeout_at(self.taken_at + self.hop_wait, reader.next()).await;
            kept = read.map_err(|_| too_late())??;
        }
    }

    /// Takes a block into the stream, where it belongs. `outcome` says by which way it has come.
    async fn take(&mut self, head: &Head, bytes: &[u8], outcome: Outcome) {
        let Some(encoding) = head.encoding else { return };
        let now = Timestamp::now();
        if head.format != self.hop_format {
            let HopFormat { rate_hz, channels, block_frames } = head.format;
            let text = || {
                format!(
                    "blocks of another format are left out: {rate_hz} Hz, {channels} ch, {block_frames} frames a block (start this \
                     server anew to take them)"
                )
            };
            return self.leave_out(Outcome::Format, text);
        }
        let verdict = match self.order.judge(head, self.block, now) {
            Ok(verdict) => verdict,
            Err(error) => return self.leave_out_message(error),
        };
        let (lost_on_hop, is_new_epoch) = match verdict {
            Verdict::Next { lost_on_hop, is_new_epoch } => (lost_on_hop, is_new_epoch),
            Verdict::Late => return self.leave_out(Outcome::Late, || "blocks come late".to_owned()),
            Verdict::Duplicate => return self.leave_out(Outcome::Duplicate, || "blocks come twice".to_owned()),
            Verdict::Foreign { is_second: true } => {
                let text = || {
                    "a second publisher is on the subject, and is left out (give it a subject of its own)".to_owned()
                };
                return self.leave_out(Outcome::Foreign, text);
            }
            Verdict::Foreign { is_second: false } => return self.account.count(Outcome::Foreign),
        };
        if is_new_epoch {
            if self.clock_epoch != head.epoch {
                self.clock.restart();
                (self.clock_epoch, self.clocks) = (head.epoch, 0);
            }
            if self.title.as_ref().is_none_or(|title| title.epoch != head.epoch) {
                // Nothing is known of its sound yet.
                let (epoch, sequence) = (head.epoch, head.sequence);
                self.title = Some(Title { epoch, sequence, metadata: Metadata::default() });
            }
            self.account.begin_epoch(head.epoch);
            tracing::info!("epoch {} begins at {}, with block {}", head.epoch, self.url, head.sequence);
        }
        let is_past = outcome == Outcome::Past;
        if let Some(hop) = self.clock.hop(head.sent_nanos, now).filter(|_| !is_past) {
            self.account.hop_micros.record(u64::try_from(hop.as_micros()).unwrap_or(u64::MAX));
        }
        message::read_samples(encoding, bytes, &mut self.samples);
        self.wait_for_room().await;
        let captured_at = self.clock.map(head.captured_nanos, head.sent_nanos, now);
        let Head { epoch, sequence, origin, .. } = *head;
        let block = RelayedBlock { epoch, sequence, captured_at, origin, lost_on_hop, is_past, samples: &self.samples };
        // Before the block, because encoders look when they get it.
        let is_due = |title: &mut Title| title.epoch == epoch && title.sequence <= sequence;
        if let Some(number) = self.capture.number_of(&block)
            && let Some(title) = self.title.take_if(is_due)
        {
            self.metadata.set(title.metadata, number);
        }
        match self.capture.relay(&block) {
            Relay::Taken { sequence: here } => {
                self.account.count(outcome);
                self.newest = Some(NewestBlock { sequence: here, captured_at });
                if self.account.set_number_offset(here.wrapping_sub(sequence) as i64) && here != sequence {
                    tracing::warn!(
                        "{}: the publisher's numbers do not go on where they were, because it could not ask when it started: its block \
                         {sequence} is {here} here, and has another number at servers that start from now on",
                        self.url
                    );
                }
            }
            _ => self.leave_out(Outcome::Late, || "blocks come after silence has taken their place".to_owned()),
        }
        self.taken_at = Instant::now();
    }

    /// Waits while the capture ring is full: blocks that come in a burst wait in the subscription.
    async fn wait_for_room(&self) {
        let until = Instant::now() + ROOM_TIMEOUT;
        while !self.capture.has_room() && Instant::now() < until {
            sleep(ROOM_INTERVAL).await;
        }
    }

    fn leave_out_message(&mut self, error: MessageError) {
        self.leave_out(outcome_of(error), || format!("a message is left out: {error}"));
    }

    /// Counts a message that is left out, and logs it now and then.
    fn leave_out(&mut self, outcome: Outcome, text: impl FnOnce() -> String) {
        self.account.count(outcome);
        self.tell(outcome, text);
    }

    /// Logs something about messages of this outcome, unless that was done a moment ago.
    fn tell(&mut self, outcome: Outcome, text: impl FnOnce() -> String) {
        let (told, now) = (&mut self.told[outcome as usize], Timestamp::now());
        if told.is_none_or(|told| now.since(told) >= TELL_INTERVAL) {
            *told = Some(now);
            tracing::warn!("{}: {}", self.url, text());
        }
    }
}

impl fmt::Debug for NatsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSource").field("url", &self.url).finish_non_exhaustive()
    }
}

/// An answer about the clock, with the times at which it was asked for and came.
struct RoundTrip {
    sent: Timestamp,
    answer: ClockAnswer,
    received: Timestamp,
    title: Option<Title>,
}

impl RoundTrip {
    fn note(&self, clock: &mut RemoteClock) {
        let ClockAnswer { received_nanos, sent_nanos, .. } = self.answer;
        clock.observe(self.sent, received_nanos, sent_nanos, self.received);
    }
}

/// Compares the clocks before the first block goes on, so that times are right from the beginning. Returns the newest title, too.
async fn first_clock(connection: &Connection, url: &NatsUrl, epoch: u64) -> (RemoteClock, Option<Title>) {
    let (mut clock, mut title) = (RemoteClock::default(), None);
    for _ in 0..OPENING_CLOCKS {
        let subject = message::clock_subject(url.subject());
        match ask_clock(connection.client.clone(), subject, Instant::now()).await {
            Some(trip) if trip.answer.epoch == epoch => {
                trip.note(&mut clock);
                title = trip.title;
            }
            // It does not answer, or another one does.
            _ => break,
        }
    }
    (clock, title)
}

/// Asks the other server for its clock, at `due`. Returns nothing if it does not answer.
async fn ask_clock(client: Client, subject: String, due: Instant) -> Option<RoundTrip> {
    tokio::time::sleep_until(due).await;
    let sent = Timestamp::now();
    let answer = timeout(CLOCK_TIMEOUT, client.request(subject, "".into())).await.ok()?.ok()?;
    let received = Timestamp::now();
    let (answer, rest) = ClockAnswer::read(&answer.payload)?;
    Some(RoundTrip { sent, answer, received, title: Title::read(rest).and_then(Result::ok) })
}

/// Finds the block in the replay with which a history of so many blocks before the `first` one begins.
async fn first_past(connection: &Connection, url: &NatsUrl, first: &Head, blocks: u64) -> Option<PastBlock> {
    if blocks == 0 {
        return None;
    }
    let found = timeout(PAST_TIMEOUT, async {
        let replay = Past::new(&connection.client, url.subject()).await?;
        replay.find(first.epoch, first.serial.saturating_sub(blocks)).await
    });
    let kept = match found.await {
        Ok(Ok(kept)) => kept,
        Ok(Err(PastError::None)) => return None,
        Ok(Err(why)) => {
            tracing::warn!("the history of {url} begins now, because the replay cannot be read: {why}");
            return None;
        }
        Err(_) => {
            tracing::warn!("the history of {url} begins now, because JetStream does not answer");
            return None;
        }
    };
    let head = kept.head_in(first.epoch)?;
    let is_before = head.format == first.format && head.serial < first.serial && head.sequence < first.sequence;
    is_before.then_some(PastBlock { head, kept })
}

/// Connects and subscribes, and finds out whether that is permitted. Missing blocks may take `hop_wait`.
async fn subscribe(url: &NatsUrl, hop_wait: Duration) -> Result<Link, String> {
    let waiting = MAX_WAITING + hop_wait.div_duration_f64(SHORT_BLOCK) as usize;
    let connection = Connection::open(url, waiting).await?;
    let messages = connection.client.subscribe(url.subject().to_owned()).await.map_err(|error| error.to_string())?;
    let numbers_requests = connection.client.subscribe(numbers_subject(url.subject())).await;
    let numbers_requests = numbers_requests.map_err(|error| error.to_string())?;
    connection.confirm(url.subject()).await.map_err(|why| forbidden(url, &why))?;
    Ok(Link { connection, messages, numbers_requests })
}

/// Waits for a block.
async fn first_block(messages: &mut Subscriber, account: &HopAccount, url: &NatsUrl) -> Result<First, String> {
    let mut last_wrong = None;
    let first = timeout(OPEN_TIMEOUT, async {
        loop {
            let message = messages.next().await?.payload;
            match message::read(&message) {
                Ok((head, _)) if head.encoding.is_some() => {
                    return Some(First { head, message, came_at: Timestamp::now() });
                }
                // It announces a publisher, which sends blocks soon.
                Ok(_) => {}
                Err(error) => {
                    account.count(outcome_of(error));
                    last_wrong = Some(error);
                }
            }
        }
    });
    if let Ok(Some(first)) = first.await {
        return Ok(first);
    }
    Err(match last_wrong {
        Some(error) => format!("what comes from there is no stream: {error}"),
        None => format!(
            "nothing comes within {OPEN_TIMEOUT:?} (let another aircheck publish there: --publish {url}; or wait for it with \
             --wait-for-source)"
        ),
    })
}

fn outcome_of(error: MessageError) -> Outcome {
    match error {
        MessageError::Version(_) => Outcome::Version,
        MessageError::Malformed(_) => Outcome::Malformed,
    }
}
