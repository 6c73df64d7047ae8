//! A source that may be lost and come back, while its stream goes on.
//!
//! The supervisor owns the stream's block writer and lends it to the source ([`lease`](crate::lease)). It watches the age
//! of the source's last write, because a lost device may report nothing, and reports may come without end. When the source
//! is lost, the supervisor takes the writer back and fills the hole at the pace of the sound: with silence that counts as
//! lost, or with the fallback. Meanwhile it opens the source again, on a thread that may hang.

mod fallback_player;
mod live;
mod supervisor;
mod switch;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use self::live::{Live, QUIET_SPAN, open_with};
use self::supervisor::{State, Supervisor};
use self::switch::Order;
pub use self::switch::Switch;
use crate::lease::{Lent, Slot};
use crate::source::back_off::BackOff;
use crate::source::interface::{Running, Source, SourceError};
use crate::source::pull::Pull;
use crate::{Capture, Timestamp};

/// How long [`Running::stop`] waits for the supervisor.
const STOP_TIMEOUT: Duration = Duration::from_millis(800);

/// The policy for a source that is lost: what listeners hear meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLoss {
    /// Listeners get silence, which counts as lost, until the source is back. The stream ends with a source that ends or
    /// fails and cannot be opened again.
    #[default]
    Silence,
    /// Listeners get silence for this long, and then the fallback until the source is back.
    Fallback {
        /// Time from the source's last sound to the fallback.
        after: Duration,
    },
    /// The stream ends.
    End,
}

/// The reason why a source cannot be opened again now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReopenError {
    /// The source is not there. It is looked for again soon, because a look costs little.
    Absent(String),
    /// The source is there and fails. It is opened again after longer and longer times.
    Failed(String),
}

/// Opens a source again that was lost.
pub trait Reopen: fmt::Debug + Send + Sync + 'static {
    /// Opens the source. It may have another format than before. Called on a thread of its own, which may hang.
    ///
    /// # Errors
    ///
    /// The reason why it cannot be opened now.
    fn reopen(&self) -> Result<Box<dyn Source>, ReopenError>;
}

/// Opens the fallback each time that it is needed, from its start.
pub type OpenFallback = Box<dyn Fn() -> Result<Box<dyn Pull>, String> + Send>;

/// A source with a supervisor. The stream has the format of the source that it started with, or the one that was given.
pub struct Supervised {
    rate_hz: u32,
    channels: u16,
    sample_bits: Option<u16>,
    description: String,
    first: Result<Box<dyn Source>, String>,
    reopen: Option<Arc<dyn Reopen>>,
    on_loss: OnLoss,
    fallback: Option<OpenFallback>,
    may_pause: bool,
    quiet_span: Duration,
    is_hop: bool,
    switch: Switch,
    orders: mpsc::Receiver<Order>,
}

impl fmt::Debug for Supervised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervised").field("description", &self.description).finish_non_exhaustive()
    }
}

