//! The listeners: the delivery to each of them, its lag and its losses.
//!
//! A [`listener`] that joins the [`listeners`] has a ring of packets and a place in one of the [`shards`], each a thread
//! that owns many listeners. There its [`session`] takes packets out of the ring as the listener's limit of lag permits;
//! its `output` writes them to the socket, sealed by its [`tls`] if it has that, and its `input` answers what the listener sends: [`client_messages`], of which
//! [`heard`] checks the reports. Below, [`socket`] follows the bytes until the listener's program has read them. Its
//! [`standing`] is how far behind the listener is, how bad that is and where the cause is. `lag` counts the lag once for
//! each block that was due, and `waits` keeps the last waits in the ring, both for the [`histograms`] of all listeners and for its
//! own (`own_histograms`); `row` shows them in the API, with the `state` in words; [`progress`] says whether it reads, and how slowly. Listeners that need a look get the
//! [`attention`] of the watch, and `look_budget` bounds how many looks that and the shards have.
//!
//! This folder knows no HTTP route, and no consumer other than listeners.

pub mod attention;
pub mod client_messages;
pub mod heard;
pub mod histograms;
mod input;
mod lag;
mod lag_run;
pub mod listener;
pub mod listeners;
pub(crate) mod look_budget;
pub mod mailbox;
mod output;
mod own_histograms;
pub mod progress;
pub mod remote;
mod row;
pub mod session;
mod shard;
pub mod shards;
pub mod socket;
mod stale;
pub mod standing;
mod state;
pub mod tls;
mod waits;

pub use row::{percentiles, steady_lag_millis, unrequested_seconds};
