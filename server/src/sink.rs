//! Consumers of a mount that are no HTTP listeners.

#[cfg(feature = "nats")]
pub mod publisher;
pub mod recorder;
