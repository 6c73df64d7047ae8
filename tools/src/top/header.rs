//! The upper part of the screen: what is on air, for how long, who may listen, and how the capture does.

use ratatui::style::Style;
use ratatui::text::Line;

use super::api::{Recording, Status};
use super::figures;
use super::state::{Contact, State};
use super::theme::{Theme, Tone};
use crate::table::line_of;

/// Below this a day's figures don't fit with all their words.
const NARROW: usize = 80;

/// State, source and server.
pub(crate) fn title(state: &State, theme: Theme, cells: usize) -> Line<'static> {
    let status = &state.picture().status;
    let (badge, tone) = match status.state.as_str() {
        "live" => (" ON AIR ", Tone::GoodBadge),
        "ended" => (" ENDED ", Tone::BadBadge),
        _ if status.source.failure.is_some() => (" OFF AIR ", Tone::BadBadge),
        _ => (" SILENT ", Tone::BadBadge),
    };
    // What was true at the last contact is not said as if it were true.
    let (badge, tone) = if state.contact == Contact::Fine { (badge, tone) } else { (" NO CONTACT ", Tone::BadBadge) };
    let left = vec![
        (badge.to_owned(), theme.style(tone)),
        (format!("  {}", status.source.description), theme.style(Tone::Strong)),
    ];
    line_of(left, (state.authority.clone(), theme.style(Tone::Quiet)), cells)
}

/// The facts that change slowly, as many as fit.
pub(crate) fn facts(status: &Status, theme: Theme, cells: usize) -> Line<'static> {
    let Status { format, listeners, max_listeners, .. } = status;
    let channels = match format.channels {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        many => format!("{many} channels"),
    };
    let quiet = theme.style(Tone::Quiet);
    let mut facts = vec![
        (format!("{} of {} listeners", figures::count(*listeners), figures::count(*max_listeners)), Style::new()),
        (format!("up {}", figures::span(status.now - status.started_at)), quiet),
        (format!("{} kHz {channels}", f64::from(format.rate_hz) / 1e3), quiet),
        (format!("{} ms blocks", (format.block_seconds * 1e5).round() / 1e2), quiet),
    ];
    if let Some(recording) = &status.recording {
        // A microphone is private, so a recording is never what falls away.
        facts.insert(1, recorded(recording, theme));
    }
    let mut spans = Vec::new();
    for (fact, style) in facts {
        if !spans.is_empty() {
            spans.push((" · ".to_owned(), quiet));
        }
        spans.push((fact, style));
    }
    line_of(spans, (String::new(), Style::new()), cells)
}

fn recorded(recording: &Recording, theme: Theme) -> (String, Style) {
    match &recording.failing {
        Some(why) => (format!("recording fails: {why}"), theme.style(Tone::Bad)),
        None if recording.lost > 0 => {
            (format!("recording, {} lost", figures::plural(recording.lost, "block")), theme.style(Tone::Warning))
        }
        None => ("recording".to_owned(), theme.style(Tone::Warning)),
    }
}

/// What needs to be known now: that there is no contact, or why there is no sound. Else nothing.
pub(crate) fn banner(state: &State, theme: Theme, now: f64, cells: usize) -> Option<Line<'static>> {
    let text = match (&state.contact, &state.picture().status.source.failure) {
        (Contact::Lost { since, why }, _) => {
            format!("no contact for {}, trying again: {why}", figures::span(now - since))
        }
        (Contact::Fine, Some(failure)) => failure.clone(),
        (Contact::Fine, None) => return None,
    };
    Some(line_of(vec![(text, theme.style(Tone::Bad))], (String::new(), Style::new()), cells))
}

/// Blocks, losses by reason, and how long blocks wait in the ring.
pub(crate) fn capture(status: &Status, theme: Theme, cells: usize) -> Line<'static> {
    let capture = &status.capture;
    let ring = status.latency_seconds.get("ring").copied().unwrap_or_default();
    let quiet = theme.style(Tone::Quiet);
    let lost = |blocks: u64| (figures::count(blocks), theme.style(if blocks > 0 { Tone::Bad } else { Tone::Plain }));
    let label = |text: &str| (text.to_owned(), quiet);
    let figure = |text: String| (text, Style::new());
    // Where there is little room, words give way, not figures.
    let is_narrow = cells < NARROW;
    let spans = vec![
        label(if is_narrow { "" } else { "captured " }),
        figure(figures::plural(capture.blocks, "block")),
        label(" · lost "),
        lost(capture.lost_xrun),
        label(" xrun "),
        lost(capture.lost_overflow),
        label(if is_narrow { " overflow · ring " } else { " overflow · ring p50 " }),
        figure(figures::milliseconds(ring.p50)),
        label(if is_narrow { ", " } else { " p99 " }),
        figure(figures::milliseconds(ring.p99)),
    ];
    line_of(spans, (String::new(), Style::new()), cells)
}
