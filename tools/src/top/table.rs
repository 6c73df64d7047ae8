//! The lower part of the screen: the listeners.

use std::ops::Range;

use ratatui::text::{Line, Span};

use super::api::{Row, Status};
use super::columns::{Column, GAP, that_fit};
use super::figures::{self, NOTHING};
use super::picture::Picture;
use super::state::State;
use super::theme::{Theme, Tone};
use crate::table::{fit, line_of};

/// In front of each row: whether it is selected, so that this shows without colours and in a screenshot, too.
const MARK: usize = 2;

/// How many there are, which are shown, and in which order.
pub(crate) fn caption(state: &State, theme: Theme, cells: usize) -> Line<'static> {
    let (shown, all) = (state.visible().len() as u64, state.picture().rows.len() as u64);
    let count = match all {
        0 => "nobody listens".to_owned(),
        _ if state.filter.is_empty() => figures::plural(all, "listener"),
        _ => format!("{} of {} match “{}”", figures::count(shown), figures::plural(all, "listener"), state.filter),
    };
    let mut left = vec![(count, theme.style(Tone::Strong))];
    if all > 0 {
        left.push((format!(", {}", state.order.label()), theme.style(Tone::Quiet)));
    }
    let right = if state.is_paused() { " HELD, p goes on " } else { "" };
    line_of(left, (right.to_owned(), theme.style(Tone::BadBadge)), cells)
}

/// The columns' titles and the rows in `window`; those of one width stand below each other.
pub(crate) fn rows(state: &State, theme: Theme, window: Range<usize>, cells: usize) -> Vec<Line<'static>> {
    let picture = state.picture();
    let columns = that_fit(picture, cells.saturating_sub(MARK));
    let visible = state.visible();
    let mut lines = Vec::with_capacity(1 + window.len());
    if !picture.rows.is_empty() {
        lines.push(titles(&columns, state, theme));
    }
    for row in visible.get(window).unwrap_or_default() {
        lines.push(line(row, picture, &columns, theme, state.selected == Some(row.id)));
    }
    lines
}

fn titles(columns: &[(Column, usize)], state: &State, theme: Theme) -> Line<'static> {
    let mut spans = vec![Span::raw(" ".repeat(MARK))];
    for (at, (column, cells)) in columns.iter().enumerate() {
        let is_key = column.key() == Some(state.order.key);
        let title = fit(column.title(), *cells, column.is_right());
        spans.push(Span::styled(title, theme.style(if is_key { Tone::Strong } else { Tone::Quiet })));
        if at + 1 < columns.len() {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
    }
    Line::from(spans)
}

fn line(row: &Row, picture: &Picture, columns: &[(Column, usize)], theme: Theme, is_selected: bool) -> Line<'static> {
    let mut spans = vec![Span::raw(if is_selected { "▶ " } else { "  " })];
    for (at, (column, cells)) in columns.iter().enumerate() {
        let (text, tone) = column.cell(row, picture, *cells);
        // On the selected row's ground, colours and faint text are hard to read.
        let tone = if is_selected { Tone::Plain } else { tone };
        spans.push(Span::styled(fit(&text, *cells, column.is_right()), theme.style(tone)));
        if at + 1 < columns.len() {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
    }
    let line = Line::from(spans);
    if is_selected { line.style(theme.style(Tone::Selected)) } else { line }
}

/// Everything of the selected one that may have found no column, in two lines.
pub(crate) fn details(row: &Row, status: &Status, theme: Theme, cells: usize) -> [Line<'static>; 2] {
    let quiet = theme.style(Tone::Quiet);
    let asked = row.asked_seconds().map(|asked| format!(" · + {} asked for", figures::seconds(Some(asked))));
    let address = if row.name.is_empty() { String::new() } else { format!(" · {}", row.remote) };
    let facts = format!(
        "{address} · {} · {} · here for {}{}",
        row.format,
        row.overflow,
        figures::span(status.now - row.connected_at),
        asked.unwrap_or_default(),
    );
    let places: Vec<String> =
        row.places().iter().map(|(place, waits)| format!("{place} {}", figures::seconds(Some(*waits)))).collect();
    let stage = |name| figures::milliseconds(row.latency_seconds.get(name).and_then(|spread| spread.p50));
    let waits = if places.is_empty() { NOTHING.to_owned() } else { places.join(", ") };
    let gaps = match row.gaps {
        0 => "no gap".to_owned(),
        gaps => format!("{}, at most {}", figures::plural(gaps, "gap"), figures::plural(row.gap_max_blocks, "block")),
    };
    let more = format!(
        "p50 queue {} socket {} ear {} · {gaps} · waits in {waits}",
        stage("queue"),
        stage("socket"),
        stage("ear")
    );
    let none = || (String::new(), quiet);
    [
        line_of(vec![(row.title(), theme.style(Tone::Strong)), (facts, quiet)], none(), cells),
        line_of(vec![(more, quiet)], none(), cells),
    ]
}
