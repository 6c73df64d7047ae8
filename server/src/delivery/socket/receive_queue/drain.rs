//! How a slow program drains the receive queue of its machine, where each packet shows in the window. Linux frees the memory of several
//! packets at once, when the last of them is read, and the window opens by as much. What it lacks then is what is unread. In between, the
//! program is taken to read on at its pace. Once the buffer was full, all that is known is what comes and that pace.

use std::time::Duration;

use aircheck_engine::Timestamp;

use super::{CHANGE_BYTES, DEFAULT_BUFFER_BYTES, MERGED_PACKETS, is_narrowing};

/// Unread bytes of a default buffer whose window lacks everything, after an opening. With this figure, of traces over loopback with packets
/// of 967, 1934 and 4808 bytes, at windows of 71,680, 91,136 and 107,520 bytes at their level, programs that read half to nine tenths were
/// told within 0.1 s until the buffer was full.
const FULL_BYTES: u64 = 124_000;
/// Linux closes a window that is narrower than this part of the widest (`__tcp_select_window`).
const CLOSED_PART: u64 = 16;
/// A program is slow if at least so many packets, and this part of what came, are unread. The windows of others are below their level, too.
const MIN_PACKETS: u64 = 2;
const SLOW_PART: u64 = 20;
/// A window that stays within this part of its width has not narrowed.
const STEADY_PART: u64 = 16;
/// A program that opens its window to so many times its level has read everything at once.
const EMPTIED_FACTOR: u64 = 2;
/// One that opens it up to its level so many times in a row has read everything each time.
const MIN_OPENINGS: u8 = 4;
/// What comes is read, in the long run, so the pace of a program with a full buffer is that of what has come since then, over so many
/// seconds at the least and at the most. Over paths of 20 ms and more, a buffer holds less than [`FULL_BYTES`], so the pace before is too slow.
const MIN_PACE_SECONDS: f64 = 0.5;
const MAX_PACE_SECONDS: f64 = 5.0;
/// A piece that takes so many times as long as the program's pace allows is not being read, if the window narrows by what comes.
const OVERDUE: f64 = 1.3;

/// How a program drains the queue, from when everything was read on.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// The window when everything was read; zero if that was never seen.
    level: u32,
    /// The bytes that had been acknowledged when the window was last at its level, and when that was.
    left: (u64, Timestamp),
    /// From when the window first opened below its level on.
    slow: Option<Box<Slow>>,
}

/// What is known of a slow program.
#[derive(Debug)]
struct Slow {
    /// The bytes that had been acknowledged when the window last opened, or when bytes last came since the buffer was full, and when that was.
    acked: u64,
    at: Timestamp,
    /// The window then.
    window: u32,
    /// The bytes that were unread then.
    unread: f64,
    /// The bytes that it reads in a second.
    pace: f64,
    /// From when its buffer was full on.
    full: Option<Full>,
}

/// What the window of a program has shown since its buffer was full.
#[derive(Debug)]
struct Full {
    /// The widest window that has stayed above its level, and the bytes that had been acknowledged when it came there.
    widest: u32,
    wide_from: u64,
    /// How many times in a row it has opened up to its level.
    openings: u8,
    /// When the buffer was full.
    at: Timestamp,
}

impl Drain {
    /// Notes that everything was read.
    pub(super) fn settle(&mut self, acked: u64, window: u64, now: Timestamp) {
        *self = Self { level: window as u32, left: (acked, now), slow: None };
    }

