//! The publisher: each block of a mount, or each packet of Opus, as a message on a subject of NATS, for other aircheck servers.
//!
//! The publisher is a consumer like any other, of the blocks or of an encoder, on a thread of its own. What its ring has no room for, because NATS is too slow, and
//! what NATS is not there for is lost and counted, here and by those who take the stream: the serial numbers of messages go on.
//! Blocks wait for a second at most, because later they would no longer be live, and no more than two seconds of them are in flight,
//! because the kernel would take more than anybody wants to hear late. JetStream may keep what has been sent, for those who missed
//! it; it takes that from the subject, and the publisher only sees to its stream.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use aircheck_api::MetadataNotice;
use aircheck_engine::source::BackOff;
use aircheck_engine::{
    Consumer, Delivery, End, Loss, OverflowPolicy, Stream, SubscribeError, SubscribeOptions, Timestamp,
};
use async_nats::{Client, Subject, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::{NatsUrl, PublishConfig, PublishFormat};
use crate::hop::account::{PublishAccount, Published, ReplayAccount};
use crate::hop::connection::{Connection, News, forbidden, is_about};
use crate::hop::in_flight::InFlight;
use crate::hop::message::{self, ClockAnswer, Head, HopFormat};
use crate::hop::replay::{Replay, is_about_replay};
use crate::hop::title::Title;
use crate::metadata::{Change, MetadataLog};
use crate::rendition::encoders::{EncoderError, Encoders, Subscription};
use crate::sink::publish_error::PublishError;
use crate::sink::publish_form::{Blocks, Form, Packets};

/// How long NATS may stall, or not be there, before sound is lost. It is as long as a pause that is heard as one.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// The most sound that NATS may not have read yet. It is read after half the time of a round trip, which takes 0.6 s by satellite, and a mark comes
/// back after the other half; what is sent again by TCP takes another second.
const MAX_IN_FLIGHT: Duration = Duration::from_secs(2);
/// Longest pause between two tries to connect: a try costs little, and others wait for the sound.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Requests about the clock that may wait: a few for each of many other servers, and the marks.
const CLOCK_MESSAGES: usize = 64;
/// Time between two looks at the stream of the replay, and until it is tried again to make it. A NATS server that was started anew has lost
/// it with the connection, so only others can take it away meanwhile.
const KEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A running publisher. It ends with the stream.
#[derive(Debug)]
pub struct Publisher {
    account: Arc<PublishAccount>,
    hop_format: HopFormat,
    /// Disconnected at the end of its thread, which sends nothing into it.
    ended: Receiver<()>,
}

impl Publisher {
    /// Publishes `stream` from now on as the settings say, and the titles of `metadata` with it. Opus comes from `encoders`. `epoch` is that of
    /// the stream. Returns `None` if nothing is to be published; if the stream has ended already, it also logs an error.
    ///
    /// # Errors
    ///
    /// When the sound does not fit into the form, or the system gives no more threads or files.
    pub fn start(
        config: &PublishConfig,
        stream: &Stream,
        encoders: &Arc<Encoders>,
        epoch: u64,
        metadata: &Arc<MetadataLog>,
    ) -> Result<Option<Self>, PublishError> {
        let Some(url) = &config.publish else { return Ok(None) };
        let format = stream.format();
        let options = SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: format.blocks_in(MAX_WAIT) as usize,
            ..SubscribeOptions::default()
        };
        let start = Start { url, replay: config.replay, block: format.block_span(), epoch, metadata };
        let started = match config.publish_format {
            PublishFormat::Exact => match stream.subscribe(options) {
                Ok(consumer) => start.worker(consumer, Blocks::exact(format, stream.sample_bits())),
                Err(error) => return not_published(&error),
            },
            PublishFormat::Opus { bits_per_second } => {
                let form = Packets::new(format, bits_per_second)?;
                let (encoding, group) = form.encoder();
                // The doorbell is for delivery threads, and dropped: this consumer has a thread of its own.
                match encoders.subscribe(encoding, group, 0, options) {
                    Ok(Subscription { packets, tail, .. }) => start.worker(packets, form.with_tail(tail)),
                    Err(EncoderError::Subscribe(error)) => return not_published(&error),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        Ok(Some(started?))
    }

    /// Returns its account.
    #[must_use]
    pub fn account(&self) -> &Arc<PublishAccount> {
        &self.account
    }

    /// Returns the format of the blocks that others get.
    #[must_use]
    pub fn hop_format(&self) -> HopFormat {
        self.hop_format
    }

    /// Ends it. What it has in its ring is not sent any more.
    pub fn close(&self) {
        self.account.stats().close();
    }

    /// Waits until everything is sent after the end of the stream; returns false if that takes longer than `timeout`.
    #[must_use]
    pub fn finish(self, timeout: Duration) -> bool {
        self.ended.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout)
    }
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.account.status().to)
    }
}

