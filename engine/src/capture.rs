//! The entry of the sound: a source writes its samples here.
//!
//! Behind a [`Capture`] is the one [`BlockWriter`] of a stream: owned by the capture, or lent to it by a supervisor, which
//! can take it back at any moment ([`lease`](crate::lease)).

use std::sync::Arc;

use dasp_sample::FromSample;

use crate::block_writer::BlockWriter;
use crate::lease::{Lease, Slot};
use crate::{CaptureStats, Format, Relay, RelayedBlock, Timestamp};

/// The producing end of a stream. A source receives it when it starts, and writes samples to it.
#[derive(Debug)]
pub struct Capture(Access);

#[derive(Debug)]
enum Access {
    /// The stream has this one source, and ends with it.
    Owned(Box<BlockWriter>),
    /// The stream goes on without the source.
    Lent(Box<Lease>),
}

impl Capture {
    /// Creates the capture, the other end of its ring, and its counts. `is_live` only matters to the source: see
    /// [`Capture::is_live`].
    pub(crate) fn new(format: Format, is_live: bool) -> (Self, rtrb::Consumer<u32>, Arc<CaptureStats>) {
        let (writer, reader, stats) = BlockWriter::new(format, is_live);
        (Self(Access::Owned(Box::new(writer))), reader, stats)
    }

    /// Gives the first block this number. Called before anything is written.
    pub(crate) fn begin_at(&mut self, first: u64) {
        if let Access::Owned(writer) = &mut self.0 {
            writer.begin_at(first);
        }
    }

    /// Creates a capture that borrows the writer of another one.
    pub(crate) fn lent(lease: Lease) -> Self {
        Self(Access::Lent(Box::new(lease)))
    }

    /// Returns the writer, unless it is lent.
    pub(crate) fn into_writer(self) -> Option<Box<BlockWriter>> {
        match self.0 {
            Access::Owned(writer) => Some(writer),
            Access::Lent(_) => None,
        }
    }

