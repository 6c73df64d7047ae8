//! The screen as plain text for `--once`, with every listener and every column that fits.

use ratatui::text::Line;

use super::state::State;
use super::theme::Theme;
use super::{draw, table};

/// Width in a file or a pipe: enough for every column.
pub(crate) const DEFAULT_WIDTH: usize = 310;

/// Returns the text, without colours and without spaces at the ends of lines.
pub(crate) fn text(state: &State, cells: usize) -> String {
    let theme = Theme { has_colour: false };
    let mut lines = draw::upper(state, theme, 0.0, cells, true);
    lines.extend(table::rows(state, theme, 0..state.visible().len(), cells));
    lines.iter().map(Line::to_string).map(|line| format!("{}\n", line.trim_end())).collect()
}
