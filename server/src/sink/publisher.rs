//! The publisher: each block of a mount as a message on a subject of NATS, for other aircheck servers.
//!
//! The publisher is a consumer like any other, on a thread of its own. What its ring has no room for, because NATS is too slow, and
//! what NATS is not there for is lost and counted, here and by those who take the stream: the serial numbers of messages go on.
//! Nothing is kept here for later, because it would no longer be live. JetStream may keep what has been sent, for those who missed it; it takes
//! that from the subject, and the publisher only sees to its stream.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aircheck_api::MetadataNotice;
use aircheck_engine::source::BackOff;
use aircheck_engine::{Block, Consumer, Delivery, End, Loss, OverflowPolicy, Stream, SubscribeOptions, Timestamp};
use async_nats::{Client, Message, Subject, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::NatsUrl;
use crate::hop::account::{PublishAccount, ReplayAccount};
use crate::hop::connection::{Connection, News, forbidden, is_about};
use crate::hop::message::{self, ClockAnswer, Head, HopFormat, SampleEncoding};
use crate::hop::replay::{Replay, is_about_replay};
use crate::hop::title::Title;
use crate::metadata::{Change, MetadataLog};

/// Length of the publisher's ring: how long NATS may stall before sound is lost. It is as long as a pause that is heard as one.
const RING_SPAN: Duration = Duration::from_secs(1);
/// Longest pause between two tries to connect: a try costs little, and others wait for the sound.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Requests about the clock that may wait: a few for each of many other servers.
const CLOCK_REQUESTS: usize = 64;
/// Time between two looks at the stream of the replay, and until it is tried again to make it. A NATS server that was started anew has lost
/// it with the connection, so only others can take it away meanwhile.
const KEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A running publisher. It ends with the stream.
#[derive(Debug)]
pub struct Publisher {
    account: Arc<PublishAccount>,
}

impl Publisher {
    /// Publishes the blocks of `stream` from now on, and the titles of `metadata` with them, with a replay of the last `replay`, if that is given. `epoch` is that of the stream.
    /// Returns `None` and logs an error if the stream has ended already.
    ///
    /// # Errors
    ///
    /// When the system gives no more threads.
    pub fn start(
        url: &NatsUrl,
        replay: Option<Duration>,
        stream: &Stream,
        epoch: u64,
        metadata: &Arc<MetadataLog>,
    ) -> io::Result<Option<Self>> {
        let format = stream.format();
        let subscribed = stream.subscribe(SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: format.blocks_in(RING_SPAN) as usize,
            ..SubscribeOptions::default()
        });
        let consumer = match subscribed {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::error!("nothing is published: {error}");
                return Ok(None);
            }
        };
        let encoding = SampleEncoding::exact_for(stream.sample_bits());
        let replay = replay.map(|span| Replay::new(url.subject(), span, format, encoding));
        let replay_account = replay.as_ref().map(|it| ReplayAccount::new(it.stream(), it.span, it.max_bytes));
        let account = PublishAccount::new(url.to_string(), replay_account, Arc::clone(consumer.stats()));
        let worker = Worker {
            consumer,
            account: Arc::clone(&account),
            url: url.clone(),
            replay,
            format: format.into(),
            encoding,
            epoch,
            serial: 0,
            metadata: Arc::clone(metadata),
            sequence: 0,
            titled: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("publisher".into()).spawn(move || runtime.block_on(worker.run()))?;
        Ok(Some(Self { account }))
    }

    /// Returns its account.
    #[must_use]
    pub fn account(&self) -> &Arc<PublishAccount> {
        &self.account
    }

    /// Ends it. What it has in its ring is not sent any more.
    pub fn close(&self) {
        self.account.stats().close();
    }
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.account.status().to)
    }
}

struct Worker {
    consumer: Consumer<Block>,
    account: Arc<PublishAccount>,
    url: NatsUrl,
    replay: Option<Replay>,
    format: HopFormat,
    encoding: SampleEncoding,
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
    clock_requests: Subscriber,
    subject: Subject,
}

