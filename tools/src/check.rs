//! Checking a stream: what came and what is missing, what time it is at the server, and how late sound is by that.

pub(crate) mod clock;
pub(crate) mod latency;
pub(crate) mod ledger;
