//! What is told of the server.

pub mod metrics;
pub mod throttle;
pub(crate) mod watch;
