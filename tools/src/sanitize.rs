//! Foreign text made harmless: names, reasons and errors that a server or a listener chose.

/// Returns at most `limit` characters of `text`. Characters that a terminal obeys or that reorder their neighbours are
/// replaced.
pub(crate) fn sanitize(text: &str, limit: usize) -> String {
    let mut chars = text.chars().map(|c| if is_plain(c) { c } else { '\u{fffd}' });
    let mut clipped: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        clipped.push('…');
    }
    clipped
}

/// Does the same for a cell of a table, and leaves out characters that join or restyle their neighbours: terminals do
/// not agree on their width, so the columns to the right would not stand below each other.
pub(crate) fn sanitize_cell(text: &str, limit: usize) -> String {
    let alone: String =
        text.chars().filter(|c| !matches!(c, '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}')).collect();
    sanitize(&alone, limit)
}

fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(sanitize("a\x1b[2Jb\n\u{202e}", 20), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(sanitize("abcdef", 3), "abc…");
        assert_eq!(sanitize("abc", 3), "abc");
        assert_eq!(
            sanitize_cell("a\u{1b}[2J\r\n\u{9b}b\u{202e}\u{200d}", 20),
            "a\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}b\u{fffd}"
        );
    }
}
