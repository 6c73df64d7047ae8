//! A line of the screen, of parts that give way when there is little room.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::table::{clip, width};

/// Makes a line of `cells` cells. The last parts of `left` are left out if they don't fit; `right` stands at the far
/// end if there is room for it.
pub(crate) fn line_of(left: Vec<(String, Style)>, right: (String, Style), cells: usize) -> Line<'static> {
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

/// Makes a line of one part.
pub(crate) fn line_with(text: String, style: Style, cells: usize) -> Line<'static> {
    line_of(vec![(text, style)], (String::new(), Style::new()), cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_part_gives_way() {
        let plain = Style::new();
        let line = |cells| line_of(vec![("left".into(), plain)], ("right".into(), plain), cells).to_string();
        assert_eq!(line(12), "left   right");
        assert_eq!(line(10), "left");
        assert_eq!(line(3), "le…");
    }
}
