//! Makes a failing schedule short.

use super::schedule::Schedule;
use super::{Failure, run};

/// Removes events as long as the schedule still fails in the same way: first long stretches, and at last single events.
pub(super) fn shrink(schedule: &Schedule, failure: Failure) -> (Schedule, Failure) {
    let (mut best, mut failure) = (schedule.clone(), failure);
    best.steps.truncate(failure.at + 1);
    let mut length = (best.steps.len() / 2).max(1);
    loop {
        let mut removed_some = false;
        let mut start = 0;
        while start < best.steps.len() {
            let mut shorter = best.clone();
            shorter.steps.drain(start..(start + length).min(best.steps.len()));
            if let Err(shorter_failure) = run(&shorter, None)
                && kind(&shorter_failure) == kind(&failure)
            {
                shorter.steps.truncate(shorter_failure.at + 1);
                (best, failure) = (shorter, shorter_failure);
                removed_some = true;
            } else {
                start += length;
            }
        }
        if length > 1 {
            length /= 2;
        } else if !removed_some {
            return (best, failure);
        }
    }
}

/// Returns the words of a fault without its numbers and lists, which differ from schedule to schedule.
fn kind(failure: &Failure) -> String {
    let mut depth = 0;
    let mut words = String::new();
    for letter in failure.fault.chars() {
        match letter {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            _ if depth == 0 && letter.is_alphabetic() => words.push(letter),
            _ => {}
        }
    }
    words
}
