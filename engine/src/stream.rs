//! A running stream: a source, its capture and its dispatcher.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::dispatcher::Dispatcher;
use crate::source::{Running, Source, SourceError};
use crate::{
    Block, Capture, CaptureStats, Consumer, Format, FormatError, Head, Hub, Item, Publisher, PublisherOptions,
    SharedHistogram, SubscribeError, SubscribeOptions,
};

/// Memory of a block besides its samples: numbers and times, two counts of handles, the handle, and what the allocator
/// needs for two pieces of memory. It matters where blocks have few frames.
const BLOCK_OVERHEAD_BYTES: u64 = size_of::<Item<Block>>() as u64 + 56;
/// Most memory of a history: eleven minutes of 48 kHz stereo, which take a quarter of a second to allocate.
const MAX_HISTORY_MIB: u64 = 256;

/// Options of a [`Stream`].
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Length of a block: 1 ms to 100 ms, rounded to whole frames.
    pub block: Duration,
    /// Length of the sound that is kept for consumers that start in the past: any that takes 256 MiB at most.
    pub history: Duration,
    /// Whether the sound comes at its own pace. If not, it comes as fast as consumers take it, and waits for those with
    /// [`OverflowPolicy::Block`](crate::OverflowPolicy::Block).
    pub live: bool,
    /// Number of consumers that the sound waits for before it starts, so that all receive its beginning. Ignored for a
    /// live stream.
    pub await_consumers: usize,
    /// Number of the first block: 0, or that of another server's block with which the stream begins.
    pub first_sequence: u64,
    /// Whether the capturing thread asks for a real-time priority, and for a capture ring that stays in RAM. The system
    /// may refuse both, see [`CaptureStats::realtime`].
    pub realtime: bool,
}

impl Default for StreamOptions {
    /// Live, in blocks of 10 ms, with 10 s of history.
    fn default() -> Self {
        Self {
            block: Duration::from_millis(10),
            history: Duration::from_secs(10),
            live: true,
            await_consumers: 0,
            first_sequence: 0,
            realtime: false,
        }
    }
}

/// The reason why a stream could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The source's rate or channel count, or the block length, is out of range.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The source did not start.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The history would take too much memory.
    #[error(
        "a history of {history:?} takes {mib} MiB at {rate_hz} Hz and {channels} channels, more than {MAX_HISTORY_MIB} (choose a shorter one)"
    )]
    History {
        /// The requested length.
        history: Duration,
        /// Memory of that length, in MiB.
        mib: u64,
        /// The source's rate, in Hz.
        rate_hz: u32,
        /// The source's channels.
        channels: u16,
    },
    /// The system refused a thread.
    #[error("cannot start a thread for the dispatcher: {0} (raise the limit of threads)")]
    Thread(#[source] std::io::Error),
}

/// A stream that was opened and not started. Consumers that subscribe here receive its first block.
///
/// ```
/// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions, source::Tone};
///
/// let opened = Stream::open(Box::new(Tone::new(440.0)), StreamOptions::default())?;
/// let mut consumer = opened.subscribe(SubscribeOptions::default())?;
/// let stream = opened.start()?;
/// assert_eq!(consumer.recv().expect("the tone does not end by itself").item.stamp.sequence, 0);
/// stream.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// If it is dropped without a start, its consumers end with [`EndReason::Abandoned`](crate::EndReason::Abandoned).
pub struct OpenStream {
    source: Box<dyn Source>,
    input: Capture,
    dispatcher: Dispatcher,
    /// The stream, still without its threads.
    stream: Stream,
    is_live: bool,
}

impl fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl OpenStream {
    /// Adds a consumer of blocks, which receives all of them from the first on.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions};
    ///
    /// let opened = Stream::open(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// let mut consumer = opened.subscribe(SubscribeOptions::default())?;
    /// let _stream = opened.start()?;
    /// assert_eq!(consumer.recv()?.item.stamp.sequence, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// For [`OverflowPolicy::Block`](crate::OverflowPolicy::Block) on a live stream, or for a ring that is too long.
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Consumer<Block>, SubscribeError> {
        self.stream.subscribe(options)
    }

