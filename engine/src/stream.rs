//! A source, its capture and its dispatcher, put together and started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::dispatcher::Dispatcher;
use crate::source::{Running, Source, SourceError};
use crate::{
    Block, Capture, CaptureTally, Consumer, FanOut, FanOutOptions, Format, FormatError, Head, Hub, SharedRecorder,
    SubscribeError, SubscribeOptions,
};

/// Most memory that a history may take: eleven minutes of 48 kHz stereo, which are there in a quarter of a second.
const MAX_HISTORY_MIB: u64 = 256;

/// How a [`Stream`] is set up.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Length of a block, 1 ms to 100 ms.
    pub block: Duration,
    /// Sound kept for consumers that start in the past.
    pub history: Duration,
    /// Whether the sound comes at its own pace. If not, it comes as fast as it is taken, and consumers may use
    /// [`Overflow::Block`](crate::Overflow::Block), for which it then waits.
    pub live: bool,
    /// Where it is not live: how many consumers the sound waits for before it starts, so that all get its beginning.
    pub await_consumers: usize,
}

impl Default for StreamOptions {
    /// Live, in blocks of 10 ms, with 10 s of history.
    fn default() -> Self {
        Self { block: Duration::from_millis(10), history: Duration::from_secs(10), live: true, await_consumers: 0 }
    }
}

/// Why a stream could not start.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The source has a rate or channel count, or the options a block length, that no stream can have.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The source did not start.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The history would take more memory than anybody can mean.
    #[error(
        "a history of {history:?} takes {mib} MiB at {rate_hz} Hz and {channels} channels; it may take {MAX_HISTORY_MIB}"
    )]
    History {
        /// The span asked for.
        history: Duration,
        /// What it takes.
        mib: u64,
        /// The source's rate.
        rate_hz: u32,
        /// The source's channels.
        channels: u16,
    },
    /// The system gives no more threads.
    #[error("no thread for the dispatcher: {0}")]
    Thread(#[source] std::io::Error),
}

/// Sound on its way: it is captured and dispatched whether or not anyone listens, until the source ends or
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
    description: String,
    sample_bits: Option<u16>,
    hub: Hub<Block>,
    capture: Arc<CaptureTally>,
    ring_micros: Arc<SharedRecorder>,
    running: Option<Box<dyn Running>>,
    stop: Arc<AtomicBool>,
    dispatcher: Option<JoinHandle<()>>,
}

impl Stream {
    /// Starts the source and the dispatcher.
    ///
    /// # Errors
    ///
    /// When the source can't be started, or its format is not one that a stream can have.
    pub fn start(source: Box<dyn Source>, options: StreamOptions) -> Result<Self, StreamError> {
        let format = Format::new(source.rate_hz(), source.channels(), options.block)?;
        let description = source.description();
        let sample_bits = source.sample_bits();
        let history = history_blocks(format, options.history)?;
        let (capture, ring, capture_tally) = Capture::new(format, options.live);
        let (fan_out, hub) = FanOut::new(FanOutOptions { history, live: options.live, head: None });
        let awaited = if options.live { 0 } else { options.await_consumers };
        let dispatcher = Dispatcher::new(format, ring, Arc::clone(&capture_tally), fan_out, history, awaited);
        let ring_micros = Arc::clone(dispatcher.ring_micros());
        let stop = Arc::clone(dispatcher.stop_flag());
        // Where the source waits, the next block is there at once.
        let period = if options.live { format.block_span() } else { Duration::ZERO };
        let dispatcher = thread::Builder::new()
            .name("dispatcher".into())
            .spawn(move || dispatcher.run(period))
            .map_err(StreamError::Thread)?;
        // From here on, dropping the stream ends the dispatcher.
        let mut stream = Self {
            format,
            description,
            sample_bits,
            hub,
            capture: capture_tally,
            ring_micros,
            running: None,
            stop,
            dispatcher: Some(dispatcher),
        };
        stream.running = Some(source.start(capture)?);
        Ok(stream)
    }

    /// Adds a consumer of blocks.
    ///
    /// # Errors
    ///
    /// When the stream has ended, or for [`Overflow::Block`](crate::Overflow::Block) on a live stream.
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Consumer<Block>, SubscribeError> {
        self.hub.subscribe(options)
    }

    /// The way to subscribe from elsewhere.
    #[must_use]
    pub fn hub(&self) -> &Hub<Block> {
        &self.hub
    }

    /// The live head.
    #[must_use]
    pub fn head(&self) -> &Head {
        self.hub.head()
    }

    /// Rate, channels and block length.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// What the source is, for people.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Bits of the source's samples, if they are integers of a known width.
    #[must_use]
    pub fn sample_bits(&self) -> Option<u16> {
        self.sample_bits
    }

    /// What the capture has done so far.
    #[must_use]
    pub fn capture(&self) -> &Arc<CaptureTally> {
        &self.capture
    }

    /// Stage `ring`: from the capture of each block's first frame to its dispatch, in microseconds. It includes
    /// the length of the block, which must be complete before it can go out.
    #[must_use]
    pub fn ring_micros(&self) -> &Arc<SharedRecorder> {
        &self.ring_micros
    }

    /// Whether the dispatcher has ended: every consumer gets its end after what it has queued.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.dispatcher.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the source, lets the dispatcher hand out what was captured, and ends every consumer in order. It waits
    /// for no consumer: what one with [`Overflow::Block`](crate::Overflow::Block) has no room for now is lost and
    /// counted. [`wait`](Self::wait) loses nothing.
    pub fn stop(mut self) {
        self.wind_up();
    }

    /// Waits until the source ends by itself and every block went out.
    pub fn wait(mut self) {
        if let Some(dispatcher) = self.dispatcher.take() {
            // A panic there has been reported by its own thread already.
            let _ = dispatcher.join();
        }
    }

    fn wind_up(&mut self) {
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
        self.wind_up();
    }
}

/// The blocks that a history of this span has.
fn history_blocks(format: Format, history: Duration) -> Result<usize, StreamError> {
    let blocks = format.blocks_in(history);
    let bytes = blocks.saturating_mul(size_of::<f32>() as u64 * format.block_samples() as u64);
    let mib = bytes >> 20;
    if mib > MAX_HISTORY_MIB {
        let (rate_hz, channels) = (format.rate_hz(), format.channels());
        return Err(StreamError::History { history, mib, rate_hz, channels });
    }
    Ok(blocks as usize)
}