    /// Follows the acknowledged bytes and the window that were `seen` from the window `before` on. Packets have about `packet_bytes`.
    pub(super) fn follow(&mut self, seen: (u64, u64), before: u64, packet_bytes: u64, now: Timestamp) {
        let ((acked, window), level) = (seen, u64::from(self.level));
        // A kernel takes back what it offered beyond its default, with nothing unread.
        if level == 0 || level > DEFAULT_BUFFER_BYTES {
            return;
        }
        if let Some(slow) = &mut self.slow
            && let Some(full) = &mut slow.full
        {
            if !full.is_emptied(seen, before, level) {
                let full_for = now.since(full.at);
                slow.take(acked, full_for, now);
                return;
            }
            self.slow = None;
        }
        if window >= level {
            (self.left, self.slow) = ((acked, now), None);
        } else if window > before {
            self.slow = self.opened(seen, packet_bytes, now).map(Box::new);
        }
        if window < packet_bytes.max(level / CLOSED_PART)
            && let Some(unread) = self.unread(seen, packet_bytes, now)
        {
            // Whatever its pace was, a closed window shows that its buffer is full.
            let unread = unread.max(self.missing(window) / 2) as f64;
            let full = Full { widest: 0, wide_from: acked, openings: 0, at: now };
            if let Some(slow) = &mut self.slow {
                (slow.acked, slow.at, slow.unread, slow.full) = (acked, now, unread, Some(full));
            }
        }
    }

    /// Returns how many bytes are unread by what is missing from a window that has just opened.
    fn missing(&self, window: u64) -> u64 {
        let level = u64::from(self.level);
        level.saturating_sub(window) * FULL_BYTES.max(level) / level
    }

    /// Returns what an opening of the window below its level shows; `None` if it may be that of a program that reads everything.
    fn opened(&self, seen: (u64, u64), packet_bytes: u64, now: Timestamp) -> Option<Slow> {
        let ((acked, window), (left_acked, left_at)) = (seen, self.left);
        let came = acked - left_acked;
        let unread = self.missing(window).min(came);
        let is_slow = unread >= MIN_PACKETS * packet_bytes && unread * SLOW_PART >= came;
        let seconds = now.since(left_at).as_secs_f64();
        if !is_slow || seconds <= 0.0 {
            return None;
        }
        let (unread, pace) = (unread as f64, (came - unread) as f64 / seconds);
        Some(Slow { acked, at: now, window: window as u32, unread, pace, full: None })
    }

    /// Returns whether the buffer of a slow program was full, so that its window says little from then on.
    pub(super) fn was_full(&self) -> bool {
        self.slow.as_ref().is_some_and(|slow| slow.full.is_some())
    }

    /// Returns how many bytes are unread; `None` if the window has not opened below its level.
    pub(super) fn unread(&self, seen: (u64, u64), packet_bytes: u64, now: Timestamp) -> Option<u64> {
        let (slow, (acked, window)) = (self.slow.as_ref()?, seen);
        let came = acked - slow.acked;
        let read = slow.pace * now.since(slow.at).as_secs_f64();
        let piece = (MERGED_PACKETS * packet_bytes) as f64;
        let is_frozen = read > piece * OVERDUE && is_narrowing(u64::from(slow.window).saturating_sub(window), came);
        let came = came as f64;
        let unread = match slow.full {
            // It may have stopped to read, too.
            Some(_) if read > slow.unread * OVERDUE => slow.unread,
            Some(_) => (slow.unread - read).max(slow.unread / 2.0),
            None if is_frozen => slow.unread + came - piece / 2.0,
            None => slow.unread + came - read,
        };
        Some(unread.max(0.0) as u64)
    }
}

impl Slow {
    /// Takes what has come into a buffer that was full for the first time `full_for` ago.
    fn take(&mut self, acked: u64, full_for: Duration, now: Timestamp) {
        if acked == self.acked {
            return;
        }
        let seconds = now.since(self.at).as_secs_f64();
        let more = (acked - self.acked) as f64 - self.pace * seconds;
        let span = full_for.as_secs_f64().clamp(MIN_PACE_SECONDS, MAX_PACE_SECONDS).max(seconds);
        self.unread = (self.unread + more).max(0.0);
        self.pace = (self.pace + more / span).max(0.0);
        (self.acked, self.at) = (acked, now);
    }
}

