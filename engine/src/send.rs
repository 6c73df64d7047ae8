//! Ways to send one item: at once, on a thread that may wait, and in async code.

use std::thread;
use std::time::Duration;

use crate::{Publisher, Stamp, Timestamp};

/// Time between two looks whether a consumer that [`Publisher::send`] waits for has room.
const ROOM_INTERVAL: Duration = Duration::from_micros(100);

impl<T: Send + Sync> Publisher<T> {
    /// Pushes one value with the next sequence number, stamped `now`, and flushes. Waits while a consumer with
    /// [`OverflowPolicy::Block`](crate::OverflowPolicy::Block) has no room, which another thread must make. A live
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
        while !self.has_room(1) {
            // Room for a batch that has begun cannot come before it is handed out.
            self.flush();
            thread::sleep(ROOM_INTERVAL);
        }
        self.send_now(value, now);
    }

    fn send_now(&mut self, value: T, now: Timestamp) {
        self.push(Stamp { sequence: self.next_sequence(), captured_at: now, dispatched_at: now, preceding: 0 }, value);
        self.flush();
    }
}
