//! One producer, many consumers, and for each of them an exact account of its lag and its losses.
//!
//! A [`Publisher`] hands every item to every [`Consumer`]: log lines, ticks, packets, blocks of sound. Each consumer has
//! a bounded ring of its own, so none of them can slow the producer or another consumer, and memory is known in advance.
//! A consumer that falls behind loses items by its own [`OverflowPolicy`]. It is told: the [`Gap`] comes with the next
//! item, and its [`Stats`] say at any moment how many items were offered, delivered, lost and queued.
//!
//! ```
//! use aircheck_engine::{EndReason, OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
//!
//! let (mut log, hub) = Publisher::new(PublisherOptions::default());
//! let mut archive = hub.subscribe(SubscribeOptions { buffer: 1000, ..SubscribeOptions::default() })?;
//! let mut screen = hub.subscribe(SubscribeOptions {
//!     overflow: OverflowPolicy::DropNewest,
//!     buffer: 2,
//!     ..SubscribeOptions::default()
//! })?;
//!
//! for line in ["listening", "GET /", "GET /stream", "GET /metrics"] {
//!     log.send(line, Timestamp::now());
//! }
//! log.finish(EndReason::Finished);
//!
//! assert_eq!(archive.iter().count(), 4);
//! // The screen was slow: its ring took two lines, and two are lost and counted.
//! assert_eq!(screen.iter().count(), 2);
//! assert_eq!(screen.end().and_then(|end| end.gap).map(|gap| gap.items), Some(2));
//! let account = screen.stats().snapshot();
//! assert_eq!((account.offered, account.delivered, account.lost.total(), account.queued), (4, 2, 2, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Send
//!
//! [`Publisher::new`] returns the sending end, and a [`Hub`] where consumers [subscribe](Hub::subscribe) from any thread
//! and at any time, live or [from the history](Start). [`send`](Publisher::send) hands out one item. A producer of
//! several at once [pushes](Publisher::push) them and [flushes](Publisher::flush) once. A live producer never waits. One
//! that may, such as a copy from file to file, says `live: false`, and then waits for consumers with
//! [`OverflowPolicy::Block`]: by [`send`](Publisher::send) on a thread, and by [`send_async`](Publisher::send_async) in
//! async code.
//!
//! # Receive
//!
//! | where | how |
//! |---|---|
//! | on a thread | [`recv`](Consumer::recv), [`recv_timeout`](Consumer::recv_timeout), or a `for` loop over [`iter`](Consumer::iter) |
//! | in async code, on any runtime | [`recv_async`](Consumer::recv_async), or `futures_core::Stream` with the feature `futures-core` |
//! | in a loop of your own | [`try_recv`](Consumer::try_recv); [`try_recv_at`](Consumer::try_recv_at) with your clock; [`try_recv_batch`](Consumer::try_recv_batch) for many at once |
//!
//! An item is shared by all consumers and never copied. Its [`Stamp`] has its sequence number, by which every loss is
//! known, and the times from which latencies are measured.
//!
//! # Sound
//!
//! With the feature `sound`, a [`Stream`] goes from a [`source`] to its consumers by itself: the source writes samples
//! of any type to its [`Capture`], which never waits; the capture numbers and stamps blocks of fixed length; a
//! dispatcher thread makes each [`Block`] immutable and publishes it.
//!
//! ```
//! # #[cfg(feature = "sound")] {
//! use aircheck_engine::source::Tone;
//! use aircheck_engine::{Stream, StreamOptions, SubscribeOptions};
//!
//! // Opened before it is started, a stream takes the consumers that must not miss the first block.
//! let opened = Stream::open(Box::new(Tone::new(440.0)), StreamOptions::default())?;
//! let mut listener = opened.subscribe(SubscribeOptions::default())?;
//! let stream = opened.start()?;
//! let block = listener.recv()?.item;
//! println!("block {}: {} samples", block.stamp.sequence, block.samples().len());
//! stream.stop();
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | what it adds | what it needs |
//! |---|---|---|
//! | `device` (default) | microphones, through cpal | ALSA's development files on Linux |
//! | `wav` (default) | WAV files as sources | hound |
//! | `latest` (default) | [`OverflowPolicy::Latest`], which keeps only the newest item | triple_buffer |
//! | `sound` (by `device` and `wav`) | [`Stream`], [`Block`], [`source`] | rubato, dasp_sample |
//! | `futures-core` | `futures_core::Stream` for [`Consumer`] | futures-core |
//! | `hdrhistogram` | [`Histogram`]s as ordinary ones of that crate | hdrhistogram |
//!
//! For log lines or ticks, `default-features = false` is enough: no library of sound is built then.
//!
//! # What it does not do
//!
//! It knows no HTTP, no async runtime and no JSON. It never overwrites an item that a consumer has not read. It never
//! waits for a consumer, except with [`OverflowPolicy::Block`] where the producer is not live. It does not cross process
//! borders.

