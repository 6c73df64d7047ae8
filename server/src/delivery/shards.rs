//! The delivery shards: the threads that write packets to listeners.

use std::io;
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::thread;

use crate::delivery::mailbox::{Assignment, Mailbox};
use crate::delivery::session::Session;
use crate::delivery::shard::Shard;

/// So many listeners get one shard before the next one is used. A round over them takes some 3 ms, and each shard in use
/// costs a wake-up of up to 20 us for each packet.
const FULL_SHARD: usize = 1024;

/// The shards of a server: one thread for each core. They end when this is dropped.
#[derive(Debug)]
pub struct Shards {
    shards: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    mailbox: Arc<Mailbox>,
    sessions: mpsc::Sender<Session>,
}

impl Shards {
    /// Starts a shard for each core of the machine.
    ///
    /// # Errors
    ///
    /// When the system gives no thread, or no poller.
    pub fn start() -> io::Result<Arc<Self>> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let start = |number| {
            let (sessions, joining) = mpsc::channel();
            Ok(Handle { mailbox: Shard::start(number, joining)?, sessions })
        };
        let shards = (0..cores).map(start).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self { shards }))
    }

    /// Returns a waker for each shard, in the order of their numbers.
    #[must_use]
    pub fn wakers(&self) -> Vec<Waker> {
        self.shards.iter().map(|shard| shard.mailbox.waker()).collect()
    }

    /// Returns a place for a new listener.
    #[must_use]
    pub fn assign(&self) -> Assignment {
        // Shards with a place free are equal, and of equal ones the first is taken.
        let emptiest =
            self.shards.iter().map(|shard| &shard.mailbox).min_by_key(|it| it.listeners().max(FULL_SHARD - 1));
        Assignment::new(Arc::clone(emptiest.expect("there is a shard for each core")))
    }

    /// Hands the session of a listener to its shard.
    pub fn add(&self, session: Session) {
        let shard = &self.shards[session.shard()];
        // Fails if the shard has ended, which ends the process.
        let _ = shard.sessions.send(session);
        shard.mailbox.ring();
    }

    /// Returns the number of packets that were written together with others.
    #[must_use]
    pub fn gathered(&self) -> u64 {
        self.shards.iter().map(|shard| shard.mailbox.gathered()).sum()
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.shards.iter().for_each(|shard| shard.mailbox.close());
    }
}
