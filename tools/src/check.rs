//! Checking a stream: what came and what is missing, and how late it is by the server's clock.

mod clock;
mod latency;
mod ledger;

pub(crate) use clock::ServerClock;
pub(crate) use latency::{Latencies, Latency};
pub(crate) use ledger::{Ledger, Notice};
