//! A report on the listeners of a server: how it is made, written and read.

use std::cmp::Reverse;

use aircheck_api::{AudienceTotals, EdgeReport, ListenerRow, REPORT_VERSION};
use aircheck_engine::Timestamp;
use serde::Deserialize;

use crate::delivery::listeners::Listeners;
use crate::delivery::{steady_lag_millis, unrequested_seconds};

/// Rows of a report. A hundred edges with as many send 9 MB a second, and four of them fill the 200 rows of a page.
pub const MAX_ROWS: usize = 50;
/// Longest report: four times what 50 rows with long names take.
pub const MAX_BYTES: usize = 256 * 1024;

/// The reason why a message is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is of another version.
    #[error("it is of version {0} (run the same version of aircheck on both servers)")]
    Version(u32),
    /// It is longer than a report.
    #[error("it has {0} bytes, and a report has {MAX_BYTES} at most")]
    TooLong(usize),
    /// It is something else.
    #[error("it is not a report of an aircheck server: {0}")]
    Malformed(&'static str),
}

/// Makes the report of a server in this run.
#[must_use]
pub fn make(listeners: &Listeners, run: &str, now: Timestamp, is_last: bool) -> EdgeReport {
    let mut rows: Vec<_> = listeners.furthest_behind(MAX_ROWS, |_| true).iter().map(|it| it.row(now)).collect();
    rows.sort_by_key(|row| Reverse(steady_lag_millis(row)));
    let totals = totals(listeners, &rows);
    // A listener may have left since its row was made.
    rows.truncate(usize::try_from(totals.listeners).unwrap_or(usize::MAX));
    EdgeReport {
        report_version: REPORT_VERSION,
        run: run.to_owned(),
        made_nanos: now.as_nanos(),
        is_last,
        totals,
        rows,
    }
}

/// Returns the totals over all listeners, of which those furthest behind have these rows.
#[must_use]
pub fn totals(listeners: &Listeners, rows: &[ListenerRow]) -> AudienceTotals {
    let behind = listeners.select(|_, listener| listener.is_behind()).len() as u64;
    let mut sums = AudienceTotals { worst_lag_seconds: worst(rows), ..AudienceTotals::default() };
    for totals in listeners.totals().by_mount.values().flat_map(|renditions| renditions.values()) {
        sums.listeners += totals.present;
        sums.offered += totals.offered;
        sums.delivered += totals.delivered;
        sums.lost += totals.lost.iter().sum::<u64>() + totals.left_queued;
        sums.queued += totals.queued;
    }
    AudienceTotals { behind: behind.min(sums.listeners), ..sums }
}

fn worst(rows: &[ListenerRow]) -> Option<f64> {
    rows.iter().map(unrequested_seconds).reduce(f64::max)
}

/// Writes a report in at most so many bytes, and leaves out rows where it would be longer.
#[must_use]
pub fn write(report: &EdgeReport, max_bytes: usize) -> Vec<u8> {
    let mut report = report.clone();
    loop {
        // Fails for maps without string keys and for failing writers, of which there are none.
        let bytes = serde_json::to_vec(&report).unwrap_or_default();
        if bytes.len() <= max_bytes.min(MAX_BYTES) || report.rows.is_empty() {
            return bytes;
        }
        report.rows.truncate(report.rows.len() / 2);
    }
}

/// Reads a report.
///
/// # Errors
///
/// When it is something else, or its figures contradict each other.
pub fn read(bytes: &[u8]) -> Result<EdgeReport, ReportError> {
    /// What every version has.
    #[derive(Deserialize)]
    struct AnyVersion {
        report_version: u32,
    }
    if bytes.len() > MAX_BYTES {
        return Err(ReportError::TooLong(bytes.len()));
    }
    let any = serde_json::from_slice(bytes);
    let AnyVersion { report_version } = any.map_err(|_| ReportError::Malformed("it has no version"))?;
    if report_version != REPORT_VERSION {
        return Err(ReportError::Version(report_version));
    }
    let report = serde_json::from_slice(bytes).map_err(|_| ReportError::Malformed("its fields are others"))?;
    check(&report).map_err(ReportError::Malformed)?;
    Ok(report)
}

/// Finds figures that cannot be right, and text that could command a terminal.
fn check(report: &EdgeReport) -> Result<(), &'static str> {
    let EdgeReport { totals, rows, run, .. } = report;
    let adds_up = |offered, parts: [u64; 3]| {
        parts.into_iter().try_fold(0_u64, |sum, part| sum.checked_add(part)) == Some(offered)
    };
    let totals_add_up = adds_up(totals.offered, [totals.delivered, totals.lost, totals.queued]);
    if !totals_add_up || !rows.iter().all(|row| adds_up(row.offered, [row.delivered, row.lost, row.queued])) {
        return Err("its blocks do not add up");
    }
    if rows.len() > MAX_ROWS || rows.len() as u64 > totals.listeners || totals.behind > totals.listeners {
        return Err("its listeners do not add up");
    }
    // The whole audience is counted in a number that JSON has exactly.
    if totals.listeners > u64::from(u32::MAX) {
        return Err("no server has as many listeners");
    }
    let texts = rows.iter().flat_map(|row| {
        let texts = [&*row.name, &row.mount, &row.remote, &row.format, &row.overflow, &row.state];
        texts.into_iter().chain(row.via.as_deref()).chain(row.token.as_deref())
    });
    if run.chars().chain(texts.flat_map(str::chars)).any(char::is_control) {
        return Err("it has control characters");
    }
    Ok(())
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::edges::tests::{report, row};

    #[test]
    fn a_report_reads_back_and_a_long_one_has_fewer_rows() {
        let full = report("a", 1, (1..=50).map(row).collect());
        let bytes = write(&full, usize::MAX);
        assert_eq!(read(&bytes).unwrap(), full);
        let short = read(&write(&full, bytes.len() - 1)).unwrap();
        assert_eq!((short.rows.len(), short.totals), (25, full.totals));
        assert_eq!(short.rows[..], full.rows[..25]);
        assert!(read(&write(&full, 0)).unwrap().rows.is_empty(), "the totals go in any case");
    }

    #[test]
    fn what_cannot_be_right_is_no_report() {
        let good = || report("a", 1, vec![row(1), row(2)]);
        type Change = fn(&mut EdgeReport);
        let wrong: [(&str, Change); 8] = [
            ("version 2", |it| it.report_version = 2),
            ("blocks", |it| it.totals.lost += 1),
            ("blocks", |it| it.rows[1].queued += 1),
            ("blocks", |it| it.totals.delivered = u64::MAX),
            ("listeners", |it| it.totals.listeners = 1),
            ("listeners", |it| it.totals.behind = 3),
            ("as many", |it| it.totals.listeners = 1 << 40),
            ("control", |it| it.rows[0].name = "\u{1b}[2J".to_owned()),
        ];
        assert!(read(&write(&good(), MAX_BYTES)).is_ok());
        for (named, change) in wrong {
            let mut report = good();
            change(&mut report);
            let error = read(&write(&report, MAX_BYTES)).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
        assert!(matches!(read(&vec![b' '; MAX_BYTES + 1]), Err(ReportError::TooLong(_))));
        assert!(matches!(read(b"hello"), Err(ReportError::Malformed(_))));
        assert!(matches!(read(b"{\"report_version\":1}"), Err(ReportError::Malformed(_))));
        assert!(matches!(read(b"{\"report_version\":7,\"rows\":\"new\"}"), Err(ReportError::Version(7))));
    }
}
