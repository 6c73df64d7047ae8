//! Listening to the recording: from a moment that the history no longer has, at real pace, into the live sound.
//!
//! A [`Replay`] is a stream of blocks of its own, numbered as the live stream is, which goes through encoders of its own to one
//! listener. So a listener's account counts these blocks as it counts live ones, and its distance to the head is lag that
//! it has requested. A thread, the feeder, reads blocks from the recording, or takes them from the history once that has them.
//!
//! Nothing here waits for a listener: one that is too slow loses blocks, as live ones do.

mod feeder;
mod places;
mod timeline;

pub mod export;
pub mod moment;
pub mod start;

pub use export::Export;
pub use moment::Moment;
pub use places::Replays;
pub use start::{Found, Replay, ReplayError};
