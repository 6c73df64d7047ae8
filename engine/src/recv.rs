//! More ways to take items from a [`Consumer`]: without a clock, in async code, and as an iterator or a stream.
//!
//! All of them are [`Consumer::try_recv_at`] or [`Consumer::poll_recv`] with the clock read here.

use std::future::poll_fn;
use std::iter::FusedIterator;

use crate::{Consumer, Delivery, End, Timestamp, TryRecvError};

impl<T: Send + Sync> Consumer<T> {
    /// Takes the next item if one is queued, and reads the clock for its latency. A loop that takes several items saves
    /// that with [`try_recv_at`](Self::try_recv_at).
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp, TryRecvError};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// ticks.send("tick", Timestamp::now());
    /// assert_eq!(consumer.try_recv()?.item.value, "tick");
    /// assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when nothing is queued, [`TryRecvError::Ended`] when no more items will come.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Delivery<T>, TryRecvError> {
        self.try_recv_at(Timestamp::now())
    }

    /// Waits for the next item in async code. It needs no runtime: the publisher's thread wakes the task. If the future
    /// is dropped before it is ready, no item is lost.
    ///
    /// ```
    /// use aircheck_engine::{EndReason, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// let producer = std::thread::spawn(move || {
    ///     ticks.send("tick", Timestamp::now());
    ///     ticks.finish(EndReason::Finished);
    /// });
    /// futures_executor::block_on(async {
    ///     assert_eq!(consumer.recv_async().await?.item.value, "tick");
    ///     assert_eq!(consumer.recv_async().await.unwrap_err().reason, EndReason::Finished);
    ///     Ok::<(), aircheck_engine::End>(())
    /// })?;
    /// # producer.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The end, once all queued items have been taken.
    pub async fn recv_async(&mut self) -> Result<Delivery<T>, End> {
        poll_fn(|context| self.poll_recv(context, Timestamp::now())).await
    }

    /// Iterates over the items, and blocks the thread until each one comes. Ends with the consumer; [`end`](Self::end)
    /// then has the reason, and the gap before the end.
    ///
    /// ```
    /// use aircheck_engine::{EndReason, Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut lines, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// for line in ["one", "two"] {
    ///     lines.send(line, Timestamp::now());
    /// }
    /// lines.finish(EndReason::Finished);
    /// for delivery in consumer.iter() {
    ///     assert_eq!(delivery.gap, None);
    ///     println!("{}: {}", delivery.item.stamp.sequence, delivery.item.value);
    /// }
    /// assert_eq!(consumer.end().map(|end| end.reason), Some(EndReason::Finished));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Iterates over the items that are queued, and stops where [`try_recv`](Self::try_recv) has none.
    ///
    /// ```
    /// use aircheck_engine::{Publisher, PublisherOptions, SubscribeOptions, Timestamp};
    ///
    /// let (mut ticks, hub) = Publisher::new(PublisherOptions::default());
    /// let mut consumer = hub.subscribe(SubscribeOptions::default())?;
    /// (0..3).for_each(|tick| ticks.send(tick, Timestamp::now()));
    /// assert!(consumer.try_iter().map(|delivery| delivery.item.value).eq([0, 1, 2]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_iter(&mut self) -> TryIter<'_, T> {
        TryIter(self)
    }
}

/// Iterates over the items of a consumer and blocks for each. Created by [`Consumer::iter`].
#[derive(Debug)]
pub struct Iter<'c, T: Send + Sync>(&'c mut Consumer<T>);

/// Iterates over the queued items of a consumer. Created by [`Consumer::try_iter`].
#[derive(Debug)]
pub struct TryIter<'c, T: Send + Sync>(&'c mut Consumer<T>);

/// Iterates over the items of a consumer that it owns, and blocks for each. Created by `Consumer::into_iter`.
#[derive(Debug)]
pub struct IntoIter<T: Send + Sync>(Consumer<T>);

impl<T: Send + Sync> Iterator for Iter<'_, T> {
    type Item = Delivery<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv().ok()
    }
}

impl<T: Send + Sync> Iterator for TryIter<'_, T> {
    type Item = Delivery<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.try_recv().ok()
    }
}

impl<T: Send + Sync> Iterator for IntoIter<T> {
    type Item = Delivery<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv().ok()
    }
}

impl<T: Send + Sync> FusedIterator for Iter<'_, T> {}

impl<T: Send + Sync> FusedIterator for IntoIter<T> {}

impl<T: Send + Sync> IntoIterator for Consumer<T> {
    type Item = Delivery<T>;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

impl<'c, T: Send + Sync> IntoIterator for &'c mut Consumer<T> {
    type Item = Delivery<T>;
    type IntoIter = Iter<'c, T>;

    fn into_iter(self) -> Iter<'c, T> {
        self.iter()
    }
}

/// The items until the end; [`Consumer::end`] then has the reason, and the gap before the end.
#[cfg(feature = "futures-core")]
impl<T: Send + Sync> futures_core::Stream for Consumer<T> {
    type Item = Delivery<T>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(context, Timestamp::now()).map(Result::ok)
    }
}

#[cfg(feature = "futures-core")]
impl<T: Send + Sync> futures_core::FusedStream for Consumer<T> {
    fn is_terminated(&self) -> bool {
        self.end().is_some()
    }
}
