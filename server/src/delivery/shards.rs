//! The delivery shards: the threads that write packets to listeners.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::thread;

use crate::delivery::mailbox::Mailbox;
use crate::delivery::session::Session;
use crate::delivery::shard::Shard;

/// So many listeners get one shard before the next one is used. A round over them takes some 3 ms, and each shard in use
/// costs a wake-up of up to 20 us for each packet.
const FULL_SHARD: usize = 1024;

/// The shards of a server: one thread for each core. They end when this is dropped.
#[derive(Debug)]
pub struct Shards {
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Shards {
    /// Starts a shard for each core of the machine.
    ///
    /// # Errors
    ///
    /// When the system gives no thread, or no poller.
    pub fn start() -> io::Result<Arc<Self>> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mailboxes = (0..cores).map(Shard::start).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self { mailboxes }))
    }

    /// Returns a waker for each shard, in the order of their numbers.
    #[must_use]
    pub fn wakers(&self) -> Vec<Waker> {
        self.mailboxes.iter().map(Mailbox::waker).collect()
    }

    /// Returns the shard for a new listener.
    #[must_use]
    pub fn assign(&self) -> Assignment {
        let listeners = |mailbox: &&Arc<Mailbox>| mailbox.listeners.load(Ordering::Relaxed);
        let free = self.mailboxes.iter().find(|mailbox| listeners(mailbox) < FULL_SHARD);
        let mailbox = free.or_else(|| self.mailboxes.iter().min_by_key(listeners));
        let mailbox = mailbox.expect("there is a shard for each core");
        mailbox.listeners.fetch_add(1, Ordering::Relaxed);
        Assignment { mailbox: Arc::clone(mailbox) }
    }

    /// Returns the number of packets that were written together with others, because their shard had fallen behind.
    #[must_use]
    pub fn gathered(&self) -> u64 {
        self.mailboxes.iter().map(|mailbox| mailbox.gathered.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.close());
    }
}

/// A listener's place in a shard. It is free again when this is dropped.
#[derive(Debug)]
pub struct Assignment {
    mailbox: Arc<Mailbox>,
}

impl Assignment {
    /// Returns the mailbox of the shard.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Hands the session of the listener to its shard.
    pub fn deliver(self, session: impl FnOnce(Self) -> Session) {
        let mailbox = Arc::clone(&self.mailbox);
        mailbox.add(Box::new(session(self)));
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.mailbox.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
