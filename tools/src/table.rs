//! Text in columns: how wide it is in a terminal, and tables that are aligned by that.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
pub(crate) const COLUMN_GAP: usize = 2;

/// Where a cell's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers, so that their digits stand below each other.
    Right,
}

/// Returns the cells that `text` takes in a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Returns `text` in at most `cells` cells, with `…` where something was left out.
pub(crate) fn clip(text: &str, cells: usize) -> String {
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

/// Returns `text` in exactly `cells` cells.
pub(crate) fn fit(text: &str, cells: usize, align: Align) -> String {
    let text = clip(text, cells);
    let room = " ".repeat(cells.saturating_sub(width(&text)));
    match align {
        Align::Left => text + &room,
        Align::Right => room + &text,
    }
}

/// Aligns rows: the first columns to the left, from `numbers` on to the right. Each column is as wide as its widest
/// cell.
#[must_use]
pub fn aligned(rows: &[Vec<String>], numbers: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width_of = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| width(cell));
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| width_of(row, column)).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &cells))| {
            fit(cell, cells, if column < numbers { Align::Left } else { Align::Right })
        });
        text += cells.collect::<Vec<_>>().join(&" ".repeat(COLUMN_GAP)).trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_its_cells_in_every_script() {
        for text in ["kitchen", "kit", "", "日本語の名前", "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}", "🎧🎧🎧"]
        {
            for cells in 0..9 {
                assert_eq!(width(&fit(text, cells, Align::Left)), cells, "{text} in {cells}");
                assert_eq!(width(&fit(text, cells, Align::Right)), cells, "{text} in {cells}");
            }
        }
        assert_eq!(clip("kitchen", 4), "kit…");
        assert_eq!(fit("kit", 5, Align::Right), "  kit");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "5".to_owned()]];
        assert_eq!(aligned(&rows, 1), "a    10\nbcd   5\n");
    }
}
