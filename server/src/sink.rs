//! Consumers of a mount that are no HTTP listeners.

#[cfg_attr(not(feature = "nats"), path = "sink/no_publisher.rs")]
pub mod publisher;
pub mod recorder;