/// Logs why there is no publisher of a stream.
fn not_published(error: &SubscribeError) -> Result<Option<Publisher>, PublishError> {
    tracing::error!("nothing is published: {error}");
    Ok(None)
}

/// What a publisher is started with, whatever its form.
struct Start<'s> {
    url: &'s NatsUrl,
    replay: Option<Duration>,
    /// Length of a block.
    block: Duration,
    epoch: u64,
    metadata: &'s Arc<MetadataLog>,
}

impl Start<'_> {
    /// Starts the thread for a consumer.
    fn worker<F: Form>(&self, consumer: Consumer<F::Item>, form: F) -> io::Result<Publisher> {
        let (usual_bytes, _) = form.message_bytes();
        let span = self.block * form.blocks() as u32;
        let replay = self.replay.map(|kept| Replay::new(self.url.subject(), kept, span, usual_bytes));
        let replay_account = replay.as_ref().map(|it| ReplayAccount::new(it.stream(), it.span, it.max_bytes));
        let sound = Published { coding: form.coding(), bitrate: form.bitrate() };
        let account = PublishAccount::new(self.url.to_string(), sound, replay_account, Arc::clone(consumer.stats()));
        let hop_format = form.hop_format();
        let (running, ended) = mpsc::channel();
        let worker = Worker {
            consumer,
            waiting: VecDeque::new(),
            most_waiting: MAX_WAIT.div_duration_f64(span) as usize,
            in_flight: InFlight::new(self.epoch, MAX_IN_FLIGHT.div_duration_f64(span) as u64),
            form,
            account: Arc::clone(&account),
            url: self.url.clone(),
            replay,
            block: self.block,
            epoch: self.epoch,
            serial: 0,
            metadata: Arc::clone(self.metadata),
            sequence: 0,
            titled: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("publisher".into()).spawn(move || {
            let _running: mpsc::Sender<()> = running;
            runtime.block_on(worker.run());
        })?;
        Ok(Publisher { account, hop_format, ended })
    }
}

struct Worker<F: Form> {
    consumer: Consumer<F::Item>,
    /// What was taken from it while NATS was not there or has read too little, and how many messages that may be.
    waiting: VecDeque<Delivery<F::Item>>,
    most_waiting: usize,
    in_flight: InFlight,
    form: F,
    account: Arc<PublishAccount>,
    url: NatsUrl,
    replay: Option<Replay>,
    /// Length of a block.
    block: Duration,
    epoch: u64,
    /// Number of the next block among those that were offered here.
    serial: u64,
    metadata: Arc<MetadataLog>,
    /// Number of the block that was sent last.
    sequence: u64,
    /// Number of the change of the metadata that was sent last on this connection.
    titled: Option<u64>,
}

/// What a publisher needs while it is connected.
struct Link {
    connection: Connection,
    /// Requests about the clock, and marks that come back.
    clock_messages: Subscriber,
    subject: Subject,
    clock_subject: Subject,
}

