//! How much of what was sent NATS has not read yet.
//!
//! The kernels of both machines take megabytes for a NATS server that does not read: 43 s of sound were seen, which nobody wants to hear
//! late, and which count as sent. So a publisher sends marks between its messages, on the subject of the [`clock`](super::clock) that it
//! subscribes to itself. A mark that has come back says that NATS has read all before it.
//!
//! A mark has little-endian numbers:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 3 | `AIRC` |
//! | 4 | version: 1 |
//! | 5 to 7 | 0 |
//! | 8 to 15 | epoch of the publisher |
//! | 16 to 23 | messages that it had sent before |

use super::message::{MAGIC, VERSION};

/// Bytes of a mark.
const BYTES: usize = 24;
/// Marks on their way at once: what may be in flight is known to an eighth.
const MARKS: u64 = 8;

/// The messages of a publisher that are on their way to NATS.
#[derive(Debug)]
pub struct InFlight {
    epoch: u64,
    /// How many there may be.
    most: u64,
    /// Messages that were sent so far, on all connections.
    sent: u64,
    /// How many of them were sent before this connection, and before its newest mark.
    before: u64,
    marked: u64,
    /// How many of them NATS has read; `None` before the first mark of this connection is back, and where marks are not permitted.
    read: Option<u64>,
}

impl InFlight {
    /// Makes the account of the run `epoch`, of which at most so many messages may be in flight.
    #[must_use]
    pub fn new(epoch: u64, most: u64) -> Self {
        Self { epoch, most, sent: 0, before: 0, marked: 0, read: None }
    }

    /// Begins with a new connection. Returns the mark to be sent first. Until that is back, nothing is known, and there is room.
    #[must_use]
    pub fn connect(&mut self) -> Vec<u8> {
        (self.before, self.read) = (self.sent, None);
        self.mark()
    }

    /// Returns whether another message may be sent.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.read.is_none_or(|read| self.sent - read < self.most)
    }

    /// Counts a message that was sent.
    pub fn count(&mut self) {
        self.sent += 1;
    }

    /// Takes note that marks are not permitted any more: nothing is known from now on, and there is room.
    pub fn forget(&mut self) {
        self.read = None;
    }

    /// Returns the mark to be sent now, if one is due. Where marks are not permitted, the first one is refused, and no other is due.
    #[must_use]
    pub fn due_mark(&mut self) -> Option<Vec<u8>> {
        let is_due = self.read.is_some() && (self.sent - self.marked) * MARKS >= self.most;
        is_due.then(|| self.mark())
    }

    /// Takes a mark that is back. Returns false for anything else.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let Ok(mark) = <[u8; BYTES]>::try_from(bytes) else { return false };
        let (head, sent) = mark.split_at(BYTES - 8);
        let sent = sent.try_into().map_or(0, u64::from_le_bytes);
        // A connection that was given up may still bring some.
        if head == self.head() && (self.before..=self.sent).contains(&sent) {
            self.read = self.read.max(Some(sent));
            return true;
        }
        false
    }

    /// Returns a mark, also if none is due: in place of those that may be lost.
    #[must_use]
    pub fn mark(&mut self) -> Vec<u8> {
        self.marked = self.sent;
        [&self.head()[..], &self.sent.to_le_bytes()].concat()
    }

    fn head(&self) -> [u8; BYTES - 8] {
        let mut head = [0; BYTES - 8];
        head[..4].copy_from_slice(&MAGIC);
        head[4] = VERSION;
        head[8..].copy_from_slice(&self.epoch.to_le_bytes());
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends messages while there is room, up to so many. Returns their number, and the marks between them.
    fn send(in_flight: &mut InFlight, most: usize) -> (usize, Vec<Vec<u8>>) {
        let (mut sent, mut marks) = (0, Vec::new());
        while sent < most && in_flight.has_room() {
            sent += 1;
            in_flight.count();
            marks.extend(in_flight.due_mark());
        }
        (sent, marks)
    }

    #[test]
    fn no_more_is_in_flight_than_may_be_and_marks_make_room() {
        let mut in_flight = InFlight::new(7, 16);
        let first = in_flight.connect();
        assert_eq!(first, [&b"AIRC\x01\0\0\0"[..], &7_u64.to_le_bytes(), &0_u64.to_le_bytes()].concat());
        assert!(in_flight.take(&first));
        let (sent, marks) = send(&mut in_flight, 100);
        assert_eq!((sent, marks.len()), (16, 8));
        assert!(in_flight.take(&marks[2]) && in_flight.take(&marks[1]));
        assert_eq!(send(&mut in_flight, 100).0, 6, "the newest mark counts");
        assert!(in_flight.take(&marks[7]));
        assert_eq!(send(&mut in_flight, 100).0, 10);
    }

    #[test]
    fn without_marks_there_is_room_and_one_is_sent_for_each_connection() {
        let mut in_flight = InFlight::new(7, 16);
        let _ = in_flight.connect();
        assert_eq!(send(&mut in_flight, 1000), (1000, Vec::new()));
    }

    #[test]
    fn there_is_room_once_marks_are_not_permitted_any_more() {
        let mut in_flight = InFlight::new(7, 16);
        let first = in_flight.connect();
        in_flight.take(&first);
        assert_eq!(send(&mut in_flight, 100).0, 16);
        in_flight.forget();
        assert_eq!(send(&mut in_flight, 1000), (1000, Vec::new()));
    }

    #[test]
    fn a_mark_of_a_former_connection_or_of_another_publisher_says_nothing() {
        let mut in_flight = InFlight::new(7, 16);
        let first = in_flight.connect();
        in_flight.take(&first);
        let (_, marks) = send(&mut in_flight, 100);
        let first = in_flight.connect();
        assert!(!in_flight.take(&marks[6]));
        assert!(!in_flight.take(&InFlight::new(8, 16).connect()));
        assert!(!in_flight.take(&first[1..]) && !in_flight.take(b"") && !in_flight.take(&[&first[..], b"x"].concat()));
        assert!(send(&mut in_flight, 1000).1.is_empty());
        assert!(in_flight.take(&first));
        assert!(!in_flight.has_room(), "a thousand are in flight");
        let mark = in_flight.due_mark().unwrap();
        assert!(in_flight.take(&mark) && in_flight.has_room());
    }

    #[test]
    fn where_few_may_be_in_flight_each_is_marked() {
        let mut in_flight = InFlight::new(7, 2);
        let first = in_flight.connect();
        in_flight.take(&first);
        assert_eq!(send(&mut in_flight, 100).1.len(), 2);
    }
}
