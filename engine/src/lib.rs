//! Live sound to many consumers, each of whom knows how late it is and exactly what it lost.
//!
//! Sound flows one way. A [`source`] writes samples of any type and in any portion to its [`Capture`], which
//! assembles blocks, numbers and stamps them and pushes them into the capture ring, never waiting. The dispatcher
//! takes them out, makes each [`Block`] shared and immutable once, keeps it in the history, and hands it to every
//! [`Consumer`] through a [`FanOut`]. A [`Stream`] is all of this, started.
//!
//! A [`FanOut`] carries anything: ticks, log lines, packets. Each consumer has a bounded ring of its own and an
//! [`Overflow`] policy for when that is full, so that no consumer can slow the source or another consumer. What it
//! missed comes with the next item as a [`Gap`]; its [`Tally`] says at any moment what it was offered, got, lost
//! and has queued, and how far it lags.
//!
//! What is absent: the engine knows nothing of HTTP, async runtimes or JSON. It never overwrites what a consumer
//! has not read, and never waits for one, unless told to by [`Overflow::Block`] where nothing is live.

mod time;

mod format;

mod block;
mod pool;

pub mod source;

mod capture;
mod timeline;

mod dispatcher;
mod patience;

mod fanout;
mod lane;
mod overflow;

mod buckets;
mod consumer;
mod end;
mod head;
mod loss;
mod recorder;
mod run;
mod tally;

mod stream;

pub use block::{Block, Item, Stamp};
pub use buckets::Precision;
pub use capture::{Capture, CaptureTally};
// `Capture::write` takes any sample that has it, so whoever writes a source may need its name.
pub use consumer::{Consumer, Delivery, RecvError};
pub use cpal::FromSample;
pub use end::{End, EndReason};
pub use fanout::{FanOut, FanOutOptions, Hub, Start, SubscribeError, SubscribeOptions};
pub use format::{Format, FormatError};
pub use head::Head;
pub use loss::{Gap, Loss, LossCounts};
pub use overflow::{Overflow, UnknownOverflow};
pub use recorder::{Recorder, SharedRecorder, Summary};
pub use run::Run;
pub use stream::{Stream, StreamError, StreamOptions};
pub use tally::{Snapshot, Tally};
pub use time::Timestamp;

/// Runs the example of docs/library.md as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/library.md")]
struct LibraryPage;
