//! The screen: the place of each part, and which parts give way when there is little room.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Padding, Paragraph};

use super::keys::HELP;
use super::line::line_with;
use super::state::{Contact, Mode, State};
use super::theme::{Theme, Tone};
use super::{header, loudness, meters, notifications, table};
use crate::table::{Align, fit};

/// Width and height of the smallest screen that is useful.
pub(crate) const MIN_SIZE: (u16, u16) = (40, 10);
/// From this height on there are empty lines between the parts, and a line for each channel.
const ROOMY: usize = 20;
/// Most lines of meters, so that room is left for listeners.
const MAX_METER_LINES: usize = 4;
/// From this height on the selected listener is described below the table.
const WITH_DETAILS: usize = 15;

/// Draws the screen.
pub(crate) fn draw(frame: &mut Frame<'_>, state: &mut State, theme: Theme, now: f64) {
    let area = frame.area();
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        let (width, height) = MIN_SIZE;
        let text = format!("{width} x {height} needed, {} x {} here", area.width, area.height);
        frame.render_widget(Line::raw(text), area);
        return;
    }
    let (cells, height) = (usize::from(area.width), usize::from(area.height));
    let lines = lines(state, theme, now, cells, height);
    frame.render_widget(Paragraph::new(lines), area);
    if matches!(state.contact, Contact::Lost { .. }) {
        // These figures are old. The banner that says so is not greyed, nor are the keys in the last line.
        let facts = Rect { y: area.y + 1, height: 1, ..area };
        let rest = Rect { y: area.y + 3, height: area.height.saturating_sub(4), ..area };
        for stale in [facts, rest] {
            frame.buffer_mut().set_style(stale, Style::reset().patch(theme.style(Tone::Quiet)));
        }
    }
    if state.mode == Mode::Help {
        help(frame, theme);
    }
}

fn lines(state: &mut State, theme: Theme, now: f64, cells: usize, height: usize) -> Vec<Line<'static>> {
    let is_roomy = height >= ROOMY;
    let mut upper = upper(state, theme, now, cells, is_roomy);
    let mut lower = Vec::new();
    if let Some(row) = state.selected_row().filter(|_| height >= WITH_DETAILS) {
        if is_roomy {
            lower.push(Line::default());
        }
        lower.extend(table::details(row, &state.snapshot().status, theme, cells));
    }
    lower.push(footer(state, theme, now, cells));
    let room = height.saturating_sub(upper.len() + lower.len());
    let window = state.window(room.saturating_sub(1));
    let mut rows = table::rows(state, theme, window, cells);
    rows.resize(room, Line::default());
    upper.extend(rows);
    upper.extend(lower);
    upper
}

/// Returns the lines above the rows.
pub(crate) fn upper(state: &State, theme: Theme, now: f64, cells: usize, is_roomy: bool) -> Vec<Line<'static>> {
    let status = &state.snapshot().status;
    let mut lines = vec![header::title(state, theme, cells), header::facts(status, theme, cells)];
    // In the place of an empty line, or of the capture's figures, which stand still then: the rows must not jump.
    let banner = header::banner(state, theme, now, cells);
    let has_banner = banner.is_some();
    if is_roomy || has_banner {
        lines.push(banner.unwrap_or_default());
    }
    if is_roomy || !has_banner {
        lines.push(header::capture(status, theme, cells));
    }
    lines.extend(meters::meters(status, theme, if is_roomy { MAX_METER_LINES } else { 1 }, cells));
    if let Some(measured) = status.loudness.as_ref().filter(|_| is_roomy) {
        lines.push(loudness::loudness(measured, status.state, theme, cells));
    }
    if is_roomy {
        lines.extend(notifications::notifications(status, theme, cells));
        lines.push(Line::default());
    }
    lines.push(table::caption(state, theme, cells));
    lines
}

/// Returns the last line: a question, the filter, a message, or the keys.
fn footer(state: &State, theme: Theme, now: f64, cells: usize) -> Line<'static> {
    let one = |text: String, tone| line_with(text, tone, theme, cells);
    match &state.mode {
        Mode::Question { title, .. } => {
            // The answers stand first: a long name must not push them out.
            one(format!("y / n: disconnect {title}?"), Tone::Strong)
        }
        Mode::Filter => one(format!("/{}▏ Enter keeps it, Esc clears it", state.filter), Tone::Strong),
        Mode::Table | Mode::Help => match state.message(now) {
            Some(message) => one(message.to_owned(), Tone::Strong),
            None => keys(theme, cells),
        },
    }
}

fn keys(theme: Theme, cells: usize) -> Line<'static> {
    const KEYS: [(&str, &str); 8] = [
        ("q", "quit"),
        ("?", "help"),
        ("↑↓", "select"),
        ("k", "disconnect"),
        ("s", "sort"),
        ("/", "filter"),
        ("r", "reverse"),
        ("p", "hold"),
    ];
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, does) in KEYS {
        let width = key.chars().count() + 1 + does.chars().count();
        if used + width > cells {
            break;
        }
        used += width + 3;
        spans.push(Span::styled(key, theme.style(Tone::Strong)));
        spans.push(Span::styled(format!(" {does}   "), theme.style(Tone::Quiet)));
    }
    Line::from(spans)
}

/// Draws the effect of each key over the middle of the screen.
fn help(frame: &mut Frame<'_>, theme: Theme) {
    let key_cells = 11;
    let width = 2 + 4 + key_cells + HELP.iter().map(|(_, does)| does.chars().count()).max().unwrap_or(0);
    let height = HELP.len() + 2;
    let area = frame.area().centered(Constraint::Length(width as u16), Constraint::Length(height as u16));
    let line = |(key, does): &(&'static str, &'static str)| {
        Line::from(vec![Span::styled(fit(key, key_cells, Align::Left), theme.style(Tone::Strong)), Span::raw(*does)])
    };
    let lines: Vec<Line<'_>> = HELP.iter().map(line).collect();
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" keys ").padding(Padding::horizontal(1));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
