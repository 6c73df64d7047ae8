//! The server's reports on itself: its log, metrics for Prometheus, and the watch over every listener and the source.
//!
//! The types of events are plain data in `aircheck-api`; the log that carries them belongs to the mount.

pub mod log;
pub mod metrics;
pub mod watch;