    /// Returns the hub, where other threads can subscribe before and after the start.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions};
    ///
    /// let opened = Stream::open(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// let hub = opened.hub().clone();
    /// let consumer = std::thread::spawn(move || hub.subscribe(SubscribeOptions::default()));
    /// assert!(consumer.join().unwrap().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn hub(&self) -> &Hub<Block> {
        self.stream.hub()
    }

    /// Returns rate, channels and block length.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let opened = Stream::open(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(opened.format().block_frames(), 480);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn format(&self) -> Format {
        self.stream.format()
    }

    /// Starts the source and the dispatcher.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let opened = Stream::open(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// opened.start()?.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the source does not start, or the system refuses a thread. The consumers then end.
    pub fn start(self) -> Result<Stream, StreamError> {
        let Self { source, input, dispatcher, mut stream, is_live } = self;
        let dispatcher = thread::Builder::new()
            .name("dispatcher".into())
            .spawn(move || dispatcher.run(is_live))
            .map_err(StreamError::Thread)?;
        // If the source does not start, the drop of the stream ends the dispatcher.
        stream.dispatcher = Some(dispatcher);
        stream.running = Some(source.start(input)?);
        Ok(stream)
    }
}

/// A running stream. Sound is captured and dispatched, with or without consumers, until the source ends or
/// [`stop`](Self::stop) is called.
///
/// ```
/// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions, source::Tone};
///
/// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
/// let mut listener = stream.subscribe(SubscribeOptions::default())?;
/// let block = listener.recv().expect("the tone does not end by itself").item;
/// assert_eq!(block.samples().len(), stream.format().block_samples());
/// stream.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Stream {
    format: Format,
    first_sequence: u64,
    description: String,
    sample_bits: Option<u16>,
    hub: Hub<Block>,
    capture: Arc<CaptureStats>,
    ring_micros: Arc<SharedHistogram>,
    running: Option<Box<dyn Running>>,
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    dispatcher: Option<JoinHandle<()>>,
}

impl Stream {
    /// Prepares a stream of this source. [Start](OpenStream::start) it once the consumers that must not miss its
    /// beginning have subscribed.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let options = StreamOptions { block: Duration::from_millis(20), ..StreamOptions::default() };
    /// let opened = Stream::open(Box::new(Tone::new(440.0)), options)?;
    /// assert_eq!(opened.format().block_frames(), 960);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the source's format or the options are out of range.
    pub fn open(source: Box<dyn Source>, options: StreamOptions) -> Result<OpenStream, StreamError> {
        let format = Format::new(source.rate_hz(), source.channels(), options.block)?;
        let history = history_blocks(format, options.history)?;
        let (mut input, ring, capture) = Capture::new(format, options.live);
        input.begin_at(options.first_sequence);
        if options.realtime {
            capture.realtime().want();
            input.lock_memory();
        }
        let (mut publisher, hub) =
            Publisher::new(PublisherOptions { history, live: options.live, ..PublisherOptions::default() });
        publisher.advance_to(options.first_sequence);
        publisher.flush();
        let awaited = if options.live { 0 } else { options.await_consumers };
        let dispatcher = Dispatcher::new(format, ring, Arc::clone(&capture), publisher, history, awaited);
        let stream = Self {
            format,
            first_sequence: options.first_sequence,
            description: source.description(),
            sample_bits: source.sample_bits(),
            hub,
            capture,
            ring_micros: Arc::clone(dispatcher.ring_micros()),
            running: None,
            stop: Arc::clone(dispatcher.stop_flag()),
            turns: Arc::clone(dispatcher.turns()),
            dispatcher: None,
        };
        Ok(OpenStream { source, input, dispatcher, stream, is_live: options.live })
    }

    /// Opens and starts a stream. A consumer that subscribes afterwards may miss its first blocks.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.format().channels(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the source cannot be started, or its format or the options are out of range.
    pub fn start(source: Box<dyn Source>, options: StreamOptions) -> Result<Self, StreamError> {
        Self::open(source, options)?.start()
    }

    /// Adds a consumer of blocks.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Start, Stream, StreamOptions, SubscribeOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// let mut consumer = stream.subscribe(SubscribeOptions { start: Start::From(0), ..SubscribeOptions::default() })?;
    /// assert_eq!(consumer.recv()?.item.stamp.sequence, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the stream has ended, for [`OverflowPolicy::Block`](crate::OverflowPolicy::Block) on a live stream, or for
    /// a ring that is too long.
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Consumer<Block>, SubscribeError> {
        self.hub.subscribe(options)
    }

