//! The order of messages on a subject: which of them is the next of the stream, and what was lost between two.
//!
//! One publisher is followed, by its epoch, as long as it is heard. Another one on the subject is foreign meanwhile; it is followed
//! once the first has been silent for [`TAKEOVER`], as one is that was started anew.

use std::ops::Range;
use std::time::Duration;

use aircheck_engine::Timestamp;

use super::message::{Head, MessageError};

/// Silence of a publisher after which another one is followed. A publisher sends a block each 100 ms at least, and a network
/// that drops out for longer costs less than a second publisher that takes turns with the first.
pub const TAKEOVER: Duration = Duration::from_millis(500);
/// The most time by which a number may be ahead of the time that has passed. Sequence numbers follow the time: a larger jump is no
/// number of a stream, and would use up numbers that later blocks need.
const MAX_JUMP: Duration = Duration::from_secs(60);
/// Sequence numbers before the last one that are remembered, to tell a late message from a second copy.
const REMEMBERED: u64 = 128;

/// What a message is in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next block. `lost_on_hop` were sent before it and did not come; `u64::MAX` if all missing ones were, because the publisher
    /// has begun anew.
    Next {
        /// Blocks directly before it that were lost on the hop.
        lost_on_hop: u64,
        /// Whether it is the first one of another epoch than before.
        is_new_epoch: bool,
    },
    /// A block that comes after a later one.
    Late,
    /// A block that has come already.
    Duplicate,
    /// A block of another publisher than the one that is followed.
    Foreign {
        /// Whether both are heard in turns. If not, the one that is followed may have been started anew.
        is_second: bool,
    },
}

/// The state of the order.
#[derive(Debug, Default)]
pub struct Order {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    epoch: u64,
    /// One past the last sequence number and serial number.
    next_sequence: u64,
    next_serial: u64,
    heard_at: Timestamp,
    /// Bit n is set if the number n below the last one has come.
    came: u128,
    /// When another publisher was first heard.
    foreign_at: Option<Timestamp>,
}

impl Current {
    fn new(head: &Head, now: Timestamp) -> Self {
        Self {
            epoch: head.epoch,
            next_sequence: head.sequence + head.blocks(),
            next_serial: head.serial.wrapping_add(head.blocks()),
            heard_at: now,
            came: numbers(head.blocks()),
            foreign_at: None,
        }
    }

    /// Returns whether a number with so many missing ones before it cannot be one of the stream.
    fn is_far_ahead(&self, missing: u64, block: Duration, now: Timestamp) -> bool {
        u128::from(missing) * block.as_nanos() > (now.since(self.heard_at) + MAX_JUMP).as_nanos()
    }
}

impl Order {
    /// Returns the epoch that is followed.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.epoch)
    }

    /// Returns whether another publisher than that of `epoch` is followed at `now`.
    #[must_use]
    pub fn is_foreign(&self, epoch: u64, now: Timestamp) -> bool {
        self.current.as_ref().is_some_and(|current| current.epoch != epoch && now.since(current.heard_at) < TAKEOVER)
    }

    /// Returns the serial number of the next block.
    #[must_use]
    pub fn next_serial(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.next_serial)
    }

    /// Returns the serial numbers that have not come before a block that has come at `now`, if that is to be the next one of the same epoch.
    #[must_use]
    pub fn missing_before(&self, head: &Head, block: Duration, now: Timestamp) -> Range<u64> {
        let Some(current) = self.current.as_ref().filter(|current| current.epoch == head.epoch) else { return 0..0 };
        let sequences = head.sequence.saturating_sub(current.next_sequence);
        let is_one = head.serial.checked_sub(current.next_serial).is_some_and(|missing| missing <= sequences);
        if is_one && !current.is_far_ahead(sequences, block, now) { current.next_serial..head.serial } else { 0..0 }
    }

    /// Returns whether a message without blocks follows the last block: it ends the stream that is followed.
    #[must_use]
    pub fn is_end(&self, head: &Head) -> bool {
        let follows = |current: &Current| (current.epoch, current.next_serial) == (head.epoch, head.serial);
        head.blocks() == 0 && self.current.as_ref().is_some_and(follows)
    }

    /// Decides what a message that has come at `now` is; it stands for one block or more. `block` is the length of its block.
    ///
    /// # Errors
    ///
    /// When its number cannot be one of the stream.
    pub fn judge(&mut self, head: &Head, block: Duration, now: Timestamp) -> Result<Verdict, MessageError> {
        let Some(current) = &mut self.current else {
            self.current = Some(Current::new(head, now));
            return Ok(Verdict::Next { lost_on_hop: 0, is_new_epoch: true });
        };
        if head.epoch != current.epoch {
            if now.since(current.heard_at) < TAKEOVER {
                let foreign_at = *current.foreign_at.get_or_insert(now);
                return Ok(Verdict::Foreign { is_second: current.heard_at > foreign_at });
            }
            *current = Current::new(head, now);
            return Ok(Verdict::Next { lost_on_hop: u64::MAX, is_new_epoch: true });
        }
        let Some(missing) = head.sequence.checked_sub(current.next_sequence) else {
            current.heard_at = now;
            let below = current.next_sequence - 1 - head.sequence;
            let bit = if below < REMEMBERED { 1 << below } else { 0 };
            let has_come = current.came & bit != 0;
            // A message comes as a whole or not at all, so its first number stands for it.
            current.came |= bit;
            return Ok(if has_come { Verdict::Duplicate } else { Verdict::Late });
        };
        if current.is_far_ahead(missing, block, now) {
            return Err(MessageError::Malformed("its sequence number is far ahead of its time"));
        }
        // A publisher that was started anew in the same run counts from 0. What is missing then did not come.
        let lost_on_hop = head.serial.checked_sub(current.next_serial).unwrap_or(u64::MAX);
        let step = missing.saturating_add(head.blocks());
        let came = if step < REMEMBERED { current.came << step } else { 0 };
        let next = Current::new(head, now);
        *current = Current { came: came | next.came, foreign_at: current.foreign_at, ..next };
        Ok(Verdict::Next { lost_on_hop, is_new_epoch: false })
    }
}

