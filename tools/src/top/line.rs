//! A line of the screen, of parts that give way when there is little room.

use ratatui::text::{Line, Span};

use super::theme::{Theme, Tone};
use crate::table::{clip, width};

/// A text with its look.
pub(crate) type Part = (String, Tone);

/// Makes a line of `cells` cells. The last parts of `left` are left out if they don't fit; `right` stands at the far
/// end if there is room for it.
pub(crate) fn line_of(left: Vec<Part>, right: Option<Part>, theme: Theme, cells: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut used = 0;
    for (text, tone) in left {
        let text = clip(&text, cells.saturating_sub(used));
        used += width(&text);
        spans.push(Span::styled(text, theme.style(tone)));
    }
    if let Some((text, tone)) = right.filter(|(text, _)| used + 2 + width(text) <= cells) {
        spans.push(Span::raw(" ".repeat(cells - used - width(&text))));
        spans.push(Span::styled(text, theme.style(tone)));
    }
    Line::from(spans)
}

/// Makes a line of groups of parts with `gap` between them. Of the first `clipped` groups as much is shown as fits. Each
/// further one is shown as a whole, or left out with all after it: half a figure is another figure.
pub(crate) fn line_of_groups(
    groups: Vec<Vec<Part>>,
    gap: &str,
    clipped: usize,
    theme: Theme,
    cells: usize,
) -> Line<'static> {
    let mut parts = Vec::new();
    let mut used = 0;
    for (number, group) in groups.into_iter().enumerate() {
        let gap = if parts.is_empty() { "" } else { gap };
        let group_width = width(gap) + group.iter().map(|(text, _)| width(text)).sum::<usize>();
        if number >= clipped && used + group_width > cells {
            break;
        }
        used += group_width;
        parts.push((gap.to_owned(), Tone::Quiet));
        parts.extend(group);
    }
    line_of(parts, None, theme, cells)
}

/// Makes a line of one part.
pub(crate) fn line_with(text: String, tone: Tone, theme: Theme, cells: usize) -> Line<'static> {
    line_of(vec![(text, tone)], None, theme, cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_shown_as_a_whole() {
        let group = |text: &str| vec![(text.to_owned(), Tone::Plain)];
        let line = |cells| {
            let groups = vec![group("first"), group("12 ms"), group("x")];
            line_of_groups(groups, " · ", 1, Theme { has_colour: false }, cells).to_string()
        };
        assert_eq!(line(17), "first · 12 ms · x");
        assert_eq!(line(16), "first · 12 ms");
        assert_eq!(line(12), "first");
        assert_eq!(line(4), "fir…");
    }

    #[test]
    fn the_right_part_gives_way() {
        let part = |text: &str| (text.to_owned(), Tone::Plain);
        let line =
            |cells| line_of(vec![part("left")], Some(part("right")), Theme { has_colour: false }, cells).to_string();
        assert_eq!(line(12), "left   right");
        assert_eq!(line(10), "left");
        assert_eq!(line(3), "le…");
    }
}
