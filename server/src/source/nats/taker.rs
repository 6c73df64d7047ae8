//! The loop of the capture thread: takes what comes, asks for what is missing, and connects again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use aircheck_api::Metadata;
use aircheck_engine::source::BackOff;
use aircheck_engine::{Capture, Format, Relay, RelayedBlock, Timestamp};
use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::link::{First, Link, PAST_TIMEOUT, PastBlock, ask_clock, outcome_of, subscribe};
use crate::config::NatsUrl;
use crate::hop::account::{HopAccount, Outcome};
use crate::hop::arrival::Arrival;
use crate::hop::clock::RemoteClock;
use crate::hop::connection::{Connection, News, forbidden, is_about};
use crate::hop::message::packets::read_packets;
use crate::hop::message::{self, Coding, Head, HopFormat, MessageError};
use crate::hop::numbers::{NewestBlock, numbers_subject};
use crate::hop::opus_blocks::{Decoded, OpusBlocks};
use crate::hop::order::{Order, Verdict};
use crate::hop::past::{Kept, Past, PastError};
use crate::hop::replay::is_about_replay;
use crate::hop::title::Title;
use crate::metadata::MetadataLog;

/// How long a block waits for room in the capture ring, which the dispatcher empties each few milliseconds.
const ROOM_TIMEOUT: Duration = Duration::from_millis(200);
const ROOM_INTERVAL: Duration = Duration::from_millis(1);
/// Times between two requests about the clock: at first, and once there are several answers.
const FIRST_CLOCK_INTERVAL: Duration = Duration::from_millis(100);
const CLOCK_INTERVAL: Duration = Duration::from_secs(2);
/// Answers that come at the first interval.
const FIRST_CLOCKS: u32 = 8;
/// Blocks that were missing go on at this many times the pace of sound, so that no ring of an encoder or a listener overflows: an encoder of a
/// debug build, for JSON lines, was seen to lose blocks at eight times.
const FILL_PACE: u32 = 4;
/// Time from the loss of a connection to the first try to make it again. What comes meanwhile may still be fetched in time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two tries to connect: a try costs little, and listeners wait for it.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The least time between two lines of the log about messages of the same kind that are left out.
const TELL_INTERVAL: Duration = Duration::from_secs(10);
/// Titles that may wait for their first block: more than come while a message of Opus waits for the next one.
const MAX_TITLES: usize = 16;

/// A stream as it was found when the source was opened.
pub(super) struct Found {
    pub(super) url: NatsUrl,
    pub(super) account: Arc<HopAccount>,
    pub(super) format: Format,
    /// The run of its publisher.
    pub(super) epoch: u64,
    pub(super) clock: RemoteClock,
    /// The title of the newest block.
    pub(super) title: Option<Title>,
    /// Where titles go.
    pub(super) metadata: Arc<MetadataLog>,
    /// How long the sound may stand still for blocks that are missing.
    pub(super) hop_wait: Duration,
}

/// The state of the loop.
pub(super) struct Taker {
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
    /// Titles whose first block has not come, and the place of the newest one that has been told.
    titles: VecDeque<Title>,
    title_at: Option<(u64, u64)>,
    /// The newest block, with its number here.
    newest: Option<NewestBlock>,
    /// Messages that came before the connection was lost, while blocks before them were fetched. These go on to be fetched over the next one.
    waiting: VecDeque<Bytes>,
    samples: Vec<f32>,
    /// The decoder, if the sound comes as Opus.
    opus: Option<OpusBlocks>,
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
    /// Makes the loop that takes a stream into `capture`.
    pub(super) fn new(capture: Capture, found: Found) -> Self {
        let Found { url, account, format, epoch, clock, title, metadata, hop_wait } = found;
        Self {
            capture,
            url,
            account,
            hop_format: format.into(),
            block: format.block_span(),
            order: Order::default(),
            clock,
            clock_epoch: epoch,
            clocks: 0,
            metadata,
            title_at: title.as_ref().map(Title::place),
            titles: title.into_iter().collect(),
            newest: None,
            waiting: VecDeque::new(),
            samples: Vec::with_capacity(format.block_samples()),
            opus: None,
            hop_wait,
            taken_at: Instant::now(),
            caught_up_to: 0,
            is_replay_refused: false,
            told: [None; Outcome::ALL.len()],
        }
    }

