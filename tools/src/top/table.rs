//! The lower part of the screen: the listeners.

use std::ops::Range;

use aircheck_api::{ListenerRow, Status};
use ratatui::text::{Line, Span};

use super::columns::{Column, fitting};
use super::line::{line_of, line_with};
use super::row;
use super::state::State;
use super::theme::{Theme, Tone};
use crate::table::{COLUMN_GAP, fit};
use crate::units::{self, NOTHING};

/// Stands in front of the selected row, which is seen even without colours; in front of the others is as much room.
const MARK: &str = "▶ ";
const MARK_CELLS: usize = 2;

/// Returns a line with the number of listeners, the filter and the order.
pub(crate) fn caption(state: &State, theme: Theme, cells: usize) -> Line<'static> {
    let (shown, all) = (state.visible().len() as u64, state.snapshot().rows.len() as u64);
    let count = match all {
        0 => "no listeners".to_owned(),
        _ if state.filter.is_empty() => units::grouped_count(all, "listener"),
        _ => format!("{} of {} match “{}”", units::grouped(shown), units::grouped_count(all, "listener"), state.filter),
    };
    let mut left = vec![(count, Tone::Strong)];
    if all > 0 {
        left.push((format!(", {}", state.order.label()), Tone::Quiet));
    }
    let right = state.is_paused().then(|| (" HELD, p goes on ".to_owned(), Tone::BadBadge));
    line_of(left, right, theme, cells)
}

/// Returns the columns' titles and the rows in `window`.
pub(crate) fn rows(state: &State, theme: Theme, window: Range<usize>, cells: usize) -> Vec<Line<'static>> {
    let snapshot = state.snapshot();
    let columns = fitting(snapshot, cells.saturating_sub(MARK_CELLS));
    let visible = state.visible();
    let mut lines = Vec::with_capacity(1 + window.len());
    if !snapshot.rows.is_empty() {
        lines.push(line(&columns, theme, false, |column, _| {
            let is_key = column.key() == Some(state.order.key);
            (column.layout().title.to_owned(), if is_key { Tone::Strong } else { Tone::Quiet })
        }));
    }
    for row in visible.get(window).unwrap_or_default() {
        let is_selected = state.selected == Some(row.id);
        lines.push(line(&columns, theme, is_selected, |column, cells| column.cell(row, snapshot, cells)));
    }
    lines
}

/// Returns a line of cells, each with its text and its look.
fn line(
    columns: &[(Column, usize)],
    theme: Theme,
    is_selected: bool,
    cell: impl Fn(Column, usize) -> (String, Tone),
) -> Line<'static> {
    let mut spans = vec![Span::raw(if is_selected { MARK.to_owned() } else { " ".repeat(MARK_CELLS) })];
    for (at, (column, cells)) in columns.iter().enumerate() {
        if at > 0 {
            spans.push(Span::raw(" ".repeat(COLUMN_GAP)));
        }
        let (text, tone) = cell(*column, *cells);
        // On the selected row's ground, colours and faint text are hard to read.
        let tone = if is_selected { Tone::Plain } else { tone };
        spans.push(Span::styled(fit(&text, *cells, column.layout().align), theme.style(tone)));
    }
    let line = Line::from(spans);
    if is_selected { line.style(theme.style(Tone::Selected)) } else { line }
}

/// Returns two lines with everything of the selected listener that may have found no column.
pub(crate) fn details(row: &ListenerRow, status: &Status, theme: Theme, cells: usize) -> [Line<'static>; 2] {
    let requested = row::requested_seconds(row).map(|lag| format!(" · + {} requested", units::lag(lag)));
    let state = row::state(row).map(|state| format!(" · {state}"));
    // It stands for the name of a listener without one.
    let is_shown = !row.name.is_empty() || row.via.is_some();
    let address = if is_shown { format!(" · {}", row::address(row)) } else { String::new() };
    let facts = format!(
        "{}{address} · {} · {} · here for {}{}",
        state.unwrap_or_default(),
        row.format,
        row.overflow,
        units::age(status.now - row.connected_at),
        requested.unwrap_or_default(),
    );
    let parts: Vec<String> =
        row::parts(row).iter().map(|(place, seconds)| format!("{place} {}", units::lag(*seconds))).collect();
    let parts = if parts.is_empty() { NOTHING.to_owned() } else { parts.join(", ") };
    let bounds = row::bounds(row).map(|bounds| format!(" ({bounds})"));
    let stages = &row.latency_seconds;
    let (read, ear) = (stages.read.and_then(|read| read.p50), stages.ear.and_then(|ear| ear.p50));
    let [queue, socket, read, ear] = [stages.queue.p50, stages.socket.p50, read, ear].map(units::latency);
    let longest = units::grouped_count(row.gap_max_blocks, "block");
    let gaps = match row.gaps {
        0 => "no gap".to_owned(),
        gaps => format!("{}, at most {longest}", units::grouped_count(gaps, "gap")),
    };
    let more = format!(
        "p50 queue {queue} socket {socket} read {read} ear {ear} · {gaps} · lag {parts}{}",
        bounds.unwrap_or_default()
    );
    [
        line_of(vec![(row::title(row), Tone::Strong), (facts, Tone::Quiet)], None, theme, cells),
        line_with(more, Tone::Quiet, theme, cells),
    ]
}