impl Full {
    /// Follows the window. Returns whether the program has read everything since. The window of a slow one opens up to its level now and
    /// then, because memory is packed more tightly than before, but narrows from there on.
    fn is_emptied(&mut self, seen: (u64, u64), before: u64, level: u64) -> bool {
        let ((acked, window), widest) = (seen, u64::from(self.widest));
        if window < level || window > widest || window < widest - widest / STEADY_PART {
            (self.widest, self.wide_from) = (window as u32, acked);
        }
        if window >= before + CHANGE_BYTES {
            let is_whole = window >= level - level / STEADY_PART;
            self.openings = if is_whole { self.openings + 1 } else { 0 };
        }
        let is_steady = window >= level && acked - self.wide_from >= level;
        is_steady || self.openings >= MIN_OPENINGS || window >= EMPTIED_FACTOR * level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1934;
    const INTERVAL: Duration = Duration::from_millis(10);
    const LEVEL: u64 = 91_136;
    /// Packets whose memory is freed together.
    const PIECE: u64 = 17 * PACKET;

    /// The machine of a listener.
    struct Machine {
        drain: Drain,
        now: Timestamp,
        acked: u64,
        read: u64,
        window: u64,
        /// Unread bytes that close its window.
        full_bytes: u64,
    }

    impl Machine {
        fn new() -> Self {
            let now = Timestamp::from_nanos(1 << 40);
            let mut drain = Drain::default();
            drain.settle(0, LEVEL, now);
            Self { drain, now, acked: 0, read: 0, window: LEVEL, full_bytes: FULL_BYTES }
        }

        /// Takes a packet, unless its window is closed, and lets the program read so many bytes. Returns by how many bytes more than are unread
        /// the sender takes to be; `None` if it cannot tell.
        fn take(&mut self, bytes: u64) -> Option<i64> {
            self.now = self.now + INTERVAL;
            let before = self.window;
            if self.window >= PACKET {
                self.acked += PACKET;
                self.window -= PACKET;
            }
            self.read = (self.read + bytes).min(self.acked);
            let freed = if self.read == self.acked { self.read } else { self.read / PIECE * PIECE };
            let kept = self.acked - freed;
            let free = LEVEL.saturating_sub(kept * LEVEL / self.full_bytes);
            if free >= LEVEL / CLOSED_PART {
                // It takes back nothing that it has offered.
                self.window = self.window.max(free);
            }
            self.drain.follow((self.acked, self.window), before, PACKET, self.now);
            let unread = self.drain.unread((self.acked, self.window), PACKET, self.now)?;
            Some(unread as i64 - (self.acked - self.read) as i64)
        }

        /// Lets the program read so many bytes a packet until its window has opened.
        fn slow_down(&mut self, bytes: u64) {
            while self.take(bytes).is_none() {}
        }

        /// Returns the least and the most of what [`take`](Self::take) says in `packets` packets.
        fn errors(&mut self, packets: u32, bytes: u64) -> (i64, i64) {
            let errors: Vec<_> = (0..packets).map(|_| self.take(bytes).unwrap()).collect();
            (*errors.iter().min().unwrap(), *errors.iter().max().unwrap())
        }
    }

    #[test]
    fn what_a_slow_program_has_not_read_is_known_from_the_first_opening_on() {
        for tenths in [5, 7, 9] {
            let mut machine = Machine::new();
            let first = (1..).find(|_| machine.take(PACKET * tenths / 10).is_some()).unwrap();
            assert!(first <= 40, "{tenths} tenths: after {first} packets");
            // Until its buffer is nearly full.
            let (least, most) = machine.errors(80, PACKET * tenths / 10);
            assert!(least >= -2 * PACKET as i64 && most <= 2 * PACKET as i64, "{tenths} tenths: {least} to {most}");
        }
    }

    #[test]
    fn a_program_that_stops_to_read_is_not_taken_to_read_on() {
        let mut machine = Machine::new();
        machine.slow_down(PACKET * 9 / 10);
        // Until the next piece is overdue, that cannot be known.
        for _ in 0..28 {
            machine.take(0);
        }
        let (least, most) = machine.errors(10, 0);
        assert!(least >= -(PIECE as i64) && most <= PIECE as i64, "{least} to {most}");
    }

    #[test]
    fn a_full_buffer_is_taken_to_be_read_at_the_pace_before_and_not_for_ever() {
        let mut machine = Machine::new();
        machine.slow_down(PACKET / 2);
        while !machine.drain.was_full() {
            machine.take(PACKET / 2);
        }
        let (least, most) = machine.errors(500, PACKET / 2);
        assert!(least >= -(FULL_BYTES as i64) / 4 && most <= FULL_BYTES as i64 / 4, "{least} to {most}");
        // It stops, and its window is closed again when that is full.
        for _ in 0..1000 {
            machine.take(0);
        }
        let error = machine.take(0).unwrap();
        assert!(error.unsigned_abs() <= FULL_BYTES / 3, "{error}");
    }

    #[test]
    fn a_full_buffer_that_holds_less_than_was_thought_is_not_taken_to_grow() {
        let mut machine = Machine { full_bytes: FULL_BYTES / 2, ..Machine::new() };
        machine.slow_down(PACKET / 2);
        while !machine.drain.was_full() {
            machine.take(PACKET / 2);
        }
        let (least, most) = machine.errors(2000, PACKET / 2);
        assert!(least >= 0 && most <= FULL_BYTES as i64 * 5 / 4, "{least} to {most}");
    }

    #[test]
    fn a_closed_window_shows_a_full_buffer_whatever_the_pace_was() {
        const LARGE_PACKET: u64 = 10_000;
        let (mut drain, mut now) = (Drain::default(), Timestamp::from_nanos(1 << 40));
        drain.settle(0, LEVEL, now);
        let (mut acked, mut window) = (200_000, LEVEL - 30_000);
        now = now + 20 * INTERVAL;
        drain.follow((acked, window), window - 10_000, LARGE_PACKET, now);
        let unread = drain.unread((acked, window), LARGE_PACKET, now).unwrap();
        assert!((30_000..50_000).contains(&unread), "{unread}");
        // It stops to read, and the buffer is full before the next piece is overdue.
        while window >= LARGE_PACKET {
            (acked, window, now) = (acked + LARGE_PACKET, window - LARGE_PACKET, now + INTERVAL);
            drain.follow((acked, window), window + LARGE_PACKET, LARGE_PACKET, now);
        }
        let unread = drain.unread((acked, window), LARGE_PACKET, now).unwrap();
        assert!(drain.was_full() && unread >= 60_000, "{unread}");
    }

    #[test]
    fn a_window_a_little_below_its_level_is_not_that_of_a_slow_program() {
        let (mut drain, mut now) = (Drain::default(), Timestamp::from_nanos(1 << 40));
        drain.settle(0, LEVEL, now);
        for packets in 1..100 {
            now = now + INTERVAL;
            let seen = (packets * PACKET, LEVEL - 2048 + 1024 * (packets % 2));
            drain.follow(seen, LEVEL - 2048, PACKET, now);
            assert_eq!(drain.unread(seen, PACKET, now), None);
        }
    }

    #[test]
    fn a_wide_window_that_is_taken_back_is_not_that_of_a_slow_program() {
        const WIDE: u64 = 280_000;
        let (mut drain, now) = (Drain::default(), Timestamp::from_nanos(1 << 40));
        drain.settle(0, WIDE, now);
        for packets in 1..60 {
            let window = WIDE - packets * PACKET;
            drain.follow((packets * PACKET, window), window - 1024, PACKET, now + INTERVAL * packets as u32);
            assert!(drain.unread((packets * PACKET, window), PACKET, now + INTERVAL * packets as u32).is_none());
        }
    }

    #[test]
    fn a_program_that_reads_everything_again_is_not_taken_to_be_slow() {
        let mut machine = Machine::new();
        machine.slow_down(PACKET / 2);
        while !machine.drain.was_full() {
            machine.take(PACKET / 2);
        }
        for _ in 0..2 * LEVEL / PACKET {
            machine.take(LEVEL);
        }
        assert_eq!(machine.take(PACKET), None);
    }
}
