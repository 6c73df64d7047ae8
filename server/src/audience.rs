//! The listeners of several servers in one table.
//!
//! An edge, any server with `--report`, tells of its listeners once a second (`reporter`): totals, and the rows of those furthest
//! behind, in a [`report`] on a subject of NATS that ends with its name. A server with `--gather` takes the reports of all edges
//! (`gatherer`) and keeps the last of each ([`edges`]), of which [`gathering`] lets requests and metrics see copies. Nothing of that
//! is in the way of sound: a report that cannot be sent or read at once is left out, and the next one has newer figures.

pub mod edges;
#[cfg(feature = "nats")]
mod gatherer;
pub mod gathering;
pub mod report;
#[cfg(feature = "nats")]
mod reporter;
pub mod reporting;

#[cfg(feature = "nats")]
mod running;
#[cfg(not(feature = "nats"))]
#[path = "audience/not_running.rs"]
mod running;

pub use running::Running;
