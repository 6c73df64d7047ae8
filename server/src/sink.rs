//! Consumers of a mount that are no HTTP listeners.

pub mod hls;
#[cfg_attr(not(feature = "nats"), path = "sink/no_publisher.rs")]
pub mod publisher;
pub mod recorder;
