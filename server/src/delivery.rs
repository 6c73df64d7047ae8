//! The listeners: the delivery to each of them, its lag and its losses.
//!
//! A [`listener`] that joins the [`listeners`] has a ring of packets. A [`packet_reader`] takes packets out of it as the
//! listener's limit of lag permits, and a [`body`] (or a WebSocket session) writes them to the connection. Below it,
//! [`socket`] follows the bytes until the listener's program has read them. Its [`standing`] is how far behind the
//! listener is, how bad that is and where the cause is. `lag` counts the lag once for each block that was due, into the
//! [`histograms`], and `row` shows it in the API. [`heard`] checks the reports of players,
//! and [`client_messages`] takes them out of the bytes of a WebSocket.
//!
//! This folder knows no HTTP route, and no consumer other than listeners.

pub mod body;
pub mod client_messages;
pub mod heard;
pub mod histograms;
mod lag;
pub mod listener;
pub mod listeners;
pub mod packet_reader;
pub mod pending_blocks;
mod row;
pub mod socket;
pub mod standing;

pub use row::percentiles;
