//! What a request knows about its connection.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::delivery::socket::tracked_stream::TrackedSocket;
use crate::http::connections::Place;

/// A connection as its requests see it. It exists for as long as the connection, also as a WebSocket.
#[derive(Debug)]
pub(super) struct Context {
    /// The address at which the server listens.
    pub(super) local: SocketAddr,
    pub(super) socket: Arc<TrackedSocket>,
    /// Closes the connection as it is.
    pub(super) hang_up: Arc<Notify>,
    pub(super) place: Place,
    /// Becomes true when the server ends. The end waits until every receiver is dropped.
    pub(super) closing: watch::Receiver<bool>,
}
