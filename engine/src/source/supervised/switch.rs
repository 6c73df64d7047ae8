//! A change of the source of a stream that goes on.

use std::fmt;
use std::sync::mpsc;

use super::{OnLoss, OpenFallback, Supervised};

/// What a supervisor is told to do.
pub(super) enum Order {
    /// The stream is stopped.
    Stop,
    /// The source, what happens when it is lost, and the fallback are those of this one from now on.
    Source(Box<Supervised>),
    /// The source stays, and only the rest is another one.
    OnLoss(OnLoss, Option<OpenFallback>),
}

/// Changes the source of a stream that has a supervisor. Consumers stay: sequence numbers and times go on, and the blocks between the
/// last sound of the old source and the first of the new one are silence that counts as lost for the reason
/// [`Source`](crate::Loss::Source).
#[derive(Clone)]
pub struct Switch(mpsc::Sender<Order>);

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").finish_non_exhaustive()
    }
}

impl Switch {
    pub(super) fn new(orders: mpsc::Sender<Order>) -> Self {
        Self(orders)
    }

    /// Closes the source and takes that of `other`, with what happens when it is lost, and with its fallback. A source of another rate
    /// or number of channels is converted. Returns at once; without effect after the end of the stream.
    ///
    /// ```
    /// use aircheck_engine::source::{Supervised, Tone};
    /// use aircheck_engine::{Stream, StreamOptions, SubscribeOptions};
    ///
    /// let supervised = Supervised::new(Box::new(Tone::new(440.0)));
    /// let switch = supervised.switch();
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// let mut consumer = stream.subscribe(SubscribeOptions::default())?;
    /// consumer.recv()?;
    /// switch.to(Supervised::new(Box::new(Tone::new(880.0))));
    /// while stream.capture().outages().restarts() == 0 {
    ///     consumer.recv()?;
    /// }
    /// assert_eq!(stream.capture().outages().source().as_deref(), Some("test tone of 880 Hz"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to(&self, other: Supervised) {
        let _ = self.0.send(Order::Source(Box::new(other)));
    }

    /// Changes what happens when the source is lost, from the next loss on, and the fallback. The source stays open.
    ///
    /// ```
    /// use aircheck_engine::source::{OnLoss, Supervised, Tone};
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let supervised = Supervised::new(Box::new(Tone::new(440.0)));
    /// let switch = supervised.switch();
    /// let stream = Stream::start(Box::new(supervised), StreamOptions::default())?;
    /// switch.on_loss(OnLoss::End, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_loss(&self, on_loss: OnLoss, fallback: Option<OpenFallback>) {
        let _ = self.0.send(Order::OnLoss(on_loss, fallback));
    }

    pub(super) fn stop(&self) {
        let _ = self.0.send(Order::Stop);
    }
}
