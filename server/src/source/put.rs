//! Source clients: one at a time sends coded sound to a mount by HTTP.
//!
//! A thread decodes what a client sends, into a queue. The mount's supervisor opens that queue as its source, and takes a client that
//! stalls or leaves for a source that is lost; one that goes on, or another one, is a source that is back.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use aircheck_engine::source::{Arrival, Paced, Reopen, ReopenError, Source};
use bytes::{Buf as _, Bytes};
use symphonia::core::formats::probe::Hint;
use symphonia::core::io::ReadOnlySource;
use tokio::sync::{mpsc, watch};

use super::decode::Decoder;
use super::decoded::Decoded;
use super::portion::Adapter;
use super::sound_queue::SoundQueue;
use crate::metadata::MetadataLog;

/// Decoded sound that may wait, in seconds. Clients send pages of up to a second, and some send what they have kept for seconds when they
/// connect; what is late for good is worked off where the pipe of stdin's is.
const CAPACITY_SECONDS: u64 = 10;
/// Parts of a body that wait for the decoder. Each is what was read from the socket at once.
const MAX_PARTS: usize = 16;
/// How long the supervisor's thread waits for a client, before the next look half a second later. A client that comes meanwhile is heard
/// at once.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a source is lost whose client has ended its stream, or its connection.
const LEFT: &str = "the source client has left";

/// The place where source clients connect to a mount.
#[derive(Debug)]
pub struct PutInput {
    /// Rate in Hz and channels of the mount.
    format: (u32, u16),
    metadata: Arc<MetadataLog>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The client that is connected, or whose sound is not heard to its end.
    client: Option<Client>,
    is_connected: bool,
    is_closed: bool,
}

/// A client whose sound can be decoded.
#[derive(Clone, Debug)]
struct Client {
    description: String,
    queue: Arc<SoundQueue>,
}

/// The reason why a client cannot connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutRefused {
    /// Another one is connected.
    #[error("another source client is connected (end that one first)")]
    Occupied,
    /// The mount has another source now.
    #[error("the mount takes no source client any more")]
    Closed,
    /// The system gives no thread.
    #[error("no thread can be started to decode (raise the limit of threads)")]
    Thread,
}

/// The connection of a source client. Its place is free again when this is dropped.
#[derive(Debug)]
pub struct PutConnection {
    input: Arc<PutInput>,
    parts: mpsc::Sender<Bytes>,
    outcome: watch::Receiver<Option<Result<(), String>>>,
    queue: Arc<SoundQueue>,
}

