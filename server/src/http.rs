//! The HTTP server, in the way of a request.
//!
//! `accept` gives each connection a place among the `connections`, or a `refusal`. A `connection` reads requests, the `guard`
//! refuses those of other sites, and `routes` finds the answer: a file of the `page`, the status (`api`), the
//! `listener_table`, the log of `events`, status and table pushed (`watch`), or a `stream` with the parameters of its
//! `query`. A stream's connection leaves hyper for a shard of the delivery, with a `head` of our own and with the bytes
//! that its `counted_stream` has counted. Every other answer is a `reply`. [`server`] has the mounts, listeners and
//! documents that they all reach.

mod accept;
mod api;
mod connection;
mod connections;
mod context;
mod counted_stream;
mod events;
mod guard;
mod head;
mod listener_table;
mod page;
mod playlist;
mod query;
mod range;
mod recording;
mod refusal;
mod reply;
mod routes;
pub mod server;
mod shared;
mod stream;
mod table_query;
mod watch;

pub use accept::serve;
