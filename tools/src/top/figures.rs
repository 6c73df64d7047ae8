//! Figures as the server's page writes them, so that both can be compared at a glance.

/// Where there is no figure.
pub(crate) const NOTHING: &str = "—";

/// A whole number, in groups of three digits: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
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

/// `1 block`, `3 blocks`.
pub(crate) fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A lag: `0.03 s`, `12.3 s`, `1,203 s`.
pub(crate) fn seconds(span: Option<f64>) -> String {
    match span {
        None => NOTHING.to_owned(),
        // Where rounding gives a digit more, one decimal less is written.
        Some(span) if span < 9.995 => format!("{span:.2} s"),
        Some(span) if span < 99.95 => format!("{span:.1} s"),
        Some(span) => format!("{} s", count(span.round() as u64)),
    }
}

/// A latency: `0.123 ms`, `12.3 ms`, `1,203 ms`.
pub(crate) fn milliseconds(span: Option<f64>) -> String {
    match span.map(|seconds| seconds * 1e3) {
        None => NOTHING.to_owned(),
        Some(millis) if millis < 0.9995 => format!("{millis:.3} ms"),
        Some(millis) if millis < 99.95 => format!("{millis:.1} ms"),
        Some(millis) => format!("{} ms", count(millis.round() as u64)),
    }
}

/// A share that never rounds a loss away, nor a remainder.
pub(crate) fn percent(part: u64, all: u64) -> String {
    let percent = if all > 0 { 100.0 * part as f64 / all as f64 } else { 0.0 };
    match percent {
        p if p > 0.0 && p < 0.01 => "<0.01 %".to_owned(),
        p if p > 99.9 && p < 100.0 => ">99.9 %".to_owned(),
        p if p < 9.995 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// How long something has lasted, in the two units that matter: `3 s`, `2 min 3 s`, `4 d 1 h`.
pub(crate) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let mut words = Vec::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        let number = rest / size;
        rest %= size;
        if number > 0 {
            words.push(format!("{number} {unit}"));
        }
    }
    if words.is_empty() { "0 s".to_owned() } else { words.join(" ") }
}

/// A level in dBFS; `on_air` tells silence from no sound at all.
pub(crate) fn decibels(dbfs: Option<f64>, on_air: bool) -> String {
    match dbfs {
        Some(dbfs) => format!("{dbfs:.1}").replace('-', "−"),
        None if on_air => "−∞".to_owned(),
        None => NOTHING.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_on_the_page() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let lags = [0.034, 9.994, 9.999, 20.06, 99.97, 1203.4];
        assert_eq!(lags.map(|lag| seconds(Some(lag))), ["0.03 s", "9.99 s", "10.0 s", "20.1 s", "100 s", "1,203 s"]);
        assert_eq!([0.000_12, 0.0123, 1.2034].map(|s| milliseconds(Some(s))), ["0.120 ms", "12.3 ms", "1,203 ms"]);
        assert_eq!([0.0, 59.9, 60.0, 3_725.0, 90_000.0].map(span), ["0 s", "59 s", "1 min", "1 h 2 min", "1 d 1 h"]);
        assert_eq!(decibels(Some(-18.34), true), "−18.3");
    }

    #[test]
    fn no_share_rounds_a_loss_away() {
        let shares = [(0, 10), (1, 1_000_000), (999_999, 1_000_000), (10, 10), (1, 8), (0, 0)];
        let words = ["0.00 %", "<0.01 %", ">99.9 %", "100.0 %", "12.5 %", "0.00 %"];
        assert_eq!(shares.map(|(part, all)| percent(part, all)), words);
    }

    #[test]
    fn figures_that_can_t_be_are_still_written() {
        for odd in [-1.0, f64::MAX, f64::INFINITY] {
            assert!(!seconds(Some(odd)).is_empty() && !milliseconds(Some(odd)).is_empty() && !span(odd).is_empty());
        }
    }
}
