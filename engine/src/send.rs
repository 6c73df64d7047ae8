//! Ways to send one item: at once, on a thread that may wait, and in async code.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::parking::parking;
use crate::{Publisher, Stamp, Timestamp};

/// A value that was not sent, because a consumer with [`OverflowPolicy::Block`](crate::OverflowPolicy::Block) has no room
/// for it.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a consumer has no room (send it later, or wait with `send`)")]
pub struct TrySendError<T>(pub T);

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TrySendError").finish_non_exhaustive()
    }
}

impl<T: Send + Sync> Publisher<T> {
    /// Pushes one value with the next sequence number, stamped `now`, and flushes. Blocks the thread while a consumer
    /// with [`OverflowPolicy::Block`](crate::OverflowPolicy::Block) has no room, which another thread must make. A live
    /// publisher has no such consumers, and never waits.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// ticks.send("tick", Timestamp::now());
    /// assert_eq!(consumer.recv()?.item.value, "tick");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&mut self, value: T, now: Timestamp) {
        if !self.has_room(1) {
            self.wait_for_room();
        }
        self.send_now(value, now);
    }

    /// Sends one value as [`send`](Self::send) does, if that needs no wait.
    ///
    /// ```
    /// use aircheck_engine::{OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp, TrySendError};
    ///
    /// let (mut lines, hub) = Publisher::new(PublisherOptions { live: false, ..PublisherOptions::default() });
    /// let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 1, ..SubscribeOptions::default() };
    /// let mut consumer = hub.subscribe(options)?;
    /// assert_eq!(lines.try_send("one", Timestamp::now()), Ok(()));
    /// assert_eq!(lines.try_send("two", Timestamp::now()), Err(TrySendError("two")));
    /// consumer.recv()?;
    /// assert_eq!(lines.try_send("two", Timestamp::now()), Ok(()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The value, if a consumer with [`OverflowPolicy::Block`](crate::OverflowPolicy::Block) has no room.
    pub fn try_send(&mut self, value: T, now: Timestamp) -> Result<(), TrySendError<T>> {
        if !self.has_room(1) {
            return Err(TrySendError(value));
        }
        self.send_now(value, now);
        Ok(())
    }

    /// Sends one value as [`send`](Self::send) does, and waits in async code. It needs no runtime: the consumer that makes
    /// room wakes the task. The value is stamped when it is sent. If the future is dropped before it is ready, the value is
    /// dropped with it; [`poll_ready`](Self::poll_ready) leaves it with the caller.
    ///
    /// ```
    /// use aircheck_engine::{EndReason, OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions};
    ///
    /// let (mut lines, hub) = Publisher::new(PublisherOptions { live: false, ..PublisherOptions::default() });
    /// let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 1, ..SubscribeOptions::default() };
    /// let mut consumer = hub.subscribe(options)?;
    /// let reader = std::thread::spawn(move || consumer.iter().map(|delivery| delivery.item.value).sum::<u64>());
    /// futures_executor::block_on(async move {
    ///     for number in 1..=100 {
    ///         lines.send_async(number).await;
    ///     }
    ///     lines.finish(EndReason::Finished);
    /// });
    /// assert_eq!(reader.join().unwrap(), 5050);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn send_async(&mut self, value: T) {
        poll_fn(|context| self.poll_ready(context)).await;
        self.send_now(value, Timestamp::now());
    }

    /// Returns whether one item can be sent without a wait; if not, registers the task to be woken for another look. A
    /// batch that has begun is flushed, because room for it cannot come before it is handed out.
    ///
    /// ```
    /// use std::task::{Context, Waker};
    ///
    /// use aircheck_engine::{OverflowPolicy, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut lines, hub) = Publisher::new(PublisherOptions { live: false, ..PublisherOptions::default() });
    /// let options = SubscribeOptions { overflow: OverflowPolicy::Block, buffer: 1, ..SubscribeOptions::default() };
    /// let consumer = hub.subscribe(options)?;
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(lines.poll_ready(&mut context).is_ready());
    /// lines.send("one", Timestamp::now());
    /// assert!(lines.poll_ready(&mut context).is_pending());
    /// drop(consumer);
    /// assert!(lines.poll_ready(&mut context).is_ready());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.has_room(1) {
            return Poll::Ready(());
        }
        self.flush();
        self.room().arm(context.waker());
        if self.has_room(1) {
            self.room().disarm();
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    #[cold]
    fn wait_for_room(&mut self) {
        let (parker, waker) = parking();
        while self.poll_ready(&mut Context::from_waker(&waker)).is_pending() {
            parker.park();
        }
    }

    fn send_now(&mut self, value: T, now: Timestamp) {
        self.push(Stamp { sequence: self.next_sequence(), captured_at: now, dispatched_at: now, preceding: 0 }, value);
        self.flush();
    }
}