impl PutInput {
    /// Makes the place for a mount of this rate in Hz and so many channels, to which all sound is converted. Titles go to `metadata`.
    ///
    /// # Errors
    ///
    /// When there is no such sound.
    pub(super) fn open(rate_hz: u32, channels: u16, metadata: Arc<MetadataLog>) -> Result<Arc<Self>, String> {
        Adapter::new(rate_hz, channels)?;
        let format = (rate_hz, channels);
        Ok(Arc::new(Self { format, metadata, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Returns what opens the connected client, for the supervisor.
    pub(super) fn reopener(input: &Arc<Self>) -> Arc<dyn Reopen> {
        Arc::new(PutReopener(Arc::clone(input)))
    }

    /// Connects a client that is called `name` in the status. `media_type` is what it says that it sends.
    ///
    /// # Errors
    ///
    /// When another client is connected, or none is wanted any more.
    pub fn connect(self: &Arc<Self>, name: &str, media_type: &str) -> Result<PutConnection, PutRefused> {
        let mut state = self.state();
        if state.is_closed {
            return Err(PutRefused::Closed);
        }
        if state.is_connected {
            return Err(PutRefused::Occupied);
        }
        let (rate_hz, channels) = self.format;
        let queue = SoundQueue::new(channels, CAPACITY_SECONDS * u64::from(rate_hz));
        let (parts, receiver) = mpsc::channel(MAX_PARTS);
        let (told, outcome) = watch::channel(None);
        let mut hint = Hint::new();
        hint.mime_type(media_type);
        let (input, to, name) = (Arc::clone(self), Arc::clone(&queue), name.to_owned());
        let body = Body { parts: receiver, part: Bytes::new() };
        thread::Builder::new()
            .name("decoder".into())
            .spawn(move || {
                let told = TellOnDrop { told, queue: Arc::clone(&to) };
                let outcome = input.decode(body, &hint, &name, &to);
                told.tell(outcome);
            })
            .map_err(|_| PutRefused::Thread)?;
        state.is_connected = true;
        drop(state);
        Ok(PutConnection { input: Arc::clone(self), parts, outcome, queue })
    }

    /// Ends the connected client, and lets none connect any more: the mount has another source now.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let client = state.client.take();
        drop(state);
        self.changed.notify_all();
        if let Some(client) = client {
            client.queue.close();
        }
    }

    /// Decodes what a client sends, until it ends, on a thread of its own.
    fn decode(&self, body: Body, hint: &Hint, name: &str, queue: &Arc<SoundQueue>) -> Result<(), String> {
        let mut decoder =
            Decoder::open(Box::new(ReadOnlySource::new(body)), hint).map_err(|why| format!("what was sent {why}"))?;
        let (rate_hz, channels) = self.format;
        let mut adapter = Adapter::new(rate_hz, channels)?;
        let mut is_offered = false;
        while let Some(portion) = decoder.next()? {
            let description =
                || format!("{name}: {}, {} Hz, {} ch", decoder.codec_name(), portion.rate_hz, portion.channels);
            if !is_offered {
                is_offered = true;
                self.offer(Client { description: description(), queue: Arc::clone(queue) });
            }
            if let Some(piece) = adapter.adapt(portion)?
                && !queue.push(piece)
            {
                break;
            }
        }
        if is_offered { Ok(()) } else { Err(format!("what was sent has no sound (it takes {})", super::decode::TAKES)) }
    }

    /// Lets the supervisor have a client, once there is sound of it. The rest of an earlier client is forgotten.
    fn offer(&self, client: Client) {
        tracing::info!("source client {}", client.description);
        self.state().client = Some(client);
        self.changed.notify_all();
    }

    /// Waits for a client with sound, for a while. If none comes, returns why.
    fn wait_for_client(&self) -> Result<Client, String> {
        let is_missing = |state: &mut State| state.client.is_none() && !state.is_closed;
        let waited = self.changed.wait_timeout_while(self.state(), OPEN_TIMEOUT, is_missing);
        let Some(client) = waited.unwrap_or_else(PoisonError::into_inner).0.client.clone() else {
            return Err("no source client is connected".to_owned());
        };
        if client.queue.wait(OPEN_TIMEOUT) {
            return Ok(client);
        }
        if client.queue.is_over() {
            self.forget(&client.queue);
            return Err(LEFT.to_owned());
        }
        Err(format!("nothing comes from the source client {}", client.description))
    }

    /// Forgets a client whose sound is heard to its end.
    fn forget(&self, queue: &Arc<SoundQueue>) {
        let mut state = self.state();
        if state.client.as_ref().is_some_and(|client| Arc::ptr_eq(&client.queue, queue)) {
            state.client = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PutConnection {
    /// Hands over what was received. Waits while the decoder has enough, and until it takes no more.
    pub async fn send(&self, part: Bytes) {
        // Fails once the decoder has ended, which `ended` tells.
        let _ = self.parts.send(part).await;
    }

    /// Waits until the decoder ends by itself.
    ///
    /// # Errors
    ///
    /// The reason, in a sentence for the client.
    pub async fn ended(&self) -> Result<(), String> {
        match self.outcome.clone().wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Says that all was sent, and waits until it is decoded.
    ///
    /// # Errors
    ///
    /// The reason why it cannot be, in a sentence for the client.
    pub async fn finish(&mut self) -> Result<(), String> {
        // The body ends for the decoder when its last sender is gone.
        self.parts = mpsc::channel(1).0;
        self.ended().await
    }

    /// Returns how long no sound has come of what was sent.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.queue.silent_for()
    }

    /// Returns whether the mount has another source now.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.input.state().is_closed
    }
}

impl Drop for PutConnection {
    fn drop(&mut self) {
        self.input.state().is_connected = false;
    }
}

/// What a client sends, as the decoder reads it.
struct Body {
    parts: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Read for Body {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let count = self.part.len().min(to.len());
        self.part.split_to(count).copy_to_slice(&mut to[..count]);
        Ok(count)
    }
}

/// Tells how the decoding has ended, also if that was by a panic.
struct TellOnDrop {
    told: watch::Sender<Option<Result<(), String>>>,
    queue: Arc<SoundQueue>,
}

impl TellOnDrop {
    fn tell(&self, outcome: Result<(), String>) {
        self.queue.end(Err(outcome.clone().err().unwrap_or_else(|| LEFT.to_owned())));
        self.told.send_if_modified(|told| told.replace(outcome).is_none());
    }
}

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        if self.told.borrow().is_none() {
            self.tell(Err("the decoder has crashed (see its message on standard error)".to_owned()));
        }
    }
}

/// Opens the client that is connected, for the supervisor.
#[derive(Debug)]
struct PutReopener(Arc<PutInput>);

impl Reopen for PutReopener {
    fn reopen(&self) -> Result<Box<dyn Source>, ReopenError> {
        let input = &self.0;
        let Client { description, queue } = input.wait_for_client().map_err(ReopenError::Absent)?;
        let reader = queue.begin_reading();
        if reader > 1 {
            // It has stalled, and silence was heard in place of what comes late.
            queue.skip_to_newest();
        }
        let (rate_hz, channels) = input.format;
        let (forgetting, of_client) = (Arc::clone(input), Arc::clone(&queue));
        let sound = Decoded {
            queue,
            format: (rate_hz, channels, None),
            description,
            arrival: Arrival::External,
            metadata: Arc::clone(&input.metadata),
            sequence: 0,
            reader,
            at_end: Some(Box::new(move || forgetting.forget(&of_client))),
        };
        Ok(Box::new(Paced::new(sound)))
    }
}
