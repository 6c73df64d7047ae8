//! Consumers of a mount that are no HTTP listeners.

pub mod recorder;
