//! Consumers that are no HTTP listeners.

pub mod recorder;
