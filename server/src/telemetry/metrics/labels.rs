//! Labels as the `metrics` crate and its exporter take them.

use metrics::Label;
use metrics_exporter_prometheus::LabelSet;

/// Returns labels of fixed names and values.
pub(super) fn labels(labels: &[(&'static str, &'static str)]) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label::from_static_parts(name, value)).collect()
}

/// Returns labels in the form in which the exporter writes them.
pub(super) fn label_set(labels: Vec<Label>) -> LabelSet {
    LabelSet::from_key_and_global(&metrics::Key::from_parts("", labels), &Default::default())
}

/// Returns the label of the mount of this name.
pub(super) fn mount_label(name: &str) -> Vec<Label> {
    vec![Label::new("mount", name.to_owned())]
}
