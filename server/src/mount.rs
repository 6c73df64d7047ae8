//! One source on the air.

pub mod event_log;
pub mod meter;
pub mod station;