/// Returns the bits of so many numbers up to the last one.
fn numbers(blocks: u64) -> u128 {
    if blocks < REMEMBERED { (1 << blocks) - 1 } else { u128::MAX }
}

#[cfg(test)]
mod tests {
    use aircheck_engine::Origin;
    use proptest::prelude::*;

    use super::*;
    use crate::hop::message::{Coding, HopFormat, SampleEncoding};

    const BLOCK: Duration = Duration::from_millis(10);

    fn head(epoch: u64, serial: u64, sequence: u64) -> Head {
        Head {
            coding: Some(Coding::Samples(SampleEncoding::S16)),
            origin: Origin::Source,
            format: HopFormat { rate_hz: 48_000, channels: 1, block_frames: 480 },
            frames: 480,
            epoch,
            serial,
            sequence,
            captured_nanos: 0,
            sent_nanos: 0,
        }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(1_000_000_000_000 + millis * 1_000_000)
    }

    fn next(lost_on_hop: u64) -> Result<Verdict, MessageError> {
        Ok(Verdict::Next { lost_on_hop, is_new_epoch: false })
    }

    #[test]
    fn losses_before_the_hop_and_on_it_are_told_apart() {
        let mut order = Order::default();
        order.judge(&head(1, 40, 100), BLOCK, at(0)).unwrap();
        assert_eq!(order.judge(&head(1, 41, 101), BLOCK, at(10)), next(0));
        assert_eq!(order.judge(&head(1, 42, 105), BLOCK, at(50)), next(0), "the publisher did not have three");
        assert_eq!(order.judge(&head(1, 45, 108), BLOCK, at(80)), next(2));
        assert_eq!(order.judge(&head(1, 47, 112), BLOCK, at(120)), next(1), "and two the publisher did not have");
        assert_eq!(order.judge(&head(1, 0, 120), BLOCK, at(200)), next(u64::MAX), "a publisher that counts anew");
    }

    #[test]
    fn what_is_missing_before_a_block_of_the_same_epoch_is_told() {
        let mut order = Order::default();
        assert_eq!(order.missing_before(&head(1, 40, 100), BLOCK, at(0)), 0..0, "nothing has come");
        order.judge(&head(1, 40, 100), BLOCK, at(0)).unwrap();
        let missing = |serial, sequence| order.missing_before(&head(1, serial, sequence), BLOCK, at(10));
        assert_eq!(missing(41, 101), 41..41);
        assert_eq!(missing(45, 107), 41..45, "and two more that the publisher did not have");
        assert!(missing(41, 105).is_empty() && missing(0, 120).is_empty() && missing(38, 98).is_empty());
        assert!(missing(45, 102).is_empty(), "each has a number of its own");
        assert!(missing(100_000, 200_000).is_empty(), "far ahead of its time");
        assert!(order.missing_before(&head(2, 45, 107), BLOCK, at(10)).is_empty(), "another epoch");
    }

