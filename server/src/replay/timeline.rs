//! The numbers of blocks in a replay that begins in an earlier run of the server and goes on in later ones.

use aircheck_engine::Format;

use crate::sink::recorder::{Entry, Index};

/// A run in a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) run: u32,
    /// The number of the block that begins at position 0 of this run; below 0 if the replay begins later in it.
    pub(super) base: i64,
}

/// Returns the runs from that of `first` to `current`, which began at `current_began` (nanoseconds of Unix time), with the numbers
/// of their blocks. The blocks of the first run have their own numbers. Each later run follows at the distance of its time, and
/// so do its numbers: those of the present run are its own, if the replay begins in it.
pub(super) fn legs(index: &Index, first: &Entry, format: Format, current_began: u64) -> Vec<Leg> {
    let entries = index.entries();
    let mut legs = vec![Leg { run: first.run, base: 0 }];
    let span = format.block_span().as_nanos().max(1) as u64;
    let blocks = |frames: u64| frames.div_ceil(u64::from(format.block_frames()));
    for run in first.run + 1..=index.current_run() {
        let Some(Leg { run: before, base }) = legs.last().copied() else { break };
        let Some(last) =
            entries.iter().filter(|entry| entry.run == before && entry.fits(format)).max_by_key(|entry| entry.end())
        else {
            continue;
        };
        let of_run = entries.iter().filter(|entry| entry.run == run && entry.fits(format));
        let begin = match of_run.min_by_key(|entry| entry.position) {
            _ if run == index.current_run() => (0, current_began),
            Some(entry) => (entry.position, entry.captured_at),
            None => continue,
        };
        let pause = begin.1.saturating_sub(last.ended_at()) / span;
        let number = base + (blocks(last.end()) + pause) as i64;
        legs.push(Leg { run, base: number - (begin.0 / u64::from(format.block_frames())) as i64 });
    }
    legs
}