    /// Takes messages for ever, over one connection after the other. What the replay has of the time before comes first; once that is there,
    /// `has_caught_up` is dropped.
    pub(super) async fn run(
        &mut self,
        first: &First,
        past: Option<PastBlock>,
        mut link: Link,
        has_caught_up: mpsc::Sender<()>,
    ) {
        match past {
            Some(past) => self.catch_up(first, past, &mut link).await,
            // Nothing can be missing before it.
            None => drop(self.message(&link.connection, &first.message).await),
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
            Ok(replay) => replay.after(&past.kept, (newest - from) / past.head.blocks().max(1)),
            Err(why) => return self.give_up(&why),
        };
        // The newest title comes in its place, unless it is older than the history.
        let is_later = self.titles.back().is_some_and(|title| title.sequence > past.head.sequence);
        let title = if is_later { self.titles.pop_back() } else { None };
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
                        None => return self.give_up(&PastError::Disconnected),
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
            if let Err(why) = self.take_waiting(&connection, &mut messages).await {
                return why.to_string();
            }
            tokio::select! {
                biased;
                message = messages.next() => match message {
                    Some(message) => self.waiting.push_back(message.payload),
                    None => return PastError::Disconnected.to_string(),
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
                    self.account.set_clock(self.clock.applied(Timestamp::now()));
                    clock_due = Instant::now() + if self.clocks < FIRST_CLOCKS { FIRST_CLOCK_INTERVAL } else { CLOCK_INTERVAL };
                    request.set(ask_clock(connection.client.clone(), clock_subject.clone(), clock_due));
                }
            }
        }
    }

    /// Takes the messages that wait.
    ///
    /// # Errors
    ///
    /// When the connection is lost while blocks are fetched. What has come waits for the next one.
    async fn take_waiting(&mut self, connection: &Connection, messages: &mut Subscriber) -> Result<(), PastError> {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(why) = self.message(connection, &message).await {
                self.waiting.push_front(message);
                while let Some(Some(message)) = messages.next().now_or_never() {
                    self.waiting.push_back(message.payload);
                }
                return Err(why);
            }
        }
        Ok(())
    }

    /// Reads a message that has come live, and takes it if it is a block, after those that are missing before it.
    ///
    /// # Errors
    ///
    /// When the connection is lost while those are fetched. The message is not taken then.
    async fn message(&mut self, connection: &Connection, bytes: &[u8]) -> Result<(), PastError> {
        match Title::read(bytes) {
            Some(Ok(title)) => self.note_title(title),
            Some(Err(error)) => self.leave_out_message(error),
            None => match message::read(bytes) {
                Ok((head @ Head { coding: Some(_), .. }, sound)) => {
                    if self.order.epoch() == Some(head.epoch) && head.serial < self.caught_up_to {
                        return Ok(());
                    }
                    self.caught_up_to = 0;
                    self.fill(connection, &head).await?;
                    self.take(&head, sound, Outcome::Taken).await;
                }
                // It announces a publisher, which sends blocks soon.
                Ok(_) => {}
                Err(error) => self.leave_out_message(error),
            },
        }
        Ok(())
    }

    /// Notes a title until its first block comes, unless it is older than the last one, or of a second publisher.
    fn note_title(&mut self, title: Title) {
        let is_older = |(epoch, sequence)| epoch == title.epoch && title.sequence < sequence;
        if self.title_at.is_some_and(is_older) || self.order.is_foreign(title.epoch, Timestamp::now()) {
            return;
        }
        self.title_at = Some(title.place());
        if self.titles.len() >= MAX_TITLES {
            self.titles.pop_front();
        }
        self.titles.push_back(title);
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
        if let Ok((head @ Head { coding: Some(_), .. }, sound)) = message::read(&kept.message) {
            self.take(&head, sound, outcome).await;
        }
    }

    /// Fetches the blocks that are missing before one that has come, as long as the sound does not stand still for too long.
    ///
    /// # Errors
    ///
    /// When the connection is lost meanwhile. The rest can be fetched over the next one.
    async fn fill(&mut self, connection: &Connection, head: &Head) -> Result<(), PastError> {
        let missing = self.order.missing_before(head, self.block, Timestamp::now());
        if missing.is_empty() || head.format != self.hop_format {
            return Ok(());
        }
        let (mut fetched, count) = (0, missing.end - missing.start);
        let outcome = self.fetch(connection, head.epoch, missing, &mut fetched).await;
        let why = match outcome {
            Err(PastError::None) => return Ok(()),
            Err(why @ PastError::Disconnected) => return Err(why),
            Ok(()) => String::new(),
            Err(why) => format!(": {why}"),
        };
        let text = || format!("{fetched} of {count} blocks that had not come were fetched from the replay{why}");
        self.tell(Outcome::Filled, text);
        Ok(())
    }

    /// Takes these blocks from the replay, in their order, and counts them in `fetched`.
    async fn fetch(
        &mut self,
        connection: &Connection,
        epoch: u64,
        missing: Range<u64>,
        fetched: &mut u64,
    ) -> Result<(), PastError> {
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
        let find = replay.find(epoch, missing.start.saturating_sub(1));
        let mut kept = in_time(connection, deadline, find).await.ok_or_else(too_late)??;
        let blocks = kept.head_in(epoch).map_or(1, |head| head.blocks().max(1));
        let mut reader = replay.after(&kept, (missing.end - missing.start) / blocks + 1);
        loop {
            self.note_kept_title(&kept, epoch);
            if let Some(head) = kept.head_in(epoch) {
                if head.serial >= missing.end {
                    return Ok(());
                }
                if missing.contains(&head.serial) {
                    let next = self.order.next_serial();
                    self.take_kept(&kept, Outcome::Filled).await;
                    *fetched += if self.order.next_serial() == next { 0 } else { head.blocks() };
                    if head.serial.saturating_add(head.blocks()) >= missing.end {
                        return Ok(());
                    }
                    sleep(self.block * head.blocks() as u32 / FILL_PACE).await;
                }
            }
            let deadline = self.taken_at + self.hop_wait;
            kept = in_time(connection, deadline, reader.next()).await.ok_or_else(too_late)??;
        }
    }

    /// Takes a message with one block or more into the stream, where they belong. `outcome` says by which way it has come.
    async fn take(&mut self, head: &Head, sound: &[u8], outcome: Outcome) {
        let Some(coding) = head.coding else { return };
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
        if head.blocks() == 0 {
            return self.take_end(head, sound).await;
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
            self.titles.retain(|title| title.epoch == head.epoch);
            if self.titles.is_empty() {
                // Nothing is known of its sound yet.
                let (epoch, sequence) = (head.epoch, head.sequence);
                self.titles.push_back(Title { epoch, sequence, metadata: Metadata::default() });
            }
            self.account.begin_epoch(head.epoch);
            tracing::info!("epoch {} begins at {}, with block {}", head.epoch, self.url, head.sequence);
        }
        self.account.set_coding(coding);
        if let Some(hop) = self.clock.hop(head.sent_nanos, now).filter(|_| outcome != Outcome::Past) {
            self.account.hop_micros.record(u64::try_from(hop.as_micros()).unwrap_or(u64::MAX));
        }
        let captured_at = self.clock.map(head.captured_nanos, head.sent_nanos, now);
        let Head { epoch, sequence, origin, .. } = *head;
        let first = Arrival { epoch, sequence, captured_at, origin, lost_on_hop, outcome, is_first: true };
        match coding {
            Coding::Samples(encoding) => {
                let first = Arrival { lost_on_hop: lost_on_hop.saturating_add(self.drop_decoder()), ..first };
                let mut samples = std::mem::take(&mut self.samples);
                message::read_samples(encoding, sound, &mut samples);
                self.relay(&first, &samples).await;
                self.samples = samples;
            }
            Coding::Opus { pre_skip } => {
                // An encoder that has begun anew has another state, and gives no end to the blocks that wait.
                let is_another = self.opus.as_ref().map(OpusBlocks::pre_skip) != Some(pre_skip);
                let mut lost_on_hop = lost_on_hop;
                if lost_on_hop == u64::MAX || is_another {
                    lost_on_hop = lost_on_hop.saturating_add(self.drop_decoder());
                    self.opus = match OpusBlocks::new(head.format, pre_skip) {
                        Ok(decoder) => Some(decoder),
                        Err(error) => return self.leave_out_message(error),
                    };
                }
                let block = self.block;
                let arrivals = (0..head.blocks()).map(|n| Arrival {
                    sequence: sequence + n,
                    captured_at: captured_at + block * n as u32,
                    lost_on_hop: if n == 0 { lost_on_hop } else { 0 },
                    is_first: n == 0,
                    ..first
                });
                let packets = read_packets(sound).unwrap_or_default();
                let ready = self.opus.as_mut().map(|opus| opus.push(arrivals, &packets)).unwrap_or_default();
                self.relay_decoded(ready).await;
            }
        }
    }

    /// Takes a message with what the codec has held back at the end of the stream.
    async fn take_end(&mut self, head: &Head, sound: &[u8]) {
        let Some(opus) = self.opus.as_mut().filter(|_| self.order.is_end(head)) else { return };
        let mut ready = opus.push(std::iter::empty(), &read_packets(sound).unwrap_or_default());
        ready.extend(opus.finish());
        self.relay_decoded(ready).await;
    }

    /// Drops the decoder with the blocks that wait for their sound, and returns how many are lost thereby.
    fn drop_decoder(&mut self) -> u64 {
        let Some(opus) = self.opus.take() else { return 0 };
        let (waiting, lost) = opus.give_up();
        waiting
            .iter()
            .filter(|(arrival, _)| arrival.is_first)
            .for_each(|(arrival, _)| self.account.count(arrival.outcome));
        lost
    }

    /// Lets decoded blocks go on. One without samples was broken by a loss, and the next one has it in its losses.
    async fn relay_decoded(&mut self, ready: Vec<Decoded>) {
        for (arrival, samples) in ready {
            match samples {
                Some(samples) => self.relay(&arrival, &samples).await,
                None if arrival.is_first => self.account.count(arrival.outcome),
                None => {}
            }
        }
    }

    /// Lets a block go on with its number.
    async fn relay(&mut self, arrival: &Arrival, samples: &[f32]) {
        self.wait_for_room().await;
        let Arrival { epoch, sequence, captured_at, origin, lost_on_hop, outcome, is_first } = *arrival;
        let is_past = outcome == Outcome::Past;
        let block = RelayedBlock { epoch, sequence, captured_at, origin, lost_on_hop, is_past, samples };
        // Before the block, because encoders look when they get it.
        if let Some(number) = self.capture.number_of(&block) {
            let is_due = |title: &Title| title.epoch == epoch && title.sequence <= sequence;
            while self.titles.front().is_some_and(is_due)
                && let Some(title) = self.titles.pop_front()
            {
                self.metadata.set(title.metadata, number);
            }
        }
        match self.capture.relay(&block) {
            Relay::Taken { sequence: here } => {
                if is_first {
                    self.account.count(outcome);
                }
                self.newest = Some(NewestBlock { sequence: here, captured_at });
                if self.account.set_number_offset(here.wrapping_sub(sequence) as i64) && here != sequence {
                    tracing::warn!(
                        "{}: the publisher's numbers do not go on where they were, because it could not ask when it started: its block \
                         {sequence} is {here} here, and has another number at servers that start from now on",
                        self.url
                    );
                }
            }
            _ if is_first => {
                self.leave_out(Outcome::Late, || "blocks come after silence has taken their place".to_owned())
            }
            _ => {}
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

/// Returns what was asked of the replay. An answer to a request that was on its way when the connection was lost would not come.
/// Returns nothing if it does not come by `deadline`.
async fn in_time<T>(
    connection: &Connection,
    deadline: Instant,
    answer: impl Future<Output = Result<T, PastError>>,
) -> Option<Result<T, PastError>> {
    tokio::select! {
        biased;
        answer = answer => Some(if answer.is_err() && !connection.is_up() { Err(PastError::Disconnected) } else { answer }),
        () = connection.lost() => Some(Err(PastError::Disconnected)),
        () = sleep_until(deadline) => None,
    }
}
