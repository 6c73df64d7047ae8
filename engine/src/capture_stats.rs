//! The account of a capture, shared with every thread that watches it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::{Drift, Origin, Outages, Realtime, Timestamp};

/// The account and the state of a capture. Written by the capturing thread, read by any thread.
#[derive(Debug, Default)]
pub struct CaptureStats {
    counts: CachePadded<Counts>,
    is_open: AtomicBool,
    failure: OnceLock<String>,
    outages: Outages,
    realtime: Realtime,
    /// Drift and its error, in ppm, as the bits of two floats; 0 before there is one.
    drift: AtomicU64,
    waiting_nanos: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    blocks: AtomicU64,
    lost_overflow: AtomicU64,
    lost_xrun: AtomicU64,
    lost_source: AtomicU64,
    lost_hop: AtomicU64,
    lost_in_bursts: AtomicU64,
    fallback: AtomicU64,
    discarded_frames: AtomicU64,
    next: AtomicU64,
    written_at: AtomicU64,
    xruns_reported: AtomicU64,
    pauses: AtomicU64,
}

impl CaptureStats {
    /// Returns the blocks of the source that went into the capture ring.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use aircheck_engine::Timestamp;
    ///
    /// let (stream, mut consumer) = script::play(|mut capture| capture.write(&[0.5_f32; 960], Timestamp::now()))?;
    /// while consumer.recv().is_ok() {}
    /// assert_eq!(stream.capture().blocks(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.counts.blocks.load(Ordering::Acquire)
    }

    /// Returns the blocks lost because the capture ring was full: the dispatcher did not run for too long. Those of a source that
    /// stood still and then came all at once are [lost in bursts](Self::lost_in_bursts).
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use aircheck_engine::Timestamp;
    ///
    /// let (stream, mut consumer) = script::play(|mut capture| capture.write(&[0.5_f32; 480 * 1000], Timestamp::now()))?;
    /// while consumer.recv().is_ok() {}
    /// let capture = stream.capture();
    /// // Ten seconds at once do not fit into the ring.
    /// assert!(capture.lost_overflow() > 0);
    /// assert_eq!(capture.blocks() + capture.lost_overflow(), 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lost_overflow(&self) -> u64 {
        self.counts.lost_overflow.load(Ordering::Acquire)
    }

    /// Returns the blocks lost because the device missed sound.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().lost_xrun(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lost_xrun(&self) -> u64 {
        self.counts.lost_xrun.load(Ordering::Acquire)
    }

    /// Returns the blocks lost because the source was lost: those for which silence was delivered, and those for which
    /// nothing was. [Those lost in bursts](Self::lost_in_bursts) are among them.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().lost_source(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lost_source(&self) -> u64 {
        self.counts.lost_source.load(Ordering::Acquire)
    }

    /// Returns the blocks that another server has captured and that did not come from there: those for which silence was
    /// delivered, and those for which nothing was.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().lost_hop(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lost_hop(&self) -> u64 {
        self.counts.lost_hop.load(Ordering::Acquire)
    }

    /// Returns the blocks, of those lost because of the source, that came all at once after a pause of the source, when the ring had
    /// no room for them. The pause was too short to be an [outage](Self::outages). Only a [supervised](crate::source::Supervised)
    /// source has any: without a supervisor, they count as [overflow](Self::lost_overflow).
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().lost_in_bursts(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lost_in_bursts(&self) -> u64 {
        self.counts.lost_in_bursts.load(Ordering::Acquire)
    }

    /// Returns the blocks of the fallback that went into the capture ring instead of blocks of the source.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().fallback(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fallback(&self) -> u64 {
        self.counts.fallback.load(Ordering::Acquire)
    }

    /// Returns the account of the times without the source.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().outages().count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn outages(&self) -> &Outages {
        &self.outages
    }

    /// Returns the frames that came and were discarded, because they belong to blocks that the device has lost in part.
    /// Such a block counts as lost.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().discarded_frames(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn discarded_frames(&self) -> u64 {
        self.counts.discarded_frames.load(Ordering::Acquire)
    }

    /// Returns one past the last sequence number assigned, to a block or to a loss.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use aircheck_engine::Timestamp;
    ///
    /// let (stream, mut consumer) = script::play(|mut capture| capture.write(&[0.5_f32; 960], Timestamp::now()))?;
    /// while consumer.recv().is_ok() {}
    /// assert_eq!(stream.capture().next_sequence(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.counts.next.load(Ordering::Acquire)
    }

    /// Returns when sound last came from the source.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::Timestamp;
    ///
    /// let (stream, mut consumer) = script::play(|mut capture| capture.write(&[0.5_f32; 480], Timestamp::now()))?;
    /// while consumer.recv().is_ok() {}
    /// let age = stream.capture().written_at().map(|at| Timestamp::now().since(at));
    /// assert!(age.is_some_and(|age| age < Duration::from_secs(60)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn written_at(&self) -> Option<Timestamp> {
        match self.counts.written_at.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Timestamp::from_nanos(nanos)),
        }
    }

    /// Returns whether the source is open and sound may come. False before the source starts, and after it ended or
    /// failed.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// let (stream, mut consumer) = script::play(|capture| drop(capture))?;
    /// while consumer.recv().is_ok() {}
    /// assert!(!stream.capture().is_open());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Returns how much faster the source is than the system's clock; `None` while that is not known, and for sound that is
    /// computed or on disk.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// // A tone has no clock of its own that could drift.
    /// assert!(stream.capture().drift().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn drift(&self) -> Option<Drift> {
        let bits = self.drift.load(Ordering::Acquire);
        let half = |bits: u64| f64::from(f32::from_bits(bits as u32));
        (bits != 0).then(|| Drift { ppm: half(bits >> 32), error_ppm: half(bits) })
    }

    /// Returns the length of the sound that stands in the pipe in front of the source, and is late by as much.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().waiting(), Duration::ZERO);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn waiting(&self) -> Duration {
        Duration::from_nanos(self.waiting_nanos.load(Ordering::Acquire))
    }

    /// Returns the failure of the source, if it failed.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// let (stream, mut consumer) = script::play(|capture| capture.fail("the cable was cut"))?;
    /// while consumer.recv().is_ok() {}
    /// assert_eq!(stream.capture().failure(), Some("the cable was cut"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Returns what the system has granted of real time.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let options = StreamOptions { realtime: true, ..StreamOptions::default() };
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), options)?;
    /// println!("{:?}", stream.capture().realtime().outcome());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn realtime(&self) -> &Realtime {
        &self.realtime
    }

    /// Marks the source as failed. The first failure stays. Not fit for a callback, because the message is allocated.
    ///
    /// A failure that ends the source must be set before the capture is dropped, so that consumers learn of it.
    pub(crate) fn fail(&self, message: String) {
        let _ = self.failure.set(message);
        self.is_open.store(false, Ordering::Release);
    }

    /// Counts an xrun that the device reported. The next written samples account for it. Fit for a callback.
    #[cfg(any(test, feature = "device"))]
    pub(crate) fn xrun_reported(&self) {
        self.counts.xruns_reported.fetch_add(1, Ordering::Release);
    }

    /// Publishes the drift. Fit for a callback.
    pub(crate) fn set_drift(&self, drift: Drift) {
        // An error is at least the smallest number, so that a perfect line differs from none.
        let bits = |ppm: f64| u64::from((ppm as f32).to_bits());
        self.drift.store(bits(drift.ppm) << 32 | bits(drift.error_ppm).max(1), Ordering::Release);
    }

    /// Publishes what stands in front of the source.
    pub(crate) fn set_waiting(&self, waiting: Duration) {
        self.waiting_nanos.store(u64::try_from(waiting.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Marks the source as open, or as ended or lost. The capture does this, or the supervisor that lends it.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Release);
    }

    /// Counts a block that went into the ring.
    #[inline]
    pub(crate) fn block_written(&self, origin: Origin) {
        let counter = match origin {
            Origin::Source => &self.counts.blocks,
            Origin::Missing => &self.counts.lost_source,
            Origin::Fallback => &self.counts.fallback,
            Origin::Hop => &self.counts.lost_hop,
        };
        add(counter, 1);
    }

    /// Counts a block that found the ring full.
    #[inline]
    pub(crate) fn block_refused(&self, origin: Origin) {
        let counter = match origin {
            Origin::Missing => &self.counts.lost_source,
            Origin::Hop => &self.counts.lost_hop,
            Origin::Source | Origin::Fallback => &self.counts.lost_overflow,
        };
        add(counter, 1);
    }

    /// Counts blocks of the source that are missing, and for which nothing stands.
    pub(crate) fn source_missing(&self, blocks: u64) {
        add(&self.counts.lost_source, blocks);
    }

    /// Counts blocks of another server that did not come, and for which nothing stands.
    pub(crate) fn hop_missing(&self, blocks: u64) {
        add(&self.counts.lost_hop, blocks);
    }

    /// Counts a block of a burst that found the ring full.
    pub(crate) fn burst_refused(&self) {
        add(&self.counts.lost_in_bursts, 1);
        add(&self.counts.lost_source, 1);
    }

    /// Notes that nothing has come from the source for nearly as long as the capture ring, while this process ran.
    pub(crate) fn pause_seen(&self) {
        self.counts.pauses.fetch_add(1, Ordering::Release);
    }

    /// Returns how often that was noted.
    #[inline]
    pub(crate) fn pauses(&self) -> u64 {
        self.counts.pauses.load(Ordering::Acquire)
    }

    /// Counts blocks that the device lost.
    #[inline]
    pub(crate) fn blocks_missed(&self, blocks: u64) {
        add(&self.counts.lost_xrun, blocks);
    }

    /// Counts frames that came and belong to a block that is lost.
    #[inline]
    pub(crate) fn frames_discarded(&self, frames: u64) {
        add(&self.counts.discarded_frames, frames);
    }

    /// Publishes the next sequence number.
    #[inline]
    pub(crate) fn advance(&self, next: u64) {
        self.counts.next.store(next, Ordering::Release);
    }

    /// Notes that sound captured at `captured_at` has come.
    #[inline]
    pub(crate) fn written(&self, captured_at: Timestamp) {
        self.counts.written_at.store(captured_at.as_nanos(), Ordering::Release);
    }

    /// Returns the xruns that the device has reported so far.
    #[inline]
    pub(crate) fn xruns_reported(&self) -> u64 {
        self.counts.xruns_reported.load(Ordering::Acquire)
    }
}

/// Adds to a counter with a load and a store. It has one writer, so no locked addition is needed.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Release);
}