impl Link {
    /// Hands a message to NATS, and waits while that takes none. Returns whether it was taken before the connection was lost.
    async fn publish(&self, message: Vec<u8>) -> bool {
        self.publish_on(&self.subject, message).await
    }

    /// Sends a mark in the same way.
    async fn mark(&self, mark: Vec<u8>) -> bool {
        self.publish_on(&self.clock_subject, mark).await
    }

    async fn publish_on(&self, subject: &Subject, message: Vec<u8>) -> bool {
        let publishing = self.connection.client.publish(subject.clone(), message.into());
        tokio::select! {
            biased;
            () = self.connection.lost() => false,
            published = publishing => published.is_ok(),
        }
    }
}

impl<F: Form> Worker<F> {
    /// Publishes until the stream ends.
    async fn run(mut self) {
        let mut back_off = BackOff::default();
        let mut was_connected = false;
        loop {
            match self.connect().await {
                Ok(Ok(mut link)) => {
                    self.account.connection.connected(was_connected);
                    tracing::info!("publishing on {} as {}", self.url, self.form.coding().label());
                    (was_connected, back_off) = (true, BackOff::default());
                    match self.publish(&mut link).await {
                        Ok(why) => self.tell(&why),
                        Err(_) => return,
                    }
                }
                Ok(Err(why)) => self.tell(&why),
                Err(_) => return,
            }
            back_off.lengthen();
            if self.wait_for(sleep(back_off.pause().min(MAX_PAUSE))).await.is_err() {
                return;
            }
        }
    }

    /// Notes and logs why nothing can be published.
    fn tell(&self, why: &str) {
        if let Some(replay) = &self.account.replay {
            replay.state.failed(why);
        }
        if self.account.connection.failed(why) {
            tracing::error!("cannot publish on {}: {why}; what does not go out within {MAX_WAIT:?} is lost", self.url);
        }
    }

    /// Notes and logs whether the replay is kept, or why not.
    fn tell_replay(&self, outcome: Result<(), String>) {
        let Some(replay) = &self.account.replay else { return };
        match outcome {
            Ok(()) if !replay.state.is_connected() => {
                replay.state.connected(false);
                tracing::info!(
                    "the last {:?} of {} are kept in the stream {}",
                    replay.span(),
                    self.url,
                    replay.stream()
                );
            }
            Ok(()) => {}
            Err(why) if replay.failed(&why) => {
                tracing::error!("{} has no replay: {why}; it is tried again, and the sound goes on live", self.url);
            }
            Err(_) => {}
        }
    }

    /// Connects, while blocks wait.
    async fn connect(&mut self) -> Result<Result<Link, String>, End> {
        let (url, head) = (self.url.clone(), self.head());
        self.wait_for(link(url, head, self.form.message_bytes().1)).await
    }