impl Supervised {
    /// Supervises a source that is open.
    ///
    /// ```
    /// use aircheck_engine::source::{Supervised, Tone};
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let supervised = Supervised::new(Box::new(Tone::new(440.0)));
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// assert_eq!(stream.description(), "test tone of 440 Hz");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(source: Box<dyn Source>) -> Self {
        let (rate_hz, channels, sample_bits) = (source.rate_hz(), source.channels(), source.sample_bits());
        Self::with(source.description(), (rate_hz, channels, sample_bits), Ok(source))
    }

    /// Waits for a source that cannot be opened yet, for this `reason`. The stream has the given format from its start.
    ///
    /// ```
    /// use aircheck_engine::source::Supervised;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let waiting = Supervised::waiting("microphone".to_owned(), "there is none yet".to_owned(), 48_000, 2);
    /// let stream = Stream::start(Box::new(waiting), StreamOptions::default())?;
    /// assert!(!stream.capture().is_open());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn waiting(description: String, reason: String, rate_hz: u32, channels: u16) -> Self {
        Self::with(description, (rate_hz, channels, None), Err(reason))
    }

    fn with(
        description: String,
        (rate_hz, channels, sample_bits): (u32, u16, Option<u16>),
        first: Result<Box<dyn Source>, String>,
    ) -> Self {
        let (switch, orders) = mpsc::channel();
        Self {
            rate_hz,
            channels,
            sample_bits,
            description,
            first,
            reopen: None,
            on_loss: OnLoss::default(),
            fallback: None,
            may_pause: false,
            quiet_span: QUIET_SPAN,
            is_hop: false,
            switch: Switch::new(switch),
            orders,
        }
    }

    /// Returns the handle by which the source can be changed while the stream goes on.
    ///
    /// ```
    /// use aircheck_engine::source::{Supervised, Tone};
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let supervised = Supervised::new(Box::new(Tone::new(440.0)));
    /// let switch = supervised.switch();
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// switch.to(Supervised::new(Box::new(Tone::new(880.0))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn switch(&self) -> Switch {
        self.switch.clone()
    }

    /// Never counts the source as lost because nothing comes from it, only because it ends or fails: for a source that is made or read
    /// here, which is late on a busy machine and not gone.
    ///
    /// ```
    /// use aircheck_engine::source::{Supervised, Tone};
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let supervised = Supervised::new(Box::new(Tone::new(440.0))).may_pause();
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn may_pause(mut self) -> Self {
        self.may_pause = true;
        self
    }

    /// Counts the source as lost only after this time without sound, if that is more than the usual 0.8 s: for a source that may stand
    /// still for a while and then hands over what it has missed.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::source::{Supervised, Tone};
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let supervised = Supervised::new(Box::new(Tone::new(440.0))).may_be_quiet_for(Duration::from_secs(5));
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn may_be_quiet_for(mut self, span: Duration) -> Self {
        self.quiet_span = span.max(QUIET_SPAN);
        self
    }

    /// Says that the source is another server: what does not come from it is lost on the hop
    /// ([`Loss::Hop`](crate::Loss::Hop)), not by the source.
    ///
    /// ```
    /// use aircheck_engine::source::{Supervised, Tone};
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let supervised = Supervised::new(Box::new(Tone::new(440.0))).over_hop();
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn over_hop(mut self) -> Self {
        self.is_hop = true;
        self
    }

    /// Opens the source again when it is lost. Without this, only a source that pauses can come back.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use aircheck_engine::source::{Reopen, ReopenError, Source, Supervised, Tone};
    /// use aircheck_engine::{Origin, Stream, StreamOptions, SubscribeOptions};
    ///
    /// #[derive(Debug)]
    /// struct ToneAgain;
    /// impl Reopen for ToneAgain {
    ///     fn reopen(&self) -> Result<Box<dyn Source>, ReopenError> {
    ///         Ok(Box::new(Tone::new(440.0)))
    ///     }
    /// }
    /// let waiting = Supervised::waiting("tone".to_owned(), "not yet".to_owned(), 48_000, 1).reopen(Arc::new(ToneAgain));
    /// let stream = Stream::start(Box::new(waiting), StreamOptions::default())?;
    /// let mut consumer = stream.subscribe(SubscribeOptions::default())?;
    /// while consumer.recv()?.item.origin() != Origin::Source {}
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn reopen(mut self, reopen: Arc<dyn Reopen>) -> Self {
        self.reopen = Some(reopen);
        self
    }

    /// Sets what is heard while the source is lost.
    ///
    /// ```
    /// use aircheck_engine::source::{OnLoss, Supervised, Tone};
    /// use aircheck_engine::{End, Stream, StreamOptions};
    ///
    /// let supervised = Supervised::new(Box::new(Tone::new(440.0))).on_loss(OnLoss::End);
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn on_loss(mut self, on_loss: OnLoss) -> Self {
        self.on_loss = on_loss;
        self
    }

    /// Sets the fallback. It starts again at its beginning each time, and when it has ended.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::source::{OnLoss, Supervised, Tone};
    /// use aircheck_engine::{Origin, Stream, StreamOptions, SubscribeOptions};
    ///
    /// let waiting = Supervised::waiting("microphone".to_owned(), "there is none".to_owned(), 48_000, 1)
    ///     .on_loss(OnLoss::Fallback { after: Duration::ZERO })
    ///     .fallback(Box::new(|| Ok(Box::new(Tone::new(440.0).into_pull()))));
    /// let stream = Stream::start(Box::new(waiting), StreamOptions::default())?;
    /// let mut consumer = stream.subscribe(SubscribeOptions::default())?;
    /// while consumer.recv()?.item.origin() != Origin::Fallback {}
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fallback(mut self, fallback: OpenFallback) -> Self {
        self.fallback = Some(fallback);
        self
    }
}

impl Source for Supervised {
    fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn channels(&self) -> u16 {
        self.channels
    }

    fn sample_bits(&self) -> Option<u16> {
        self.sample_bits
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn start(self: Box<Self>, capture: Capture) -> Result<Box<dyn Running>, SourceError> {
        let stats = Arc::clone(capture.stats());
        let mut writer = match capture.into_writer() {
            Some(writer) => *writer,
            // A supervisor within another one has nothing to do.
            None => return Err(SourceError::Nested),
        };
        let format = writer.format();
        writer.set_hop(self.is_hop);
        let lent = Box::new(Lent::new(writer));
        let (done, ended) = mpsc::channel::<()>();
        let supervisor = Supervisor {
            format,
            reopen: self.reopen,
            on_loss: self.on_loss,
            fallback: self.fallback,
            may_pause: self.may_pause,
            quiet_span: self.quiet_span,
            stats: Arc::clone(&stats),
            orders: self.orders,
            back_off: BackOff::default(),
        };
        let state = match self.first {
            Ok(source) => {
                let slot = Arc::new(Slot::default());
                slot.lend(lent);
                State::Up(Live::new(open_with(source, &slot, format, &stats)?, slot))
            }
            Err(reason) => {
                let now = Timestamp::now();
                State::Down(supervisor.hole_from_start(lent, reason, now))
            }
        };
        thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || {
                supervisor.run(state);
                drop(done);
            })
            .map_err(SourceError::Thread)?;
        Ok(Box::new(RunningSupervisor { switch: self.switch, ended }))
    }
}

#[derive(Debug)]
struct RunningSupervisor {
    switch: Switch,
    ended: mpsc::Receiver<()>,
}

impl Running for RunningSupervisor {
    fn stop(self: Box<Self>) {
        self.switch.stop();
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}
