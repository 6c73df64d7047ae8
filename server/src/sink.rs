//! Consumers of a mount that are no HTTP listeners.

pub mod hls;
pub mod recorder;
