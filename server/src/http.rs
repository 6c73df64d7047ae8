//! The HTTP server, in the way of a request.
//!
//! `accept` gives each connection a place among the `connections`, or a `refusal`. A `connection` takes the `proxy_header` of one of the
//! `trusted_proxies` first, and shakes hands if the server has [`tls`], so its `transport` is a socket with that or without. Then it
//! reads requests, whose clients proxies tell in fields (`forwarded`), the `guard` refuses those of other
//! sites, `denied` answers those without a token, and `routes` finds the answer: a file of the `page`, the status (`api`), the
//! `listener_table`, that with the listeners of other servers (`audience`), the log of `events`, status and table pushed (`watch`), the page's `session`, the `metadata` of a mount, playlists and
//! segments (`hls`), or a `stream` with the parameters of its `query`. A source client asks by `put`, and its connection may leave hyper, too
//! (`source_client`). A stream's connection leaves hyper for a shard of the delivery, with a `head` of our own and with the bytes
//! that its `counted_stream` has counted. Every other answer is a `reply`, and its reader must take it at an `answer_pace`. [`server`] has the mounts, listeners and
//! documents that they all reach.

mod accept;
mod answer_pace;
mod api;
mod audience;
mod connection;
mod connections;
mod context;
mod counted_stream;
mod denied;
mod events;
mod forwarded;
#[cfg(test)]
mod fuzz;
mod guard;
mod head;
mod hls;
mod listener_table;
mod metadata;
mod page;
mod permitted;
mod playlist;
pub mod port;
mod proxy_header;
pub mod push;
mod put;
mod query;
mod range;
mod recording;
mod refusal;
mod reply;
mod routes;
pub mod server;
mod session;
mod source_client;
mod station;
mod stream;
mod table_query;
pub mod tls;
mod transport;
mod trusted_proxies;
mod watch;

pub use accept::serve;
pub use context::Serves;