    /// Waits for something else, while blocks wait. Returns the end of the stream if that comes before.
    async fn wait_for<T>(&mut self, other: impl Future<Output = T>) -> Result<T, End> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                output = &mut other => return Ok(output),
                delivery = self.consumer.recv_async() => match delivery {
                    Ok(delivery) => self.keep_waiting(delivery),
                    Err(end) => {
                        self.lose_beyond(0);
                        return Err(end);
                    }
                }
            }
        }
    }

    fn keep_waiting(&mut self, delivery: Delivery<F::Item>) {
        self.waiting.push_back(delivery);
        self.lose_beyond(self.most_waiting);
    }

    /// Counts the oldest of the blocks that wait as lost, until no more than so many messages are left.
    fn lose_beyond(&mut self, messages: usize) {
        while self.waiting.len() > messages
            && let Some(delivery) = self.waiting.pop_front()
        {
            self.number(&delivery);
            self.account.count(false, delivery.item.stamp.blocks());
        }
    }

    /// Sends blocks and answers requests about the clock. Returns why that has ended, or the end of the stream.
    async fn publish(&mut self, link: &mut Link) -> Result<String, End> {
        let (replay, client, url) = (self.replay.clone(), link.connection.client.clone(), self.url.clone());
        let keep = |due| keep(replay.clone(), client.clone(), url.clone(), due);
        let mut keeping = std::pin::pin!(keep(Instant::now()));
        self.titled = None;
        link.mark(self.in_flight.connect()).await;
        loop {
            // What a lost connection would not take can wait for the next one.
            while link.connection.is_up()
                && self.in_flight.has_room()
                && let Some(delivery) = self.waiting.pop_front()
            {
                self.send(link, &delivery).await;
            }
            tokio::select! {
                biased;
                delivery = self.consumer.recv_async() => match delivery {
                    Ok(delivery) => self.keep_waiting(delivery),
                    Err(end) => {
                        while let Some(delivery) = self.waiting.pop_front() {
                            self.send(link, &delivery).await;
                        }
                        self.end(link).await;
                        return Err(end);
                    }
                },
                news = link.connection.news() => match news {
                    News::Lost(why) => return Ok(why),
                    News::Refused(why) if is_about(&why, self.url.subject()) => return Ok(forbidden(&self.url, &why)),
                    News::Refused(why) if is_about_replay(&why) => {
                        self.tell_replay(Err(forbidden(&self.url, &why)));
                        keeping.set(keep(Instant::now() + KEEP_INTERVAL));
                    }
                    // Marks and answers about the clock are a help; without the permission for them, it goes on.
                    News::Refused(why) => {
                        let is_on_clock = is_about(&why, &link.clock_subject);
                        if is_on_clock {
                            self.in_flight.forget();
                        }
                        let is_mark = is_on_clock && why.contains("Publish to");
                        let what = if is_mark { "it cannot be seen how far NATS has read" } else { "others cannot compare clocks" };
                        tracing::warn!("{what}: {}", forbidden(&self.url, &why));
                    }
                    // A mark may be among what was dropped.
                    News::Slow => {
                        link.mark(self.in_flight.mark()).await;
                    }
                },
                outcome = &mut keeping => {
                    self.tell_replay(outcome);
                    keeping.set(keep(Instant::now() + KEEP_INTERVAL));
                }
                Some(message) = link.clock_messages.next() => match &message.reply {
                    Some(reply) => self.tell_clock(&link.connection, reply).await,
                    None => {
                        self.in_flight.take(&message.payload);
                        self.mark_if_due(link).await;
                    }
                },
            }
        }
    }

    /// Sends a message with its title before it, if that is another one than before, and counts its blocks.
    async fn send(&mut self, link: &Link, delivery: &Delivery<F::Item>) {
        let stamp = delivery.item.stamp;
        self.sequence = stamp.sequence;
        if let Some(title) = self.next_title() {
            link.publish(title.to_bytes()).await;
        }
        let bytes = self.message(delivery);
        let is_sent = link.publish(bytes).await;
        self.account.count(is_sent, stamp.blocks());
        if is_sent {
            self.in_flight.count();
            self.mark_if_due(link).await;
        }
    }

    /// Sends what the codec has held back, and waits until NATS has everything, because the connection may end with the process.
    async fn end(&self, link: &mut Link) {
        let head = Head { coding: Some(self.form.coding()), serial: self.serial, ..self.head() };
        if let Some(bytes) = self.form.end(&Head { sequence: self.sequence + 1, ..head }) {
            link.publish(bytes).await;
        }
        // NATS answers a request about the clock at once where nobody else does.
        let _ = link.clock_messages.unsubscribe().await;
        let _ = link.connection.confirm(self.url.subject()).await;
    }

    /// Sends a mark by which NATS shows how far it has read, if one is due.
    async fn mark_if_due(&mut self, link: &Link) {
        if let Some(mark) = self.in_flight.due_mark() {
            link.mark(mark).await;
        }
    }

    async fn tell_clock(&self, connection: &Connection, reply: &Subject) {
        let received_nanos = Timestamp::now().as_nanos();
        let sent_nanos = Timestamp::now().as_nanos();
        let mut answer = ClockAnswer { epoch: self.epoch, received_nanos, sent_nanos }.to_bytes();
        if let Some(change) = self.metadata.at(self.sequence) {
            answer.extend(self.title(&change).to_bytes());
        }
        let _ = connection.client.publish(reply.clone(), answer.into()).await;
    }

    /// Returns the title of the block that is sent next, if it is another one than before.
    fn next_title(&mut self) -> Option<Title> {
        let change = self.metadata.at(self.sequence).filter(|change| self.titled != Some(change.number))?;
        self.titled = Some(change.number);
        Some(self.title(&change))
    }

    fn title(&self, change: &Change) -> Title {
        let MetadataNotice { metadata, sequence } = change.notice.clone();
        Title { epoch: self.epoch, sequence, metadata }
    }

    /// Gives the first block of an item its serial number, with those before it that this consumer has lost. Those that the capture had lost have
    /// none.
    fn number(&mut self, delivery: &Delivery<F::Item>) -> u64 {
        let lost_here = delivery.gap.filter(|gap| !matches!(gap.reason, Loss::Source | Loss::Hop));
        let serial = self.serial + lost_here.map_or(0, |gap| gap.items);
        self.serial = serial + delivery.item.stamp.blocks();
        serial
    }

    fn message(&mut self, delivery: &Delivery<F::Item>) -> Vec<u8> {
        let (serial, stamp) = (self.number(delivery), delivery.item.stamp);
        let head = Head {
            coding: Some(self.form.coding()),
            serial,
            sequence: stamp.first(),
            captured_nanos: (stamp.captured_at - self.block * stamp.preceding).as_nanos(),
            ..self.head()
        };
        self.form.message(&head, &delivery.item)
    }

    /// Returns the head of a message that announces the format.
    fn head(&self) -> Head {
        Head {
            coding: None,
            origin: aircheck_engine::Origin::Source,
            format: self.form.hop_format(),
            frames: 0,
            epoch: self.epoch,
            serial: self.serial,
            sequence: 0,
            captured_nanos: 0,
            sent_nanos: Timestamp::now().as_nanos(),
        }
    }
}