    #[test]
    fn late_messages_and_second_copies_are_told_apart() {
        let mut order = Order::default();
        order.judge(&head(1, 0, 100), BLOCK, at(0)).unwrap();
        assert_eq!(order.judge(&head(1, 3, 103), BLOCK, at(0)), next(2));
        assert_eq!(order.judge(&head(1, 2, 102), BLOCK, at(0)), Ok(Verdict::Late));
        assert_eq!(order.judge(&head(1, 2, 102), BLOCK, at(0)), Ok(Verdict::Duplicate));
        assert_eq!(order.judge(&head(1, 3, 103), BLOCK, at(0)), Ok(Verdict::Duplicate));
        assert_eq!(order.judge(&head(1, 0, 0), BLOCK, at(0)), Ok(Verdict::Late), "too long ago to know");
        assert_eq!(order.judge(&head(1, 303, 403), BLOCK, at(3000)), next(299));
        assert_eq!(order.judge(&head(1, 302, 402), BLOCK, at(3000)), Ok(Verdict::Late));
    }

    #[test]
    fn a_message_of_several_blocks_counts_as_all_of_them() {
        let opus = |serial, sequence, blocks: u32| Head {
            coding: Some(Coding::Opus { pre_skip: 120 }),
            frames: 480 * blocks,
            ..head(1, serial, sequence)
        };
        let mut order = Order::default();
        order.judge(&opus(40, 100, 2), BLOCK, at(0)).unwrap();
        assert_eq!(order.judge(&opus(42, 102, 2), BLOCK, at(20)), next(0));
        assert_eq!(order.missing_before(&opus(48, 110, 2), BLOCK, at(80)), 44..48);
        assert_eq!(order.judge(&opus(48, 110, 2), BLOCK, at(80)), next(4), "and two that the publisher did not have");
        assert_eq!(order.next_serial(), Some(50));
        assert_eq!(order.judge(&opus(46, 108, 2), BLOCK, at(80)), Ok(Verdict::Late));
        assert_eq!(order.judge(&opus(46, 108, 2), BLOCK, at(80)), Ok(Verdict::Duplicate));
        assert_eq!(order.judge(&opus(48, 110, 2), BLOCK, at(80)), Ok(Verdict::Duplicate));
        assert!(
            order.is_end(&opus(50, 112, 0)) && !order.is_end(&opus(48, 110, 0)) && !order.is_end(&opus(50, 112, 1))
        );
        assert_eq!(order.judge(&opus(50, 112, 200), BLOCK, at(100)), next(0));
        assert_eq!(order.judge(&opus(186, 248, 2), BLOCK, at(100)), Ok(Verdict::Duplicate));
    }

    #[test]
    fn a_second_publisher_is_foreign_until_the_first_is_silent() {
        let mut order = Order::default();
        order.judge(&head(1, 0, 0), BLOCK, at(0)).unwrap();
        for n in 1..100 {
            let is_second = n > 1;
            assert_eq!(order.judge(&head(2, n, 7 * n), BLOCK, at(10 * n)), Ok(Verdict::Foreign { is_second }));
            assert_eq!(order.judge(&head(1, n, n), BLOCK, at(10 * n + 5)), next(0));
        }
        assert_eq!(order.judge(&head(2, 140, 980), BLOCK, at(1494)), Ok(Verdict::Foreign { is_second: true }));
        let taken = Ok(Verdict::Next { lost_on_hop: u64::MAX, is_new_epoch: true });
        assert_eq!(order.judge(&head(2, 141, 987), BLOCK, at(1495)), taken);
        assert_eq!(order.epoch(), Some(2));
        assert!(order.is_foreign(1, at(1994)) && !order.is_foreign(2, at(1994)) && !order.is_foreign(1, at(1995)));
        assert_eq!(order.judge(&head(1, 150, 150), BLOCK, at(1500)), Ok(Verdict::Foreign { is_second: false }));
    }

    #[test]
    fn a_number_far_ahead_of_its_time_is_refused() {
        let mut order = Order::default();
        order.judge(&head(1, 0, 0), BLOCK, at(0)).unwrap();
        assert!(order.judge(&head(1, 1, 1 << 57), BLOCK, at(10)).is_err());
        assert_eq!(order.judge(&head(1, 1, 1), BLOCK, at(20)), next(0), "it has used up nothing");
        assert_eq!(order.judge(&head(1, 8 * 360_000, 8 * 360_000), BLOCK, at(8 * 3_600_000)), next(8 * 360_000 - 2));
    }

    proptest! {
        /// Whatever comes in which order: each number is the next at most once, and all numbers between are accounted for.
        #[test]
        fn no_number_is_taken_twice(messages in prop::collection::vec((1_u64..3, 0_u64..400), 1..200)) {
            let mut order = Order::default();
            let mut last: Option<(u64, u64)> = None;
            for (index, (epoch, number)) in messages.into_iter().enumerate() {
                if let Ok(Verdict::Next { .. }) = order.judge(&head(epoch, number, number), BLOCK, at(40 * index as u64)) {
                    prop_assert!(last.is_none_or(|last| last != (epoch, number) && (last.0 != epoch || last.1 < number)));
                    last = Some((epoch, number));
                }
            }
        }
    }
}