    /// Returns the format of the samples to write.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// let (stream, _consumer) = script::play(|capture| assert_eq!(capture.format().rate_hz(), 48_000))?;
    /// stream.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn format(&self) -> Format {
        match &self.0 {
            Access::Owned(writer) => writer.format(),
            Access::Lent(lease) => lease.format(),
        }
    }

    /// Returns whether the sound must come at its own pace. If not, the source writes as fast as there is
    /// [room](Self::has_room), and waits when there is none.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// let (stream, _consumer) = script::play(|capture| assert!(capture.is_live()))?;
    /// stream.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_live(&self) -> bool {
        match &self.0 {
            Access::Owned(writer) => writer.is_live(),
            // Only live sound has a hole that must be filled.
            Access::Lent(_) => true,
        }
    }

    /// Returns whether a whole block of samples can be written without loss.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// let (stream, _consumer) = script::play(|capture| assert!(capture.has_room()))?;
    /// stream.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn has_room(&self) -> bool {
        match &self.0 {
            Access::Owned(writer) => writer.has_room(),
            Access::Lent(lease) => lease.has_room(),
        }
    }

    /// Returns whether a supervisor has taken the writer back: what is written now is left out.
    pub(crate) fn is_replaced(&self) -> bool {
        match &self.0 {
            Access::Owned(_) => false,
            Access::Lent(lease) => lease.is_replaced(),
        }
    }

    /// Returns the shared counts, also for a device's error callback.
    pub(crate) fn stats(&self) -> &Arc<CaptureStats> {
        match &self.0 {
            Access::Owned(writer) => writer.stats(),
            Access::Lent(lease) => lease.stats(),
        }
    }

    /// Returns the place where a failure of the source is reported.
    pub(crate) fn reporter(&self) -> Reporter {
        match &self.0 {
            Access::Owned(writer) => Reporter::Stats(Arc::clone(writer.stats())),
            Access::Lent(lease) => Reporter::Slot(Arc::clone(lease.slot())),
        }
    }

    /// Writes interleaved samples of any type and number, the first of them captured at `captured_at`. Blocks that do not
    /// fit into the ring are lost and counted, and the sequence goes on.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use aircheck_engine::Timestamp;
    ///
    /// let (stream, mut consumer) = script::play(|mut capture| {
    ///     let now = Timestamp::now();
    ///     // Integers and portions of any length.
    ///     capture.write(&[i16::MAX / 2; 100], now);
    ///     capture.write(&[0.5_f32; 380], capture.format().time_of(now, 100));
    /// })?;
    /// assert_eq!(consumer.recv()?.item.frames(), 480);
    /// stream.wait();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write<S: Copy>(&mut self, samples: &[S], captured_at: Timestamp)
    where
        f32: FromSample<S>,
    {
        match &mut self.0 {
            Access::Owned(writer) => writer.write(samples, captured_at),
            Access::Lent(lease) => lease.write(samples, captured_at),
        }
    }

    /// Writes a block of another server, which keeps its number and its time. A stream that has begun with the other server's
    /// number ([`StreamOptions::first_sequence`](crate::StreamOptions::first_sequence)) has the same numbers as that has. So it has in
    /// another epoch whose numbers are within two seconds of those that are due; otherwise they go on where the block belongs by its
    /// time. Numbers that are missing before the block are lost and counted.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use aircheck_engine::{Loss, Origin, Relay, RelayedBlock, Timestamp};
    ///
    /// let (stream, mut consumer) = script::play(|mut capture| {
    ///     let (captured_at, samples) = (Timestamp::now(), &[0.5_f32; 480][..]);
    ///     let mut block = RelayedBlock {
    ///         epoch: 1,
    ///         sequence: 7,
    ///         captured_at,
    ///         origin: Origin::Source,
    ///         lost_on_hop: 0,
    ///         is_past: false,
    ///         samples,
    ///     };
    ///     assert_eq!(capture.relay(&block), Relay::Taken { sequence: 7 });
    ///     assert_eq!(capture.relay(&block), Relay::Late);
    ///     // The numbers 8 and 9 were sent, and did not come.
    ///     (block.sequence, block.lost_on_hop) = (10, 2);
    ///     assert_eq!(capture.relay(&block), Relay::Taken { sequence: 10 });
    /// })?;
    /// assert_eq!(consumer.recv()?.item.stamp.sequence, 7);
    /// let delivery = consumer.recv()?;
    /// assert_eq!((delivery.item.stamp.sequence, delivery.gap.map(|gap| gap.reason)), (10, Some(Loss::Hop)));
    /// # drop(stream);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn relay(&mut self, block: &RelayedBlock<'_>) -> Relay {
        match &mut self.0 {
            Access::Owned(writer) => writer.relay(block),
            Access::Lent(lease) => lease.relay(block),
        }
    }

    /// Returns the number that a block of another server will get from [`relay`](Self::relay), if nothing is written before. `None` while
    /// the stream goes on without this source, and for a block that has no number.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use aircheck_engine::{Origin, RelayedBlock, Timestamp};
    ///
    /// let (stream, consumer) = script::play(|mut capture| {
    ///     let (captured_at, samples) = (Timestamp::now(), &[0.5_f32; 480][..]);
    ///     let (origin, lost_on_hop, is_past) = (Origin::Source, 0, false);
    ///     let block = RelayedBlock { epoch: 1, sequence: 7, captured_at, origin, lost_on_hop, is_past, samples };
    ///     assert_eq!(capture.number_of(&block), Some(7));
    ///     capture.relay(&block);
    /// })?;
    /// # drop((stream, consumer));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn number_of(&self, block: &RelayedBlock<'_>) -> Option<u64> {
        match &self.0 {
            Access::Owned(writer) => writer.number_of(block),
            Access::Lent(lease) => lease.number_of(block),
        }
    }

    /// Begins a period: see [`BlockWriter::begin_period`].
    pub(crate) fn begin_period(&mut self, frames: usize, captured_at: Timestamp, arrived_at: Timestamp) {
        match &mut self.0 {
            Access::Owned(writer) => writer.begin_period(frames, captured_at, arrived_at),
            Access::Lent(lease) => lease.begin_period(captured_at),
        }
    }

    /// Writes samples of the period that has begun.
    pub(crate) fn append<S: Copy>(&mut self, samples: &[S])
    where
        f32: FromSample<S>,
    {
        match &mut self.0 {
            Access::Owned(writer) => writer.append(samples),
            Access::Lent(lease) => lease.append(samples),
        }
    }

    /// Ends the sound by a failure, in one line for people. Every consumer receives its queued blocks, and then
    /// [`EndReason::Failed`](crate::EndReason::Failed), unless a supervisor repairs the loss. Not fit for a callback, because
    /// it frees memory.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use aircheck_engine::EndReason;
    ///
    /// let (stream, mut consumer) = script::play(|capture| capture.fail("the cable was cut"))?;
    /// assert_eq!(consumer.recv().unwrap_err().reason, EndReason::Failed);
    /// assert_eq!(stream.capture().failure(), Some("the cable was cut"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail(self, failure: impl Into<String>) {
        self.reporter().fail(failure.into());
    }

    /// Keeps what a callback writes to in RAM, if the system permits it. A lent writer was locked before.
    pub(crate) fn lock_memory(&mut self) {
        if let Access::Owned(writer) = &mut self.0 {
            writer.lock_memory();
        }
    }

    /// Compares the clock of a device with the system's: see [`BlockWriter::observe_clock`].
    #[cfg(feature = "device")]
    pub(crate) fn observe_clock(&mut self, captured_at: Timestamp) {
        match &mut self.0 {
            Access::Owned(writer) => writer.observe_clock(captured_at),
            Access::Lent(lease) => lease.observe_clock(captured_at),
        }
    }

    /// Continues after a pause in which nothing was lost: the next frame is captured at `captured_at`.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Timestamp;
    ///
    /// let (stream, mut consumer) = script::play(|mut capture| {
    ///     let now = Timestamp::now();
    ///     capture.write(&[0.5_f32; 480], now);
    ///     // Nobody pressed a key for an hour; nothing was lost.
    ///     let later = now + Duration::from_secs(3600);
    ///     capture.resume_at(later);
    ///     capture.write(&[0.5_f32; 480], later);
    /// })?;
    /// let (before, after) = (consumer.recv()?.item, consumer.recv()?.item);
    /// assert_eq!(after.stamp.sequence, before.stamp.sequence + 1);
    /// assert!(after.stamp.captured_at.since(before.stamp.captured_at) >= Duration::from_secs(3599));
    /// stream.wait();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume_at(&mut self, captured_at: Timestamp) {
        match &mut self.0 {
            Access::Owned(writer) => writer.resume_at(captured_at),
            Access::Lent(lease) => lease.resume_at(captured_at),
        }
    }
}

/// Takes the failure of a source: the end of its stream, or a loss that a supervisor repairs.
#[derive(Clone, Debug)]
pub(crate) enum Reporter {
    Stats(Arc<CaptureStats>),
    Slot(Arc<Slot>),
}

impl Reporter {
    /// Reports that the source has failed. Not fit for a callback, because the message is allocated.
    pub(crate) fn fail(&self, message: String) {
        match self {
            Self::Stats(stats) => stats.fail(message),
            Self::Slot(slot) => slot.fail(message),
        }
    }
}
