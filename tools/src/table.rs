//! Text in columns: how wide it is in a terminal, and how it is made as wide as wanted.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Cells that `text` takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text` in at most `cells` cells, with `…` where something was left out.
pub fn clip(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let mut clipped = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let next = used + letter.width().unwrap_or(0);
        if next + 1 > cells {
            break;
        }
        used = next;
        clipped.push(letter);
    }
    if cells > 0 {
        clipped.push('…');
    }
    clipped
}

/// `text` in exactly `cells` cells, at the left or the right of them.
pub fn fit(text: &str, cells: usize, to_the_right: bool) -> String {
    let text = clip(text, cells);
    let room = " ".repeat(cells.saturating_sub(width(&text)));
    if to_the_right { room + &text } else { text + &room }
}

/// Spans of which the last ones are left out if they don't fit in `cells`; `right` stands at the far end, if there is
/// room for it.
pub fn line_of(left: Vec<(String, Style)>, right: (String, Style), cells: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut used = 0;
    for (text, style) in left {
        let text = clip(&text, cells.saturating_sub(used));
        used += width(&text);
        spans.push(Span::styled(text, style));
    }
    let needed = width(&right.0);
    if needed > 0 && used + 2 + needed <= cells {
        spans.push(Span::raw(" ".repeat(cells - used - needed)));
        spans.push(Span::styled(right.0, right.1));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_made_as_wide_as_wanted_whatever_it_is_written_in() {
        for text in ["kitchen", "kit", "", "日本語の名前", "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}", "🎧🎧🎧"]
        {
            for cells in 0..9 {
                assert_eq!(width(&fit(text, cells, false)), cells, "{text} in {cells}");
                assert_eq!(width(&fit(text, cells, true)), cells, "{text} in {cells}");
            }
        }
        assert_eq!(clip("kitchen", 4), "kit…");
        assert_eq!(fit("kit", 5, true), "  kit");
    }

    #[test]
    fn what_stands_at_the_right_gives_way() {
        let plain = Style::new();
        let line = |cells| line_of(vec![("left".into(), plain)], ("right".into(), plain), cells).to_string();
        assert_eq!(line(12), "left   right");
        assert_eq!(line(10), "left");
        assert_eq!(line(3), "le…");
    }
}
