//! The upper part of the screen: the source, the number of listeners, and how the capture does.

use aircheck_api::{MAIN_MOUNT, RecordingStatus, Status, StreamState};
use ratatui::text::Line;

use super::line::{Part, line_of, line_of_groups, line_with};
use super::state::{Contact, State};
use super::theme::{Theme, Tone};
use crate::units;

/// Below this width a day's figures don't fit with all their words.
const NARROW: usize = 80;

/// Less sound than this in the pipe of a source comes and goes with the periods of its writer.
const LATE_SECONDS: f64 = 0.02;

/// Returns the line with state, source and server.
pub(crate) fn title(state: &State, theme: Theme, cells: usize) -> Line<'static> {
    let status = &state.snapshot().status;
    let (badge, tone) = match status.state {
        StreamState::Live => (" ON AIR ", Tone::GoodBadge),
        StreamState::Ended => (" ENDED ", Tone::BadBadge),
        StreamState::Silent if status.source.failure.is_some() => (" OFF AIR ", Tone::BadBadge),
        StreamState::Silent => (" SILENT ", Tone::BadBadge),
        StreamState::Fallback => (" FALLBACK ", Tone::BadBadge),
        StreamState::Unknown => (" UNKNOWN ", Tone::BadBadge),
    };
    // Without contact the last state may be wrong.
    let (badge, tone) = if state.contact == Contact::Fine { (badge, tone) } else { (" NO CONTACT ", Tone::BadBadge) };
    // The name of the only mount tells nothing.
    let mount = if ["", MAIN_MOUNT].contains(&&*status.mount) { String::new() } else { format!("{}: ", status.mount) };
    let left = vec![(badge.to_owned(), tone), (format!("  {mount}{}", status.source.description), Tone::Strong)];
    line_of(left, Some((state.authority.clone(), Tone::Quiet)), theme, cells)
}

/// Returns the line with the facts that change slowly.
pub(crate) fn facts(status: &Status, theme: Theme, cells: usize) -> Line<'static> {
    let Status { format, listeners, max_listeners, .. } = status;
    let channels = match format.channels {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        many => format!("{many} channels"),
    };
    let shown = format!("{} of {} listeners", units::grouped(*listeners as u64), units::grouped(*max_listeners as u64));
    let mut facts = vec![
        vec![(shown, Tone::Plain)],
        vec![(format!("up {}", units::age(status.now - status.started_at)), Tone::Quiet)],
        vec![(format!("{} kHz {channels}", f64::from(format.rate_hz) / 1e3), Tone::Quiet)],
        vec![(format!("{} ms blocks", (format.block_seconds * 1e5).round() / 1e2), Tone::Quiet)],
    ];
    if let Some(recording) = &status.recording {
        // A microphone is private, so the recording stands in front, where it never gives way.
        facts.insert(1, vec![recorded(recording)]);
    }
    let clipped = if status.recording.is_some() { 2 } else { 1 };
    line_of_groups(facts, " · ", clipped, theme, cells)
}

fn recorded(recording: &RecordingStatus) -> Part {
    match &recording.failing {
        Some(why) => (format!("recording fails: {why}"), Tone::Bad),
        None if recording.lost > 0 => {
            (format!("recording, {} lost", units::grouped_count(recording.lost, "block")), Tone::Warning)
        }
        None => ("recording".to_owned(), Tone::Warning),
    }
}

/// Returns the line of an alarm: no contact, or no sound and why.
pub(crate) fn banner(state: &State, theme: Theme, now: f64, cells: usize) -> Option<Line<'static>> {
    let text = match (&state.contact, &state.snapshot().status.source.failure) {
        (Contact::Lost { since, why }, _) => {
            format!("no contact for {}, trying again: {why}", units::age(now - since))
        }
        (Contact::Fine, Some(failure)) => {
            let status = &state.snapshot().status;
            match status.source.lost_since {
                Some(since) => format!("source lost for {}: {failure}", units::age(status.now - since)),
                None => failure.clone(),
            }
        }
        (Contact::Fine, None) => return None,
    };
    Some(line_with(text, Tone::Bad, theme, cells))
}

/// Returns the line with blocks, losses by reason, and the latency of the ring.
pub(crate) fn capture(status: &Status, theme: Theme, cells: usize) -> Line<'static> {
    let capture = &status.capture;
    let ring = status.latency_seconds.ring;
    let lost = |blocks: u64| (units::grouped(blocks), if blocks > 0 { Tone::Bad } else { Tone::Plain });
    let label = |text: &str| (text.to_owned(), Tone::Quiet);
    let figure = |text: String| (text, Tone::Plain);
    // Where there is little room, words give way to figures.
    let is_narrow = cells < NARROW;
    let mut losses = vec![label("lost ")];
    if capture.lost_source > 0 {
        // Few sources are ever lost, so this takes room only then.
        losses.extend([lost(capture.lost_source), label(" source ")]);
    }
    if capture.lost_hop > 0 {
        losses.extend([lost(capture.lost_hop), label(" hop ")]);
    }
    losses.extend([lost(capture.lost_xrun), label(" xrun "), lost(capture.lost_overflow), label(" overflow")]);
    let mut groups = vec![
        vec![label(if is_narrow { "" } else { "captured " }), figure(units::grouped_count(capture.blocks, "block"))],
        losses,
        vec![
            label(if is_narrow { "ring " } else { "ring p50 " }),
            figure(units::latency(ring.p50)),
            label(if is_narrow { ", " } else { " p99 " }),
            figure(units::latency(ring.p99)),
        ],
    ];
    if let (Some(drift), Some(error)) = (capture.drift_ppm, capture.drift_error_ppm) {
        groups.push(vec![label("clock "), figure(units::ppm(drift, error))]);
    }
    if capture.waiting_seconds >= LATE_SECONDS {
        groups.push(vec![label("pipe "), figure(units::latency(Some(capture.waiting_seconds)))]);
    }
    line_of_groups(groups, " · ", 2, theme, cells)
}