impl Worker {
    /// Publishes until the stream ends.
    async fn run(mut self) {
        let mut back_off = BackOff::default();
        let mut was_connected = false;
        loop {
            match self.connect().await {
                Ok(Ok(mut link)) => {
                    self.account.connection.connected(was_connected);
                    tracing::info!("publishing on {}", self.url);
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
            if self.lose(sleep(back_off.pause().min(MAX_PAUSE))).await.is_err() {
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
            tracing::error!("cannot publish on {}: {why}; blocks are lost until that works", self.url);
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

    /// Connects, while blocks are lost.
    async fn connect(&mut self) -> Result<Result<Link, String>, End> {
        let (url, head) = (self.url.clone(), self.head());
        self.lose(link(url, head, message::bytes_of_block(self.format, self.encoding))).await
    }

    /// Waits for something else, and counts the blocks that come meanwhile as lost. Returns the end of the stream if that comes before.
    async fn lose<T>(&mut self, other: impl Future<Output = T>) -> Result<T, End> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                output = &mut other => return Ok(output),
                delivery = self.consumer.recv_async() => {
                    self.number(&delivery?);
                    self.account.count(false);
                }
            }
        }
    }

    /// Sends blocks and answers requests about the clock. Returns why that has ended, or the end of the stream.
    async fn publish(&mut self, link: &mut Link) -> Result<String, End> {
        let (replay, client, url) = (self.replay.clone(), link.connection.client.clone(), self.url.clone());
        let keep = |due| keep(replay.clone(), client.clone(), url.clone(), due);
        let mut keeping = std::pin::pin!(keep(Instant::now()));
        self.titled = None;
        loop {
            tokio::select! {
                biased;
                delivery = self.consumer.recv_async() => {
                    let delivery = match delivery {
                        Ok(delivery) => delivery,
                        Err(end) => {
                            // The last blocks are on their way before the connection ends.
                            let _ = link.connection.client.flush().await;
                            return Err(end);
                        }
                    };
                    self.sequence = delivery.item.stamp.sequence;
                    if let Some(title) = self.next_title() {
                        let _ = link.connection.client.publish(link.subject.clone(), title.to_bytes().into()).await;
                    }
                    let bytes = self.message(&delivery);
                    let is_sent = link.connection.is_up()
                        && link.connection.client.publish(link.subject.clone(), bytes.into()).await.is_ok();
                    self.account.count(is_sent);
                }
                news = link.connection.news() => match news {
                    News::Lost(why) => return Ok(why),
                    News::Refused(why) if is_about(&why, self.url.subject()) => return Ok(forbidden(&self.url, &why)),
                    News::Refused(why) if is_about_replay(&why) => {
                        self.tell_replay(Err(forbidden(&self.url, &why)));
                        keeping.set(keep(Instant::now() + KEEP_INTERVAL));
                    }
                    // The clock is a help; without the permission for it, others do without.
                    News::Refused(why) => tracing::warn!("others cannot compare clocks: {}", forbidden(&self.url, &why)),
                    News::Slow => {}
                },
                outcome = &mut keeping => {
                    self.tell_replay(outcome);
                    keeping.set(keep(Instant::now() + KEEP_INTERVAL));
                }
                Some(request) = link.clock_requests.next() => self.tell_clock(&link.connection, &request).await,
            }
        }
    }

    async fn tell_clock(&self, connection: &Connection, request: &Message) {
        let received_nanos = Timestamp::now().as_nanos();
        let Some(reply) = &request.reply else { return };
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

    /// Gives a block its serial number, with those before it that this consumer has lost. Those that the capture had lost have none.
    fn number(&mut self, delivery: &Delivery<Block>) -> u64 {
        let lost_here = delivery.gap.filter(|gap| !matches!(gap.reason, Loss::Source | Loss::Hop));
        let serial = self.serial + lost_here.map_or(0, |gap| gap.items);
        self.serial = serial + 1;
        serial
    }

    fn message(&mut self, delivery: &Delivery<Block>) -> Vec<u8> {
        let (serial, block) = (self.number(delivery), &delivery.item);
        let head = Head {
            encoding: Some(self.encoding),
            origin: block.origin(),
            frames: block.frames(),
            serial,
            sequence: block.stamp.sequence,
            captured_nanos: block.stamp.captured_at.as_nanos(),
            sent_nanos: Timestamp::now().as_nanos(),
            ..self.head()
        };
        message::write(&head, block.samples())
    }

    /// Returns the head of a message that announces the format.
    fn head(&self) -> Head {
        Head {
            encoding: None,
            origin: aircheck_engine::Origin::Source,
            format: self.format,
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

/// Connects, and finds out whether it is permitted to publish: the server says so only of a message. Those of blocks have `bytes` bytes.
async fn link(url: NatsUrl, announcement: Head, bytes: usize) -> Result<Link, String> {
    let connection = Connection::open(&url, CLOCK_REQUESTS).await?;
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
    let clock_requests = client.subscribe(message::clock_subject(url.subject())).await;
    let clock_requests = clock_requests.map_err(|error| error.to_string())?;
    Ok(Link { connection, clock_requests, subject })
}
