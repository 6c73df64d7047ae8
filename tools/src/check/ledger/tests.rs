//! Every way in which sequence numbers and notices of gaps can disagree.

use Step::{Block, Gap};

use super::*;

/// A message of a stream.
#[derive(Clone, Copy, Debug)]
enum Step {
    Block(u64),
    /// The first lost block, their number, and the reason.
    Gap(u64, u64, &'static str),
}

impl Ledger {
    fn enter_all(&mut self, steps: &[Step]) -> Vec<Notice> {
        let enter = |step: &Step| match *step {
            Block(sequence) => self.block(sequence),
            Gap(from, blocks, reason) => self.gap(&GapNotice { from, blocks, reason: reason.into() }),
        };
        steps.iter().flat_map(enter).collect()
    }

    /// Returns the number of lost blocks, that of gaps, and the blocks of the longest.
    fn counts(&self) -> (u64, u64, u64) {
        (self.lost(), self.gaps(), self.largest())
    }
}

/// Fails unless a stream that was requested from `requested` on has these notices, counts and reasons.
#[track_caller]
fn check(
    requested: Option<u64>,
    steps: &[Step],
    notices: &[Notice],
    counts: (u64, u64, u64),
    reasons: &[(&str, u64)],
) -> Faults {
    let mut ledger = Ledger::new(requested);
    assert_eq!(ledger.enter_all(steps), notices, "{steps:?}");
    assert_eq!(ledger.counts(), counts, "{steps:?}");
    let by_reason = ledger.lost_by_reason();
    assert_eq!(by_reason.iter().map(|(reason, blocks)| (&**reason, *blocks)).collect::<Vec<_>>(), reasons, "{steps:?}");
    assert_eq!(by_reason.iter().map(|(_, blocks)| blocks).sum::<u64>(), ledger.lost(), "the parts make the whole");
    ledger.faults()
}

fn announced(from: u64, blocks: u64, reason: &str) -> Notice {
    Notice::Gap { from, blocks, reason: reason.to_owned() }
}

const fn unannounced(from: u64, blocks: u64) -> Notice {
    Notice::Unannounced { from, blocks }
}

const fn mismatch(blocks: u64, at: u64) -> Notice {
    Notice::Mismatch { blocks, at }
}

#[test]
fn a_whole_stream_has_no_notices_wherever_it_starts() {
    let steps: Vec<Step> = (1234..1300).map(Block).collect();
    assert!(!check(None, &steps, &[], (0, 0, 0), &[]).any());
}

#[test]
fn an_announced_gap_is_a_loss_but_no_fault() {
    let gap = announced(8, 3, "overflow");
    // It counts at once, not only with the next block, which may never come.
    for steps in [&[Block(7), Gap(8, 3, "overflow")][..], &[Block(7), Gap(8, 3, "overflow"), Block(11)]] {
        assert!(!check(None, steps, std::slice::from_ref(&gap), (3, 1, 3), &[("overflow", 3)]).any());
    }
    // Notices in a row are one gap.
    let steps = [Block(0), Gap(1, 2, "overflow"), Gap(3, 5, "skipped"), Block(8), Gap(9, 1, "overflow"), Block(10)];
    let gaps = [announced(1, 2, "overflow"), announced(3, 5, "skipped"), announced(9, 1, "overflow")];
    assert!(!check(None, &steps, &gaps, (8, 2, 7), &[("overflow", 3), ("skipped", 5)]).any());
}

#[test]
fn a_hole_without_a_notice_is_a_fault() {
    let faults = check(None, &[Block(7), Block(10)], &[unannounced(8, 2)], (2, 1, 2), &[("unannounced", 2)]);
    assert_eq!(faults, Faults { unannounced_blocks: 2, ..Faults::default() });
    // A notice of too few blocks, and one that begins too late.
    let notices = [announced(8, 1, "overflow"), unannounced(9, 2)];
    let reasons = [("overflow", 1), ("unannounced", 2)];
    check(None, &[Block(7), Gap(8, 1, "overflow"), Block(11)], &notices, (3, 1, 3), &reasons);
    let notices = [unannounced(8, 1), announced(9, 1, "overflow")];
    let reasons = [("unannounced", 1), ("overflow", 1)];
    check(None, &[Block(7), Gap(9, 1, "overflow"), Block(10)], &notices, (2, 1, 2), &reasons);
}

#[test]
fn a_notice_that_the_numbers_contradict_is_corrected() {
    // Too many blocks.
    let steps = [Block(7), Gap(8, 1, "overflow"), Gap(9, 3, "skipped"), Block(9)];
    let notices = [announced(8, 1, "overflow"), announced(9, 3, "skipped"), mismatch(3, 9)];
    let faults = check(None, &steps, &notices, (1, 1, 1), &[("overflow", 1)]);
    assert_eq!(faults.mismatched_gaps, 1);
    // Blocks that came before, and no block at all.
    let steps = [Block(7), Gap(7, 1, "overflow"), Gap(8, 0, "overflow"), Block(8)];
    let faults = check(None, &steps, &[mismatch(1, 7), mismatch(0, 8)], (0, 0, 0), &[]);
    assert_eq!(faults.mismatched_gaps, 2);
    // Only blocks that come after it.
    let steps = [Block(7), Gap(8, 1, "overflow"), Block(8)];
    check(None, &steps, &[announced(8, 1, "overflow"), mismatch(1, 8)], (0, 0, 0), &[]);
}

#[test]
fn blocks_missing_at_the_start_count_from_the_requested_one() {
    let steps = [Gap(0, 5, "history"), Block(5)];
    assert!(!check(Some(0), &steps, &[announced(0, 5, "history")], (5, 1, 5), &[("history", 5)]).any());
    check(Some(2), &[Block(5)], &[unannounced(2, 3)], (3, 1, 3), &[("unannounced", 3)]);
    check(Some(100), &[Block(5)], &[], (0, 0, 0), &[]);
}

#[test]
fn a_block_that_comes_again_changes_nothing_else() {
    let notice = Notice::Repeated { sequence: 7, expected: 9 };
    let faults = check(None, &[Block(7), Block(8), Block(7), Block(9)], &[notice], (0, 0, 0), &[]);
    assert_eq!(faults.repeated_blocks, 1);
}

#[test]
fn a_hostile_server_can_neither_overflow_it_nor_fill_the_memory() {
    let mut ledger = Ledger::new(None);
    for from in 0..10_000 {
        ledger.gap(&GapNotice { from, blocks: 1, reason: format!("reason {from}").into() });
    }
    assert_eq!(ledger.counts(), (10_000, 1, 10_000));
    assert!(ledger.open.len() <= MAX_STRETCHES);
    ledger.block(10_000);
    assert!(ledger.lost_by_reason().len() <= MAX_REASONS + 1);
    ledger.enter_all(&[Gap(u64::MAX, u64::MAX, "\x1b[2J"), Block(u64::MAX), Block(u64::MAX), Block(10_001)]);
    assert!(ledger.lost_by_reason().iter().all(|(reason, _)| !reason.contains('\x1b')));
}
