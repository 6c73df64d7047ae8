//! What a request knows about its connection.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use tokio::sync::watch;

use crate::delivery::remote::Client;
use crate::delivery::session::Joined;
use crate::http::connections::Place;
use crate::http::source_client::SourceClient;

/// A connection as its requests see it, until it closes or is handed to a shard.
#[derive(Debug)]
pub(super) struct Context {
    /// The address that it came to, as a URL.
    pub(super) url: Arc<str>,
    /// The client at the far end, which may be a proxy, or the one that the connection's header tells.
    pub(super) connection: Client,
    /// The client of the present request.
    client: Mutex<Client>,
    pub(super) place: Place,
    /// The routes that its address serves.
    pub(super) serves: Serves,
    /// Becomes true when the server ends. The end waits until every receiver is dropped.
    pub(super) closing: watch::Receiver<bool>,
    /// The listener that the connection is about to become.
    joined: Mutex<Option<Joined>>,
    /// The source client that the connection is about to become.
    source: Mutex<Option<SourceClient>>,
    /// The body of the present request, until an answer takes it.
    body: Mutex<Option<Incoming>>,
}

/// The routes that an address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// All of them.
    All,
    /// The page and the streams: figures and changes have an address of their own.
    Streams,
    /// Figures and changes.
    Admin,
}

impl Context {
    /// Makes the context of a connection with this client and this place.
    pub(super) fn new(
        url: Arc<str>,
        connection: Client,
        place: Place,
        serves: Serves,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let (joined, source, body) = Default::default();
        let client = Mutex::new(connection.clone());
        Self { url, connection, client, place, serves, closing, joined, source, body }
    }

    /// Returns the client of the present request.
    pub(super) fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the client of the request that is answered next.
    pub(super) fn set_client(&self, client: Client) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Sets the listener that the connection becomes once the answer is made.
    pub(super) fn join(&self, joined: Joined) {
        *self.joined.lock().unwrap_or_else(PoisonError::into_inner) = Some(joined);
    }

    /// Takes the listener that the connection becomes, if it becomes one.
    pub(super) fn take_joined(&self) -> Option<Joined> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sets the source client that the connection becomes.
    pub(super) fn become_source(&self, source: SourceClient) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    /// Takes the source client that the connection becomes, if it becomes one.
    pub(super) fn take_source(&self) -> Option<SourceClient> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns whether the connection is to become a source client's.
    pub(super) fn has_source(&self) -> bool {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns whether the connection is to be taken out of hyper's hands.
    pub(super) fn is_taken(&self) -> bool {
        self.has_source() || self.joined.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Sets the body of the request that is answered next.
    pub(super) fn set_body(&self, body: Incoming) {
        *self.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }

    /// Takes the body of the present request. One that nobody takes is not read.
    pub(super) fn take_body(&self) -> Option<Incoming> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
