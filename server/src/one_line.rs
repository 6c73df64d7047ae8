//! Foreign text in a line: what an argument, a file or the name of a device brings into a message.

/// Returns `text` with its line ends and other control characters escaped, so that it stays in its line and cannot command a
/// terminal.
///
/// ```
/// use aircheck_server::one_line::one_line;
///
/// assert_eq!(one_line("“mic\n\u{1b}[2J”"), "“mic\\n\\u{1b}[2J”");
/// ```
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
