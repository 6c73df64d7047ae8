//! Notifications: the receivers are told when something goes wrong, and when it is right again.
//!
//! [`watch`](watch::watch) looks at the mounts ten times a second. Its detectors (`silence`, `losses`, `disk`) and
//! `events`, which reads the log of events, say which `conditions` begin and end. Each condition is told once when it begins
//! and once when it ends, at a bounded rate, to the [`Notifier`]. There, each target has a `queue` of bounded length and a
//! `worker` that posts one notification at a time and waits longer after each failure.
//!
//! Nothing waits for a receiver, neither delivery nor capture nor the threads between them: a full queue drops its oldest
//! notification. Only the end of the service waits, for a bounded time.

mod conditions;
mod disk;
mod events;
mod losses;
mod notifier;
mod queue;
mod silence;
pub mod watch;
mod worker;

pub use notifier::{Notifier, Totals};
