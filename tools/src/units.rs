//! Numbers as people read them.

use std::time::Duration;

/// Stands where there is no figure.
pub(crate) const NOTHING: &str = "—";

/// Writes a span: `30 ms`, `1.25 s`, `2 min 5 s`, `3 h 12 min`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    match span.as_secs() {
        0 if span < Duration::from_millis(10) && !span.is_zero() => format!("{:.1} ms", seconds * 1e3),
        0 => format!("{:.0} ms", seconds * 1e3),
        1..60 => format!("{seconds:.2} s"),
        whole @ 60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        whole => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Writes how long something has lasted in its two largest units: `3 s`, `2 min 3 s`, `4 d 1 h`.
pub(crate) fn age(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        let number = rest / size;
        rest %= size;
        if number > 0 {
            parts.push(format!("{number} {unit}"));
        }
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// Writes a running time: `00:12`, `1:02:03`.
pub(crate) fn stopwatch(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}

/// Writes a time in three significant digits with its unit: `850 ns`, `1.24 ms`.
///
/// ```
/// use aircheck_tools::units::nanos;
///
/// assert_eq!(nanos(850), "850 ns");
/// assert_eq!(nanos(1_236_000), "1.24 ms");
/// assert_eq!(nanos(64_000_000_000), "64.0 s");
/// ```
#[must_use]
pub fn nanos(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1000 => return format!("{nanos} ns"),
        1000..1_000_000 => (nanos as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

/// Writes a lag as the server's page does: `0.03 s`, `12.3 s`, `1,203 s`.
pub(crate) fn lag(seconds: f64) -> String {
    match seconds {
        // Where rounding gives a digit more, one decimal less is written.
        lag if lag < 9.995 => format!("{lag:.2} s"),
        lag if lag < 99.95 => format!("{lag:.1} s"),
        lag => format!("{} s", grouped(lag.round() as u64)),
    }
}

/// Writes a latency as the server's page does: `0.123 ms`, `12.3 ms`, `1,203 ms`.
pub(crate) fn latency(seconds: Option<f64>) -> String {
    match seconds.map(|seconds| seconds * 1e3) {
        None => NOTHING.to_owned(),
        Some(millis) if millis < 0.9995 => format!("{millis:.3} ms"),
        Some(millis) if millis < 99.95 => format!("{millis:.1} ms"),
        Some(millis) => format!("{} ms", grouped(millis.round() as u64)),
    }
}

/// Writes a number with its noun: `1 block`, `3 blocks`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Writes a number with its noun, in groups of three digits: `1,234 blocks`.
pub(crate) fn grouped_count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Writes a whole number in groups of three digits: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a share. It never rounds a loss to nothing, nor the last remainder away.
pub(crate) fn percent(part: u64, all: u64) -> String {
    let percent = if all > 0 { 100.0 * part as f64 / all as f64 } else { 0.0 };
    match percent {
        p if p > 0.0 && p < 0.01 => "<0.01 %".to_owned(),
        p if p > 99.9 && p < 100.0 => ">99.9 %".to_owned(),
        p if p < 9.995 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// Writes a difference of two clocks with its error: `+12.3 ± 0.4 ppm`, `−3,012 ± 8 ppm`.
pub(crate) fn ppm(value: f64, error: f64) -> String {
    let error = error.abs();
    let number = |value: f64| {
        let value = value.abs();
        if error < 1.0 { format!("{value:.1}") } else { grouped(value.round() as u64) }
    };
    let least = if error < 1.0 { 0.1 } else { 1.0 };
    let sign = match value {
        value if value.abs() < least / 2.0 => "",
        value if value < 0.0 => "−",
        _ => "+",
    };
    format!("{sign}{} ± {} ppm", number(value), number(error.max(least)))
}

/// Writes a size in SI units: `1.5 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Writes a level relative to full scale in five characters: `-18.3`, ` -inf`.
pub(crate) fn dbfs(level: f64) -> String {
    // Below -99.9 the number says nothing more, and would break the column.
    if level < -99.9 { " -inf".to_owned() } else { format!("{level:5.1}") }
}

/// Writes a level as the server's page does. `is_live` tells silence from no sound at all.
pub(crate) fn page_dbfs(level: Option<f32>, is_live: bool) -> String {
    page_db(level.map(f64::from), is_live)
}

/// Writes decibels or loudness in the same way.
pub(crate) fn page_db(level: Option<f64>, is_live: bool) -> String {
    match level {
        Some(level) => format!("{level:.1}").replace('-', "−"),
        None if is_live => "−∞".to_owned(),
        None => NOTHING.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_take_the_unit_that_fits() {
        let cases = [(0, "0 ms"), (2_500, "2.5 ms"), (30_000, "30 ms"), (1_250_000, "1.25 s")];
        for (micros, text) in cases {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
        assert_eq!(span(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(span(Duration::from_secs(11_520)), "3 h 12 min");
        assert_eq!([0.0, 59.9, 60.0, 3_725.0, 90_000.0].map(age), ["0 s", "59 s", "1 min", "1 h 2 min", "1 d 1 h"]);
    }

    #[test]
    fn a_drift_has_the_digits_that_its_error_leaves() {
        let cases = [(12.34, 0.4), (-3012.2, 8.0), (0.01, 0.02), (-0.3, 3.0)];
        let texts = ["+12.3 ± 0.4 ppm", "−3,012 ± 8 ppm", "0.0 ± 0.1 ppm", "0 ± 3 ppm"];
        assert_eq!(cases.map(|(value, error)| ppm(value, error)), texts);
    }

    #[test]
    fn a_running_time_shows_hours_only_when_there_are_some() {
        assert_eq!(stopwatch(Duration::from_secs(12)), "00:12");
        assert_eq!(stopwatch(Duration::from_secs(3723)), "1:02:03");
    }

    #[test]
    fn lags_and_latencies_are_written_as_on_the_page() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let lags = [0.034, 9.994, 9.999, 20.06, 99.97, 1203.4];
        assert_eq!(lags.map(lag), ["0.03 s", "9.99 s", "10.0 s", "20.1 s", "100 s", "1,203 s"]);
        assert_eq!([0.000_12, 0.0123, 1.2034].map(|s| latency(Some(s))), ["0.120 ms", "12.3 ms", "1,203 ms"]);
        assert_eq!(page_dbfs(Some(-18.34), true), "−18.3");
    }

    #[test]
    fn no_share_rounds_a_loss_away() {
        let shares = [(0, 10), (1, 1_000_000), (999_999, 1_000_000), (10, 10), (1, 8), (0, 0)];
        let texts = ["0.00 %", "<0.01 %", ">99.9 %", "100.0 %", "12.5 %", "0.00 %"];
        assert_eq!(shares.map(|(part, all)| percent(part, all)), texts);
    }

    #[test]
    fn impossible_figures_are_still_written() {
        for odd in [-1.0, f64::MAX, f64::INFINITY] {
            assert!(!lag(odd).is_empty() && !latency(Some(odd)).is_empty() && !age(odd).is_empty());
        }
    }

    #[test]
    fn levels_are_five_characters_wide() {
        for level in [0.0, -18.34, -99.9, -120.0, f64::NEG_INFINITY, 12.0] {
            assert_eq!(dbfs(level).len(), 5, "{level}");
        }
    }
}
