//! Random messages: none makes the reader panic, and one that is read is the one that would be written.

use aircheck_fuzz::edited;
use bolero::check;

use super::{MAX_BYTES, read, write};
use crate::audience::edges::tests::{report, row};

#[test]
fn reports() {
    let good = write(&report("a", 1, vec![row(1), row(2)]), MAX_BYTES);
    check!().with_max_len(96).for_each(|bytes: &[u8]| {
        for message in [bytes.to_vec(), edited(bytes, &[&good])] {
            if let Ok(report) = read(&message) {
                let again = read(&write(&report, MAX_BYTES)).expect("what was read can be written and read");
                // Fractions may differ in their last digit.
                assert_eq!((again.run, again.rows.len()), (report.run, report.rows.len()));
                assert_eq!(again.totals.offered, report.totals.offered);
            }
        }
    });
}