/// Sees to the stream of a replay, at `due`. Without one, that takes for ever.
async fn keep(replay: Option<Replay>, client: Client, url: NatsUrl, due: Instant) -> Result<(), String> {
    let Some(replay) = replay else { return std::future::pending().await };
    sleep_until(due).await;
    replay.keep(&client, &url).await
}

/// Connects, and finds out whether it is permitted to publish: the server says so only of a message. Those of blocks have up to `bytes` bytes.
async fn link(url: NatsUrl, announcement: Head, bytes: usize) -> Result<Link, String> {
    let connection = Connection::open(&url, CLOCK_MESSAGES).await?;
    let limit = connection.client.max_payload();
    if bytes > limit {
        return Err(format!(
            "a block takes a message of {bytes} bytes, and the NATS server takes {limit} (raise its max_payload, or choose a shorter --block)"
        ));
    }
    let subject = Subject::from(url.subject());
    let client = &connection.client;
    let announced = client.publish(subject.clone(), message::write(&announcement, &[]).into()).await;
    announced.map_err(|error| error.to_string())?;
    connection.confirm(url.subject()).await.map_err(|why| forbidden(&url, &why))?;
    let clock_subject = Subject::from(message::clock_subject(url.subject()));
    let clock_messages = client.subscribe(clock_subject.clone()).await;
    let clock_messages = clock_messages.map_err(|error| error.to_string())?;
    Ok(Link { connection, clock_messages, subject, clock_subject })
}
