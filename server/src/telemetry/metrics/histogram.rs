//! Prometheus histograms that are exact: their bounds lie on hdrhistogram's bucket edges, so that every `_bucket` is
//! the true number of recorded values up to its bound, and none is shared out by guess.

use std::fmt::Write as _;

use aircheck_engine::SharedRecorder;
use metrics_exporter_prometheus::formatting::{write_help_line, write_type_line};

/// A histogram of several series, in the order in which they are written.
pub(super) struct Family<'a> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Bounds wished for, in the unit of the recorders; each becomes the highest value of the bucket it falls into.
    pub(super) bounds: &'static [u64],
    /// Units of the recorders in one of the metric's.
    pub(super) scale: u64,
    /// A label's name.
    pub(super) label: &'static str,
    /// Its values, and what was recorded.
    pub(super) series: Vec<(&'static str, &'a SharedRecorder)>,
}

impl Family<'_> {
    /// Writes the family as text.
    pub(super) fn write(&self, text: &mut String) {
        let Self { name, label, scale, .. } = self;
        write_help_line(text, name, None, None, self.help);
        write_type_line(text, name, None, None, "histogram");
        for (value, recorder) in &self.series {
            let histogram = recorder.histogram();
            for bound in self.bounds {
                let edge = histogram.highest_equivalent(*bound);
                let count = histogram.count_between(0, edge);
                let le = edge as f64 / *scale as f64;
                // Writing to a string can't fail; so it is below.
                let _ = writeln!(text, r#"{name}_bucket{{{label}="{value}",le="{le:?}"}} {count}"#);
            }
            let count = histogram.len();
            let sum = recorder.sum() as f64 / *scale as f64;
            let _ = writeln!(text, r#"{name}_bucket{{{label}="{value}",le="+Inf"}} {count}"#);
            let _ = writeln!(text, r#"{name}_sum{{{label}="{value}"}} {sum}"#);
            let _ = writeln!(text, r#"{name}_count{{{label}="{value}"}} {count}"#);
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aircheck_engine::Precision;

    #[test]
    fn every_bucket_has_exactly_the_values_up_to_its_bound() {
        let recorder = SharedRecorder::new(1 << 28, Precision::TwoDigits);
        let mut values = Vec::new();
        let mut state = 88_172_645_463_325_252_u64;
        for _ in 0..10_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = state >> (40 + state % 24);
            recorder.record(value);
            values.push(value);
        }
        let family = Family {
            name: "x_seconds",
            help: "X.",
            bounds: &[500, 10_000, 1_000_000],
            scale: 1_000_000,
            label: "stage",
            series: vec![("ring", &recorder)],
        };
        let mut text = String::new();
        family.write(&mut text);
        let mut bounds = 0;
        for line in text.lines().filter(|line| line.contains("le=\"") && !line.contains("+Inf")) {
            let le: f64 = line.split("le=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
            let count: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
            let true_count = values.iter().filter(|value| **value as f64 / 1e6 <= le).count();
            assert_eq!(count, true_count, "{line}");
            bounds += 1;
        }
        assert_eq!(bounds, 3);
        let sum = values.iter().sum::<u64>() as f64 / 1e6;
        assert!(text.contains(&format!("x_seconds_sum{{stage=\"ring\"}} {sum}\n")), "{text}");
        assert!(text.contains("x_seconds_count{stage=\"ring\"} 10000\n"), "{text}");
    }
}
