//! An address at which the server listens.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::http::tls::ServerTls;

/// An address, and what its connections speak.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) local: SocketAddr,
    /// Their TLS, if they have any.
    pub(super) tls: Option<Arc<ServerTls>>,
}
