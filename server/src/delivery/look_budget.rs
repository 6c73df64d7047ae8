//! The budget of looks: how often a thread asks the kernel about connections, beyond what it asks about a listener that reads.
//!
//! A listener that reads is looked at twice a second, or some five times if it gets short packets. One that is late has a look
//! before each packet, because a row of tests tells what its program reads, and one that something waits for has the watch's
//! attention. On a busy machine, all of ten thousand listeners are late, and so many looks would cost a third of what delivery
//! does. So when a thread's budget is spent, listeners take turns. A row of tests is not made thinner by that: tests far apart would
//! be in step with the intervals at which a program reads. Instead, a listener has all of them during its turn, and none between
//! two turns.

use std::time::Duration;

use aircheck_engine::Timestamp;

/// The turns of a shard, in each of which a program that reads each half second does so once.
const SHARD_SLICE: Duration = Duration::from_millis(500);
/// The time from turn to turn is thereby two seconds and a half, within which no result of a test is too old.
const SHARD_TURNS: u64 = 5;
/// Looks in such a slice: 12,000 a second, or 3 % of a core. A thousand listeners that are late want 10,000, one for each page of 100 ms.
const SHARD_LOOKS: u32 = 6000;
/// The watch looks ten times a second at the same thousand, and a fifth more; if there are more, at each of them once a second.
const WATCH_TURNS: u64 = 10;
const WATCH_LOOKS: u32 = 1200;

/// The budget of one thread.
#[derive(Debug)]
pub(crate) struct LookBudget {
    max_looks: u32,
    turns: u64,
    /// The present slice of time, and the looks that were wanted in it.
    slice: u64,
    wanted: u32,
    /// Whether more than the budget were wanted in the slice before.
    was_spent: bool,
}

impl LookBudget {
    /// Makes that of a shard, whose slices are those of [`slice_at`](Self::slice_at).
    pub(crate) fn of_shard() -> Self {
        Self::new(SHARD_LOOKS, SHARD_TURNS)
    }

    /// Makes that of the watch, whose rounds are its slices.
    pub(crate) fn of_watch() -> Self {
        Self::new(WATCH_LOOKS, WATCH_TURNS)
    }

    fn new(max_looks: u32, turns: u64) -> Self {
        Self { max_looks, turns, slice: 0, wanted: 0, was_spent: false }
    }

    /// Returns the number of a shard's slice at this time.
    pub(crate) fn slice_at(now: Timestamp) -> u64 {
        now.as_nanos() / SHARD_SLICE.as_nanos() as u64
    }

    /// Notes that a listener wants a look in this slice. Returns whether it has one: always within the budget, and in its turn beyond it.
    pub(crate) fn grant(&mut self, listener: u64, slice: u64) -> bool {
        if slice != self.slice {
            self.was_spent = slice == self.slice + 1 && self.wanted > self.max_looks;
            (self.slice, self.wanted) = (slice, 0);
        }
        self.wanted = self.wanted.saturating_add(1);
        !self.is_spent() || (listener + slice).is_multiple_of(self.turns)
    }

    /// Returns whether listeners take turns, by the last [`grant`](Self::grant). Looks that are not had count as wanted, so that the budget
    /// does not seem to suffice because listeners take turns.
    pub(crate) fn is_spent(&self) -> bool {
        self.was_spent || self.wanted > self.max_looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many looks each of `listeners` listeners has that wants `wishes` in each of so many slices from `first` on.
    fn looks(budget: &mut LookBudget, listeners: u64, wishes: u32, slices: std::ops::Range<u64>) -> Vec<u32> {
        let mut had = vec![0; listeners as usize];
        for slice in slices {
            for _ in 0..wishes {
                (0..listeners).for_each(|id| had[id as usize] += u32::from(budget.grant(id, slice)));
            }
        }
        had
    }

    #[test]
    fn a_thousand_late_listeners_have_a_look_for_each_page_and_in_each_round_of_the_watch() {
        assert!(looks(&mut LookBudget::of_shard(), 1000, 5, 0..50).iter().all(|had| *had == 250));
        assert!(looks(&mut LookBudget::of_watch(), 1000, 1, 0..50).iter().all(|had| *had == 50));
    }

    #[test]
    fn beyond_the_budget_each_listener_has_all_its_looks_in_its_turn() {
        let mut budget = LookBudget::of_shard();
        looks(&mut budget, 5000, 5, 0..1);
        assert!(budget.is_spent());
        for slice in 1..26 {
            let had = looks(&mut budget, 5000, 5, slice..slice + 1);
            assert!(had.iter().all(|had| matches!(had, 0 | 5)), "a row is not thinned");
            assert_eq!(had.iter().sum::<u32>(), 5000);
        }
        assert!(looks(&mut budget, 5000, 5, 26..31).iter().all(|had| *had == 5), "one turn in five for everyone");
        let mut watch = LookBudget::of_watch();
        looks(&mut watch, 5000, 1, 0..1);
        assert!(looks(&mut watch, 5000, 1, 1..11).iter().all(|had| *had == 1));
    }

    #[test]
    fn a_budget_that_is_spent_all_at_once_holds_at_once() {
        let mut budget = LookBudget::of_shard();
        let had: u32 = looks(&mut budget, 10_000, 5, 7..8).iter().sum();
        assert!(had <= SHARD_LOOKS + 10_000, "{had} looks in a slice");
    }

    #[test]
    fn turns_end_when_so_many_looks_are_not_wanted_any_more() {
        let mut budget = LookBudget::of_shard();
        looks(&mut budget, 5000, 5, 0..3);
        looks(&mut budget, 20, 5, 3..4);
        assert!(looks(&mut budget, 20, 5, 4..6).iter().all(|had| *had == 10));
        looks(&mut budget, 5000, 5, 6..7);
        assert!(looks(&mut budget, 20, 5, 9..10).iter().all(|had| *had == 5), "nothing was wanted for a second");
    }
}
