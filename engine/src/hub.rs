//! The place where consumers subscribe to a fan-out, from any thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use crate::consumer_ring::ConsumerRing;
use crate::subscribe::MAX_BUFFER_BLOCKS;
use crate::{Consumer, Head, Overflow, Start, SubscribeError, SubscribeOptions, Tally};

/// Subscribes consumers to a [`FanOut`](crate::FanOut), from any thread and at any time. Cheap to clone.
#[derive(Debug)]
pub struct Hub<T: Send + Sync> {
    joining: mpsc::Sender<ConsumerRing<T>>,
    head: Head,
    history: usize,
    group: usize,
    is_live: bool,
    has_waiters: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl<T: Send + Sync> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Self {
            joining: self.joining.clone(),
            head: self.head.clone(),
            history: self.history,
            group: self.group,
            is_live: self.is_live,
            has_waiters: Arc::clone(&self.has_waiters),
            ended: Arc::clone(&self.ended),
        }
    }
}

impl<T: Send + Sync> Hub<T> {
    /// Creates a hub that sends the rings of new consumers to `joining`. The history has `history` blocks, in items of at
    /// most `group`. `has_waiters` is set once a consumer waits, and `ended` once the fan-out has ended.
    pub(crate) fn new(
        joining: mpsc::Sender<ConsumerRing<T>>,
        head: Head,
        history: usize,
        group: usize,
        is_live: bool,
        has_waiters: Arc<AtomicBool>,
        ended: Arc<AtomicBool>,
    ) -> Self {
        Self { joining, head, history, group, is_live, has_waiters, ended }
    }

    /// Adds a consumer. The producer admits it at its next flush or look, without disturbing other consumers. Its
    /// memory is allocated here, on the caller's thread.
    ///
    /// # Errors
    ///
    /// When the fan-out has ended, for [`Overflow::Block`] on a live one, or for a ring that is too long.
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Consumer<T>, SubscribeError> {
        if options.overflow == Overflow::Block && self.is_live {
            return Err(SubscribeError::BlockOnLive);
        }
        if options.buffer > MAX_BUFFER_BLOCKS {
            return Err(SubscribeError::Buffer(options.buffer));
        }
        let options = SubscribeOptions { buffer: options.buffer.max(1), ..options };
        let past = match options.start {
            Start::Live => 0,
            Start::Back(blocks) => usize::try_from(blocks).unwrap_or(usize::MAX).min(self.history),
            Start::From(_) => self.history,
        };
        let tally = Arc::new(Tally::new(self.head.clone(), Arc::clone(&self.has_waiters), options.histograms));
        let (ring, reader) = ConsumerRing::new(options, past, self.group, Arc::clone(&tally));
        self.joining.send(ring).map_err(|_| SubscribeError::Ended)?;
        Ok(Consumer::new(reader, options.overflow, options.buffer as u64, self.head.clone(), tally))
    }

    /// Returns whether the fan-out has ended and refuses new consumers.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Returns the head that lag is measured against.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }
}
