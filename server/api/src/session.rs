//! The permissions of a page's requests, for `/api/v1/session`.

use serde::{Deserialize, Serialize};

/// What requests with the same credentials may do. The page shows accordingly, or asks for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The name of the token; `null` without one.
    pub token: Option<String>,
    /// Whether the server has tokens, so that one may permit more.
    pub takes_token: bool,
    /// Whether they may listen.
    pub listen: bool,
    /// Whether status, listeners, events and metrics are at this address.
    pub has_figures: bool,
    /// Whether they may read these.
    pub stats: bool,
    /// Whether they may end listeners here.
    pub admin: bool,
    /// The `Host` of the request, which differs from that in the page's address behind a proxy that changes it.
    pub host: Option<String>,
}