    /// Returns the hub, where other threads can subscribe.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// let hub = stream.hub().clone();
    /// stream.stop();
    /// assert!(hub.is_ended());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn hub(&self) -> &Hub<Block> {
        &self.hub
    }

    /// Returns the live head.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// let mut consumer = stream.subscribe(SubscribeOptions::default())?;
    /// assert!(consumer.recv()?.item.stamp.sequence < stream.head().next());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn head(&self) -> &Head {
        self.hub.head()
    }

    /// Returns rate, channels and block length.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.format().rate_hz(), 48_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the number with which the stream has begun ([`StreamOptions::first_sequence`]).
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions};
    ///
    /// let opened = Stream::open(Box::new(Tone::new(440.0)), StreamOptions { first_sequence: 7, ..StreamOptions::default() })?;
    /// let mut consumer = opened.subscribe(SubscribeOptions::default())?;
    /// let stream = opened.start()?;
    /// assert_eq!((consumer.recv()?.item.stamp.sequence, stream.first_sequence()), (7, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// Returns a few words for people about the source.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.description(), "test tone of 440 Hz");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the bits of the source's samples, if they are integers of a known width.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.sample_bits(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sample_bits(&self) -> Option<u16> {
        self.sample_bits
    }

    /// Returns the account and the state of the capture.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// let capture = stream.capture().clone();
    /// stream.stop();
    /// assert_eq!(capture.next_sequence(), capture.blocks() + capture.lost_overflow());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn capture(&self) -> &Arc<CaptureStats> {
        &self.capture
    }

    /// Returns the histogram of stage `ring`: from the capture of each block's first frame to its dispatch, in
    /// microseconds. It includes the length of the block, which must be complete before it can go out.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// stream.subscribe(SubscribeOptions::default())?.recv()?;
    /// // The first frame of a block has waited for the others: 10 ms.
    /// assert!(stream.ring_micros().max() >= 9_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn ring_micros(&self) -> &Arc<SharedHistogram> {
        &self.ring_micros
    }

    /// Returns how many turns the dispatcher has made, with blocks and without. They stand still once it has ended, and
    /// while it hangs, which a watchdog can tell by them: a dispatcher that waits for sound makes a turn every few
    /// milliseconds.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// stream.subscribe(SubscribeOptions::default())?.recv()?;
    /// assert!(stream.dispatcher_turns() > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn dispatcher_turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Returns whether the dispatcher has ended. Every consumer then receives its end after its queued items.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert!(!stream.is_finished());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.dispatcher.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the source, dispatches the captured blocks, and ends every consumer in order. It does not wait for
    /// consumers: blocks for which one with [`OverflowPolicy::Block`](crate::OverflowPolicy::Block) has no room are
    /// lost and counted. [`wait`](Self::wait) loses nothing.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{EndReason, Stream, StreamOptions, SubscribeOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// let mut consumer = stream.subscribe(SubscribeOptions::default())?;
    /// stream.stop();
    /// // Blocks until then are still delivered.
    /// assert_eq!(consumer.iter().last().map_or(0, |last| last.lag_items), 0);
    /// assert_eq!(consumer.end().map(|end| end.reason), Some(EndReason::Finished));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(mut self) {
        self.shut_down();
    }

    /// Waits until the source ends by itself and every block went out.
    ///
    /// ```
    /// # mod script { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/example_source.rs")); }
    /// use aircheck_engine::Timestamp;
    ///
    /// let (stream, mut consumer) = script::play(|mut capture| capture.write(&[0.5_f32; 480], Timestamp::now()))?;
    /// stream.wait();
    /// assert_eq!(consumer.iter().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(mut self) {
        if let Some(dispatcher) = self.dispatcher.take() {
            // Its own thread has reported a panic already.
            let _ = dispatcher.join();
        }
    }

    fn shut_down(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
        self.stop.store(true, Ordering::Release);
        if let Some(dispatcher) = self.dispatcher.take() {
            let _ = dispatcher.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Returns the number of blocks in a history of this length.
fn history_blocks(format: Format, history: Duration) -> Result<usize, StreamError> {
    let blocks = format.blocks_in(history);
    let block_bytes = size_of::<f32>() as u64 * format.block_samples() as u64 + BLOCK_OVERHEAD_BYTES;
    let bytes = blocks.saturating_mul(block_bytes);
    let mib = bytes >> 20;
    if mib > MAX_HISTORY_MIB {
        let (rate_hz, channels) = (format.rate_hz(), format.channels());
        return Err(StreamError::History { history, mib, rate_hz, channels });
    }
    Ok(blocks as usize)
}
