//! Consumers of a mount that are no HTTP listeners.

pub mod icecast;
pub mod pushes;
pub mod recorder;
