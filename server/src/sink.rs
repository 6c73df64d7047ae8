//! Consumers of a mount that are no HTTP listeners.

pub mod hls;
pub mod icecast;
pub mod pushes;
pub mod recorder;
