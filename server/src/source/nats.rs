//! Another server as the source: what it publishes on a subject of NATS.
//!
//! Its blocks keep their sequence numbers and, on this server's clock, the times of their capture. The connection is made again
//! whenever it is lost; the supervisor fills the hole, as for any source that pauses.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aircheck_engine::source::{BackOff, Running, Source, SourceError};
use aircheck_engine::{Capture, Format, Relay, RelayedBlock, Timestamp};
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use crate::config::NatsUrl;
use crate::hop::account::{HopAccount, Outcome};
use crate::hop::clock::RemoteClock;
use crate::hop::connection::{Connection, News, forbidden, is_about};
use crate::hop::message::{self, ClockAnswer, Head, HopFormat, MessageError, SampleEncoding};
use crate::hop::numbers::{NewestBlock, numbers_subject};
use crate::hop::order::{Order, Verdict};

/// Messages that may wait in the subscription: 1.3 s of blocks of 10 ms. What is older is no longer live, and the client would keep
/// 65,536, eleven minutes.
const MAX_WAITING: usize = 128;
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
    clock: RemoteClock,
}

/// The first block that has come.
struct First {
    head: Head,
    message: Bytes,
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
    /// Connects, and waits for the first block.
    ///
    /// # Errors
    ///
    /// Why nothing comes, in one line for people.
    pub(crate) fn open(url: &NatsUrl) -> Result<Self, String> {
        // The caller may be in a runtime itself, whose thread must not run another one.
        let opened = thread::scope(|scope| scope.spawn(|| Self::open_here(url)).join());
        opened.unwrap_or_else(|_| Err("opening it has crashed".to_owned()))
    }

    fn open_here(url: &NatsUrl) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("the system refused: {error}"))?;
        let account = HopAccount::new(url.to_string());
        let (link, first, clock) = runtime.block_on(async {
            let mut link = subscribe(url).await?;
            let first = first_block(&mut link.messages, &account, url).await?;
            let clock = first_clock(&link.connection, url, first.head.epoch).await;
            Ok::<_, String>((link, first, clock))
        })?;
        let format = first.head.format.to_format().map_err(|error| error.to_string())?;
        account.connection.connected(false);
        let link = OpenLink { runtime: Some(runtime), link: Some(link) };
        Ok(Self { link, url: url.clone(), account, format, first, clock })
    }

    /// Returns its account.
    pub(crate) fn account(&self) -> &Arc<HopAccount> {
        &self.account
    }

    /// Returns the number of the first block.
    pub(crate) fn first_sequence(&self) -> u64 {
        self.first.head.sequence
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
        let Self { mut link, url, account, format, first, clock } = *self;
        let stop = Arc::new(Stop::default());
        let (done, ended) = mpsc::channel::<()>();
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
            newest: None,
            samples: Vec::with_capacity(format.block_samples()),
            told: [None; 7],
        };
        let stopped = Arc::clone(&stop);
        thread::Builder::new()
            .name("capture".into())
            .spawn(move || {
                if let (Some(runtime), Some(link)) = (link.runtime.as_ref(), link.link.take()) {
                    runtime.block_on(async {
                        tokio::select! {
                            () = stopped.wait() => {}
                            () = taker.run(&first, link) => {}
                        }
                    });
                }
                drop(taker);
                drop(done);
            })
            .map_err(SourceError::Thread)?;
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
    /// The newest block, with its number here.
    newest: Option<NewestBlock>,
    samples: Vec<f32>,
    /// When a message of each outcome was last told of.
    told: [Option<Timestamp>; 7],
}

