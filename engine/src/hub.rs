//! The place where consumers subscribe to a fan-out, from any thread.

use std::sync::Arc;

use crate::consumer_ring::{ConsumerRing, ring_blocks};
use crate::joining::Joining;
use crate::notices::Notices;
use crate::{Consumer, Head, OverflowPolicy, Start, Stats, SubscribeError, SubscribeOptions};

/// Most blocks that a ring may hold: almost two days of 10 ms each. A ring of its full length is one allocation, with 8 bytes a
/// slot.
const MAX_RING_BLOCKS: usize = 1 << 24;

/// Subscribes consumers to a [`Publisher`](crate::Publisher), from any thread and at any time. Cheap to clone.
#[derive(Debug)]
pub struct Hub<T: Send + Sync> {
    joining: Arc<Joining<T>>,
    head: Head,
    history: usize,
    group: usize,
    is_live: bool,
    notices: Arc<Notices>,
}

impl<T: Send + Sync> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Self {
            joining: Arc::clone(&self.joining),
            head: self.head.clone(),
            history: self.history,
            group: self.group,
            is_live: self.is_live,
            notices: Arc::clone(&self.notices),
        }
    }
}

impl<T: Send + Sync> Hub<T> {
    /// Creates a hub that sends the rings of new consumers to `joining`. The history has `history` blocks, in items of at
    /// most `group`.
    pub(crate) fn new(
        joining: Arc<Joining<T>>,
        head: Head,
        history: usize,
        group: usize,
        is_live: bool,
        notices: Arc<Notices>,
    ) -> Self {
        Self { joining, head, history, group, is_live, notices }
    }

    /// Adds a consumer. The producer admits it at its next flush or look, without disturbing other consumers. Its
    /// memory is allocated here, on the caller's thread, but for the full length of its ring, which the producer's thread allocates
    /// when the first slots are in use. If the fan-out finishes before that, the consumer still receives
    /// the history that it starts with, and then the end.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, Start, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions { history: 10, ..PublisherOptions::default() });
    /// (0..5).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// let mut consumer = hub.subscribe(SubscribeOptions { start: Start::Back(2), ..SubscribeOptions::default() })?;
    /// ticks.send(5, Timestamp::now());
    /// assert!(consumer.try_iter().map(|delivery| delivery.item.value).eq([3, 4, 5]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the fan-out has ended, for [`OverflowPolicy::Block`] on a live one, or for a ring of more than 16 777 216
    /// blocks.
    pub fn subscribe(&self, options: SubscribeOptions) -> Result<Consumer<T>, SubscribeError> {
        if options.overflow == OverflowPolicy::Block && self.is_live {
            return Err(SubscribeError::BlockOnLive);
        }
        let options = SubscribeOptions { buffer: options.buffer.max(1), ..options };
        let past = match options.start {
            Start::Live => 0,
            Start::Back(blocks) => usize::try_from(blocks).unwrap_or(usize::MAX).min(self.history),
            Start::From(_) => self.history,
        };
        let blocks = ring_blocks(options, past, self.group);
        if blocks > MAX_RING_BLOCKS {
            return Err(SubscribeError::TooLong { blocks, limit: MAX_RING_BLOCKS });
        }
        let stats = Arc::new(Stats::new(self.head.clone(), Arc::clone(&self.notices), options.histograms));
        let (ring, reader) = ConsumerRing::new(options, past, self.group, Arc::clone(&stats), &self.notices);
        self.joining.add(ring)?;
        // A producer that waits for another consumer admits this one.
        self.notices.room().made();
        Ok(Consumer::new(reader, options.overflow, options.buffer as u64, self.head.clone(), stats))
    }

    /// Returns whether the fan-out has ended and refuses new consumers.
    ///
    /// ```
    /// use aircheck_engine::{EndReason, Publisher, PublisherOptions};
    ///
    /// let (ticks, hub) = Publisher::<u64>::new(PublisherOptions::default());
    /// assert!(!hub.is_ended());
    /// ticks.finish(EndReason::Finished);
    /// assert!(hub.is_ended());
    /// ```
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.joining.is_closed()
    }

    /// Returns the head that lag is measured against.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// (0..5).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// assert_eq!(hub.head().next(), 5);
    /// ```
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }
}
