//! Listeners: what each of them gets, how far behind it is, and what it lost.
//!
//! A [`listener`] that joins the [`listeners`] has a ring of packets. A [`packet_reader`] takes packets out of it as the
//! listener's limit of lag permits, and a [`body`] (or a WebSocket session) writes them to the connection. Below it,
//! [`socket`] follows the bytes until the listener's program has read them. [`standing`] says from all of this how far
//! behind the listener is and where the cause is, `lag` counts it once for each block, and `row` shows it.
//! [`heard`] checks what players report from beyond.
//!
//! What is absent: HTTP routes, and other consumers than listeners.

pub mod body;
pub mod heard;
mod lag;
pub mod listener;
pub mod listeners;
pub mod packet_reader;
pub mod recorders;
mod row;
pub mod socket;
pub mod standing;

pub use row::percentiles;
