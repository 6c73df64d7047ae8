//! What another server has published and this one has missed, from the [`replay`](super::replay) of the subject.
//!
//! Messages are fetched by their numbers in the stream, several at once. Where a block lies follows from the newest message and from the
//! serial numbers of both; what else is on the subject lies between, so the estimate is corrected by what is found there.

use std::ops::Range;
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetError, DirectGetErrorKind, Stream};
use async_nats::{Client, StatusCode, jetstream};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::message::{self, Head};
use super::replay::stream_name;
use crate::one_line::one_line;

/// Messages that are fetched at once: the way to the server and back takes as long as a few of them.
const FETCHES: usize = 32;
/// Messages of others that are passed over in search of one of the stream.
const MAX_FOREIGN: usize = 64;
/// Tries to find a block. Each goes back twice as far for each block that it is off, because messages of others may lie between.
const MAX_TRIES: u32 = 12;
/// Time until the stream is asked again for a message that has come live and that it does not have yet.
const NEWEST_PAUSE: Duration = Duration::from_millis(5);

/// The reason why nothing can be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PastError {
    /// There is no replay of the subject.
    #[error("there is no replay")]
    None,
    /// The connection to it is lost.
    #[error("the connection is lost")]
    Disconnected,
    /// The replay cannot be read.
    #[error("{0}")]
    Failed(String),
}

/// A message of the replay.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Its number in the stream.
    position: u64,
    /// Its bytes.
    pub(crate) message: Bytes,
}

impl Kept {
    /// Returns what it says of its block, if it is of the publisher's run `epoch`.
    pub(crate) fn head_in(&self, epoch: u64) -> Option<Head> {
        message::read(&self.message).ok().map(|(head, _)| head).filter(|head| head.epoch == epoch)
    }
}

/// A block that was found.
struct Found {
    kept: Kept,
    serial: u64,
    blocks: u64,
    /// Whether nothing older is left.
    is_oldest: bool,
}

/// The replay of a subject.
#[derive(Clone)]
pub(crate) struct Past {
    stream: Stream<()>,
    subject: String,
}

impl Past {
    /// Makes a reader of the replay, which need not be there.
    pub(crate) async fn new(client: &Client, subject: &str) -> Result<Self, PastError> {
        let context = jetstream::new(client.clone());
        let stream = context.get_stream_no_info(stream_name(subject)).await;
        let stream = stream.map_err(|error| PastError::Failed(one_line(&error.to_string())))?;
        Ok(Self { stream, subject: subject.to_owned() })
    }

    /// Finds the message with block `serial` of the run `epoch`, or a block a little before it, or the oldest one of that run that is left.
    ///
    /// # Errors
    ///
    /// When there is no replay, or it has nothing of that run.
    pub(crate) async fn find(&self, epoch: u64, serial: u64) -> Result<Kept, PastError> {
        let newest = kept(self.stream.direct_get_last_for_subject(&*self.subject).await)?;
        let mut newest = newest.ok_or(PastError::None)?;
        let mut passed = 0;
        let newest_head = loop {
            if let Some(head) = newest.head_in(epoch) {
                break head;
            }
            passed += 1;
            let before = newest.position - 1;
            newest = match kept(self.stream.direct_get(before).await)? {
                Some(kept) if passed < MAX_FOREIGN => kept,
                _ => return Err(PastError::Failed("it has other sound".to_owned())),
            };
        };
        let messages = newest_head.serial.saturating_sub(serial) / newest_head.blocks().max(1);
        let mut position = newest.position.saturating_sub(messages).max(1);
        let mut found = self.first_from(epoch, position).await?;
        // The newest message may have fewer blocks than those before it.
        let ahead = serial.saturating_sub(found.serial) / found.blocks;
        if ahead > 0
            && let Ok(nearer) = self.first_from(epoch, found.kept.position + ahead).await
        {
            position = nearer.kept.position;
            found = nearer;
        }
        for tries in 0..MAX_TRIES {
            let beyond = found.serial.saturating_sub(serial);
            if beyond == 0 || found.is_oldest {
                break;
            }
            position = position.saturating_sub(beyond << tries).max(1);
            found = match self.first_from(epoch, position).await {
                Ok(found) => found,
                // It is too far back, where an earlier run is.
                Err(_) => break,
            };
        }
        Ok(found.kept)
    }

    /// Returns the first block of a run from a position on.
    async fn first_from(&self, epoch: u64, from: u64) -> Result<Found, PastError> {
        let mut position = from;
        let mut is_oldest = from == 1;
        for _ in 0..MAX_FOREIGN {
            let Some(kept) = self.next(position).await? else { break };
            // Nothing is left of what stood there.
            is_oldest |= position == from && kept.position > from;
            if let Some(head) = kept.head_in(epoch).filter(|head| head.blocks() > 0) {
                return Ok(Found { kept, serial: head.serial, blocks: head.blocks(), is_oldest });
            }
            position = kept.position + 1;
        }
        Err(PastError::Failed("it has other sound".to_owned()))
    }

    /// Returns the first message at a position or after it.
    async fn next(&self, position: u64) -> Result<Option<Kept>, PastError> {
        kept(self.stream.direct_get_next_for_subject(&*self.subject, Some(position)).await)
    }

    /// Reads on after a message that was found. About so many are `expected`.
    pub(crate) fn after(&self, found: &Kept, expected: u64) -> PastReader {
        let next = found.position + 1;
        PastReader { past: self.clone(), next, requests: self.requests(next..next + expected.max(1)) }
    }

    fn requests(&self, positions: Range<u64>) -> Requests {
        let past = self.clone();
        let get = move |position| {
            let past = past.clone();
            async move { kept(past.stream.direct_get(position).await) }
        };
        stream::iter(positions).map(get).buffered(FETCHES).boxed()
    }
}

/// Messages that are being fetched, in their order; `None` for one that the stream does not have.
type Requests = BoxStream<'static, Result<Option<Kept>, PastError>>;

/// A reader of the replay, from one message on.
pub(crate) struct PastReader {
    past: Past,
    /// Where the next message is.
    next: u64,
    requests: Requests,
}

impl PastReader {
    /// Returns the next message. Waits for one that the stream does not have yet. If the future is dropped before it is ready, nothing
    /// is lost.
    ///
    /// # Errors
    ///
    /// When the replay cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Kept, PastError> {
        loop {
            match self.requests.next().await {
                Some(Ok(Some(kept))) => {
                    self.next = kept.position + 1;
                    return Ok(kept);
                }
                Some(Ok(None)) => {
                    // It is too old by now, or too new.
                    self.requests = self.past.requests(self.next..self.next + FETCHES as u64);
                    if let Some(kept) = self.past.next(self.next).await? {
                        self.next = kept.position + 1;
                        self.requests = self.past.requests(self.next..self.next + FETCHES as u64);
                        return Ok(kept);
                    }
                    tokio::time::sleep(NEWEST_PAUSE).await;
                }
                Some(Err(error)) => return Err(error),
                // All that were expected have come.
                None => self.requests = self.past.requests(self.next..self.next + FETCHES as u64),
            }
        }
    }
}

fn kept(got: Result<StreamMessage, DirectGetError>) -> Result<Option<Kept>, PastError> {
    match got {
        Ok(message) => Ok(Some(Kept { position: message.sequence, message: message.payload })),
        Err(error) => match error.kind() {
            DirectGetErrorKind::NotFound => Ok(None),
            DirectGetErrorKind::ErrorResponse(StatusCode::NO_RESPONDERS, _) => Err(PastError::None),
            _ => Err(PastError::Failed(one_line(&error.to_string()))),
        },
    }
}
