//! Numbers as people read them.

use std::time::Duration;

/// A span: `30 ms`, `1.25 s`, `2 min 5 s`, `3 h 12 min`.
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

/// A running time: `00:12`, `1:02:03`.
pub(crate) fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}

/// `1 block`, `3 blocks`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A level relative to full scale, five characters wide: `-18.3`, ` -inf`.
pub(crate) fn decibels(dbfs: f64) -> String {
    // Below -99.9 the number says nothing more, and would break the column.
    if dbfs < -99.9 { " -inf".to_owned() } else { format!("{dbfs:5.1}") }
}

/// A file's size in SI units.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// At most `limit` characters of what somebody else wrote, with nothing in it that a terminal would obey.
pub(crate) fn quoted(text: &str, limit: usize) -> String {
    let mut chars = text.chars().map(|c| if is_plain(c) { c } else { '\u{fffd}' });
    let mut clipped: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        clipped.push('…');
    }
    clipped
}

/// Neither a control character nor one that reorders the text around it.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_take_the_unit_that_fits() {
        let cases = [(0, "0 ms"), (2_500, "2.5 ms"), (30_000, "30 ms"), (1_250_000, "1.25 s")];
        for (micros, words) in cases {
            assert_eq!(span(Duration::from_micros(micros)), words);
        }
        assert_eq!(span(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(span(Duration::from_secs(11_520)), "3 h 12 min");
    }

    #[test]
    fn clocks_show_hours_only_when_there_are_some() {
        assert_eq!(clock(Duration::from_secs(12)), "00:12");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }

    #[test]
    fn levels_are_as_wide_as_each_other() {
        for level in [0.0, -18.34, -99.9, -120.0, f64::NEG_INFINITY, 12.0] {
            assert_eq!(decibels(level).len(), 5, "{level}");
        }
    }

    #[test]
    fn foreign_text_can_t_steer_the_terminal() {
        assert_eq!(quoted("a\x1b[2Jb\n\u{202e}", 20), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(quoted("abcdef", 3), "abc…");
        assert_eq!(quoted("abc", 3), "abc");
    }
}