// The attribute by which `make rtsan` watches the callback.
#![cfg_attr(rtsan, feature(sanitize))]
// On docs.rs, items show the feature that they need.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod sync;
mod time;

mod item;
mod loss;

mod buckets;
mod histogram;
mod histogram_set;
mod shared_histogram;
mod summary;

mod cache_lines;
mod consumer_ring;
mod gap_reasons;
mod growing_ring;
mod hub;
mod joining;
mod lending;
mod newest;
mod notices;
mod overflow_policy;
mod prefetch;
mod publisher;
mod publisher_options;
mod ring_reader;
mod send;
mod subscribe;
mod waiter;

mod batch;
mod consumer;
mod delivery;
mod end;
mod final_state;
mod head;
mod parking;
mod recv;
mod skip;
mod snapshot;
mod stats;

#[cfg(feature = "sound")]
mod block;
#[cfg(feature = "sound")]
mod block_writer;
#[cfg(feature = "sound")]
mod capture;
#[cfg(feature = "sound")]
mod capture_ring;
#[cfg(feature = "sound")]
mod capture_stats;
#[cfg(feature = "sound")]
mod converter;
#[cfg(feature = "sound")]
mod dispatcher;
#[cfg(feature = "sound")]
mod drift;
#[cfg(feature = "sound")]
mod format;
#[cfg(feature = "sound")]
mod lease;
#[cfg(feature = "sound")]
mod origin;
#[cfg(feature = "sound")]
mod outages;
#[cfg(feature = "sound")]
mod poll_schedule;
#[cfg(feature = "sound")]
mod pool;
#[cfg(feature = "sound")]
mod realtime;
#[cfg(feature = "sound")]
mod relayed;
#[cfg(feature = "sound")]
pub mod source;
#[cfg(feature = "sound")]
mod stream;
#[cfg(feature = "sound")]
mod timeline;

#[cfg(all(loom, test))]
mod models;
#[cfg(test)]
#[cfg(all(feature = "sound", feature = "latest"))]
mod simulation;

pub use batch::Batch;
pub use buckets::Precision;
pub use consumer::Consumer;
pub use delivery::{Delivery, TryRecvError};
pub use end::{End, EndReason};
pub use head::Head;
pub use histogram::Histogram;
pub use histogram_set::{HistogramSet, Layout};
pub use hub::Hub;
pub use item::{Item, Stamp};
pub use loss::{Gap, Loss, LossCounts};
pub use overflow_policy::{OverflowPolicy, UnknownOverflowPolicy};
pub use prefetch::prefetch;
pub use publisher::Publisher;
pub use publisher_options::PublisherOptions;
pub use recv::{IntoIter, Iter, TryIter};
pub use send::TrySendError;
pub use shared_histogram::SharedHistogram;
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use subscribe::{Start, SubscribeError, SubscribeOptions};
pub use summary::Summary;
pub use time::Timestamp;

#[cfg(feature = "sound")]
pub use {
    block::Block,
    capture::Capture,
    capture_stats::CaptureStats,
    converter::Converter,
    drift::Drift,
    format::{Format, FormatError},
    origin::Origin,
    outages::{Outage, Outages, Substitute},
    realtime::{Realtime, RealtimeOutcome},
    relayed::{Relay, RelayedBlock},
    stream::{OpenStream, Stream, StreamError, StreamOptions},
};
// `Capture::write` takes any sample that converts to `f32`: a generic source needs the name of that trait.
#[cfg(feature = "sound")]
pub use dasp_sample::FromSample;

/// Runs the example of the README as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
