//! Consumers of a mount that are no HTTP listeners.

pub mod hls;
pub mod icecast;
pub mod publish_error;
pub mod publish_form;
#[cfg_attr(not(feature = "nats"), path = "sink/no_publisher.rs")]
pub mod publisher;
pub mod pushes;
pub mod recorder;