impl Taker {
    /// Takes messages for ever, over one connection after the other.
    async fn run(&mut self, first: &First, link: Link) {
        self.message(&first.message).await;
        let mut link = Some(link);
        let mut back_off = BackOff::default();
        loop {
            let why = match link.take() {
                Some(link) => {
                    back_off = BackOff::default();
                    self.receive(link).await
                }
                None => match subscribe(&self.url).await {
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
            back_off.lengthen();
            sleep(back_off.pause().min(MAX_PAUSE)).await;
        }
    }

    /// Takes messages until the connection is lost, and returns why it is.
    async fn receive(&mut self, link: Link) -> String {
        let Link { connection, mut messages, mut numbers_requests } = link;
        let mut clock_due = Instant::now();
        let clock_subject = message::clock_subject(self.url.subject());
        let mut request = std::pin::pin!(ask_clock(connection.client.clone(), clock_subject.clone(), clock_due));
        loop {
            tokio::select! {
                biased;
                message = messages.next() => match message {
                    Some(message) => self.message(&message.payload).await,
                    None => return "the connection is lost".to_owned(),
                },
                news = connection.news() => match news {
                    News::Lost(why) => return why,
                    News::Refused(why) if is_about(&why, self.url.subject()) => return forbidden(&self.url, &why),
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
                    }
                    self.account.set_clock(self.clock.offset(Timestamp::now()));
                    clock_due = Instant::now() + if self.clocks < FIRST_CLOCKS { FIRST_CLOCK_INTERVAL } else { CLOCK_INTERVAL };
                    request.set(ask_clock(connection.client.clone(), clock_subject.clone(), clock_due));
                }
            }
        }
    }

    /// Reads a message, and takes it if it is a block.
    async fn message(&mut self, bytes: &[u8]) {
        let now = Timestamp::now();
        match message::read(bytes) {
            Ok((head @ Head { encoding: Some(_), .. }, samples)) => self.take(&head, samples, now).await,
            // It announces a publisher, which sends blocks soon.
            Ok(_) => {}
            Err(error) => self.leave_out(outcome_of(error), || format!("a message is left out: {error}"), now),
        }
    }

    /// Takes a block that came at `now` into the stream, where it belongs.
    async fn take(&mut self, head: &Head, bytes: &[u8], now: Timestamp) {
        let Some(encoding) = head.encoding else { return };
        if head.format != self.hop_format {
            let HopFormat { rate_hz, channels, block_frames } = head.format;
            let text = || {
                format!(
                    "blocks of another format are left out: {rate_hz} Hz, {channels} ch, {block_frames} frames a block (start this \
                     server anew to take them)"
                )
            };
            return self.leave_out(Outcome::Format, text, now);
        }
        let verdict = match self.order.judge(head, self.block, now) {
            Ok(verdict) => verdict,
            Err(error) => return self.leave_out(outcome_of(error), || format!("a message is left out: {error}"), now),
        };
        let (lost_on_hop, is_new_epoch) = match verdict {
            Verdict::Next { lost_on_hop, is_new_epoch } => (lost_on_hop, is_new_epoch),
            Verdict::Late => return self.leave_out(Outcome::Late, || "blocks come late".to_owned(), now),
            Verdict::Duplicate => {
                return self.leave_out(Outcome::Duplicate, || "blocks come twice".to_owned(), now);
            }
            Verdict::Foreign { is_second: true } => {
                let text = || {
                    "a second publisher is on the subject, and is left out (give it a subject of its own)".to_owned()
                };
                return self.leave_out(Outcome::Foreign, text, now);
            }
            Verdict::Foreign { is_second: false } => return self.account.count(Outcome::Foreign),
        };
        if is_new_epoch {
            if self.clock_epoch != head.epoch {
                self.clock.restart();
                (self.clock_epoch, self.clocks) = (head.epoch, 0);
            }
            self.account.begin_epoch(head.epoch);
            tracing::info!("epoch {} begins at {}, with block {}", head.epoch, self.url, head.sequence);
        }
        if let Some(hop) = self.clock.hop(head.sent_nanos, now) {
            self.account.hop_micros.record(u64::try_from(hop.as_micros()).unwrap_or(u64::MAX));
        }
        message::read_samples(encoding, bytes, &mut self.samples);
        self.wait_for_room().await;
        let captured_at = self.clock.map(head.captured_nanos, head.sent_nanos, now);
        let Head { epoch, sequence, origin, .. } = *head;
        let block = RelayedBlock { epoch, sequence, captured_at, origin, lost_on_hop, samples: &self.samples };
        match self.capture.relay(&block) {
            Relay::Taken { sequence: here } => {
                self.account.count(Outcome::Taken);
                self.newest = Some(NewestBlock { sequence: here, captured_at });
                if self.account.set_number_offset(here.wrapping_sub(sequence) as i64) && here != sequence {
                    tracing::warn!(
                        "{}: the publisher's numbers do not go on where they were, because it could not ask when it started: its block \
                         {sequence} is {here} here, and has another number at servers that start from now on",
                        self.url
                    );
                }
            }
            _ => self.leave_out(Outcome::Late, || "blocks come after silence has taken their place".to_owned(), now),
        }
    }

    /// Waits while the capture ring is full: blocks that come in a burst wait in the subscription.
    async fn wait_for_room(&self) {
        let until = Instant::now() + ROOM_TIMEOUT;
        while !self.capture.has_room() && Instant::now() < until {
            sleep(ROOM_INTERVAL).await;
        }
    }

    /// Counts a message that is left out, and logs it now and then.
    fn leave_out(&mut self, outcome: Outcome, text: impl FnOnce() -> String, now: Timestamp) {
        self.account.count(outcome);
        let told = &mut self.told[outcome as usize];
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
}

impl RoundTrip {
    fn note(&self, clock: &mut RemoteClock) {
        let ClockAnswer { received_nanos, sent_nanos, .. } = self.answer;
        clock.observe(self.sent, received_nanos, sent_nanos, self.received);
    }
}

/// Compares the clocks before the first block goes on, so that times are right from the beginning.
async fn first_clock(connection: &Connection, url: &NatsUrl, epoch: u64) -> RemoteClock {
    let mut clock = RemoteClock::default();
    for _ in 0..OPENING_CLOCKS {
        let subject = message::clock_subject(url.subject());
        match ask_clock(connection.client.clone(), subject, Instant::now()).await {
            Some(trip) if trip.answer.epoch == epoch => trip.note(&mut clock),
            // It does not answer, or another one does.
            _ => break,
        }
    }
    clock
}

/// Asks the other server for its clock, at `due`. Returns nothing if it does not answer.
async fn ask_clock(client: Client, subject: String, due: Instant) -> Option<RoundTrip> {
    tokio::time::sleep_until(due).await;
    let sent = Timestamp::now();
    let answer = timeout(CLOCK_TIMEOUT, client.request(subject, "".into())).await.ok()?.ok()?;
    let received = Timestamp::now();
    Some(RoundTrip { sent, answer: ClockAnswer::read(&answer.payload)?, received })
}

/// Connects and subscribes, and finds out whether that is permitted.
async fn subscribe(url: &NatsUrl) -> Result<Link, String> {
    let connection = Connection::open(url, MAX_WAITING).await?;
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
                Ok((head, _)) if head.encoding.is_some() => return Some(First { head, message }),
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
