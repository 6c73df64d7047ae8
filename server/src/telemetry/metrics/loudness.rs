//! The series of loudness, for a mount that has one.

use metrics::Label;

use super::family::write_family;
use super::labels::labels;
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
    let peaks = (0..).zip(meter.true_peaks()).map(channel);
    write_family(
        text,
        "aircheck_loudness_lufs",
        "gauge",
        "Loudness by EBU R128: of the last 0.4 s (momentary), of the last 3 s (short_term), and of everything since the \
         start, gated (integrated).",
        windows,
    );
    text.push('\n');
    write_family(
        text,
        "aircheck_loudness_range_lu",
        "gauge",
        "Loudness range since the start, by EBU Tech 3342.",
        [(vec![], loudness.range_lu)],
    );
    text.push('\n');
    write_family(
        text,
        "aircheck_true_peak_dbtp",
        "gauge",
        "The largest true peak of a channel since the start; full scale is 0.",
        peaks,
    );
    text.push('\n');
}
