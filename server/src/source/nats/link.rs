//! A connection to what another server publishes, and what is asked over it before the first block goes on.

use std::time::Duration;

use aircheck_engine::Timestamp;
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::NatsUrl;
use crate::hop::account::{HopAccount, Outcome};
use crate::hop::clock::RemoteClock;
use crate::hop::connection::{Connection, forbidden};
use crate::hop::message::{self, ClockAnswer, Head, MessageError};
use crate::hop::numbers::numbers_subject;
use crate::hop::past::{Kept, Past, PastError};
use crate::hop::title::Title;

/// Messages that may wait in the subscription: 1.3 s of blocks of 10 ms, and as many as come while missing ones are fetched. What is older
/// is no longer live, and the client would keep 65,536, eleven minutes.
const MAX_WAITING: usize = 128;
const SHORT_BLOCK: Duration = Duration::from_millis(10);
/// How long opening waits for the first block, whose format the stream has.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests about the clock that opening waits for.
const OPENING_CLOCKS: u32 = 3;
/// How long the other server may take to tell of its clock.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the replay may take for the next message of the history, when this server starts.
pub(super) const PAST_TIMEOUT: Duration = Duration::from_secs(1);

/// The first block that has come.
pub(super) struct First {
    pub(super) head: Head,
    pub(super) message: Bytes,
    pub(super) came_at: Timestamp,
}

/// A block of the replay.
pub(super) struct PastBlock {
    pub(super) head: Head,
    pub(super) kept: Kept,
}

/// A connection, and the subscriptions on it.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) messages: Subscriber,
    pub(super) numbers_requests: Subscriber,
}

/// A link with the runtime that it lives in, and ends in.
pub(super) struct OpenLink {
    pub(super) runtime: Option<Runtime>,
    pub(super) link: Option<Link>,
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

/// Connects and subscribes, and finds out whether that is permitted. Missing blocks may take `hop_wait`.
pub(super) async fn subscribe(url: &NatsUrl, hop_wait: Duration) -> Result<Link, String> {
    let waiting = MAX_WAITING + hop_wait.div_duration_f64(SHORT_BLOCK) as usize;
    let connection = Connection::open(url, waiting).await?;
    let messages = connection.client.subscribe(url.subject().to_owned()).await.map_err(|error| error.to_string())?;
    let numbers_requests = connection.client.subscribe(numbers_subject(url.subject())).await;
    let numbers_requests = numbers_requests.map_err(|error| error.to_string())?;
    connection.confirm(url.subject()).await.map_err(|why| forbidden(url, &why))?;
    Ok(Link { connection, messages, numbers_requests })
}

/// Waits for a block.
pub(super) async fn first_block(
    messages: &mut Subscriber,
    account: &HopAccount,
    url: &NatsUrl,
) -> Result<First, String> {
    let mut last_wrong = None;
    let first = timeout(OPEN_TIMEOUT, async {
        loop {
            let message = messages.next().await?.payload;
            match message::read(&message) {
                Ok((head, _)) if head.blocks() > 0 => {
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

/// An answer about the clock, with the times at which it was asked for and came.
pub(super) struct RoundTrip {
    sent: Timestamp,
    pub(super) answer: ClockAnswer,
    received: Timestamp,
    pub(super) title: Option<Title>,
}

impl RoundTrip {
    pub(super) fn note(&self, clock: &mut RemoteClock) {
        let ClockAnswer { received_nanos, sent_nanos, .. } = self.answer;
        clock.observe(self.sent, received_nanos, sent_nanos, self.received);
    }
}

/// Compares the clocks before the first block goes on, so that times are right from the beginning. Returns the newest title, too.
pub(super) async fn first_clock(connection: &Connection, url: &NatsUrl, epoch: u64) -> (RemoteClock, Option<Title>) {
    let (mut clock, mut title) = (RemoteClock::default(), None);
    for _ in 0..OPENING_CLOCKS {
        let subject = message::clock_subject(url.subject());
        match ask_clock(connection.client.clone(), subject, Instant::now()).await {
            Some(trip) if trip.answer.epoch == epoch => {
                trip.note(&mut clock);
                title = trip.title;
            }
            // A busy publisher may not have answered in time.
            None if !connection.has_refusals() => {}
            // It may not be asked, or another one answers.
            _ => break,
        }
    }
    (clock, title)
}

/// Asks the other server for its clock, at `due`. Returns nothing if it does not answer.
pub(super) async fn ask_clock(client: Client, subject: String, due: Instant) -> Option<RoundTrip> {
    sleep_until(due).await;
    let sent = Timestamp::now();
    let answer = timeout(CLOCK_TIMEOUT, client.request(subject, "".into())).await.ok()?.ok()?;
    let received = Timestamp::now();
    let (answer, rest) = ClockAnswer::read(&answer.payload)?;
    Some(RoundTrip { sent, answer, received, title: Title::read(rest).and_then(Result::ok) })
}

/// Finds the block in the replay with which a history of so many blocks before the `first` one begins.
pub(super) async fn first_past(connection: &Connection, url: &NatsUrl, first: &Head, blocks: u64) -> Option<PastBlock> {
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

pub(super) fn outcome_of(error: MessageError) -> Outcome {
    match error {
        MessageError::Version(_) => Outcome::Version,
        MessageError::Malformed(_) => Outcome::Malformed,
    }
}
