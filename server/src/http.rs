//! The HTTP server, in the way of a request.
//!
//! [`accept`] gives each connection a place among the `connections`, or its `refusal`. A `connection` reads requests; the
//! `guard` refuses those of strangers, and `routes` finds what is asked for: the `page`, a `stream` or a `websocket` as
//! its `query` has it, a document of the `api`, or `events`. Every answer is a `reply`. [`server`] is what they all reach.

mod accept;
mod api;
mod connection;
mod connections;
mod context;
mod events;
mod guard;
mod listener_table;
mod page;
mod query;
mod refusal;
mod reply;
mod routes;
pub mod server;
mod shared;
mod stream;
mod table_query;
mod watch;
mod websocket;

pub use accept::serve;
