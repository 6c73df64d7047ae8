//! A family of counters or gauges as text.

use std::fmt::Display;

use metrics::Label;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use super::labels::label_set;

/// Writes the head of a family, and a line for each series: its labels and its value. `kind` is `gauge` or `counter`.
pub(super) fn write_family<V: Display>(
    text: &mut String,
    name: &str,
    kind: &'static str,
    help: &str,
    series: impl IntoIterator<Item = (Vec<Label>, V)>,
) {
    write_help_line(text, name, None, None, help);
    write_type_line(text, name, None, None, kind);
    for (labels, value) in series {
        write_metric_line::<&str, _>(text, name, None, &label_set(labels), None, value, None);
    }
}
