//! Percentiles as a table: of one log, or of two side by side.

use hdrhistogram::Histogram;

use crate::report::log::{Log, Series};
use crate::units::nanos;

/// The quantiles that are shown, with their names.
pub const SHOWN: [(f64, &str); 6] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"), (1.0, "max")];

/// Returns a row for each series, with the number of values and the quantiles.
#[must_use]
pub fn table(log: &Log) -> Vec<Vec<String>> {
    let mut rows = vec![heading(&["what"])];
    rows.extend(log.series.iter().map(|series| row(vec![series.name.clone()], &series.histogram)));
    rows
}

/// Returns two rows for each series that both logs have, and a third with the ratios.
#[must_use]
pub fn comparison(first: (&str, &Log), second: (&str, &Log)) -> Vec<Vec<String>> {
    let mut rows = vec![heading(&["what", "run"])];
    for a in &first.1.series {
        let Some(b) = second.1.series.iter().find(|b| b.name == a.name) else { continue };
        rows.push(row(vec![a.name.clone(), first.0.to_owned()], &a.histogram));
        rows.push(row(vec![String::new(), second.0.to_owned()], &b.histogram));
        rows.push(ratios(a, b));
    }
    rows
}

fn heading(first: &[&str]) -> Vec<String> {
    let rest = SHOWN.iter().map(|(_, name)| *name);
    first.iter().copied().chain(["values"]).chain(rest).map(str::to_owned).collect()
}

fn row(mut cells: Vec<String>, histogram: &Histogram<u64>) -> Vec<String> {
    cells.push(histogram.len().to_string());
    cells.extend(SHOWN.iter().map(|(quantile, _)| at(histogram, *quantile).map_or("-".to_owned(), nanos)));
    cells
}

/// Values that must lie beyond a quantile: with fewer, the next run may show anything else. 2000 values have no p99.9.
const MIN_VALUES_BEYOND: f64 = 10.0;

/// Returns the value at a quantile, or `None` where [too few values](has_quantile) say what it is.
#[must_use]
pub fn at(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    has_quantile(histogram.len(), quantile).then(|| histogram.value_at_quantile(quantile))
}

/// Returns whether so many values have a quantile: at least ten must lie beyond it. The largest value needs only to
/// exist.
///
/// ```
/// use aircheck_tools::report::percentiles::has_quantile;
///
/// assert!(has_quantile(10_000, 0.999));
/// assert!(!has_quantile(2_000, 0.999));
/// assert!(has_quantile(1, 1.0));
/// ```
#[must_use]
pub fn has_quantile(values: u64, quantile: f64) -> bool {
    // 0.999 is not exact in binary: of 10,000 values, 9.999999999998899 lie beyond it.
    let beyond = values as f64 * (1.0 - quantile) + 1e-6;
    beyond >= MIN_VALUES_BEYOND || (quantile == 1.0 && values > 0)
}

fn ratios(a: &Series, b: &Series) -> Vec<String> {
    let ratio = |(quantile, _): &(f64, &str)| match (at(&a.histogram, *quantile), at(&b.histogram, *quantile)) {
        (Some(a), Some(b)) if a > 0 => format!("{:.2} x", b as f64 / a as f64),
        _ => "-".to_owned(),
    };
    ["", "second / first", ""].map(str::to_owned).into_iter().chain(SHOWN.iter().map(ratio)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, factor: u64) -> Series {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1000).for_each(|n| histogram.record(n * factor).unwrap());
        Series { name: name.to_owned(), histogram }
    }

    #[test]
    fn percentiles_that_so_few_values_do_not_have_are_left_out() {
        let log = Log { comments: vec![], series: vec![series("ring", 1000)] };
        let table = table(&log);
        assert_eq!(table[1][..4], ["ring", "1000", "500 us", "900 us"]);
        // Ten of 1000 values lie beyond p99, but only one beyond p99.9.
        assert_eq!(table[1][4..], ["990 us", "-", "-", "1.00 ms"]);
    }

    #[test]
    fn two_runs_are_compared_where_they_measured_the_same() {
        let first = Log { comments: vec![], series: vec![series("ring", 1000), series("other", 1)] };
        let second = Log { comments: vec![], series: vec![series("ring", 3000)] };
        let rows = comparison(("a", &first), ("b", &second));
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[3][3], "3.00 x");
    }
}
