//! The series of loudness, for a mount that has one.

use metrics::Label;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use super::labels::{label_set, labels};
use crate::mount::loudness::TruePeak;
use crate::mount::meter::Meter;

/// Writes loudness, range and true peaks. There are none before the first sound, nor for a rate without loudness.
pub(super) fn write(text: &mut String, meter: &Meter) {
    let Some(loudness) = meter.loudness() else { return };
    let windows = [
        ("momentary", loudness.momentary_lufs),
        ("short_term", loudness.short_term_lufs),
        ("integrated", loudness.integrated_lufs),
    ];
    let windows = windows.map(|(window, lufs)| (labels(&[("window", window)]), lufs));
    let channel = |(channel, peak): (u16, &TruePeak)| (vec![Label::new("channel", channel.to_string())], peak.dbtp());
    let peaks: Vec<_> = (0..).zip(meter.true_peaks()).map(channel).collect();
    write_family(
        text,
        "aircheck_loudness_lufs",
        "Loudness by EBU R128: of the last 0.4 s (momentary), of the last 3 s (short_term), and of everything since the \
         start, gated (integrated).",
        windows.to_vec(),
    );
    write_family(
        text,
        "aircheck_loudness_range_lu",
        "Loudness range since the start, by EBU Tech 3342.",
        vec![(vec![], loudness.range_lu)],
    );
    write_family(
        text,
        "aircheck_true_peak_dbtp",
        "The largest true peak of a channel since the start; full scale is 0.",
        peaks,
    );
}

fn write_family(text: &mut String, name: &str, help: &str, series: Vec<(Vec<Label>, f64)>) {
    write_help_line(text, name, None, None, help);
    write_type_line(text, name, None, None, "gauge");
    for (labels, value) in series {
        write_metric_line::<&str, _>(text, name, None, &label_set(labels), None, value, None);
    }
    text.push('\n');
}
