//! Exact histograms for Prometheus. Their bounds lie on hdrhistogram's bucket edges, so that every `_bucket` is the true
//! number of recorded values up to its bound, without interpolation.

use aircheck_engine::SharedHistogram;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use super::labels::{label_set, labels, mount_label};

/// A histogram of several series, in the order in which they are written.
pub(super) struct HistogramFamily<'a> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Nominal bounds, in the unit of the recorded values. Each becomes the highest value of the bucket that it falls into.
    pub(super) bounds: &'static [u64],
    /// Units of the recorded values in one unit of the metric.
    pub(super) scale: u64,
    /// The name of the label that tells the series of a mount apart.
    pub(super) label: &'static str,
    /// The mounts, the label's values, and the recorded values.
    pub(super) series: Vec<(&'a str, &'static str, &'a SharedHistogram)>,
}

impl HistogramFamily<'_> {
    /// Writes the family as text.
    pub(super) fn write(&self, text: &mut String) {
        let Self { name, .. } = self;
        write_help_line(text, name, None, None, self.help);
        write_type_line(text, name, None, None, "histogram");
        for (mount, value, recorded) in &self.series {
            let labels = label_set([mount_label(mount), labels(&[(self.label, value)])].concat());
            let histogram = recorded.to_hdrhistogram();
            for bound in self.bounds {
                let edge = histogram.highest_equivalent(*bound);
                let count = histogram.count_between(0, edge);
                // With a decimal point, as OpenMetrics requires.
                let le = format!("{:?}", edge as f64 / self.scale as f64);
                write_metric_line(text, name, Some("bucket"), &labels, Some(("le", le)), count, None);
            }
            let count = histogram.len();
            let sum = recorded.sum() as f64 / self.scale as f64;
            write_metric_line(text, name, Some("bucket"), &labels, Some(("le", "+Inf")), count, None);
            write_metric_line::<&str, _>(text, name, Some("sum"), &labels, None, sum, None);
            write_metric_line::<&str, _>(text, name, Some("count"), &labels, None, count, None);
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
        let recorded = SharedHistogram::new(1 << 28, Precision::TwoDigits);
        let mut values = Vec::new();
        let mut state = 88_172_645_463_325_252_u64;
        for _ in 0..10_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = state >> (40 + state % 24);
            recorded.record(value);
            values.push(value);
        }
        let family = HistogramFamily {
            name: "x_seconds",
            help: "X.",
            bounds: &[500, 10_000, 1_000_000],
            scale: 1_000_000,
            label: "stage",
            series: vec![("main", "ring", &recorded)],
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
        assert!(text.contains(&format!("x_seconds_sum{{mount=\"main\",stage=\"ring\"}} {sum}\n")), "{text}");
        assert!(text.contains("x_seconds_count{mount=\"main\",stage=\"ring\"} 10000\n"), "{text}");
    }
}
