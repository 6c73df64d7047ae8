//! Checks of a stream: its received and missing blocks, and their latency by the server's clock.

mod clock;
mod latency;
mod ledger;

pub(crate) use clock::ServerClock;
pub(crate) use latency::{Latencies, Latency};
pub(crate) use ledger::{Ledger, Notice};
