//! Live sound for many consumers, each with an exact account of its lag and its losses.
//!
//! Sound flows one way. A [`source`] writes samples of any type, in portions of any length, to its [`Capture`]. The
//! capture assembles blocks, numbers and stamps them, and pushes them into the capture ring; it never waits. The
//! dispatcher takes each [`Block`] out, makes it shared and immutable once, keeps it in the history, and hands it to
//! every [`Consumer`] through a [`Publisher`]. A [`Stream`] is all of this, started.
//!
//! A [`Publisher`] carries any type: ticks, log lines, packets. Each consumer has a bounded ring of its own and an
//! [`OverflowPolicy`] policy for a full ring, so that no consumer can slow the source or another consumer. Lost items
//! come as a [`Gap`] with the next item. A consumer's [`Stats`] shows at any moment how many items were offered,
//! delivered, lost and queued, and how far the consumer lags.
//!
//! The engine knows nothing of HTTP, async runtimes or JSON. It never overwrites an item that a consumer has not read,
//! and it never waits for a consumer, except with [`OverflowPolicy::Block`] on a stream that is not live.

// The attribute by which `make rtsan` watches the callback.
#![cfg_attr(rtsan, feature(sanitize))]

mod clock;
mod sync;
mod time;

mod format;

mod block;
mod item;
mod pool;

pub mod source;

mod capture;
mod capture_stats;
mod converter;
mod drift;
mod lease;
mod outages;
mod realtime;
mod timeline;

mod dispatcher;
mod poll_schedule;

mod consumer_ring;
mod gap_reasons;
mod hub;
mod joining;
mod overflow_policy;
mod publisher;
mod ring_reader;
mod subscribe;

mod batch;
mod consumer;
mod delivery;
mod end;
mod final_state;
mod head;
mod loss;

mod buckets;
mod histogram;
mod histogram_set;
mod shared_histogram;
mod stats;
mod summary;

mod stream;

#[cfg(all(loom, test))]
mod models;
#[cfg(test)]
mod simulation;

pub use block::{Block, Origin};
pub use buckets::Precision;
pub use capture::Capture;
pub use capture_stats::CaptureStats;
pub use consumer::Consumer;
pub use delivery::{Delivery, TryRecvError};
pub use drift::Drift;
// `Capture::write` takes any sample that converts to `f32`: a generic source needs the name of that trait.
pub use batch::Batch;
pub use dasp_sample::FromSample;
pub use end::{End, EndReason};
pub use format::{Format, FormatError};
pub use head::Head;
pub use histogram::Histogram;
pub use histogram_set::{HistogramSet, Layout};
pub use hub::Hub;
pub use item::{Item, Stamp};
pub use loss::{Gap, Loss, LossCounts};
pub use outages::{Outage, Outages, Substitute};
pub use overflow_policy::{OverflowPolicy, UnknownOverflowPolicy};
pub use publisher::{Publisher, PublisherOptions};
pub use realtime::{Realtime, RealtimeOutcome};
pub use shared_histogram::SharedHistogram;
pub use stats::{Snapshot, Stats};
pub use stream::{Stream, StreamError, StreamOptions};
pub use subscribe::{Start, SubscribeError, SubscribeOptions};
pub use summary::Summary;
pub use time::Timestamp;

/// Runs the example of docs/library.md as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/library.md")]
struct LibraryPage;
