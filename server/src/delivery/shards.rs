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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns so many shards without threads.
    fn shards(count: usize) -> Shards {
        let handle = |number| {
            let (sessions, _) = mpsc::channel();
            Handle { mailbox: Mailbox::of_poller(number).0, sessions }
        };
        Shards { shards: (0..count).map(handle).collect() }
    }

    /// Takes so many places, and returns them.
    fn take(shards: &Shards, places: usize) -> Vec<Assignment> {
        (0..places).map(|_| shards.assign()).collect()
    }

    /// Returns the number of each place's shard.
    fn numbers(places: &[Assignment]) -> Vec<usize> {
        places.iter().map(|place| place.mailbox().number()).collect()
    }

    #[test]
    fn a_shard_is_used_once_those_before_it_are_full() {
        let shards = shards(3);
        let places = take(&shards, 3 * FULL_SHARD);
        for (place, number) in numbers(&places).into_iter().enumerate() {
            assert_eq!(number, place / FULL_SHARD, "of place {place}");
        }
    }

    #[test]
    fn full_shards_get_listeners_in_turns() {
        let shards = shards(3);
        let full = take(&shards, 3 * FULL_SHARD);
        let more = take(&shards, 6);
        assert_eq!(numbers(&more), [0, 1, 2, 0, 1, 2]);
        // The second shard has two fewer than the others now.
        let is_second = |place: &Assignment| place.mailbox().number() == 1;
        let (second, others): (Vec<_>, Vec<_>) = more.into_iter().partition(is_second);
        drop(second);
        assert_eq!(numbers(&take(&shards, 3)), [1, 1, 0]);
        drop((full, others));
    }

    #[test]
    fn a_place_is_free_again_once_its_listener_has_left() {
        let shards = shards(2);
        let mut places = take(&shards, FULL_SHARD + 1);
        assert_eq!(places[FULL_SHARD].mailbox().number(), 1, "the first shard is full");
        drop(places.swap_remove(7));
        let in_its_place = shards.assign();
        assert_eq!(in_its_place.mailbox().number(), 0, "the first shard with a place free");
        assert_eq!(shards.assign().mailbox().number(), 1, "it is full again");
        drop(places);
        assert_eq!(in_its_place.mailbox().listeners(), 1);
        assert_eq!(shards.shards[1].mailbox.listeners(), 0);
    }

    #[test]
    fn all_shards_are_closed_when_they_are_dropped() {
        let shards = shards(2);
        let mailboxes = [0, 1].map(|number: usize| Arc::clone(&shards.shards[number].mailbox));
        assert!(!mailboxes.iter().any(|mailbox| mailbox.is_closing()));
        drop(shards);
        assert!(mailboxes.iter().all(|mailbox| mailbox.is_closing()));
    }
}
