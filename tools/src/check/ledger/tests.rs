//! Every way in which sequence numbers and notices of gaps can disagree.

use super::*;

fn gap(from: u64, blocks: u64, reason: &str) -> GapNotice {
    GapNotice { from, blocks, reason: reason.to_owned().into() }
}

fn counts(ledger: &Ledger) -> (u64, u64, u64) {
    (ledger.lost(), ledger.gaps(), ledger.largest())
}

fn reasons(ledger: &Ledger) -> Vec<(String, u64)> {
    let all = ledger.lost_by_reason();
    assert_eq!(all.iter().map(|(_, blocks)| blocks).sum::<u64>(), ledger.lost(), "the parts make the whole");
    all
}

fn owned(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|&(reason, blocks)| (reason.to_owned(), blocks)).collect()
}

#[test]
fn a_whole_stream_has_no_notices_wherever_it_starts() {
    let mut ledger = Ledger::new(None);
    for sequence in 1234..1300 {
        assert_eq!(ledger.block(sequence), []);
    }
    assert_eq!(counts(&ledger), (0, 0, 0));
    assert!(!ledger.faults().any());
}

#[test]
fn an_announced_gap_is_a_loss_but_no_fault() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    let notices = ledger.gap(&gap(8, 3, "overflow"));
    assert_eq!(notices, [Notice::Gap { from: 8, blocks: 3, reason: "overflow".to_owned() }]);
    assert_eq!(counts(&ledger), (3, 1, 3), "known at once, not only with the next block");
    assert_eq!(ledger.block(11), []);
    assert_eq!(counts(&ledger), (3, 1, 3));
    assert_eq!(reasons(&ledger), owned(&[("overflow", 3)]));
    assert!(!ledger.faults().any());
}

#[test]
fn notices_in_a_row_are_one_gap_of_two_reasons() {
    let mut ledger = Ledger::new(None);
    ledger.block(0);
    ledger.gap(&gap(1, 2, "overflow"));
    ledger.gap(&gap(3, 5, "skipped"));
    ledger.block(8);
    ledger.gap(&gap(9, 1, "overflow"));
    ledger.block(10);
    assert_eq!(counts(&ledger), (8, 2, 7));
    assert_eq!(reasons(&ledger), owned(&[("overflow", 3), ("skipped", 5)]));
    assert!(!ledger.faults().any());
}

#[test]
fn a_hole_without_a_notice_is_a_fault() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    assert_eq!(ledger.block(10), [Notice::Unannounced { from: 8, blocks: 2 }]);
    assert_eq!(counts(&ledger), (2, 1, 2));
    assert_eq!(reasons(&ledger), owned(&[("unannounced", 2)]));
    assert_eq!(ledger.faults(), Faults { unannounced_blocks: 2, ..Faults::default() });
}

#[test]
fn a_notice_of_too_few_blocks_leaves_a_hole() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    ledger.gap(&gap(8, 1, "overflow"));
    assert_eq!(ledger.block(11), [Notice::Unannounced { from: 9, blocks: 2 }]);
    assert_eq!(reasons(&ledger), owned(&[("overflow", 1), ("unannounced", 2)]));
    assert_eq!(counts(&ledger), (3, 1, 3));
}

#[test]
fn a_notice_that_begins_too_late_leaves_a_hole() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    let notices = ledger.gap(&gap(9, 1, "overflow"));
    assert_eq!(notices[0], Notice::Unannounced { from: 8, blocks: 1 });
    assert_eq!(ledger.block(10), []);
    assert_eq!(counts(&ledger), (2, 1, 2));
}

#[test]
fn a_notice_of_too_many_blocks_is_corrected() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    ledger.gap(&gap(8, 1, "overflow"));
    ledger.gap(&gap(9, 3, "skipped"));
    assert_eq!(ledger.block(9), [Notice::Mismatch { blocks: 3, at: 9 }]);
    assert_eq!(reasons(&ledger), owned(&[("overflow", 1)]));
    assert_eq!(counts(&ledger), (1, 1, 1));
    assert_eq!(ledger.faults().mismatched_gaps, 1);
}

#[test]
fn a_notice_of_blocks_that_came_is_no_loss() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    assert_eq!(ledger.gap(&gap(7, 1, "overflow")), [Notice::Mismatch { blocks: 1, at: 7 }]);
    assert_eq!(ledger.gap(&gap(8, 0, "overflow")), [Notice::Mismatch { blocks: 0, at: 8 }]);
    assert_eq!(ledger.block(8), []);
    assert_eq!(counts(&ledger), (0, 0, 0));
    assert_eq!(ledger.faults().mismatched_gaps, 2);
}

#[test]
fn a_notice_that_is_all_wrong_opens_no_gap() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    ledger.gap(&gap(8, 1, "overflow"));
    ledger.block(8);
    assert_eq!(counts(&ledger), (0, 0, 0));
}

#[test]
fn a_loss_at_the_end_counts_without_a_block_after_it() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    ledger.gap(&gap(8, 4, "overflow"));
    assert_eq!(counts(&ledger), (4, 1, 4));
}

#[test]
fn blocks_missing_at_the_start_count_from_the_requested_one() {
    let mut announced = Ledger::new(Some(0));
    announced.gap(&gap(0, 5, "history"));
    announced.block(5);
    assert_eq!(reasons(&announced), owned(&[("history", 5)]));
    assert!(!announced.faults().any());

    let mut silent = Ledger::new(Some(2));
    assert_eq!(silent.block(5), [Notice::Unannounced { from: 2, blocks: 3 }]);

    let mut ahead = Ledger::new(Some(100));
    assert_eq!(ahead.block(5), []);
    assert_eq!(counts(&ahead), (0, 0, 0));
}

#[test]
fn a_block_that_comes_again_changes_nothing_else() {
    let mut ledger = Ledger::new(None);
    ledger.block(7);
    ledger.block(8);
    assert_eq!(ledger.block(7), [Notice::Repeated { sequence: 7, expected: 9 }]);
    assert_eq!(ledger.block(9), []);
    assert_eq!(counts(&ledger), (0, 0, 0));
    assert_eq!(ledger.faults().repeated_blocks, 1);
}

#[test]
fn a_hostile_server_can_neither_overflow_it_nor_fill_the_memory() {
    let mut ledger = Ledger::new(None);
    for number in 0..10_000 {
        ledger.gap(&gap(number, 1, &format!("reason {number}")));
    }
    assert_eq!(counts(&ledger), (10_000, 1, 10_000));
    assert!(ledger.open.len() <= MAX_STRETCHES);
    ledger.block(10_000);
    assert!(reasons(&ledger).len() <= MAX_REASONS + 1);

    ledger.gap(&gap(u64::MAX, u64::MAX, "\x1b[2J"));
    ledger.block(u64::MAX);
    ledger.block(u64::MAX);
    ledger.block(10_001);
    assert!(reasons(&ledger).iter().all(|(reason, _)| !reason.contains('\x1b')));
}
